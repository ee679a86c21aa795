"""What is understood of the answers of engines, and what is refused; and a million that nobody would send.

The answers are like those of Docker 26.1 and podman 5.4.
"""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from hkswitch.containers.answers import (
    MOST_CONTAINERS,
    Change,
    Container,
    EngineUnavailable,
    parse_container,
    parse_error,
    parse_event,
    parse_ids,
)
from hkswitch.containers.members import Member
from tests.fuzz.changes import NUMBERS, change_bytes, change_json, words_of
from tests.fuzz.rules import is_one, require

ID = "dcfe587f98ba8f385645ead4d30eabdd146e9a884f435a2bfec85e1630ba9403"
OTHER_ID = "46047cdfaef1ea4cd2bd1a148ca2cb1a369b658a16cd21228661587ec2039099"

LABELS = {
    "com.docker.compose.config-hash": "3f1d",
    "com.docker.compose.container-number": "1",
    "com.docker.compose.oneoff": "False",
    "com.docker.compose.project": "immich",
    "com.docker.compose.service": "web",
}
DOCKER: dict[str, Any] = {
    "Id": ID,
    "Created": "2026-11-29T18:02:49.599471735Z",
    "State": {"Status": "running", "Running": True, "Paused": False, "ExitCode": 0, "Error": ""},
    "Name": "/web",
    "RestartCount": 2,
    "HostConfig": {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 0}, "AutoRemove": False},
    "Config": {"Image": "server", "Labels": LABELS, "StopTimeout": 2},
}
PODMAN: dict[str, Any] = {
    "Id": OTHER_ID,
    "State": {
        "Status": "stopped",
        "Running": False,
        "ExitCode": 137,
        "Error": "",
        "Health": {"Status": "unhealthy", "FailingStreak": 2, "Log": [{"ExitCode": 1, "Output": ""}]},
    },
    "Name": "/wiki",
    "RestartCount": 0,
    "HostConfig": {"RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "AutoRemove": True},
    "Config": {"Labels": {"PODMAN_SYSTEMD_UNIT": "wiki.service"}, "StopTimeout": 10},
}
ROW: dict[str, Any] = {
    "Id": ID,
    "Names": ["/linked/alias", "/web"],
    "Image": "server",
    "State": "running",
    "Labels": LABELS,
    "Status": "Up 1 second",
    "Ports": [],
    "NetworkSettings": {"Networks": {}},
}


def event(action: str, name: str = "web", container_id: str = ID, **labels: str) -> dict[str, Any]:
    attributes = {"image": "server", "name": name, **labels}
    actor = {"ID": container_id, "Attributes": attributes}
    about = {"status": action, "id": container_id, "from": "server", "Type": "container", "Action": action}
    return {**about, "Actor": actor, "scope": "local", "time": 1795975667, "timeNano": 1795975667635340606}


EVENT = event("die", exitCode="137", **LABELS)
ERROR = {"cause": "no such container", "message": 'no container with name or ID "web" found', "response": 404}


def encoded(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def changed(value: Any, *path: str, to: Any = None) -> bytes:  # noqa: ANN401 -- JSON
    """An answer with another value at this path; None leaves it out."""
    value = json.loads(json.dumps(value))
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    parent.pop(path[-1], None)
    if to is not None:
        parent[path[-1]] = to
    return encoded(value)


# What is understood


def test_a_container_of_docker_is_understood() -> None:
    assert parse_container(encoded(DOCKER)) == Container(
        ID, "web", "running", restarts=2, restarts_itself=True, stop_seconds=2
    )


def test_a_container_of_podman_is_understood() -> None:
    assert parse_container(encoded(PODMAN)) == Container(
        OTHER_ID, "wiki", "stopped", "unhealthy", 137, unit="wiki.service"
    )


LEFT_OUT = [
    (changed(DOCKER, "State", "Health", to={"Status": "", "FailingStreak": 0, "Log": None}), "health", ""),
    (changed(DOCKER, "State", "Health", to={}), "health", ""),
    (changed(DOCKER, "Config", "StopTimeout"), "stop_seconds", 10),
    (changed(DOCKER, "Config", "Labels"), "unit", ""),
    (changed(DOCKER, "Config"), "is_one_off", False),
    (changed(DOCKER, "HostConfig", "RestartPolicy", "Name", to=""), "restarts_itself", False),
    (changed(DOCKER, "HostConfig", "RestartPolicy"), "restarts_itself", False),
    (changed(DOCKER, "HostConfig", "NetworkMode", to="bridge"), "network_of", ""),
    (changed(DOCKER, "HostConfig", "NetworkMode", to=f"container:{ID}"), "network_of", ID),
    (changed(DOCKER, "HostConfig", "RestartPolicy", "Name", to="on-failure"), "restarts_itself", True),
    (changed(DOCKER, "HostConfig", "RestartPolicy", "Name", to="unless-stopped"), "restarts_itself", True),
    (changed(DOCKER, "Config", "Labels", "com.docker.compose.oneoff", to="True"), "is_one_off", True),
    (changed(DOCKER, "Config", "Labels", "com.docker.compose.oneoff", to="true"), "is_one_off", False),
    (changed(DOCKER, "RestartCount"), "restarts", 0),
    (changed(DOCKER, "State", "Status", to="hibernating"), "status", "hibernating"),
    (changed(DOCKER, "State"), "status", ""),
    (changed(DOCKER, "Name", to="web"), "name", "web"),
]


@pytest.mark.parametrize(("body", "field", "value"), LEFT_OUT)
def test_what_an_engine_leaves_out_has_its_default(body: bytes, field: str, value: object) -> None:
    assert getattr(parse_container(body), field) == value


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        (encoded([]), []),
        (b"null", []),
        (encoded([ROW]), [ID]),
        (encoded([ROW, {"Id": OTHER_ID}]), [ID, OTHER_ID]),
    ],
)
def test_a_list_is_read_for_its_ids(body: bytes, ids: list[str]) -> None:
    assert parse_ids(body) == ids


