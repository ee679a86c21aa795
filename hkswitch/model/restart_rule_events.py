"""The events and decisions of a group's restart rule. Pure: values only."""

from typing import Final, NamedTuple

from hkswitch.model.group import RestartWhen
from hkswitch.model.unit_state import Sample

GIVEN_UP: Final = "gave up"
"""How the description of a rule that tries no more begins."""

# Events


class Sampled(NamedTuple):
    """The resources of the group, and whether it is `GroupState.ON` now."""

    sample: Sample
    is_on: bool


class RestartEnded(NamedTuple):
    """The restart that the rule decided has ended. `failure` is None after a success."""

    failure: str | None = None


class RuleChanged(NamedTuple):
    """A reload changed the rule, or the members of the group."""

    limits: RestartWhen
    members: tuple[str, ...]


class SamplesLost(NamedTuple):
    """The connection to the host's helper was lost; the host may have been rebooted."""


RuleEvent = Sampled | RestartEnded | RuleChanged | SamplesLost


# Decisions


class RestartDue(NamedTuple):
    """Restart the group; `RestartEnded` comes back. `reason`: "cpu 97 % for 180 s (limit 65 %)"."""

    reason: str


class GaveUp(NamedTuple):
    """Report that the rule tries no more, although it would have to because of `excess`."""

    reason: str
    """Such as "gave up after 3 restarts within an hour"."""
    excess: str
    """Like the reason of `RestartDue`."""


class Armed(NamedTuple):
    """Report that a rule that gave up is active again."""

    reason: str


RuleDecision = RestartDue | GaveUp | Armed
