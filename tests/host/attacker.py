"""A hostile device with many addresses. As a program, it reads one attack per line, and prints its result.

It runs in its own network namespace, which `attached` creates at the other end of a host's veth pair, so its
traffic reaches only that host.
"""

import json
import random
import select
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from tests.host.machine import ADDRESS, Host, eventually
from tests.support.raw_session import Session

PORT: Final = 51826
MDNS: Final = ("224.0.0.251", 5353)
OWN_ADDRESS: Final = "10.77.0.2"
ADDRESSES: Final = tuple(f"10.77.0.{number}" for number in range(20, 240))
"""The 220 addresses of the device."""

VETH: Final = "wire0"
PARALLEL_CONNECTIONS: Final = 64
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER with no time: a close is a RST
CONNECT_SECONDS: Final = 0.5
SECONDS_BETWEEN_BURSTS: Final = 0.01
BURST_BYTES: Final = 64 * 1024
"""More in one burst, and the kernel drops packets before the daemon sees them."""

REQUESTS_AT_ONCE: Final = 20

M1_SETUP: Final = bytes.fromhex("000100060101")
M1_VERIFY: Final = bytes.fromhex("0601010320")
M3_VERIFY: Final = bytes.fromhex("0601030540") + bytes(64)

HAP: Final = b"\x04_hap\x04_tcp\x05local\x00"
PTR_IN: Final = b"\x00\x0c\x00\x01"
UNWRITABLE: Final = b"\x3f" + b"\xfe" * 63 + b"\x05local\x00"
"""A label that grows when it is decoded and encoded again, which makes zeroconf raise."""


def connections(count: int) -> int:
    """Connect and reset, from each address in turn."""
    return _connect(count)


def pair_setups(count: int) -> int:
    """Send 100 pair-setup requests at once on each connection."""
    return _connect(count, lambda: _post("/pair-setup", M1_SETUP) * 100)


def pair_verifies(count: int) -> int:
    """Start pair-verify 50 times on each connection, with an invalid proof each time."""

    def verify() -> bytes:
        begins = (_post("/pair-verify", M1_VERIFY + random.randbytes(32)) for _ in range(50))
        return b"".join(begin + _post("/pair-verify", M3_VERIFY) for begin in begins)

    return _connect(count, verify)


def mdns(count: int) -> int:
    """Send random mDNS packets, and ones that crash zeroconf, from port 5353 or another of each address."""
    kinds = (
        lambda: random.randbytes(random.randrange(1, 300)),
        lambda: random.randbytes(2) + b"\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00" + random.randbytes(60),
        lambda: random.randbytes(2) + b"\x84\x00\x00\x00\x00\x05\x00\x00\x00\x00" + random.randbytes(200),
        lambda: random.randbytes(2) + b"\x00\x00\x00\x02" + bytes(6) + HAP + PTR_IN + UNWRITABLE + PTR_IN,
        lambda: random.randbytes(2) + b"\x00\x00\x00\x01" + bytes(6) + HAP + PTR_IN,
    )
    return _send(count, *kinds)


def large_records(count: int) -> int:
    """Send TXT records of 8.8 KB, each with another name, and queries of that size with the TC bit."""

    def answer() -> bytes:
        name = random.randbytes(8).hex().encode()
        record = b"\x10" + name + b"\x05local\x00" + b"\x00\x10\x80\x01" + struct.pack("!IH", 4500, 8800)
        return b"\x00\x00\x84\x00\x00\x00\x00\x01\x00\x00\x00\x00" + record + random.randbytes(8800)

    def query() -> bytes:
        known = b"\xc0\x0c\x00\x10\x00\x01" + struct.pack("!IH", 4500, 8800) + random.randbytes(8800)
        return random.randbytes(2) + b"\x02\x00\x00\x01\x00\x01\x00\x00\x00\x00" + HAP + PTR_IN + known

    return _send(count, answer, query)


def sessions(count: int, *, pairing: dict[str, Any]) -> int:
    """Open `count` authenticated sessions; return how many of them the bridge keeps open."""
    held = []
    for source, _number in zip(cycle(ADDRESSES), range(count), strict=False):
        held.append(Session(ADDRESS, PORT, pairing, own_address=source))
        held[-1].request(b"GET /characteristics?id=1.2 HTTP/1.1\r\nHost: bridge\r\n\r\n")
    held[-1].wait()  # by now the bridge has closed the session that this one replaced
    kept = sum(not session.is_closed() for session in held)
    for session in held:
        session.close()
    return kept


def non_readers(*, seconds: float, pairings: list[dict[str, Any]]) -> int:
    """Have controllers request everything endlessly without reading, until all are disconnected.

    Returns how many are still connected when the time is over.
    """
    held = [
        Session(ADDRESS, PORT, each, own_address=source)
        for each, source in zip(pairings, cycle(ADDRESSES), strict=False)
    ]
    until_seconds = time.monotonic() + seconds
    while time.monotonic() < until_seconds and not all(session.is_cut() for session in held):
        for session in held:
            with suppress(OSError):
                for _ in range(REQUESTS_AT_ONCE):
                    session.request(b"GET /accessories HTTP/1.1\r\nHost: bridge\r\n\r\n")
        time.sleep(SECONDS_BETWEEN_BURSTS)
    kept = sum(not session.is_cut() for session in held)
    for session in held:
        session.close()
    return kept


