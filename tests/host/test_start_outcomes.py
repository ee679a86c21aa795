"""Outcomes of a start, with real units, as reported by the helper's command, by hkswitch, and to a phone.

Both commands watch a unit for a second after its job; a phone gets its response after 200 ms.
"""

import json
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Final, NamedTuple

import pytest
import yaml

from hkswitch.daemon.switchboard import NOTHING_RESTARTED
from hkswitch.protocol.helper import CONFIRM_MS
from tests.host.conftest import FAILURE
from tests.host.machine import ADDRESS, Host, eventually
from tests.support.controller import Controller

FOLDER: Final = "/usr/local/lib/systemd/system"
SLEEP: Final = "ExecStart=/bin/sleep infinity"
NOW_FAILS: Final = "/run/now-fails"
"""While this file exists, units that check for it fail to start."""
STOP_SCRIPT: Final = f"""
systemctl kill --signal=KILL $0 2>/dev/null || true # running ones
systemctl stop "$@"
systemctl reset-failed "$@" 2>/dev/null || true # loaded ones
rm -rf /run/first-* {NOW_FAILS}
"""


class Came(Enum):
    """The outcome of a start."""

    UP = "up"
    ENDED = "ended well"
    FAILED = "failed"


class Case(NamedTuple):
    """Unit files by name, of which the first `in_group` are in the group; and the outcome of its start."""

    id: str
    units: Mapping[str, str]
    came: Came
    told: str = ""
    """The reason of a failure, or the note about a unit that exited successfully."""
    phone: Came | None = None
    """The outcome for a phone, where it differs; the switch turns off a moment later."""
    in_group: int = 1

    @property
    def group_units(self) -> list[str]:
        return list(self.units)[: self.in_group]

    @property
    def note(self) -> str:
        """The note about a unit that exited successfully."""
        return f"{self.group_units[0]} {self.told} and is not running"


def service(*lines: str, unit: str = "", sleeps: bool = False) -> str:
    return "\n".join(("[Unit]", unit, "[Service]", *lines, *([SLEEP] if sleeps else []), ""))


def sh(script: str) -> str:
    return f"ExecStart=/bin/sh -c '{script}'"


def one(case_id: str, text: str, came: Came, told: str = "", phone: Came | None = None) -> Case:
    """Return a case with a single service."""
    unit = f"{case_id}.service"
    return Case(case_id, {unit: text}, came, f"{unit} {told}" if came is Came.FAILED else told, phone)


UP, ENDED, FAILED = Came.UP, Came.ENDED, Came.FAILED
STATUS_0, STATUS_1 = "exited with status 0", "exited with status 1"
NO_PROGRAM: Final = "ExecStart=/nonexistent/program"
NOT_EXECUTED: Final = "could not execute its program (status 203)"
NO_LIMIT: Final = "StartLimitIntervalSec=0"
STOPPED: Final = "was stopped: it is inactive (dead)"

