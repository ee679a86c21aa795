"""What the command line says of groups that another host runs, and of what is missing here."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from hkswitch import control
from hkswitch.backend import ssh_reasons
from hkswitch.backend.ssh_command import SSH, host_folder
from hkswitch.cli import actions, audit, check_hosts, diagnostics, logs, status
from hkswitch.control import client
from hkswitch.doctor import hosts as doctor_hosts
from hkswitch.doctor import measuring
from hkswitch.doctor.context import Context
from hkswitch.doctor.finding import Check, fail
from hkswitch.model import config_file
from hkswitch.model.config import parse
from hkswitch.model.dangerous_units import entries_of
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.unit_state import Action, ActiveState, GroupState, LoadState, UnitState
from hkswitch.model.yaml_nodes import read
from hkswitch.protocol.host_report import HostReport
from hkswitch.protocol.report import GroupReport, Report
from tests.support.command import run

TEXT: Final = """\
hosts:
  nas: {ssh: nas.lan}
  spare: {ssh: "ssh://spare.lan:2222"}
groups:
  web: {units: [nginx]}
  nas-media: {host: nas, group: media, restart_when: {cpu_percent: 50}}
"""
CONFIG: Final = parse(TEXT.encode(), "config.yaml")
DOWN: Final = UnitState(LoadState.LOADED, ActiveState.FAILED, "failed")
MEDIA: Final = GroupReport(
    "nas-media", "Media", GroupState.FAILED, 0, {"plex.service": DOWN}, host="nas", group="media"
)
AWAY: Final = MEDIA._replace(state=None, units={})
REPORT: Final = Report(None, (MEDIA,), (HostReport("nas", "nas.lan", 1),))


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text(TEXT)
    monkeypatch.setattr(config_file, "DEFAULT", file)
    monkeypatch.setattr(logs, "STATE_FOLDER", tmp_path)  # where no daemon listens
    return file


# start, stop, restart


@pytest.mark.parametrize(
    ("group", "failure", "said"),
    [
        (
            MEDIA,
            "start nas-media failed: plex.service exited with status 1",
            "hkswitch: on nas, `sudo hkswitch logs media` shows the log\n",
        ),
        (
            AWAY,
            "the host nas is not connected (Connection timed out)",
            "hkswitch: run `sudo hkswitch host test nas`\n",
        ),
    ],
    ids=["failed there", "away"],
)
def test_a_failure_on_another_host_is_explained_there_and_nothing_is_looked_up_here(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    group: GroupReport,
    failure: str,
    said: str,
) -> None:
    def never(*_: object) -> str:
        raise AssertionError

    for name in ("_journal", "_print_hints_for", "_print_remedies"):
        monkeypatch.setattr(actions, name, never)
    monkeypatch.setattr(client, "ask_report", lambda _: REPORT._replace(groups=(group,)))
    actions._print_reasons(Path("/nowhere"), "nas-media", failure, 0)
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("action", "more"),
    [(Action.STOP, ""), (Action.RESTART, "; if it has none, set `actions: [start, stop, restart]`")],
)
def test_an_action_is_allowed_on_the_host_of_the_group(
    config: Path, capsys: pytest.CaptureFixture[str], action: Action, more: str
) -> None:
    assert config.exists()
    actions._print_how_to_allow(action, "nas-media")
    said = f"to allow {action}, run `sudo hkswitch edit` on nas, and add it to the `actions` of group media"
    assert " ".join(capsys.readouterr().err.split()) == f"hkswitch: {said}{more}"


@pytest.mark.parametrize(
    ("groups", "codes", "started"),
    [
        (["web"], [Exit.OK], ["web"]),
        (["nas-media"], [Exit.UNAVAILABLE], []),
        (["web", "nas-media"], [Exit.OK, Exit.UNAVAILABLE], ["web"]),
        (["nope", "nas-media"], [Exit.USAGE, Exit.UNAVAILABLE], []),
    ],
)
def test_without_the_daemon_groups_of_other_hosts_are_out_of_reach(  # noqa: PLR0917
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    groups: list[str],
    codes: list[Exit],
    started: list[str],
) -> None:
    assert config.exists()
    asked: list[str] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(actions, "_start_helper", lambda _, group, **__: asked.append(group))
    monkeypatch.setattr(actions, "_end_of", lambda *_: Exit.OK)
    failure = client.NoDaemon(Path("/nowhere"))
    assert actions._as_root(Action.START, groups, failure, wait=True) == codes
    assert asked == started
    why = (
        "cannot act on nas-media: it is group 'media' of the host nas, which only the daemon can reach; "
        f"{control.START_SERVICE}"
    )
    assert (f"hkswitch: {why}\n" in capsys.readouterr().err) == ("nas-media" in groups)


# status


async def test_without_the_daemon_the_states_of_other_hosts_are_unknown(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def states(_: object, groups: Sequence[object]) -> dict[str, UnitState]:
        asked.extend(group.id for group in groups)  # type: ignore[attr-defined]
        return {"nginx.service": DOWN}

    class _Bus:
        @staticmethod
        async def connect() -> "_Bus":
            return _Bus()

        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr("hkswitch.systemd.units.Systemd", _Bus)
    monkeypatch.setattr(status, "_states", states)
    report = await status.from_systemd(config)
    assert asked == ["web"]
    [web, media] = report.groups
    assert web.state is GroupState.FAILED
    assert media == MEDIA._replace(
        name="Nas Media", state=None, units={}, why="only the daemon connects to other hosts"
    )
    assert [(host.name, host.problem) for host in report.hosts] == [
        ("nas", "the daemon is not running"),
        ("spare", "the daemon is not running"),
    ]
    assert status.exit_code(status.select_groups(report, ["nas-media"]), ["nas-media"]) is Exit.UNAVAILABLE


# logs and audit


@pytest.mark.parametrize("has_daemon", [True, False])
def test_the_log_of_a_group_of_another_host_is_there(
    config: Path, monkeypatch: pytest.MonkeyPatch, has_daemon: bool
) -> None:
    assert config.exists()
    if has_daemon:
        web = GroupReport("web", "Web", None, 0, {"nginx.service": DOWN})
        monkeypatch.setattr(client, "ask_report", lambda _: REPORT._replace(groups=(MEDIA, web)))
    assert logs.members_of("web") == ("nginx.service",)
    with pytest.raises(Failure, match="the host nas runs it; on nas, `sudo hkswitch logs media`") as caught:
        logs.members_of("nas-media")
    assert caught.value.exit_code is Exit.UNAVAILABLE
    with pytest.raises(Failure) as caught:
        logs.members_of("media")
    assert caught.value.exit_code is Exit.USAGE


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ("nas-media", "hkswitch: on nas, `sudo hkswitch audit media` shows what its helper did\n"),
        ("web", ""),
    ],
)
def test_the_audit_of_a_group_of_another_host_is_there(
    config: Path, capsys: pytest.CaptureFixture[str], group: str, said: str
) -> None:
    assert config.exists()
    audit._check_group(group)
    assert capsys.readouterr().err == said


def test_the_audit_of_a_bridge_is_that_of_its_field() -> None:
    assert audit.journalctl("web", bridge="homelab")[-2:] == ["HKSWITCH_GROUP=web", "HKSWITCH_BRIDGE=homelab"]
    assert audit.journalctl(None, bridge="--output=json")[-1] == "HKSWITCH_BRIDGE=--output=json"
    assert not any("BRIDGE" in word for word in audit.journalctl("web"))


# check, doctor and diagnostics


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the files of hosts, which has one for `spare`."""
    host_folder("spare", tmp_path).mkdir(parents=True)
    monkeypatch.setattr(check_hosts, "host_folder", partial(host_folder, settings=tmp_path))
    monkeypatch.setattr(check_hosts, "SSH", "/bin/sh")
    return tmp_path


