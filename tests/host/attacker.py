"""A hostile device with many addresses: one attack for each line on standard input, one line when it is over.

A program of its own, in a network of its own: `network` makes one, on the other end of a host's wire. Its
traffic goes nowhere but to that host.
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
OWN: Final = "10.77.0.2"
ADDRESSES: Final = tuple(f"10.77.0.{number}" for number in range(20, 240))
"""220 of them, all of one device."""

WIRE: Final = "wire0"
AT_ONCE: Final = 64
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER with no time: a close is a RST
CONNECT_SECONDS: Final = 0.5
SECONDS_BETWEEN_BURSTS: Final = 0.01
BYTES_OF_A_BURST: Final = 64 * 1024
"""Of packets; with more, the kernel drops what the daemon would see."""

ASKED_AT_ONCE: Final = 20

M1_SETUP: Final = bytes.fromhex("000100060101")
M1_VERIFY: Final = bytes.fromhex("0601010320")
M3_VERIFY: Final = bytes.fromhex("0601030540") + bytes(64)

HAP: Final = b"\x04_hap\x04_tcp\x05local\x00"
PTR_IN: Final = b"\x00\x0c\x00\x01"
UNWRITABLE: Final = b"\x3f" + b"\xfe" * 63 + b"\x05local\x00"
"""A label that is longer when it is decoded and encoded again, at which zeroconf raises."""


def connections(count: int) -> int:
    """Connect and reset, from each address in turn."""
    return _each_connected(count)


def pair_setups(count: int) -> int:
    """Begin pair-setup 100 times on each connection, all at once."""
    return _each_connected(count, lambda: _post("/pair-setup", M1_SETUP) * 100)


def pair_verifies(count: int) -> int:
    """Begin pair-verify 50 times on each connection, each time with a proof that is none."""

    def verify() -> bytes:
        begins = (_post("/pair-verify", M1_VERIFY + random.randbytes(32)) for _ in range(50))
        return b"".join(begin + _post("/pair-verify", M3_VERIFY) for begin in begins)

    return _each_connected(count, verify)


def mdns(count: int) -> int:
    """Random packets, and such as zeroconf cannot take, from each address and its port 5353 or another."""
    kinds = (
        lambda: random.randbytes(random.randrange(1, 300)),
        lambda: random.randbytes(2) + b"\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00" + random.randbytes(60),
        lambda: random.randbytes(2) + b"\x84\x00\x00\x00\x00\x05\x00\x00\x00\x00" + random.randbytes(200),
        lambda: random.randbytes(2) + b"\x00\x00\x00\x02" + bytes(6) + HAP + PTR_IN + UNWRITABLE + PTR_IN,
        lambda: random.randbytes(2) + b"\x00\x00\x00\x01" + bytes(6) + HAP + PTR_IN,
    )
    return _send(count, *kinds)


def large_records(count: int) -> int:
    """TXT records of 8.8 KB, each of another name, and queries of that size that say they go on."""

    def answer() -> bytes:
        name = random.randbytes(8).hex().encode()
        record = b"\x10" + name + b"\x05local\x00" + b"\x00\x10\x80\x01" + struct.pack("!IH", 4500, 8800)
        return b"\x00\x00\x84\x00\x00\x00\x00\x01\x00\x00\x00\x00" + record + random.randbytes(8800)

    def query() -> bytes:
        known = b"\xc0\x0c\x00\x10\x00\x01" + struct.pack("!IH", 4500, 8800) + random.randbytes(8800)
        return random.randbytes(2) + b"\x02\x00\x00\x01\x00\x01\x00\x00\x00\x00" + HAP + PTR_IN + known

    return _send(count, answer, query)


def sessions(count: int, *, pairing: dict[str, Any]) -> int:
    """Authenticate so many times, and keep what the bridge does not close; how many it keeps."""
    held = []
    for source, _number in zip(cycle(ADDRESSES), range(count), strict=False):
        held.append(Session(ADDRESS, PORT, pairing, own_address=source))
        held[-1].request(b"GET /characteristics?id=1.2 HTTP/1.1\r\nHost: bridge\r\n\r\n")
    held[-1].wait()  # by then the one that had to go for it is closed
    kept = sum(not session.is_closed() for session in held)
    for session in held:
        session.close()
    return kept


def deaf(*, seconds: float, pairings: list[dict[str, Any]]) -> int:
    """Controllers that ask for everything without end, and read nothing, until all are cut off.

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
                for _ in range(ASKED_AT_ONCE):
                    session.request(b"GET /accessories HTTP/1.1\r\nHost: bridge\r\n\r\n")
        time.sleep(SECONDS_BETWEEN_BURSTS)
    kept = sum(not session.is_cut() for session in held)
    for session in held:
        session.close()
    return kept


