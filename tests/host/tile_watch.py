"""What a phone reads all the time from a bridge of several hosts, compared with the truth there."""

import asyncio
import math
import statistics
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from tests.host.conftest import FAILURE
from tests.support.controller import Controller

TOLD_WITHIN_SECONDS: Final = 1
"""The limit for a change by someone else to reach the phone."""

CUT_SEEN_WITHIN_SECONDS: Final = 10
RIGHT_WITHIN_SECONDS: Final = 3
"""The limit after a host's return, on a machine that has nothing else to do."""

GIVE_UP_SECONDS: Final = 30
SECONDS_BETWEEN_READS: Final = 0.05


class Tile(NamedTuple):
    """A switch of the phone: its name there, its host, and its group and unit on that host."""

    name: str
    host: str
    group: str
    unit: str


class Change(NamedTuple):
    """A change of a tile's unit: the old value may be shown until its end, the new one from its beginning."""

    began_seconds: float
    ended_seconds: float
    after: bool


@dataclass(slots=True)
class Outage:
    """The time from a cut until the return of a host (monotonic); infinity as long as that is to come."""

    host: str
    kind: str
    began_seconds: float
    effective_seconds: float = math.inf
    shown_seconds: float = math.inf
    """When no tile of the host had a value any more."""
    returned_seconds: float = math.inf
    right_seconds: float = math.inf
    """When all tiles of the host had the right value again."""

    def concerns(self, tile: Tile, at_seconds: float) -> bool:
        """Return whether a read that began then may have found the tile cut off."""
        return tile.host == self.host and at_seconds < self.right_seconds

    @property
    def seen_after_seconds(self) -> float:
        """The time until no tile of the host had a value any more."""
        return self.shown_seconds - self.effective_seconds

    @property
    def right_after_seconds(self) -> float:
        """The time until all its tiles were right again."""
        return self.right_seconds - self.returned_seconds

    def __str__(self) -> str:
        seen, right = self.seen_after_seconds, self.right_after_seconds
        return f"{self.host}, {self.kind}: seen after {seen:.2f} s, right after {right:.2f} s"


class Timing(NamedTuple):
    """A read or a tap of the phone. `host` is that of the tile; empty for a read of all."""

    host: str
    began_seconds: float
    took_seconds: float


@dataclass(slots=True)
class Truth:
    """What is true of each tile, as far as the test knows: only the test changes units."""

    tiles: Sequence[Tile]
    changes: dict[Tile, list[Change]] = field(default_factory=dict)

    def now(self, tile: Tile) -> bool:
        """Return whether the unit is active."""
        changes = self.changes.get(tile)
        return changes[-1].after if changes else False

    @contextmanager
    def changing(
        self, tiles: Iterable[Tile], *, on: bool, told_within_seconds: float = TOLD_WITHIN_SECONDS
    ) -> Iterator[None]:
        """Note that these units change meanwhile, and that the phone is told within some time."""
        began_seconds, changed = time.monotonic(), [*tiles]
        for tile in changed:
            self.changes.setdefault(tile, []).append(Change(began_seconds, math.inf, on))
        yield
        for tile in changed:
            self.changes[tile][-1] = Change(began_seconds, time.monotonic() + told_within_seconds, on)

    def possible(self, tile: Tile, since_seconds: float, until_seconds: float) -> set[bool]:
        """Return the values that may be shown within this time, if the host is not cut off."""
        value, values = False, set[bool]()
        for change in self.changes.get(tile, ()):
            if change.ended_seconds < since_seconds:
                value = change.after
            elif change.began_seconds <= until_seconds:
                values.add(change.after)
        return values | {value}


