"""What the command line and the doctor say of containers. Engines that answer are in tests/containers/."""

import asyncio
import json
import os
import pwd
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Self

import pytest
from click.testing import CliRunner

from hkswitch import __version__
from hkswitch.cli import (
    actions,
    add,
    audit,
    check,
    diagnostics,
    group_table,
    health,
    logs,
    render,
    status,
    status_command,
)
from hkswitch.containers import connection
from hkswitch.containers.engines import Engines
from hkswitch.containers.members import Member, unavailable
from hkswitch.control import client
from hkswitch.doctor import account, programs
from hkswitch.doctor import containers as doctor
from hkswitch.doctor.context import Account, Context
from hkswitch.doctor.finding import Check, Verdict, ok
from hkswitch.model import config_file
from hkswitch.model.config import Config, parse
from hkswitch.model.errors import BusUnavailable, ConfigError, Exit, Failure
from hkswitch.model.group import Engine
from hkswitch.model.unit_state import Action, ActiveState, GroupState, LoadState, UnitState
from hkswitch.protocol.report import BridgeReport, GroupReport, Report, from_object
from hkswitch.systemd.units import Systemd
from hkswitch.unit_names import contained, systemctl

BRIDGE: Final = BridgeReport("Home", __version__, 0, ("192.0.2.1",), 51826, ())
UP: Final = UnitState(LoadState.LOADED, ActiveState.ACTIVE, "running")
DOWN: Final = UnitState(LoadState.LOADED, ActiveState.INACTIVE, "dead")
PAUSED: Final = UnitState(LoadState.LOADED, ActiveState.PARTIAL, "paused")
CRASHED: Final = UnitState(LoadState.LOADED, ActiveState.FAILED, "dead")
NO_UNIT: Final = UnitState(LoadState.NOT_FOUND, ActiveState.INACTIVE, "dead")
MASKED: Final = UnitState(LoadState.MASKED, ActiveState.INACTIVE, "dead")
OF_UNIT: Final = UnitState(LoadState.BAD_SETTING, ActiveState.UNKNOWN, "use units: [wiki.service]")
GONE: Final = Member.of("docker/photos").state([])
REMOVED: Final = Member.of("docker-compose/immich").state([])

TEXT: Final = """\
groups:
  photos: {units: [smbd], containers: [photos, photos-db], actions: [start]}
  album: {compose: immich}
  wiki: {containers: [wiki], engine: podman}
  web: {units: [nginx]}
"""
CONFIG: Final = parse(TEXT.encode(), "config.yaml")
ENGINES_UP: Final = {"docker.service": UP, "podman.socket": UP, doctor.SNAP_UNIT: NO_UNIT}
EDIT: Final = "`sudo hkswitch edit`"
IN_UNITS: Final = f"use units: [wiki.service] instead, with {EDIT}"
INSTALL: Final = "install Docker, or set `engine: podman`"
UNMASK: Final = "run `sudo systemctl unmask docker.service`"
ALL: Final = "`sudo docker ps --all` shows all"
LISTED: Final = f"correct the name with {EDIT} ({ALL}), or create the container"


