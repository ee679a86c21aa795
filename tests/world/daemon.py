"""A simulated daemon process: the real code from the switchboard to the helper's session, and its front."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hkswitch.backend import Host
from hkswitch.backend.helper_host import HelperHost
from hkswitch.control.server import Clients
from hkswitch.daemon.alerts import Alerts
from hkswitch.daemon.kept_alerts import KeptAlerts, alerts_file
from hkswitch.daemon.kept_file import KeptFormat  # noqa: TC001 -- a dataclass needs it
from hkswitch.daemon.rules import Rules
from hkswitch.daemon.serving import Followers, Serving
from hkswitch.daemon.serving import ServedBridge as AnyFront
from hkswitch.daemon.switchboard import Switchboard
from hkswitch.model.config import BridgeConfig, Config
from hkswitch.model.errors import Failure
from hkswitch.model.group import Group
from hkswitch.model.unit_state import ActionResult
from hkswitch.network.endpoint import Endpoint
from tests.world.files import ConfigFile
from tests.world.front import AnyFront as WorldFront
from tests.world.helper import Transport
from tests.world.processes import Process
from tests.world.terminal import ROOT, Terminals

PLACES: Final = (
    Endpoint(("192.0.2.1",), frozenset({2})),
    Endpoint(("192.0.2.2", "2001:db8::2"), frozenset({2, 3})),
)


@dataclass(eq=False)
class NetworkNews:
    """The network of a world, which may change without another place coming of it."""

    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self) -> None:
        await self.changed.wait()
        self.changed.clear()


@dataclass(eq=False)
class Outside:
    """What the daemon needs, and who is told how it is."""

    file: ConfigFile
    delay_seconds: Callable[[], float]
    place: Endpoint = PLACES[0]
    served: Endpoint | None = None
    """Where the bridge is, as the daemon says."""
    news: NetworkNews = field(default_factory=NetworkNews)
    trouble: str = ""
    """Why some switch does not work, as `systemctl status` would have it."""

    async def read(self) -> Config:
        """The disk may be slow, before and after it was read."""
        await asyncio.sleep(self.delay_seconds())
        try:
            return self.file.read_by_daemon()
        finally:
            await asyncio.sleep(self.delay_seconds())

    @property
    def restart(self) -> str:
        return "`sudo systemctl restart hkswitch`"

    def reloading(self) -> None:
        """Nobody is told."""

    def find(self, bridge: BridgeConfig, before: Endpoint | None) -> Endpoint:
        assert bridge.port
        assert before is None or before in PLACES
        return self.place

    def waiting(self, why: str) -> None:
        self.trouble = why

    def serving(self, config: Config, place: Endpoint, front: AnyFront, trouble: str) -> None:
        self.served = place
        assert front.paired
        assert config.groups
        self.trouble = trouble


@dataclass(eq=False)
class KeptInMemory:
    """The file of a daemon's alerts, on a disk that never fails."""

    contents: bytes = b""

    def __post_init__(self) -> None:
        self._format: KeptFormat[KeptAlerts] = getattr(alerts_file(Path()), "_format")  # noqa: B009 -- its own

    def read(self) -> KeptAlerts:
        return self._format.parse(self.contents) if self.contents else KeptAlerts()

    def keep(self, value: KeptAlerts) -> None:
        self.contents = json.dumps(self._format.encode(value)).encode()

    def close(self) -> None:
        """Nothing waits to be written."""


class WatchedSwitchboard(Switchboard):
    """A switchboard that tells what rules ask for."""

    attempted: Callable[[str], None]

    def restart_by_rule(self, group_id: str) -> Awaitable[ActionResult]:
        self.attempted(group_id)
        return super().restart_by_rule(group_id)


@dataclass(eq=False)
class Daemon:
    """One daemon, from its start to its end."""

    file: ConfigFile
    transport: Transport
    make_front: Callable[[Iterable[Group]], WorldFront]
    note: Callable[[str], None]
    kept: "KeptInMemory"
    attempted: Callable[[str], None]
    """Is told the group of each restart that a rule asks for."""
    make_host: Callable[[Collection[Group], Transport], Host] = HelperHost
    """Returns what runs all groups."""
    process: Process = field(default_factory=lambda: Process("daemon"))
    broke: BaseException | None = None
    is_down: bool = False
    reloads: list[str] = field(default_factory=list)
    """What came of each reload: a note, or what is wrong."""
    _reloading: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        """Begin; raises `Failure` if its config is bad."""
        config = self.file.read_by_daemon()
        self.process.context.run(self._make, config)
        self._living = self.process.spawn(self._live())

    def _make(self, config: Config) -> None:
        self.host = self.make_host(config.groups, self.transport)
        self.front = self.make_front(config.groups)
        alerts = Alerts(config, self.host, self.front, self.kept)
        self.switchboard = WatchedSwitchboard(config.groups, self.host, self.front, alerts.request_failed)
        self.switchboard.attempted = self.attempted
        self.outside = Outside(self.file, self.transport.chance.delay_seconds)
        self.rules = Rules(config.groups, self.switchboard, alerts)
        followers = Followers(self.switchboard, alerts, self.rules)
        self.serving = Serving(self.host, self.front, followers, self.outside, config)
        self.clients = Clients(self.serving, ROOT, None)
        self.terminals = Terminals(self.process, self.clients, self.transport.chance)

    async def _live(self) -> None:
        try:
            await self.serving.live(self._network)
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is what this looks for
            self.broke = error

    def reload(self) -> None:
        """As `systemctl reload` asks for it."""
        self._reloading.append(self.process.spawn(self._reload()))

    async def _reload(self) -> None:
        was_bad, repairs, helper = not self.file.is_good, self.file.repairs, self.transport.newest
        try:
            came = await self.serving.reload()
        except Failure as failure:
            came = f"not reloaded: {failure}"
        was_asked = helper is not None and helper is self.transport.newest and not self.host.trouble()
        is_bad = was_bad and self.file.repairs == repairs
        if was_asked and is_bad and not came.startswith("not reloaded"):
            self.broke = AssertionError("an untrusted config was applied")
        self.reloads.append(came)
        self.note(f"reload: {came or 'done'}")

    def kill(self) -> None:
        """SIGKILL: its helpers see the end of their input, and its controllers theirs."""
        self.is_down = True
        self.front.go_down()
        self.terminals.go_down()
        self.process.wipe_out()
        for helper in self.transport.helpers:
            helper.orphan()

    async def stop(self) -> None:
        """SIGTERM; leaves nothing behind."""
        self.is_down = True
        await self.process.spawn(self._stop())
        left = self.process.leftovers
        assert not left, f"the daemon left something: {left}"

    async def _stop(self) -> None:
        """As the daemon's own end does it."""
        under_way = (self._living, *self._reloading)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await self.serving.stop()
        await self.clients.close()

    @asynccontextmanager
    async def _network(self) -> AsyncIterator[NetworkNews]:
        yield self.outside.news
