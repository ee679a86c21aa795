"""Whether the bridge that runs answers to mDNS: asks as a phone does, from this machine."""

import asyncio
from typing import Any, Final

from zeroconf import Error as ZeroconfError
from zeroconf import ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from hkswitch.doctor.context import UNIT, Situation
from hkswitch.doctor.finding import Finding, Point, ok, unknown, wrong
from hkswitch.model.errors import Failure
from hkswitch.network.choice import NoAddress, NoDefaultRoute
from hkswitch.protocol.report import BridgeReport

SERVICE: Final = "_hap._tcp.local."
WITHIN_SECONDS: Final = 3.0


async def mdns(situation: Situation) -> tuple[Finding]:
    """The point of this name."""
    bridge = situation.bridge
    if isinstance(bridge, Failure):
        return (unknown(Point.MDNS, "there is no daemon that could answer"),)
    if not bridge.addresses:
        return (unknown(Point.MDNS, f"the bridge has no network{bridge.network and f': {bridge.network}'}"),)
    if isinstance(situation.place, NoAddress) and not isinstance(situation.place, NoDefaultRoute):
        return (unknown(Point.MDNS, "the network that the configuration chooses is not there"),)
    try:
        name = await find(bridge.addresses, bridge.port)
    except (OSError, ZeroconfError) as error:
        return (unknown(Point.MDNS, f"cannot ask: {error}"),)
    return (answered(bridge, name),)


def answered(bridge: BridgeReport, name: str) -> Finding:
    """`name`: what the bridge is called there, nothing if it was not heard."""
    if name:
        return ok(Point.MDNS, f"{name} answers")
    where = ", ".join(bridge.addresses)
    what = f"nobody answers for the bridge on {where} within {WITHIN_SECONDS:g} s"
    return wrong(Point.MDNS, what, f"let 5353/udp in and out, and restart {UNIT}")


async def find(addresses: tuple[str, ...], port: int) -> str:
    """What a bridge of this machine at a port is called, if one answers."""
    heard: asyncio.Queue[str] = asyncio.Queue()

    def hear(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        del zeroconf, service_type
        if state_change is not ServiceStateChange.Removed:
            heard.put_nowait(name)

    asking: Any = AsyncZeroconf(interfaces=list(addresses))
    try:
        # The first question is for an answer to us alone, which comes at once. Should another program that
        # has the mDNS port get it, the next ones are for answers to all.
        browser = AsyncServiceBrowser(asking.zeroconf, SERVICE, handlers=[hear])
        try:
            async with asyncio.timeout(WITHIN_SECONDS):
                while True:
                    name = await heard.get()
                    if await _is_at(asking.zeroconf, name, addresses, port):
                        return name.removesuffix(f".{SERVICE}")
        except TimeoutError:
            return ""
        finally:
            await browser.async_cancel()
    finally:
        await asking.async_close()


async def _is_at(zeroconf: Zeroconf, name: str, addresses: tuple[str, ...], port: int) -> bool:
    info = AsyncServiceInfo(SERVICE, name)
    if not await info.async_request(zeroconf, WITHIN_SECONDS * 1000):
        return False
    there = {address.partition("%")[0] for address in info.parsed_scoped_addresses()}
    return info.port == port and bool(there & {address.partition("%")[0] for address in addresses})
