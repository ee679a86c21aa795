"""What was probably meant by a unit that does not exist: in `check`, `add`, `start` and `status`.

A stand-in for systemctl answers; tests/host/test_command_line.py asks the real one.
"""

import re
import shutil
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from hkswitch import __version__
from hkswitch.cli import actions, add, audit, check, health, logs
from hkswitch.editing.example import EXAMPLE
from hkswitch.model import config_file
from hkswitch.model.config import parse
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.unit_state import Action, ActiveState, GroupState, LoadState, UnitState
from hkswitch.protocol.report import STARTING, BridgeReport, GroupReport, Report
from hkswitch.unit_names import systemctl, unit_files
from hkswitch.unit_names.similar import other_kind

SYSTEMCTL: Final = """#!/bin/sh
echo "$@" >>{folder}/asked
{script}
case "$1" in
show)
    property=$2
    shift 4
    for unit; do
        [ $property != --property=Id ] || {{ echo $unit | sed s/httpd/nginx/; echo; continue; }}
        case $unit in
        nginx.service) echo loaded ;;
        old.service) echo masked ;;
        *) echo not-found ;;
        esac
        echo
    done ;;
list-unit-files) printf 'nginx.service enabled enabled\\nfstrim.timer disabled enabled\\n' ;;
list-units) printf 'ngnix.service not-found inactive dead x\\nsrv-data.mount loaded active mounted /srv\\n' ;;
esac
"""
UNMASK: Final = "`sudo systemctl unmask old.service`"
LACKING: Final = "install the package that provides it, or remove it with `sudo hkswitch edit`"
UNREAD: Final = "systemd has not read {0}/new.service yet: run `sudo systemctl daemon-reload`"
MEANT: Final = "ngnix.service does not exist; did you mean nginx.service?"


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A running systemd, in whose systemctl's place a script answers; returns what it was asked."""
    stand_in(tmp_path, monkeypatch)
    return tmp_path / "asked"


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str = "") -> None:
    program = folder / "systemctl"
    program.write_text(SYSTEMCTL.format(folder=folder, script=script))
    program.chmod(0o755)
    (folder / "asked").touch()
    monkeypatch.setattr(systemctl, "RUNNING", folder)
    monkeypatch.setattr(systemctl, "CHILD_ENVIRONMENT", {"PATH": f"{folder}:/usr/bin:/bin"})
    monkeypatch.setattr(systemctl, "UNIT_FOLDERS", ())


EXAMPLE_TEXT: Final = (Path(__file__).parents[2] / "config.example.yaml").read_bytes()
CONFIG: Final = b"""groups:
  web:
    units: [nginx, ngnix]
  other: {units: [no-such-thing, old, cups.servic]}
"""


def test_check_warns_about_units_that_do_not_exist(asked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check.print_warnings(CONFIG, parse(CONFIG, "c.yaml"), Path("c.yaml"))
    assert capsys.readouterr().err.splitlines() == [
        f"c.yaml:3:20: warning: groups.web.units[1]: {MEANT}",
        "c.yaml:4:19: warning: groups.other.units[0]: no-such-thing.service does not exist",
        (
            "c.yaml:4:39: warning: groups.other.units[2]: this is the service cups.servic.service; "
            "did you mean cups.service?"
        ),
    ]
    assert len(asked.read_text().splitlines()) == 3


def test_check_asks_once_if_every_unit_exists(asked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = b"groups: {web: {units: [nginx]}, vm: {commands: {start: [/bin/a]}, momentary: true}}"
    check.print_warnings(good, parse(good, "c.yaml"), Path("c.yaml"))
    assert capsys.readouterr().err == ""
    assert asked.read_text() == "show --property=LoadState --value -- nginx.service\n"


@pytest.mark.parametrize(
    "script", ["exit 1", "echo loaded; exit 0", "echo what; echo ever; exit 0", "kill $$"]
)
def test_where_systemctl_gives_no_answer_nothing_is_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], script: str
) -> None:
    stand_in(tmp_path, monkeypatch, script)
    text = b"groups: {web: {units: [ngnix, other]}}"
    check.print_warnings(text, parse(text, "c.yaml"), Path("c.yaml"))
    add.check_units(["ngnix.service", "other.service"])
    assert capsys.readouterr().err == ""


