"""Alerts between a host and a display: what is shown, logged, kept over restarts, and run."""

import asyncio
import errno
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest

from hkswitch.backend.simulated import ACTIVE, FAILED, INACTIVE, SimulatedHost
from hkswitch.daemon import alerts as alerts_module
from hkswitch.daemon import kept_file
from hkswitch.daemon.alerts import Alerts
from hkswitch.daemon.kept_alerts import (
    ALERTS_FILE_NAME,
    LARGEST_ALERTS_BYTES,
    MOST_TROUBLES,
    KeptAlerts,
    alerts_file,
    parse_alerts,
)
from hkswitch.hap import state_file
from hkswitch.model.config import BridgeConfig, Config
from hkswitch.model.group import AlertSensor, Group, RestartWhen
from hkswitch.model.restart_rule_events import Armed, GaveUp
from hkswitch.model.switch_events import Observed
from hkswitch.model.trouble import PastTrouble, Trouble
from hkswitch.model.unit_state import Action, ActionResult, ProbeResult, Sample, UnitFailure
from tests.support.waiting import eventually

WEB: Final = Group("web", "Web", ("httpd.service",), alert=AlertSensor.CONTACT)
FILES: Final = Group("files", "Files", ("smb.service",), alert=AlertSensor.LEAK)
SILENT: Final = replace(WEB, alert=None)
RULED: Final = replace(WEB, restart_when=RestartWhen(cpu_percent=50))
KILLED: Final = UnitFailure("run 1", is_requested=False, reason="httpd.service was killed by SIGKILL")
STOPPED: Final = UnitFailure("run 1", is_requested=True, reason="httpd.service exited with status 143")
NOW: Final = 1_790_000_000
OPEN_WEB: Final = {
    "version": 1,
    "troubles": [["web", KILLED.reason, NOW, None]],
    "judged": {"web": {"httpd.service": [["run 1", False]]}},
    "rules": {},
}


@dataclass
class AlarmHost(SimulatedHost):
    """A host whose alert command may fail."""

    failure: str | None = None
    error: Exception | None = None
    may_end: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may_end.set()

    async def alert(self, group_id: str, state: str, reason: str) -> ActionResult:
        await super().alert(group_id, state, reason)
        await self.may_end.wait()
        if self.error is not None:
            raise self.error
        return ActionResult(self.failure)


@dataclass
class Alarm:
    """The alerts of one run of a daemon, with what they show."""

    folder: Path
    groups: tuple[Group, ...] = (WEB, FILES)
    command: tuple[str, ...] = ("/opt/notify",)
    shown: list[tuple[str, bool]] = field(default_factory=list)
    changes: int = 0

    def __post_init__(self) -> None:
        self.host = AlarmHost(self.groups)
        self.alerts = Alerts(self.config, self.host, self, alerts_file(self.folder))
        self.alerts.tell_of_changes(self.noticed)

    @property
    def config(self) -> Config:
        return Config(BridgeConfig(), self.groups, alert_command=self.command)

    def show_alert(self, group_id: str, *, detected: bool) -> None:
        self.shown.append((group_id, detected))

    def observed(self, group_id: str, observed: Observed) -> None:
        self.alerts.observed(group_id, observed)

    def sampled(self, group_id: str, sample: Sample) -> None:
        raise NotImplementedError

    def noticed(self) -> None:
        self.changes += 1

    async def reload(self, *groups: Group, command: tuple[str, ...] = ("/opt/notify",)) -> None:
        self.groups, self.command = groups, command
        self.alerts.regroup(self.config)
        await self.host.watch(groups)

    def fail(self, failure: UnitFailure = KILLED) -> None:
        self.host.fail("httpd.service", failure)

    def recover(self) -> None:
        self.host.change({"httpd.service": ACTIVE})

    @property
    def kept(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / ALERTS_FILE_NAME).read_bytes())
        return found

    @property
    def is_open(self) -> bool:
        return self.alerts.trouble_of("web") is not None


