"""Finds the addresses that the bridge serves on and advertises, and watches the kernel for changes.

Reads the kernel's tables and its rtnetlink messages. Sends nothing and changes nothing.
"""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from typing import Final

import ifaddr

from hkswitch.model.config import BridgeConfig
from hkswitch.model.errors import Failure
from hkswitch.network.choice import Address, Machine, NoAddress, choose, interface_of, lack
from hkswitch.network.endpoint import Endpoint, Network

PROC_NET: Final = Path("/proc/self/net")  # /proc/net is missing in a unit with ProcSubset=pid
LINKS: Final = Path("/sys/class/net")
LOOPBACK: Final = "127.0.0.1"

SETTLE_SECONDS: Final = 0.3
LONGEST_SETTLE_SECONDS: Final = 2

_ROUTE_UP, _ROUTE_REJECT = 0x1, 0x200  # linux/route.h
_GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x100 | 0x400  # links, IPv4 and IPv6 addresses and routes; rtnetlink(7)

_GONE: Final = frozenset({errno.ENOENT, errno.ENODEV, errno.EINVAL, errno.ENOTDIR})
"""Errors for an interface that disappeared (EINVAL: while its file was open), and for bonding_masters, which
is not an interface."""


class TablesUnreadable(NoAddress):
    """A failure to read this machine's network, for example for lack of file descriptors.

    The kernel sends no message when that ends: retry soon instead of waiting for `changes`.
    """

    def __init__(self, error: OSError) -> None:
        """`error` is the kernel's."""
        super().__init__(f"cannot read this machine's network addresses: {error.strerror or error}")


def of_bridge(config: BridgeConfig) -> tuple[str, ...]:
    """Return the configured addresses, or those of the configured or default interfaces.

    Raises:
        NoAddress: If they do not exist now; `changes` tells when to look again.
        TablesUnreadable: If the kernel's tables cannot be read now.
    """
    return choose(config, this_machine())


def endpoint_of(config: BridgeConfig, before: Endpoint | None = None) -> Endpoint:
    """Return the endpoint to serve on: addresses and their interfaces; raises the same as `of_bridge`.

    `before` is the current endpoint, from the same config. It is kept while there is no default route.
    """
    machine = this_machine()
    try:
        staying = frozenset[str]() if before is None else _names(before.interfaces, machine)
        chosen = choose(config, machine, staying)
        up = {
            interface_of(each.label)
            for each in machine.addresses
            if str(each) in chosen and machine.is_up(each.label)
        }
        names = up & ({interface_of(label) for label in config.interfaces} or staying) or up
        missing = lack(config, machine)
        what, remedy = ("", "") if missing is None else (f"{missing.wanted}: {missing}", missing.remedy)
        return Endpoint(chosen, frozenset(map(_index, names)), what, remedy, _networks(names))
    except OSError as error:
        if error.errno not in _GONE:
            raise TablesUnreadable(error) from error
        raise NoAddress(f"the interface of {' and '.join(chosen)} disappeared") from error


def ipv6_addresses(table: str) -> tuple[Address, ...]:
    """Parse and sort /proc/net/if_inet6 (proc(5)), whose order is random. Pure."""
    rows = [line.split() for line in table.splitlines()]
    found = [Address(row[5], IPv6Address(bytes.fromhex(row[0])), int(row[4], 16)) for row in rows]
    return tuple(sorted(found, key=lambda address: (address.label, int(address.ip))))


def default_interfaces(ipv4: str, ipv6: str) -> tuple[str, ...]:
    """Parse /proc/net/route and ipv6_route: the interfaces of default routes, IPv4 first, then by metric.

    Pure.
    """
    old = [line.split() for line in ipv4.splitlines()[1:]]
    new = [line.split() for line in ipv6.splitlines()]
    routes = [(4, int(row[6]), int(row[3], 16), row[0]) for row in old if row[1] == row[7] == "0" * 8]
    routes += [(6, int(row[5], 16), int(row[8], 16), row[9]) for row in new if row[0] + row[1] == "0" * 34]
    usable = [route for route in routes if route[2] & _ROUTE_UP and not route[2] & _ROUTE_REJECT]
    return tuple(dict.fromkeys(name for *_, name in sorted(usable, key=lambda route: route[:2])))


def this_machine() -> Machine:
    """Read the kernel's tables; raises `TablesUnreadable`."""
    try:
        return _this_machine()
    except OSError as error:
        raise TablesUnreadable(error) from error


