"""Where units live: one Protocol, a room for each kind of host. Nothing here runs as root."""

from collections.abc import Callable, Collection, Mapping
from typing import NoReturn, Protocol

from hkswitch.model.group import Group
from hkswitch.model.unit_state import Action, UnitState, Verdict


class Observer(Protocol):
    """Who wants to know the states of units."""

    def seen(self, units: Mapping[str, UnitState]) -> None:
        """Take over the states of units that were read, or changed."""

    def probed(self, group_id: str, verdict: Verdict | None) -> None:
        """Take over what the probe of a group said; None while it is asked."""

    def lost(self) -> None:
        """Forget all states: they cannot be known until they are seen again."""


class Host(Protocol):
    """Something that runs groups of units."""

    async def open(self, observer: Observer) -> None:
        """Begin to observe: each unit's state was seen before this returns. Raises `Failure`.

        What probes say was seen too, if it came soon.
        """

    async def request(self, action: Action, group_id: str, accepted: Callable[[], None]) -> str | None:
        """Do `action` on a group and wait for its end: None for success, else what failed in a few words.

        `accepted` is called when the request was handed over to those who do it. The states that it led to
        were seen before this returns.
        """

    async def watch(self, groups: Collection[Group]) -> None:
        """Observe the units of these groups from now on: each one's state was seen before this returns."""

    def trouble(self) -> str:
        """Why no action can be done now, in a few words; nothing if one can."""

    async def until_broken(self) -> NoReturn:
        """Wait for the end of what `open` began, which only a defect can bring: raises it."""

    async def close(self) -> None:
        """End everything that `open` began."""
