"""Whether the bridge has a place in the network, and its port."""

import socket
from contextlib import suppress
from typing import Final

from hkswitch.doctor.context import UNIT, Account, Situation
from hkswitch.doctor.finding import NO_CONFIG, Finding, Point, ok, unknown, warning, wrong
from hkswitch.model.config import Config
from hkswitch.model.errors import ConfigError, ConfigUnreadable, Failure
from hkswitch.network import listeners
from hkswitch.network.endpoint import Place
from hkswitch.protocol.report import BridgeReport

_BRING_UP: Final = (
    "bring the interface up, or change bridge.interface or bridge.address; the daemon waits for it"
)
_RELOAD: Final = "`sudo hkswitch reload`"
_RESTART: Final = f"`sudo systemctl restart {UNIT}`"


async def network(situation: Situation) -> tuple[Finding]:
    """The point of this name."""
    bridge = None if isinstance(situation.bridge, Failure) else situation.bridge
    return (has_place(situation.place, interfaces_of(situation.place), bridge),)


async def port(situation: Situation) -> tuple[Finding]:
    """The point of this name."""
    if isinstance(situation.config, Failure):
        return (unknown(Point.PORT, NO_CONFIG),)
    number = situation.config.bridge.port
    bridge = None if isinstance(situation.bridge, Failure) else situation.bridge
    is_ours = bridge is not None and _is_of(situation.account, _listeners(number))
    return (free_or_ours(situation.config, bridge, listeners.holder(number), is_ours=is_ours),)


def has_place(place: Place | Failure, interfaces: tuple[str, ...], bridge: BridgeReport | None) -> Finding:
    """Whether there is somewhere to serve, and the bridge that runs does so."""
    if isinstance(place, ConfigError | ConfigUnreadable):
        return unknown(Point.NETWORK, NO_CONFIG)
    if isinstance(place, Failure):
        still = (
            f" (the bridge is still on {_where(bridge)})" if bridge is not None and bridge.addresses else ""
        )
        return wrong(Point.NETWORK, f"{place}{still}", _BRING_UP)
    if bridge is not None and {*bridge.addresses} != {*place.addresses}:
        what = f"the configuration chooses {place}, and the bridge is on {_where(bridge)}"
        return wrong(Point.NETWORK, what, f"{_RELOAD}, and look again")
    if place.lack:
        return warning(Point.NETWORK, f"{place} on {', '.join(interfaces)}, without {place.lack}", _BRING_UP)
    return ok(Point.NETWORK, f"{place} on {', '.join(interfaces)}")


def free_or_ours(config: Config, bridge: BridgeReport | None, holder: str, *, is_ours: bool) -> Finding:
    """`bridge`: the one that runs; `holder`: who has the port of the configuration, if anybody."""
    number = config.bridge.port
    if bridge is not None and bridge.port != number:
        what = f"the configuration says {number}, and the bridge serves on {bridge.port}"
        return wrong(Point.PORT, what, f"{_RESTART}: a new port counts after that")
    if is_ours:
        return ok(Point.PORT, f"{number} is ours")
    if holder:
        return wrong(Point.PORT, f"{holder} has {number}", "stop that, or set bridge.port")
    if bridge is not None and bridge.addresses:
        return wrong(Point.PORT, f"the bridge runs, and nobody listens on {number}", _RESTART)
    return ok(Point.PORT, f"{number} is free")


def _where(bridge: BridgeReport) -> str:
    return ", ".join(bridge.addresses) or f"no network ({bridge.network or 'it is starting'})"


def interfaces_of(place: Place | Failure) -> tuple[str, ...]:
    """The names of a place's interfaces."""
    names = []
    for index in () if isinstance(place, Failure) else place.interfaces:
        with suppress(OSError):  # it went away meanwhile
            names.append(socket.if_indextoname(index))
    return tuple(sorted(names))


def _listeners(number: int) -> set[int]:
    """The users who listen on a port."""
    found: set[int] = set()
    for table in listeners.TABLES:
        with suppress(OSError):  # IPv6 may be switched off
            text = (listeners.PROC / table).read_text(encoding="utf-8", errors="replace")
            found |= {each.user_id for each in listeners.listeners(text) if each.port == number}
    return found


def _is_of(account: Account | None, listening: set[int]) -> bool:
    return account is not None and account.user_id in listening
