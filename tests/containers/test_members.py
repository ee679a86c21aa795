"""Members of groups that are containers: which containers are theirs, and their states in systemd's words."""

import json
from urllib.parse import parse_qs

import pytest

from hkswitch.containers.answers import Change, Container
from hkswitch.containers.members import Member, state_of, unavailable
from hkswitch.model.unit_state import UnitHealth

WEB = Member.of("docker/web")
IMMICH = Member.of("docker-compose/immich")
WIKI = Member.of("podman/wiki")


def container(status: str, **fields: object) -> Container:
    return Container("a" * 64, **{"name": "web", "status": status, **fields})  # type: ignore[arg-type]


STATES = [
    # Right: the words of both engines.
    (container("running"), "active (running)", UnitHealth.UP),
    (container("running", health="healthy"), "active (healthy)", UnitHealth.UP),
    (container("running", health="starting"), "activating (starting)", UnitHealth.STARTING),
    (container("running", restarts=7), "active (running)", UnitHealth.UP),
    (container("running", health="none"), "active (running)", UnitHealth.UP),
    (container("created"), "inactive (created)", UnitHealth.DOWN),
    (container("initialized"), "inactive (initialized)", UnitHealth.DOWN),
    (container("exited"), "inactive (exited with 0)", UnitHealth.DOWN),
    (container("exited", exit_status=137), "inactive (exited with 137)", UnitHealth.DOWN),
    (container("stopped", exit_status=3), "inactive (exited with 3)", UnitHealth.DOWN),
    # It is not up, whatever else is said of it.
    (container("running", health="unhealthy"), "failing (unhealthy)", UnitHealth.FAILED),
    (container("exited", health="healthy"), "inactive (exited with 0)", UnitHealth.DOWN),
    (container("paused", health="healthy"), "partial (paused)", UnitHealth.PARTIAL),
    (container("paused"), "partial (paused)", UnitHealth.PARTIAL),
    (container("restarting", exit_status=1), "failing (restarting)", UnitHealth.FAILED),
    (container("dead"), "failed (dead)", UnitHealth.FAILED),
    (container("stopping"), "deactivating (stopping)", UnitHealth.STOPPING),
    (container("removing"), "deactivating (removing)", UnitHealth.STOPPING),
    (container("hibernating"), "unknown (hibernating)", UnitHealth.MISSING),
    (container(""), "unknown ()", UnitHealth.MISSING),
    (container("Running"), "unknown (Running)", UnitHealth.MISSING),
]


@pytest.mark.parametrize(("seen", "words", "health"), STATES)
def test_a_container_is_up_only_while_its_engine_says_that_it_runs_and_is_not_ill(
    seen: Container, words: str, health: UnitHealth
) -> None:
    assert (str(state_of(seen)), state_of(seen).health) == (words, health)
    assert str(WEB.state([seen])) == words


def service(name: str, status: str = "running", **fields: object) -> Container:
    return container(status, name=name, **fields)


DONE = service("migrate", "exited")
PROJECTS = [
    ([service("a")], "active (1 running)"),
    ([service("a"), service("b")], "active (2 running)"),
    ([service("a"), DONE], "active (1 running)"),
    ([service("a", health="starting"), DONE], "activating (0 of 1 running: a starting)"),
    (
        [service("a", "exited"), service("b", "exited")],
        "inactive (0 of 2 running: a exited with 0, b exited with 0)",
    ),
    ([service("a", "created"), DONE], "inactive (0 of 1 running: a created)"),
    ([DONE], "inactive (0 of 1 running: migrate exited with 0)"),
    # None of these is up as a whole.
    ([service("a"), service("b", "exited", exit_status=1)], "partial (1 of 2 running: b exited with 1)"),
    (
        [service("a"), service("b", "exited", restarts_itself=True)],
        "partial (1 of 2 running: b exited with 0)",
    ),
    ([service("a"), service("b", "created")], "partial (1 of 2 running: b created)"),
    ([service("a"), service("b", "paused")], "partial (1 of 2 running: b paused)"),
    ([service("a"), service("b", health="starting")], "activating (1 of 2 running: b starting)"),
    (
        [service("a"), service("b", health="starting"), service("c", "created")],
        "partial (1 of 3 running: b starting, c created)",
    ),
    (
        [service("a", health="starting"), service("b", "exited", exit_status=1)],
        "partial (0 of 2 running: a starting, b exited with 1)",
    ),
    (
        [service("a", health="starting"), service("b", "paused")],
        "partial (0 of 2 running: a starting, b paused)",
    ),
    ([service("a"), service("b", "restarting")], "failing (1 of 2 running: b restarting)"),
    ([service("a"), service("b", health="unhealthy")], "failing (1 of 2 running: b unhealthy)"),
    ([service("a", "dead"), service("b", "created")], "failed (0 of 2 running: a dead, b created)"),
    ([service("a"), service("b", "stopping")], "deactivating (1 of 2 running: b stopping)"),
    (
        [service("a", health="starting"), service("b", "stopping")],
        "deactivating (0 of 2 running: a starting, b stopping)",
    ),
    (
        [service("a"), service("b", "odd"), service("c", "restarting")],
        "unknown (1 of 3 running: b odd, c restarting)",
    ),
    ([], "not-found (removed; only compose can create it again)"),
]


