"""The real helper's end of its pipe: more states than it holds, a slow reader, and none at all."""

import asyncio
import fcntl
import json
import os
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hkswitch.model.errors import Exit
from hkswitch.protocol.helper import LONGEST_REPLY_BYTES, MOST_STATES
from tests.support.fake_systemd import FakeSystemd, Unit
from tests.support.fixtures import bus_address, fake, systemd_on_bus
from tests.support.host_with_helper import groups_of, patched
from tests.support.waiting import eventually

__all__ = ["bus_address", "fake", "systemd_on_bus"]

GROUPS, UNITS = 149, 64
NAMES: Final = {
    f"group-{group}": [f"unit-{group}-{number}.service" for number in range(UNITS)] for group in range(GROUPS)
}
LARGE: Final = "groups:\n" + "".join(
    f"  {name}: {{units: [{', '.join(units)}]}}\n" for name, units in NAMES.items()
)
PIECE_BYTES: Final = 4096


@dataclass
class Raw:
    """A helper whose lines are read by hand."""

    process: "subprocess.Popen[bytes]"
    rest: bytes = b""
    lines: list[dict[str, Any]] = field(default_factory=list)
    longest_bytes: int = 0

    @property
    def output(self) -> int:
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def say(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def read(self) -> None:
        """Take what is there, at most a piece."""
        *lines, self.rest = (self.rest + os.read(self.output, PIECE_BYTES)).split(b"\n")
        self.lines += map(json.loads, lines)
        self.longest_bytes = max(self.longest_bytes, *map(len, lines), len(self.rest))

    def waiting_bytes(self) -> int:
        """What is in the pipe."""
        buffer = fcntl.ioctl(self.output, termios.FIONREAD, b"\0" * 4)
        return int.from_bytes(buffer, "little")

    async def until(self, kind: str, **values: Any) -> dict[str, Any]:  # noqa: ANN401 -- JSON
        """Read slowly until there is such a line."""
        while True:
            for line in self.lines:
                if line["type"] == kind and values.items() <= line.items():
                    return line
            await eventually(self.waiting_bytes)
            self.read()


@contextmanager
def serving(config_file: Path, config: str, **constants: float) -> Iterator[Raw]:
    config_file.write_text(config)
    command = patched(config_file, **constants)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Raw(process)
        finally:
            process.kill()


async def test_the_states_of_all_units_arrive_whole_and_in_order_through_a_slow_reader(
    fake: FakeSystemd, tmp_path: Path
) -> None:
    fake.reset(*(Unit(unit) for units in NAMES.values() for unit in units))
    with serving(tmp_path / "config.yaml", LARGE) as raw:
        raw.say({"observe": 7, "sampled": []})
        # All was read from systemd, and the pipe is full: what changes now changes behind it.
        await eventually(lambda: any(len(call) > GROUPS * UNITS for call in fake.calls))
        await eventually(lambda: raw.waiting_bytes() > PIECE_BYTES)
        changed = [units[0] for units in NAMES.values()]
        for active in ("activating", "active"):
            for unit in changed:
                fake.change(unit, active, "running")
        await raw.until("complete", epoch=7)
    kinds = [line["type"] for line in raw.lines]
    assert kinds.count("complete") == 1
    groups = [(line["group"], line["token"], line["units"]) for line in raw.lines if line["type"] == "group"]
    assert groups == [(name, group.token, list(group.units)) for name, group in groups_of(LARGE).items()]
    told = [line for line in raw.lines if line["type"] == "states"]
    assert kinds.index("states") > len(kinds) - 1 - kinds[::-1].index("group")  # no state before its group
    rows = [row for line in told for row in line["units"]]
    last = {row[0]: row[2] for row in rows}
    expected = {unit: "inactive" for units in NAMES.values() for unit in units} | dict.fromkeys(
        changed, "active"
    )
    assert last == expected
    assert len(rows) <= GROUPS * (UNITS + 2)  # and each no more often than it changed
    assert max(len(line["units"]) for line in told) == MOST_STATES
    assert raw.longest_bytes < LONGEST_REPLY_BYTES / 16


async def test_a_unit_that_changes_often_is_told_as_it_is_now_and_never_as_it_was(
    fake: FakeSystemd, tmp_path: Path
) -> None:
    """The reader sleeps meanwhile: what it missed is not told, and no state after a newer one."""
    fake.reset(*(Unit(unit) for units in NAMES.values() for unit in units))
    changes = 3000
    with serving(tmp_path / "config.yaml", LARGE) as raw:
        raw.say({"observe": 1, "sampled": []})
        await raw.until("complete")
        for number in range(changes):
            fake.change("unit-0-0.service", "active", f"s{number}")
            if number % 100 == 0:
                await asyncio.sleep(0)
        while raw.lines[-1].get("units", [[0] * 4])[-1][3] != f"s{changes - 1}":
            await eventually(raw.waiting_bytes)
            raw.read()
    numbers = [
        int(row[3][1:])
        for line in raw.lines
        if line["type"] == "states"
        for row in line["units"]
        if row[3].startswith("s")
    ]
    assert numbers == sorted(set(numbers))
    assert len(numbers) < changes


async def test_a_result_comes_after_all_states_that_it_led_to(fake: FakeSystemd, tmp_path: Path) -> None:
    """Of 64 units, through a pipe that is full of the states of all others."""
    units = NAMES["group-0"]
    fake.reset(*(Unit(unit, held=unit in units) for each in NAMES.values() for unit in each))
    token = groups_of(LARGE)["group-0"].token
    with serving(tmp_path / "config.yaml", LARGE) as raw:
        raw.say({"observe": 1, "sampled": []})
        await raw.until("complete")
        raw.say(
            {
                "id": 5,
                "action": "start",
                "group": "group-0",
                "token": token,
                "confirm_ms": 200,
                "by_rule": False,
            }
        )
        await raw.until("accepted", id=5)
        await eventually(lambda: sum(call[0] == "StartUnit" for call in fake.calls) == UNITS)
        raw.lines.clear()
        for unit in (unit for each in list(NAMES.values())[1:] for unit in each):
            fake.change(unit, "active", "running")
        for unit in units:
            fake.release(unit, active="active", sub="running")
        finished = await raw.until("finished", id=5)
    told = {
        row[0]: row[2]
        for line in raw.lines[: raw.lines.index(finished)]
        if line["type"] == "states"
        for row in line["units"]
    }
    assert {told[unit] for unit in units} == {"active"}
    assert len(told) == GROUPS * UNITS
    assert [result["job"] for result in finished["units"]] == ["done"] * UNITS


async def test_a_helper_whose_pipe_is_not_read_ends(fake: FakeSystemd, tmp_path: Path) -> None:
    fake.reset(*(Unit(unit) for units in NAMES.values() for unit in units))
    with serving(tmp_path / "config.yaml", LARGE, stdio__DAEMON_READS_WITHIN_SECONDS=0.5) as raw:
        raw.say({"observe": 1, "sampled": []})
        await eventually(lambda: raw.process.poll() is not None)
        assert raw.process.returncode == Exit.OUTPUT
