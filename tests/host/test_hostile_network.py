"""A hostile device with 220 addresses: a legitimate controller gets timely responses, and no damage remains.

The watchdog fires after two seconds here, and the daemon must not stall for one. `--long` attacks in full.
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
from tests.host.attacker import Attacker, attached
from tests.host.machine import Host, eventually, eventually_async
from tests.support.controller import Controller

DAEMON: Final = "hkswitch.service"
DROP_IN: Final = f"/run/systemd/system/{DAEMON}.d/watchdog.conf"
SLOWEST_READ_SECONDS: Final = (0.5, 0.25)
"""Without and with --long: in CI, other tests share the two cores."""

GROWTH: Final = 1.1
MOST_LINES: Final = 64
"""The log limit for a minute, however many addresses take part."""

PATIENCE_SECONDS: Final = 60
ATTACK_SECONDS: Final = 600
COMMAND_SECONDS: Final = 15
STARVED_SECONDS: Final = 3


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Row:
    """An attack, and how many connections or packets it makes without and with --long."""

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
NON_READERS: Final = (12, 60)
NON_READING_SECONDS: Final = 120


@pytest.fixture(scope="module")
def is_long(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--long"))


@pytest.fixture(scope="module")
def stub_unit_files(host: Host, stub_unit_files: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Sets a short watchdog timeout before the daemon starts."""
    host.write(DROP_IN, "[Service]\nWatchdogSec=2\n")
    host.run("systemctl", "daemon-reload")
    yield stub_unit_files
    host.run("rm", DROP_IN)
    host.run("systemctl", "daemon-reload")


@pytest.fixture(scope="module")
def attacker(daemon: Host) -> Iterator[Attacker]:
    with attached(daemon) as running:
        yield running


@pytest.fixture(scope="module")
def in_network(attacker: Attacker) -> Iterator[None]:
    """Puts the legitimate controller into the attacker's network."""
    with attacker.network.network():
        yield


@dataclass(frozen=True, slots=True)
class Daemon:
    """The state of the daemon before an attack, to compare with the state after it."""

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

    async def check_unchanged(self) -> None:
        """Check that the process and its memory are unchanged, and that it logged little."""
        assert (self.host.show(DAEMON, "MainPID"), self.host.show(DAEMON, "NRestarts")) == (self.process, "0")
        await eventually_async(self._has_released_memory, timeout_seconds=PATIENCE_SECONDS)
        said = self.host.journal(DAEMON).splitlines()[self.lines :]
        assert not [line for line in said if "Traceback" in line or 'File "' in line]
        minutes = 1 + int(time.monotonic() - self.seconds) // 60
        assert len(said) <= MOST_LINES * minutes

    def _has_released_memory(self) -> bool:
        return memory_kib(self.host, self.process) < self.memory_kib * GROWTH


def memory_kib(host: Host, process: str) -> int:
    lines = host.read(f"/proc/{process}/status").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


async def slowest_read(controller: Controller, is_over: Callable[[], object]) -> float:
    """Read on one connection until `is_over`; return the seconds of the slowest read."""
    slowest_seconds, protocol = 0.0, None
    async with asyncio.timeout(ATTACK_SECONDS):
        while not is_over():
            begun_seconds = time.monotonic()
            assert await controller.read("Web Server") is False
            slowest_seconds = max(slowest_seconds, time.monotonic() - begun_seconds)
            protocol = protocol or controller.pairing.connection.protocol
            await asyncio.sleep(0.005)
    assert controller.pairing.connection.protocol is protocol
    return slowest_seconds


@dataclass(frozen=True, slots=True)
class AttackedHost:
    """A host under attack, while a legitimate controller reads."""

    host: Host
    controller: Controller
    attacker: Attacker
    slowest_read_seconds: float

    async def withstand(self, attack: Callable[..., int], **arguments: object) -> dict[str, Any]:
        """Run an attack, check that the daemon withstands it, and return the attacker's result."""
        results: list[dict[str, Any]] = []

        def is_over() -> bool:
            results.extend(filter(None, [self.attacker.result()]))
            return bool(results)

        before = Daemon.of(self.host)
        self.attacker.start(attack, **arguments)
        slowest_seconds = await slowest_read(self.controller, is_over)
        _log.warning("%s: %s, slowest read %d ms", attack.__name__, results[0], slowest_seconds * 1000)
        await before.check_unchanged()
        after_kib = memory_kib(self.host, before.process)
        _log.warning("%s: memory %d to %d KiB", attack.__name__, before.memory_kib, after_kib)
        assert slowest_seconds < self.slowest_read_seconds
        return results[0]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def attacked_host(daemon: Host, paired: Controller, attacker: Attacker, is_long: bool) -> AttackedHost:
    return AttackedHost(daemon, paired, attacker, SLOWEST_READ_SECONDS[is_long])