@dataclass(slots=True)
class Watch:
    """Reads all tiles again and again on a connection of its own, and keeps what was wrong."""

    phone: Controller
    truth: Truth
    outages: list[Outage] = field(default_factory=list)
    latest: Mapping[str, bool | int] = field(default_factory=dict)
    latest_began_seconds: float = 0
    reads: list[Timing] = field(default_factory=list)
    taps: list[Timing] = field(default_factory=list)
    taps_away: list[Timing] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Read until cancelled."""
        names = [tile.name for tile in self.truth.tiles]
        while True:
            began_seconds = time.monotonic()
            values = await self.phone.read_all(names)
            ended_seconds = time.monotonic()
            self.reads.append(Timing("", began_seconds, ended_seconds - began_seconds))
            self.latest, self.latest_began_seconds = values, began_seconds
            for tile in self.truth.tiles:
                self._check(tile, values[tile.name], began_seconds, ended_seconds)
            self.news.set()
            self.news.clear()
            await asyncio.sleep(SECONDS_BETWEEN_READS)

    async def tap(self, phone: Controller, tile: Tile, *, on: bool) -> None:
        """Tap, and note how long the answer took; it must be a success."""
        with self.truth.changing([tile], on=on, told_within_seconds=0):
            began_seconds = time.monotonic()
            status = await phone.write(tile.name, on=on)
            self.taps.append(Timing(tile.host, began_seconds, time.monotonic() - began_seconds))
        if status != 0:
            self.wrong.append(f"{tile.name}: a tap was answered with {status}")

    async def tap_away(self, phone: Controller, tile: Tile) -> None:
        """Tap a tile whose host is cut off, which must fail."""
        began_seconds = time.monotonic()
        status = await phone.write(tile.name, on=not self.truth.now(tile))
        self.taps_away.append(Timing(tile.host, began_seconds, time.monotonic() - began_seconds))
        if status != FAILURE:
            self.wrong.append(f"{tile.name}: a tap was answered with {status} while its host was cut off")

    async def until_away(self, outage: Outage) -> None:
        """Wait until no tile of the host has a value."""
        tiles = self._of(outage.host)
        while not all(self.latest[tile.name] == FAILURE for tile in tiles):
            assert time.monotonic() < outage.effective_seconds + GIVE_UP_SECONDS, f"not seen: {outage}"
            await self.news.wait()
        outage.shown_seconds = time.monotonic()

    async def until_right(self, outage: Outage) -> None:
        """Wait until all tiles of the host have the right value, read after its return."""
        tiles = self._of(outage.host)
        while self.latest_began_seconds < outage.returned_seconds or not all(
            self.latest[tile.name] is self.truth.now(tile) for tile in tiles
        ):
            assert time.monotonic() < outage.returned_seconds + GIVE_UP_SECONDS, f"not back: {outage}"
            await self.news.wait()
        outage.right_seconds = time.monotonic()

    def _of(self, host: str) -> list[Tile]:
        return [tile for tile in self.truth.tiles if tile.host == host]

    def _check(self, tile: Tile, value: bool | int, began_seconds: float, ended_seconds: float) -> None:
        outage = next((found for found in self.outages if found.concerns(tile, began_seconds)), None)
        if isinstance(value, bool):
            is_right = value in self.truth.possible(tile, began_seconds, ended_seconds)
            if outage is not None:
                is_right = self._may_be_shown(outage, tile, value, began_seconds, is_right=is_right)
        else:
            is_right = outage is not None
        if not is_right:
            at = "" if outage is None else f" {began_seconds - outage.began_seconds:.2f} s after {outage}"
            self.wrong.append(f"{tile.name} was read as {value}{at}")

    def _may_be_shown(
        self, outage: Outage, tile: Tile, value: bool, read_seconds: float, *, is_right: bool
    ) -> bool:
        """Return whether a cut-off host's tile may have this value: once it had none, only that of today."""
        if read_seconds > outage.shown_seconds:
            return value is self.truth.now(tile)
        if read_seconds > outage.effective_seconds + CUT_SEEN_WITHIN_SECONDS:
            return False
        return is_right or value in self.truth.possible(tile, outage.began_seconds, outage.began_seconds)


@dataclass(slots=True)
class Stalls:
    """The delays of a thread that wakes up all the time: how long the test machine let this process wait."""

    found: list[tuple[float, float]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def without(self, timing: Timing) -> float:
        """Return the seconds that something took, without the longest delay meanwhile."""
        ended_seconds = timing.began_seconds + timing.took_seconds
        meanwhile = (
            late_seconds
            for began_seconds, late_seconds in self.found
            if began_seconds < ended_seconds and began_seconds + late_seconds > timing.began_seconds
        )
        return timing.took_seconds - max(meanwhile, default=0)

    @contextmanager
    def measured(self) -> Iterator["Stalls"]:
        """Measure meanwhile."""
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            before_seconds = time.monotonic()
            time.sleep(0.005)
            now_seconds = time.monotonic()
            if (late_seconds := now_seconds - before_seconds - 0.005) > 0.01:
                self.found.append((before_seconds, late_seconds))


@dataclass(frozen=True, slots=True)
class CoreTime:
    """The time of all cores since the boot, in the kernel's ticks."""

    idle: int
    whole: int

    @classmethod
    def now(cls) -> "CoreTime":
        """Read it (proc_stat(5))."""
        ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return cls(ticks[3] + ticks[4], sum(ticks))

    def idle_share_since(self, before: "CoreTime") -> float:
        """Return the part of the time in which a core had nothing to do."""
        return (self.idle - before.idle) / (self.whole - before.whole)


def median_ms(timings: Iterable[Timing]) -> float:
    return 1000 * statistics.median(timing.took_seconds for timing in timings)


def worst_ms(timings: Iterable[Timing]) -> float:
    return 1000 * max(timing.took_seconds for timing in timings)
