"""What `hkswitch status` makes of a report, and what survives the control socket of it."""

import io
import json
from collections.abc import Sequence
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from hkswitch import __version__
from hkswitch.cli import render, status, status_command
from hkswitch.cli.actions import failed_units
from hkswitch.cli.health import MOST_HOSTS_NAMED, MOST_TROUBLES_NAMED, problems
from hkswitch.cli.main import commands
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.unit_state import Action, ActiveState, GroupState, LoadState, UnitState
from hkswitch.protocol.host_report import HostReport
from hkswitch.protocol.json_lines import MalformedMessage
from hkswitch.protocol.report import (
    BridgeReport,
    GroupReport,
    LastAction,
    Outcome,
    PairedController,
    Report,
    as_object,
    from_object,
)

UP = UnitState(LoadState.LOADED, ActiveState.ACTIVE, "running")
FAILED = UnitState(LoadState.LOADED, ActiveState.FAILED, "failed")
LOST = UnitState(LoadState.NOT_FOUND, ActiveState.INACTIVE, "dead")
DOWN = UnitState(LoadState.LOADED, ActiveState.INACTIVE, "dead")
PHONE = "8DE3A2C0-5D7B-4E7C-9F52-3F1B7A2D9E10"
NOW = 1_800_000_000
BRIDGE = BridgeReport(
    "Homelab",
    "1.2.3",
    NOW - 7300,
    ("192.168.1.10", "fd00::1"),
    51826,
    (PairedController(PHONE, admin=True, connections=1), PairedController("B", admin=False)),
)
WEB = GroupReport("web", "Web", GroupState.ON, NOW, {"httpd.service": UP})
FILES = GroupReport(
    "files",
    "File Server",
    GroupState.PARTIAL,
    NOW - 5,
    {"smb.service": UP, "nmb.service": DOWN},
    LastAction(Action.START, PHONE, NOW - 300, Outcome.FAILED, "nmb.service failed", 1234),
)
LAMP = GroupReport("lamp", "Lamp", None, 0, {}, LastAction(Action.STOP, "user 0", NOW - 1))
VM = GroupReport("vm", "VM", GroupState.OFF, NOW, {}, commands=True)
SLOW = GroupReport(
    "slow",
    "Slow [bold]",
    GroupState.STARTING,
    NOW - 12,
    {},
    LastAction(Action.RESTART, "", NOW - 12, Outcome.DONE, "", 40),
)
REPORT = Report(BRIDGE, (WEB, FILES, LAMP, SLOW))
NAS = HostReport("nas", "root@nas.lan", NOW - 7300, 0.42, "1.2.3")
REFUSED = HostReport("pi", "pi.lan", problem="that host refuses the key of this bridge; REMEDY (ssh: denied)")
SPARE = HostReport("spare", "spare.lan")
MEDIA = GroupReport("nas-media", "Media", GroupState.ON, NOW, {"plex.service": UP}, host="nas", group="media")
DOOR = GroupReport(
    "door", "Door", None, 0, {}, why="the host pi is not connected (ssh: denied)", host="pi", group="door"
)
WITH_HOSTS = Report(BRIDGE, (DOOR, MEDIA, DOOR._replace(id="gate"), WEB), (NAS, REFUSED, SPARE))
AWAY = GroupReport(
    "vpn", "VPN", None, NOW, {}, why="the helper is not running (sudo: a password is required)"
)
TROUBLED = WEB._replace(trouble="web.service was killed by SIGKILL", trouble_since_unix_seconds=NOW - 725)
HUNGRY = FILES._replace(
    last_action=LastAction(Action.RESTART, "rule", NOW - 300, Outcome.DONE, "", 1234),
    rule="cpu 97 % for 120 of 180 s",
)
UNKNOWN = Report(None, (WEB._replace(state=None, last_action=LastAction(None, "", NOW, Outcome.UNKNOWN)),))


def printed(report: Report, width: int = 1000, *, daemon_ended: bool = False) -> list[str]:
    output = io.StringIO()
    Console(file=output, highlight=False, markup=False, emoji=False, width=width).print(
        render.rendered(report, NOW, width, daemon_ended=daemon_ended)
    )
    return output.getvalue().splitlines()


