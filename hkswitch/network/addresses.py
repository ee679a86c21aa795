"""Which addresses the bridge serves on and advertises, and when that may have changed.

Reads the kernel's tables and hears its news. Sends nothing and changes nothing.
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

PROC_NET: Final = Path("/proc/self/net")  # /proc/net is not there in a unit with ProcSubset=pid
LINKS: Final = Path("/sys/class/net")
LOOPBACK: Final = "127.0.0.1"

SETTLE_SECONDS: Final = 0.3
LONGEST_SETTLE_SECONDS: Final = 2

_ROUTE_UP, _ROUTE_REJECT = 0x1, 0x200  # linux/route.h
_GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x100 | 0x400  # links, IPv4 and IPv6 addresses and routes; rtnetlink(7)

_GONE: Final = frozenset({errno.ENOENT, errno.ENODEV, errno.EINVAL, errno.ENOTDIR})
"""For an interface that went away (EINVAL: its file was open), and for bonding_masters, which is none."""


class TablesUnreadable(NoAddress):
    """Nothing is known of this machine's network now, as without file descriptors.

    The kernel has no news when that is over: try again soon, do not wait for `changes`.
    """

    def __init__(self, error: OSError) -> None:
        """`error` is what the kernel answered."""
        super().__init__(f"cannot read this machine's network addresses: {error.strerror or error}")


class CannotListen(Failure):
    """There can be no socket for the kernel's news; `str()` says why."""


def of_bridge(config: BridgeConfig) -> tuple[str, ...]:
    """The configured addresses, those of the configured interfaces, or those of the default route's.

    Raises:
        NoAddress: If they are not there now; they may come, see `changes`.
        TablesUnreadable: If that cannot be known now.
    """
    return choose(config, this_machine())


def endpoint_of(config: BridgeConfig, before: Endpoint | None = None) -> Endpoint:
    """Those addresses, and the interfaces that have them; raises what `of_bridge` raises.

    `before`: where the bridge is by the same choice. It stays there while no default route says otherwise.
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
        raise NoAddress(f"the interface of {' and '.join(chosen)} went away") from error


def ipv6_addresses(table: str) -> tuple[Address, ...]:
    """The addresses in /proc/net/if_inet6 (proc(5)), whose own order is by chance. Pure."""
    rows = [line.split() for line in table.splitlines()]
    found = [Address(row[5], IPv6Address(bytes.fromhex(row[0])), int(row[4], 16)) for row in rows]
    return tuple(sorted(found, key=lambda address: (address.label, int(address.ip))))


def default_interfaces(ipv4: str, ipv6: str) -> tuple[str, ...]:
    """The interfaces of default routes in /proc/net/route and ipv6_route: IPv4, then the metric. Pure."""
    old = [line.split() for line in ipv4.splitlines()[1:]]
    new = [line.split() for line in ipv6.splitlines()]
    routes = [(4, int(row[6]), int(row[3], 16), row[0]) for row in old if row[1] == row[7] == "0" * 8]
    routes += [(6, int(row[5], 16), int(row[8], 16), row[9]) for row in new if row[0] + row[1] == "0" * 34]
    usable = [route for route in routes if route[2] & _ROUTE_UP and not route[2] & _ROUTE_REJECT]
    return tuple(dict.fromkeys(name for *_, name in sorted(usable, key=lambda route: route[:2])))


def this_machine() -> Machine:
    """What the kernel says now; raises `TablesUnreadable`."""
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
    """Hear of every change of this machine's links, addresses and routes within the block.

    Raises `CannotListen`.
    """
    with _news() as news:
        heard = NetworkChanges(news)
        loop = asyncio.get_running_loop()
        loop.add_reader(news, heard.drain)
        try:
            yield heard
        finally:
            loop.remove_reader(news)


def _news() -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    try:
        news = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        try:
            news.bind((0, _GROUPS))
        except OSError:
            news.close()
            raise
    except OSError as error:
        raise CannotListen(f"cannot listen for network changes: {error.strerror or error}") from error
    return news


class NetworkChanges:
    """The kernel's news; what they say is not read, for whoever hears of them reads the tables."""

    def __init__(self, news: socket.socket) -> None:
        """`news` is a bound rtnetlink socket that does not block."""
        self._news = news
        self._changed = asyncio.Event()
        self._last_seconds = 0.0

    async def wait(self) -> None:
        """Return when something changed since the last return, and a burst of changes is over."""
        await self._changed.wait()
        now = asyncio.get_running_loop().time
        end_seconds = now() + LONGEST_SETTLE_SECONDS
        while (left := min(self._last_seconds + SETTLE_SECONDS, end_seconds) - now()) > 0:  # noqa: ASYNC110 -- silence is no event
            await asyncio.sleep(left)
        self._changed.clear()  # not before: who is cancelled above must not lose the change

    def drain(self) -> None:
        """Take all news there are."""
        with suppress(BlockingIOError):
            while True:
                if self._is_of_kernel():
                    self._last_seconds = asyncio.get_running_loop().time()
                    self._changed.set()

    def _is_of_kernel(self) -> bool:
        """Take one piece of news."""
        try:
            _, (sender, _) = self._news.recvfrom(1)
        except OSError as error:
            if error.errno not in {errno.ENOBUFS, errno.ENOMEM}:
                raise
            return True  # there were more than the socket, or the kernel, could hold
        # TRUST: the port id 0 is the kernel's; a process could send here too, and cannot take that one.
        return bool(sender == 0)


def _table(name: str) -> str:
    """One of the kernel's tables; IPv6's are not there if it is switched off."""
    with suppress(FileNotFoundError):
        return (PROC_NET / name).read_text(encoding="utf-8", errors="replace")
    return ""


def _links() -> dict[str, int]:
    links = {}
    with _if_there():
        for name in os.listdir(LINKS):  # noqa: PTH208 -- glob() hides that there are no descriptors left
            with _if_there():  # an interface that went away meanwhile
                links[name] = int((LINKS / name / "flags").read_text(encoding="ascii"), 16)
    return links


def _names(interfaces: frozenset[int], machine: Machine) -> frozenset[str]:
    """What interfaces are called now: a name may have become another one's."""
    names = set()
    for name in machine.links:
        with _if_there():
            if _index(name) in interfaces:
                names.add(name)
    return frozenset(names)


def _networks(interfaces: Collection[str]) -> frozenset[Network]:
    """What is on the links of interfaces."""
    on_links = [
        f"{address.ip if isinstance(address.ip, str) else address.ip[0]}/{address.network_prefix}"
        for adapter in ifaddr.get_adapters()
        for address in adapter.ips
        if interface_of(adapter.name) in interfaces
    ]
    return frozenset(ip_network(each, strict=False) for each in on_links)


def _index(name: str) -> int:
    """The interface's index; if_nametoindex() does not tell an interface that is gone from exhaustion."""
    return int((LINKS / name / "ifindex").read_text(encoding="ascii"))


@contextmanager
def _if_there() -> Iterator[None]:
    """Take what is not there for nothing, but not what cannot be read now."""
    try:
        yield
    except OSError as error:
        if error.errno not in _GONE:
            raise
