"""A host that lies, in a whole daemon: it can show its own groups as it likes, and do nothing else."""

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from hkswitch.backend import ssh_transport
from hkswitch.backend.host_log import MOST_LINES
from hkswitch.control import socket_of
from hkswitch.daemon.assumed_states import AssumedStates, AssumingHost
from hkswitch.daemon.kept_alerts import ALERTS_FILE_NAME
from hkswitch.daemon.service import serve
from hkswitch.daemon.state_lines import MOST_STATE_LINES
from hkswitch.model.printable import is_printable
from hkswitch.model.switch_events import Observed, RequestOrigin
from hkswitch.model.unit_state import Action, ActionResult, ActiveState
from tests.daemon.test_service import World
from tests.support.host_with_helper import ignore
from tests.support.inprocess import Records
from tests.support.lying_host import Household, config_of, measured
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_SECONDS, eventually

LONGEST_STALL_SECONDS: Final = 0.2
"""Others may wait for 50 ms. A machine that is busy with other tests takes several times as long for the same
work; without the limits, it is more than a second."""

MOST_GROWTH_BYTES: Final = 48 * 2**20

OTHERS: Final = ("web", "media")
"""The groups of this machine and of the honest host."""


class Watched(AssumingHost):
    """All hosts, with what they report of the groups that the liar does not run."""

    def __init__(self, household: Household) -> None:
        groups = household.config.groups
        super().__init__(household.hosts(), groups, AssumedStates(household.folder))
        self.states: dict[str, list[ActiveState | None]] = {group_id: [] for group_id in OTHERS}
        self.reported: Counter[str] = Counter()

    def observed(self, group_id: str, observed: Observed) -> None:
        self.reported[group_id] += 1
        if (states := self.states.get(group_id)) is not None:
            units = None if observed.units is None else observed.units.get(f"{group_id}.service")
            if observed.units != {}:  # it is about to be reported
                states.append(None if units is None else units.active)
        super().observed(group_id, observed)


@dataclass
class Served:
    """A daemon with a host that lies."""

    household: Household
    world: World
    host: Watched
    records: Records = field(default_factory=Records)
    taps: int = 0

    async def tap(self) -> None:
        """Tap the group of each other host, and check that it is on or off at once, as tapped."""
        self.taps += 1
        action, active = (
            (Action.START, ActiveState.ACTIVE) if self.taps % 2 else (Action.STOP, ActiveState.INACTIVE)
        )
        for group_id in OTHERS:
            result = await self.host.request(action, group_id, ignore, RequestOrigin.CONTROLLER)
            assert result == ActionResult()
            assert self.host.states[group_id][-1] is active
            assert len({*self.host.states[group_id]}) <= 2

    @property
    def lines(self) -> list[str]:
        """Everything that was logged."""
        return [record.getMessage() for record in self.records.seen]

    async def output(self, *arguments: str) -> str:
        """Return what a command prints, whatever it is."""
        running = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "hkswitch", *arguments, "--state-dir", str(self.household.folder)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await running.communicate()
        return output.decode()


@contextmanager
def recorded(records: Records) -> Iterator[None]:
    ours = logging.getLogger("hkswitch")
    ours.addHandler(records)
    ours.setLevel(logging.INFO)
    ours.propagate = False
    try:
        yield
    finally:
        ours.removeHandler(records)
        ours.setLevel(logging.NOTSET)
        ours.propagate = True


@asynccontextmanager
async def served(folder: Path, groups: int, *lies: str) -> AsyncIterator[Served]:
    """A daemon whose liar has these lives, one after the other."""
    household = Household(folder, config_of(groups, free_port()), [*lies])
    world = World(folder, household.config)
    world.readable.set()
    daemon = Served(household, world, Watched(household))
    with recorded(daemon.records):
        running = asyncio.create_task(serve(household.config, daemon.host, folder, world))
        await eventually(lambda: running.done() or socket_of(folder).exists())
        await eventually(
            lambda: all(states[-1:] == [ActiveState.INACTIVE] for states in daemon.host.states.values())
        )
        for states in daemon.host.states.values():
            del states[:-1]  # before it was known, it was not
        try:
            yield daemon
        finally:
            if not running.done():
                os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(running, PATIENCE_SECONDS)


