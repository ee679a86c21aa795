"""What happens in worlds with alerts and rules beside all else: units that crash, and hungry ones."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from tests.world.random_source import RandomSource
from tests.world.trouble_scene import WITH_RULES
from tests.world.world import World

LONG_SECONDS: Final = (12.0, 29.0, 31.0, 45.0, 80.0, 150.0, 320.0)
"""Pauses in which sensors close, and rules act."""

CORES: Final = (0.0, 0.3, 0.6, 0.8, 0.97, 1.6, 3.2)
MEMORY_BYTES: Final = (10 * 2**20, 90 * 2**20, 150 * 2**20, 400 * 2**20)
HUNGRY_SECONDS: Final = (5.0, 20.0, 50.0, 110.0, 400.0)

Operation = Callable[[], Awaitable[None] | None]


@dataclass(eq=False)
class TroubleOperations:
    """All of them."""

    world: World

    def kinds(self) -> list[tuple[int, Operation]]:
        """What happens, with its weights."""
        return [
            (10, self._crash),
            (8, self._stop_and_start),
            (9 * self._has_rules, self._change_hunger),
            (4 * self._has_rules, self._change_memory),
            (5 * self._has_rules, self._stop_hungry),
        ]

    def pauses(self) -> list[tuple[int, Operation]]:
        """What lasts long, with its weights."""
        return [
            (40, self._wait),
            (4, self._reboot),
            (10, self._restart_after_end),
            (8 * self._has_rules, self._exhaust),
        ]

    @property
    def _chance(self) -> RandomSource:
        return self.world.chance

    @property
    def _has_rules(self) -> bool:
        return not self.world.groups.chosen.keys().isdisjoint(WITH_RULES)

    def _crash(self) -> None:
        """End the program of a unit, well or not, or as if it had been stopped."""
        name = self._some_unit()
        status, signal = self._chance.one_of(((1, 0), (0, 0), (143, 0), (0, 9), (0, 11), (0, 15)))
        self.world.note(f"{name} ends with status {status}, signal {signal}")
        self.world.machine.disturb(name)
        self.world.machine.systemd.crash(name, status=status, signal=signal)

    def _later(self, seconds: float, operation: Callable[[str], None], name: str) -> None:
        """Have systemctl do something later, unless the world is to be quiet by then."""
        later, by_systemctl = asyncio.get_running_loop().call_later, self.world.machine.by_systemctl
        self.world.planned.append(later(seconds, by_systemctl, operation, name))

    def _some_unit(self) -> str:
        return self._chance.one_of(self.world.machine.units)

    def _stop_and_start(self) -> None:
        """Stop or restart a unit, and again, and again, within moments."""
        machine, name = self.world.machine, self._some_unit()
        operations = (machine.systemd.stop, machine.systemd.start, machine.systemd.restart)
        at_seconds = 0.0
        for _ in range(self._chance.stream.randrange(1, 5)):
            operation = self._chance.one_of(operations)
            self._later(at_seconds, operation, name)
            at_seconds += self._chance.one_of((0.0, 0.001, 0.003, 0.02, 0.4, 2.5))

    def _hungry_unit(self) -> str:
        groups = [group for group in self.world.served if group.restart_when]
        units = [unit for group in groups for unit in group.units]
        return self._chance.one_of(units) if units else self._some_unit()

    def _change_hunger(self) -> None:
        name, cores = self._hungry_unit(), self._chance.one_of(CORES)
        self.world.note(f"{name} uses {cores} cores")
        systemd = self.world.machine.systemd
        systemd.use_cores(name, cores)
        if self._chance.of_one_in(2):
            seconds = self._chance.one_of(HUNGRY_SECONDS) * self._chance.seconds(0.5, 1)

            def end() -> None:
                self.world.note(f"{name} uses no core")
                systemd.use_cores(name, 0)

            asyncio.get_running_loop().call_later(seconds, end)

    def _stop_hungry(self) -> None:
        """Stop or restart a unit that a rule watches, perhaps just when a window is full."""
        machine, name = self.world.machine, self._hungry_unit()
        operation = self._chance.one_of((machine.systemd.stop, machine.systemd.restart))
        seconds = self._chance.seconds(0, 60)
        self._later(seconds, operation, name)

    def _change_memory(self) -> None:
        name, memory_bytes = self._hungry_unit(), self._chance.one_of(MEMORY_BYTES)
        self.world.note(f"{name} uses {memory_bytes >> 20} MiB")
        self.world.machine.systemd.use_memory(name, memory_bytes)

    async def _wait(self) -> None:
        await asyncio.sleep(self._chance.one_of(LONG_SECONDS) * self._chance.seconds(0.7, 1.2))

    async def _exhaust(self) -> None:
        """Let a group be hungry for long, whatever its rule does, and have other daemons meanwhile."""
        machine, name = self.world.machine, self._hungry_unit()
        self.world.note(f"{name} stays hungry")
        machine.systemd.use_cores(name, CORES[-1])
        for unit in machine.units:
            machine.by_systemctl(machine.systemd.start, unit)
        for _ in range(self._chance.stream.randrange(1, 4)):
            await asyncio.sleep(self._chance.seconds(40, 130))
            if self._chance.of_one_in(2) and self.world.file.is_good:
                await self._replace_daemon(is_clean=self._chance.of_one_in(2))

    async def _replace_daemon(self, *, is_clean: bool) -> None:
        self.world.note("the daemon is replaced")
        if is_clean:
            await self.world.daemon.stop()
        else:
            self.world.daemon.kill()
        self.world.disturb_all()
        await asyncio.sleep(self._chance.seconds(0.1, 2))
        self.world.boot()
        self.world.disturb_all()

    async def _restart_after_end(self) -> None:
        """Let a unit end, and then have another helper or daemon, which sees only what is left of it."""
        await asyncio.sleep(self._chance.one_of((0.0, 9.0)))
        if self._chance.of_one_in(3):
            self._crash()
        else:
            machine = self.world.machine
            ends_badly = [each for each in machine.units if machine.specs[each].term_status]
            up = [each for each in ends_badly if machine.is_up(each)]
            machine.by_systemctl(machine.systemd.stop, self._chance.one_of(up or machine.units))
        await asyncio.sleep(self._chance.one_of((0.01, 1.2, 3.0, 8.0)))
        if not self.world.file.is_good:
            return
        helper = self.world.transport.newest
        if helper is None or self._chance.of_one_in(2):
            await self._replace_daemon(is_clean=self._chance.of_one_in(2))
            return
        self.world.note("the helper is replaced")
        helper.kill()
        self.world.disturb_all()

    async def _reboot(self) -> None:
        await self.world.reboot(self._chance.seconds(0.5, 20), is_clean=not self._chance.of_one_in(3))