@pytest.mark.parametrize(
    "report",
    [
        REPORT,
        Report(None, ()),
        Report(None, (WEB,)),
        Report(None, (VM,)),
        UNKNOWN,
        Report(BRIDGE._replace(config="config.yaml:1:1: no", storage="the disk is full"), (AWAY,)),
        Report(BRIDGE, (HUNGRY, TROUBLED)),
        WITH_HOSTS,
    ],
    ids=["all", "none", "web", "commands", "unknown", "troubled", "alerts and rules", "hosts"],
)
def test_a_report_survives_the_socket(report: Report) -> None:
    assert from_object(json.loads(status.report_as_json(report))) == report


def test_the_schema_of_version_1_stays() -> None:
    shown = json.loads(status.report_as_json(REPORT))
    assert shown.keys() == {"version", "bridge", "groups", "hosts"}
    assert shown["version"] == 1
    assert shown["bridge"] == {
        "name": "Homelab",
        "version": "1.2.3",
        "running_since_unix_seconds": NOW - 7300,
        "addresses": ["192.168.1.10", "fd00::1"],
        "port": 51826,
        "controllers": [
            {"id": PHONE, "admin": True, "connections": 1},
            {"id": "B", "admin": False, "connections": 0},
        ],
        "helper": "",
        "config": "",
        "pairing_refused": False,
        "storage": "",
        "network": "",
        "identity": "",
    }
    assert shown["groups"][1] == {
        "id": "files",
        "name": "File Server",
        "state": "partial",
        "since_unix_seconds": NOW - 5,
        "units": [
            {"unit": "smb.service", "load": "loaded", "active": "active", "sub": "running"},
            {"unit": "nmb.service", "load": "loaded", "active": "inactive", "sub": "dead"},
        ],
        "last_action": {
            "action": "start",
            "by": PHONE,
            "at_unix_seconds": NOW - 300,
            "outcome": "failed",
            "failure": "nmb.service failed",
            "duration_ms": 1234,
        },
        "commands": False,
        "why": "",
        "assumed": False,
        "momentary": False,
        "trouble": "",
        "trouble_since_unix_seconds": 0,
        "rule": "",
        "host": "",
        "group": "",
    }
    assert [group["state"] for group in shown["groups"]] == ["on", "partial", "unknown", "starting"]


def test_people_see_words() -> None:
    lines = printed(REPORT)
    assert lines[0] == "Homelab: running for 2 h, on 192.168.1.10, fd00::1, port 51826"
    assert lines[1] == "controllers: 2 paired, 1 connected: 8DE3A2C0"
    rows = [" ".join(line.split()) for line in lines[3:]]
    assert rows == [
        "group name state units last action",
        "web Web on httpd.service active (running)",
        (
            "files File Server partial 1/2 smb.service active (running) "
            "start 5 min ago by 8DE3A2C0, failed: nmb.service failed"
        ),
        "nmb.service inactive (dead)",
        "lamp Lamp unknown stop 1 s ago by user root, still running",
        "slow Slow [bold] starting 12 s restart 12 s ago, took 0.0 s",
    ]


@pytest.mark.parametrize(
    ("by", "shown"),
    [
        ("user 0", "user root"),
        ("user 4242424", "user 4242424"),
        (f"user {2**70}", f"user {2**70}"),
        ("user x", "user x"),
        (PHONE, "8DE3A2C0"),
    ],
)
def test_a_user_is_shown_by_name(by: str, shown: str) -> None:
    report = Report(BRIDGE, (LAMP._replace(last_action=LastAction(Action.STOP, by, NOW)),))
    assert printed(report)[-1].endswith(f"stop 0 s ago by {shown}, still running")


