"""A flood of connections to a real process: it keeps serving its controllers, and releases all resources."""

import asyncio
import resource
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import pytest
import pytest_asyncio

from hkswitch.hap import state_file
from hkswitch.hap.sessions import AUTHENTICATION_SECONDS, MOST_UNAUTHENTICATED
from hkswitch.hap.sockets import BACKLOG
from tests.support.command import HKSWITCH
from tests.support.controller import Controller
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_SECONDS, eventually

ADDRESS, ATTACKER = "127.0.0.1", "127.0.0.2"
MANY, SOME = 1_000, 300
SLOWEST_READ_SECONDS = 2.0
MOST_LINES = 5
GROWTH = 1.1
TRICKLE_SECONDS = 0.2

OPENINGS = (
    b"",
    b"POST /pair-setup HTTP/1.1\r\nHost: bridge\r\nContent-Length: 4000\r\n\r\n" + bytes(2_000),
    b"GET /accessories HTTP/1.1\r\nHost: bri",
    b"x",
)
"""The data that a connection sends; the last one continues, a byte at a time."""


@dataclass
class Process:
    """`hkswitch demo` on loopback."""

    popen: asyncio.subprocess.Process
    port: int
    state_folder: Path
    errors: Path

    def status(self, name: str) -> int:
        """A number of proc(5)."""
        lines = Path(f"/proc/{self.popen.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))

    @property
    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.popen.pid}/fd").iterdir()))

    @property
    def held(self) -> tuple[int, int]:
        """Return the numbers of descriptors and threads."""
        return self.descriptors, self.status("Threads")

    async def comes_back_to(self, before: tuple[int, int]) -> None:
        """Wait until it holds no more than that; less is well, as something may have been about to close.

        When more connections come than it takes, Linux sends SYN cookies, and with one a late packet opens a
        connection again which the other side closed: nobody will ever close that but the daemon.
        """
        await eventually(
            lambda: all(now <= then for now, then in zip(self.held, before, strict=True)),
            AUTHENTICATION_SECONDS + PATIENCE_SECONDS,
        )

    @property
    def lines(self) -> list[str]:
        return self.errors.read_text().splitlines()

    def may_open(self, descriptors: int) -> None:
        """Limit how many descriptors it can have from now on."""
        resource.prlimit(self.popen.pid, resource.RLIMIT_NOFILE, (descriptors, descriptors))


@pytest_asyncio.fixture(loop_scope="module")
async def process(tmp_path: Path) -> AsyncIterator[Process]:
    port, output, errors = free_port(), tmp_path / "output", tmp_path / "errors"
    options = ["--address", ADDRESS, "--port", str(port), "--state-dir", str(tmp_path / "state")]
    with output.open("wb") as out, errors.open("wb") as err:
        popen = await asyncio.create_subprocess_exec(HKSWITCH, "demo", *options, stdout=out, stderr=err)
    try:
        await eventually(lambda: "Setup code:" in output.read_text() or popen.returncode is not None)
        assert popen.returncode is None, errors.read_text()
        yield Process(popen, port, tmp_path / "state", errors)
    finally:
        with suppress(ProcessLookupError):
            popen.terminate()
        await popen.wait()


@pytest_asyncio.fixture(loop_scope="module")
async def controller(process: Process) -> AsyncIterator[Controller]:
    stored = state_file.read(process.state_folder)
    assert stored is not None
    paired = await Controller.pair(ADDRESS, process.port, stored.setup.code)
    yield paired
    await paired.close()


@pytest.fixture(autouse=True)
def many_descriptors() -> Iterator[None]:
    """Raise the limit of descriptors for our side of the flood."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * MANY)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@dataclass
class Flood:
    """Many connections, including those that the bridge has closed."""

    port: int
    connected: int = 0

    async def attack(self, one: socket.socket, opening: bytes, *, trickles: bool) -> None:
        """One of them, until the other side closes it."""
        loop = asyncio.get_running_loop()
        one.setblocking(False)
        one.bind((ATTACKER, 0))
        await loop.sock_connect(one, (ADDRESS, self.port))
        self.connected += 1
        with suppress(OSError):
            await loop.sock_sendall(one, opening)
            while trickles:
                await asyncio.sleep(TRICKLE_SECONDS)
                await loop.sock_sendall(one, b"x")
            await loop.sock_recv(one, 1)


@asynccontextmanager
async def flood(port: int, number: int) -> AsyncIterator[Flood]:
    """Flood the port within the block."""
    flooding = Flood(port)
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        attacks = [
            asyncio.ensure_future(flooding.attack(one, opening, trickles=opening is OPENINGS[-1]))
            for one, opening in zip(sockets, cycle(OPENINGS), strict=False)
        ]
        try:
            yield flooding
        finally:
            for attack in attacks:
                attack.cancel()
            await asyncio.gather(*attacks, return_exceptions=True)


async def reads(controller: Controller, until: Callable[[], bool]) -> None:
    """Check that reads on the existing connection are answered in time."""
    connection = controller.pairing.connection.protocol
    async with asyncio.timeout(60):
        while not until():
            async with asyncio.timeout(SLOWEST_READ_SECONDS):
                assert await controller.read("Web Server") is False
    assert controller.pairing.connection.protocol is connection


async def test_a_flood_holds_up_no_controller_and_leaves_nothing_behind(
    process: Process, controller: Controller
) -> None:
    before = process.held
    async with flood(process.port, SOME) as warming:
        await reads(controller, lambda: warming.connected == SOME)
    await process.comes_back_to(before)
    warm_kib, lines = process.status("VmRSS"), len(process.lines)
    async with flood(process.port, MANY) as flooding:
        await reads(controller, lambda: flooding.connected == MANY)
        await eventually(lambda: process.descriptors <= before[0] + MOST_UNAUTHENTICATED)
    await process.comes_back_to(before)
    assert process.status("VmRSS") < warm_kib * GROWTH
    assert len(process.lines) - lines <= MOST_LINES
    await reads_anew(controller)


async def reads_anew(controller: Controller) -> None:
    """Check that a new connection works."""
    again = controller.again()
    async with asyncio.timeout(10):
        assert await again.read("Web Server") is False
    await again.close()


async def test_with_few_descriptors_a_flood_holds_up_no_controller(
    process: Process, controller: Controller
) -> None:
    before, lines = process.held, len(process.lines)
    process.may_open(64)
    async with flood(process.port, SOME) as flooding:
        await reads(controller, lambda: flooding.connected == SOME)
    await process.comes_back_to(before)
    assert len(process.lines) - lines <= MOST_LINES
    await reads_anew(controller)


async def test_without_descriptors_one_line_says_so_and_a_controller_is_still_answered(
    process: Process, controller: Controller
) -> None:
    before, lines = process.held, len(process.lines)
    process.may_open(process.descriptors + MOST_UNAUTHENTICATED // 2)
    async with flood(process.port, SOME) as flooding:
        await reads(controller, lambda: flooding.connected >= BACKLOG and len(process.lines) > lines)
    await process.comes_back_to(before)
    [said] = process.lines[lines:]
    assert "cannot accept connections: Too many open files" in said
    await reads_anew(controller)
