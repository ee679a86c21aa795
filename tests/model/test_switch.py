"""The switch: events in, decisions out. Each row is a story; each event is followed by what it leads to."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

import pytest

from hkswitch.model.group import AccessoryType, Commands, Group
from hkswitch.model.switch import Switch
from hkswitch.model.switch_events import (
    Answer,
    Available,
    AwaitKnown,
    AwaitStable,
    Changed,
    Decision,
    Event,
    GroupChanged,
    Observed,
    RequestAccepted,
    RequestFailed,
    RequestFinished,
    Send,
    Show,
    StayedUnknown,
    StayedUp,
    Tile,
    WriteTimedOut,
    Written,
)
from hkswitch.model.unit_state import Action, ActiveState, GroupState, LoadState, ProbeResult, UnitState

GROUP: Final = Group("web", "Web", ("a.service", "b.service"))
WIDER: Final = replace(GROUP, units=("a.service", "b.service", "c.service"))
NARROWER: Final = replace(GROUP, units=("a.service",))
REORDERED: Final = replace(GROUP, units=("b.service", "a.service"))
RENAMED: Final = replace(GROUP, name="Website", type=AccessoryType.LIGHT)
WITH_RESTART: Final = replace(GROUP, restart=True, actions=frozenset(Action))
RESTARTABLE: Final = replace(GROUP, actions=frozenset(Action))
CHECKED: Final = replace(GROUP, check=("/opt/check",))
OTHERWISE_CHECKED: Final = replace(GROUP, check=("/opt/check", "-x"))
LAMP: Final = Group("lamp", "Lamp", commands=Commands(("/opt/on",), ("/opt/off",), ("/opt/status",)))
BELL: Final = Group(
    "bell",
    "Bell",
    actions=frozenset({Action.START}),
    commands=Commands(start=("/opt/ring",)),
    momentary=True,
)
SILENCER: Final = replace(BELL, actions=frozenset({Action.STOP}), commands=Commands(stop=("/opt/mute",)))
OTHER_LAMP: Final = Group("lamp", "Lamp", commands=Commands(("/opt/on",), ("/opt/off",), ("/opt/other",)))

UP: Final = UnitState(LoadState.LOADED, ActiveState.ACTIVE, "running")
DOWN: Final = UnitState(LoadState.LOADED, ActiveState.INACTIVE, "dead")
STARTING: Final = UnitState(LoadState.LOADED, ActiveState.ACTIVATING, "start")
STOPPING: Final = UnitState(LoadState.LOADED, ActiveState.DEACTIVATING, "stop")
FAILED: Final = UnitState(LoadState.LOADED, ActiveState.FAILED, "failed")
LOOPING: Final = UnitState(LoadState.LOADED, ActiveState.ACTIVATING, "auto-restart")
GONE: Final = UnitState(LoadState.NOT_FOUND, ActiveState.INACTIVE, "dead")

Story = list[tuple[Event, list[Decision]]]


def typed(decisions: Iterable[Decision]) -> list[tuple[type, Decision]]:
    """Named tuples with the same in them are equal, whatever they mean."""
    return [(type(decision), decision) for decision in decisions]


def units(*states: UnitState, check: ProbeResult | None = None) -> Observed:
    """The host knows the states of a.service, b.service and c.service, of as many as are given."""
    return Observed(dict(zip(("a.service", "b.service", "c.service"), states, strict=False)), check)


def both(state: UnitState, check: ProbeResult | None = None) -> Observed:
    return units(state, state, check=check)


def status(probe_result: ProbeResult | None) -> Observed:
    """The host knows what a status command said, or not yet."""
    return Observed({}, probe_result)


NOTHING: Final = Observed(None, None, "no helper")
ASKED: Final = both(UP)
"""Of a group with a check: it is being asked."""
YES: Final = both(UP, ProbeResult.ON)
NO: Final = both(UP, ProbeResult.OFF)
LIT, DARK, MUTE = map(status, (ProbeResult.ON, ProbeResult.OFF, ProbeResult.UNAVAILABLE))


def after(group: Group, *events: Event) -> Switch:
    switch = Switch(group)
    for event in events:
        switch, _ = switch.step(event)
    return switch


NEW: Final = Switch(GROUP)
OFF: Final = after(GROUP, both(DOWN))
ON: Final = after(GROUP, both(UP))
FAILED_GROUP: Final = after(GROUP, both(FAILED))
LAMP_OFF: Final = after(LAMP, DARK)
CHECKED_OFF: Final = after(CHECKED, both(DOWN))
CHECKED_ON: Final = after(CHECKED, YES)
START: Final = Send(1, Action.START)
STOP: Final = Send(1, Action.STOP)


@pytest.mark.parametrize(
    ("group", "observed", "is_idle"),
    [
        (GROUP, both(DOWN), True),
        (GROUP, units(DOWN, FAILED), True),
        (LAMP, DARK, True),
        (GROUP, units(UP, DOWN), False),
        (GROUP, units(DOWN, LOOPING), False),
        (GROUP, units(DOWN, STARTING), False),
        (LAMP, LIT, False),
        (LAMP, MUTE, False),
        (GROUP, NOTHING, False),
    ],
)
def test_a_group_is_idle_if_a_restart_does_nothing(group: Group, observed: Observed, is_idle: bool) -> None:
    assert after(group, observed).is_idle is is_idle


@pytest.mark.parametrize(
    ("group", "observed", "explanation"),
    [
        (CHECKED, NO._replace(why="ping exited with status 1"), "the check fails: ping exited with status 1"),
        (CHECKED, YES._replace(why="ping exited with status 0"), ""),
        (CHECKED, NO, ""),
        (CHECKED, units(UP, DOWN, check=ProbeResult.OFF)._replace(why="ping exited with status 1"), ""),
        (GROUP, units(UP, DOWN), ""),
        (LAMP, DARK._replace(why="lamp exited with status 1"), ""),
        (LAMP, MUTE._replace(why="lamp exited with status 126"), "lamp exited with status 126"),
        (GROUP, NOTHING, "no helper"),
    ],
)
def test_what_the_units_do_not_explain_is_explained(
    group: Group, observed: Observed, explanation: str
) -> None:
    assert after(group, observed).explanation == explanation


STORIES: dict[str, tuple[Switch, Story]] = {
    "nothing is shown before every unit was seen": (
        NEW,
        [(units(UP), []), (both(UP), [Changed(GroupState.ON), Available(True), Show(True)])],
    ),
    "units that start from outside show on at once": (
        OFF,
        [
            (units(STARTING, DOWN), []),
            (both(STARTING), [Changed(GroupState.STARTING), Show(True)]),
            (both(UP), [Changed(GroupState.ON)]),
        ],
    ),
    "one unit that stops from outside shows off": (
        ON,
        [
            (units(STOPPING, UP), [Changed(GroupState.STOPPING), Show(False)]),
            (units(DOWN, UP), [Changed(GroupState.PARTIAL)]),
        ],
    ),
    "a tap that succeeds changes On once, whatever the units pass through": (
        OFF,
        [
            (Written(1, True), [START]),
            (both(STARTING), [Changed(GroupState.STARTING)]),
            (both(UP), [Changed(GroupState.ON)]),
            (RequestFinished(1), [Answer(1, True), Show(True, writer=1)]),
        ],
    ),
    "a tap that fails at once changes nothing and is answered with an error": (
        OFF,
        [
            (Written(1, True), [START]),
            (both(STARTING), [Changed(GroupState.STARTING)]),
            (both(FAILED), [Changed(GroupState.FAILED)]),
            (
                RequestFinished(1, "a.service failed"),
                [RequestFailed(Action.START, "a.service failed"), Answer(1, False)],
            ),
        ],
    ),
    "a tap that takes long is answered with success and holds On until its end": (
        OFF,
        [
            (Written(1, True), [START]),
            (RequestAccepted(1), []),
            (WriteTimedOut(1), [Answer(1, True), Show(True, writer=1)]),
            (units(FAILED, DOWN), [Changed(GroupState.FAILED)]),
            (both(UP), [Changed(GroupState.ON)]),
            (RequestFinished(1), []),
        ],
    ),
    "a tap that fails after its answer snaps back, for the writer too": (
        OFF,
        [
            (Written(1, True), [START]),
            (RequestAccepted(1), []),
            (WriteTimedOut(1), [Answer(1, True), Show(True, writer=1)]),
            (both(FAILED), [Changed(GroupState.FAILED)]),
            (
                RequestFinished(1, "a.service timeout"),
                [RequestFailed(Action.START, "a.service timeout"), Show(False)],
            ),
        ],
    ),
    "a stop that takes long holds Off until its end": (
        ON,
        [
            (Written(1, False), [STOP]),
            (RequestAccepted(1), []),
            (WriteTimedOut(1), [Answer(1, True), Show(False, writer=1)]),
            (units(STOPPING, UP), [Changed(GroupState.STOPPING)]),
            (both(DOWN), [Changed(GroupState.OFF)]),
            (RequestFinished(1), []),
        ],
    ),
    "writing what already is is a success without an event": (
        ON,
        [(Written(1, True), [START]), (RequestFinished(1), [Answer(1, True)])],
    ),
    "a oneshot unit that ends at once is a success that reads off again": (
        OFF,
        [
            (Written(1, True), [START]),
            (RequestFinished(1), [Answer(1, True), Show(True, writer=1), Show(False)]),
        ],
    ),
    "on-off-on ends in what was tapped last, with no failure and one event for all": (
        OFF,
        [
            (Written(1, True), [START]),
            (RequestAccepted(1), []),
            (Written(2, False), [Answer(1, True), Send(2, Action.STOP)]),
            (Written(3, True), [Send(3, Action.START)]),
            (RequestFinished(1, "a.service canceled"), []),
            (RequestAccepted(2), [Answer(2, True)]),
            (RequestAccepted(3), []),
            (RequestFinished(2, "a.service canceled"), []),
            (both(UP), [Changed(GroupState.ON)]),
            (RequestFinished(3), [Answer(3, True), Show(True, writer=3)]),
        ],
    ),
    "a tap that was replaced before it was handed over is an error if it never was": (
        OFF,
        [
            (Written(1, True), [START]),
            (Written(2, False), [Send(2, Action.STOP)]),
            (RequestFinished(1, "helper gone"), [Answer(1, False)]),
            (
                RequestFinished(2, "helper gone"),
                [RequestFailed(Action.STOP, "helper gone"), Answer(2, False), Show(False)],
            ),
        ],
    ),
    "a tap that was replaced and is not handed over within the second is an error": (
        OFF,
        [
            (Written(1, True), [START]),
            (Written(2, False), [Send(2, Action.STOP)]),
            (WriteTimedOut(1), [Answer(1, False)]),
            (RequestAccepted(1), []),
        ],
    ),
    "a tap that is handed over to nobody within the second is an error": (
        OFF,
        [
            (Written(1, True), [START]),
            (WriteTimedOut(1), [Answer(1, False)]),
            (RequestAccepted(1), []),
            (both(UP), [Changed(GroupState.ON)]),
            (RequestFinished(1), [Show(True)]),
        ],
    ),
    "who was told a success that a newer tap undid hears of it although the value is the old one": (
        OFF,
        [
            (Written(1, True), [START]),
            (RequestAccepted(1), []),
            (Written(2, False), [Answer(1, True), Send(2, Action.STOP)]),
            (RequestFinished(2), [Answer(2, True), Show(False, writer=2)]),
        ],
    ),
    "the same tap by two controllers is one request and two answers": (
        OFF,
        [
            (Written(1, True), [START]),
            (Written(2, True), []),
            (both(UP), [Changed(GroupState.ON)]),
            (RequestFinished(1), [Answer(1, True), Answer(2, True), Show(True, writer=1)]),
        ],
    ),
    "the same tap by two controllers that fails is an error for both": (
        OFF,
        [
            (Written(1, True), [START]),
            (Written(2, True), []),
            (
                RequestFinished(1, "no"),
                [RequestFailed(Action.START, "no"), Answer(1, False), Answer(2, False)],
            ),
        ],
    ),
    "a second tap while the first goes on is answered a second after it was made": (
        OFF,
        [
            (Written(1, True), [START]),
            (RequestAccepted(1), []),
            (WriteTimedOut(1), [Answer(1, True), Show(True, writer=1)]),
            (Written(2, True), []),
            (WriteTimedOut(2), [Answer(2, True)]),
        ],
    ),
    "the second passes after the answer without effect": (
        OFF,
        [
            (Written(1, True), [START]),
            (both(UP), [Changed(GroupState.ON)]),
            (RequestFinished(1), [Answer(1, True), Show(True, writer=1)]),
            (WriteTimedOut(1), []),
        ],
    ),
    "a unit that is missing makes the switch unavailable, and it comes back with its value": (
        ON,
        [
            (units(GONE, UP), [Changed(GroupState.MISSING), Available(False)]),
            (both(UP), [Changed(GroupState.ON), Available(True), Show(True)]),
        ],
    ),
    "a host that knows nothing makes the switch unavailable until every unit was told again": (
        ON,
        [
            (NOTHING, [Changed(None), Available(False)]),
            (units(DOWN), []),
            (both(DOWN), [Changed(GroupState.OFF), Available(True), Show(False)]),
        ],
    ),
    "a request that ends while nothing is known is answered and shows nothing more": (
        OFF,
        [
            (Written(1, True), [START]),
            (NOTHING, [Changed(None), Available(False)]),
            (RequestFinished(1, "gone"), [RequestFailed(Action.START, "gone"), Answer(1, False)]),
            (both(UP), [Changed(GroupState.ON), Available(True), Show(True)]),
        ],
    ),
    "a crash loop shows off once, however often it comes up": (
        ON,
        [
            (both(FAILED), [Changed(GroupState.FAILED), Show(False)]),
            (units(LOOPING, FAILED), []),
            (both(STARTING), []),
            (both(UP), [AwaitStable(3)]),
            (both(LOOPING), []),
            (StayedUp(3), []),
            (both(UP), [AwaitStable(5)]),
            (both(LOOPING), []),
        ],
    ),
    "a group that failed and stays up is shown on after a while": (
        ON,
        [
            (units(FAILED, UP), [Changed(GroupState.FAILED), Show(False)]),
            (both(UP), [AwaitStable(2)]),
            (StayedUp(2), [Changed(GroupState.ON), Show(True)]),
            (units(DOWN, UP), [Changed(GroupState.PARTIAL), Show(False)]),
            (both(UP), [Changed(GroupState.ON), Show(True)]),
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
            (RequestFinished(1), [Answer(1, True), Show(True, writer=1)]),
        ],
    ),
    "a reload that gives a group that is on another unit is unavailable until that one was told": (
        ON,
        [
            (GroupChanged(WIDER), [Changed(None), Available(False)]),
            (both(UP), []),
            (units(UP, UP, DOWN), [Changed(GroupState.PARTIAL), Available(True), Show(False)]),
        ],
    ),
    "a reload that gives a group that is off another unit keeps it off until that one was told": (
        OFF,
        [
            (GroupChanged(WIDER), [AwaitKnown(1)]),
            (both(DOWN), []),
            (units(DOWN, DOWN, DOWN), [Changed(GroupState.OFF)]),
            (StayedUnknown(1), []),
        ],
    ),
    "a reload that takes a unit away forgets the others until they are told": (
        after(GROUP, units(UP, DOWN)),
        [
            (GroupChanged(NARROWER), [AwaitKnown(1)]),
            (units(UP), [Changed(GroupState.ON), Show(True)]),
        ],
    ),
    "a reload that changes the units' order is another start, and forgets them": (
        ON,
        [(GroupChanged(REORDERED), [Changed(None), Available(False)])],
    ),
    "a reload that changes nothing of what root acts on changes nothing": (
        ON,
        [(GroupChanged(GROUP), []), (GroupChanged(RENAMED), []), (both(UP), [])],
    ),
    "a reload that changes nothing keeps what a check said": (
        CHECKED_ON,
        [
            (GroupChanged(replace(CHECKED, interval_seconds=5)), []),
            (NO, [Changed(GroupState.PARTIAL), Show(False)]),
        ],
    ),
    "a reload that gives the group another check forgets what the old one said": (
        CHECKED_ON,
        [
            (GroupChanged(OTHERWISE_CHECKED), [Changed(None), Available(False)]),
            (ASKED, []),
            (YES, [Changed(GroupState.ON), Available(True), Show(True)]),
        ],
    ),
    "a reload that takes the check away shows the units when they are told": (
        after(CHECKED, NO),
        [(GroupChanged(GROUP), [AwaitKnown(1)]), (both(UP), [Changed(GroupState.ON), Show(True)])],
    ),
    "a reload that gives the group another status command forgets what the old one said": (
        after(LAMP, LIT),
        [
            (GroupChanged(LAMP), []),
            (GroupChanged(OTHER_LAMP), [Changed(None), Available(False)]),
            (DARK, [Changed(GroupState.OFF), Available(True), Show(False)]),
        ],
    ),
    "a reload that makes commands of units forgets the units": (
        ON,
        [
            (GroupChanged(replace(LAMP, id="web")), [Changed(None), Available(False)]),
            (LIT, [Changed(GroupState.ON), Available(True), Show(True)]),
        ],
    ),
    "a tap after a reload that changed what the group means is no part of the request before it": (
        OFF,
        [
            (Written(1, True), [START]),
            (RequestAccepted(1), []),
            (GroupChanged(NARROWER), [AwaitKnown(1)]),
            (Written(2, True), [Answer(1, False), Send(2, Action.START)]),
        ],
    ),
    "a tap after a reload that changed nothing of what root acts on is part of the request before it": (
        OFF,
        [(Written(1, True), [START]), (GroupChanged(RENAMED), []), (Written(2, True), [])],
    ),
    "a reload that adds a restart switch makes it readable": (
        after(RESTARTABLE, both(UP)),
        [(GroupChanged(WITH_RESTART), [Available(True), Show(False, tile=Tile.RESTART)])],
    ),
    "a reload that adds a restart switch and the action is readable when the units are told": (
        ON,
        [
            (
                GroupChanged(WITH_RESTART),
                [Changed(None), Available(False), Available(False), Show(False, tile=Tile.RESTART)],
            ),
            (
                both(UP),
                [Changed(GroupState.ON), Available(True), Show(False, tile=Tile.RESTART), Show(True)],
            ),
        ],
    ),
    "a reload that keeps or removes a restart switch says nothing of it": (
        after(WITH_RESTART, both(UP)),
        [(GroupChanged(WITH_RESTART), []), (GroupChanged(RESTARTABLE), [])],
    ),
    "a restart switch that a reload adds during a restart is on": (
        after(RESTARTABLE, both(UP), Written(1, True, Tile.RESTART), RequestAccepted(1), WriteTimedOut(1)),
        [
            (GroupChanged(WITH_RESTART), [Available(True), Show(True, tile=Tile.RESTART)]),
            (RequestFinished(1), [Show(False, tile=Tile.RESTART)]),
        ],
    ),
    "a restart switch that is readable again is shown, too": (
        after(WITH_RESTART, both(UP)),
        [
            (NOTHING, [Changed(None), Available(False)]),
            (
                both(UP),
                [Changed(GroupState.ON), Available(True), Show(False, tile=Tile.RESTART), Show(True)],
            ),
        ],
    ),
    "a reload does not disturb a request that runs": (
        OFF,
        [
            (Written(1, True), [START]),
            (GroupChanged(RENAMED), []),
            (both(UP), [Changed(GroupState.ON)]),
            (RequestFinished(1), [Answer(1, True), Show(True, writer=1)]),
        ],
    ),
    "a restart keeps the group's tile on and turns its own off when it is done": (
        ON,
        [
            (Written(1, True, Tile.RESTART), [Send(1, Action.RESTART)]),
            (both(STOPPING), [Changed(GroupState.STOPPING)]),
            (both(STARTING), [Changed(GroupState.STARTING)]),
            (both(UP), [Changed(GroupState.ON)]),
            (
                RequestFinished(1),
                [Answer(1, True), Show(True, 1, Tile.RESTART), Show(False, tile=Tile.RESTART)],
            ),
        ],
    ),
    "a restart that takes long is on until its end": (
        ON,
        [
            (Written(1, True, Tile.RESTART), [Send(1, Action.RESTART)]),
            (RequestAccepted(1), []),
            (WriteTimedOut(1), [Answer(1, True), Show(True, 1, Tile.RESTART)]),
            (both(STARTING), [Changed(GroupState.STARTING)]),
            (both(UP), [Changed(GroupState.ON)]),
            (RequestFinished(1), [Show(False, tile=Tile.RESTART)]),
        ],
    ),
    "a restart that fails at once is an error, and the group's tile tells the truth": (
        ON,
        [
            (Written(1, True, Tile.RESTART), [Send(1, Action.RESTART)]),
            (units(FAILED, UP), [Changed(GroupState.FAILED)]),
            (RequestFinished(1, "no"), [RequestFailed(Action.RESTART, "no"), Answer(1, False), Show(False)]),
        ],
    ),
    "a restart that fails later turns both tiles off": (
        ON,
        [
            (Written(1, True, Tile.RESTART), [Send(1, Action.RESTART)]),
            (RequestAccepted(1), []),
            (WriteTimedOut(1), [Answer(1, True), Show(True, 1, Tile.RESTART)]),
            (units(FAILED, UP), [Changed(GroupState.FAILED)]),
            (
                RequestFinished(1, "no"),
                [RequestFailed(Action.RESTART, "no"), Show(False, tile=Tile.RESTART), Show(False)],
            ),
        ],
    ),
    "a restart of a group that is off leaves it off": (
        OFF,
        [
            (Written(1, True, Tile.RESTART), [Send(1, Action.RESTART)]),
            (
                RequestFinished(1),
                [Answer(1, True), Show(True, 1, Tile.RESTART), Show(False, tile=Tile.RESTART)],
            ),
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
            (RequestAccepted(1), [Answer(1, True), Show(False, tile=Tile.RESTART)]),
            (RequestAccepted(2), []),
            (RequestFinished(2), [Answer(2, True), Show(False, writer=2)]),
        ],
    ),
    "a tap that was replaced and handed over only after the newer one ended is corrected": (
        OFF,
        [
            (Written(1, True), [START]),
            (Written(2, False), [Send(2, Action.STOP)]),
            (RequestFinished(2), [Answer(2, True), Show(False, writer=2)]),
            (RequestAccepted(1), [Answer(1, True), Show(False)]),
        ],
    ),
    "a group of commands is what its status says": (
        Switch(LAMP),
        [
            (status(None), []),
            (DARK, [Changed(GroupState.OFF), Available(True), Show(False)]),
            (DARK, []),
            (LIT, [Changed(GroupState.ON), Show(True)]),
            (DARK, [Changed(GroupState.OFF), Show(False)]),
        ],
    ),
    "a status that cannot be told makes the switch unavailable, and not off": (
        after(LAMP, LIT),
        [
            (MUTE, [Changed(None), Available(False)]),
            (LIT, [Changed(GroupState.ON), Available(True), Show(True)]),
            (NOTHING, [Changed(None), Available(False)]),
            (DARK, [Changed(GroupState.OFF), Available(True), Show(False)]),
        ],
    ),
    "a status that cannot be told is not waited for, although the group is shown off": (
        LAMP_OFF,
        [
            (MUTE, [Changed(None), Available(False)]),
            (DARK, [Changed(GroupState.OFF), Available(True), Show(False)]),
        ],
    ),
    "a tap on a group of commands whose status changes before its end": (
        LAMP_OFF,
        [
            (Written(1, True), [START]),
            (LIT, [Changed(GroupState.ON)]),
            (RequestFinished(1), [Answer(1, True), Show(True, writer=1)]),
        ],
    ),
    "a group whose check has not answered yet is not shown at first": (
        Switch(CHECKED),
        [(ASKED, []), (YES, [Changed(GroupState.ON), Available(True), Show(True)])],
    ),
    "a group that is shown off stays off while its check is asked": (
        CHECKED_OFF,
        [
            (both(STARTING), [Changed(GroupState.STARTING), Show(True)]),
            (both(DOWN), [Changed(GroupState.OFF), Show(False)]),
            (ASKED, [AwaitKnown(1)]),
            (NO, [Changed(GroupState.PARTIAL)]),
            (StayedUnknown(1), []),
        ],
    ),
    "a group that is shown off is on when its check says so": (
        CHECKED_OFF,
        [(ASKED, [AwaitKnown(1)]), (YES, [Changed(GroupState.ON), Show(True)])],
    ),
    "a group that is shown off is unavailable when its check does not answer in time": (
        CHECKED_OFF,
        [
            (ASKED, [AwaitKnown(1)]),
            (StayedUnknown(1), [Changed(None), Available(False)]),
            (NO, [Changed(GroupState.PARTIAL), Available(True), Show(False)]),
        ],
    ),
    "being told the same again gives a check no more time": (
        CHECKED_OFF,
        [
            (ASKED, [AwaitKnown(1)]),
            (ASKED, []),
            (units(UP, UP, DOWN), []),
            (StayedUnknown(1), [Changed(None), Available(False)]),
        ],
    ),
    "the time of an earlier question is not that of a later one": (
        CHECKED_OFF,
        [
            (ASKED, [AwaitKnown(1)]),
            (both(DOWN), [Changed(GroupState.OFF)]),
            (ASKED, [AwaitKnown(2)]),
            (StayedUnknown(1), []),
            (StayedUnknown(2), [Changed(None), Available(False)]),
        ],
    ),
    "a group that is shown on is unavailable as soon as its check must be asked again": (
        CHECKED_ON,
        [
            (ASKED, [Changed(None), Available(False)]),
            (YES, [Changed(GroupState.ON), Available(True), Show(True)]),
        ],
    ),
    "a check has no say while its units are not all up": (
        CHECKED_ON,
        [
            (units(DOWN, UP, check=ProbeResult.ON), [Changed(GroupState.PARTIAL), Show(False)]),
            (units(DOWN, UP), []),
            (both(DOWN, ProbeResult.UNAVAILABLE), [Changed(GroupState.OFF)]),
        ],
    ),
    "a check that cannot be run makes units that are up unavailable": (
        CHECKED_ON,
        [
            (both(UP, ProbeResult.UNAVAILABLE), [Changed(None), Available(False)]),
            (both(DOWN), [Changed(GroupState.OFF), Available(True), Show(False)]),
            (both(UP, ProbeResult.UNAVAILABLE), [Changed(None), Available(False)]),
        ],
    ),
    "a start stays as requested while the check is asked": (
        CHECKED_OFF,
        [
            (Written(1, True), [START]),
            (RequestAccepted(1), []),
            (both(STARTING), [Changed(GroupState.STARTING)]),
            (ASKED, [AwaitKnown(1)]),
            (WriteTimedOut(1), [Answer(1, True), Show(True, writer=1)]),
            (StayedUnknown(1), []),
            (YES, [Changed(GroupState.ON)]),
            (RequestFinished(1), []),
        ],
    ),
    "a start whose check says no snaps back": (
        CHECKED_OFF,
        [
            (Written(1, True), [START]),
            (RequestAccepted(1), []),
            (ASKED, [AwaitKnown(1)]),
            (WriteTimedOut(1), [Answer(1, True), Show(True, writer=1)]),
            (NO, [Changed(GroupState.PARTIAL)]),
            (RequestFinished(1, "check failed"), [RequestFailed(Action.START, "check failed"), Show(False)]),
        ],
    ),
    "a start that ends before its check answered is not shown on": (
        CHECKED_OFF,
        [
            (Written(1, True), [START]),
            (ASKED, [AwaitKnown(1)]),
            (RequestFinished(1), [Answer(1, True), AwaitKnown(2)]),
            (StayedUnknown(1), []),
            (NO, [Changed(GroupState.PARTIAL), Show(False)]),
        ],
    ),
    "a request that is refused while the check is asked gives it no more time": (
        CHECKED_OFF,
        [
            (ASKED, [AwaitKnown(1)]),
            (Written(1, False), [Send(1, Action.STOP)]),
            (RequestFinished(1, "denied"), [RequestFailed(Action.STOP, "denied"), Answer(1, False)]),
            (StayedUnknown(1), [Changed(None), Available(False)]),
        ],
    ),
    "a request that runs when the time of a check is over gives it some more": (
        CHECKED_OFF,
        [
            (ASKED, [AwaitKnown(1)]),
            (Written(1, False), [Send(1, Action.STOP)]),
            (StayedUnknown(1), []),
            (
                RequestFinished(1, "denied"),
                [RequestFailed(Action.STOP, "denied"), Answer(1, False), AwaitKnown(2)],
            ),
            (StayedUnknown(2), [Changed(None), Available(False)]),
        ],
    ),
    "a start that was told and ends before its check answered is unavailable": (
        CHECKED_OFF,
        [
            (Written(1, True), [START]),
            (RequestAccepted(1), []),
            (ASKED, [AwaitKnown(1)]),
            (WriteTimedOut(1), [Answer(1, True), Show(True, writer=1)]),
            (RequestFinished(1), [Available(False)]),
            (YES, [Changed(GroupState.ON), Available(True), Show(True)]),
        ],
    ),
    "a check that comes with a reload is asked before the group is on": (
        ON,
        [
            (GroupChanged(CHECKED), [Changed(None), Available(False)]),
            (ASKED, []),
            (YES, [Changed(GroupState.ON), Available(True), Show(True)]),
        ],
    ),
    "a momentary switch runs its command at each On, and turns itself off": (
        Switch(BELL),
        [
            (status(None), [Changed(GroupState.OFF), Available(True), Show(False)]),
            (Written(1, True), [Send(1, Action.START)]),
            (RequestAccepted(1), []),
            (RequestFinished(1), [Answer(1, True), Show(True, writer=1), Show(False)]),
            (Written(2, False), [Answer(2, True)]),
            (Written(3, True), [Send(3, Action.START)]),
            (RequestFinished(3, "failed"), [RequestFailed(Action.START, "failed"), Answer(3, False)]),
        ],
    ),
    "each tap of a momentary switch runs its command, also during the last run": (
        Switch(BELL),
        [
            (status(None), [Changed(GroupState.OFF), Available(True), Show(False)]),
            (Written(1, True), [Send(1, Action.START)]),
            (RequestAccepted(1), []),
            (Written(2, True), [Answer(1, True), Send(2, Action.START)]),
            (Written(3, True), [Send(3, Action.START)]),
            (RequestFinished(1), []),
            (RequestAccepted(2), [Answer(2, True)]),
            (RequestFinished(2), []),
            (RequestAccepted(3), []),
            (RequestFinished(3), [Answer(3, True), Show(True, writer=3), Show(False)]),
        ],
    ),
    "a momentary switch with a slow command shows On until it ends": (
        Switch(BELL),
        [
            (status(None), [Changed(GroupState.OFF), Available(True), Show(False)]),
            (Written(1, True), [Send(1, Action.START)]),
            (RequestAccepted(1), []),
            (WriteTimedOut(1), [Answer(1, True), Show(True, writer=1)]),
            (Written(2, False), [Answer(2, True)]),
            (RequestFinished(1), [Show(False)]),
        ],
    ),
    "a momentary switch with only a stop command rests at On": (
        Switch(SILENCER),
        [
            (status(None), [Changed(GroupState.ON), Available(True), Show(True)]),
            (Written(1, True), [Answer(1, True)]),
            (Written(2, False), [Send(2, Action.STOP)]),
            (RequestAccepted(2), []),
            (RequestFinished(2), [Answer(2, True), Show(False, writer=2), Show(True)]),
        ],
    ),
    "a momentary switch without a helper is unavailable": (
        Switch(BELL),
        [
            (status(None), [Changed(GroupState.OFF), Available(True), Show(False)]),
            (NOTHING, [Changed(None), Available(False)]),
        ],
    ),
    "a tap during a restart ends it": (
        ON,
        [
            (Written(1, True, Tile.RESTART), [Send(1, Action.RESTART)]),
            (RequestAccepted(1), []),
            (WriteTimedOut(1), [Answer(1, True), Show(True, 1, Tile.RESTART)]),
            (Written(2, False), [Show(False, tile=Tile.RESTART), Send(2, Action.STOP)]),
            (RequestFinished(1, "a.service canceled"), []),
            (both(DOWN), [Changed(GroupState.OFF)]),
            (RequestFinished(2), [Answer(2, True), Show(False, writer=2)]),
        ],
    ),
}


@pytest.mark.parametrize(("switch", "story"), STORIES.values(), ids=STORIES.keys())
def test_story(switch: Switch, story: Story) -> None:
    for event, expected in story:
        switch, decisions = switch.step(event)
        assert (event, typed(decisions)) == (event, typed(expected))


def test_what_is_told_again_changes_nothing() -> None:
    for switch, story in STORIES.values():
        observed = None
        for event, _ in story:
            switch, _ = switch.step(event)  # noqa: PLW2901 -- the next one of this story
            observed = (
                event
                if isinstance(event, Observed)
                else None
                if isinstance(event, GroupChanged)
                else observed
            )
            if observed is not None:
                assert switch.step(observed) == (switch, ()), story


def test_the_state_is_computed_once_for_what_is_observed_and_for_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    computed: list[Group] = []
    compute = Group.state

    def counted(
        group: Group, states: Mapping[str, UnitState], probe_result: ProbeResult | None
    ) -> GroupState | None:
        computed.append(group)
        return compute(group, states, probe_result)

    monkeypatch.setattr(Group, "state", counted)
    for switch, story in STORIES.values():
        for event, _ in story:
            computed.clear()
            switch, _ = switch.step(event)  # noqa: PLW2901 -- the next one of this story
            has_units = isinstance(event, Observed) and event.units is not None
            assert computed == ([switch.group] if has_units else []), story


def test_what_is_not_known_is_never_shown_on() -> None:
    for switch, story in STORIES.values():
        for event, _ in story:
            switch, _ = switch.step(event)  # noqa: PLW2901 -- the next one of this story
            assert switch.is_known or switch.pending or not (switch.available and switch.shown), story