@pytest.mark.parametrize(
    ("bridge", "line"),
    [
        (
            None,
            "The daemon is not running; run `sudo systemctl start hkswitch`. These states come from systemd.",
        ),
        (
            BridgeReport("H", "1", NOW, (), 1, (), "sudo: a password is required"),
            "H: running for 0 s, no network yet",
        ),
        (BridgeReport("H", "1", NOW, (), 1, ()), "controllers: none paired; run `sudo hkswitch pair`"),
        (
            BridgeReport("H", "1", NOW, (), 1, (), "sudo: a password is required"),
            "helper: unavailable (sudo: a password is required); switches do not respond until it is back",
        ),
        (
            BridgeReport("H", "1", NOW, (), 1, (), network="waiting for eth9: there is no interface eth9"),
            "H: running for 0 s, waiting for eth9: there is no interface eth9",
        ),
        (BRIDGE._replace(network="waiting for eth9: it is down"), "network: waiting for eth9: it is down"),
        (
            BRIDGE._replace(config="config.yaml:1:1: no"),
            "configuration: not applied (config.yaml:1:1: no)",
        ),
        (BRIDGE._replace(storage="the disk is full"), "state: not written (the disk is full)"),
        (BRIDGE._replace(identity="another bridge has it"), "identity: another bridge has it"),
    ],
)
def test_what_is_missing_is_said(bridge: BridgeReport | None, line: str) -> None:
    assert line in printed(Report(bridge, (WEB,)))


def test_the_reason_of_a_missing_helper_is_printed_once() -> None:
    lines = printed(Report(BRIDGE._replace(helper="sudo: a password is required"), (AWAY,)))
    assert lines[-1] == "vpn: the helper is not running, see above"
    assert [line for line in lines if "a password is required" in line] == lines[2:3]


def test_people_see_why_a_group_is_unknown() -> None:
    other = AWAY._replace(id="other")
    rows = [" ".join(line.split()) for line in printed(Report(BRIDGE, (AWAY, other)))[4:]]
    assert rows == [
        "vpn VPN unknown",
        "other VPN unknown",
        "",
        "vpn, other: the helper is not running (sudo: a password is required)",
    ]


def test_people_see_hosts_first_and_then_the_groups_by_host() -> None:
    rows = [" ".join(line.split()) for line in printed(WITH_HOSTS)[3:]]
    assert rows == [
        "host destination connection round trip version",
        "nas root@nas.lan connected for 2 h 0.4 ms 1.2.3",
        "pi pi.lan not connected",
        "spare spare.lan not used: no group is on it",
        f"host pi: {REFUSED.problem}",
        "",
        "group name host state units last action",
        "web Web on httpd.service active (running)",
        "nas-media Media nas on plex.service active (running)",
        "door Door pi unknown",
        "gate Door pi unknown",
        "",
        "door, gate: the host pi is not connected, see above",
    ]


@pytest.mark.parametrize("width", [100, 60, 40])
def test_a_narrow_terminal_shows_each_host_and_where_its_groups_are(width: int) -> None:
    lines = printed(WITH_HOSTS, width)
    assert all(len(line) <= width for line in lines)
    words = " ".join(" ".join(lines).split())
    for text in ("root@nas.lan", "connected for 2 h", "not connected", "0.4 ms", "not used"):
        assert text in words
    is_table = any(line.startswith("group ") for line in lines)
    assert is_table or [line.strip() for line in lines if line.strip() in {"on nas", "on pi"}] == [
        *("on nas", "on pi", "on pi")
    ]


@pytest.mark.parametrize(
    ("groups", "hosts"),
    [
        ((), ["nas", "pi", "spare"]),
        (("nas-media",), ["nas"]),
        (("gate", "web"), ["pi"]),
        (("web",), []),
    ],
)
def test_the_hosts_of_the_chosen_groups_are_shown(groups: tuple[str, ...], hosts: list[str]) -> None:
    chosen = status.select_groups(WITH_HOSTS, groups)
    assert [host["name"] for host in json.loads(status.report_as_json(chosen))["hosts"]] == hosts
    assert any(line.split()[:2] == ["host", "destination"] for line in printed(chosen)) == bool(hosts)


