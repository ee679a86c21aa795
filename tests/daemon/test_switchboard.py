"""The switchboard between a host and a display that do what a test says."""

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace

import pytest

from hkswitch.backend.simulated import ACTIVE, INACTIVE, SimulatedHost
from hkswitch.daemon import switchboard as switchboard_module
from hkswitch.daemon.requests import Write
from hkswitch.daemon.switchboard import GROUP_REMOVED, NOTHING_RESTARTED, GroupNote, Switchboard
from hkswitch.model.errors import Failure
from hkswitch.model.group import Commands, Group
from hkswitch.model.switch_events import Observed, RequestOrigin, Tile
from hkswitch.model.trouble import Trouble
from hkswitch.model.unit_state import Action, ActionResult, GroupState, ProbeResult
from hkswitch.protocol.report import GroupReport, Outcome
from tests.support.waiting import PATIENCE_SECONDS, eventually

WEB = Group("web", "Web", ("httpd.service",))
FILES = Group("files", "Files", ("smb.service",))
DOWN = Observed({"httpd.service": INACTIVE})
UP = Observed({"httpd.service": ACTIVE})


@dataclass
class Asked:
    """A request that the host was handed, and what a test makes of it."""

    action: Action
    group_id: str
    accept: Callable[[], None]
    origin: RequestOrigin
    ended: "asyncio.Future[ActionResult]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def end(self, result: ActionResult | Exception) -> None:
        if isinstance(result, Exception):
            self.ended.set_exception(result)
        else:
            self.ended.set_result(result)


@dataclass
class ScriptedHost(SimulatedHost):
    """Does nothing but note what it is asked for."""

    asked: list[Asked] = field(default_factory=list)

    async def request(
        self,
        action: Action,
        group_id: str,
        accepted: Callable[[], None],
        origin: RequestOrigin = RequestOrigin.CONTROLLER,
    ) -> ActionResult:
        asked = Asked(action, group_id, accepted, origin)
        self.asked.append(asked)
        return await asked.ended


@dataclass
class NotedDisplay:
    """What controllers would see."""

    shown: list[tuple[str, bool, Hashable | None]] = field(default_factory=list)
    available: dict[str, bool] = field(default_factory=dict)

    def show(self, group_id: str, tile: Tile, writer: Hashable | None, *, on: bool) -> None:
        assert tile is Tile.GROUP
        self.shown.append((group_id, on, writer))

    def set_available(self, group_id: str, *, available: bool) -> None:
        self.available[group_id] = available


def written(
    switches: Switchboard, group_id: str, writer: str = "phone", *, on: bool, by: str = "A"
) -> asyncio.Future[bool]:
    """Write On of a group; return the answer."""
    answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    switches.write(Write(group_id, by, writer, respond=answer.set_result), Tile.GROUP, on=on)
    return answer