SERVICES: Final = (
    one("simple", service(sleeps=True), UP),
    one("simple-missing", service(NO_PROGRAM), FAILED, NOT_EXECUTED),
    one("simple-exit-1", service(sh("exit 1")), FAILED, STATUS_1),
    one("simple-killed", service(sh("kill -9 $$$$")), FAILED, "was killed by SIGKILL"),
    one("simple-exit-0", service(sh("exit 0")), ENDED, STATUS_0),
    one("simple-daemonizes", service(sh("sleep 1000 & exit 0")), ENDED, STATUS_0),
    one("simple-dies-later", service(sh("sleep 0.4; exit 1")), FAILED, STATUS_1, phone=ENDED),
    one("simple-ends-later", service(sh("sleep 0.4")), ENDED, STATUS_0, phone=ENDED),
    one(
        "crash-loop",
        service("Restart=always", "RestartSec=0", sh("sleep 0.03; exit 1"), unit=NO_LIMIT),
        FAILED,
        STATUS_1,
    ),
    one(
        "crash-loop-of-successes",
        service("Restart=always", "RestartSec=0", sh("sleep 0.03"), unit=NO_LIMIT),
        FAILED,
        STATUS_0,
    ),
    one("slow-crash-loop", service("Restart=on-failure", "RestartSec=60", sh("exit 1")), FAILED, STATUS_1),
    one("remains", service("RemainAfterExit=yes", sh("exit 0")), UP),
    one("remains-not", service("RemainAfterExit=yes", sh("exit 1")), FAILED, STATUS_1),
    one("start-post", service("ExecStartPost=/bin/sleep 0.6", sleeps=True), UP),
    one(
        "start-post-dies", service("ExecStartPost=/bin/sleep 0.6", sh("sleep 0.1; exit 1")), FAILED, STATUS_1
    ),
    one(
        "start-post-fails",
        service("ExecStartPost=/bin/false", sleeps=True),
        FAILED,
        "ExecStartPost= exited with status 1",
    ),
    one(
        "start-pre-fails",
        service("ExecStartPre=/bin/false", sleeps=True),
        FAILED,
        "ExecStartPre= exited with status 1",
    ),
    one("stop-post", service("ExecStopPost=/bin/sleep 0.2", sh("exit 0")), ENDED, STATUS_0),
    one("stop-post-exit-1", service("ExecStopPost=/bin/sleep 0.2", sh("exit 1")), FAILED, STATUS_1),
    one("exec", service("Type=exec", sleeps=True), UP),
    one("exec-missing", service("Type=exec", NO_PROGRAM), FAILED, NOT_EXECUTED),
    one("exec-exit-1", service("Type=exec", sh("sleep 0.05; exit 1")), FAILED, STATUS_1),
    one("exec-exit-0", service("Type=exec", sh("exit 0")), ENDED, STATUS_0),
    one("idle", service("Type=idle", sleeps=True), UP),
    one("idle-exit-1", service("Type=idle", sh("exit 1")), FAILED, STATUS_1),
    one("forking", service("Type=forking", sh("sleep 1000 & exit 0")), UP),
    one(
        "forking-dies",
        service("Type=forking", sh("(sleep 0.05; exit 3) & exit 0")),
        FAILED,
        "exited with status 3",
    ),
    one(
        "notify",
        service("Type=notify", "NotifyAccess=all", sh("systemd-notify --ready; exec sleep 1000")),
        UP,
    ),
    one("notify-exit-1", service("Type=notify", sh("exit 1")), FAILED, STATUS_1),
    one(
        "notify-exit-0",
        service("Type=notify", sh("exit 0")),
        FAILED,
        "ended before it was ready",
    ),
    one("oneshot", service("Type=oneshot", sh("exit 0")), ENDED, STATUS_0),
    one("oneshot-fails", service("Type=oneshot", sh("exit 1")), FAILED, STATUS_1),
    one("oneshot-remains", service("Type=oneshot", "RemainAfterExit=yes", sh("exit 0")), UP),
    one(
        "too-slow",
        service("Type=oneshot", "TimeoutStartSec=0.2", sh("sleep 10")),
        FAILED,
        "took too long to start",
    ),
)

CONDITIONS: Final = (
    one("met", service(sleeps=True, unit="ConditionPathExists=/run"), UP),
    one(
        "unmet",
        service(sleeps=True, unit="ConditionPathExists=/nonexistent"),
        FAILED,
        "ConditionPathExists=/nonexistent was not met",
    ),
    one(
        "unmet-negated",
        service(sleeps=True, unit="ConditionPathExists=!/run"),
        FAILED,
        "ConditionPathExists=!/run was not met",
    ),
    one(
        "unmet-second",
        service(sleeps=True, unit="ConditionPathExists=/run\nConditionVirtualization=!yes"),
        FAILED,
        "ConditionVirtualization=!yes was not met",
    ),
    one(
        "unmet-triggers",
        service(sleeps=True, unit="ConditionPathExists=|/nonexistent\nConditionPathIsDirectory=|/dev/null"),
        FAILED,
        "ConditionPathIsDirectory=|/dev/null was not met, ConditionPathExists=|/nonexistent was not met",
    ),
    one("unmet-exec", service("ExecCondition=/bin/false", sleeps=True), FAILED, "ExecCondition= was not met"),
    one(
        "unmet-oneshot",
        service("Type=oneshot", sh("exit 0"), unit="ConditionPathExists=/nonexistent"),
        FAILED,
        "ConditionPathExists=/nonexistent was not met",
    ),
    Case(
        "unmet-target",
        {"unmet-target.target": "[Unit]\nConditionPathExists=/nonexistent\n"},
        FAILED,
        "unmet-target.target ConditionPathExists=/nonexistent was not met",
    ),
    Case(
        "unmet-assert",
        {"unmet-assert.service": service(sleeps=True, unit="AssertPathExists=/nonexistent")},
        FAILED,
        "unmet-assert.service AssertPathExists=/nonexistent was not met",
    ),
)

FAILS: Final = service(sh("sleep 0.5; exit 1"), unit=NO_LIMIT)