def warnings() -> list[tuple[str, str]]:
    top = entries_of(read(TEXT.encode(), []))
    return [(each.path, each.message) for each in check_hosts.host_warnings(top, CONFIG)]


NO_KEY: Final = (
    "hosts.nas",
    "this machine has no key for it; run `sudo hkswitch host add nas nas.lan`",
)


@pytest.mark.parametrize("uid", [0, 1000])
def test_a_host_without_a_key_is_a_warning(settings: Path, monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    assert settings.exists()
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(doctor_hosts, "files_fault", lambda _: None)
    assert warnings() == [NO_KEY]


def test_root_is_warned_of_the_files_that_the_doctor_complains_of(
    settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.exists()
    found = fail(Check.HOSTS, "spare: other users can read /x", "run `sudo chmod 0640 /x`")
    monkeypatch.setattr(doctor_hosts, "files_fault", lambda _: found)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert warnings() == [NO_KEY]
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert warnings() == [NO_KEY, ("hosts.spare", "other users can read /x; run `sudo chmod 0640 /x`")]


def test_a_machine_without_ssh_is_warned_once(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host_folder("nas", settings).mkdir()
    monkeypatch.setattr(doctor_hosts, "files_fault", lambda _: None)
    monkeypatch.setattr(check_hosts, "SSH", str(settings / "none"))
    [(path, message)] = warnings()
    assert (path, message.partition("; ")[2]) == ("hosts", ssh_reasons.INSTALL_SSH)


def test_check_notes_a_host_without_groups_and_looks_up_nothing_of_the_others(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(TEXT)
    code, output, errors = run("check", "--config", file)
    assert (code, output) == (0, "configuration OK\n")
    notes = [line for line in errors.splitlines() if ": note: " in line]
    remedy = "run `sudo hkswitch add ID --host spare` or `sudo hkswitch host remove spare`"
    assert notes == [f"{file}:3:10: note: hosts.spare: no group is on it; {remedy}"]
    assert "restart_when" not in errors
    assert "media" not in errors


async def test_the_doctor_leaves_the_rules_of_other_hosts_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = Failure("there is none")
    context = Context(Path("/c"), Path("/s"), 1000, None, CONFIG, gone, gone, gone)
    monkeypatch.setattr(measuring, "kernel_fault", lambda: measuring.KernelFault(("cpu_percent",), "no", "x"))
    [found] = await measuring.rules(context)
    assert str(found) == "measured on other hosts: nas-media"


def test_the_diagnostics_have_hosts_and_no_keys() -> None:
    lines = [*diagnostics.config_lines(CONFIG)]
    assert "host nas: nas.lan" in lines
    assert "group nas-media (Nas Media): switch, group 'media' of the host nas" in lines
    assert [line for line in lines if "units" in line] == ["  units: nginx.service"]


async def test_the_version_of_ssh_is_told_where_it_is_used() -> None:
    if not os.access(SSH, os.X_OK):
        pytest.skip("needs ssh")
    with_hosts = await diagnostics.versions_with(CONFIG)
    without = await diagnostics.versions_with(parse(b"groups: {web: {units: [nginx]}}", "config.yaml"))
    assert any("OpenSSH" in line for line in with_hosts)
    assert not any("OpenSSH" in line for line in without)
