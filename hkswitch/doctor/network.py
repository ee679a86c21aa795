"""Checks the bridge's addresses and its port."""

import socket
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from hkswitch.control import STATE_FOLDER, client
from hkswitch.control.words import command
from hkswitch.doctor.context import Context
from hkswitch.doctor.finding import NO_CONFIG, Check, Finding, fail, ok, skip, warn
from hkswitch.model.config import Config
from hkswitch.model.errors import Failure
from hkswitch.model.installation import DAEMON_UNIT
from hkswitch.network import listeners
from hkswitch.network.choice import NoAddress, NoDefaultRoute
from hkswitch.network.endpoint import Endpoint
from hkswitch.network.mdns_port import is_taken
from hkswitch.protocol.report import BridgeReport

FREE_PORT: Final = "stop it, or set another bridge.port with `sudo hkswitch edit`"


async def network(context: Context) -> tuple[Finding]:
    """Check that the configured addresses exist, and that the bridge serves on them."""
    bridge = _bridge(context)
    if isinstance(context.endpoint, Failure):
        return (no_endpoint(context.endpoint, bridge),)
    if bridge is not None and not bridge.addresses and is_taken(context.endpoint.addresses):
        return (skip(Check.NETWORK, "the bridge is not served while it cannot use mDNS", "see mdns below"),)
    reload = command(context.state_folder, "reload")
    if bridge is not None and (conflict := _port_conflict(context.endpoint, bridge)):
        return (fail(Check.NETWORK, conflict, f"{FREE_PORT}; the bridge retries by itself"),)
    return (served(context.endpoint, interfaces_of(context.endpoint), bridge, reload),)


async def port(context: Context) -> tuple[Finding]:
    """Check that the bridge listens on its port, or could."""
    if isinstance(context.config, Failure):
        return (skip(Check.PORT, NO_CONFIG),)
    number, bridge = context.config.bridge.port, _bridge(context)
    configured = () if isinstance(context.endpoint, Failure) else context.endpoint.addresses
    served_on = bridge.addresses if bridge is not None and bridge.addresses else configured
    holder = listeners.holder(number, served_on)
    if holder and isinstance(context.bridge, Failure) and not isinstance(context.bridge, client.NoDaemon):
        why = f"{holder} uses {number}, and the daemon did not answer ({context.bridge})"
        return (skip(Check.PORT, why),)
    return (free_or_ours(context.config, bridge, holder, _restart(context.state_folder)),)


def no_endpoint(why: Failure, bridge: BridgeReport | None) -> Finding:
    """Judge a configuration that leaves no address to serve on."""
    if not isinstance(why, NoAddress):
        return skip(Check.NETWORK, NO_CONFIG)
    if not why.remedy:
        return skip(Check.NETWORK, str(why))
    is_served = bridge is not None and bool(bridge.addresses)
    what = f"{why.why} (the bridge is still on {_where(bridge)})" if bridge and is_served else why.why
    # Without a default route the bridge stays where it is, and phones reach it there.
    judge = warn if is_served and isinstance(why, NoDefaultRoute) else fail
    return judge(Check.NETWORK, what, why.remedy)


def served(
    endpoint: Endpoint, interfaces: tuple[str, ...], bridge: BridgeReport | None, reload: str
) -> Finding:
    """Judge whether the bridge serves on the configured addresses, and phones can reach them.

    `reload`: the command that moves it there.
    """
    where = f"{endpoint} on {', '.join(interfaces)}"
    if bridge is not None and {*bridge.addresses} != {*endpoint.addresses}:
        what = f"the configuration selects {endpoint}, but the bridge is on {_where(bridge)}"
        return fail(Check.NETWORK, what, f"run {reload}, then run the doctor again")
    if all(ip_address(address).is_loopback for address in endpoint.addresses):
        advice = "set bridge.interface to an interface in the phones' network"
        return warn(Check.NETWORK, f"{where}, which no phone can reach", advice)
    if endpoint.lack:
        return warn(Check.NETWORK, f"{where}, without {endpoint.lack}", endpoint.remedy)
    return ok(Check.NETWORK, where)


def free_or_ours(config: Config, bridge: BridgeReport | None, holder: str, restart: str) -> Finding:
    """Judge the port. `holder`: the process that listens there; `restart`: how to restart the bridge.

    A bridge that reports that it serves there holds the port: the kernel gives it to one program only.
    """
    number = config.bridge.port
    if bridge is not None and bridge.port != number:
        what = f"the configuration says {number}, but the bridge serves on {bridge.port}"
        return fail(Check.PORT, what, f"{restart}; a new port takes effect after a restart")
    if bridge is not None and bridge.addresses:
        if holder:
            return ok(Check.PORT, f"the bridge listens on {number}")
        return fail(Check.PORT, f"the bridge is running, but no process listens on {number}", restart)
    if holder:
        return fail(Check.PORT, f"{holder} uses {number}", FREE_PORT)
    return ok(Check.PORT, f"{number} is free")


def interfaces_of(endpoint: Endpoint | Failure) -> tuple[str, ...]:
    """Return the names of the endpoint's interfaces."""
    names = []
    for index in () if isinstance(endpoint, Failure) else endpoint.interfaces:
        with suppress(OSError):  # the interface was removed in the meantime
            names.append(socket.if_indextoname(index))
    return tuple(sorted(names))


def _bridge(context: Context) -> BridgeReport | None:
    return None if isinstance(context.bridge, Failure) else context.bridge


def _port_conflict(endpoint: Endpoint, bridge: BridgeReport) -> str:
    """Return which process uses the port on addresses where the bridge should serve but does not."""
    missing = tuple(address for address in endpoint.addresses if address not in bridge.addresses)
    holders = {address: listeners.holder(bridge.port, (address,)) for address in missing}
    return " and ".join(
        f"{holder} uses port {bridge.port} on {address}" for address, holder in holders.items() if holder
    )


def _restart(state_folder: Path) -> str:
    if state_folder == STATE_FOLDER:
        return f"run `sudo systemctl restart {DAEMON_UNIT}`"
    return f"restart the bridge of {state_folder}"


def _where(bridge: BridgeReport) -> str:
    if not bridge.addresses:
        return f"no network ({bridge.network or 'it is starting'})"
    return ", ".join(bridge.addresses) + (f" ({bridge.network})" if bridge.network else "")
