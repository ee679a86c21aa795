"""A bridge and its state folder: controllers come and go, the disk fails, and the bridge is killed.

The real bridge, driver, connections and state file, on a simulated disk and without a network.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from hkswitch.daemon.bridge import Bridge
from hkswitch.daemon.requests import Write
from hkswitch.hap import state_file
from hkswitch.hap.stored_pairings import StoredPairings
from hkswitch.model.errors import Failure
from hkswitch.model.group import AccessoryType, Group
from hkswitch.model.switch_events import Tile
from hkswitch.network.endpoint import Endpoint
from hkswitch.protocol.control import MOST_FAILED_ATTEMPTS
from tests.world.disk import Disk, Killed
from tests.world.faults import Doom, Faults
from tests.world.network import SimulatedNetwork
from tests.world.pairing import Controller
from tests.world.processes import Process
from tests.world.random_source import RandomSource
from tests.world.state_invariants import WRITTEN_WITHIN_SECONDS, Pairings, StateInvariants, pairing_of

PLACE: Final = Endpoint(("192.0.2.1",), frozenset({2}))
CONTROLLERS: Final = tuple(map(Controller.of, range(1, 5)))
GROUPS: Final = tuple(Group(name, name, (f"{name}.service",)) for name in ("web", "files", "mail"))
CHANGED: Final = Group("web", "Web", ("web.service",), AccessoryType.OUTLET)
DOOMS: Final = (tuple(Doom), (Doom.ERROR,), (Doom.ERROR, Doom.KILL), (Doom.KILL, Doom.POWER))
"""What may happen in the middle of something: each seed has some of it."""

GAPS_SECONDS: Final = (0.0, 0.0, 0.0, 1.0, 10.0, 70.0)


class WriteHandler:
    """Nobody writes here."""

    def write(self, write: Write, tile: Tile, *, on: bool) -> None:
        raise NotImplementedError


@dataclass(eq=False)
class StateWorld:
    """Everything there is; `note` writes the trace."""

    chance: RandomSource
    note: Callable[[str], None]
    folder: Path
    disk: Disk
    air: SimulatedNetwork
    groups: tuple[Group, ...] = GROUPS
    bridge: Bridge | None = None
    process: Process = field(default_factory=lambda: Process("daemon"))
    _ends: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.faults = Faults(self.disk, self.chance, self.note)
        self.invariants = StateInvariants(self)
        self._dooms = self.chance.one_of(DOOMS)
        self._doom_one_in = self.chance.one_of((2, 4, 8))
        self._damage_weight = self.chance.one_of((1, 2, 12))

    # The daemon

    async def start(self) -> None:
        """Start the daemon; it may not come far."""
        self.note("the daemon starts")
        self.process = Process("daemon")
        self.disk.process = self.process
        try:
            await self.process.spawn(self._start())
        except Killed:
            self._die()
        except Failure as why:
            self.note(f"    it does not start: {why}")
            self._vanish()
            self.invariants.not_started(why)
        else:
            self.invariants.started()

    async def _start(self) -> None:
        self._ends.enter_context(state_file.locked(self.folder))
        bridge = Bridge("World", self.groups, self.folder, 51826)
        await bridge.start(WriteHandler(), PLACE)
        self.bridge = bridge

    def _vanish(self) -> None:
        self.bridge = None
        self.process.wipe_out()
        self.disk.kill(self.process)
        self._ends = ExitStack()

    def _die(self) -> None:
        """The daemon is killed, or was."""
        if self.faults.fired is Doom.POWER:
            self.disk.cut_power()
        self._vanish()
        self.invariants.died()

    # What happens

    async def run_one(self) -> None:
        """One thing, and then some time."""
        if self.bridge is None:
            await self._happen_without_daemon()
        else:
            await self._happen_with(self.bridge)
        await asyncio.sleep(self.chance.one_of(GAPS_SECONDS))
        if self.process in self.disk.dead and self.bridge is not None:
            self._die()  # by itself, at something that it does now and then
        self.faults.disarm()

    async def _happen_without_daemon(self) -> None:
        kinds: list[tuple[int, Callable[[], Awaitable[None] | None]]] = [
            (12, self.start),
            (2, self.faults.change_disk),
            (self._damage_weight, self._damage),
            (2, self._unpair_offline),
            (2, self._edit),
        ]
        self._maybe_arm()
        came = self.chance.weighed(kinds)()
        if came is not None:
            await came

    async def _happen_with(self, bridge: Bridge) -> None:
        kinds: list[tuple[int, Callable[[Bridge], Coroutine[Any, Any, None]]]] = [
            (10, self._add),
            (8, self._remove),
            (4, self._try_to_pair),
            (3, self._unpair),
            (2, self._reset),
            (5, self._regroup),
            (3, self._second_daemon),
            (5, self._change_disk),
            (3, self._stop),
            (3, self._kill),
        ]
        if not self.invariants.pairings:
            kinds.append((20, self._pair))
        self._maybe_arm()
        kind = self.chance.weighed(kinds)
        await self._do(kind(bridge))

    async def _do(self, what: Coroutine[Any, Any, None]) -> None:
        """Have the daemon do it; it may die of it, or end."""
        try:
            await self.process.spawn(what)
        except Killed:
            self._die()
        if self.bridge is None and self.process not in self.disk.dead:
            self.invariants.stopped(self.process.leftovers)
            self._vanish()
            self.invariants.died()

    def _maybe_arm(self) -> None:
        if self.chance.of_one_in(self._doom_one_in):
            self.faults.arm(self.chance.one_of(self._dooms))

    def _ask(self, what: str, after: Pairings, ask: Callable[[], bool]) -> None:
        """Have a controller, or a person, change the pairings."""
        self.note(what)
        self.invariants.changing(after)
        ok = ask()
        self.note(f"    {'done' if ok else 'refused'}")
        self.invariants.told(ok=ok)

    async def _pair(self, bridge: Bridge) -> None:
        controller = self.chance.one_of(CONTROLLERS)
        after = pairing_of(controller, admin=True)
        # A kill may come before this is taken back.
        self.invariants.most_attempts += not self.invariants.pairings
        self._ask(f"{controller.name} pairs", after, lambda: controller.pair(bridge, bridge.setup.code))

    async def _try_to_pair(self, bridge: Bridge) -> None:
        controller = self.chance.one_of(CONTROLLERS)
        counts = not self.invariants.pairings and self.invariants.most_attempts < MOST_FAILED_ATTEMPTS
        self.invariants.most_attempts += counts
        self._ask(f"{controller.name} has a wrong code", {}, lambda: controller.pair(bridge, "000-00-000"))

    async def _add(self, bridge: Bridge) -> None:
        controller, other, admin = self._who(), self.chance.one_of(CONTROLLERS), self.chance.of_one_in(2)
        after = self.invariants.pairings | pairing_of(other, admin=admin)
        what = f"{controller.name} adds {other.name} as {'an admin' if admin else 'a user'}"
        self._ask(what, after, lambda: controller.add(bridge, other, admin=admin))

    async def _remove(self, bridge: Bridge) -> None:
        controller, other = self._who(), self.chance.one_of(CONTROLLERS)
        what = f"{controller.name} removes {other.name}"
        self._ask(what, self._without(other.id), lambda: controller.remove(bridge, other))

    def _who(self) -> Controller:
        """Mostly one that may."""
        admins = [each for each in CONTROLLERS if self.invariants.is_admin(each.id)]
        return self.chance.one_of(admins if admins and not self.chance.of_one_in(5) else CONTROLLERS)

    def _without(self, controller_id: UUID | None) -> Pairings:
        left = {each: what for each, what in self.invariants.pairings.items() if each != controller_id}
        return left if controller_id is not None and any(what.admin for what in left.values()) else {}

    async def _unpair(self, bridge: Bridge) -> None:
        self._unpair_by(bridge.unpair, "hkswitch unpair")

    def _unpair_offline(self) -> None:
        command = Process("hkswitch unpair")
        self.invariants.looked()
        with self.disk.run_by(command):
            try:
                self._unpair_by(StoredPairings(self.folder).unpair, "hkswitch unpair without a daemon")
            except Killed:
                if self.faults.fired is Doom.POWER:
                    self.disk.cut_power()
                self.invariants.died()
        self.disk.kill(command)

    def _unpair_by(self, unpair: Callable[[str | None], None], what: str) -> None:
        who = self.chance.one_of((None, *CONTROLLERS))
        after = self._without(None if who is None else who.id)
        name = None if who is None else str(who.id).upper()
        self._ask(f"{what} {'all' if who is None else who.name}", after, lambda: _done(lambda: unpair(name)))

    async def _reset(self, bridge: Bridge) -> None:
        self.note("hkswitch pair --reset-attempts")
        self.invariants.least_attempts = 0
        if _done(bridge.reset_attempts):
            self.invariants.most_attempts = 0

    def _edit(self) -> None:
        first = self.chance.one_of((GROUPS[0], CHANGED))
        self.groups = (first, *(group for group in GROUPS[1:] if self.chance.of_one_in(2)))
        self.note(f"the config has {', '.join(group.name for group in self.groups)}")

    async def _regroup(self, bridge: Bridge) -> None:
        before = self.groups
        self._edit()
        try:
            bridge.regroup(self.groups, WriteHandler())
        except state_file.StateUnwritable as why:
            self.note(f"    {why}")
            self.groups = before

    async def _second_daemon(self, _: Bridge) -> None:
        self.note("another daemon starts")
        other = Process("another daemon")
        with self.disk.run_by(other):
            try:
                with state_file.locked(self.folder):
                    self.invariants.wrong("two daemons have the folder")
            except state_file.StateInUse as in_use:
                if in_use.process not in {"77", "7", "?"}:  # or what a kill has left of it
                    self.invariants.wrong(str(in_use))
            except state_file.StateUnwritable:
                assert self.faults.fired or not self.faults.is_good
        self.disk.kill(other)

    async def _change_disk(self, _: Bridge) -> None:
        self.faults.change_disk()

    def _damage(self) -> None:
        if self.invariants.has_backup:
            self.faults.damage()

    async def _stop(self, bridge: Bridge) -> None:
        self.note("the daemon is told to end")
        await bridge.stop()
        self._ends.close()
        self.bridge = None

    async def _kill(self, _: Bridge) -> None:
        self.faults.fired = self.chance.one_of((Doom.KILL, Doom.POWER))
        self.note(f"{self.faults.fired.value}")
        raise Killed

    async def end(self) -> None:
        """Have a good disk, and the daemon as it was told; leave nothing."""
        self.note("the disk is good, and stays so")
        self.disk.is_full = self.disk.is_read_only = False
        if self.bridge is None:
            await self.start()
        assert self.bridge is not None
        await asyncio.sleep(WRITTEN_WITHIN_SECONDS)
        self.invariants.check()
        await self._do(self._stop(self.bridge))
        self.invariants.check()


def _done(change: Callable[[], None]) -> bool:
    try:
        change()
    except Failure:
        return False
    return True
