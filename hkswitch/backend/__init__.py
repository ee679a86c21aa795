"""The hosts that run groups, as the daemon sees them: the Protocol `Host`. Does not run as root."""

from collections.abc import Callable, Collection
from typing import Final, NoReturn, Protocol

from hkswitch.model.group import Group
from hkswitch.model.switch_events import Observed, RequestOrigin
from hkswitch.model.unit_state import Action, ActionResult, Sample
from hkswitch.protocol.host_report import HostReport

NOT_IN_ACTIONS: Final = "is not in this group's actions"
"""Follows an action in a denial that the configuration intends; other denials need a remedy."""


class Observer(Protocol):
    """The receiver of states."""

    def observed(self, group_id: str, observed: Observed) -> None:
        """Take the state of a group."""

    def sampled(self, group_id: str, sample: Sample) -> None:
        """Take the resources of a group that has `restart_when`."""

    def noticed(self) -> None:
        """Take note that `Host.trouble` or `Host.config_problem` has changed."""


class Host(Protocol):
    """A machine that runs groups."""

    async def open(self, observer: Observer) -> None:
        """Start observing; return when all states have been reported, or after a time limit."""

    async def request(
        self, action: Action, group_id: str, accepted: Callable[[], None], origin: RequestOrigin
    ) -> ActionResult:
        """Perform `action` on a group, and wait until it ends.

        Calls `accepted` when the request is accepted. The states that it led to are reported before this
        returns.
        """

    async def alert(self, group_id: str, state: str, reason: str) -> ActionResult:
        """Run the host's alert command for a group in trouble, to its end.

        `state` is a word for the group's state, and `reason` a printable line.
        """

    async def watch(self, groups: Collection[Group]) -> None:
        """Observe these groups from now on, and no others; returns as `open` does."""

    def trouble(self) -> str:
        """Return why no action is possible now, in a few words; empty if actions are possible."""

    async def check_config(self) -> str:
        """Return why the host rejects the config on disk; empty if it accepts it, or if that is not known."""

    def config_problem(self) -> str:
        """Return why the config on disk is not the one in force; empty if it is."""

    def remote_hosts(self) -> tuple[HostReport, ...]:
        """Return how the other hosts are, in the order of their names."""

    async def until_broken(self) -> NoReturn:
        """Wait until a task that `open` started fails because of a bug, and raise its exception."""

    async def close(self) -> None:
        """Stop everything that `open` started."""
