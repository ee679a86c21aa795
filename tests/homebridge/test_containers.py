"""Commands that only start, stop and ask containers become a group of them; all others stay commands."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from hkswitch.homebridge import USUAL_PATH
from hkswitch.homebridge.commands import read
from hkswitch.model.group import Engine
from hkswitch.model.unit_state import Action
from tests.homebridge.importing import (
    SPARE,
    argvs,
    group,
    groups,
    imported,
    machine,
    notes,
    switch,
    switches,
)

RUNNING = "{{.State.Running}}"
STATE = f"docker inspect -f '{RUNNING}' web | grep true"
SUDO_STATE = f"sudo podman inspect -f '{RUNNING}' web | grep true"

IS_CONTAINERS = {
    "without a state": ("docker start home-assistant", "docker stop home-assistant", None, "home-assistant"),
    "with a state": ("docker start web", "docker stop web", STATE, "web"),
    "sudo": ("sudo docker start web", "sudo -n docker stop web", f"sudo {STATE}", "web"),
    "paths": ("/usr/bin/docker start web", "/bin/docker stop web >/dev/null 2>&1", None, "web"),
    "twice": ("docker start web web", "docker stop web", None, "web"),
    "the longer form": ("docker container start web", "docker container stop web", None, "web"),
    "several": ("docker start web db", "docker stop db web", "docker top web && docker top db", "web db"),
    "one after the other": (
        "docker start web; docker start db",
        "docker stop web && docker stop db",
        None,
        "web db",
    ),
    "names of all kinds": (
        "docker start immich_db.2 feed db1",
        "docker stop db1 feed immich_db.2",
        None,
        "immich_db.2 feed db1",
    ),
    "a shell of its own": ("sudo sh -c 'docker start web'", 'bash -c "docker stop web"', None, "web"),
    "root's podman": ("sudo podman start web", "sudo podman stop web", SUDO_STATE, "podman: web"),
    "podman in root's shell": (
        *(f"sudo sh -c 'podman {verb} web'" for verb in ("start", "stop")),
        None,
        "podman: web",
    ),
}

STATES = {
    "inspect": STATE,
    "inspect without quotes": f"docker inspect -f {RUNNING} web | grep -q true",
    "the name first": f"docker inspect web --format='{RUNNING}' 2>/dev/null | /bin/grep -qx true >/dev/null",
    "the longer form of inspect": f'docker container inspect --format "{RUNNING}" web | grep "^true$"',
    "the status": "docker inspect -f '{{ .State.Status }}' web | grep -Fqw running",
    "a comparison": f"""[ "$(docker inspect -f '{RUNNING}' web 2>/dev/null)" = true ]""",
    "a comparison by test": f"""test $(docker inspect -f '{RUNNING}' web) = "true\"""",
    "a comparison in bash": f"""bash -c '[ "$(docker inspect -f {RUNNING} web)" == true ]'""",
    "a comparison in bash alone": f"""bash -c '[[ $(docker inspect -f {RUNNING} web) == "true" ]]'""",
    "top": "docker top web >/dev/null 2>&1",
    "exec": "docker exec web true",
    "the whole name": "docker ps --format '{{.Names}}' | grep -qx web",
    "the whole name, anchored": """docker ps --format '{{.Names}}' | grep -q "^web$\"""",
    "the whole name, no pattern": "docker ps --format={{.Names}} | grep -Fxq web",
    "a filter for the name": "docker ps -q -f name=^web$ | grep -q .",
    "filters": "docker container ls --filter name=^/web$ --filter status=running --format '{{.ID}}' | grep .",
    "any output": '[ "$(docker ps -qf name=^web$)" ]',
    "any output by -n": 'test -n "$(docker ps --quiet --filter "name=^web$")"',
}