def test_without_a_daemon_no_host_is_shown_as_away() -> None:
    for report in (status.without_daemon(WITH_HOSTS), WITH_HOSTS._replace(bridge=None)):
        assert "not connected  " not in "\n".join(printed(report))
        assert problems(report) == []
    told = json.loads(status.report_as_json(status.without_daemon(WITH_HOSTS)))
    assert {host["problem"] for host in told["hosts"]} == {"the daemon is not running"}
    assert {host["connected_since_unix_seconds"] for host in told["hosts"]} == {0}
    assert [(group["host"], group["group"]) for group in told["groups"]] == [
        *(("pi", "door"), ("nas", "media"), ("pi", "door"), ("", ""))
    ]


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        ((NAS, SPARE), []),
        ((NAS, REFUSED), ["host pi has a problem; run `sudo hkswitch host test pi`"]),
        (
            (NAS._replace(problem="it has no group 'media'"),),
            ["host nas has a problem; run `sudo hkswitch host test nas`"],
        ),
        (
            tuple(REFUSED._replace(name=f"h{at}") for at in range(MOST_HOSTS_NAMED + 2)),
            [
                *(f"host h{at} has a problem; run `sudo hkswitch host test h{at}`" for at in range(5)),
                "and 2 more of these; run `sudo hkswitch doctor`",
            ],
        ),
    ],
    ids=["none", "away", "group missing there", "many"],
)
def test_the_problems_name_each_host_once(hosts: tuple[HostReport, ...], said: list[str]) -> None:
    bridge = BRIDGE._replace(version=__version__)
    assert problems(WITH_HOSTS._replace(bridge=bridge, hosts=hosts)) == said


@pytest.mark.parametrize(
    ("group", "said"),
    [
        (MEDIA._replace(trouble="failed"), "on nas, run `sudo hkswitch logs media`"),
        (MEDIA._replace(units={"plex.service": LOST}), "there, run `sudo hkswitch doctor`"),
        (WEB._replace(trouble="failed"), "run `sudo hkswitch logs web`"),
    ],
)
def test_a_remedy_is_to_be_run_on_the_host_of_the_group(group: GroupReport, said: str) -> None:
    [problem] = problems(Report(None, (group,)))
    assert problem.endswith(f"; {said}")


def test_people_see_alerts_and_rules_below_the_groups() -> None:
    both = TROUBLED._replace(id="both", rule="gave up after 3 restarts within an hour")
    rows = [" ".join(line.split()) for line in printed(Report(BRIDGE, (AWAY, both, HUNGRY)))[4:]]
    assert rows == [
        "vpn VPN unknown",
        "both Web on httpd.service active (running)",
        ("files File Server partial 1/2 smb.service active (running) restart 5 min ago by rule, took 1.2 s"),
        "nmb.service inactive (dead)",
        "",
        f"vpn: {AWAY.why}",
        "both: alert for 12 min: web.service was killed by SIGKILL",
        "both: restart rule: gave up after 3 restarts within an hour",
        "files: restart rule: cpu 97 % for 120 of 180 s",
    ]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, []),
        (1, [0]),
        (MOST_TROUBLES_NAMED, range(MOST_TROUBLES_NAMED)),
        (MOST_TROUBLES_NAMED + 2, range(MOST_TROUBLES_NAMED)),
    ],
)
def test_the_problems_name_the_groups_in_trouble(number: int, said: Sequence[int]) -> None:
    groups = (WEB, *(TROUBLED._replace(id=f"g{at}") for at in range(number)))
    more = ["and 2 more of these; run `hkswitch alerts`"] if number > MOST_TROUBLES_NAMED else []
    named = [f"group g{at} is in trouble; run `sudo hkswitch logs g{at}`" for at in said]
    assert problems(Report(None, groups)) == [*named, *more]


@pytest.mark.parametrize(
    ("rule", "trouble", "said"),
    [
        (
            "gave up after 3 restarts within an hour",
            "",
            ["the rule of web gave up after 3 restarts within an hour"],
        ),
        ("gave up after 3 restarts within an hour", "it gave up", ["group web is in trouble"]),
        ("cpu 97 % for 120 of 180 s", "", []),
        ("cannot measure memory", "", []),
    ],
)
def test_the_problems_name_a_rule_that_gave_up_once(rule: str, trouble: str, said: list[str]) -> None:
    found = problems(Report(None, (WEB._replace(rule=rule, trouble=trouble),)))
    assert [line.partition(";")[0] for line in found] == said


