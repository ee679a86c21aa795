"""A hostile device with 220 addresses: a good controller is answered in time, and nothing of it stays.

The watchdog has two seconds here, of which the daemon may not take one. `--long` attacks in full.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.host import attacker as attacks
from tests.host.attacker import Attacker, network
from tests.host.machine import Host, eventually, eventually_async
from tests.support.controller import Controller

DAEMON: Final = "hkswitch.service"
DROP_IN: Final = f"/run/systemd/system/{DAEMON}.d/watchdog.conf"
SLOWEST_READ_SECONDS: Final = (0.5, 0.25)
"""Without and with --long: in CI, other tests have the same two cores."""

GROWTH: Final = 1.1
MOST_LINES: Final = 64
"""Of a minute, whatever comes from however many addresses."""

PATIENCE_SECONDS: Final = 60
ATTACK_SECONDS: Final = 600
COMMAND_SECONDS: Final = 15
STARVED_SECONDS: Final = 3


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Row:
    """An attack with how much of it there is, without and with --long."""

    attack: Callable[..., int]
    count: int
    long_count: int


ROWS: Final = (
    Row(attacks.connections, 2_000, 60_000),
    Row(attacks.pair_setups, 200, 5_000),
    Row(attacks.pair_verifies, 100, 3_000),
    Row(attacks.mdns, 8_000, 95_000),
    Row(attacks.large_records, 1_000, 20_000),
)
UNPAIRED: Final = (attacks.pair_setups, attacks.pair_verifies)
SESSIONS: Final = Row(attacks.sessions, 150, 2_000)
DEAF_CONTROLLERS: Final = (12, 60)
DEAF_SECONDS: Final = 120


@pytest.fixture(scope="module")
def is_long(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--long"))


@pytest.fixture(scope="module")
def stub_unit_files(host: Host, stub_unit_files: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """With a watchdog that fires soon."""
    host.write(DROP_IN, "[Service]\nWatchdogSec=2\n")
    host.run("systemctl", "daemon-reload")
    yield stub_unit_files
    host.run("rm", DROP_IN)
    host.run("systemctl", "daemon-reload")


@pytest.fixture(scope="module")
def attacker(daemon: Host) -> Iterator[Attacker]:
    with network(daemon) as running:
        yield running


@pytest.fixture(scope="module")
def in_network(attacker: Attacker) -> Iterator[None]:
    """The good controller is at the other end of the wire too."""
    with attacker.network.network():
        yield


@dataclass(frozen=True, slots=True)
class Daemon:
    """The daemon before an attack, and what must be true of it after that."""

    host: Host
    process: str
    memory_kib: int
    lines: int
    seconds: float

    @classmethod
    def of(cls, host: Host) -> "Daemon":
        process = host.show(DAEMON, "MainPID")
        lines = len(host.journal(DAEMON).splitlines())
        return cls(host, process, memory_kib(host, process), lines, time.monotonic())

    async def is_as_before(self) -> None:
        """It is the same process, is as large as it was, and has said little."""
        assert (self.host.show(DAEMON, "MainPID"), self.host.show(DAEMON, "NRestarts")) == (self.process, "0")
        await eventually_async(self._is_as_large_as_it_was, timeout_seconds=PATIENCE_SECONDS)
        said = self.host.journal(DAEMON).splitlines()[self.lines :]
        assert not [line for line in said if "Traceback" in line or 'File "' in line]
        minutes = 1 + int(time.monotonic() - self.seconds) // 60
        assert len(said) <= MOST_LINES * minutes

    def _is_as_large_as_it_was(self) -> bool:
        return memory_kib(self.host, self.process) < self.memory_kib * GROWTH


def memory_kib(host: Host, process: str) -> int:
    lines = host.read(f"/proc/{process}/status").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


async def slowest_read(good: Controller, is_over: Callable[[], object]) -> float:
    """Read until then, on one connection; how long the slowest took."""
    slowest_seconds, protocol = 0.0, None
    async with asyncio.timeout(ATTACK_SECONDS):
        while not is_over():
            begun_seconds = time.monotonic()
            assert await good.read("Web Server") is False
            slowest_seconds = max(slowest_seconds, time.monotonic() - begun_seconds)
            protocol = protocol or good.pairing.connection.protocol
            await asyncio.sleep(0.005)
    assert good.pairing.connection.protocol is protocol
    return slowest_seconds


@dataclass(frozen=True, slots=True)
class Siege:
    """A host that is attacked while a good controller reads."""

    host: Host
    good: Controller
    attacker: Attacker
    slowest_read_seconds: float

    async def survived(self, attack: Callable[..., int], **arguments: object) -> dict[str, Any]:
        """What came of an attack; the good controller was answered in time meanwhile."""
        results: list[dict[str, Any]] = []

        def is_over() -> bool:
            results.extend(filter(None, [self.attacker.result()]))
            return bool(results)

        before = Daemon.of(self.host)
        self.attacker.begin(attack, **arguments)
        slowest_seconds = await slowest_read(self.good, is_over)
        _log.warning("%s: %s, slowest read %d ms", attack.__name__, results[0], slowest_seconds * 1000)
        await before.is_as_before()
        after_kib = memory_kib(self.host, before.process)
        _log.warning("%s: memory %d to %d KiB", attack.__name__, before.memory_kib, after_kib)
        assert slowest_seconds < self.slowest_read_seconds
        return results[0]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def siege(daemon: Host, paired: Controller, attacker: Attacker, is_long: bool) -> Siege:
    return Siege(daemon, paired, attacker, SLOWEST_READ_SECONDS[is_long])


@pytest.mark.parametrize("attack", UNPAIRED)
def test_a_flood_while_unpaired_keeps_no_command_waiting_and_leaves_nothing(
    daemon: Host, attacker: Attacker, is_long: bool, attack: Callable[..., int]
) -> None:
    row = next(row for row in ROWS if row.attack is attack)
    before = Daemon.of(daemon)
    attacker.begin(attack, count=row.long_count if is_long else row.count)
    result = None
    try:
        while not (result := attacker.result()):
            shown = daemon.run("hkswitch", "pair", "--json", timeout_seconds=COMMAND_SECONDS).stdout
            assert json.loads(shown)["paired"] is False
    finally:
        if not result:  # the next test needs a bridge that nobody keeps busy
            eventually(attacker.result, timeout_seconds=ATTACK_SECONDS)
    asyncio.run(before.is_as_before())


@pytest.mark.parametrize("row", ROWS, ids=[row.attack.__name__ for row in ROWS])
async def test_a_flood_holds_up_no_controller_and_leaves_nothing(
    siege: Siege, is_long: bool, row: Row
) -> None:
    count = row.long_count if is_long else row.count
    result = await siege.survived(row.attack, count=count)
    assert result["done"] > count / 4  # the others came to a full queue


async def test_a_controller_with_many_sessions_keeps_32_and_holds_up_no_other(
    siege: Siege, is_long: bool
) -> None:
    (pairing,) = await added(siege.good, 1)
    count = SESSIONS.long_count if is_long else SESSIONS.count
    result = await siege.survived(attacks.sessions, count=count, pairing=pairing)
    assert result["done"] == 32
    await removed(siege.good, [pairing])


async def test_controllers_that_never_read_hold_up_no_other_and_are_cut_off(
    siege: Siege, is_long: bool
) -> None:
    pairings = await added(siege.good, DEAF_CONTROLLERS[is_long])
    result = await siege.survived(attacks.deaf, seconds=DEAF_SECONDS, pairings=pairings)
    assert result["done"] == 0
    await removed(siege.good, pairings)


def descriptors(host: Host, process: str) -> int:
    """The number that it has open."""
    return len(host.run("ls", f"/proc/{process}/fd").stdout.split())


def address_space(host: Host, process: str) -> int:
    """What it has, in bytes, and a little."""
    return (int(host.read(f"/proc/{process}/statm").split()[0]) + 64) * 4096


LIMITS: Final = {
    "descriptors": ("nofile", descriptors),
    "processes": ("nproc", lambda _host, _process: 0),
    "memory": ("as", address_space),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Everything is exhausted at once; with --long, also each for itself."""
    if "exhausted" in metafunc.fixturenames:
        each = tuple((what,) for what in LIMITS) if metafunc.config.getoption("--long") else ()
        metafunc.parametrize("exhausted", [tuple(LIMITS), *each], ids="-".join)


