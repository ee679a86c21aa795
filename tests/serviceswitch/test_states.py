"""Failures among the states that were not sent yet: each is sent once, in order, and none is lost."""

from hkswitch.model.config import parse
from hkswitch.model.errors import BusUnavailable
from hkswitch.model.unit_state import ActiveState, LoadState, UnitFailure, UnitState
from hkswitch.protocol.helper import MOST_STATES, Complete, GroupUpdate, Reply, StatesUpdate
from hkswitch.serviceswitch.states import UnsentStates

WEB, DB = "web.service", "db.service"
FAILED = UnitState(LoadState.LOADED, ActiveState.FAILED, "failed")
UP = UnitState(LoadState.LOADED, ActiveState.ACTIVE, "running")
FIRST = UnitFailure("a", is_requested=False, reason="web.service failed")
SECOND = FIRST._replace(run="b")


def states_of(*units: str) -> UnsentStates:
    """Return states of a group with these units, of which everything is sent."""
    states = UnsentStates()
    regroup(states, *units)
    states.begin(1)
    assert sent(states) != []
    return states


def regroup(states: UnsentStates, *units: str) -> None:
    config = f"groups: {{web: {{name: Web, units: [{', '.join(units)}]}}}}"
    states.regroup(parse(config.encode(), "config.yaml").groups)


def sent(states: UnsentStates) -> list[Reply]:
    found = []
    while message := states.next():
        found.append(message)
    return found


def failures(states: UnsentStates) -> list[UnitFailure | None]:
    """Send all; return the failures of the web service among it."""
    updates = [update for update in sent(states) if isinstance(update, StatesUpdate)]
    return [update.failures[WEB] for update in updates if WEB in update.failures]


def test_a_failure_is_sent_once_and_together_with_the_state_of_its_unit() -> None:
    states = states_of(WEB)
    states.seen({WEB: FAILED})
    states.failed(WEB, FIRST)
    states.failed(WEB, FIRST)
    assert sent(states) == [StatesUpdate(1, {WEB: FAILED}, {}, {WEB: FIRST})]
    states.failed(WEB, FIRST)
    assert sent(states) == []
    states.failed(WEB, FIRST._replace(reason="web.service was killed by SIGKILL"))
    states.failed(WEB, None)
    assert failures(states) == [FIRST._replace(reason="web.service was killed by SIGKILL"), None]


def test_no_failure_is_sent_before_the_state_of_its_unit() -> None:
    units = [f"unit-{number}.service" for number in range(MOST_STATES + 1)]
    states = states_of(*units)
    states.seen(dict.fromkeys(units, FAILED))
    states.failed(units[0], FIRST)
    states.failed(units[-1], FIRST)
    told: set[str] = set()
    for update in sent(states):
        assert isinstance(update, StatesUpdate)
        told |= update.units.keys()
        assert update.failures.keys() <= told
    assert told == {*units}


def test_a_failure_that_is_over_before_it_is_sent_is_sent_all_the_same() -> None:
    states = states_of(WEB)
    states.failed(WEB, FIRST)
    states.failed(WEB, None)
    states.seen({WEB: UP})
    assert failures(states) == [FIRST, None]


def test_a_slow_daemon_gets_one_failure_of_a_crash_loop_and_the_last() -> None:
    states = states_of(WEB)
    for run in range(100):
        states.failed(WEB, FIRST._replace(run=str(run)))
        states.failed(WEB, None)
    states.failed(WEB, SECOND)
    assert failures(states) == [FIRST._replace(run="0"), SECOND]


def test_the_end_of_a_failure_that_was_never_told_is_not_sent() -> None:
    states = states_of(WEB)
    states.failed(WEB, None)
    assert sent(states) == []


def test_a_new_epoch_has_all_failures_again_but_none_that_is_over() -> None:
    states = states_of(WEB, DB)
    states.failed(WEB, FIRST)
    states.failed(DB, SECOND)
    states.failed(DB, None)
    sent(states)
    states.begin(2)
    assert [update for update in sent(states) if not isinstance(update, GroupUpdate)] == [
        StatesUpdate(2, {}, {}, {WEB: FIRST})
    ]


def test_failures_of_units_that_left_all_groups_or_whose_bus_is_lost_are_forgotten() -> None:
    states = states_of(WEB, DB)
    states.failed(WEB, FIRST)
    states.failed(WEB, None)
    regroup(states, DB)
    regroup(states, WEB, DB)
    assert failures(states) == []
    states.failed(WEB, FIRST)
    states.lose(BusUnavailable("gone"))
    states.complete()
    assert [*map(type, sent(states))] == [Complete]
    states.failed(WEB, FIRST)
    assert failures(states) == [FIRST]