STATES_LIKE_IT = {
    "a line": "docker ps | grep web",
    "the end of a line": "docker ps 2>/dev/null | grep -q 'web$'",
    "a part of the name": "docker ps --format '{{.Names}}' | grep -qw web",
    "the beginning of a name": "docker ps --format '{{.Names}}' | grep -q ^web",
    "a name in any case": "docker ps --format '{{.Names}}' | grep -qix web",
    "a loose filter": "docker ps -q -f name=web | grep -q .",
    "a loose filter and any output": '[ -n "$(docker ps -q -f name=web)" ]',
    "a filter and a line": "docker ps -f name=web | grep web",
}

OTHER_STATES = {
    "whether it exists": "docker inspect web",
    "a word that only is printed": f"docker inspect -f '{RUNNING}' web",
    "whether it is stopped": f"docker inspect -f '{RUNNING}' web | grep false",
    "the word of another field": f"docker inspect -f '{RUNNING}' web | grep running",
    "an anchor that is none": f"docker inspect -f '{RUNNING}' web | grep -F ^true",
    "an anchor at the end that is none": f"docker inspect -f '{RUNNING}' web | grep -F 'true$'",
    "an output file": f"docker inspect -f '{RUNNING}' web | grep true > /tmp/log",
    "error messages among it": f"docker inspect -f '{RUNNING}' web 2>&1 | grep true",
    "no output": f"docker inspect -f '{RUNNING}' web >/dev/null | grep true",
    "the other way round": f"! docker inspect -f '{RUNNING}' web | grep true",
    "unequal": f"""[ "$(docker inspect -f '{RUNNING}' web)" != false ]""",
    "a comparison that sh has not": f"""[ "$(docker inspect -f '{RUNNING}' web)" == true ]""",
    "two in a comparison": f"""[ "$(docker inspect -f '{RUNNING}' web web)" = true ]""",
    "unequal to its word": f"""[ "$(docker inspect -f '{RUNNING}' web)" != true ]""",
    "another container": "docker top db",
    "one more": f"docker inspect -f '{RUNNING}' web db | grep true",
    "one whose name has it": "docker ps | grep web-db",
    "all, stopped ones too": "docker ps -a | grep web",
    "all names, stopped ones too": "docker ps -a --format '{{.Names}}' | grep -qx web",
    "a list": "docker ps -q -f name=web",
    "a list that has a header": "docker ps -f name=web | grep .",
    "ids": "docker ps -q | grep web",
    "a list without it": "docker ps | grep -v web",
    "the beginning of a line": "docker ps | grep ^web",
    "a whole line": "docker ps | grep -x web",
    "an empty list": '[ -z "$(docker ps -q -f name=web)" ]',
    "words that may be none": "[ -n $(docker ps -q -f name=web) ]",
    "error messages as output": '[ "$(docker ps -qf name=^web$ 2>&1)" ]',
    "other output as well": '[ "$(docker ps -qf name=^web$; echo)" ]',
    "other output": '[ "$(hostname)" = web ]',
    "a filter that is for another": "docker ps -f name=db | grep web",
    "either of two": "docker ps -q -f name=^web$ -f name=^db$ | grep .",
    "stopped ones": "docker ps -q -f name=^web$ -f status=exited | grep .",
    "a process in its list": "docker top web | grep nginx",
    "a process in it": "docker exec web pgrep nginx",
    "two searches": "docker ps | grep web | grep -v db",
    "a count": "docker ps -f name=web | wc -l",
    "an image": "docker ps -f ancestor=web | grep web",
    "a process": "pgrep web",
    "a unit": "systemctl is-active web",
    "the container of podman": SUDO_STATE,
    "a health check": "docker inspect -f '{{.State.Health.Status}}' web | grep healthy",
    "another machine": "docker -H ssh://pc ps | grep web",
}