@pytest.mark.parametrize(
    ("bridge", "why"),
    [
        (BRIDGE._replace(config="no [bold]"), "no [bold]"),
        (BRIDGE._replace(helper="gone"), "gone"),
        (BRIDGE._replace(storage="full"), "full"),
    ],
    ids=["config", "helper", "storage"],
)
def test_what_keeps_switches_from_working_is_red(bridge: BridgeReport, why: str) -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, color_system="standard", highlight=False, width=200)
    console.print(render.rendered(Report(bridge, ()), NOW, 200))
    red = [line for line in output.getvalue().splitlines() if line.startswith("\x1b[31m")]
    assert [why in line for line in red] == [True]


def test_people_see_the_last_report_of_a_daemon_that_went_away() -> None:
    lines = printed(REPORT, daemon_ended=True)
    assert lines[0].startswith("The daemon is not running; reconnecting.")
    assert lines[2:] == printed(REPORT)[3:]


@pytest.mark.parametrize(
    ("group", "state"),
    [
        (VM, "off"),
        (VM._replace(assumed=True), "off, assumed"),
        (VM._replace(momentary=True), "off, momentary"),
        (VM._replace(momentary=True, state=None), "unknown"),
    ],
)
def test_a_state_that_no_command_tells_is_marked(group: GroupReport, state: str) -> None:
    assert " ".join(printed(Report(BRIDGE, (group,)))[-1].split()) == f"vm VM {state}"


def test_words_of_a_newer_daemon_are_unknown_to_people() -> None:
    web = " ".join(printed(UNKNOWN)[-1].split())
    assert web == ("web Web unknown httpd.service active (running) unknown action 0 s ago, outcome unknown")


def test_a_daemon_that_went_away_leaves_its_groups_unknown_to_programs() -> None:
    shown = json.loads(status.report_as_json(status.without_daemon(Report(BRIDGE, (FILES, VM)))))
    nothing = {"state": "unknown", "since_unix_seconds": 0, "units": [], "last_action": None, "why": ""}
    nothing |= {"assumed": False, "momentary": False}
    nothing |= {"trouble": "", "trouble_since_unix_seconds": 0, "rule": "", "host": "", "group": ""}
    assert shown == {
        "version": 1,
        "bridge": None,
        "groups": [
            {"id": "files", "name": "File Server", "commands": False, **nothing},
            {"id": "vm", "name": "VM", "commands": True, **nothing},
        ],
        "hosts": [],
    }


@pytest.mark.parametrize("width", [80, 60])
def test_a_narrow_terminal_loses_no_letter_of_an_id(width: int) -> None:
    assert "files" in "".join(line[:5] for line in printed(REPORT, width))
    assert all(len(line) <= width for line in printed(REPORT, width))


@pytest.mark.parametrize("width", [200, 80, 60])
def test_a_narrow_terminal_breaks_the_reason_of_an_unknown_state_and_no_state(width: int) -> None:
    groups = (FILES, SLOW, AWAY._replace(why=f"{AWAY.why}: {'Z' * 300}"))
    lines = printed(Report(BRIDGE._replace(config="Y" * 300), groups), width)
    assert all(len(line) <= width for line in lines)
    assert sum(line.count("Y") for line in lines) == 300
    for state in ("partial 1/2", "starting 12 s", "unknown "):
        assert len([line for line in lines if state in f"{line} "]) == 1
    page_text = "".join(lines)
    assert page_text.count("Z") == 300
    assert all(word in page_text for word in AWAY.why.split())


@pytest.mark.parametrize(
    ("groups", "code"),
    [((), 0), (("web",), 0), (("files",), 3), (("lamp",), 69), (("web", "files"), 0), (("files", "web"), 0)],
)
@pytest.mark.parametrize("trouble", ["", "httpd.service failed"])
def test_one_group_is_an_exit_code(groups: tuple[str, ...], code: int, trouble: str) -> None:
    troubled = tuple(group._replace(trouble=trouble) for group in REPORT.groups)
    report = status.select_groups(REPORT._replace(groups=troubled), groups)
    assert [group.id for group in report.groups] == [*(groups or ("web", "files", "lamp", "slow"))]
    assert status.exit_code(report, groups) == code


