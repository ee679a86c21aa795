"""This machine: states from systemd's signals, actions through the helper. Needs no privilege itself."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import Final, NoReturn

from hkswitch.backend import Observer
from hkswitch.backend.helper_client import Helper
from hkswitch.model.errors import BusUnavailable, Failure
from hkswitch.model.group import Group
from hkswitch.model.unit_state import Action, Verdict, failure_of
from hkswitch.protocol.helper import Observed
from hkswitch.systemd import Systemd

RECONNECT_SECONDS: Final = 2
HELPER_WITHIN_SECONDS: Final = 3
"""The bridge does not wait longer for a helper that does not come up: it shows the truth without one."""

_log = logging.getLogger(__name__)


class LocalHost:
    """The systemd of this machine, and the helper that may act on it."""

    def __init__(self, groups: Collection[Group], helper: Helper) -> None:
        """The units of `groups` are observed, and asked for what their probes say."""
        self._groups = groups
        self._helper = helper
        self._probed: dict[str, Verdict] = {}
        self._all_probed = asyncio.Event()
        self._systemd: Systemd | None = None
        self._observer: Observer | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, observer: Observer) -> None:
        """Connect to the bus and start the helper; raises `BusUnavailable`."""
        self._observer = observer
        self._helper.observe(self)
        self._tasks = [asyncio.create_task(self._helper.keep_running())]
        systemd = await self._connect(observer)
        self._tasks.append(asyncio.create_task(self._keep_watching(systemd, observer)))
        with suppress(TimeoutError):
            async with asyncio.timeout(HELPER_WITHIN_SECONDS):
                await self._helper.tried()  # so that the first tap does not come too early
                await self._all_probed.wait()

    async def watch(self, groups: Collection[Group]) -> None:
        """Observe these groups from now on."""
        self._groups = groups
        self._helper.observe(self)
        if self._systemd is not None and self._observer is not None:
            with suppress(BusUnavailable):  # _keep_watching() tells the observer, and then watches these
                await self._systemd.watch(_units_of(groups), self._observer.seen)

    def probing(self) -> None:
        """A helper is about to tell what the probes say."""
        self._probed.clear()
        self._take(None)
        self._all_probed.clear()
        self._note_all_probed()

    def probed(self, observed: Observed) -> None:
        """Take over what a probe says, and why."""
        if observed.verdict is Verdict.UNAVAILABLE and observed.verdict is not self._probed.get(
            observed.group
        ):
            _log.warning("%s: %s: %s", observed.group, observed.verdict, observed.reason)
        self._probed[observed.group] = observed.verdict
        self._note_all_probed()
        if self._observer is not None:
            self._observer.probed(observed.group, observed.verdict)

    def unprobed(self) -> None:
        """Without a helper, nobody knows what they say."""
        self._take(Verdict.UNAVAILABLE)
        self._all_probed.set()

    def _take(self, verdict: Verdict | None) -> None:
        for group in self._groups:
            if group.probe and self._observer is not None:
                self._observer.probed(group.id, verdict)

    def _note_all_probed(self) -> None:
        """A check may not be run yet; a status always is."""
        if all(group.id in self._probed for group in self._groups if group.commands):
            self._all_probed.set()

    def trouble(self) -> str:
        """Why there is no helper, if there is none."""
        return self._helper.why_gone

    async def until_broken(self) -> NoReturn:
        """Wait for a defect in the tasks that `open` began."""
        await asyncio.gather(*self._tasks)
        raise AssertionError("they never end")

    async def request(self, action: Action, group_id: str, accepted: Callable[[], None]) -> str | None:
        """Have the helper do it, then make sure that what it led to was seen."""
        try:
            finished = await self._helper.request(action, group_id, accepted)
        except Failure as failure:
            return str(failure)
        if self._systemd is not None:
            with suppress(BusUnavailable):  # _keep_watching() tells the observer
                await self._systemd.see_ends_of(finished.units)
        return None if finished.superseded else failure_of(finished.units)

    async def close(self) -> None:
        """End the helper and close the bus."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._systemd is not None:
            self._systemd.close()

    async def _connect(self, observer: Observer) -> Systemd:
        systemd = await Systemd.connect()
        try:
            await systemd.watch(_units_of(self._groups), observer.seen)
        except BusUnavailable:
            systemd.close()
            raise
        self._systemd = systemd
        return systemd

    async def _keep_watching(self, systemd: Systemd, observer: Observer) -> None:
        while True:
            lost = await systemd.until_lost()
            self._systemd = None
            systemd.close()
            observer.lost()
            _log.error("%s; all switches are unavailable until it is back", lost)
            systemd = await self._reconnect(observer)
            self._helper.observe(self)
            self._helper.start_now()
            _log.warning("systemd is back; all units were read again")

    async def _reconnect(self, observer: Observer) -> Systemd:
        while True:
            try:
                return await self._connect(observer)
            except BusUnavailable:
                await asyncio.sleep(RECONNECT_SECONDS)


def _units_of(groups: Iterable[Group]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(unit for group in groups for unit in group.units))