def test_a_list_that_would_take_a_request_for_each_of_thousands_is_refused() -> None:
    assert len(parse_ids(encoded([ROW] * MOST_CONTAINERS))) == MOST_CONTAINERS
    with pytest.raises(EngineUnavailable, match="more than 512 containers"):
        parse_ids(encoded([ROW] * (MOST_CONTAINERS + 1)))


@pytest.mark.parametrize(
    ("line", "change"),
    [
        (encoded(EVENT), Change(ID, "web", "immich", "die")),
        (encoded(event("start")), Change(ID, "web", "", "start")),
        (encoded(event("kill", signal="15")), Change(ID, "web", "", "kill", "15")),
        (encoded(event("rename", "moved", oldName="/web")), Change(ID, "moved", "", "rename")),
        (encoded(event("history", "")), Change(ID, "", "", "history")),
        (encoded(event("health_status: unhealthy")), Change(ID, "web", "", "health_status: unhealthy")),
        (encoded(event("executed")), None),
        # Docker sends one at the end of each `docker container prune` and `docker system prune`.
        (encoded({"Action": "prune", "Actor": {"ID": "", "Attributes": {"reclaimed": "0"}}}), None),
        (encoded(event("exec_start: /bin/sh -c true")), None),
        (encoded(event("exec_died")), None),
    ],
)
def test_an_event_says_which_container_it_is_about_unless_nothing_happened_to_one(
    line: bytes, change: Change | None
) -> None:
    assert parse_event(line) == change


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (encoded(ERROR), ERROR["message"]),
        (b'{"message":"page not found"}\n', "page not found"),
        (b"{}", ""),
        # A command that does not exist is quoted in it, and comes from the maker of the image.
        (b'{"message":"stat /no/\\u001b[31msuch\\nthing\\ud800"}', "stat /no/?[31msuch; thing?"),
        (encoded({"message": "x" * 9999}), "x" * 2000),
    ],
)
def test_an_error_is_read_for_its_message_of_which_all_is_printable(body: bytes, message: str) -> None:
    assert parse_error(body) == message


def test_the_name_of_a_container_is_printable() -> None:
    assert parse_container(encoded({**DOCKER, "Name": "/we\x1b[31mb"})).name == "we?[31mb"


# What is refused

ANSWERS: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "list": (parse_ids, encoded([ROW, {"Id": OTHER_ID}])),
    "docker": (parse_container, encoded(DOCKER)),
    "podman": (parse_container, encoded(PODMAN)),
    "event": (parse_event, encoded(EVENT)),
    "error": (parse_error, encoded(ERROR)),
}

NOT_JSON = [
    *(b"", b"\n", b"Not Found\n", b"{", b"[", b"nul", b"{}{}", b"\xff\xfe", b"\xff" * 9, b"<html>"),
    *(b"[" * 100_000, b'{"Id":' * 100_000, b"9" * 5000, b'"\x00"', b'{"Id":"a\n"}'),
]


@pytest.mark.parametrize("body", NOT_JSON, ids=lambda body: repr(body[:9]))
def test_what_is_not_json_is_refused(body: bytes) -> None:
    for parse in (parse_ids, parse_container, parse_event, parse_error):
        with pytest.raises(EngineUnavailable, match="is not JSON"):
            parse(body)


ODD = [1, 1.5, True, "text", [], ["a"], {"a": 1}]
"""Values of all types, one of which is wrong everywhere."""

