"""The lines about the states of groups: all of a group's few, and few of its many."""

import logging
from collections.abc import AsyncIterator
from itertools import count

import pytest

from hkswitch.daemon import state_lines
from hkswitch.daemon.state_lines import MOST_STATE_LINES, StateLines
from tests.support.waiting import eventually

LOG = logging.getLogger("hkswitch.daemon.switchboard.states")
LEFT_OUT = (
    f"{MOST_STATE_LINES} changes of its state within a minute: the next ones are left out until it is calm"
)


@pytest.fixture
async def lines(caplog: pytest.LogCaptureFixture) -> AsyncIterator[StateLines]:
    caplog.set_level(logging.INFO, LOG.name)
    lines = StateLines(LOG)
    yield lines
    lines.close()
    caplog.set_level(logging.NOTSET, LOG.name)


def flap(lines: StateLines, times: int, group_id: str = "web") -> list[str]:
    """Log so many states; return the lines of the first ones."""
    for number in range(times):
        lines.write(logging.INFO, group_id, f"state {number}")
    return [f"{group_id}: state {number}" for number in range(min(times, MOST_STATE_LINES))]


@pytest.mark.parametrize("times", [1, MOST_STATE_LINES - 1, MOST_STATE_LINES, MOST_STATE_LINES + 1, 5000])
async def test_of_a_group_that_flaps_few_lines_are_logged_and_one_says_so(
    lines: StateLines, caplog: pytest.LogCaptureFixture, times: int
) -> None:
    expected = flap(lines, times)
    if times >= MOST_STATE_LINES:
        expected.append(f"web: {LEFT_OUT}")
    assert caplog.messages == expected


async def test_a_group_that_flaps_hides_no_other(lines: StateLines, caplog: pytest.LogCaptureFixture) -> None:
    flap(lines, 1000)
    caplog.clear()
    assert flap(lines, 3, "files") == caplog.messages


@pytest.mark.parametrize(
    ("times", "last"),
    [
        (MOST_STATE_LINES, []),
        (MOST_STATE_LINES + 1, [f"web: state {MOST_STATE_LINES} (after 1 change that was left out)"]),
        (MOST_STATE_LINES + 9, [f"web: state {MOST_STATE_LINES + 8} (after 9 changes that were left out)"]),
    ],
)
async def test_when_it_is_calm_again_its_state_is_logged_once_and_the_next_ones_are_again(
    lines: StateLines,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    times: int,
    last: list[str],
) -> None:
    monkeypatch.setattr(state_lines, "CALM_AFTER_SECONDS", 0.05)
    flap(lines, times)
    caplog.clear()
    await eventually(lambda: not lines.is_left_out("web"))
    assert caplog.messages == last
    caplog.clear()
    assert flap(lines, 2) == caplog.messages


async def test_a_group_stays_left_out_until_it_has_been_calm_for_long_enough(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, LOG.name)
    monkeypatch.setattr(state_lines, "CALM_AFTER_SECONDS", 0.01)
    looks = count()
    now = [0.0]

    def clock() -> float:
        next(looks)
        return now[0]

    lines = StateLines(LOG, clock)
    flap(lines, 1000)
    caplog.clear()
    before = next(looks)
    await eventually(lambda: next(looks) > before + 50)  # it was looked at many times, and no time has passed
    assert caplog.messages == []
    now[0] = 0.02
    await eventually(lambda: caplog.messages)
    assert caplog.messages == [f"web: state 999 (after {1000 - MOST_STATE_LINES} changes that were left out)"]
    lines.close()


async def test_a_group_that_was_removed_is_forgotten(
    lines: StateLines, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_lines, "CALM_AFTER_SECONDS", 0.01)
    flap(lines, 1000)
    flap(lines, MOST_STATE_LINES, "files")
    lines.forget("web")
    lines.forget("never-there")
    caplog.clear()
    await eventually(lambda: not lines.is_left_out("files"))  # its time has come after that of the other
    assert caplog.messages == []
    assert flap(lines, 2) == caplog.messages


async def test_a_line_below_the_level_of_the_log_is_not_counted(
    lines: StateLines, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(1000):
        lines.write(logging.DEBUG, "web", "starting")
    assert flap(lines, 3) == caplog.messages
