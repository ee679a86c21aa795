"""Cables between a machine and a phone in temporary network namespaces, and the packets on them.

For programs run by `unshare --net --mount`: `begin` creates the phone's namespace.
"""

import asyncio
import ctypes
import ipaddress
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from zeroconf import DNSAddress, DNSIncoming, DNSOutgoing, DNSPointer, DNSQuestion  # type: ignore[attr-defined] # as ours

from tests.support.waiting import PATIENCE_SECONDS

T = TypeVar("T")

PORT: Final = 51826
MDNS: Final = 5353
GROUP: Final = "224.0.0.251"
HAP: Final = "_hap._tcp.local."
PTR, IN, UNICAST = 12, 1, 0x8000
LISTEN, ESTABLISHED = "0A", "01"
CLONE_NEWNET: Final = 0x40000000


def begin() -> None:
    """Create a phone, and a machine without cables."""
    for command in (
        "mount -t sysfs none /sys",
        "mount -t tmpfs none /run",
        "ip netns add phone",
        "ip link set lo up",
    ):
        subprocess.run(command.split(), check=True)


def without_cables() -> None:
    """Delete all cables."""
    for name in [name for _, name in socket.if_nameindex() if name != "lo"]:
        run(f"link delete {name}")


def run(*lines: str) -> None:
    """Run commands of `ip`."""
    done = subprocess.run(
        ["ip", "-batch", "-"], input="\n".join(lines), text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, f"{lines}: {done.stderr}"


def _enter_phone() -> None:
    with Path("/run/netns/phone").open() as descriptor:
        assert ctypes.CDLL(None, use_errno=True).setns(descriptor.fileno(), CLONE_NEWNET) == 0


_phone = ThreadPoolExecutor(1, initializer=_enter_phone)


def at_phone(do: Callable[[], T]) -> T:
    """Call `do` in the phone's namespace; a socket stays in the namespace that created it."""
    return _phone.submit(do).result()


@dataclass
class Cable:
    """A cable between an interface of the bridge's machine and one of the phone's."""

    name: str
    number: int
    ear: socket.socket | None = None
    heard: list[str] = field(default_factory=list)
    """The announcements there, as `10.1.0.1 fd01::1` or, for a goodbye, `-10.1.0.1 fd01::1`."""

    @property
    def ip(self) -> str:
        return f"10.{self.number}.0.1"

    @property
    def ip6(self) -> str:
        return f"fd0{self.number}::1"

    def lay(self, *, ipv6: bool = False) -> "Cable":
        run(
            f"link add {self.name} type veth peer name p-{self.name} netns phone",
            f"link set {self.name} addrgenmode none",
            f"link set {self.name} up",
            f"address add {self.ip}/24 dev {self.name}",
            *([f"address add {self.ip6}/64 dev {self.name} nodad"] if ipv6 else []),
        )
        at_phone(
            lambda: run(
                f"link set p-{self.name} up",
                f"address add 10.{self.number}.0.2/24 dev p-{self.name}",
            )
        )
        return self

    def cut(self) -> None:
        run(f"link delete {self.name}")

    def listen(self) -> None:
        """Record multicast packets from now on."""
        self.deafen()
        self.ear = at_phone(self._ear)
        asyncio.get_running_loop().add_reader(self.ear, self._hear)

    def forget(self) -> None:
        """Stop recording, and clear the record."""
        self.deafen()
        self.heard.clear()

    def deafen(self) -> None:
        if self.ear is not None:
            asyncio.get_running_loop().remove_reader(self.ear)
            self.ear.close()
        self.ear = None

    def _ear(self) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((GROUP, MDNS))
        index = socket.if_nametoindex(f"p-{self.name}")
        made.setsockopt(
            socket.IPPROTO_IP,
            socket.IP_ADD_MEMBERSHIP,
            socket.inet_aton(GROUP) + socket.inet_aton("0.0.0.0") + index.to_bytes(4, sys.byteorder),
        )
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, f"p-{self.name}\0".encode())
        return made

    def _hear(self) -> None:
        assert self.ear is not None
        with suppress(BlockingIOError):
            while True:
                message = DNSIncoming(self.ear.recv(9000))
                if message.is_response():
                    self.heard += said(message)

    async def asked(self) -> list[str]:
        """Return the bridge's answer to a unicast query: its addresses, `refused`, or nothing.

        A multicast answer may be delayed by a second.
        """
        made = at_phone(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
        with made:
            at_phone(lambda: made.connect((self.ip, MDNS)))
            question = DNSOutgoing(0)
            question.add_question(DNSQuestion(HAP, PTR, IN | UNICAST))
            made.send(question.packets()[0])
            try:
                async with asyncio.timeout(0.2):
                    return said(DNSIncoming(await asyncio.get_running_loop().sock_recv(made, 9000)))
            except ConnectionRefusedError:
                return ["refused"]
            except TimeoutError:
                return []

    async def is_answered(self) -> None:
        """Wait until the bridge answers on this cable."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.ip not in " ".join(await self.asked()).split():  # noqa: ASYNC110 -- nothing tells of it
                await asyncio.sleep(0.02)

    async def session(self) -> socket.socket:
        """Return a connection on which the bridge has answered."""
        made = at_phone(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await loop.sock_connect(made, (self.ip, PORT))
        await is_alive(made)
        return made

    async def is_refused(self) -> bool:
        """Return whether connections to the bridge's address are refused."""
        try:
            (await self.session()).close()
        except ConnectionRefusedError:
            return True
        return False


def said(message: DNSIncoming) -> list[str]:
    """Return the bridge's addresses in a message as one text, with a minus for a goodbye."""
    records = message.answers()
    named = [each for each in records if isinstance(each, DNSPointer) and each.name == HAP]
    ips = [str(ipaddress.ip_address(each.address)) for each in records if isinstance(each, DNSAddress)]
    return [("" if named[0].ttl else "-") + " ".join(sorted(ips))] if named else []


async def is_alive(session: socket.socket) -> bool:
    """Return whether the bridge answers on a connection."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await loop.sock_sendall(session, b"GET /characteristics?id=1.1 HTTP/1.1\r\nHost: bridge\r\n\r\n")
            return (await loop.sock_recv(session, 999)).startswith(b"HTTP/1.1 4")
    except OSError:
        return False


async def is_ended(session: socket.socket) -> None:
    """Wait until a connection ends."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        with suppress(ConnectionError):
            while await asyncio.get_running_loop().sock_recv(session, 999):
                pass


def at(state: str) -> set[str]:
    """Return the local addresses of TCP sockets in a state, on the bridge's port."""
    found = set()
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            own, is_in = row.split()[1], row.split()[3]
            number, _, port = own.partition(":")
            if is_in == state and int(port, 16) == PORT:
                words = bytes.fromhex(number)
                packed = b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4))
                found.add(str(ipaddress.ip_address(packed)))
    return found


def has_mdns() -> bool:
    """Return whether this machine has an mDNS socket."""
    tables = [Path(f"/proc/self/net/{table}").read_text() for table in ("udp", "udp6")]
    return any(f":{MDNS:04X} " in table for table in tables)