TYPES = [
    (parse_container, DOCKER, ("Name",), str),
    (parse_container, DOCKER, ("State",), dict),
    (parse_container, DOCKER, ("State", "Status"), str),
    (parse_container, DOCKER, ("State", "ExitCode"), int),
    (parse_container, PODMAN, ("State", "Health", "Status"), str),
    (parse_container, DOCKER, ("RestartCount",), int),
    (parse_container, DOCKER, ("HostConfig", "RestartPolicy", "Name"), str),
    (parse_container, DOCKER, ("Config", "StopTimeout"), int),
    (parse_container, DOCKER, ("Config", "Labels"), dict),
    (parse_container, PODMAN, ("Config", "Labels", "PODMAN_SYSTEMD_UNIT"), str),
    (parse_container, DOCKER, ("Config", "Labels", "com.docker.compose.oneoff"), str),
    (parse_event, EVENT, ("Actor", "Attributes"), dict),
    (parse_event, EVENT, ("Actor", "Attributes", "name"), str),
    (parse_event, EVENT, ("Actor", "Attributes", "com.docker.compose.project"), str),
    (parse_event, EVENT, ("Action",), str),
    (parse_error, ERROR, ("message",), str),
]


@pytest.mark.parametrize(("parse", "answer", "path", "kind"), TYPES)
def test_a_value_of_another_type_is_refused_or_taken_for_nothing(
    parse: Callable[[bytes], Any], answer: dict[str, Any], path: tuple[str, ...], kind: type
) -> None:
    nothing = parse(changed(answer, *path))
    for odd in ODD:
        if isinstance(odd, kind):
            continue
        assert parsed_or_nothing(parse, changed(answer, *path, to=odd)) in {None, nothing}


def parsed_or_nothing(parse: Callable[[bytes], Any], body: bytes) -> Any:  # noqa: ANN401 -- of any parser
    """Return what comes of an answer, None if it is refused."""
    try:
        return parse(body)
    except EngineUnavailable as refusal:
        require(str(refusal).startswith("the engine's") and str(refusal).isprintable(), refusal)
        return None


IDS = [
    *("", "web", ID[:12], ID[:-1], f"{ID}0", ID.upper(), f"{ID}\n", f"/{ID[1:]}", f"{ID[:60]}/../"),
    *(f"{ID[:50]} HTTP/1.0\r\n\r\n", "é" * 64, "٣" * 64, 7, None, [ID], {"ID": ID}),
]


@pytest.mark.parametrize("container_id", IDS, ids=repr)
def test_what_is_not_a_whole_id_becomes_no_part_of_a_request(container_id: object) -> None:
    for parse, body in (
        (parse_ids, encoded([{**ROW, "Id": container_id}])),
        (parse_ids, encoded([ROW, {"Id": container_id}])),
        (parse_container, encoded({**DOCKER, "Id": container_id})),
        (parse_event, encoded({**EVENT, "Actor": {"ID": container_id}})),
    ):
        with pytest.raises(EngineUnavailable, match=r"invalid ID|'Id|'ID"):
            parse(body)


# Whatever comes

INPUTS, INPUTS_LONG = 400, 200_000
"""Of each kind of answer."""

RESULTS: dict[Callable[[bytes], Any], Any] = {
    parse_container: Container,
    parse_event: Change,
    parse_error: str,
}


def is_as_documented(parse: Callable[[bytes], Any], body: bytes) -> bool:
    """Check what comes of an answer; return whether it was understood."""
    found = parsed_or_nothing(parse, body)
    if found is None:
        return False
    if parse is parse_ids:
        assert isinstance(found, list)
        assert all(len(each) == 64 and {*each} <= {*"0123456789abcdef"} for each in found)
    else:
        assert is_one(found, RESULTS[parse]), found
    if isinstance(found, Container):
        for member in (Member.of("docker/web"), Member.of("docker-compose/immich")):
            assert len(str(member.state([found, found._replace(name="b")]))) <= 300
    return True


@pytest.mark.parametrize("kind", ANSWERS)
def test_whatever_comes_is_understood_or_refused(kind: str, long: bool) -> None:
    parse, right = ANSWERS[kind]
    words = (*words_of(body for _, body in ANSWERS.values()), *sorted({*DOCKER, *PODMAN, *EVENT, *ROW}))
    chance = random.Random(None if long else 23)
    understood = {True: 0, False: 0}
    for number in range(INPUTS_LONG if long else INPUTS):
        change = change_bytes if number % 4 == 0 else change_json
        body = change(right, chance.randbytes(NUMBERS), words)
        try:
            understood[is_as_documented(parse, body)] += 1
        except Exception as error:
            error.add_note(f"input: {body[:4000]!r}")
            raise
    assert all(understood.values())


def test_a_long_run_tries_a_million_answers() -> None:
    assert INPUTS_LONG * len(ANSWERS) >= 1_000_000