def _this_machine() -> Machine:
    ipv4 = [
        Address(adapter.name, IPv4Address(address.ip))
        for adapter in ifaddr.get_adapters()
        for address in adapter.ips
        if isinstance(address.ip, str)
    ]
    return Machine(
        links=_links(),
        addresses=(*ipv4, *ipv6_addresses(_table("if_inet6"))),
        defaults=default_interfaces(_table("route"), _table("ipv6_route")),
    )


@asynccontextmanager
async def changes() -> AsyncIterator["NetworkChanges"]:
    """Watch this machine's links, addresses and routes within the block; raises `Failure`."""
    with _open_rtnetlink() as messages:
        changes_seen = NetworkChanges(messages)
        loop = asyncio.get_running_loop()
        loop.add_reader(messages, changes_seen.drain)
        try:
            yield changes_seen
        finally:
            loop.remove_reader(messages)


def _open_rtnetlink() -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    try:
        messages = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        try:
            messages.bind((0, _GROUPS))
        except OSError:
            messages.close()
            raise
    except OSError as error:
        raise Failure(f"cannot listen for network changes: {error.strerror or error}") from error
    return messages


class NetworkChanges:
    """A watcher of rtnetlink messages. It ignores their contents: the tables have the new state."""

    def __init__(self, messages: socket.socket) -> None:
        """`messages` is a bound, non-blocking rtnetlink socket."""
        self._messages = messages
        self._changed = asyncio.Event()
        self._last_seconds = 0.0

    async def wait(self) -> None:
        """Wait until something has changed since the last return, and the burst of changes is over."""
        await self._changed.wait()
        now = asyncio.get_running_loop().time
        end_seconds = now() + LONGEST_SETTLE_SECONDS
        while (left := min(self._last_seconds + SETTLE_SECONDS, end_seconds) - now()) > 0:  # noqa: ASYNC110 -- no event marks the end of a burst
            await asyncio.sleep(left)
        self._changed.clear()  # last, so that a cancelled wait does not lose the change

    def drain(self) -> None:
        """Read all pending messages."""
        with suppress(BlockingIOError):
            while True:
                if self._is_of_kernel():
                    self._last_seconds = asyncio.get_running_loop().time()
                    self._changed.set()

    def _is_of_kernel(self) -> bool:
        """Read one message, and return whether the kernel sent it."""
        try:
            _, (sender, _) = self._messages.recvfrom(1)
        except OSError as error:
            if error.errno not in {errno.ENOBUFS, errno.ENOMEM}:
                raise
            return True  # the socket or the kernel ran out of memory and dropped messages
        # TRUST: only the kernel has port ID 0; other processes can send to this socket too.
        return bool(sender == 0)


def _table(name: str) -> str:
    """Read one of the kernel's tables; IPv6's are missing if IPv6 is disabled."""
    with suppress(FileNotFoundError):
        return (PROC_NET / name).read_text(encoding="utf-8", errors="replace")
    return ""


def _links() -> dict[str, int]:
    links = {}
    with _if_there():
        for name in os.listdir(LINKS):  # noqa: PTH208 -- glob() hides a lack of file descriptors
            with _if_there():  # an interface that disappeared in the meantime
                links[name] = int((LINKS / name / "flags").read_text(encoding="ascii"), 16)
    return links


def _names(interfaces: frozenset[int], machine: Machine) -> frozenset[str]:
    """Return the current names of interfaces; interfaces may have swapped names."""
    names = set()
    for name in machine.links:
        with _if_there():
            if _index(name) in interfaces:
                names.add(name)
    return frozenset(names)


def _networks(interfaces: Collection[str]) -> frozenset[Network]:
    """Return the networks that are directly on the links of interfaces."""
    on_links = [
        f"{address.ip if isinstance(address.ip, str) else address.ip[0]}/{address.network_prefix}"
        for adapter in ifaddr.get_adapters()
        for address in adapter.ips
        if interface_of(adapter.name) in interfaces
    ]
    return frozenset(ip_network(each, strict=False) for each in on_links)


def _index(name: str) -> int:
    """Read the index of an interface.

    The errors of if_nametoindex() do not distinguish a missing interface from exhaustion.
    """
    return int((LINKS / name / "ifindex").read_text(encoding="ascii"))


@contextmanager
def _if_there() -> Iterator[None]:
    """Ignore a missing interface, but no other error."""
    try:
        yield
    except OSError as error:
        if error.errno not in _GONE:
            raise
