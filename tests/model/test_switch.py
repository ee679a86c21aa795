"""The switch: events in, decisions out. Each row is a story; each event is followed by what it leads to."""

from collections.abc import Iterable
from typing import Final

import pytest

from hkswitch.model.group import Commands, Group
from hkswitch.model.switch import Switch
from hkswitch.model.switch_events import (
    Accepted,
    Answer,
    Available,
    AwaitSteady,
    Changed,
    Decision,
    Event,
    Failed,
    Finished,
    Lost,
    Probed,
    Regrouped,
    Seen,
    Send,
    Show,
    Steady,
    Tile,
    Waited,
    Written,
)
from hkswitch.model.unit_state import Action, ActiveState, GroupState, LoadState, UnitState, Verdict

WIDER: Final = Group("web", "Web", ("a.service", "b.service", "c.service"))
NARROWER: Final = Group("web", "Web", ("a.service",))
RENAMED: Final = Group("web", "Website", ("a.service", "b.service"))
GROUP: Final = Group("web", "Web", ("a.service", "b.service"))
UP: Final = UnitState(LoadState.LOADED, ActiveState.ACTIVE, "running")
DOWN: Final = UnitState(LoadState.LOADED, ActiveState.INACTIVE, "dead")
STARTING: Final = UnitState(LoadState.LOADED, ActiveState.ACTIVATING, "start")
STOPPING: Final = UnitState(LoadState.LOADED, ActiveState.DEACTIVATING, "stop")
FAILED: Final = UnitState(LoadState.LOADED, ActiveState.FAILED, "failed")
LOOPING: Final = UnitState(LoadState.LOADED, ActiveState.ACTIVATING, "auto-restart")
GONE: Final = UnitState(LoadState.NOT_FOUND, ActiveState.INACTIVE, "dead")

LAMP: Final = Group("lamp", "Lamp", commands=Commands(("/opt/on",), ("/opt/off",), ("/opt/status",)))
OTHER_LAMP: Final = Group("lamp", "Lamp", commands=Commands(("/opt/on",), ("/opt/off",), ("/opt/other",)))
CHECKED: Final = Group("web", "Web", ("a.service", "b.service"), check=("/opt/check",))
YES, NO, NOBODY_KNOWS = Probed(Verdict.ON), Probed(Verdict.OFF), Probed(Verdict.UNAVAILABLE)

Story = list[tuple[Event, list[Decision]]]


def typed(decisions: Iterable[Decision]) -> list[tuple[type, Decision]]:
    """Named tuples with the same in them are equal, whatever they mean."""
    return [(type(decision), decision) for decision in decisions]


def both(state: UnitState) -> Seen:
    return Seen({"a.service": state, "b.service": state})


def one(state: UnitState) -> Seen:
    return Seen({"a.service": state})


OFF: Final = Switch(GROUP).step(both(DOWN))[0]
ON: Final = Switch(GROUP).step(both(UP))[0]
LAMP_OFF: Final = Switch(LAMP).step(NO)[0]
CHECKED_OFF: Final = Switch(CHECKED).step(both(DOWN))[0]
CHECKED_ON: Final = CHECKED_OFF.step(both(UP))[0].step(YES)[0]
FAILED_GROUP: Final = Switch(GROUP).step(both(FAILED))[0]
START: Final = Send(1, Action.START)
STOP: Final = Send(1, Action.STOP)