def test_a_systemctl_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, f"exec {shutil.which('sleep')} 1000")
    monkeypatch.setattr(systemctl, "SYSTEMCTL_WITHIN_SECONDS", 0.1)
    assert systemctl.load_states(["a.service"]) == {}


def test_where_systemd_is_not_running_nothing_is_asked(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemctl, "RUNNING", Path("/nonexistent"))
    assert systemctl.missing(["ngnix.service"]) == []
    assert asked.read_text() == ""


@pytest.mark.parametrize(
    ("units", "reason"),
    [
        (["ngnix.service"], f"cannot add the group: {MEANT}"),
        (["nginx.service", "fstrim.service"], "fstrim.service does not exist; did you mean fstrim.timer?"),
        (["srv-dat.mount"], "srv-dat.mount does not exist; did you mean srv-data.mount?"),
        (["zzz.service"], "cannot add the group: zzz.service does not exist"),
        (["nginx.service"], None),
        (["old.service"], None),
    ],
)
def test_add_refuses_units_that_do_not_exist(
    asked: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    units: list[str],
    reason: str | None,
) -> None:
    monkeypatch.setattr(add, "containers_instead", lambda _: {})  # test_container_words.py
    if reason is None:
        add.check_units(units)
        masked = f"hkswitch: old.service is masked; run {UNMASK}, or it cannot be started\n"
        assert capsys.readouterr().err == (masked if units == ["old.service"] else "")
        return
    with pytest.raises(Failure) as caught:
        add.check_units(units)
    assert str(caught.value).endswith(reason)
    assert caught.value.exit_code is Exit.USAGE


def test_a_failed_start_names_what_was_meant(asked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    actions._print_hints_for(["nginx.service"])
    assert capsys.readouterr().err == ""
    actions._print_hints_for(["nginx.service", "ngnix.service", "zzz.service"])
    assert capsys.readouterr().err == f"hkswitch: {MEANT}\n"


@pytest.mark.parametrize(
    ("unit", "known", "found"),
    [
        ("fstrim.service", {"fstrim.timer", "fstrim.service"}, "fstrim.timer"),
        ("cups.service", {"cups.path", "cups.socket"}, ""),
        ("fstrim.timer", {"fstrim.service"}, ""),
        ("fstrim.service", {"fstrim2.timer"}, ""),
    ],
)
def test_a_service_may_stand_for_the_only_unit_of_its_name(unit: str, known: set[str], found: str) -> None:
    assert other_kind(unit, known) == found


@pytest.mark.parametrize(
    ("unit", "found"),
    [
        ("nginx.servce.service", "did you mean nginx.service?"),
        ("ngnix.servic.service", "did you mean nginx.service?"),
        ("fstrim.tmer.service", "did you mean fstrim.timer?"),
        ("no-such-thing.servce.service", ""),
        ("sshd.server.service", ""),
        ("mysql.foo.service", ""),
    ],
)
def test_a_misspelt_suffix_has_a_hint(unit: str, found: str) -> None:
    assert unit_files.hint(unit, (), ("nginx.service", "fstrim.timer")) == found


# Actions

ACTIONS: Final = """groups:
  web: {units: [nginx]}
  files: {units: [smbd], restart: true}
  up: {units: [vpn], actions: [start]}
  lamp: {commands: {start: [/bin/on], stop: [/bin/off], status: [/bin/is]}}
"""


@pytest.mark.parametrize(
    ("refused", "allowed"),
    [
        ((Action.RESTART, "web"), "  web: {units: [nginx], actions: [start, stop, restart]}"),
        ((Action.STOP, "up"), "  up: {units: [vpn], actions: [start, stop]}"),
        ((Action.STOP, "web"), ""),
        ((Action.RESTART, "files"), ""),
        ((Action.RESTART, "lamp"), ""),
        ((Action.RESTART, "none"), ""),
    ],
)
def test_an_action_that_a_group_of_units_lacks_comes_with_the_line_that_allows_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    refused: tuple[Action, str],
    allowed: str,
) -> None:
    file, (action, group_id) = tmp_path / "config.yaml", refused
    file.write_text(ACTIONS)
    monkeypatch.setattr(config_file, "DEFAULT", file)
    actions._print_how_to_allow(action, group_id)
    printed = capsys.readouterr().err
    if not allowed:
        assert printed == ""
        return
    line = allowed.partition("], ")[2].removesuffix("}")
    how = f"run `sudo hkswitch edit`, and set `{line}` in group {group_id}"
    assert printed == f"hkswitch: to allow {action}, {how}\n"
    (group,) = parse(f"groups:\n{allowed}\n".encode(), "x").groups
    assert action in group.actions


