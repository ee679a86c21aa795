"""Reports which packets sockets receive, in a temporary network namespace; run with `unshare --net --mount`.

A second namespace is the other machine, on two cables: a0-a1 (chosen) and b0-b1.
"""

import ctypes
import encodings.idna  # noqa: F401 -- getaddrinfo() needs it, and another user may not read this Python
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from ipaddress import ip_network
from pathlib import Path

from hkswitch.hap.sockets import bindings, hear_only, listening_socket
from hkswitch.network.endpoint import Endpoint

PORT = 5555
NETWORKS = frozenset(map(ip_network, ("10.1.0.0/24", "fd01::/64", "fd07:7::/32", "172.16.0.0/12")))
GROUP = "224.0.0.251"
OTHER = "other"
SETUP = f"""\
ip link set lo up
mount -t tmpfs none /run
ip netns add {OTHER}
ip link add a0 type veth peer name a1 netns {OTHER}
ip link add b0 type veth peer name b1 netns {OTHER}
ip address add 10.1.0.1/24 dev a0
ip address add 10.2.0.1/24 dev b0
ip address add fd01::1/64 dev a0 nodad
ip address add fd02::1/64 dev b0 nodad
ip link set a0 up
ip link set b0 up
ip -n {OTHER} link set a1 up
ip -n {OTHER} link set b1 up
ip -n {OTHER} address add 10.1.0.2/24 dev a1
ip -n {OTHER} address add 10.2.0.2/24 dev b1
ip -n {OTHER} address add fd01::2/64 dev a1 nodad
ip -n {OTHER} address add fd02::2/64 dev b1 nodad
ip route add default via 10.1.0.2
ip -n {OTHER} address add 172.31.9.9/32 dev lo
ip -n {OTHER} address add 172.32.0.1/32 dev lo
ip -n {OTHER} address add fd07:7:8::9/128 dev lo nodad
ip -n {OTHER} address add fd07:8::1/128 dev lo nodad
ip -n {OTHER} address add fd01:0:0:1::1/128 dev lo nodad
"""
BY_B = f"ip -n {OTHER} route replace 10.1.0.1/32 via 10.2.0.1 dev b1"
BY_B6 = f"ip -n {OTHER} route replace fd01::1/128 via fd02::1 dev b1"
CLONE_NEWNET = 0x40000000


def _enter_other() -> None:
    with Path(f"/run/netns/{OTHER}").open() as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")


_other = ThreadPoolExecutor(1, initializer=_enter_other)
"""A thread on the other machine: its sockets are there."""


def main() -> None:
    """Try every path, and print for each whether the packet arrived."""
    for line in SETUP.splitlines():
        run(line)
    chosen = [socket.if_nametoindex("a0")]
    with ExitStack() as stack:
        for binding in bindings(Endpoint(("10.1.0.1", "fd01::1"), frozenset(chosen))):
            with unprivileged():
                stack.enter_context(listening_socket(binding[0], PORT, binding[1]))
        for name, address, over in (("tcp", "10.1.0.1", BY_B), ("tcp6", "fd01::1", BY_B6)):
            say(f"{name} by the chosen interface", heard=other(partial(connect, address)))
            run(over)
            say(
                f"{name} to the same address by the other interface",
                heard=other(partial(connect, address)),
            )
            run(over.replace("replace", "del"))
            with socket.create_connection((address, PORT), 1):
                say(f"{name} from this machine itself", heard=True)
    with udp(socket.AF_INET, "0.0.0.0", chosen) as heard:
        for address in ("10.1.0.1", "10.2.0.1"):
            membership = socket.inet_aton(GROUP) + socket.inet_aton(address)
            heard.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        datagram = datagrams(heard, other)
        say("udp by the chosen interface", heard=datagram("10.1.0.1"))
        say("udp by the other interface", heard=datagram("10.2.0.1"))
        say("multicast by the chosen interface", heard=datagram(GROUP, by="10.1.0.2"))
        say("multicast by the other interface", heard=datagram(GROUP, by="10.2.0.2"))
        for source in ("172.31.9.9", "172.32.0.1"):
            say(f"udp from {source}", heard=datagram("10.1.0.1", source=source))
            say(f"multicast from {source}", heard=datagram(GROUP, by="10.1.0.2", source=source))
    with udp(socket.AF_INET, "10.1.0.1", chosen) as heard:
        say("udp from this machine itself", heard=datagrams(heard, own)("10.1.0.1"))
    with udp(socket.AF_INET6, "::", chosen) as heard:
        datagram = datagrams(heard, other)
        say("udp6 by the chosen interface", heard=datagram("fd01::1"))
        say("udp6 by the other interface", heard=datagram("fd02::1"))
        for source in ("fd07:7:8::9", "fd07:8::1", "fd01:0:0:1::1"):
            say(f"udp6 from {source.replace(':', '-')}", heard=datagram("fd01::1", source=source))
        say("udp to a socket of both by the chosen interface", heard=datagram("10.1.0.1"))
        say("udp to a socket of both from 172.32.0.1", heard=datagram("10.1.0.1", source="172.32.0.1"))


@contextmanager
def udp(family: socket.AddressFamily, address: str, chosen: list[int]) -> Iterator[socket.socket]:
    """Provide a UDP socket on all interfaces that should receive only from the chosen ones."""
    with socket.socket(family, socket.SOCK_DGRAM) as made:
        made.bind((address, PORT))
        made.settimeout(0.5)
        with unprivileged():
            hear_only(made, Endpoint((), frozenset(chosen), networks=NETWORKS))
        yield made


@contextmanager
def unprivileged() -> Iterator[None]:
    """Drop privileges within the block, like the daemon: some socket options are for root only."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def datagrams(heard: socket.socket, who: Callable[[Callable[[], None]], bool]) -> Callable[..., bool]:
    """Return a function that tells whether a datagram from `other` or `own` arrives."""

    def is_heard(to: str, by: str = "", source: str = "") -> bool:
        assert who(partial(send, to, by, source))
        try:
            heard.recv(9)
        except TimeoutError:
            return False
        return True

    return is_heard


def connect(address: str) -> None:
    socket.create_connection((address, PORT), 1).close()


def send(to: str, by: str, source: str) -> None:
    """Send a datagram: by the interface with the address `by`, if it is multicast, and from `source`."""
    with socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM) as made:
        if by:
            made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(by))
        if source:
            made.bind((source, 0))
        made.sendto(b"x", (to, PORT))


def other(do: Callable[[], None]) -> bool:
    """Do it on the other machine; return whether it succeeded."""
    try:
        _other.submit(do).result()
    except OSError:
        return False
    return True


def own(do: Callable[[], None]) -> bool:
    """Do it on this machine."""
    do()
    return True


def say(binding: str, *, heard: bool) -> None:
    """Print one line."""
    print(f"{binding}: {'yes' if heard else 'no'}")  # noqa: T201 -- a program


def run(command: str) -> None:
    """Run a command, which must succeed."""
    subprocess.run(command.split(), check=True)


if __name__ == "__main__":
    main()
