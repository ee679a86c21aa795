"""What happens to a switch, and what is to be done about it. Pure: values only."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from hkswitch.core.group import Group
from hkswitch.core.vocabulary import Action, GroupState, UnitState, Verdict

ANSWER_WITHIN_SECONDS: Final = 1.0
"""A write is answered by then. iOS gives up at about 10 s and waits for nothing else meanwhile."""

STEADY_AFTER_SECONDS: Final = 2.0
"""A group that failed and comes up by itself is shown on after so long: one in a crash loop never is."""


class Tile(Enum):
    """What a controller sees and writes of a group."""

    GROUP = "group"
    RESTART = "restart"


# Events


@dataclass(frozen=True, slots=True)
class Seen:
    """The host told the states of some of the group's units."""

    units: Mapping[str, UnitState]


@dataclass(frozen=True, slots=True)
class Probed:
    """What the group's probe says, None while it is asked; `UNAVAILABLE` while nobody can ask it."""

    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class Lost:
    """The host does not know the states any more."""


@dataclass(frozen=True, slots=True)
class Regrouped:
    """The config says something else of the group now; its id is the same."""

    group: Group


@dataclass(frozen=True, slots=True)
class Steady:
    """`STEADY_AFTER_SECONDS` passed since the `AwaitSteady` of this number."""

    number: int


@dataclass(frozen=True, slots=True)
class Written:
    """A controller wrote On of a tile. `write` is a number that was never used before."""

    write: int
    on: bool
    tile: Tile = Tile.GROUP


@dataclass(frozen=True, slots=True)
class Waited:
    """`ANSWER_WITHIN_SECONDS` passed since the write."""

    write: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """The request was handed over: it is being done."""

    request: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The request ended, and every unit state that it led to was `Seen` before.

    `failure` is None for success, else what failed.
    """

    request: int
    failure: str | None = None


Event = Seen | Probed | Lost | Regrouped | Steady | Written | Waited | Accepted | Finished


# Decisions


@dataclass(frozen=True, slots=True)
class Send:
    """Send this request to the host; `Accepted` and `Finished` come back."""

    request: int
    action: Action


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer the write; not ok is -70402 and leaves the controller's value as it was."""

    write: int
    ok: bool


@dataclass(frozen=True, slots=True)
class Show:
    """Store On of a tile and send it as an event to every controller but the one that wrote `writer`."""

    on: bool
    writer: int | None = None
    tile: Tile = Tile.GROUP


@dataclass(frozen=True, slots=True)
class Available:
    """Whether reads are answered with a value or with -70402."""

    available: bool


@dataclass(frozen=True, slots=True)
class AwaitSteady:
    """Let `Steady` come back with this number after `STEADY_AFTER_SECONDS`."""

    number: int


@dataclass(frozen=True, slots=True)
class Changed:
    """The group's state changed; None is not known. For the log and for people."""

    state: GroupState | None


@dataclass(frozen=True, slots=True)
class Failed:
    """A request failed. For the log."""

    action: Action
    failure: str


Decision = Send | Answer | Show | Available | AwaitSteady | Changed | Failed