OTHERS: Final = (
    Case("target", {"target.target": "[Unit]\nWants=of-target.service\n", "of-target.service": FAILS}, UP),
    Case(
        "target-requires",
        {"strict.target": "[Unit]\nRequires=of-strict.service\n", "of-strict.service": FAILS},
        UP,
    ),
    Case(
        "target-oneshot",
        {
            "oneshots.target": "[Unit]\nRequires=of-oneshots.service\nAfter=of-oneshots.service\n",
            "of-oneshots.service": service("Type=oneshot", sh("exit 1")),
        },
        FAILED,
        "oneshots.target dependency",
    ),
    Case("socket", {"listens.socket": "[Socket]\nListenStream=/run/listens\n", "listens.service": FAILS}, UP),
    Case(
        "socket-fails",
        {"no-socket.socket": "[Socket]\nListenStream=/proc/none\n", "no-socket.service": FAILS},
        FAILED,
        "no-socket.socket failed",
    ),
    Case("timer", {"soon.timer": "[Timer]\nOnActiveSec=0\n", "soon.service": FAILS}, UP),
    Case(
        "timer-once",
        {
            "once.timer": "[Timer]\nOnActiveSec=0\nAccuracySec=1ms\nRemainAfterElapse=no\n",
            "once.service": service("Type=oneshot", sh("exit 0")),
        },
        UP,
        phone=ENDED,
    ),
    Case("path", {"watches.path": "[Path]\nPathExists=/run\n", "watches.service": FAILS}, UP),
    Case("mount", {"run-mounted.mount": "[Mount]\nWhat=tmpfs\nType=tmpfs\nWhere=/run/mounted\n"}, UP),
    Case(
        "mount-fails",
        {"run-unmounted.mount": "[Mount]\nWhat=/nonexistent\nType=ext4\nWhere=/run/unmounted\n"},
        FAILED,
        "run-unmounted.mount failed",
    ),
    Case("slice", {"sliced.slice": "[Slice]\n"}, UP),
)

UNDONE: Final = (
    Case(
        "bound",
        {
            "bound.service": service(sleeps=True, unit="BindsTo=dies.service\nAfter=dies.service"),
            "dies.service": service(sh("sleep 0.05; exit 1")),
        },
        FAILED,
        f"bound.service {STOPPED}",
    ),
    one("unneeded", service(sleeps=True, unit="StopWhenUnneeded=yes"), FAILED, STOPPED),
    Case(
        "conflicting",
        {
            "conflicting.service": service(sh("systemctl --no-block start enemy; exec sleep 1000")),
            "enemy.service": service(sleeps=True, unit="Conflicts=conflicting.service"),
        },
        FAILED,
        f"conflicting.service {STOPPED}",
    ),
    Case(
        "conflicting-soon",
        {
            "soon-conflicting.service": service(
                "ExecStartPre=/bin/systemctl --no-block start soon-enemy",
                "ExecStartPre=/bin/sleep 1000",
                SLEEP,
            ),
            "soon-enemy.service": service(sleeps=True, unit="Conflicts=soon-conflicting.service"),
        },
        FAILED,
        "soon-conflicting.service canceled",
    ),
    Case(
        "part-of-stopped",
        {
            "part.service": service(
                sh("systemctl --no-block stop whole; exec sleep 1000"), unit="PartOf=whole.service"
            ),
            "whole.service": service("RemainAfterExit=yes", "ExecStart=/bin/true"),
        },
        FAILED,
        f"part.service {STOPPED}",
    ),
    Case(
        "part-of-restarted",
        {
            "piece.service": service(
                sh("mkdir /run/first-piece && systemctl --no-block restart entire; exec sleep 1000"),
                unit="PartOf=entire.service",
            ),
            "entire.service": service("RemainAfterExit=yes", "ExecStart=/bin/true"),
        },
        UP,
    ),
    one(
        "stops-itself",
        service(sh("systemctl --no-block stop stops-itself; exec sleep 1000")),
        FAILED,
        STOPPED,
    ),
    one(
        "restarts-itself",
        service(
            sh("mkdir /run/first-self && systemctl --no-block restart restarts-itself; exec sleep 1000"),
        ),
        UP,
    ),
)

CASES: Final = (*SERVICES, *CONDITIONS, *OTHERS, *UNDONE)
ENEMIES: Final = Case(
    "enemies",
    {
        "cat.service": service(sleeps=True, unit="Conflicts=dog.service"),
        "dog.service": service(sleeps=True),
    },
    FAILED,
    in_group=2,
)