@dataclass
class Board:
    """A switchboard with a group that is off."""

    host: ScriptedHost
    display: NotedDisplay
    switches: Switchboard
    went_wrong: list[tuple[str, Action, str]]

    @classmethod
    def made(cls) -> "Board":
        host, display = ScriptedHost((WEB,)), NotedDisplay()
        wrong: list[tuple[str, Action, str]] = []
        switches = Switchboard((WEB,), host, display, lambda *failed: wrong.append(failed))
        own = cls(host, display, switches, wrong)
        own.switches.observed("web", DOWN)
        display.shown.clear()
        return own

    def tap(self, *, on: bool = True, writer: str = "phone") -> "asyncio.Future[bool]":
        return written(self.switches, "web", writer, on=on)

    def act(
        self, action: Action = Action.START, begun: Callable[[], None] = lambda: None
    ) -> "asyncio.Task[ActionResult]":
        return asyncio.create_task(self.switches.act(action, "web", "user 0", begun))

    async def asked(self, count: int = 1) -> Asked:
        """The newest of so many requests."""
        await eventually(lambda: len(self.host.asked) == count)
        return self.host.asked[-1]

    @property
    def report(self) -> GroupReport:
        [report] = self.switches.report()
        return report


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write is not answered because its time is over, but for a reason of a test."""
    monkeypatch.setattr(switchboard_module, "WRITE_TIMEOUT_SECONDS", 2 * PATIENCE_SECONDS)


@pytest.mark.parametrize(
    ("note", "reported"),
    [
        (GroupNote(), ("", 0, "")),
        (GroupNote(Trouble("httpd.service failed", 7)), ("httpd.service failed", 7, "")),
        (GroupNote(rule="gave up"), ("", 0, "gave up")),
    ],
)
async def test_a_report_has_the_trouble_and_the_rule_of_a_group(
    note: GroupNote, reported: tuple[str, int, str]
) -> None:
    board = Board.made()
    [report] = board.switches.report({"web": note}.__getitem__)
    assert (report.trouble, report.trouble_since_unix_seconds, report.rule) == reported


async def test_a_rule_is_the_one_that_requested_the_last_action() -> None:
    board = Board.made()
    board.switches.observed("web", UP)
    acting = asyncio.create_task(board.switches.act(Action.RESTART, "web", "rule", origin=RequestOrigin.RULE))
    (await board.asked()).end(ActionResult())
    await acting
    last = board.report.last_action
    assert last is not None
    assert (last.action, last.by) == (Action.RESTART, "rule")


async def test_a_tap_on_a_group_that_a_reload_removes_is_answered_at_once() -> None:
    board = Board.made()
    taps = [board.tap(), board.tap(writer="tablet")]
    await board.asked()
    board.switches.regroup((FILES,))
    assert await asyncio.wait_for(asyncio.gather(*taps), PATIENCE_SECONDS) == [False, False]
    await board.switches.close()


async def test_an_action_on_a_group_that_a_reload_removes_says_so_at_once() -> None:
    board = Board.made()
    begun: list[str] = []
    acting = board.act(begun=lambda: begun.append("begun"))
    asked = await board.asked()
    board.switches.regroup(())
    assert await asyncio.wait_for(acting, PATIENCE_SECONDS) == ActionResult(
        "the group was removed from the configuration"
    )
    assert ActionResult(GROUP_REMOVED) == acting.result()
    asked.accept()
    assert begun == []  # nobody is there any more to be told
    await board.switches.close()


async def test_what_a_removed_group_was_said_not_to_do_is_not_done() -> None:
    board = Board.made()
    acting = board.act()
    asked = await board.asked()
    board.switches.regroup(())
    assert await acting == ActionResult(GROUP_REMOVED)
    await eventually(asked.ended.cancelled)
    await board.switches.close()


async def test_nothing_is_begun_any_more_when_the_daemon_is_about_to_end() -> None:
    board = Board.made()
    await board.switches.close()
    assert await written(board.switches, "web", on=True) is False
    with pytest.raises(Failure):
        await board.switches.act(Action.START, "web", "user 0", lambda: None)
    assert board.host.asked == []


async def test_an_action_that_was_begun_on_a_group_that_is_removed_goes_on_and_tells_no_one() -> None:
    board = Board.made()
    acting = board.act()
    asked = await board.asked()
    asked.accept()
    board.switches.regroup(())
    await asyncio.wait_for(acting, PATIENCE_SECONDS)
    assert not asked.ended.done()
    asked.end(ActionResult("no"))
    board.switches.observed("web", UP)
    await board.switches.close()
    assert board.display.shown == []


@pytest.mark.parametrize("result", [ActionResult(), ActionResult("boom")], ids=str)
async def test_a_group_that_was_removed_and_added_again_is_not_settled_by_its_old_end(
    result: ActionResult,
) -> None:
    board = Board.made()
    old_tap = board.tap()
    old = await board.asked()
    old.accept()
    board.switches.regroup(())
    board.switches.regroup((WEB,))
    board.switches.observed("web", DOWN)
    report = board.report
    assert report.last_action is None
    board.display.shown.clear()
    tap = board.tap()
    new = await board.asked(2)
    old.end(result)
    await asyncio.wait([old_tap], timeout=PATIENCE_SECONDS)
    await asyncio.sleep(0)
    assert not tap.done()
    assert board.display.shown == []
    last = board.report.last_action
    assert last is not None
    assert last.outcome is Outcome.RUNNING
    board.switches.observed("web", UP)
    new.end(ActionResult())
    assert await tap is True
    assert board.display.shown == [("web", True, "phone")]
    await board.switches.close()


async def test_a_group_that_stays_keeps_its_request() -> None:
    board = Board.made()
    acting = board.act()
    asked = await board.asked()
    board.switches.regroup((FILES, replace(WEB, name="Website")))
    asked.end(ActionResult(None, "fine"))
    assert await acting == ActionResult(None, "fine")
    await board.switches.close()


@pytest.mark.parametrize("result", [ActionResult(), ActionResult("httpd.service failed")], ids=str)
async def test_one_request_serves_two_that_want_the_same(result: ActionResult) -> None:
    board = Board.made()
    begun: list[str] = []
    tap = board.tap()
    asked = await board.asked()
    first = board.act(begun=lambda: begun.append("first"))
    await eventually(lambda: len(asyncio.all_tasks()) == 3)
    await asyncio.sleep(0)
    assert begun == []
    asked.accept()
    assert begun == ["first"]
    late = board.act(begun=lambda: begun.append("late"))
    await eventually(lambda: begun == ["first", "late"])
    assert len(board.host.asked) == 1
    asked.end(result)
    assert (await tap, await first, await late) == (result.failure is None, result, result)
    last = board.report.last_action
    assert last is not None
    assert (last.by, last.failure) == ("A", result.failure or "")
    await board.switches.close()


async def test_a_person_is_told_more_than_a_phone_has_time_for() -> None:
    board = Board.made()
    acting = board.act()
    assert (await board.asked()).origin is RequestOrigin.USER
    tap = board.tap(on=False)
    assert (await board.asked(2)).origin is RequestOrigin.CONTROLLER
    await board.switches.close()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await tap is False
        await asyncio.wait([acting])


@pytest.mark.parametrize("action", [Action.START, Action.STOP])
@pytest.mark.parametrize(
    ("result", "is_told"),
    [
        (ActionResult("httpd.service timeout", went_wrong=True), True),
        (ActionResult("denied: no"), False),
        (ActionResult(None, "fine"), False),
        (ActionResult(superseded=True), False),
        (RuntimeError("a bug"), False),
    ],
    ids=str,
)
async def test_of_failures_those_that_went_wrong_on_the_host_are_told(
    action: Action, result: ActionResult | Exception, is_told: bool
) -> None:
    board = Board.made()
    tap = board.tap(on=action is Action.START)
    (await board.asked()).end(result)
    await tap
    assert board.went_wrong == ([("web", action, "httpd.service timeout")] if is_told else [])


@pytest.mark.parametrize("groups", [(), (WEB,)], ids=["removed", "still there"])
async def test_what_becomes_of_a_request_that_was_replaced_or_whose_group_was_removed_is_not_told(
    groups: tuple[Group, ...],
) -> None:
    board = Board.made()
    tap, start = board.tap(), await board.asked()
    start.accept()
    newer = board.tap(on=False) if groups else None
    if newer is not None:
        await board.asked(2)
    board.switches.regroup(groups)
    start.end(ActionResult("httpd.service failed", went_wrong=True))
    await tap
    await asyncio.sleep(0)
    assert board.went_wrong == []
    await board.switches.close()
    await asyncio.gather(*([newer] if newer else []))


async def test_a_newer_action_replaces_an_older_one() -> None:
    board = Board.made()
    starting = board.act()
    start = await board.asked()
    stopping = board.act(Action.STOP)
    stop = await board.asked(2)
    start.end(ActionResult("canceled"))
    with pytest.raises(Failure):
        await starting
    stop.end(ActionResult())
    assert await stopping == ActionResult()
    await board.switches.close()


async def test_an_action_that_was_replaced_is_no_success_of_a_group_that_was_removed() -> None:
    board = Board.made()
    starting, start = board.act(), await board.asked()
    stopping, _ = board.act(Action.STOP), await board.asked(2)
    board.switches.regroup([])
    start.end(ActionResult())
    with pytest.raises(Failure):
        await starting
    assert await stopping == ActionResult(GROUP_REMOVED)
    await board.switches.close()


async def test_what_does_not_exist_cannot_be_switched() -> None:
    board = Board.made()
    with pytest.raises(Failure, match=r"^there is no group 'files'; the groups are web$"):
        await board.switches.act(Action.START, "files", "user 0", lambda: None)
    assert await written(board.switches, "files", on=True) is False
    assert board.host.asked == []


async def test_a_defect_of_the_host_is_the_end_of_a_request(caplog: pytest.LogCaptureFixture) -> None:
    board = Board.made()
    tap, acting = board.tap(), board.act()
    (await board.asked()).end(RuntimeError("a bug"))
    assert await tap is False
    assert await acting == ActionResult("internal error: RuntimeError('a bug')")
    assert "a bug" in caplog.text
    await board.switches.close()


async def test_the_end_answers_what_is_under_way_and_what_was_replaced() -> None:
    board = Board.made()
    tap, acting = board.tap(), board.act()
    await board.asked()
    newer = board.act(Action.STOP)
    await board.asked(2)
    await board.switches.close()
    assert await tap is False
    for ended in (acting, newer):
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(ended, PATIENCE_SECONDS)


@pytest.mark.parametrize(
    ("observed", "state", "why"),
    [
        (Observed(None, None, "no helper"), None, "no helper"),
        (Observed({}, ProbeResult.UNAVAILABLE, "no program"), None, "no program"),
        (UP._replace(why="said yes"), GroupState.ON, ""),
    ],
    ids=["nothing known", "unit not told", "known"],
)
async def test_a_report_says_why_a_state_is_not_known(
    observed: Observed, state: GroupState | None, why: str
) -> None:
    board = Board.made()
    board.switches.observed("web", observed)
    assert (board.report.state, board.report.why) == (state, why)


@pytest.mark.parametrize("commands", [None, Commands(("/a",), ("/b",), ("/c",))])
async def test_a_report_says_which_groups_are_of_commands(commands: Commands | None) -> None:
    group = replace(WEB, units=() if commands else WEB.units, commands=commands)
    switches = Switchboard((group,), ScriptedHost((group,)), NotedDisplay())
    assert [report.commands for report in switches.report()] == [commands is not None]


@pytest.mark.parametrize(
    ("observed", "line"),
    [
        (Observed(None, None, "no helper"), "web: unknown: no helper"),
        (Observed(None), "web: unknown"),
        (UP, "web: on"),
    ],
    ids=str,
)
async def test_a_change_is_a_line_in_the_log(
    observed: Observed, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    board = Board.made()
    caplog.set_level("INFO", "hkswitch")
    board.switches.observed("web", observed)
    board.switches.observed("web", observed)
    assert caplog.messages == [line]


@pytest.mark.parametrize(
    ("before", "later", "failure", "note"),
    [
        (DOWN, DOWN, None, NOTHING_RESTARTED),
        (DOWN, UP, None, ""),  # an earlier start has come first
        (UP, DOWN, None, ""),  # it was restarted, and has ended since
        (UP, UP, None, ""),
        (DOWN, DOWN, "the helper is gone", ""),
    ],
)
async def test_a_restart_that_had_nothing_to_restart_says_so(
    before: Observed, later: Observed, failure: str | None, note: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Board.made()
    monkeypatch.setattr(board.display, "show", lambda *_, **__: None)  # it is another tile
    board.switches.observed("web", before)
    acting = board.act(Action.RESTART)
    asked = await board.asked()
    board.switches.observed("web", later)
    asked.end(ActionResult(failure))
    assert await acting == ActionResult(failure, note)


@pytest.mark.parametrize(
    ("commands", "allowed"),
    [
        (Commands(start=("/opt/tv",)), Action.START),
        (Commands(stop=("/opt/tv",)), Action.STOP),
    ],
)
async def test_a_momentary_group_denies_a_user_what_it_does_not_do_but_no_controller(
    commands: Commands, allowed: Action
) -> None:
    group = Group("tv", "TV", actions=frozenset({allowed}), commands=commands, momentary=True)
    host = ScriptedHost((group,))
    switches = Switchboard((group,), host, NotedDisplay())
    for _ in range(2):  # before any request, and after the first one has ended
        for action in {*Action} - {allowed}:
            result = await switches.act(action, "tv", "user 0", lambda: None)
            assert result == ActionResult(f"{action} is not in this group's actions")
        acting = asyncio.create_task(switches.act(allowed, "tv", "user 0", lambda: None))
        await eventually(lambda: bool(host.asked))
        host.asked.pop().end(ActionResult())
        assert await acting == ActionResult()
    assert await written(switches, "tv", on=allowed is Action.STOP)
    assert not host.asked
    assert [report.momentary for report in switches.report()] == [True]
    await switches.close()


@pytest.mark.parametrize(
    ("by", "line"),
    [
        ("5254A0B8-5D7B-4E7C-9F52-3F1B7A2D9E10", "web: start requested by 5254A0B8"),
        ("user 1000", "web: start requested by user 1000"),
        ("user 0", "web: start requested by root"),
        ("\x1b[2Jabcdefgh", "web: start requested by ?[2Jabcd"),
    ],
)
async def test_the_log_says_who_requested_an_action(
    by: str, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    board = Board.made()
    caplog.set_level("INFO", "hkswitch")
    tap = written(board.switches, "web", on=True, by=by)
    (await board.asked()).end(ActionResult())
    board.switches.observed("web", UP)
    assert await tap
    assert caplog.messages == [line, "web: on"]


async def test_who_watches_hears_of_changes_and_of_reloads() -> None:
    board = Board.made()
    with board.switches.changes() as changed:
        changes: tuple[Callable[[], None], ...] = (
            lambda: board.switches.observed("web", UP),
            lambda: board.switches.regroup(()),
            board.switches.noticed,
        )
        for change in changes:
            changed.clear()
            change()
            assert changed.is_set()
    changed.clear()
    board.switches.noticed()
    assert not changed.is_set()