IS_COMMANDS = {
    "another container": ("docker start web", "docker stop db"),
    "fewer containers": ("docker start web db", "docker stop web"),
    "a time to stop": ("docker start web", "docker stop -t 60 web"),
    "a time to stop, at the end": ("docker start web", "docker stop web --time=60"),
    "a kill": ("docker start web", "docker kill web"),
    "a pause": ("docker unpause web", "docker pause web"),
    "a restart": ("docker restart web", "docker stop web"),
    "a search in what it prints": ("docker start web | grep web", "docker stop web"),
    "another container each time": ("docker run --rm --name web -d nginx", "docker stop web"),
    "removed as well": ("docker start web", "docker stop web && docker rm web"),
    "attached": ("docker start -a web", "docker stop web"),
    "an id": ("docker start 4f5ac3e8b0d1", "docker stop 4f5ac3e8b0d1"),
    "the beginning of an id": ("docker start 4f5a", "docker stop 4f5a"),
    "an id without digits": ("docker start abcdefabcdef", "docker stop abcdefabcdef"),
    "one letter": ("docker start w", "docker stop w"),
    "no name": ("docker start", "docker stop"),
    "a pattern": ("docker start 'web*'", "docker stop 'web*'"),
    "all of them": ("docker start $(docker ps -aq)", "docker stop $(docker ps -q)"),
    "another machine": ("docker -H tcp://pc start web", "docker -H tcp://pc stop web"),
    "another context": ("docker --context pc start web", "docker --context pc stop web"),
    "another machine by a variable": ("DOCKER_HOST=tcp://pc docker start web", "docker stop web"),
    "another machine by sudo": ("sudo DOCKER_HOST=tcp://pc docker start web", "sudo docker stop web"),
    "another machine by ssh": ("ssh pc docker start web", "ssh pc docker stop web"),
    "a user's podman": ("podman start web", "podman stop web"),
    "a user's podman by sudo": ("sudo -u jo podman start web", "sudo -u jo podman stop web"),
    "another user's docker": ("sudo -u jo docker start web", "sudo -u jo docker stop web"),
    "two engines": ("sudo docker start web", "sudo podman stop web"),
    "two engines at once": (
        *(f"sudo docker {verb} web; sudo podman {verb} db" for verb in ("start", "stop")),
    ),
    "units as well": (*(f"systemctl {verb} web && docker {verb} web" for verb in ("start", "stop")),),
    "a pod": ("sudo podman pod start web", "sudo podman pod stop web"),
    "a project": ("docker compose -p web start", "docker compose -p web stop"),
    "a project's file": ("docker-compose -f /srv/web.yml up -d", "docker-compose -f /srv/web.yml down"),
    "another docker": ("/opt/docker start web", "/opt/docker stop web"),
    "a second choice": ("docker start web || docker start db", "docker stop web"),
    "something else as well": ("docker start web && /opt/lamp on", "docker stop web"),
    "a pause between": ("docker start web; sleep 9; docker start db", "docker stop web db"),
}

LIKE = "it was on with any container that `docker ps` finds by 'web', and is now on with the one of that name"

# It prints what Docker's own command prints about the container db, which runs, and web in the state $WEB.
DOCKER = """#!/bin/sh
[ "$1" = container ] && shift
all=db
[ $WEB = running ] && all="db web"
case "$1 $*" in
  inspect*Running*) [ $WEB = running ] && echo true || echo false ;;
  inspect*) echo $WEB ;;
  top* | exec*) [ $WEB = running ] ;;
  *name=*) echo $all | grep -ow web ;;
  *Names*) printf '%s\\n' $all ;;
  ps*) echo 'CONTAINER ID  IMAGE  COMMAND  NAMES'; printf 'f00  image  "/run"  %s\\n' $all ;;
esac
"""


def params(rows: dict[str, object]) -> list[object]:
    return [pytest.param(row, id=name) for name, row in rows.items()]


@pytest.mark.parametrize("row", params({**IS_CONTAINERS}))
def test_what_only_switches_containers_becomes_a_group_of_them(
    row: tuple[str, str, str | None, str],
) -> None:
    found = group(switches(switch("A", *row[:3])))
    assert found.commands is None
    engine, _, names = row[3].rpartition(": ")
    assert (found.units, found.containers) == ((), tuple(names.split()))
    assert found.engine == (engine or Engine.DOCKER)
    assert found.actions == {Action.START, Action.STOP}