@pytest.mark.parametrize("attack", UNPAIRED)
def test_a_flood_while_unpaired_delays_no_command_and_leaves_no_damage(
    daemon: Host, attacker: Attacker, is_long: bool, attack: Callable[..., int]
) -> None:
    row = next(row for row in ROWS if row.attack is attack)
    before = Daemon.of(daemon)
    attacker.start(attack, count=row.long_count if is_long else row.count)
    result = None
    try:
        while not (result := attacker.result()):
            shown = daemon.run("hkswitch", "pair", "--json", timeout_seconds=COMMAND_SECONDS).stdout
            assert json.loads(shown)["paired"] is False
    finally:
        if not result:  # the next test needs an idle bridge
            eventually(attacker.result, timeout_seconds=ATTACK_SECONDS)
    asyncio.run(before.check_unchanged())


@pytest.mark.parametrize("row", ROWS, ids=[row.attack.__name__ for row in ROWS])
async def test_a_flood_delays_no_controller_and_leaves_no_damage(
    attacked_host: AttackedHost, is_long: bool, row: Row
) -> None:
    count = row.long_count if is_long else row.count
    result = await attacked_host.withstand(row.attack, count=count)
    assert result["done"] > count / 4  # the accept queue was full for the others


async def test_a_controller_with_many_sessions_keeps_32_and_delays_no_other(
    attacked_host: AttackedHost, is_long: bool
) -> None:
    (pairing,) = await add_controllers(attacked_host.controller, 1)
    count = SESSIONS.long_count if is_long else SESSIONS.count
    result = await attacked_host.withstand(attacks.sessions, count=count, pairing=pairing)
    assert result["done"] == 32
    await remove_controllers(attacked_host.controller, [pairing])


async def test_controllers_that_never_read_delay_no_other_and_are_disconnected(
    attacked_host: AttackedHost, is_long: bool
) -> None:
    pairings = await add_controllers(attacked_host.controller, NON_READERS[is_long])
    result = await attacked_host.withstand(
        attacks.non_readers, seconds=NON_READING_SECONDS, pairings=pairings
    )
    assert result["done"] == 0
    await remove_controllers(attacked_host.controller, pairings)


def descriptors(host: Host, process: str) -> int:
    """Return the number of open descriptors."""
    return len(host.run("ls", f"/proc/{process}/fd").stdout.split())


def address_space(host: Host, process: str) -> int:
    """Return the size of the address space with a small margin, in bytes."""
    return (int(host.read(f"/proc/{process}/statm").split()[0]) + 64) * 4096


LIMITS: Final = {
    "descriptors": ("nofile", descriptors),
    "processes": ("nproc", lambda _host, _process: 0),
    "memory": ("as", address_space),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Exhaust all resources at once; with --long, also each one alone."""
    if "exhausted" in metafunc.fixturenames:
        each = tuple((what,) for what in LIMITS) if metafunc.config.getoption("--long") else ()
        metafunc.parametrize("exhausted", [tuple(LIMITS), *each], ids="-".join)


async def test_a_daemon_out_of_resources_keeps_running_and_feeds_its_watchdog(
    daemon: Host, attacked_host: AttackedHost, attacker: Attacker, exhausted: tuple[str, ...]
) -> None:
    before = Daemon.of(daemon)
    kept = {what: limit_to_current_use(daemon, before.process, what) for what in exhausted}
    daemon.run("pkill", "--exact", "serviceswitch")  # the daemon cannot start another helper
    attacker.start(attacks.connections, count=500)
    begun_seconds = time.monotonic()
    await eventually_async(attacker.result, timeout_seconds=ATTACK_SECONDS)
    await asyncio.sleep(max(0.0, begun_seconds + STARVED_SECONDS - time.monotonic()))
    for what, limit in kept.items():
        set_limit(daemon, before.process, what, limit)
    await eventually_async(
        lambda: "helper" not in daemon.show(DAEMON, "StatusText"), timeout_seconds=PATIENCE_SECONDS
    )
    again = attacked_host.controller.again()
    await again.until_on_is("Web Server", on=False)
    await again.close()
    await before.check_unchanged()


def limit_to_current_use(host: Host, process: str, what: str) -> str:
    """Lower a limit to the current use; return the old limit. Its own user may do so, and undo it."""
    option, has = LIMITS[what]
    show = ("prlimit", f"--pid={process}", f"--{option}", "--raw", "--noheadings", "--output=SOFT")
    before = host.run(*show, user="hkswitch").stdout.strip()
    set_limit(host, process, what, str(has(host, process)))
    return before


def set_limit(host: Host, process: str, what: str, limit: str) -> None:
    host.run("prlimit", f"--pid={process}", f"--{LIMITS[what][0]}={limit}:", user="hkswitch")


async def add_controllers(controller: Controller, count: int) -> list[dict[str, Any]]:
    """Have the legitimate controller add new ones; return their pairings."""
    pairings = []
    for _ in range(count):
        key, identity = Ed25519PrivateKey.generate(), str(uuid4())
        await controller.add(identity, key.public_key().public_bytes_raw(), "User")
        keys = {
            "iOSDeviceLTSK": key.private_bytes_raw().hex(),
            "iOSDeviceLTPK": key.public_key().public_bytes_raw().hex(),
        }
        pairings.append({**controller.pairing.pairing_data, "iOSPairingId": identity, **keys})
    return pairings


async def remove_controllers(controller: Controller, pairings: list[dict[str, Any]]) -> None:
    """Remove these pairings."""
    for pairing in pairings:
        await controller.pairing.remove_pairing(pairing["iOSPairingId"])