@pytest.mark.parametrize(("seen", "words"), PROJECTS)
def test_a_project_is_up_only_while_all_of_its_containers_are_but_those_that_have_finished(
    seen: list[Container], words: str
) -> None:
    assert str(IMMICH.state(seen)) == words


@pytest.mark.parametrize("member", [WIKI, Member.of("podman-compose/immich")])
def test_a_container_of_a_quadlet_is_refused_with_what_to_write(member: Member) -> None:
    state = member.state([container("running"), container("running", unit="wiki.service")])
    assert str(state) == "bad-setting (use units: [wiki.service])"
    assert state.health is UnitHealth.MISSING


def test_an_image_of_docker_cannot_pass_for_a_quadlet() -> None:
    assert str(WEB.state([container("running", unit="poweroff.target")])) == "active (running)"


def test_no_state_is_longer_than_what_is_sent_of_it() -> None:
    many = [service(f"service-{number}", "paused") for number in range(100)]
    for state in (
        IMMICH.state(many),
        WIKI.state([container("running", unit="u" * 1000)]),
        WEB.state([container("s" * 1000)]),
        WEB.state([container("running", health="h" * 1000)]),
    ):
        assert len(state.sub) <= 200


UNPRINTABLE = "\x1b]0;a title\x07\r\n\u202e\ud800"


def test_what_the_maker_of_an_image_wrote_can_do_nothing_to_a_terminal() -> None:
    for state in (
        unavailable(UNPRINTABLE),
        WIKI.state([container("running", unit=UNPRINTABLE)]),
        WEB.state([container(UNPRINTABLE)]),
    ):
        assert "?]0;a title?????" in state.sub
        assert state.sub.isprintable()


def test_a_container_that_is_gone_is_not_found() -> None:
    assert str(WEB.state([])) == "not-found (no such container)"


NAMES = [
    ("docker/web", "web", True),
    ("docker/web", "web2", False),
    ("docker/web", "aweb", False),
    ("docker/web", "Web", False),
    ("docker/web", "", False),
    ("podman/a.b", "a.b", True),
    ("podman/a.b", "a-b", False),
]


@pytest.mark.parametrize(("full_name", "name", "is_its"), NAMES)
def test_a_container_belongs_to_a_member_by_its_whole_name(full_name: str, name: str, is_its: bool) -> None:
    member = Member.of(full_name)
    assert member.has(container("running", name=name)) is is_its
    assert member.is_concerned_by(Change("a" * 64, name, "web")) is is_its


def test_a_container_belongs_to_a_project_unless_it_was_made_for_one_run() -> None:
    assert IMMICH.has(container("running", name="anything"))
    assert not IMMICH.has(container("running", is_one_off=True))
    assert IMMICH.is_concerned_by(Change("a" * 64, "anything", "immich"))
    assert not IMMICH.is_concerned_by(Change("a" * 64, "immich", "immich2"))
    assert not IMMICH.is_concerned_by(Change("a" * 64, "immich", ""))


@pytest.mark.parametrize(
    ("full_name", "filters"),
    [
        ("docker/web", {"name": ["^web$"]}),
        ("podman/a.b-c", {"name": ["^a\\.b\\-c$"]}),
        ("docker-compose/immich", {"label": ["com.docker.compose.project=immich"]}),
        ("podman-compose/a_b-c", {"label": ["com.docker.compose.project=a_b-c"]}),
    ],
)
def test_a_member_asks_for_its_own_containers_also_for_stopped_ones(
    full_name: str, filters: dict[str, list[str]]
) -> None:
    found = parse_qs(Member.of(full_name).query)
    assert (found["all"], json.loads(found["filters"][0])) == (["1"], filters)