async def test_a_daemon_that_gets_no_more_goes_on_and_feeds_its_watchdog(
    daemon: Host, siege: Siege, attacker: Attacker, exhausted: tuple[str, ...]
) -> None:
    before = Daemon.of(daemon)
    kept = {what: limited(daemon, before.process, what) for what in exhausted}
    daemon.run("pkill", "--exact", "serviceswitch")  # and it cannot start another
    attacker.begin(attacks.connections, count=500)
    begun_seconds = time.monotonic()
    await eventually_async(attacker.result, timeout_seconds=ATTACK_SECONDS)
    await asyncio.sleep(max(0.0, begun_seconds + STARVED_SECONDS - time.monotonic()))
    for what, limit in kept.items():
        set_limit(daemon, before.process, what, limit)
    await eventually_async(
        lambda: "helper" not in daemon.show(DAEMON, "StatusText"), timeout_seconds=PATIENCE_SECONDS
    )
    again = siege.good.again()
    await again.until_on_is("Web Server", on=False)
    await again.close()
    await before.is_as_before()


def limited(host: Host, process: str, what: str) -> str:
    """Let it have no more than it has; returns what it could have had. The user may do that, and undo it."""
    option, has = LIMITS[what]
    show = ("prlimit", f"--pid={process}", f"--{option}", "--raw", "--noheadings", "--output=SOFT")
    before = host.run(*show, user="hkswitch").stdout.strip()
    set_limit(host, process, what, str(has(host, process)))
    return before


def set_limit(host: Host, process: str, what: str, limit: str) -> None:
    host.run("prlimit", f"--pid={process}", f"--{LIMITS[what][0]}={limit}:", user="hkswitch")


async def added(good: Controller, count: int) -> list[dict[str, Any]]:
    """The pairings of new controllers, that the good one let in."""
    pairings = []
    for _ in range(count):
        key, identity = Ed25519PrivateKey.generate(), str(uuid4())
        await good.add(identity, key.public_key().public_bytes_raw(), "User")
        keys = {
            "iOSDeviceLTSK": key.private_bytes_raw().hex(),
            "iOSDeviceLTPK": key.public_key().public_bytes_raw().hex(),
        }
        pairings.append({**good.pairing.pairing_data, "iOSPairingId": identity, **keys})
    return pairings


async def removed(good: Controller, pairings: list[dict[str, Any]]) -> None:
    """Take them back."""
    for pairing in pairings:
        await good.pairing.remove_pairing(pairing["iOSPairingId"])
