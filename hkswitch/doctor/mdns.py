"""Checks that the running bridge answers mDNS: sends the same query as a phone, but from this machine."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from zeroconf import Error as ZeroconfError
from zeroconf import IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from hkswitch.doctor.context import Context
from hkswitch.doctor.finding import Check, Finding, fail, ok, skip
from hkswitch.model.errors import Failure
from hkswitch.model.installation import DAEMON_UNIT
from hkswitch.network.choice import NoAddress, NoDefaultRoute
from hkswitch.network.mdns_port import is_taken, taken_by
from hkswitch.protocol.report import BridgeReport

HAP_SERVICE_TYPE: Final = "_hap._tcp.local."
ANSWER_TIMEOUT_SECONDS: Final = 3.0


async def mdns(context: Context) -> tuple[Finding]:
    """Check that the bridge can use the port of mDNS, and answers on its addresses."""
    bridge = context.bridge
    if not isinstance(context.endpoint, Failure) and is_taken(context.endpoint.addresses):
        return (fail(Check.MDNS, *taken_by()),)
    if isinstance(bridge, Failure):
        return (skip(Check.MDNS, "the daemon is not running"),)
    if not bridge.addresses:
        return (skip(Check.MDNS, f"the bridge has no network{bridge.network and f': {bridge.network}'}"),)
    if isinstance(context.endpoint, NoAddress) and not isinstance(context.endpoint, NoDefaultRoute):
        return (skip(Check.MDNS, "the configured network is not available"),)
    try:
        name = await find(bridge.addresses, bridge.port)
    except (OSError, ZeroconfError) as error:
        return (skip(Check.MDNS, f"cannot send an mDNS query: {error}"),)
    return (answered(bridge, name),)


def answered(bridge: BridgeReport, name: str) -> Finding:
    """Judge the answer. `name`: the bridge's name in it; empty if there was no answer."""
    if name:
        return ok(Check.MDNS, f"{name} answers")
    where = ", ".join(bridge.addresses)
    what = f"the bridge did not answer mDNS on {where} within {ANSWER_TIMEOUT_SECONDS:g} s"
    return fail(Check.MDNS, what, f"allow 5353/udp in both directions, and restart {DAEMON_UNIT}")


async def find(addresses: tuple[str, ...], port: int) -> str:
    """Return the mDNS name of the bridge that serves this machine's port; empty if none answers."""
    client: Any = AsyncZeroconf(interfaces=list(addresses))
    return await _first(client, lambda name: _is_at(client.zeroconf, name, addresses, port))


async def find_device(device_id: str) -> str:
    """Return the mDNS name of the bridge with a device ID, on any network; empty if none answers."""
    client = _on_any_network()
    if client is None:
        return ""  # no network, so no phone can tell two of them apart either
    return await _first(client, lambda name: _has_id(client.zeroconf, name, device_id))


def _on_any_network() -> Any:  # noqa: ANN401 -- untyped
    """Return a client on all interfaces with IPv4 and IPv6, or with one of them; None without a network."""
    for version in (IPVersion.All, IPVersion.V4Only, IPVersion.V6Only):
        with suppress(OSError, RuntimeError):  # RuntimeError: no interface has an address of this version
            return AsyncZeroconf(ip_version=version)
    return None


async def _first(client: Any, is_meant: Callable[[str], Awaitable[bool]]) -> str:  # noqa: ANN401 -- untyped
    """Return the name of the first bridge that answers and is meant, and close the client."""
    meant: asyncio.Queue[str] = asyncio.Queue()
    asking: set[asyncio.Task[None]] = set()

    async def ask(name: str) -> None:
        with suppress(ZeroconfError):  # any device can announce a malformed name
            if await is_meant(name):
                meant.put_nowait(name)

    def add(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        del zeroconf, service_type
        if state_change is not ServiceStateChange.Removed:
            # All at once: a bridge that has left, and that a router still names, answers no question.
            asking.add(task := asyncio.ensure_future(ask(name)))
            task.add_done_callback(asking.discard)

    try:
        # The first query asks for a unicast answer, which comes at once. Should another program that shares
        # the mDNS port receive it, the next queries ask for multicast answers.
        browser = AsyncServiceBrowser(client.zeroconf, HAP_SERVICE_TYPE, handlers=[add])
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
                return (await meant.get()).removesuffix(f".{HAP_SERVICE_TYPE}")
        except TimeoutError:
            return ""
        finally:
            await browser.async_cancel()
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await client.async_close()


async def _has_id(zeroconf: Zeroconf, name: str, device_id: str) -> bool:
    info = AsyncServiceInfo(HAP_SERVICE_TYPE, name)
    if not await info.async_request(zeroconf, ANSWER_TIMEOUT_SECONDS * 1000):
        return False
    found = info.properties.get(b"id") or b""
    return found.decode(errors="replace").upper() == device_id


async def _is_at(zeroconf: Zeroconf, name: str, addresses: tuple[str, ...], port: int) -> bool:
    info = AsyncServiceInfo(HAP_SERVICE_TYPE, name)
    if not await info.async_request(zeroconf, ANSWER_TIMEOUT_SECONDS * 1000):
        return False
    there = {address.partition("%")[0] for address in info.parsed_scoped_addresses()}
    return info.port == port and bool(there & {address.partition("%")[0] for address in addresses})