def test_a_configuration_with_mistakes_has_no_such_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(config_file, "DEFAULT", tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text("groups: 1")
    actions._print_how_to_allow(Action.STOP, "web")
    assert capsys.readouterr().err == ""


# Status


def state(load: LoadState) -> UnitState:
    return UnitState(load, ActiveState.INACTIVE, "dead")


BRIDGE: Final = BridgeReport("Home", __version__, 0, ("192.0.2.1",), 51826, ())
WELL: Final = GroupReport("web", "Web", GroupState.OFF, 0, {"nginx.service": state(LoadState.LOADED)})


def group(load: LoadState, unit: str = "ngnix.service") -> GroupReport:
    return GroupReport("typo", "Typo", None, 0, {unit: state(load)})


BAD: Final = state(LoadState.BAD_SETTING)
EXAMPLE_GROUPS: Final = tuple(
    GroupReport(group_id, group_id, None, 0, dict.fromkeys(units, state(LoadState.NOT_FOUND)))
    for group_id, units in EXAMPLE.items()
)
FIRST_LOADED: Final = {group_id: {units[0]: state(LoadState.LOADED)} for group_id, units in EXAMPLE.items()}
"""As on a machine where each group of the example can be used."""


def see(unit: str) -> str:
    return f"`systemctl status {unit}` gives the reason"


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (Report(BRIDGE, (WELL,)), []),
        (Report(None, (WELL,)), []),
        (Report(BRIDGE, (group(LoadState.UNKNOWN),)), []),
        (Report(BRIDGE._replace(pairing_refused=True), ()), []),  # its line has the remedy
        (Report(BRIDGE._replace(network=STARTING), ()), []),
        (
            Report(BRIDGE._replace(version="0.0.1"), (WELL,)),
            [f"version 0.0.1 is running, but version {__version__} is installed; {health.RESTART}"],
        ),
        (
            Report(BRIDGE._replace(helper="x", config="y", storage="z", identity="i", network="n"), ()),
            [
                "the helper is unavailable; run `sudo hkswitch doctor`",
                "the configuration on disk is not applied; run `hkswitch check`, then `sudo hkswitch reload`",
                "hkswitch cannot write to /var/lib/hkswitch; free some space, or run `sudo hkswitch doctor`",
                "another bridge has the same identity; stop that one",
                "the bridge waits for a network; run `sudo hkswitch doctor`",
            ],
        ),
        (
            Report(None, (group(LoadState.NOT_FOUND), group(LoadState.NOT_FOUND)._replace(id="two"))),
            [f"group typo: {MEANT} Correct it with `sudo hkswitch edit`"],
        ),
        (
            Report(None, (group(LoadState.NOT_FOUND, "zzz.service"),)),
            [f"group typo: zzz.service does not exist; {LACKING}"],
        ),
        (
            Report(None, (group(LoadState.NOT_FOUND, "new.service"),)),
            [f"group typo: new.service does not exist; {UNREAD}"],
        ),
        (
            Report(None, EXAMPLE_GROUPS),
            ["these are the example groups; replace them with `sudo hkswitch add`"],
        ),
        (
            Report(
                None,
                tuple(
                    each._replace(units={**each.units, **FIRST_LOADED[each.id]}) for each in EXAMPLE_GROUPS
                ),
            ),
            [f"group fileserver: {unit}.service does not exist; {LACKING}" for unit in ("nmb", "netatalk")],
        ),
        (
            Report(None, (group(LoadState.ERROR)._replace(units=dict.fromkeys("abcdefg", BAD)),)),
            [
                *(f"group typo: systemd cannot load {unit}; {see(unit)}" for unit in "abcde"),
                "and 2 more of these; run `sudo hkswitch doctor`",
            ],
        ),
        (
            Report(None, (group(LoadState.MASKED),)),
            ["group typo: ngnix.service is masked; run `sudo systemctl unmask ngnix.service`"],
        ),
        (
            Report(None, (group(LoadState.ERROR, "a.mount"),)),
            ["group typo: systemd cannot load a.mount; `systemctl status a.mount` gives the reason"],
        ),
        (
            Report(None, (group(LoadState.ERROR, r"my\x2ddisk.mount"),)),
            [
                (
                    r"group typo: systemd cannot load my\x2ddisk.mount; "
                    r"`systemctl status 'my\x2ddisk.mount'` gives the reason"
                )
            ],
        ),
        (
            Report(None, (group(LoadState.MASKED, r"my\x2ddisk.mount"),)),
            [r"group typo: my\x2ddisk.mount is masked; run `sudo systemctl unmask 'my\x2ddisk.mount'`"],
        ),
    ],
)
def test_status_ends_with_what_is_wrong_and_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Report, said: list[str]
) -> None:
    for name in ("nginx.service", "new.service"):
        (tmp_path / name).touch()
    monkeypatch.setattr(unit_files, "UNIT_FOLDERS", (tmp_path / "none", tmp_path))
    assert health.problems(report) == [line.replace("{0}", str(tmp_path)) for line in said]


