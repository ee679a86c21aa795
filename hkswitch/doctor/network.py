"""Whether the bridge has a place in the network, and its port."""

import socket
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from hkswitch.control import STATE_FOLDER, client
from hkswitch.control.words import command
from hkswitch.doctor.context import UNIT, Situation
from hkswitch.doctor.finding import NO_CONFIG, Finding, Point, ok, unknown, warning, wrong
from hkswitch.model.config import Config
from hkswitch.model.errors import Failure
from hkswitch.network import listeners
from hkswitch.network.choice import NoAddress, NoDefaultRoute
from hkswitch.network.endpoint import Endpoint
from hkswitch.protocol.report import BridgeReport


async def network(situation: Situation) -> tuple[Finding]:
    """The point of this name."""
    bridge = _bridge(situation)
    if isinstance(situation.place, Failure):
        return (has_none(situation.place, bridge),)
    reload = command(situation.state_folder, "reload")
    if bridge is not None and (taken := _taken(situation.place, bridge)):
        return (
            wrong(Point.NETWORK, taken, "stop that, or set bridge.port; the bridge tries again by itself"),
        )
    return (has_place(situation.place, interfaces_of(situation.place), bridge, reload),)


async def port(situation: Situation) -> tuple[Finding]:
    """The point of this name."""
    if isinstance(situation.config, Failure):
        return (unknown(Point.PORT, NO_CONFIG),)
    number, bridge = situation.config.bridge.port, _bridge(situation)
    chosen = () if isinstance(situation.place, Failure) else situation.place.addresses
    holder = listeners.holder(number, bridge.addresses if bridge is not None and bridge.addresses else chosen)
    if holder and isinstance(situation.bridge, Failure) and not isinstance(situation.bridge, client.NoDaemon):
        why = f"{holder} has {number}, and the daemon gave no answer ({situation.bridge})"
        return (unknown(Point.PORT, why),)
    return (free_or_ours(situation.config, bridge, holder, _restart(situation.state_folder)),)


def has_none(why: Failure, bridge: BridgeReport | None) -> Finding:
    """What to do where there is nowhere to serve."""
    if not isinstance(why, NoAddress):
        return unknown(Point.NETWORK, NO_CONFIG)
    if not why.remedy:
        return unknown(Point.NETWORK, str(why))
    is_served = bridge is not None and bool(bridge.addresses)
    what = f"{why.why} (the bridge is still on {_where(bridge)})" if bridge and is_served else why.why
    # The bridge stays where it is without a default route, and phones reach it there.
    return (warning if is_served and isinstance(why, NoDefaultRoute) else wrong)(
        Point.NETWORK, what, why.remedy
    )


def has_place(
    place: Endpoint, interfaces: tuple[str, ...], bridge: BridgeReport | None, reload: str
) -> Finding:
    """Whether the bridge that runs is at the place that there is, and phones may reach it there.

    `reload`: the command that takes it there.
    """
    where = f"{place} on {', '.join(interfaces)}"
    if bridge is not None and {*bridge.addresses} != {*place.addresses}:
        what = f"the configuration chooses {place}, and the bridge is on {_where(bridge)}"
        return wrong(Point.NETWORK, what, f"{reload}, and look again")
    if all(ip_address(address).is_loopback for address in place.addresses):
        advice = "set bridge.interface to an interface in the phones' network"
        return warning(Point.NETWORK, f"{where}, which no phone can reach", advice)
    if place.lack:
        return warning(Point.NETWORK, f"{where}, without {place.lack}", place.remedy)
    return ok(Point.NETWORK, where)


def free_or_ours(config: Config, bridge: BridgeReport | None, holder: str, restart: str) -> Finding:
    """`bridge`: the one that runs; `holder`: who has its port where it serves, or would.

    A bridge that says that it serves there has the port: the kernel gives it to one program only.
    """
    number = config.bridge.port
    if bridge is not None and bridge.port != number:
        what = f"the configuration says {number}, and the bridge serves on {bridge.port}"
        return wrong(Point.PORT, what, f"{restart}: a new port takes effect after that")
    if bridge is not None and bridge.addresses:
        if holder:
            return ok(Point.PORT, f"{number} is ours")
        return wrong(Point.PORT, f"the bridge runs, and no program listens on {number}", restart)
    if holder:
        return wrong(Point.PORT, f"{holder} has {number}", "stop that, or set bridge.port")
    return ok(Point.PORT, f"{number} is free")


def interfaces_of(place: Endpoint | Failure) -> tuple[str, ...]:
    """The names of a place's interfaces."""
    names = []
    for index in () if isinstance(place, Failure) else place.interfaces:
        with suppress(OSError):  # it went away meanwhile
            names.append(socket.if_indextoname(index))
    return tuple(sorted(names))


def _bridge(situation: Situation) -> BridgeReport | None:
    return None if isinstance(situation.bridge, Failure) else situation.bridge


def _taken(place: Endpoint, bridge: BridgeReport) -> str:
    """Who has the port where the bridge should be and is not."""
    missing = tuple(address for address in place.addresses if address not in bridge.addresses)
    taken = {address: listeners.holder(bridge.port, (address,)) for address in missing}
    return " and ".join(f"{who} has port {bridge.port} on {address}" for address, who in taken.items() if who)


def _restart(state_folder: Path) -> str:
    if state_folder == STATE_FOLDER:
        return f"`sudo systemctl restart {UNIT}`"
    return f"restart the bridge of {state_folder}"


def _where(bridge: BridgeReport) -> str:
    if not bridge.addresses:
        return f"no network ({bridge.network or 'it is starting'})"
    return ", ".join(bridge.addresses) + (f" ({bridge.network})" if bridge.network else "")