FAILS_LATER: Final = f"if test -e {NOW_FAILS}; then exit"
RESTARTS: Final = (
    one("again", service(sleeps=True), UP),
    one("again-exit-1", service(sh(f"{FAILS_LATER} 1; fi; exec sleep 1000")), FAILED, STATUS_1),
    one("again-exit-0", service(sh(f"{FAILS_LATER} 0; fi; exec sleep 1000")), ENDED, STATUS_0),
    one(
        "again-unmet",
        service(sleeps=True, unit=f"ConditionPathExists=!{NOW_FAILS}"),
        FAILED,
        f"ConditionPathExists=!{NOW_FAILS} was not met",
    ),
    one(
        "again-loop",
        service(
            *("Restart=always", "RestartSec=0"),
            sh(f"if test -e {NOW_FAILS}; then sleep 0.03; exit 1; fi; exec sleep 1000"),
            unit=NO_LIMIT,
        ),
        FAILED,
        STATUS_1,
    ),
    Case(
        "again-parts",
        {
            "body.service": service(sleeps=True),
            "arm.service": service(sleeps=True, unit="PartOf=body.service\nAfter=body.service"),
            "leg.service": service(sleeps=True, unit="PartOf=body.service"),
        },
        UP,
        in_group=3,
    ),
)

ALL: Final = (*CASES, ENEMIES, *RESTARTS)


@pytest.fixture(scope="module")
def config() -> str:
    groups = {
        case.id: {"name": case.id.replace("-", " "), "units": case.group_units, "restart": case in RESTARTS}
        for case in ALL
    }
    return yaml.safe_dump({"bridge": {"address": ADDRESS}, "groups": groups})


@pytest.fixture(scope="module", autouse=True)
def units(host: Host) -> Iterator[None]:
    """Writes the unit files of all cases."""
    files = {name: text for case in ALL for name, text in case.units.items()}
    for name, text in files.items():
        host.write(f"{FOLDER}/{name}", text)
    host.run("systemctl", "daemon-reload")
    yield
    host.run("rm", *(f"{FOLDER}/{name}" for name in files))
    host.run("systemctl", "daemon-reload")


@pytest.fixture(autouse=True)
def nothing_runs(units: None, host: Host, request: pytest.FixtureRequest) -> Iterator[None]:
    """Stops the units of the test's case, in whatever state they are."""
    case: Case = request.getfixturevalue("case")
    yield
    services = [unit for unit in case.units if unit.endswith(".service")]  # a mount must still be unmounted
    host.run("sh", "-ec", STOP_SCRIPT, " ".join(services), *case.units)


def each_of(*cases: Case) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case.id for case in cases])


def switch(case: Case) -> str:
    """Return the name of a case's switch."""
    return case.id.replace("-", " ")


def is_running(host: Host, case: Case) -> bool:
    """Return whether all units of the group are active."""
    states = host.run("systemctl", "is-active", *case.group_units, check=False).stdout.split()
    return set(states) == {"active"}


def last_action(host: Host, case: Case) -> dict[str, object]:
    """Return the last action according to `hkswitch status`."""
    report = json.loads(host.run("hkswitch", "status", case.id, "--json", check=False).stdout)
    (group,) = report["groups"]
    return dict(group["last_action"])


def by_root(host: Host, action: str, case: Case) -> tuple[int, str, str]:
    """Run the helper's command as root; return its exit code, standard output and standard error."""
    done = host.run("/usr/sbin/serviceswitch", action, case.id, check=False)
    return done.returncode, done.stdout, done.stderr


def by_the_daemon(host: Host, action: str, case: Case) -> tuple[int, str, str]:
    """Run hkswitch; return the same without the lines of the unit's journal."""
    done = host.run("hkswitch", action, case.id, check=False)
    told, _, _ = done.stderr.partition("Last lines of ")
    return done.returncode, done.stdout, told


def wanted_of_root(case: Case, action: str = "start") -> tuple[int, str, str]:
    match case.came:
        case Came.UP:
            return 0, "", ""
        case Came.ENDED:
            return 0, f"{case.note}\n", ""
        case Came.FAILED:
            return 69, "", f"serviceswitch: {action} {case.id} failed: {case.told}\n"


def wanted_of_the_daemon(case: Case, action: str = "start") -> tuple[int, str, str]:
    match case.came:
        case Came.UP:
            return 0, "", ""
        case Came.ENDED:
            return 0, "", f"{case.id}: {case.note}\n"
        case Came.FAILED:
            return 69, "", f"hkswitch: {action} {case.id} failed: {case.told}\n"