def group_of(members: dict[str, UnitState], state: GroupState | None = GroupState.OFF) -> GroupReport:
    return GroupReport("photos", "Photos", state, 0, members)


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that has Docker's unit but not podman's, and one quadlet of root and one of a user."""
    quadlets = tmp_path / "quadlets"
    (quadlets / "users").mkdir(parents=True)
    (quadlets / "wiki.container").write_text("[Container]\nImage=docker.io/library/caddy:2\n")
    (quadlets / "blog.container").write_text("[Container]\n#ContainerName=x\nContainerName = notes\n")
    (quadlets / "users" / "mine.container").write_text("[Container]\nContainerName=mine\n")
    (tmp_path / "docker.service").touch()
    monkeypatch.setattr(contained, "QUADLET_FOLDERS", (tmp_path / "none", quadlets))
    monkeypatch.setattr(contained, "UNIT_FOLDERS", (tmp_path,))
    return tmp_path


# Status


@pytest.mark.parametrize(
    ("members", "shown"),
    [
        ({"smbd.service": UP, "docker/photos": DOWN}, "partial 1/2"),
        ({"docker/photos": UP, "docker/db": PAUSED}, "partial 1/2"),
        ({"docker/photos": PAUSED}, "partial"),
        ({"docker-compose/immich": PAUSED._replace(sub="1 of 3 running: ml paused")}, "partial"),
    ],
)
def test_a_partial_group_counts_its_members_unless_none_is_up(
    members: dict[str, UnitState], shown: str
) -> None:
    assert render._state(group_of(members, GroupState.PARTIAL), 0) == shown


@pytest.mark.parametrize(
    ("member", "heading"),
    [
        ("docker/photos", "units and containers"),
        ("docker-compose/immich", "units and containers"),
        ("srv-data.mount", "units"),
    ],
)
def test_the_table_says_where_it_has_containers(member: str, heading: str) -> None:
    row = group_table.GroupRow("photos", "Photos", "on", "", (f"{member} active (a/b)",), "")
    first, *_ = group_table.group_lines([row], 100)
    before, _, after = first.plain.partition(heading)
    assert (before.split(), after.split()) == (["group", "name", "state"], ["last", "action"])


class Bus:
    """systemd, without podman; every other unit is up, but perhaps not Docker."""

    def __init__(self, docker: UnitState) -> None:
        self.of_engines = {"docker.service": docker, "podman.socket": NO_UNIT, doctor.SNAP_UNIT: NO_UNIT}

    async def states(self, units: Iterable[str]) -> dict[str, UnitState]:
        return {unit: self.of_engines.get(unit, UP) for unit in units}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def with_bus(monkeypatch: pytest.MonkeyPatch, docker: UnitState | BusUnavailable) -> None:
    async def connect() -> Bus:
        if isinstance(docker, BusUnavailable):
            raise docker
        return Bus(docker)

    monkeypatch.setattr(Systemd, "connect", connect)


@pytest.mark.parametrize(
    ("user_id", "states", "said"),
    [
        (
            0,
            {"photos": "missing", "album": "missing", "wiki": "missing", "web": "on"},
            [
                "These states come from systemd and the container engines.",
                "docker/photos unavailable (docker.service is inactive (dead))",
                (
                    "- group photos: Docker is unavailable: docker.service is inactive (dead); "
                    "run `sudo systemctl enable --now docker.service`"
                ),
                (
                    "- group wiki: Podman is unavailable: podman.socket does not exist; "
                    "install Podman, or set `engine: docker`"
                ),
            ],
        ),
        (
            4242,
            {"photos": "unknown", "album": "unknown", "wiki": "unknown", "web": "on"},
            [
                "These states come from systemd.",
                "photos, album: only root can ask Docker; use sudo",
                "wiki: only root can ask Podman; use sudo",
            ],
        ),
    ],
)
def test_without_a_daemon_only_root_asks_the_engines(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    user_id: int,
    states: dict[str, str],
    said: list[str],
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(TEXT)
    with_bus(monkeypatch, DOWN)
    monkeypatch.setattr(os, "geteuid", lambda: user_id)
    options = ["--config", str(file)]
    shown = json.loads(CliRunner().invoke(status_command.status, ["--json", *options]).output)
    assert {group["id"]: group["state"] for group in shown["groups"]} == states
    output = CliRunner().invoke(status_command.status, options, env={"COLUMNS": "200"}).output
    assert [line for line in said if line not in output] == []
    assert output.count("docker.service is inactive (dead);") == (user_id == 0)
    assert ("docker/photos" in output) == (user_id == 0)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"docker/photos": UP, "docker/db": PAUSED, "docker/cache": CRASHED}, []),
        ({"docker/photos": GONE}, [f"Docker's container photos does not exist; {LISTED}"]),
        (
            {"docker-compose/immich": REMOVED},
            [
                (
                    "Docker's compose project immich has no containers; "
                    f"run `sudo docker compose up -d` in its folder, or correct the name with {EDIT}"
                )
            ],
        ),
        (
            {"podman-compose/immich": REMOVED},
            [
                (
                    "Podman's compose project immich has no containers; "
                    f"run `sudo podman-compose up -d` in its folder, or correct the name with {EDIT}"
                )
            ],
        ),
        (
            {"podman/systemd-wiki": OF_UNIT},
            [f"systemd runs Podman's container systemd-wiki; {IN_UNITS}"],
        ),
        (
            {"podman/systemd-wiki": GONE, "podman/notes": GONE},
            [
                f"systemd runs Podman's container systemd-wiki; {IN_UNITS}",
                f"systemd runs Podman's container notes; {IN_UNITS.replace('wiki', 'blog')}",
            ],
        ),
        ({"docker/systemd-wiki": GONE}, [f"Docker's container systemd-wiki does not exist; {LISTED}"]),
        (
            {"docker/4f5ac3e8b0d1": GONE, "docker/4f5ac3e8b0d": GONE},
            [
                f"Docker has no container named 4f5ac3e8b0d1, which looks like an ID; {LISTED}",
                f"Docker's container 4f5ac3e8b0d does not exist; {LISTED}",
            ],
        ),
        (
            {"podman/mine": GONE},
            [f"Podman's container mine does not exist; {LISTED.replace('docker', 'podman')}"],
        ),
        (
            {
                "docker/a": unavailable("docker.service is masked"),
                "docker/b": unavailable("docker.service is masked"),
            },
            ["Docker is unavailable: docker.service is masked; run `sudo systemctl unmask docker.service`"],
        ),
        (
            {"docker/a": unavailable("docker.service is failed (failed)")},
            [
                (
                    "Docker is unavailable: docker.service is failed (failed); "
                    "`systemctl status docker.service` gives the reason"
                )
            ],
        ),
        (
            {
                "podman/a": unavailable("podman.socket is inactive")
            },  # systemd says so of a unit without a file
            ["Podman is unavailable: podman.socket is inactive; install Podman, or set `engine: docker`"],
        ),
        ({"docker/-x": GONE, "docker/$(reboot)": GONE, "lxc/web": GONE, "docker/": GONE}, []),
    ],
)
def test_status_ends_with_the_containers_that_cannot_be_used(
    members: dict[str, UnitState], said: list[str]
) -> None:
    found = health.problems(Report(BRIDGE, (group_of(members),)))
    assert found == [f"group photos: {line}" for line in said]


def test_what_a_container_is_told_in_survives_the_socket() -> None:
    sent = Report(
        BRIDGE, (group_of({"docker/photos": GONE, "docker-compose/immich": REMOVED, "podman/wiki": OF_UNIT}),)
    )
    assert from_object(json.loads(status.report_as_json(sent))) == sent


# Actions


@pytest.mark.parametrize(
    ("member", "command"),
    [
        ("docker/photos", "sudo docker logs photos"),
        ("docker/a;reboot", "sudo docker logs 'a;reboot'"),
        ("podman/wiki", "sudo podman logs wiki"),
        ("docker-compose/immich", "sudo docker compose --project-name immich logs"),
        ("podman-compose/immich", "sudo podman ps --all --filter label=com.docker.compose.project=immich"),
    ],
)
def test_of_a_container_that_failed_the_command_for_its_log_is_shown(member: str, command: str) -> None:
    members = {"smbd.service": DOWN, member: DOWN, "docker/other": DOWN, "docker/gone": GONE}
    failed = group_of(members)
    [named] = actions.failed_units(
        failed, f"{member} failed: x exited with 3, smbd.service docker/gone refused"
    )
    assert actions._journal(named, 0) == f"`{command}` shows the log of {member}"


def test_a_failed_start_says_what_is_wrong_with_containers_and_asks_systemctl_of_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(actions, "_print_hints_for", asked.extend)
    off = unavailable("docker.service is inactive (dead)")
    report = Report(
        BRIDGE, (group_of({"ngnix.service": NO_UNIT, "docker/a": off, "docker/b": off, "docker/c": UP}),)
    )
    monkeypatch.setattr(client, "ask_report", lambda _: report)
    actions._print_reasons(Path("/nowhere"), "photos", "docker/a unavailable", 0)
    assert asked == ["ngnix.service"]
    assert capsys.readouterr().err.splitlines() == [
        (
            "hkswitch: Docker is unavailable: docker.service is inactive (dead); "
            "run `sudo systemctl enable --now docker.service`"
        )
    ]


@pytest.mark.parametrize(
    ("action", "member", "state", "code"),
    [
        (Action.STOP, "docker/photos", GroupState.OFF, Exit.OK),
        (Action.START, "docker/photos", GroupState.ON, Exit.OK),
        (Action.RESTART, "nginx.service", GroupState.ON, Exit.OK),
        # A daemon that was restarted in the meantime may see it as it was before, on its way down.
        (Action.RESTART, "docker/photos", GroupState.ON, Exit.UNAVAILABLE),
        (Action.STOP, "docker/photos", GroupState.ON, Exit.UNAVAILABLE),
    ],
)
def test_whether_a_restart_of_containers_outlived_the_daemon_is_not_told_by_their_state(  # noqa: PLR0917
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    action: Action,
    member: str,
    state: GroupState,
    code: Exit,
) -> None:
    def closed(*_: object, **__: object) -> str:
        raise client.Disconnected(tmp_path, "it closed the connection")

    report = Report(BRIDGE, (group_of({member: UP}, state),))
    monkeypatch.setattr(client.PendingRequest, "__init__", lambda *_: None)
    monkeypatch.setattr(client.PendingRequest, "__enter__", lambda request: request)
    monkeypatch.setattr(client.PendingRequest, "__exit__", lambda *_: None)
    monkeypatch.setattr(client.PendingRequest, "end", closed)
    monkeypatch.setattr(client, "ask_report", lambda _: report)
    # What outlived the daemon is found by the first look, which a busy machine may delay.
    monkeypatch.setattr(actions, "DAEMON_BACK_WITHIN_SECONDS", 10 if code is Exit.OK else 0.01)
    assert actions.act(action, ["photos"], tmp_path, wait=True) is code
    assert ("it closed the connection" in capsys.readouterr().err) is (code is not Exit.OK)


@pytest.mark.parametrize(
    ("code", "states", "said"),
    [
        (
            Exit.UNAVAILABLE,
            {"docker/photos": GONE, "docker/photos-db": UP},
            f"hkswitch: Docker's container photos does not exist; {LISTED}\n",
        ),
        (Exit.UNAVAILABLE, {}, ""),  # systemd does not answer
        (Exit.OK, {"docker/photos": GONE}, ""),
    ],
)
def test_without_a_daemon_a_failed_start_says_what_is_wrong_with_containers_too(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    code: Exit,
    states: dict[str, UnitState],
    said: str,
) -> None:
    asked: list[str] = []

    async def seen_by_root(members: Iterable[str]) -> doctor.Seen:
        assert [*members] == ["docker/photos", "docker/photos-db"]
        return doctor.Seen(states)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(actions, "_configured_groups", lambda: {group.id: group for group in CONFIG.groups})
    monkeypatch.setattr(actions, "_start_helper", lambda *_, **__: None)
    monkeypatch.setattr(actions, "_end_of", lambda *_: code)
    monkeypatch.setattr(actions, "_print_hints_for", asked.extend)
    monkeypatch.setattr(doctor, "seen_by_root", seen_by_root)
    assert actions._as_root(Action.START, ["photos"], client.NoDaemon(Path("/nowhere")), wait=True) == [code]
    assert asked == (["smbd.service"] if code else [])
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("members", "failed", "said"),
    [
        (
            {"docker/photos": PAUSED, "docker/db": PAUSED},
            "docker/photos",
            "hkswitch: Docker's container photos is paused; run `sudo docker unpause photos`",
        ),
        (
            {"podman/wiki": PAUSED},
            "podman/wiki",
            "hkswitch: Podman's container wiki is paused; run `sudo podman unpause wiki`",
        ),
        (
            {"docker/photos": DOWN},
            "docker/photos",
            "`sudo docker logs photos` shows the log of docker/photos",
        ),
        (
            {"docker-compose/immich": PAUSED},
            "docker-compose/immich",
            "`sudo docker compose --project-name immich logs` shows the log of docker-compose/immich",
        ),
    ],
)
def test_of_a_paused_container_that_cannot_be_switched_the_remedy_is_shown_in_place_of_its_log(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    members: dict[str, UnitState],
    failed: str,
    said: str,
) -> None:
    monkeypatch.setattr(client, "ask_report", lambda _: Report(BRIDGE, (group_of(members),)))
    actions._print_reasons(Path("/nowhere"), "photos", f"{failed} failed: x: cannot start", 0)
    assert capsys.readouterr().err == f"{said}\n"


@pytest.mark.parametrize(("group_id", "is_told"), [("photos", True), ("album", False)])
def test_an_action_that_a_group_of_containers_lacks_comes_with_the_line_that_allows_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    group_id: str,
    is_told: bool,
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("groups: {photos: {containers: [photos], actions: [start]}, album: {compose: immich}}")
    monkeypatch.setattr(config_file, "DEFAULT", file)
    actions._print_how_to_allow(Action.STOP, group_id)
    assert ("set `actions: [start, stop]` in group photos" in capsys.readouterr().err) is is_told


# Logs, diagnostics and check


def test_the_log_of_a_group_with_containers_is_that_of_its_units_and_of_their_engines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[str] = []
    members = ("smbd.service", "docker/photos", "podman/wiki", "docker-compose/immich")
    monkeypatch.setattr(logs, "members_of", lambda _: members)
    monkeypatch.setattr(systemctl, "RUNNING", Path("/nonexistent"))
    monkeypatch.setattr(audit, "check_right", lambda: None)
    monkeypatch.setattr(audit, "show_lines_of", shown.extend)
    done = CliRunner().invoke(logs.logs, ["photos"], catch_exceptions=False, env={"COLUMNS": "200"})
    words = " ".join(shown)
    assert "_SYSTEMD_UNIT=smbd.service + " in words
    assert "+ _UID=0 _SYSTEMD_UNIT=docker.service CONTAINER_NAME=photos + " in words
    assert "+ _UID=0 _EXE=/usr/bin/conmon _EXE=/usr/libexec/podman/conmon CONTAINER_NAME=wiki + " in words
    assert words.count("CONTAINER_NAME") == 2
    assert "hkswitch-command" not in words
    assert words.endswith("HKSWITCH_GROUP=photos")
    assert done.output.splitlines() == [
        "hkswitch: unless Docker logs to the journal, `sudo docker logs photos` shows the log of photos",
        "hkswitch: unless Podman logs to the journal, `sudo podman logs wiki` shows the log of wiki",
        (
            "hkswitch: `sudo docker compose --project-name immich logs` shows the log of "
            "Docker's compose project immich"
        ),
    ]


def test_a_group_of_containers_has_no_commands_in_its_log() -> None:
    [found] = contained.contained_among(("docker/photos",))
    assert [*logs.matches_of("photos", (), (found,))][:4] == [
        *("_UID=0", "_SYSTEMD_UNIT=docker.service", "CONTAINER_NAME=photos", "+")
    ]


def test_the_members_of_a_group_come_from_the_config_without_a_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(TEXT)
    monkeypatch.setattr(config_file, "DEFAULT", file)
    monkeypatch.setattr(logs, "STATE_FOLDER", tmp_path)
    assert logs.members_of("photos") == ("smbd.service", "docker/photos", "docker/photos-db")


def test_the_diagnostics_name_the_containers() -> None:
    lines = [*diagnostics.config_lines(CONFIG)]
    assert "  containers: docker/photos docker/photos-db" in lines
    assert "  containers: docker-compose/immich" in lines
    assert sum("containers:" in line for line in lines) == 3


@pytest.mark.parametrize(
    ("config", "engines"),
    [
        (CONFIG, ["docker 26.1", "podman 26.1"]),
        (parse(b"groups: {web: {units: [nginx]}}", "c.yaml"), []),
        (ConfigError("c.yaml", ()), []),
    ],
)
async def test_the_diagnostics_have_the_versions_of_the_engines_in_use(
    monkeypatch: pytest.MonkeyPatch, config: Config | ConfigError, engines: list[str]
) -> None:
    async def run(program: str, *_: str) -> programs.Completed:
        return programs.Completed(0, f"{Path(program).name} 26.1\nmore\n", "")

    monkeypatch.setattr(diagnostics, "run", run)
    found = await diagnostics.versions_with(config)
    assert [line for line in found if line.startswith(("docker", "podman"))] == engines
    assert "systemctl 26.1" in found


@pytest.mark.parametrize(
    ("text", "states", "said"),
    [
        ("{containers: [photos]}", {"docker.service": LoadState.LOADED}, []),
        ("{containers: [photos]}", {}, []),  # systemd does not answer
        (
            "{containers: [photos]}",
            {"docker.service": LoadState.NOT_FOUND},
            ["28: warning: groups.web.containers: docker.service does not exist; " + INSTALL],
        ),
        (
            "{compose: immich}",
            {"docker.service": LoadState.MASKED},
            ["25: warning: groups.web.compose: docker.service is masked; " + UNMASK],
        ),
        (
            "{containers: [a, notes, mine], engine: podman}",
            {"podman.socket": LoadState.LOADED},
            ["32: warning: groups.web.containers[1]: systemd runs it; use units: [blog.service] instead"],
        ),
        ("{containers: [notes]}", {"docker.service": LoadState.LOADED}, []),
        (
            "{compose: a}, b: {compose: b}, c: {compose: c, engine: podman}",
            {"docker.service": LoadState.NOT_FOUND, "podman.socket": LoadState.MASKED},
            [
                "25: warning: groups.web.compose: docker.service does not exist; " + INSTALL,
                "59: warning: groups.c.compose: podman.socket is masked; "
                + UNMASK.replace("docker.service", "podman.socket"),
            ],
        ),
    ],
)
def test_check_warns_about_engines_that_are_missing_and_containers_of_quadlets(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
    states: dict[str, LoadState],
    said: list[str],
) -> None:
    monkeypatch.setattr(
        systemctl, "load_states", lambda units: {unit: states[unit] for unit in units if unit in states}
    )
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    data = f"groups: {{web: {text}}}".encode()
    check.print_warnings(data, parse(data, "c.yaml"), Path("c.yaml"))
    assert capsys.readouterr().err.splitlines() == [f"c.yaml:1:{line}" for line in said]


@pytest.mark.parametrize(
    ("user_id", "states", "known", "said"),
    [
        (
            0,
            {
                "docker/photos": UP,
                "docker/photos-db": GONE,
                "docker-compose/immich": REMOVED,
                "podman/wiki": GONE,
            },
            ["docker-compose/imich", "docker/photos-1", "podman/wikis"],
            [
                (
                    "2:48: warning: groups.photos.containers[1]: "
                    "Docker's container photos-db does not exist; did you mean photos-1?"
                ),
                (
                    "3:20: warning: groups.album.compose: Docker's compose project immich has no containers; "
                    "did you mean imich?"
                ),
                (
                    "4:23: warning: groups.wiki.containers[0]: Podman's container wiki does not exist; "
                    "did you mean wikis?"
                ),
            ],
        ),
        (0, {"docker/photos": unavailable("docker.service is inactive"), "podman/wiki": OF_UNIT}, [], []),
        (0, {}, [], []),  # systemd does not answer
        (4242, {"docker/photos": GONE}, [], []),
    ],
)
def test_check_warns_root_about_containers_and_projects_that_do_not_exist(  # noqa: PLR0917
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    user_id: int,
    states: dict[str, UnitState],
    known: list[str],
    said: list[str],
) -> None:
    async def seen_by_root(members: Iterable[str]) -> doctor.Seen:
        assert [*members] == [member for group in CONFIG.groups for member in group.contained]
        return doctor.Seen(states, frozenset(contained.contained_among(known)))

    monkeypatch.setattr(os, "geteuid", lambda: user_id)
    monkeypatch.setattr(systemctl, "load_states", lambda _: {})
    monkeypatch.setattr(doctor, "seen_by_root", seen_by_root)
    check.print_warnings(TEXT.encode(), CONFIG, Path("c.yaml"))
    assert capsys.readouterr().err.splitlines() == [f"c.yaml:{line}" for line in said]


@pytest.mark.parametrize(
    ("user_id", "states", "known", "refused", "note"),
    [
        (0, {"docker/photos": UP}, [], "", ""),
        (
            0,
            {"podman/mine": GONE},
            [],
            (
                "Podman's container mine does not exist; "
                "Podman of bob runs without root, where hkswitch cannot reach it"
            ),
            "",
        ),
        (0, {}, [], "", ""),  # systemd does not answer
        (4242, {"docker/photos": GONE}, [], "", ""),
        (
            0,
            {"docker/photos": GONE},
            ["podman/photo"],
            f"Docker's container photos does not exist; {ALL}",
            "",
        ),
        (
            0,
            {"docker/photos": GONE},
            ["docker/photo"],
            "Docker's container photos does not exist; did you mean photo?",
            "",
        ),
        (
            0,
            {"podman/notes": GONE},
            ["podman/note"],
            "systemd runs Podman's container notes; run `sudo hkswitch add blog.service`",
            "",
        ),
        (
            0,
            {"podman/systemd-wiki": OF_UNIT},
            [],
            "systemd runs Podman's container systemd-wiki; run `sudo hkswitch add wiki.service`",
            "",
        ),
        (
            0,
            {"docker/nginx": GONE},
            ["docker/nginx-1"],
            (
                "Docker's container nginx does not exist; "
                "for the service of that name, run `sudo hkswitch add nginx`"
            ),
            "",
        ),
        (0, {"docker/cups": GONE}, [], f"Docker's container cups does not exist; {ALL}", ""),
        (
            0,
            {"docker-compose/immich": REMOVED},
            [],
            "Docker's compose project immich has no containers; `sudo docker compose ls --all` shows all",
            "",
        ),
        (
            0,
            {
                "docker/a": unavailable("docker.service is inactive"),
                "docker/b": unavailable("docker.service is inactive"),
            },
            [],
            "",
            (
                "hkswitch: Docker is unavailable: docker.service is inactive; "
                "run `sudo systemctl enable --now docker.service`\n"
            ),
        ),
    ],
)
def test_add_refuses_containers_that_cannot_be_used(  # noqa: PLR0917
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    user_id: int,
    states: dict[str, UnitState],
    known: list[str],
    refused: str,
    note: str,
) -> None:
    async def seen_by_root(members: Iterable[str]) -> doctor.Seen:
        assert [*members] == [*CONFIG.groups[0].contained]
        return doctor.Seen(states, frozenset(contained.contained_among(known)))

    monkeypatch.setattr(os, "geteuid", lambda: user_id)
    monkeypatch.setattr(doctor, "seen_by_root", seen_by_root)
    monkeypatch.setattr(doctor, "users_of_engines", lambda: {Engine.PODMAN: "bob"})
    services = {"nginx.service": LoadState.LOADED, "cups.service": LoadState.NOT_FOUND}
    monkeypatch.setattr(
        systemctl, "load_states", lambda units: {unit: services[unit] for unit in units if unit in services}
    )
    if refused:
        with pytest.raises(Failure) as caught:
            add.check_containers(CONFIG.groups[0])
        assert str(caught.value) == f"cannot add the group: {refused}"
        assert caught.value.exit_code is Exit.USAGE
    else:
        add.check_containers(CONFIG.groups[0])
    assert capsys.readouterr().err == note


@pytest.mark.parametrize(
    ("user_id", "states", "hints"),
    [
        (0, {"docker/web": DOWN}, {"web.service": "`--container web`"}),
        (0, {"podman/web": UP}, {"web.service": "`--container web --engine podman`"}),
        (0, {"docker/web": UP, "podman/web": UP}, {"web.service": "`--container web`"}),
        (0, {"docker/web": GONE, "podman/web": unavailable("podman.socket is inactive")}, {}),
        (0, {"podman/web": OF_UNIT}, {}),
        (0, {}, {}),  # systemd does not answer
        (4242, {"docker/web": UP}, {}),
    ],
)
def test_add_says_of_a_missing_service_that_there_is_a_container_of_its_name(
    monkeypatch: pytest.MonkeyPatch, user_id: int, states: dict[str, UnitState], hints: dict[str, str]
) -> None:
    async def seen_by_root(members: Iterable[str]) -> doctor.Seen:
        assert {*members} == {"docker/web", "podman/web"}
        return doctor.Seen(states)

    monkeypatch.setattr(os, "geteuid", lambda: user_id)
    monkeypatch.setattr(doctor, "seen_by_root", seen_by_root)
    said = {unit: f"there is a container of that name: use {option}" for unit, option in hints.items()}
    assert add.containers_instead(["web.service", "web.socket"]) == said


# The doctor


def seen(known: Iterable[str] = (), **states: UnitState) -> doctor.Seen:
    """What root sees if everything is up but the members with these names."""
    members = (member for group in CONFIG.groups for member in group.contained)
    found = {member: states.get(member.partition("/")[2].replace("-", "_"), UP) for member in members}
    return doctor.Seen(found, frozenset(contained.contained_among(known)))


@pytest.mark.parametrize(
    ("units", "saw", "users", "verdict", "said", "advice"),
    [
        (
            {},
            seen(),
            {Engine.DOCKER: "alice"},
            Verdict.OK,
            "photos, photos-db, immich known to Docker; wiki known to Podman",
            "",
        ),
        ({}, None, {}, Verdict.SKIP, "needs root", "run `sudo hkswitch doctor`"),
        (
            {"docker.service": DOWN},
            None,  # any user can tell
            {},
            Verdict.FAIL,
            "docker.service is inactive",
            "run `sudo systemctl enable --now docker.service`",
        ),
        (
            {"docker.service": DOWN},
            seen(photos=unavailable("docker.service is inactive (dead)")),  # once
            {Engine.PODMAN: "bob"},
            Verdict.FAIL,
            "docker.service is inactive",
            "run `sudo systemctl enable --now docker.service`",
        ),
        (
            {"docker.service": NO_UNIT, "podman.socket": MASKED},
            seen(),
            {Engine.DOCKER: "alice"},
            Verdict.FAIL,
            "docker.service does not exist, podman.socket is masked",
            (
                "install Docker, or set `engine: podman`; run `sudo systemctl unmask podman.socket`; "
                "Docker of alice runs without root, where hkswitch cannot reach it"
            ),
        ),
        (
            {"docker.service": NO_UNIT, doctor.SNAP_UNIT: UP},
            None,
            {},
            Verdict.FAIL,
            "Docker from a snap has no docker.service",
            "install Docker from a package instead",
        ),
        (
            {"docker.service": CRASHED},
            None,
            {},
            Verdict.FAIL,
            "docker.service is failed",
            "`systemctl status docker.service` gives the reason",
        ),
        (
            {},
            seen(photos=GONE, wiki=GONE),
            {Engine.PODMAN: "bob"},
            Verdict.FAIL,
            (
                "Docker's container photos does not exist (group photos), "
                "Podman's container wiki does not exist (group wiki)"
            ),
            (
                f"photos: {LISTED}; wiki: {LISTED.replace('docker', 'podman')}; "
                "Podman of bob runs without root, where hkswitch cannot reach it"
            ),
        ),
        (
            {"podman.socket": DOWN},
            seen(photos=GONE, photos_db=GONE, immich=REMOVED),
            {},
            Verdict.FAIL,
            (
                "podman.socket is inactive, Docker's container photos does not exist (group photos), "
                "Docker's container photos-db does not exist (group photos), and 1 more"
            ),
            f"install Podman, or set `engine: docker`; photos, photos-db: {LISTED}",
        ),
        (
            {},
            seen(["docker/photo", "docker/web", "podman/photos", "docker-compose/photos"], photos=GONE),
            {},
            Verdict.FAIL,
            "Docker's container photos does not exist (group photos)",
            "did you mean photo?",
        ),
        (
            {},
            seen(["docker/immich", "docker-compose/imich"], immich=REMOVED),
            {},
            Verdict.FAIL,
            "Docker's compose project immich has no containers (group album)",
            "did you mean imich?",
        ),
        (
            {},
            seen(wiki=OF_UNIT),
            {},
            Verdict.FAIL,
            "systemd runs Podman's container wiki (group wiki)",
            IN_UNITS,
        ),
        (
            {},
            seen(wiki=unavailable("podman did not answer within 5 s")),
            {},
            Verdict.FAIL,
            "Podman is unavailable: podman did not answer within 5 s",
            "`systemctl status podman.socket` gives the reason",
        ),
    ],
)
def test_the_doctor_judges_engines_and_containers(  # noqa: PLR0917
    units: dict[str, UnitState],
    saw: doctor.Seen | None,
    users: dict[Engine, str],
    verdict: Verdict,
    said: str,
    advice: str,
) -> None:
    found = doctor.usable(CONFIG, ENGINES_UP | units, saw, users)
    assert (found.verdict, found.what, found.advice) == (verdict, said, advice)


def test_a_missing_container_of_a_quadlet_is_not_taken_for_a_similar_one() -> None:
    config = parse(b"groups: {wiki: {containers: [systemd-wiki], engine: podman}}", "c.yaml")
    known = frozenset(contained.contained_among(["podman/systemd-wikis"]))
    found = doctor.usable(config, ENGINES_UP, doctor.Seen({"podman/systemd-wiki": GONE}, known), {})
    assert found.advice == IN_UNITS


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (
            b'[{"Names": ["/photos"], "Labels": {"com.docker.compose.project": "immich"}}]',
            ["docker/photos", "docker-compose/immich"],
        ),
        (b'[{"Names": ["wiki", "x"]}, 1, {"Names": []}, {"Names": 1}, {"Labels": null}]', ["docker/wiki"]),
        (b'[{"Labels": {"com.docker.compose.project": 1}}, {"Names": ["/-x"]}, {"Names": [""]}]', []),
        (b"{}", []),
        (b"[", []),
        (b"[" * 100_000, []),
        (b"\xff", []),
    ],
)
def test_of_an_engines_list_only_names_are_taken(body: bytes, names: list[str]) -> None:
    assert [each.full_name for each in doctor.parse_names(Engine.DOCKER, body)] == names


def context_of(config: Config | ConfigError, user_id: int, account: Account | None = None) -> Context:
    gone = BusUnavailable("gone")
    return Context(Path("/c.yaml"), Path("/nowhere"), user_id, account, config, gone, gone, gone)


OF_DAEMON: Final = Account("hkswitch", 77, 77)
ONLY_PHOTOS: Final = parse(b"groups: {photos: {containers: [photos]}}", "c.yaml")


@pytest.mark.parametrize(
    ("context", "docker", "said"),
    [
        (context_of(ConfigError("c.yaml", ()), 0), UP, "skip: there is no valid configuration"),
        (
            context_of(parse(b"groups: {web: {units: [nginx]}}", "c.yaml"), 0),
            UP,
            "ok: no group has containers",
        ),
        (context_of(ONLY_PHOTOS, 77, OF_DAEMON), UP, "skip: the bus denies every call by hkswitch"),
        (context_of(ONLY_PHOTOS, 4242, OF_DAEMON), UP, "skip: needs root"),
        (context_of(ONLY_PHOTOS, 4242, OF_DAEMON), DOWN, "FAIL: docker.service is inactive"),
        (context_of(ONLY_PHOTOS, 0), BusUnavailable("gone"), "skip: systemd does not answer"),
        (context_of(ONLY_PHOTOS, 0), DOWN, "FAIL: docker.service is inactive"),
        (
            context_of(ONLY_PHOTOS, 0),
            UP,
            "FAIL: Docker's container photos does not exist (group photos); did you mean photo?",
        ),
    ],
)
async def test_the_doctor_asks_the_engines_as_root_and_only_about_containers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    context: Context,
    docker: UnitState | BusUnavailable,
    said: str,
) -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(line := await reader.readline())
        writer.write(
            b"HTTP/1.0 200 OK\r\n\r\n" + (b"[]" if b"filters" in line else b'[{"Names": ["/photo"]}]')
        )
        writer.close()

    with_bus(monkeypatch, docker)
    monkeypatch.setattr(connection, "SOCKETS", dict.fromkeys(Engine, str(tmp_path / "engine.sock")))
    async with await asyncio.start_unix_server(answer, tmp_path / "engine.sock"):
        [found] = await doctor.containers(context)
    assert f"{found.verdict}: {found}".startswith(said)
    assert bool(asked) is (context.is_root and "does not exist" in said)


async def test_the_doctor_goes_on_if_an_engine_sends_no_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_bus(monkeypatch, UP)
    monkeypatch.setattr(connection, "SOCKETS", dict.fromkeys(Engine, str(tmp_path / "none.sock")))
    [found] = await doctor.containers(context_of(ONLY_PHOTOS, 0))
    assert (found.verdict, found.what.startswith("Docker is unavailable: No such file")) == (
        Verdict.FAIL,
        True,
    )
    assert (await doctor._seen((), Engines(Bus(UP).states))).known == frozenset()


def test_the_users_who_run_an_engine_are_found_by_its_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "USERS_FOLDER", tmp_path)
    assert doctor.users_of_engines() == {}
    for name in ("1000/docker.sock", "1001/podman/podman.sock", "1002/bus"):
        tmp_path.joinpath(name).parent.mkdir(parents=True)
        tmp_path.joinpath(name).touch()
    me = pwd.getpwuid(os.geteuid()).pw_name
    assert doctor.users_of_engines() == {Engine.DOCKER: me, Engine.PODMAN: me}


@pytest.mark.parametrize(
    ("enabled", "text"),
    [
        (["enabled", "static"], "well"),
        (
            ["alias", "disabled"],
            "well, but podman.socket is not enabled at boot; run `sudo systemctl enable podman.socket`",
        ),
        (
            ["disabled", "disabled"],
            (
                "well, but docker.service and podman.socket are not enabled at boot; "
                "run `sudo systemctl enable docker.service podman.socket`"
            ),
        ),
        ([], "well"),  # systemctl cannot be run
    ],
)
def test_an_engine_that_does_not_start_at_boot_is_a_warning(enabled: list[str], text: str) -> None:
    found = doctor.at_boot(ok(Check.CONTAINERS, "well"), ("docker.service", "podman.socket"), enabled)
    assert str(found) == text
    assert found.verdict is (Verdict.WARN if "disabled" in enabled else Verdict.OK)


@pytest.mark.parametrize(("is_member", "verdict"), [(False, Verdict.OK), (True, Verdict.FAIL)])
def test_a_daemon_that_could_use_dockers_socket_could_become_root(is_member: bool, verdict: Verdict) -> None:
    found = account.without_docker(ok(Check.USER, "user and group hkswitch exist"), is_member=is_member)
    assert found.verdict is verdict
    assert (
        "run `sudo gpasswd -d hkswitch docker` and `sudo systemctl restart hkswitch.service`" in found.advice
    ) is is_member


@pytest.mark.parametrize(("group", "is_in"), [("daemon", True), ("adm", False), ("no-such-group", False)])
def test_a_group_is_the_users_by_number(group: str, is_in: bool) -> None:
    daemon = pwd.getpwnam("daemon")
    user = Account(daemon.pw_name, daemon.pw_uid, daemon.pw_gid)
    assert account._is_in(group, user) is is_in