@asynccontextmanager
async def running(folder: Path, *groups: Group, **failures: UnitFailure) -> AsyncIterator[Alarm]:
    """A daemon's alerts, from its start to its end; what was kept is in the folder."""
    alarm = Alarm(folder, groups or (WEB, FILES))
    for name, failure in failures.items():
        alarm.host.states[f"{name}.service"] = FAILED
        alarm.host.failures[f"{name}.service"] = failure
    await alarm.host.open(alarm)
    try:
        yield alarm
    finally:
        await alarm.alerts.close()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: float(NOW))


@pytest.fixture
def well_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts_module, "WELL_SECONDS", 0.01)


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The contents that were written."""
    written: list[bytes] = []
    write = state_file.write_whole

    def note(path: Path, contents: bytes) -> None:
        written.append(contents)
        write(path, contents)

    monkeypatch.setattr(state_file, "write_whole", note)
    return written


def keep(folder: Path, contents: Mapping[str, Any] = OPEN_WEB) -> None:
    (folder / ALERTS_FILE_NAME).write_text(json.dumps(contents))


@pytest.mark.usefixtures("well_soon")
async def test_a_trouble_is_shown_logged_kept_and_told_to_the_command_and_so_is_its_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "hkswitch")
    async with running(tmp_path) as alarm:
        assert alarm.shown == [("web", False), ("files", False)]
        alarm.fail()
        assert alarm.shown[2:] == [("web", True)]
        assert alarm.kept == OPEN_WEB
        assert alarm.alerts.trouble_of("web") == Trouble(KILLED.reason, NOW)
        assert alarm.alerts.trouble_of("files") is None
        assert alarm.alerts.last() == (PastTrouble("web", KILLED.reason, NOW),)
        await eventually(lambda: alarm.host.alerts == [("web", "failed", KILLED.reason)])
        alarm.recover()
        await eventually(lambda: alarm.shown[3:] == [("web", False)])
        assert alarm.kept == OPEN_WEB | {"troubles": [["web", KILLED.reason, NOW, NOW]]}
        assert alarm.alerts.trouble_of("web") is None
        assert alarm.alerts.last() == (PastTrouble("web", KILLED.reason, NOW, NOW),)
        assert alarm.changes == 2
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", f"web: alert: {KILLED.reason}"),
        ("INFO", "web: alert ended"),
    ]
    assert len(alarm.host.alerts) == 1


async def test_the_file_is_the_owners_alone(tmp_path: Path) -> None:
    async with running(tmp_path) as alarm:
        alarm.fail()
    assert (tmp_path / ALERTS_FILE_NAME).stat().st_mode & 0o777 == 0o600


async def test_a_group_without_a_sensor_has_no_trouble_and_without_any_there_is_no_file(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, SILENT) as alarm:
        alarm.fail()
        alarm.alerts.request_failed("web", Action.START, "no")
        alarm.alerts.rule_decided("web", GaveUp("gave up", ""))
        assert (alarm.shown, alarm.alerts.last(), alarm.host.alerts) == ([], (), [])
    assert [*tmp_path.iterdir()] == []


async def test_a_request_and_a_rule_are_troubles_too(tmp_path: Path) -> None:
    async with running(tmp_path, RULED, FILES) as alarm:
        alarm.alerts.request_failed("files", Action.START, "smb.service timeout")
        alarm.alerts.rule_decided("web", GaveUp("gave up after 3 restarts within an hour", "cpu 97 %"))
        assert [(each.group_id, each.reason) for each in alarm.alerts.last()] == [
            ("files", "start failed: smb.service timeout"),
            ("web", "gave up after 3 restarts within an hour: cpu 97 %"),
        ]
        await eventually(lambda: [state for _, state, _ in alarm.host.alerts] == ["off", "off"])


@pytest.mark.usefixtures("well_soon")
async def test_a_rule_that_acts_again_is_the_end_of_its_trouble(tmp_path: Path) -> None:
    async with running(tmp_path, RULED) as alarm:
        alarm.recover()
        alarm.alerts.rule_decided("web", GaveUp("gave up", ""))
        alarm.recover()
        assert alarm.is_open
        alarm.alerts.rule_decided("web", Armed("started"))
        await eventually(lambda: not alarm.is_open)


async def test_a_check_has_the_groups_time_after_a_start(tmp_path: Path) -> None:
    checked = replace(WEB, check=("/opt/check",), timeout_seconds=0)
    async with running(tmp_path, checked) as alarm:
        alarm.host.tell("web", ProbeResult.OFF)
        alarm.recover()
        await eventually(lambda: alarm.alerts.trouble_of("web") == Trouble("the check fails", NOW))


async def test_an_unknown_state_has_a_word_for_the_command(tmp_path: Path) -> None:
    async with running(tmp_path) as alarm:
        alarm.host.lose()
        alarm.alerts.request_failed("web", Action.START, "no")
        await eventually(lambda: alarm.host.alerts == [("web", "unknown", "start failed: no")])


@pytest.mark.parametrize(
    ("reason", "plain"),
    [
        ("a\x1b[2J\nb", "a?[2J; b"),
        ("z" * 1000, "z" * 500),
        ("joined\u200d", "joined?"),
        ("half \ud800", "half ?"),
        ("naïve 日本", "naïve 日本"),
    ],
)
async def test_a_reason_is_one_line_that_the_helper_and_the_file_take(
    tmp_path: Path, reason: str, plain: str
) -> None:
    async with running(tmp_path) as alarm:
        alarm.fail(KILLED._replace(reason=reason))
        await eventually(lambda: alarm.host.alerts == [("web", "failed", plain)])
    assert alerts_file(tmp_path).read().troubles == (PastTrouble("web", plain, NOW),)


# The command


async def test_without_a_command_nothing_is_run_and_a_reload_sets_one(tmp_path: Path) -> None:
    async with running(tmp_path) as alarm:
        await alarm.reload(WEB, FILES, command=())
        alarm.fail()
        await alarm.reload(WEB, FILES)
        alarm.alerts.request_failed("files", Action.START, "no")
        await eventually(lambda: alarm.host.alerts == [("files", "off", "start failed: no")])


@pytest.mark.parametrize(
    ("failure", "error", "line"),
    [
        ("exited with status 1", None, "web: alert_command failed: exited with status 1"),
        (None, RuntimeError("a bug"), "web: alert_command failed: internal error: RuntimeError('a bug')"),
        (None, None, None),
    ],
)
async def test_a_command_that_fails_is_an_error_in_the_log(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    failure: str | None,
    error: Exception | None,
    line: str | None,
) -> None:
    async with running(tmp_path) as alarm:
        alarm.host.failure, alarm.host.error = failure, error
        for number in range(5):
            alarm.fail(KILLED._replace(run=f"run {number}"))
        await eventually(lambda: bool(alarm.host.alerts) and not alarm.alerts._commands)
    errors = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert errors == ([] if line is None else [line])


@pytest.mark.usefixtures("well_soon")
async def test_the_command_of_the_next_trouble_waits_for_that_of_the_last_one(tmp_path: Path) -> None:
    again = KILLED._replace(run="run 2", reason="httpd.service exited with status 2")
    async with running(tmp_path) as alarm:
        alarm.host.may_end.clear()
        alarm.fail()
        alarm.recover()
        await eventually(lambda: not alarm.is_open)
        alarm.fail(again)
        alarm.alerts.request_failed("files", Action.START, "no")  # another group's waits for none
        await eventually(lambda: [group_id for group_id, *_ in alarm.host.alerts] == ["web", "files"])
        alarm.host.may_end.set()
        await eventually(lambda: alarm.host.alerts[2:] == [("web", "failed", again.reason)])


# Over restarts


async def test_the_kept_verdict_is_shown_before_the_first_report(tmp_path: Path) -> None:
    keep(tmp_path)
    alarm = Alarm(tmp_path)
    assert alarm.shown == [("web", True), ("files", False)]
    assert alarm.alerts.trouble_of("web") == Trouble(KILLED.reason, NOW)
    await alarm.alerts.close()


@pytest.mark.parametrize("first", [KILLED, STOPPED])
async def test_a_restart_while_a_unit_is_failed_tells_nothing_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, first: UnitFailure
) -> None:
    async with running(tmp_path) as alarm:
        alarm.fail(first)
    caplog.clear()
    async with running(tmp_path, httpd=first._replace(is_requested=False)) as again:
        assert again.shown == [("web", first is KILLED), ("files", False)]
        assert (again.alerts.last(), again.host.alerts, caplog.messages) == (alarm.alerts.last(), [], [])
        again.host.fail("httpd.service", KILLED._replace(run="run 2"))
        assert again.is_open


@pytest.mark.usefixtures("well_soon")
async def test_a_trouble_that_was_kept_ends_when_the_group_was_well(tmp_path: Path) -> None:
    keep(tmp_path)
    async with running(tmp_path) as alarm:
        await eventually(lambda: not alarm.is_open)
    assert alarm.kept["troubles"] == [["web", KILLED.reason, NOW, NOW]]


async def test_the_clock_may_have_been_set_back_since_a_trouble_began(tmp_path: Path) -> None:
    keep(tmp_path, OPEN_WEB | {"troubles": [["web", "no", NOW + 1000, None]]})
    async with running(tmp_path, FILES) as alarm:
        assert alarm.alerts.last() == (PastTrouble("web", "no", NOW + 1000, NOW + 1000),)


async def test_of_many_troubles_the_last_are_kept_and_those_that_last(tmp_path: Path) -> None:
    rows = [["web", f"trouble {number}", number, number] for number in range(MOST_TROUBLES)]
    rows[0][3] = None
    keep(tmp_path, OPEN_WEB | {"troubles": rows})
    async with running(tmp_path) as alarm:
        alarm.alerts.request_failed("files", Action.START, "no")
        kept = [each.reason for each in alarm.alerts.last()]
        assert kept == ["trouble 0", *(f"trouble {number}" for number in range(2, 100)), "start failed: no"]


# Reloads


async def test_a_group_whose_sensor_is_removed_and_added_again_starts_without_trouble(tmp_path: Path) -> None:
    async with running(tmp_path) as alarm:
        alarm.fail()
        alarm.host.change({"httpd.service": INACTIVE})
        for without in (SILENT, None):
            await alarm.reload(*((FILES,) if without is None else (without, FILES)))
            assert alarm.alerts.trouble_of("web") is None
            assert alarm.kept["troubles"][0] == ["web", KILLED.reason, NOW, NOW]
            assert alarm.kept["judged"] == {}
            alarm.shown.clear()
            await alarm.reload(WEB, FILES)
            assert alarm.shown == [("web", False), ("files", False)]
        assert len(alarm.alerts.last()) == 1


@pytest.mark.parametrize(
    "changed",
    [
        replace(WEB, name="Website"),
        replace(WEB, alert=AlertSensor.LEAK),
        replace(WEB, units=("httpd.service", "php.service")),
    ],
)
async def test_a_changed_group_keeps_its_trouble(tmp_path: Path, changed: Group) -> None:
    async with running(tmp_path) as alarm:
        alarm.fail()
        alarm.shown.clear()
        await alarm.reload(FILES, changed)
        assert alarm.shown == [("files", False), ("web", True)]
        assert alarm.alerts.last() == (PastTrouble("web", KILLED.reason, NOW),)


@pytest.mark.usefixtures("well_soon")
async def test_a_reload_arms_no_rule(tmp_path: Path) -> None:
    async with running(tmp_path, RULED, FILES) as alarm:
        alarm.alerts.rule_decided("web", GaveUp("gave up", ""))
        await alarm.reload(replace(RULED, name="Website"), FILES)
        alarm.recover()
        alarm.alerts.request_failed("files", Action.START, "no")
        await eventually(lambda: alarm.alerts.trouble_of("files") is None)
        assert alarm.is_open


async def test_a_group_that_is_removed_leaves_no_timer(tmp_path: Path) -> None:
    async with running(tmp_path) as alarm:
        alarm.alerts.request_failed("web", Action.START, "no")
        assert len(alarm.alerts._timers._timers) == 1
        await alarm.reload(FILES)
        assert alarm.alerts._timers._timers == {}


async def test_after_its_end_nothing_runs_or_is_told_any_more(tmp_path: Path) -> None:
    async with running(tmp_path) as alarm:
        alarm.alerts.request_failed("web", Action.START, "no")
        alarm.fail(STOPPED)
    assert alarm.alerts._timers._timers == {}
    assert asyncio.all_tasks() == {asyncio.current_task()}
    alarm.shown.clear()
    alarm.alerts.request_failed("files", Action.START, "no")
    assert (alarm.shown, alarm.alerts._timers._timers, alarm.alerts._writing) == ([], {}, None)


# Writes


async def test_a_crash_loop_is_one_write_and_its_last_run_is_kept(
    tmp_path: Path, writes: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts_module, "WRITE_RUNS_SECONDS", 0)
    async with running(tmp_path) as alarm:
        for number in range(100):
            alarm.fail(KILLED._replace(run=f"run {number}"))
            await asyncio.sleep(0)
            alarm.recover()
            await asyncio.sleep(0)
        assert len(writes) == 1
    assert len(writes) == 2
    assert ["run 99", False] in alarm.kept["judged"]["web"]["httpd.service"]


async def test_a_storm_of_requested_failures_is_one_write_and_its_last_run_is_kept(
    tmp_path: Path, writes: list[bytes]
) -> None:
    async with running(tmp_path) as alarm:
        for number in range(200):
            alarm.fail(STOPPED._replace(run=f"run {number}"))
            alarm.recover()
        assert writes == []
    assert len(writes) == 1
    async with running(tmp_path, httpd=KILLED._replace(run="run 199")) as again:
        assert again.alerts.last() == ()


async def test_a_judged_run_is_written_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts_module, "WRITE_RUNS_SECONDS", 0.01)
    async with running(tmp_path) as alarm:
        alarm.fail(STOPPED)
        await eventually((tmp_path / ALERTS_FILE_NAME).exists)
        assert alarm.kept["judged"] == {"web": {"httpd.service": [["run 1", True]]}}


async def test_a_start_that_changes_nothing_writes_nothing(tmp_path: Path, writes: list[bytes]) -> None:
    keep(tmp_path)
    async with running(tmp_path, httpd=KILLED) as alarm:
        await alarm.reload(WEB, FILES)
    assert writes == []


async def test_what_cannot_be_written_is_written_later_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_file, "WRITE_AGAIN_SECONDS", 0.01)
    keep(tmp_path, {"version": 1, "troubles": [], "judged": {}, "rules": {}})
    with monkeypatch.context() as full:

        def fail(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        full.setattr(state_file, "write_whole", fail)
        alarm = Alarm(tmp_path)
        await alarm.host.open(alarm)
        alarm.fail()
        file = tmp_path / ALERTS_FILE_NAME
        assert caplog.messages[:1] == [f"cannot write {file}: {os.strerror(errno.ENOSPC)}"]
        assert alarm.shown[-1] == ("web", True)
        assert alarm.kept["troubles"] == []  # the older verdict is better than none
    await eventually(lambda: alarm.kept == OPEN_WEB)
    await alarm.alerts.close()


async def test_what_is_too_large_to_be_read_again_is_not_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, RULED) as alarm:
        alarm.alerts.kept_rules = {"web": {"restarts": "x" * LARGEST_ALERTS_BYTES}}
        assert not (tmp_path / ALERTS_FILE_NAME).exists()
        alarm.alerts.kept_rules = {"web": {"restarts": 1}}
    assert alarm.kept["rules"] == {"web": {"restarts": 1}}
    assert "too large" in caplog.messages[0]


# The rules' states


async def test_the_states_of_rules_are_kept_as_they_are_while_their_rules_last(
    tmp_path: Path, writes: list[bytes]
) -> None:
    state = {"restarts_at_seconds": [1.5, 2.5], "gave_up": {"reason": "memory"}, "none": None}
    async with running(tmp_path, RULED, FILES) as alarm:
        assert alarm.alerts.kept_rules == {}
        alarm.alerts.kept_rules = {"web": state}
        alarm.alerts.kept_rules = {"web": state}
        assert len(writes) == 1
    async with running(tmp_path, RULED, FILES) as again:
        assert again.alerts.kept_rules == {"web": state}
        await again.reload(replace(RULED, alert=None), FILES)
        assert again.alerts.kept_rules == {"web": state}
        await again.reload(WEB, FILES)
        assert again.alerts.kept_rules == {}
    assert again.kept["rules"] == {}


# The file

SOUND: Final[dict[str, Mapping[str, Any]]] = {
    "as written": OPEN_WEB,
    "nothing": {"version": 1, "troubles": [], "judged": {}, "rules": {}},
    "a key of a later version": OPEN_WEB | {"moon": 1},
    "one group after the other": OPEN_WEB | {"troubles": [["web", "no", 1, 2], ["web", "no", 3, None]]},
    "two groups at once": OPEN_WEB | {"troubles": [["files", "no", 1, None], ["web", "no", 3, None]]},
}


def with_trouble(*row: object) -> Mapping[str, Any]:
    return OPEN_WEB | {"troubles": [row]}


def with_runs(runs: object) -> Mapping[str, Any]:
    return OPEN_WEB | {"judged": {"web": runs}}


DAMAGED: Final[dict[str, Mapping[str, Any]]] = {
    "a later version": OPEN_WEB | {"version": 2},
    "no troubles": {key: value for key, value in OPEN_WEB.items() if key != "troubles"},
    "troubles by group": OPEN_WEB | {"troubles": {}},
    "two troubles of a group at once": OPEN_WEB | {"troubles": [["web", "no", 1, None]] * 2},
    "no reason": with_trouble("web", None, 1, None),
    "a group with an escape sequence": with_trouble("\x1b[2J", "no", 1, None),
    "a reason with an escape sequence": with_trouble("web", "\x1b[2J", 1, None),
    "a reason that is too long": with_trouble("web", "n" * 501, 1, None),
    "a time that is true": with_trouble("web", "no", True, None),
    "a time that is text": with_trouble("web", "no", "1", None),
    "a time below zero": with_trouble("web", "no", -1, None),
    "a huge time": with_trouble("web", "no", 1, 2**53 + 1),
    "an end that is false": with_trouble("web", "no", 1, False),
    "a trouble that is cut off": with_trouble("web", "no", 1),
    "runs in a list": with_runs([]),
    "runs that are none": with_runs({"httpd.service": [1]}),
    "a run that is too long": with_runs({"httpd.service": [["r" * 257, False]]}),
    "a run with a number": with_runs({"httpd.service": [["run", 1]]}),
    "too many runs": with_runs({"httpd.service": [["run", False]] * 5}),
    "a judged group that is none": OPEN_WEB | {"judged": {"\x1b": {}}},
    "a rule that is text": OPEN_WEB | {"rules": {"web": "x"}},
    "a rule of no group": OPEN_WEB | {"rules": {"": {}}},
}


@pytest.mark.parametrize("what", SOUND)
def test_sound_contents_are_read(what: str) -> None:
    assert parse_alerts(json.dumps(SOUND[what]).encode()).judged.keys() <= {"web"}


@pytest.mark.parametrize(
    "contents",
    [*(json.dumps(each).encode() for each in DAMAGED.values()), b"", b"{", b"[]", b"\xff", b"[" * 60_000],
    ids=[*DAMAGED, "empty", "cut off", "a list", "not UTF-8", "nested"],
)
async def test_a_damaged_file_is_logged_and_forgotten(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, contents: bytes
) -> None:
    file = tmp_path / ALERTS_FILE_NAME
    file.write_bytes(contents)
    async with running(tmp_path) as alarm:
        assert caplog.messages == [
            f"{file} is damaged; all sensors are closed, and the last alerts are forgotten"
        ]
        assert alarm.shown == [("web", False), ("files", False)]
        alarm.fail()
    assert alarm.kept == OPEN_WEB


async def test_a_file_that_is_too_large_is_damaged(tmp_path: Path) -> None:
    (tmp_path / ALERTS_FILE_NAME).write_bytes(json.dumps(OPEN_WEB).encode().ljust(LARGEST_ALERTS_BYTES))
    assert alerts_file(tmp_path).read() == KeptAlerts()


@pytest.mark.parametrize(
    "make",
    [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero"), lambda path: path.symlink_to(path)],
    ids=["FIFO", "folder", "device", "loop"],
)
async def test_what_is_no_file_delays_no_start_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make: Callable[[Path], object]
) -> None:
    make(tmp_path / ALERTS_FILE_NAME)
    assert alerts_file(tmp_path).read() == KeptAlerts()
    assert [message.partition(":")[0] for message in caplog.messages] == [
        f"cannot read {tmp_path / ALERTS_FILE_NAME}"
    ]