# Aliases, and the example


@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("", ("nginx.service", "cups.service")),
        ("exit 1", ("httpd.service", "cups.service")),
        ("echo one; exit 0", ("httpd.service", "cups.service")),
    ],
)
def test_the_log_of_an_alias_is_that_of_its_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, names: tuple[str, ...]
) -> None:
    stand_in(tmp_path, monkeypatch, script)
    units = ("httpd.service", "cups.service")
    assert systemctl.names_of(units) == names
    assert systemctl.names_of(()) == ()
    shown: list[str] = []
    monkeypatch.setattr(logs, "members_of", lambda _: units)
    monkeypatch.setattr(audit, "check_right", lambda: None)
    monkeypatch.setattr(audit, "show_lines_of", shown.extend)
    CliRunner().invoke(logs.logs, ["web"], catch_exceptions=False)
    assert {f"_SYSTEMD_UNIT={unit}" for unit in (*units, *names)} <= {*shown}


ON_NGINX: Final = re.sub(b"(units: .)httpd", rb"\1nginx", EXAMPLE_TEXT)


def test_only_example_groups_without_any_unit_are_replaced(
    asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes(EXAMPLE_TEXT)
    assert CliRunner().invoke(add.add, ["nginx", "--config", str(file), "--dry-run"]).exit_code == 0
    assert add._of_example(EXAMPLE_TEXT, "c.yaml") == ("vm-guests", "fileserver", "web")
    in_use = {**EXAMPLE, "web": ("nginx.service",)}
    monkeypatch.setattr(add, "is_example", lambda units: units == in_use)
    assert add._of_example(ON_NGINX, "c.yaml") == ("vm-guests", "fileserver")
    file.write_bytes(ON_NGINX)
    words = ["nginx", "--id", "mine", "--name", "Mine", "--config", str(file)]
    done = CliRunner().invoke(add.add, words, catch_exceptions=False)
    assert "in place of the example groups (vm-guests, fileserver)." in done.output
    assert [group.id for group in parse(file.read_bytes(), "c.yaml").groups] == ["web", "mine"]