ATTACKS: Final = {
    attack.__name__: attack
    for attack in (connections, pair_setups, pair_verifies, mdns, large_records, sessions, non_readers)
}


def _post(path: str, body: bytes) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: b\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _connect(count: int, payload: Callable[[], bytes] | None = None) -> int:
    """Open connections, up to 64 at a time, and reset each: at once, or after 64 others have sent `payload`.

    Returns how many were established.
    """
    sources, waiting, connected = cycle(ADDRESSES), select.poll(), 0
    pending: dict[int, tuple[socket.socket, float]] = {}
    talking: deque[socket.socket] = deque()
    left = count
    while left or pending:
        while left and len(pending) < PARALLEL_CONNECTIONS:
            one = _connecting(next(sources))
            pending[one.fileno()] = one, time.monotonic()
            waiting.register(one, select.POLLOUT)
            left -= 1
        ready = {descriptor for descriptor, _ in waiting.poll(50)}
        late_seconds = time.monotonic() - CONNECT_SECONDS
        for descriptor, (one, begun_seconds) in list(pending.items()):
            if descriptor not in ready and begun_seconds > late_seconds:
                continue
            waiting.unregister(descriptor)
            del pending[descriptor]
            connected += descriptor in ready
            if payload is None or descriptor not in ready:
                one.close()
                continue
            with suppress(OSError):
                one.send(payload())
            talking.append(one)
            if len(talking) > PARALLEL_CONNECTIONS:
                _wait_and_reset(talking.popleft())
    while talking:
        _wait_and_reset(talking.popleft())
    return connected


def _wait_and_reset(one: socket.socket) -> None:
    """Give the bridge time to respond, then reset the connection."""
    with one:
        select.select([one], [], [], CONNECT_SECONDS)


def _connecting(source: str) -> socket.socket:
    one = socket.socket()
    one.setblocking(False)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    one.bind((source, 0))
    one.connect_ex((ADDRESS, PORT))
    return one


def _send(count: int, *kinds: Callable[[], bytes]) -> int:
    """Send datagrams of random `kinds` to the mDNS group and to the host, from each address."""
    senders = []
    for address, port in zip(ADDRESSES, cycle((5353, 0)), strict=False):
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
        one.bind((address, port))
        senders.append(one)
    targets, sent_bytes = cycle((MDNS, (ADDRESS, 5353))), 0
    for _, one in zip(range(count), cycle(senders), strict=False):
        sent_bytes += one.sendto(random.choice(kinds)(), next(targets))
        if sent_bytes > BURST_BYTES:
            time.sleep(SECONDS_BETWEEN_BURSTS)
            sent_bytes = 0
    for one in senders:
        one.close()
    return count


# The test's side: runs this program


class Attacker:
    """The running program, as a test controls it."""

    def __init__(self, popen: "subprocess.Popen[str]") -> None:
        self._popen = popen
        self.network = Host("", "attacker", popen.pid)
        """Only its network is that of a host."""

    def start(self, attack: Callable[..., int], **arguments: object) -> None:
        """Start an attack."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(json.dumps({"attack": attack.__name__, **arguments}) + "\n")
        self._popen.stdin.flush()

    def result(self) -> dict[str, Any] | None:
        """Return the result once the attack is over, else None."""
        assert self._popen.stdout is not None
        assert self._popen.poll() is None, "the attacker has exited"
        if not select.select([self._popen.stdout], [], [], 0)[0]:
            return None
        found: dict[str, Any] = json.loads(self._popen.stdout.readline())
        return found


@contextmanager
def attached(host: Host) -> Iterator[Attacker]:
    """Move the other end of the host's veth pair to an attacker, and back in the end."""
    command = ("unshare", "--net", sys.executable, "-m", __name__)
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root
    ) as popen:
        try:
            own = Host("", "attacker", popen.pid)
            ours = Path("/proc/self/ns/net").readlink()
            eventually(lambda: Path(f"/proc/{popen.pid}/ns/net").readlink() != ours)
            host.run("ip", "link", "set", VETH, "down")
            _ip(host.leader, f"link set {VETH} netns {popen.pid}")
            lines = [f"link set {VETH} up", "link set lo up", "route add 224.0.0.0/4 dev wire0"]
            for address in (OWN_ADDRESS, *ADDRESSES):
                lines.insert(1, f"address add {address}/24 dev {VETH}")
            _ip(own.leader, *lines)
            yield Attacker(popen)
            _ip(own.leader, f"link set {VETH} netns {host.leader}")
            host.run("ip", "link", "set", VETH, "addrgenmode", "none")
            host.run("ip", "link", "set", VETH, "up")
        finally:
            popen.kill()


def _ip(process: int, *commands: str) -> None:
    """Run ip(8) commands in the network namespace of a process."""
    enter = ("nsenter", f"--target={process}", "--net", "ip", "-batch", "-")
    subprocess.run(enter, input="\n".join(commands), text=True, check=True)


def main() -> None:
    """Run the attacks that standard input names."""
    for line in sys.stdin:
        request = json.loads(line)
        attack = ATTACKS[request.pop("attack")]
        begun_seconds = time.monotonic()
        done = attack(**request)
        seconds = round(time.monotonic() - begun_seconds, 1)
        sys.stdout.write(json.dumps({"done": done, "seconds": seconds}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
