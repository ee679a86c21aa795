"""Where groups live, seen from the daemon: one Protocol, and a module for each kind of host. Never root."""

from collections.abc import Callable, Collection
from typing import Final, NoReturn, Protocol

from hkswitch.model.group import Group
from hkswitch.model.switch_events import Observed
from hkswitch.model.unit_state import Action, ActionResult

NOT_IN_ACTIONS: Final = "is not in this group's actions"
"""After an action. Whoever wrote the configuration wanted that; the rest that is denied needs a remedy."""


class Observer(Protocol):
    """Who is told of groups."""

    def observed(self, group_id: str, observed: Observed) -> None:
        """Take over all that is known of a group now."""

    def noticed(self) -> None:
        """Take over that `Host.trouble` or `Host.config_problem` is another one."""


class Host(Protocol):
    """Something that runs groups."""

    async def open(self, observer: Observer) -> None:
        """Begin to observe; returns when all groups were told, or after a while without an answer."""

    async def request(
        self, action: Action, group_id: str, accepted: Callable[[], None], *, at_length: bool
    ) -> ActionResult:
        """Do `action` on a group and wait for its end.

        `accepted` is called when the request was handed over to those who do it. The states that it led to
        were told before this returns. `at_length`: a person waits, so watch longer whether it stays up.
        """

    async def watch(self, groups: Collection[Group]) -> None:
        """Observe these groups from now on, and forget what was said of others; returns as `open` does."""

    def trouble(self) -> str:
        """Why no action can be done now, in a few words; nothing if one can."""

    async def check_config(self) -> str:
        """Why the config on disk would not be acted on; empty if it would be, or if that is not known."""

    def config_problem(self) -> str:
        """Why the config on disk is not the one in force; empty if it is."""

    async def until_broken(self) -> NoReturn:
        """Wait for the end of what `open` began, which only a defect can bring: raises it."""

    async def close(self) -> None:
        """End everything that `open` began."""
