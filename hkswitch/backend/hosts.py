"""This machine and all other hosts as one `Host`: each group is passed on to the host that runs it.

Does not run as root. Hosts do not wait for one another: what is slow or gone concerns its own groups only.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Final, NoReturn

from hkswitch.backend import Observer
from hkswitch.backend.helper_host import HelperHost
from hkswitch.backend.known_groups import host_of
from hkswitch.model.elsewhere import RemoteHost
from hkswitch.model.group import Group
from hkswitch.model.switch_events import Observed, RequestOrigin
from hkswitch.model.unit_state import Action, ActionResult, Sample
from hkswitch.protocol.host_report import HostReport

REMOTE_WITHIN_SECONDS: Final = 1
"""How long a reload waits for other hosts; those that answer later are shown later."""

HURRY_AGAIN_SECONDS: Final = 10
"""A host that comes and goes must not make those that are away cost more."""

MakeRemote = Callable[[RemoteHost, Collection[Group]], HelperHost]
"""Returns another host; of the groups, only its own count."""


class Hosts:
    """This machine, and the other hosts that have groups."""

    def __init__(self, local: HelperHost, groups: Collection[Group], make_remote: MakeRemote) -> None:
        """Starts nothing yet: `open` does."""
        self._local = local
        self._make_remote = make_remote
        self._groups = groups
        self._places = _places_of(groups)
        self._observer: Observer | None = None
        self._remote: dict[RemoteHost, HelperHost] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._broken: asyncio.Future[NoReturn] = asyncio.get_running_loop().create_future()
        self._hurried_seconds = float("-inf")

    async def open(self, observer: Observer) -> None:
        """Start observing all hosts; wait for this one only: no other may delay the bridge's start."""
        self._observer = observer
        self._open_missing()
        await self._local.open(_Own(observer, self._is_local))

    async def watch(self, groups: Collection[Group]) -> None:
        """Observe these groups from now on, and connect to hosts that are not connected, at once."""
        self._groups, self._places = groups, _places_of(groups)
        hosts = _hosts_of(groups)
        kept = [host for host in self._remote if host in hosts]
        for host in [host for host in self._remote if host not in hosts]:
            self._spawn(self._remote.pop(host).close())  # from now on, its reports are dropped (`_Own`)
        watching = [self._spawn(self._remote[host].watch(groups)) for host in kept]
        for host in kept:
            self._remote[host].retry()
        watching += self._open_missing()
        await self._local.watch(groups)
        await self._wait(watching)

    async def request(
        self, action: Action, group_id: str, accepted: Callable[[], None], origin: RequestOrigin
    ) -> ActionResult:
        """Perform an action on the host that runs the group."""
        place = self._places.get(group_id)
        if place is None:  # it is this machine's, or a reload has removed it
            return await self._local.request(action, group_id, accepted, origin)
        if (remote := self._remote.get(place)) is None:
            return ActionResult(f"the host {place.name} is not connected (it has not been tried yet)")
        return await remote.request(action, group_id, accepted, origin)

    async def alert(self, group_id: str, state: str, reason: str) -> ActionResult:
        """Run this machine's alert command, for a group of any host."""
        return await self._local.alert(group_id, state, reason)

    def trouble(self) -> str:
        """Return why no action is possible on this machine."""
        return self._local.trouble()

    async def check_config(self) -> str:
        """Return why root rejects the config on this machine."""
        return await self._local.check_config()

    def config_problem(self) -> str:
        """Return why the config on this machine's disk is not the one in force."""
        return self._local.config_problem()

    def remote_hosts(self) -> tuple[HostReport, ...]:
        """Return how the other hosts are, in the order of their names."""
        found = (report for remote in self._remote.values() for report in remote.remote_hosts())
        return tuple(sorted(found))

    async def until_broken(self) -> NoReturn:
        """Wait until a host breaks, and raise its exception."""
        local = asyncio.ensure_future(self._local.until_broken())
        try:
            await asyncio.wait([local, self._broken], return_when=asyncio.FIRST_COMPLETED)
            (self._broken if self._broken.done() else local).result()
            raise AssertionError  # neither ends without an exception
        finally:
            local.cancel()

    async def close(self) -> None:
        """Close all hosts."""
        closing = (self._local.close(), *(host.close() for host in self._remote.values()))
        try:
            await asyncio.gather(*closing)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _is_local(self, group_id: str) -> bool:
        return self._places.get(group_id) is None

    def _open_missing(self) -> list[asyncio.Task[None]]:
        """Begin to open the hosts that have groups and are not open yet."""
        opening = []
        for host in _hosts_of(self._groups):
            if host in self._remote:
                continue
            self._remote[host] = self._make_remote(host, self._groups)
            opening.append(self._spawn(self._open(host, self._remote[host])))
        return opening

    async def _open(self, host: RemoteHost, remote: HelperHost) -> None:
        assert self._observer is not None  # noqa: S101 -- open() came first

        def is_its(group_id: str) -> bool:
            return self._places.get(group_id) == host and self._remote.get(host) is remote

        await remote.open(_Own(self._observer, is_its, _Connections(remote, self._connected).noticed))
        self._spawn(remote.until_broken())

    def _connected(self) -> None:
        """Hurry the hosts that are away: perhaps it was this machine's own network that was gone."""
        now_seconds = asyncio.get_running_loop().time()
        if now_seconds - self._hurried_seconds >= HURRY_AGAIN_SECONDS:
            self._hurried_seconds = now_seconds
            for remote in self._remote.values():
                remote.hurry()

    async def _wait(self, tasks: Collection[asyncio.Task[None]]) -> None:
        if tasks:
            await asyncio.wait(tasks, timeout=REMOTE_WITHIN_SECONDS)

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not (task.cancelled() or self._broken.done()) and (error := task.exception()):
            self._broken.set_exception(error)


class _Own:
    """The observer of one host, which is told of groups that this host runs now, and of no others.

    A host whose last group was removed is closed a moment later than another one takes its place.
    """

    def __init__(
        self,
        observer: Observer,
        is_its: Callable[[str], bool],
        noticed: Callable[[], None] = lambda: None,
    ) -> None:
        self._observer = observer
        self._is_its = is_its
        self._noticed = noticed

    def observed(self, group_id: str, observed: Observed) -> None:
        # TRUST: whatever a host reports, it is the state of its own groups.
        if self._is_its(group_id):
            self._observer.observed(group_id, observed)

    def sampled(self, group_id: str, sample: Sample) -> None:
        if self._is_its(group_id):
            self._observer.sampled(group_id, sample)

    def noticed(self) -> None:
        self._noticed()
        self._observer.noticed()


class _Connections:
    """The connections of one host: calls `connected` when one begins."""

    def __init__(self, remote: HelperHost, connected: Callable[[], None]) -> None:
        self._remote = remote
        self._connected = connected
        self._is_connected = False

    def noticed(self) -> None:
        was_connected, self._is_connected = self._is_connected, not self._remote.trouble()
        if self._is_connected and not was_connected:
            self._connected()


def _places_of(groups: Collection[Group]) -> dict[str, RemoteHost | None]:
    """Return the host of each group; None is this machine."""
    return {group.id: host_of(group) for group in groups}


def _hosts_of(groups: Collection[Group]) -> Collection[RemoteHost]:
    """Return the hosts of the groups, in their order."""
    return dict.fromkeys(host for group in groups if (host := host_of(group)) is not None).keys()
