"""The events and decisions of a switch. Pure: values only."""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final, NamedTuple

from hkswitch.model.group import Group
from hkswitch.model.unit_state import Action, GroupState, ProbeResult, UnitFailure, UnitState

WRITE_TIMEOUT_SECONDS: Final = 1.0
"""The time limit for answering a write. iOS gives up after about 10 s, and sends nothing else meanwhile."""

KNOWN_WITHIN_SECONDS: Final = 5.0
"""How long a group shown as off may have an unknown state before the Home app shows "No Response"."""

STABLE_AFTER_SECONDS: Final = 2.0
"""How long a group that failed must stay up to be shown as on. A group in a crash loop never does."""


class Tile(Enum):
    """A tile of a group in the Home app."""

    GROUP = "group"
    RESTART = "restart"


class RequestOrigin(Enum):
    """The kind of caller for whom a request is made."""

    CONTROLLER = "controller"
    USER = "user"
    """A user at a terminal waits: so watch for longer whether the group stays up."""
    RULE = "rule"
    """No user waits: the group's `restart_when` requests this."""


# Events


class Observed(NamedTuple):
    """Everything that the host knows about the group now.

    `units` is None while the host knows nothing, and `probe_result` while the probe has not answered. `why`
    is the reason for the probe's result, or for an unknown state. `failures` are those of members. `group`
    is what the host says the group is, if that does not stand in the daemon's config.
    """

    units: Mapping[str, UnitState] | None
    probe_result: ProbeResult | None = None
    why: str = ""
    failures: Mapping[str, UnitFailure] = MappingProxyType({})
    group: Group | None = None


class GroupChanged(NamedTuple):
    """The config of the group changed; its id is the same."""

    group: Group


class StayedUnknown(NamedTuple):
    """`KNOWN_WITHIN_SECONDS` have passed since the `AwaitKnown` of this number."""

    number: int


class StayedUp(NamedTuple):
    """`STABLE_AFTER_SECONDS` have passed since the `AwaitStable` of this number."""

    number: int


class Written(NamedTuple):
    """A controller wrote On of a tile. `write` is a number, larger than all before it."""

    write: int
    on: bool
    tile: Tile = Tile.GROUP


class WriteTimedOut(NamedTuple):
    """`WRITE_TIMEOUT_SECONDS` have passed since the write."""

    write: int


class RequestAccepted(NamedTuple):
    """The helper accepted the request and is carrying it out."""

    request: int


class RequestFinished(NamedTuple):
    """The request ended; every state that it led to has been `Observed`.

    `failure` says what failed, and is None after a success.
    """

    request: int
    failure: str | None = None


Event = (
    Observed
    | GroupChanged
    | StayedUnknown
    | StayedUp
    | Written
    | WriteTimedOut
    | RequestAccepted
    | RequestFinished
)


# Decisions


class Send(NamedTuple):
    """Send this request to the host; `RequestAccepted` and `RequestFinished` come back."""

    request: int
    action: Action


class Answer(NamedTuple):
    """Answer the write. If not ok, the answer is -70402 and the controller keeps its value."""

    write: int
    ok: bool


class Show(NamedTuple):
    """Store On of a tile and send it as an event to every controller but the one that wrote `writer`."""

    on: bool
    writer: int | None = None
    tile: Tile = Tile.GROUP


class Available(NamedTuple):
    """Answer reads with a value, or with -70402."""

    available: bool


class AwaitKnown(NamedTuple):
    """Send `StayedUnknown` with this number after `KNOWN_WITHIN_SECONDS`."""

    number: int


class AwaitStable(NamedTuple):
    """Send `StayedUp` with this number after `STABLE_AFTER_SECONDS`."""

    number: int


class Changed(NamedTuple):
    """Report that the group's state changed; None is unknown."""

    state: GroupState | None


class RequestFailed(NamedTuple):
    """Log that a request failed."""

    action: Action
    failure: str


Decision = Send | Answer | Show | Available | AwaitKnown | AwaitStable | Changed | RequestFailed