ATTACKS: Final = {
    attack.__name__: attack
    for attack in (connections, pair_setups, pair_verifies, mdns, large_records, sessions, deaf)
}


def _post(path: str, body: bytes) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: b\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _each_connected(count: int, says: Callable[[], bytes] | None = None) -> int:
    """Open so many connections, some at once, and reset each: at once, or when 64 others have said something.

    Returns how many were open.
    """
    sources, waiting, connected = cycle(ADDRESSES), select.poll(), 0
    pending: dict[int, tuple[socket.socket, float]] = {}
    talking: deque[socket.socket] = deque()
    left = count
    while left or pending:
        while left and len(pending) < AT_ONCE:
            one = _begun(next(sources))
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
            if says is None or descriptor not in ready:
                one.close()
                continue
            with suppress(OSError):
                one.send(says())
            talking.append(one)
            if len(talking) > AT_ONCE:
                _until_answered(talking.popleft())
    while talking:
        _until_answered(talking.popleft())
    return connected


def _until_answered(one: socket.socket) -> None:
    """Give the bridge time to answer something, then reset the connection."""
    with one:
        select.select([one], [], [], CONNECT_SECONDS)


def _begun(source: str) -> socket.socket:
    one = socket.socket()
    one.setblocking(False)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    one.bind((source, 0))
    one.connect_ex((ADDRESS, PORT))
    return one


def _send(count: int, *kinds: Callable[[], bytes]) -> int:
    """Send so many datagrams of these kinds to the group and to the host, from each address."""
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
        if sent_bytes > BYTES_OF_A_BURST:
            time.sleep(SECONDS_BETWEEN_BURSTS)
            sent_bytes = 0
    for one in senders:
        one.close()
    return count


# The other side: a test that has this program attack


class Attacker:
    """The running program."""

    def __init__(self, popen: "subprocess.Popen[str]") -> None:
        self._popen = popen
        self.network = Host("", "attacker", popen.pid)
        """Only for its network."""

    def begin(self, attack: Callable[..., int], **arguments: object) -> None:
        """Begin an attack."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(json.dumps({"attack": attack.__name__, **arguments}) + "\n")
        self._popen.stdin.flush()

    def result(self) -> dict[str, Any] | None:
        """What came of it, once it is over."""
        assert self._popen.stdout is not None
        assert self._popen.poll() is None, "the attacker has ended"
        if not select.select([self._popen.stdout], [], [], 0)[0]:
            return None
        found: dict[str, Any] = json.loads(self._popen.stdout.readline())
        return found


@contextmanager
def network(host: Host) -> Iterator[Attacker]:
    """A device at the other end of the host's wire, which it has back at the end."""
    command = ("unshare", "--net", sys.executable, "-m", __name__)
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root
    ) as popen:
        try:
            own = Host("", "attacker", popen.pid)
            ours = Path("/proc/self/ns/net").readlink()
            eventually(lambda: Path(f"/proc/{popen.pid}/ns/net").readlink() != ours)
            host.run("ip", "link", "set", WIRE, "down")
            _ip(host.leader, f"link set {WIRE} netns {popen.pid}")
            lines = [f"link set {WIRE} up", "link set lo up", "route add 224.0.0.0/4 dev wire0"]
            for address in (OWN, *ADDRESSES):
                lines.insert(1, f"address add {address}/24 dev {WIRE}")
            _ip(own.leader, *lines)
            yield Attacker(popen)
            _ip(own.leader, f"link set {WIRE} netns {host.leader}")
            host.run("ip", "link", "set", WIRE, "addrgenmode", "none")
            host.run("ip", "link", "set", WIRE, "up")
        finally:
            popen.kill()


def _ip(process: int, *commands: str) -> None:
    """Run commands of ip(8) in the network of a process."""
    enter = ("nsenter", f"--target={process}", "--net", "ip", "-batch", "-")
    subprocess.run(enter, input="\n".join(commands), text=True, check=True)


def main() -> None:
    """Attack as told."""
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
