"""What happens to a switch, and what is to be done about it. Pure: values only."""

from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple

from hkswitch.model.group import Group
from hkswitch.model.unit_state import Action, GroupState, ProbeResult, UnitState

ANSWER_WITHIN_SECONDS: Final = 1.0
"""A write is answered by then. iOS gives up at about 10 s and waits for nothing else meanwhile."""

KNOWN_WITHIN_SECONDS: Final = 5.0
"""For so long a group that is shown off may be asked how it is; after that it is "No Response"."""

STEADY_AFTER_SECONDS: Final = 2.0
"""A group that failed and comes up by itself is shown on after so long: one in a crash loop never is."""


class Tile(Enum):
    """What a controller sees and writes of a group."""

    GROUP = "group"
    RESTART = "restart"


# Events


class Observed(NamedTuple):
    """All that the host knows of the group now.

    `units` is None while it knows nothing; `verdict` is what the probe says, None while it has not answered.
    `why` is the reason, of the probe or for knowing nothing.
    """

    units: Mapping[str, UnitState] | None
    verdict: ProbeResult | None = None
    why: str = ""


class Regrouped(NamedTuple):
    """The config says something else of the group now; its id is the same."""

    group: Group


class StillUnknown(NamedTuple):
    """`KNOWN_WITHIN_SECONDS` passed since the `AwaitKnown` of this number."""

    number: int


class Steady(NamedTuple):
    """`STEADY_AFTER_SECONDS` passed since the `AwaitSteady` of this number."""

    number: int


class Written(NamedTuple):
    """A controller wrote On of a tile. `write` is a number larger than any before."""

    write: int
    on: bool
    tile: Tile = Tile.GROUP


class Waited(NamedTuple):
    """`ANSWER_WITHIN_SECONDS` passed since the write."""

    write: int


class RequestAccepted(NamedTuple):
    """The request was handed over: it is being done."""

    request: int


class RequestFinished(NamedTuple):
    """The request ended, and every state that it led to was `Observed` before.

    `failure` is None for success, else what failed.
    """

    request: int
    failure: str | None = None


Event = Observed | Regrouped | StillUnknown | Steady | Written | Waited | RequestAccepted | RequestFinished


# Decisions


class Send(NamedTuple):
    """Send this request to the host; `RequestAccepted` and `RequestFinished` come back."""

    request: int
    action: Action


class Answer(NamedTuple):
    """Answer the write; not ok is -70402 and leaves the controller's value as it was."""

    write: int
    ok: bool


class Show(NamedTuple):
    """Store On of a tile and send it as an event to every controller but the one that wrote `writer`."""

    on: bool
    writer: int | None = None
    tile: Tile = Tile.GROUP


class Available(NamedTuple):
    """Whether reads are answered with a value or with -70402."""

    available: bool


class AwaitKnown(NamedTuple):
    """Let `StillUnknown` come back with this number after `KNOWN_WITHIN_SECONDS`."""

    number: int


class AwaitSteady(NamedTuple):
    """Let `Steady` come back with this number after `STEADY_AFTER_SECONDS`."""

    number: int


class Changed(NamedTuple):
    """The group's state changed; None is not known. For the log and for people."""

    state: GroupState | None


class RequestFailed(NamedTuple):
    """A request failed. For the log."""

    action: Action
    failure: str


Decision = Send | Answer | Show | Available | AwaitKnown | AwaitSteady | Changed | RequestFailed