@pytest.fixture(autouse=True)
def seen_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_transport, "AWAY_PAUSE_SECONDS", 0.02)


FLOODS: Final = {
    "a line without an end": "start(); forever(b'x' * 65536, blocks=3)",
    "a byte at a time": """
honest_for_now()
for number in itertools.count():
    for byte in lines({"type": "pong", "id": 1}): os.write(1, bytes([byte]))
    if number == 20: lied()
""",
    "nothing but ends of lines": "honest_for_now(); forever(b'\\n' * 65536, blocks=0)",
    "pongs": "honest_for_now(); forever(lines({'type': 'pong', 'id': 1}, times=500), blocks=2)",
    "messages of a newer helper": "honest_for_now(); forever(lines({'type': 'new'}, times=500), blocks=2)",
    "all is reported, again and again": "honest_for_now(); forever(lines(COMPLETE, times=100), blocks=1)",
    "all is lost, again and again": """
honest_for_now()
forever(lines({"type": "lost", "epoch": EPOCH, "reason": NASTY}, COMPLETE, times=100), blocks=1)
""",
    "a unit of every group flaps": """
honest_for_now()
forever(lines(*(states_of([unit(UNITS[0], active)]) for active in ("active", "failed")), times=50), blocks=1)
""",
    "the longest states": """
honest_for_now()
rows = [[f"u{number}", "x" * 200, "y" * 200, "\\u20ac" * 200] for number in range(150)]
forever(lines(states_of(rows), times=3), blocks=1)
""",
    "tokens and members flap": """
honest_for_now()
kinds = [["commands"], ["probe"], ["assumed", "commands"], ["commands", "momentary"]]
forever(lines(*(
    group_of(name, *UNITS[number:], token=f"t{number}", traits=kind)
    for number, kind in enumerate(kinds) for name in GROUPS
)), blocks=1)
""",
    "deep lists": "honest_for_now(); forever(b'[' * 200_000 + b'\\n', blocks=1)",
    "deep objects": "honest_for_now(); forever(b'{\"a\":' * 50_000 + b'\\n', blocks=1)",
    "a number of thousands of digits": (
        "honest_for_now(); forever(b'{\"type\":\"pong\",\"id\":' + b'1' * 4000 + b'}\\n', blocks=1)"
    ),
    "a number that is infinite": (
        'honest_for_now(); forever(b\'{"type":"samples","epoch":1,"at_seconds":1e999}\\n\', blocks=1)'
    ),
    "very many values": "honest_for_now(); forever(b'[' + b'[1],' * 60_000 + b'1]\\n', blocks=1)",
    "very many keys": """
honest_for_now()
forever(b'{' + b','.join(b'"%d":1' % key for key in range(7000)) + b'}\\n', blocks=1)
""",
    "samples of all that there is": """
honest_for_now()
usages = [[name, "r", 0, 2**63, 2**63] for name in UNITS for _ in range(12)]
sample = {"type": "samples", "epoch": EPOCH, "usages": usages}
forever(lines(*({**sample, "at_seconds": 20 * number} for number in range(3))), blocks=1)
""",
    "errors": r"""
honest_for_now()
for number in itertools.count():
    os.write(2, b"".join(b"\x1b[31m error %d\n" % (number * 9 + line) for line in range(9)))
    if number == 99: lied()
""",
    "rejections": """
honest_for_now()
forever(lines({"type": "refused", "id": None, "reason": NASTY}, times=99), blocks=1)
""",
    "problems of its config": """
honest_for_now()
forever(lines(*({"type": "config", "problem": f"{NASTY}{number}"} for number in range(99))), blocks=1)
""",
    "thousands of epochs": """
honest_for_now()
forever(lines(*({"type": "complete", "epoch": epoch} for epoch in range(1, 3000))), blocks=1)
""",
    "hello, again and again": """
honest_for_now()
hellos = ({"type": "hello", "version": NASTY, "protocol": protocol} for protocol in (2, 3, 9))
forever(lines(*hellos), blocks=99)
""",
}
"""Programs of a host that sends more than anyone should process."""