@pytest.mark.parametrize(
    ("arguments", "is_plain"),
    [
        ((), True),
        (("--json",), True),
        (("web",), True),
        (("web", "files", "web"), True),
        (("--json", "web", "--json", ""), True),
        (("--json=1",), False),
        (("--js",), False),
        (("-",), False),
        (("web", "--", "--json"), False),
        (("--watch", "web"), False),
        (("--state-dir", "/", "web"), False),
        (("web", "-h"), False),
    ],
)
def test_plain_arguments_mean_what_they_mean_to_click(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], is_plain: bool
) -> None:
    shown: list[tuple[object, ...]] = []

    def show(*given: object, as_json: bool) -> Exit:
        shown.append((*given, as_json))
        return Exit.NOT_ON

    for module in (status, status_command):
        monkeypatch.setattr(module, "show", show)
    plain = status.plain(arguments)
    assert (plain is not None) is is_plain
    if plain is not None:
        assert plain() is Exit.NOT_ON
        assert CliRunner().invoke(commands, ["status", *arguments]).exit_code == Exit.NOT_ON
        assert shown == [shown[0]] * 2


@pytest.mark.parametrize("groups", [("none",), ("web", "WEB"), ("",)])
def test_what_is_no_group_is_64(groups: tuple[str, ...]) -> None:
    with pytest.raises(Failure, match="the groups are web, files, lamp, slow") as caught:
        status.select_groups(REPORT, groups)
    assert caught.value.exit_code is Exit.USAGE


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), 2),
        (("version",), True),
        (("bridge",), []),
        (("bridge", "name"), "\x1b]0;root\x07"),
        (("bridge", "addresses"), "192.168.1.10"),
        (("bridge", "addresses"), ["\x1b[2J"]),
        (("bridge", "port"), -1),
        (("bridge", "controllers"), {}),
        (("bridge", "helper"), None),
        (("bridge", "config"), None),
        (("bridge", "network"), None),
        (("bridge", "network"), "\x1b[2J"),
        (("bridge", "config"), "\x1b[2J"),
        (("bridge", "storage"), None),
        (("bridge", "storage"), "\x1b[2J"),
        (("groups", 0, "assumed"), 1),
        (("groups", 0, "momentary"), 1),
        (("bridge", "identity"), None),
        (("bridge", "identity"), "\x1b[2J"),
        (("groups", 0, "why"), 1),
        (("groups", 0, "why"), "a\nb"),
        (("groups", 0, "trouble"), None),
        (("groups", 0, "trouble"), "\x1b[2J"),
        (("groups", 0, "trouble"), "x" * 2001),
        (("groups", 0, "trouble_since_unix_seconds"), -1),
        (("groups", 0, "trouble_since_unix_seconds"), None),
        (("groups", 0, "rule"), 1),
        (("groups", 0, "rule"), "a\nb"),
        (("groups",), {}),
        (("groups", 0, "id"), "a\nb"),
        (("groups", 0, "state"), None),
        (("groups", 0, "state"), "\x1b[2J"),
        (("groups", 0, "commands"), "no"),
        (("groups", 0, "units"), [{"unit": "a"}]),
        (("groups", 0, "units"), [as_object(REPORT)["groups"][0]["units"][0]] * 2),
        (("groups", 0, "units", 0, "sub"), "\x1b[31m"),
        (("groups", 0, "last_action"), "start"),
        (("groups", 1, "last_action", "action"), 1),
        (("groups", 1, "last_action", "outcome"), None),
        (("groups", 1, "last_action", "failure"), "\x9b31m"),
        (("groups", 1, "last_action", "duration_ms"), 1.5),
    ],
    ids=str,
)
def test_what_is_no_report_is_refused(path: tuple[str | int, ...], value: object) -> None:
    body = as_object(REPORT)
    at = body
    for step in path[:-1]:
        at = at[step]  # type: ignore[index] # a list or an object
    at[path[-1]] = value  # type: ignore[index]
    with pytest.raises(MalformedMessage):
        from_object(body)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "a\nb"),
        ("name", None),
        ("ssh", "\x1b[2J"),
        ("ssh", 1),
        ("connected_since_unix_seconds", -1),
        ("connected_since_unix_seconds", "now"),
        ("round_trip_ms", True),
        ("round_trip_ms", -0.5),
        ("round_trip_ms", float("nan")),
        ("round_trip_ms", "1"),
        ("version", "\x1b]0;x\x07"),
        ("problem", "x" * 2001),
        ("problem", "a\nb"),
    ],
)
def test_what_is_no_host_is_refused(key: str, value: object) -> None:
    body = as_object(WITH_HOSTS)
    body["hosts"][1][key] = value
    with pytest.raises(MalformedMessage):
        from_object(body)