@each_of(*CASES)
def test_the_helpers_command_reports_the_outcome_of_a_start(daemon: Host, case: Case) -> None:
    assert by_root(daemon, "start", case) == wanted_of_root(case)
    assert is_running(daemon, case) or case.came is not UP or case.phone is ENDED


@each_of(*CASES)
def test_hkswitch_reports_the_outcome_of_a_start(daemon: Host, case: Case) -> None:
    assert by_the_daemon(daemon, "start", case) == wanted_of_the_daemon(case)
    action = last_action(daemon, case)
    wanted = ("failed", case.told) if case.came is FAILED else ("done", "")
    assert (action["outcome"], action["failure"]) == wanted


@each_of(*CASES)
async def test_a_phone_gets_the_outcome_of_a_start(daemon: Host, controller: Controller, case: Case) -> None:
    name = switch(case)
    await controller.until_on_is(name, on=False)
    status = await controller.write(name, on=True)
    match case.phone or case.came:
        case Came.UP:
            assert status == 0
            assert await controller.read(name) is True
        case Came.ENDED:
            assert status == 0
            assert await controller.event(name) is False
            assert await controller.read(name) is False
        case Came.FAILED:
            assert status == FAILURE
            assert await controller.read(name) is False


@each_of(*RESTARTS)
def test_the_helpers_command_reports_the_outcome_of_a_restart(daemon: Host, case: Case) -> None:
    run(daemon, case)
    assert by_root(daemon, "restart", case) == wanted_of_root(case, "restart")


@each_of(*RESTARTS)
def test_hkswitch_reports_the_outcome_of_a_restart(daemon: Host, case: Case) -> None:
    run(daemon, case)
    assert by_the_daemon(daemon, "restart", case) == wanted_of_the_daemon(case, "restart")


@each_of(*RESTARTS)
async def test_a_phone_gets_the_outcome_of_a_restart(
    daemon: Host, controller: Controller, case: Case
) -> None:
    name = switch(case)
    run(daemon, case)
    await controller.until_on_is(name, on=True)
    status = await controller.write(f"Restart {name}", on=True)
    assert status == (FAILURE if case.came is FAILED else 0)
    await controller.until_on_is(name, on=case.came is UP)
    assert await controller.read(f"Restart {name}") is False


def run(host: Host, case: Case) -> None:
    """Start the case's units, so that the next start behaves as the case describes."""
    host.run("systemctl", "start", *case.group_units)
    eventually(lambda: all(runs_sleep(host, unit) for unit in case.group_units))
    host.run("touch", NOW_FAILS)


def runs_sleep(host: Host, unit: str) -> bool:
    """Return whether a service has got past its check for the file."""
    return host.run("cat", f"/proc/{host.show(unit, 'MainPID')}/comm").stdout == "sleep\n"


@each_of(*RESTARTS[:2])
async def test_a_restart_of_stopped_units_succeeds_and_starts_nothing(daemon: Host, case: Case) -> None:
    assert by_root(daemon, "restart", case) == (0, "", "")
    assert by_the_daemon(daemon, "restart", case) == (0, "", f"{case.id}: {NOTHING_RESTARTED}\n")
    assert not is_running(daemon, case)


@each_of(*(case for case in CASES if case.id in {"simple", "timer", "slice"}))
def test_active_units_are_not_waited_for(daemon: Host, case: Case) -> None:
    daemon.run("systemctl", "start", *case.group_units)
    assert by_the_daemon(daemon, "start", case) == (0, "", "")
    took_ms = last_action(daemon, case)["duration_ms"]
    assert isinstance(took_ms, int)
    assert took_ms < CONFIRM_MS


@each_of(ENEMIES)
def test_units_of_one_group_that_conflict_are_a_failure(daemon: Host, case: Case) -> None:
    code, _, told = by_root(daemon, "start", case)
    assert code == 69
    assert told.startswith("serviceswitch: start enemies failed: ")


@each_of(SERVICES[2])
def test_the_last_lines_of_the_unit_follow_its_reason(daemon: Host, case: Case) -> None:
    done = daemon.run("hkswitch", "start", case.id, check=False)
    assert done.returncode == 69
    said = done.stderr.splitlines()
    assert said[:2] == [
        f"hkswitch: start {case.id} failed: {case.told}",
        f"Last lines of {case.group_units[0]}:",
    ]
    ends = [line for line in said[2:] if "Main process exited" in line]
    assert len(ends) == 1, "no lines of earlier runs"