STORIES: dict[str, tuple[Switch, Story]] = {
    "nothing is shown before every unit was seen": (
        Switch(GROUP),
        [(one(UP), []), (Seen({"b.service": UP}), [Changed(GroupState.ON), Available(True), Show(True)])],
    ),
    "units that start from outside show on at once": (
        OFF,
        [
            (one(STARTING), []),
            (both(STARTING), [Changed(GroupState.STARTING), Show(True)]),
            (both(UP), [Changed(GroupState.ON)]),
        ],
    ),
    "one unit that stops from outside shows off": (
        ON,
        [
            (one(STOPPING), [Changed(GroupState.STOPPING), Show(False)]),
            (one(DOWN), [Changed(GroupState.PARTIAL)]),
        ],
    ),
    "a tap that succeeds changes On once, whatever the units pass through": (
        OFF,
        [
            (Written(1, True), [START]),
            (both(STARTING), [Changed(GroupState.STARTING)]),
            (both(UP), [Changed(GroupState.ON)]),
            (Finished(1), [Answer(1, True), Show(True, writer=1)]),
        ],
    ),
    "a tap that fails at once changes nothing and is answered with an error": (
        OFF,
        [
            (Written(1, True), [START]),
            (both(STARTING), [Changed(GroupState.STARTING)]),
            (both(FAILED), [Changed(GroupState.FAILED)]),
            (Finished(1, "a.service failed"), [Failed(Action.START, "a.service failed"), Answer(1, False)]),
        ],
    ),
    "a tap that takes long is answered with success and holds On until its end": (
        OFF,
        [
            (Written(1, True), [START]),
            (Accepted(1), []),
            (Waited(1), [Answer(1, True), Show(True, writer=1)]),
            (one(FAILED), [Changed(GroupState.FAILED)]),
            (both(UP), [Changed(GroupState.ON)]),
            (Finished(1), []),
        ],
    ),
    "a tap that fails after its answer snaps back, for the writer too": (
        OFF,
        [
            (Written(1, True), [START]),
            (Accepted(1), []),
            (Waited(1), [Answer(1, True), Show(True, writer=1)]),
            (both(FAILED), [Changed(GroupState.FAILED)]),
            (Finished(1, "a.service timeout"), [Failed(Action.START, "a.service timeout"), Show(False)]),
        ],
    ),
    "a stop that takes long holds Off until its end": (
        ON,
        [
            (Written(1, False), [STOP]),
            (Accepted(1), []),
            (Waited(1), [Answer(1, True), Show(False, writer=1)]),
            (one(STOPPING), [Changed(GroupState.STOPPING)]),
            (both(DOWN), [Changed(GroupState.OFF)]),
            (Finished(1), []),
        ],
    ),
    "writing what already is is a success without an event": (
        ON,
        [(Written(1, True), [START]), (Finished(1), [Answer(1, True)])],
    ),
    "a oneshot unit that ends at once is a success that reads off again": (
        OFF,
        [
            (Written(1, True), [START]),
            (Finished(1), [Answer(1, True), Show(True, writer=1), Show(False)]),
        ],
    ),
    "on-off-on ends in what was tapped last, with no failure and one event for all": (
        OFF,
        [
            (Written(1, True), [START]),
            (Accepted(1), []),
            (Written(2, False), [Answer(1, True), Send(2, Action.STOP)]),
            (Written(3, True), [Send(3, Action.START)]),
            (Finished(1, "a.service canceled"), []),
            (Accepted(2), [Answer(2, True)]),
            (Accepted(3), []),
            (Finished(2, "a.service canceled"), []),
            (both(UP), [Changed(GroupState.ON)]),
            (Finished(3), [Answer(3, True), Show(True, writer=3)]),
        ],
    ),
    "a tap that was replaced before it was handed over is an error if it never was": (
        OFF,
        [
            (Written(1, True), [START]),
            (Written(2, False), [Send(2, Action.STOP)]),
            (Finished(1, "helper gone"), [Answer(1, False)]),
            (Finished(2, "helper gone"), [Failed(Action.STOP, "helper gone"), Answer(2, False), Show(False)]),
        ],
    ),
    "a tap that was replaced and is not handed over within the second is an error": (
        OFF,
        [
            (Written(1, True), [START]),
            (Written(2, False), [Send(2, Action.STOP)]),
            (Waited(1), [Answer(1, False)]),
            (Accepted(1), []),
        ],
    ),
    "a tap that is handed over to nobody within the second is an error": (
        OFF,
        [
            (Written(1, True), [START]),
            (Waited(1), [Answer(1, False)]),
            (Accepted(1), []),
            (both(UP), [Changed(GroupState.ON)]),
            (Finished(1), [Show(True)]),
        ],
    ),
    "who was told a success that a newer tap undid hears of it although the value is the old one": (
        OFF,
        [
            (Written(1, True), [START]),
            (Accepted(1), []),
            (Written(2, False), [Answer(1, True), Send(2, Action.STOP)]),
            (Finished(2), [Answer(2, True), Show(False, writer=2)]),
        ],
    ),
    "the same tap by two controllers is one request and two answers": (
        OFF,
        [
            (Written(1, True), [START]),
            (Written(2, True), []),
            (both(UP), [Changed(GroupState.ON)]),
            (Finished(1), [Answer(1, True), Answer(2, True), Show(True, writer=1)]),
        ],
    ),
    "the same tap by two controllers that fails is an error for both": (
        OFF,
        [
            (Written(1, True), [START]),
            (Written(2, True), []),
            (Finished(1, "no"), [Failed(Action.START, "no"), Answer(1, False), Answer(2, False)]),
        ],
    ),
    "a second tap while the first goes on is answered a second after it was made": (
        OFF,
        [
            (Written(1, True), [START]),
            (Accepted(1), []),
            (Waited(1), [Answer(1, True), Show(True, writer=1)]),
            (Written(2, True), []),
            (Waited(2), [Answer(2, True)]),
        ],
    ),
    "the second passes after the answer without effect": (
        OFF,
        [
            (Written(1, True), [START]),
            (both(UP), [Changed(GroupState.ON)]),
            (Finished(1), [Answer(1, True), Show(True, writer=1)]),
            (Waited(1), []),
        ],
    ),
    "a unit that is missing makes the switch unavailable, and it comes back with its value": (
        ON,
        [
            (one(GONE), [Changed(GroupState.MISSING), Available(False)]),
            (one(UP), [Changed(GroupState.ON), Available(True), Show(True)]),
        ],
    ),
    "a lost bus makes the switch unavailable until every unit was read again": (
        ON,
        [
            (Lost(), [Changed(None), Available(False)]),
            (one(DOWN), []),
            (both(DOWN), [Changed(GroupState.OFF), Available(True), Show(False)]),
        ],
    ),
    "a request that ends while the bus is lost is answered and shows nothing more": (
        OFF,
        [
            (Written(1, True), [START]),
            (Lost(), [Changed(None), Available(False)]),
            (Finished(1, "gone"), [Failed(Action.START, "gone"), Answer(1, False)]),
            (both(UP), [Changed(GroupState.ON), Available(True), Show(True)]),
        ],
    ),
    "a crash loop shows off once, however often it comes up": (
        ON,
        [
            (both(FAILED), [Changed(GroupState.FAILED), Show(False)]),
            (one(LOOPING), []),
            (both(STARTING), []),
            (both(UP), [AwaitSteady(3)]),
            (both(LOOPING), []),
            (Steady(3), []),
            (both(UP), [AwaitSteady(5)]),
            (both(LOOPING), []),
        ],
    ),
    "a group that failed and stays up is shown on after a while": (
        ON,
        [
            (one(FAILED), [Changed(GroupState.FAILED), Show(False)]),
            (one(UP), [AwaitSteady(2)]),
            (Steady(2), [Changed(GroupState.ON), Show(True)]),
            (one(DOWN), [Changed(GroupState.PARTIAL), Show(False)]),
            (one(UP), [Changed(GroupState.ON), Show(True)]),
        ],
    ),
    "a group that failed and was stopped starts with a clean slate": (
        ON,
        [
            (both(FAILED), [Changed(GroupState.FAILED), Show(False)]),
            (both(DOWN), [Changed(GroupState.OFF)]),
            (both(UP), [Changed(GroupState.ON), Show(True)]),
        ],
    ),
    "a tap on a group that failed is believed at once": (
        FAILED_GROUP,
        [
            (Written(1, True), [START]),
            (both(UP), [Changed(GroupState.ON)]),
            (Finished(1), [Answer(1, True), Show(True, writer=1)]),
        ],
    ),
    "a reload that gives the group another unit is unavailable until that one was seen": (
        ON,
        [
            (Regrouped(WIDER), [Changed(None), Available(False)]),
            (Seen({"c.service": DOWN}), [Changed(GroupState.PARTIAL), Available(True), Show(False)]),
        ],
    ),
    "a reload that takes a unit away shows what the others are": (
        Switch(GROUP).step(Seen({"a.service": UP, "b.service": DOWN}))[0],
        [(Regrouped(NARROWER), [Changed(GroupState.ON), Show(True)])],
    ),
    "a reload that changes only the name changes nothing": (ON, [(Regrouped(RENAMED), [])]),
    "a reload does not disturb a request that runs": (
        OFF,
        [
            (Written(1, True), [START]),
            (Regrouped(RENAMED), []),
            (both(UP), [Changed(GroupState.ON)]),
            (Finished(1), [Answer(1, True), Show(True, writer=1)]),
        ],
    ),
    "a restart keeps the group's tile on and turns its own off when it is done": (
        ON,
        [
            (Written(1, True, Tile.RESTART), [Send(1, Action.RESTART)]),
            (both(STOPPING), [Changed(GroupState.STOPPING)]),
            (both(STARTING), [Changed(GroupState.STARTING)]),
            (both(UP), [Changed(GroupState.ON)]),
            (Finished(1), [Answer(1, True), Show(True, 1, Tile.RESTART), Show(False, tile=Tile.RESTART)]),
        ],
    ),
    "a restart that takes long is on until its end": (
        ON,
        [
            (Written(1, True, Tile.RESTART), [Send(1, Action.RESTART)]),
            (Accepted(1), []),
            (Waited(1), [Answer(1, True), Show(True, 1, Tile.RESTART)]),
            (both(STARTING), [Changed(GroupState.STARTING)]),
            (both(UP), [Changed(GroupState.ON)]),
            (Finished(1), [Show(False, tile=Tile.RESTART)]),
        ],
    ),
    "a restart that fails at once is an error, and the group's tile tells the truth": (
        ON,
        [
            (Written(1, True, Tile.RESTART), [Send(1, Action.RESTART)]),
            (one(FAILED), [Changed(GroupState.FAILED)]),
            (Finished(1, "no"), [Failed(Action.RESTART, "no"), Answer(1, False), Show(False)]),
        ],
    ),
    "a restart that fails later turns both tiles off": (
        ON,
        [
            (Written(1, True, Tile.RESTART), [Send(1, Action.RESTART)]),
            (Accepted(1), []),
            (Waited(1), [Answer(1, True), Show(True, 1, Tile.RESTART)]),
            (one(FAILED), [Changed(GroupState.FAILED)]),
            (Finished(1, "no"), [Failed(Action.RESTART, "no"), Show(False, tile=Tile.RESTART), Show(False)]),
        ],
    ),
    "a restart of a group that is off leaves it off": (
        OFF,
        [
            (Written(1, True, Tile.RESTART), [Send(1, Action.RESTART)]),
            (Finished(1), [Answer(1, True), Show(True, 1, Tile.RESTART), Show(False, tile=Tile.RESTART)]),
        ],
    ),
    "turning a restart switch off is a success that does nothing": (
        ON,
        [(Written(1, False, Tile.RESTART), [Answer(1, True)])],
    ),
    "a restart that was replaced before it was handed over is over when it is": (
        OFF,
        [
            (Written(1, True, Tile.RESTART), [Send(1, Action.RESTART)]),
            (Written(2, False), [Show(False, tile=Tile.RESTART), Send(2, Action.STOP)]),
            (Accepted(1), [Answer(1, True), Show(False, tile=Tile.RESTART)]),
            (Accepted(2), []),
            (Finished(2), [Answer(2, True), Show(False, writer=2)]),
        ],
    ),
    "a tap that was replaced and handed over only after the newer one ended is corrected": (
        OFF,
        [
            (Written(1, True), [START]),
            (Written(2, False), [Send(2, Action.STOP)]),
            (Finished(2), [Answer(2, True), Show(False, writer=2)]),
            (Accepted(1), [Answer(1, True), Show(False)]),
        ],
    ),
    "a group of commands is what its status says": (
        Switch(LAMP),
        [
            (NO, [Changed(GroupState.OFF), Available(True), Show(False)]),
            (NO, []),
            (YES, [Changed(GroupState.ON), Show(True)]),
            (NO, [Changed(GroupState.OFF), Show(False)]),
        ],
    ),
    "a status that says nothing makes the switch unavailable, and not off": (
        LAMP_OFF,
        [
            (YES, [Changed(GroupState.ON), Show(True)]),
            (NOBODY_KNOWS, [Changed(None), Available(False)]),
            (YES, [Changed(GroupState.ON), Available(True), Show(True)]),
            (Lost(), [Changed(None), Available(False)]),
            (NO, [Changed(GroupState.OFF), Available(True), Show(False)]),
        ],
    ),
    "a tap on a group of commands whose status changes before its end": (
        LAMP_OFF,
        [
            (Written(1, True), [START]),
            (YES, [Changed(GroupState.ON)]),
            (Finished(1), [Answer(1, True), Show(True, writer=1)]),
        ],
    ),
    "what another status command said counts no more": (
        LAMP_OFF,
        [
            (Regrouped(LAMP), []),
            (Regrouped(OTHER_LAMP), [Changed(None), Available(False)]),
            (NO, [Changed(GroupState.OFF), Available(True), Show(False)]),
        ],
    ),
    "units that are up are starting until their check said yes": (
        CHECKED_OFF,
        [
            (both(UP), [Changed(GroupState.STARTING), Show(True)]),
            (YES, [Changed(GroupState.ON)]),
            (NO, [Changed(GroupState.PARTIAL), Show(False)]),
            (YES, [Changed(GroupState.ON), Show(True)]),
        ],
    ),
    "what a check said of units that went down says nothing of when they are up again": (
        CHECKED_ON,
        [
            (one(DOWN), [Changed(GroupState.PARTIAL), Show(False)]),
            (both(UP), [Changed(GroupState.STARTING), Show(True)]),
            (NO, [Changed(GroupState.PARTIAL), Show(False)]),
            (both(DOWN), [Changed(GroupState.OFF)]),
            (YES, []),
            (both(UP), [Changed(GroupState.STARTING), Show(True)]),
        ],
    ),
    "without a helper nobody knows whether units that are up are on": (
        CHECKED_ON,
        [
            (NOBODY_KNOWS, [Changed(None), Available(False)]),
            (both(DOWN), [Changed(GroupState.OFF), Available(True), Show(False)]),
            (both(UP), [Changed(None), Available(False)]),
            (Probed(None), [Changed(GroupState.STARTING), Available(True), Show(True)]),
            (YES, [Changed(GroupState.ON)]),
        ],
    ),
    "a check that comes with a reload is asked before the group is on": (
        ON,
        [(Regrouped(CHECKED), [Changed(GroupState.STARTING)]), (YES, [Changed(GroupState.ON)])],
    ),
    "a start whose check fails is off": (
        CHECKED_OFF,
        [
            (Written(1, True), [START]),
            (both(UP), [Changed(GroupState.STARTING)]),
            (Finished(1), [Answer(1, True), Show(True, writer=1)]),
            (NO, [Changed(GroupState.PARTIAL), Show(False)]),
        ],
    ),
    "a tap during a restart ends it": (
        ON,
        [
            (Written(1, True, Tile.RESTART), [Send(1, Action.RESTART)]),
            (Accepted(1), []),
            (Waited(1), [Answer(1, True), Show(True, 1, Tile.RESTART)]),
            (Written(2, False), [Show(False, tile=Tile.RESTART), Send(2, Action.STOP)]),
            (Finished(1, "a.service canceled"), []),
            (both(DOWN), [Changed(GroupState.OFF)]),
            (Finished(2), [Answer(2, True), Show(False, writer=2)]),
        ],
    ),
}


@pytest.mark.parametrize(("switch", "story"), STORIES.values(), ids=STORIES.keys())
def test_story(switch: Switch, story: Story) -> None:
    for event, expected in story:
        switch, decisions = switch.step(event)
        assert (event, typed(decisions)) == (event, typed(expected))