@pytest.mark.parametrize("commands", params({**IS_COMMANDS}))
def test_what_does_anything_else_keeps_its_commands(commands: tuple[str, str]) -> None:
    found = group(switches(switch("A", *commands)))
    assert found.commands is not None
    assert [*argvs(found)] == ["start", "stop"]


@pytest.mark.parametrize(
    ("state", "like"),
    [
        pytest.param(state, rows is STATES_LIKE_IT, id=name)
        for rows in (STATES, STATES_LIKE_IT)
        for name, state in rows.items()
    ],
)
def test_a_state_of_the_same_container_is_its_own(state: str, like: bool) -> None:
    found = imported(switches(switch("A", "docker start web", "docker stop web", state)))
    assert groups(found)[0].containers == ("web",)
    assert notes(found)["'A'"][:1] == ([LIKE] if like else ["on_cmd: docker start web"])


@pytest.mark.parametrize("state", params({**OTHER_STATES}))
def test_any_other_state_stays_a_command(state: str) -> None:
    found = group(switches(switch("A", "docker start web", "docker stop web", state)))
    assert found.commands is not None
    assert [*argvs(found)] == ["start", "stop", "status"]


@pytest.mark.parametrize("web", ["running", "exited"])
def test_a_state_of_the_same_container_is_so_for_a_shell(web: str, tmp_path: Path) -> None:
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    states = [*STATES.values(), *STATES_LIKE_IT.values()]
    script = "\n".join(f"( {state} ) >/dev/null; echo $?" for state in states)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "WEB": web}
    ended = subprocess.run(
        ["sh", "-c", script], env=environment, capture_output=True, text=True, timeout=20, check=True
    )
    found = dict(zip(states, ended.stdout.split(), strict=True))
    assert {state for state, status in found.items() if (status == "0") != (web == "running")} == set()


def test_podman_without_sudo_is_roots_only_if_homebridge_was() -> None:
    config = switches(switch("A", "podman start web", "podman stop web", "podman top web"))
    assert group(config).commands is not None
    found = group(config, user="root")
    assert (found.containers, found.engine) == (("web",), Engine.PODMAN)


def test_what_is_different_in_a_group_of_containers_is_told() -> None:
    state = f"docker inspect -f '{RUNNING}' web db | grep true"
    found = imported(
        switches(
            switch("Both", "docker start web db", "docker stop web db", state),
            switch("On", "docker start web", None, "docker ps | grep -q web && docker top web"),
            switch(
                *("Dot", "docker start w.b", "docker stop w.b"),
                "docker ps --format '{{.Names}}' | grep -qx w.b",
            ),
            SPARE,
        )
    )
    said = notes(found)
    assert said["'Both'"][:2] == [
        "it was on with any of its containers running, and is now on with all of them",
        "its containers now start and stop in parallel, not one after the other",
    ]
    assert said["'On'"][:2] == [
        "it had one command, and still does only that; it shows the state of the containers",
        LIKE,
    ]
    assert groups(found)[1].actions == {Action.START}
    assert said["'Dot'"][0] == LIKE.replace("web", "w.b")
    about = (
        "# Containers belong to the Docker or Podman that runs as root; hkswitch cannot see rootless ones.\n"
        "# A container that is paused, unhealthy or restarting counts as off.\n"
    )
    assert about in found.text
    assert "Commands without sudo" not in found.text
    assert about not in imported(switches(SPARE)).text
    assert found.summary.splitlines()[1] == (
        "Groups of units: 1; groups of containers: 3; groups of commands: 0."
    )