OBJECTS = [
    (),
    ("bridge",),
    ("bridge", "controllers", 0),
    ("groups", 1),
    ("groups", 1, "units", 1),
    ("groups", 1, "last_action"),
]
"""Every object in a report."""


@pytest.mark.parametrize("path", OBJECTS, ids=str)
def test_keys_of_a_newer_daemon_are_ignored_wherever_they_are(path: tuple[str | int, ...]) -> None:
    body = as_object(REPORT)
    of_newer: Any = body
    for step in path:
        of_newer = of_newer[step]
    of_newer["brand-new"] = {"\x1b[2J": [1]}
    assert from_object(body) == REPORT


OLDER_LACKS = {
    ("bridge", "config"),
    ("bridge", "identity"),
    ("bridge", "network"),
    ("bridge", "pairing_refused"),
    ("bridge", "storage"),
    ("groups", "assumed"),
    ("groups", "commands"),
    ("groups", "group"),
    ("groups", "host"),
    ("groups", "momentary"),
    ("groups", "rule"),
    ("groups", "trouble"),
    ("groups", "trouble_since_unix_seconds"),
    ("groups", "why"),
}
"""Keys that came after the first release of this version of the report."""


@pytest.mark.parametrize("path", OBJECTS, ids=str)
def test_every_key_of_this_version_is_needed_but_for_those_that_an_older_daemon_lacks(
    path: tuple[str | int, ...],
) -> None:
    of_ours: Any = as_object(REPORT)
    for step in path:
        of_ours = of_ours[step]
    for key in tuple(of_ours):
        body = as_object(REPORT)
        lacking: Any = body
        for step in path:
            lacking = lacking[step]
        del lacking[key]
        if (len(path) in {1, 2} and (path[0], key) in OLDER_LACKS) or (not path and key == "hosts"):
            assert from_object(body) == REPORT
            continue
        with pytest.raises(MalformedMessage, match=f"'{key}'"):
            from_object(body)


def test_words_of_a_newer_daemon_are_unknown() -> None:
    body = as_object(Report(None, (FILES,)))
    [group] = body["groups"]
    group["state"] = group["last_action"]["action"] = group["last_action"]["outcome"] = "brand-new"
    group["units"][0]["active"] = group["units"][1]["load"] = "brand-new"
    [known] = from_object(body).groups
    assert (known.state, known.last_action) == (
        None,
        FILES.last_action._replace(action=None, outcome=Outcome.UNKNOWN) if FILES.last_action else None,
    )
    assert known.units["smb.service"].active is ActiveState.UNKNOWN
    assert known.units["nmb.service"].load is LoadState.UNKNOWN
    assert json.loads(status.report_as_json(Report(None, (known,))))["groups"][0]["state"] == "unknown"


@pytest.mark.parametrize(
    ("group", "units"),
    [
        (VM, ("hkswitch-command-vm[.:]*",)),
        (VM._replace(state=None), ("hkswitch-command-vm[.:]*",)),
        (FILES._replace(units={"smb.service": UP, "nmb.service": FAILED}), ("nmb.service",)),
        (FILES._replace(units={"smb.service": FAILED, "nmb.service": FAILED}), ("nmb.service",)),
        (FILES._replace(units={"b.service": FAILED, "mb.service": FAILED}), ()),
        (FILES, ()),
        (LAMP, ()),  # a group of units that nothing is known of
        (WEB._replace(units={}), ()),
    ],
    ids=[
        "commands",
        "unknown commands",
        "one failed",
        "another had failed",
        "names in names",
        "none failed",
        "unknown",
        "no units",
    ],
)
def test_the_journals_of_what_failed_are_those_that_exist(group: GroupReport, units: tuple[str, ...]) -> None:
    failure = "start files failed: netatalk.service canceled, nmb.service exited with status 1"
    assert failed_units(group, failure) == units