def memory_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_no_flood_of_a_host_delays_or_changes_the_groups_of_others(
    tmp_path: Path, *, long: bool
) -> None:
    """The liar has many groups, each with the same 128 units: a short line of it concerns all of them."""
    groups, begun_seconds = 100 if long else 30, time.monotonic()
    async with served(tmp_path, groups, *FLOODS.values()) as daemon:
        household, before_bytes = daemon.household, memory_bytes()
        stalls_seconds: dict[str, float] = {}
        for life, flood in enumerate(FLOODS, 1):
            async with measured() as lag:
                await household.until_lied(life)
                for _ in range(2):
                    await daemon.tap()
            stalls_seconds[flood] = lag.longest_seconds
            household.lives = life  # it may have had several
            household.kill_liar()
        assert {each: s for each, s in stalls_seconds.items() if s > LONGEST_STALL_SECONDS} == {}
        assert memory_bytes() - before_bytes < MOST_GROWTH_BYTES
        assert daemon.taps == 2 * len(FLOODS)
        assert daemon.host.reported[f"lie-{groups - 1}"] > 100
        assert daemon.world.told[-1].partition(";")[0].startswith("serving web media lie-0")
        about_groups = Counter(line.partition(":")[0] for line in daemon.lines)
        minutes = 1 + (time.monotonic() - begun_seconds) // 60
        most = max(about_groups[f"lie-{number}"] for number in range(1, groups))
        assert most <= minutes * (MOST_STATE_LINES + 2)
        assert about_groups["host liar"] <= MOST_LINES + 1 + 2 * 41
        assert min(about_groups[group_id] for group_id in OTHERS) >= MOST_STATE_LINES
        assert all(map(is_printable, daemon.lines))


NASTY_TEXTS: Final = r"""
def hello(): say("hello", version=NASTY, protocol=PROTOCOL)
os.write(2, b"\x1b[31m\x9b2J\xe2\x80\xae\xffEVIL\n")
honest_for_now()
os.write(2, b"\x1b]0;EVIL\x07\x08\x08\n")
failure = [UNITS[0], "run-1", False, NASTY]
tell({"type": "config", "problem": NASTY}, group_of(GROUPS[0], UNITS[0]),
    states_of([[UNITS[0], NASTY, "failed", NASTY]], [[GROUPS[0], "unavailable", NASTY]], [failure]),
    group_of(GROUPS[1], traits=["commands", "probe"]), states_of(probes=[[GROUPS[1], "unavailable", NASTY]]),
    group_of(GROUPS[2], UNITS[0]), {"type": "refused", "id": None, "reason": NASTY})
tell(states_of([[UNITS[0], "loaded", "failed", NASTY]]), {"type": "config", "problem": ""})
message = until("action")
tell({"type": "accepted", "id": message["id"]}, {"type": "finished", "id": message["id"],
    "units": [{"unit": NASTY, "job": "failed", "detail": NASTY}], "superseded": False})
lied()
message = until("action")
tell({"type": "refused", "id": message["id"], "reason": NASTY})
tell({"type": "lost", "epoch": EPOCH, "reason": NASTY})
until("never")
"""
"""A host that writes escape sequences wherever it can."""

ESCAPES: Final = "\x1b\x07\x9b\u202e\u2028\ud800"


async def test_no_text_of_a_host_is_more_than_text_in_logs_reports_files_and_terminals(
    tmp_path: Path,
) -> None:
    async with served(tmp_path, 3, NASTY_TEXTS) as daemon:
        board = daemon.host
        await eventually(lambda: any("alert: " in line for line in daemon.lines))
        failure = (await board.request(Action.START, "lie-2", ignore, RequestOrigin.CONTROLLER)).failure
        await eventually(lambda: daemon.household.has_lied(1))
        printed = [await daemon.output("start", "lie-2")]
        printed += [await daemon.output(*words) for words in (["status"], ["status", "--json"], ["alerts"])]
        kept = json.loads((tmp_path / ALERTS_FILE_NAME).read_text())
    places = {
        "log": "\n".join(daemon.lines),
        "failure": str(failure),
        "status": "\n".join(daemon.world.told),
        "file": "\n".join(map(str, kept["troubles"])),
        **{f"printed {number}": text for number, text in enumerate(printed)},
    }
    for name in ("log", "failure", "file", *(f"printed {number}" for number in range(4))):
        assert "EVIL" in places[name], name
    assert {name for name, text in places.items() if any(each in text for each in ESCAPES)} == set()
