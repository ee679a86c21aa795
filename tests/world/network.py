"""A network without sockets for the real HAP server: it listens nowhere, and what it announces is kept."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any, Final
from unittest import mock

from pyhap import hap_server
from zeroconf import ServiceInfo

from hkswitch.hap import presence, sockets
from hkswitch.hap.twin import TwinWatch
from tests.world.loop import VirtualLoop

LOOK_FOR_IDLE_SECONDS: Final = 10
"""HAP-python's own 300 s are longer than most daemons live here."""


@dataclass(eq=False)
class SimulatedNetwork:
    """What was announced last, and who is told."""

    config_version: int = 0
    paired: bool = False
    hear: Callable[[], None] = field(default=lambda: None)

    def announce(self, info: ServiceInfo) -> None:
        said = {key.decode(): (value or b"").decode() for key, value in info.properties.items()}
        self.config_version, self.paired = int(said["c#"]), said["sf"] == "0"
        self.hear()

    @contextmanager
    def around(self) -> Iterator[None]:
        """Meanwhile, HAP servers are in this network."""
        stubs: tuple[tuple[Any, str, Any], ...] = (
            (presence, "Advertiser", partial(_Advertiser, self)),
            (presence, "is_taken", lambda _: False),
            (sockets, "listening_socket", lambda *_: SimpleNamespace(listen=lambda _: None)),
            (VirtualLoop, "create_server", _create_server),
            (hap_server, "IDLE_CONNECTION_CHECK_INTERVAL_SECONDS", LOOK_FOR_IDLE_SECONDS),
        )
        with ExitStack() as stack:
            for holder, name, stub in stubs:
                stack.enter_context(mock.patch.object(holder, name, stub))
            yield


async def _create_server(*_: object, **__: object) -> SimpleNamespace:
    return SimpleNamespace(close=lambda: None)


class _Advertiser:
    """As hkswitch.hap.advertiser's, but nothing takes time and nothing is repeated."""

    def __init__(
        self,
        air: SimulatedNetwork,
        _: list[str],
        announced: ServiceInfo | None = None,
        twins: TwinWatch | None = None,
    ) -> None:
        assert twins is None  # no world takes over a bridge
        self.announced = announced
        self._air = air
        registry = SimpleNamespace(async_remove=lambda _: None)
        self.zeroconf = SimpleNamespace(
            registry=registry, engine=SimpleNamespace(readers=()), async_wait_for_start=_nothing
        )
        self.async_update_interfaces = self.stop_announcing = self.async_close = _nothing

    async def async_register_service(self, info: ServiceInfo, **_: object) -> Awaitable[None]:
        self.announce(info)
        return _done()

    async def say_goodbye(self, *_: object) -> None:
        """Nobody hears it."""

    def announce(self, info: ServiceInfo) -> None:
        self._air.announce(info)


def _done() -> Awaitable[None]:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done.set_result(None)
    return done


async def _nothing(*_: object) -> None:
    """Take no time."""