def test_a_group_of_containers_is_written_as_a_user_would() -> None:
    found = imported(
        switches(
            switch("Wiki", "sudo podman start wiki", "sudo podman stop wiki"),
            switch("Zones", "docker start null 5ghz", "docker stop null 5ghz"),
        )
    )
    assert (
        found.text.partition("groups:\n")[2]
        == """\
  # 'Wiki'
  #   on_cmd: sudo podman start wiki
  #   off_cmd: sudo podman stop wiki
  wiki:
    name: Wiki
    containers: [wiki]
    engine: podman

  # 'Zones'
  #   its containers now start and stop in parallel, not one after the other
  #   on_cmd: docker start null 5ghz
  #   off_cmd: docker stop null 5ghz
  zones:
    name: Zones
    containers: ["null", "5ghz"]
"""
    )


WRAPPER = """#!/bin/bash
NAME=$2
running() { docker inspect -f '{{.State.Running}}' "$1" 2>/dev/null | grep -q true; }
case "$1" in
  start|stop) docker "$1" "$NAME" >/dev/null ;;
  status) %s ;;
  *) docker ps | grep "$NAME" ;;
esac
"""
STATUSES = {
    "a function": ('running "$NAME"', True),
    "a comparison": ("""[[ "$(docker inspect -f '{{.State.Running}}' "$NAME")" == true ]]""", True),
    "top": ("docker top $NAME >/dev/null && exit $?", False),
    "a list": ("""docker ps --format '{{.Names}}' | grep -qx "$NAME\"""", True),
    "a choice": ('if running "$NAME"; then exit 0; fi; exit 1', False),
    "a search that is none": ('docker ps | sort "$NAME"', False),
    "another machine": ('DOCKER_HOST=tcp://pc; running "$NAME"', False),
    "another machine of podman": ("CONTAINER_HOST=ssh://pc; podman top web", False),
    "another configuration": ("STORAGE_DRIVER=vfs; podman top web", False),
}


@pytest.mark.parametrize(("status", "understood"), STATUSES.values(), ids=STATUSES)
def test_a_wrapper_of_containers_is_read_like_one_of_units(status: str, understood: bool) -> None:
    scripts = machine({USUAL_PATH: (WRAPPER % status).encode()})
    found = read(f"sudo {USUAL_PATH} status web", scripts).effect.call
    assert (found is not None) == understood
    assert found is None or found.members == ("docker/web",)


@pytest.mark.parametrize(
    "body",
    [
        'grep() { true; }; docker ps | grep "$2"',
        "docker() { true; }; docker ps | grep $2",
        """docker() { echo true; }; [ "$(docker inspect -f '{{.State.Running}}' $2)" = true ]""",
        "test() { true; }; test $(docker inspect -f '{{.State.Running}}' $2) = true",
    ],
)
def test_a_function_of_a_wrapper_is_not_taken_for_a_program(body: str) -> None:
    effects = [
        read(f"sudo {USUAL_PATH} status web", machine({USUAL_PATH: f"#!/bin/bash\n{text}\n".encode()})).effect
        for text in (body, body.partition("; }; ")[2])
    ]
    assert [effect.call and effect.call.members for effect in effects] == [None, ("docker/web",)]


def test_a_switch_that_calls_a_wrapper_becomes_a_group_of_containers() -> None:
    wrapper = (WRAPPER % 'running "$NAME"').encode()
    commands = (f"sudo {USUAL_PATH} {verb} web" for verb in ("start", "stop", "status"))
    (found,) = groups(imported(switches(switch("A", *commands)), wrapper))
    assert found.containers == ("web",)


def test_the_moving_page_has_examples_of_what_is_imported_and_of_what_is_not() -> None:
    page = (Path(__file__).parents[2] / "docs" / "moving.md").read_text().splitlines()
    (known,), (others,) = ([line for line in page if start in line] for start in ("For containers,", "-t 60"))
    states = [text for text in re.findall("`([^`]+)`", known) if " web" in text]
    assert len(states) == 3
    for state in states:
        assert group(switches(switch("A", "docker start web", "docker stop web", state))).containers
    commands = re.findall("`([^`]+)`", others)
    assert len(commands) == 4
    for command in commands:
        assert group(switches(switch("A", command))).commands
