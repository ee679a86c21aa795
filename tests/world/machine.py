"""The machine of a world: its units under a simulated systemd, and the programs that root runs there."""

import asyncio
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final

from hkswitch.model.unit_state import Action, ActiveState, LoadState, UnitHealth, UnitState
from tests.world.client import ClientBus
from tests.world.commands import Decide
from tests.world.engines import MachineEngines
from tests.world.history import History, Was
from tests.world.hosts_scene import UNSEEN_PROGRAMS
from tests.world.messages import Delay, Message
from tests.world.random_source import SLOW_SECONDS, RandomSource
from tests.world.scene import Programs
from tests.world.systemd import SimulatedSystemd
from tests.world.trouble_facts import IDLE, Fault, Load, ToldCommand, TroubleFacts
from tests.world.trouble_scene import TELL
from tests.world.unit import Unit
from tests.world.unit_spec import Life, Spec

ON_ITS_WAY_SECONDS: Final = 4 * SLOW_SECONDS
"""What a unit was so long before an answer is what the answer is about."""

TAKES_SECONDS: Final = (0.01, 0.2, 1.5, 3.5, 8.0, 8.0)
"""Of programs: checks are cut off after 3 or 9 s."""

LEAST_LIMIT_SECONDS: Final = 3.0
"""Of a check: one that takes longer may be cut off, which is no pass."""

CUT_OFF_SECONDS: Final = 4.0
"""The least time that the lamp's commands are given."""

NOT_AN_ANSWER: Final = 126
ALERT: Final = "hkswitch-alert-"
"""Begins the name of the unit of an alert command."""

JOBS: Final = {"StartUnit", "StopUnit", "TryRestartUnit", "StartTransientUnit"}


class Remembering(SimulatedSystemd):
    """A systemd of which all is known that it ever did."""

    def __init__(self, units: Mapping[str, Spec], version: int, delay_seconds: Delay, run: Decide) -> None:
        super().__init__(units, version=version, delay_seconds=delay_seconds, commands=run)
        self.asked_by: Callable[[ClientBus, Message], None] = lambda *_: None
        """Is told who asks for a job, and how."""
        self.joined: Callable[[], None] = lambda: None
        """Called when a client has connected."""
        self.seen: Callable[[str], None] = lambda _: None
        """Is told the name of each unit that may have changed."""
        self.history = History()
        self.facts = TroubleFacts()
        self.memory_bytes: dict[str, int] = {}
        """What programs use while they run, by their units."""
        for name in units:
            self.history.begin(name, self.truth(name))

    def changed(self, unit: Unit) -> None:
        state = UnitState(LoadState.LOADED, ActiveState(unit.active), unit.sub)  # with or without its file
        if unit.name in self.history and state.health is UnitHealth.FAILED:
            run, has_job = unit.invocation.hex(), unit.name in self.jobs.of
            fault = Fault(self.now(), unit.name, run, unit.is_stopped, unit.was_up, has_job)
            self.facts.failed(fault)
        super().changed(unit)

    def used(self, unit: Unit) -> None:
        memory_bytes = self.memory_bytes.get(unit.name, 0) if unit.has_program else 0
        run = unit.invocation.hex() if unit.has_program else ""
        if unit.name in self.history:
            self.facts.loaded(unit.name, Load(self.now(), run, unit.cpu.cores, memory_bytes))

    def use_memory(self, name: str, memory_bytes: int) -> None:
        """Have the program of a unit use so much memory from now on, whenever it runs."""
        self.memory_bytes[name] = memory_bytes
        if (unit := self.loaded.get(name)) is not None:
            self.used(unit)

    def memory_of(self, cgroup: PurePath) -> int | None:
        """What is in the files of a cgroup."""
        return self.memory_bytes.get(cgroup.name, 0)

    def called(self, client: ClientBus, serial: int, message: Message) -> None:
        is_probe = message.member == "StartTransientUnit" and "status" in message.body[0]
        if message.member in JOBS and not is_probe:
            self.asked_by(client, message)
            self._note_alert(message)
        if message.member == "Subscribe":
            self.joined()
        super().called(client, serial, message)

    def _note_alert(self, call: Message) -> None:
        if call.member != "StartTransientUnit" or ALERT not in call.body[0]:
            return
        values = {name: value for name, (_, value) in call.body[2]}
        said = dict(each.split("=", 1) for each in values["Environment"])
        words = (said[f"HKSWITCH_{word}"] for word in ("GROUP", "REASON", "STATE"))
        self.facts.commands.append(ToldCommand(self.now(), *words))

    def touched(self, unit: Unit) -> None:
        super().touched(unit)
        self._remember(unit)
        self.seen(unit.name)

    def reboot(self) -> None:
        super().reboot()
        for name in self.history:
            self.history.add(name, Was(self.now(), self.truth(name), self._starts[name]))
            self.facts.loaded(name, IDLE._replace(at_seconds=self.now()))

    def _reload(self) -> None:
        super()._reload()
        for unit in self.units():
            self._remember(unit)
            self.seen(unit.name)

    def _remember(self, unit: Unit) -> None:
        if unit.name in self.history:
            was = Was(self.now(), self.truth(unit.name), self._starts[unit.name])
            self.history.add(unit.name, was)


@dataclass(eq=False)
class Machine:
    """One machine."""

    chance: RandomSource
    note: Callable[[str], None]
    specs: Mapping[str, Spec]
    programs: Programs = field(default_factory=Programs)
    lit: list[tuple[float, bool]] = field(default_factory=lambda: [(0.0, False)])
    """Since when the lamp was lit, or was not."""
    passed: dict[str, float] = field(default_factory=dict)
    """When the last run that passed began, of each check by its argument."""
    disturbed: dict[str, float] = field(default_factory=dict)
    """When another client last changed a unit."""
    overlaps: bool = False
    """Whether two commands of the lamp's ran at once."""
    ran: list[tuple[float, tuple[str, ...]]] = field(default_factory=list)
    """The programs of commands without a status, and when they began."""
    has_engines: bool = False
    _busy_until_seconds: float = 0

    def __post_init__(self) -> None:
        self.units = list(self.specs)
        self._related = {unit: set(_related_to(unit, self.specs)) for unit in self.units}
        version = self.chance.one_of((252, 257))
        self.systemd = Remembering(self.specs, version, self.chance.delay_seconds, self._run)
        chance = self.chance if self.has_engines else None
        self.engines = MachineEngines(self.systemd, self.systemd.history, chance, self.note)
        self.systemd.seen = self.engines.unit_touched
        for engine in self.engines.of.values():
            engine.disturb = self.disturb

    def repair(self) -> None:
        """Let programs work, and quickly."""
        self.programs.breaks = False
        self.programs.takes_seconds = 0.01
        self.engines.repair()

    def by_systemctl(self, operation: Callable[[str], None], unit: str) -> None:
        """Somebody has systemd do something to a unit: `operation` is a method of its."""
        self.note(f"systemctl {operation.__name__} {unit}")
        self.disturb(unit)
        operation(unit)

    def disturb(self, unit: str) -> None:
        """Somebody else does something to it, and so to the units that depend on it."""
        for name in (unit, *self._related.get(unit, ())):
            self.disturbed[name] = asyncio.get_running_loop().time()

    def disturb_all(self) -> None:
        """Somebody holds something up: what is told is older than it seems."""
        for unit in (*self.units, *self.engines.members):
            self.disturb(unit)

    def truth(self, member: str) -> UnitState:
        """What a unit or a container is now, whether or not anyone was told."""
        return self.engines.truth(member) if "/" in member else self.systemd.truth(member)

    def is_up(self, member: str) -> bool:
        """Whether a unit is active, or a container runs."""
        return self.truth(member).active is ActiveState.ACTIVE

    def was_up(self, unit: str, from_seconds: float, to_seconds: float) -> bool:
        """Whether a unit was active at some moment."""
        was = self._was(unit, from_seconds, to_seconds)
        return any(each.state.active is ActiveState.ACTIVE for each in was)

    def changed_at_seconds(self, members: Iterable[str]) -> float:
        """When one of these units and containers changed, last."""
        histories = ((member, self._history(member)) for member in members)
        return max((history.changed_at_seconds(member) for member, history in histories), default=0.0)

    def _history(self, member: str) -> History:
        return self.engines.engine_of(member).history if "/" in member else self.systemd.history

    def _was(self, member: str, from_seconds: float, to_seconds: float) -> Iterator[Was]:
        return self._history(member).was(member, from_seconds, to_seconds)

    def up_since(self, unit: str) -> float:
        """Since when a unit is up, with or without its file; never if it is not."""
        since = math.inf
        for was in reversed(list(self._was(unit, 0, math.inf))):
            if was.state._replace(load=LoadState.LOADED).health is not UnitHealth.UP:
                break
            since = was.at_seconds
        return since

    def change_programs(self) -> str:
        """Let programs find something else, or take another time; returns what."""
        kind = self.chance.one_of((0, 1, 2, 2, 3))
        if kind == 0:
            word = self.chance.one_of(("one", "two"))
            self.programs.passes[word] = not self.programs.passes[word]
            return f"check {word} {'passes' if self.programs.passes[word] else 'does not pass'}"
        if kind == 1:
            self._light(lit=not self.programs.is_lit)
            return f"the lamp is turned {'on' if self.programs.is_lit else 'off'} by hand"
        if kind == 2:
            return self.take_time(TAKES_SECONDS)
        self.programs.breaks = self.chance.of_one_in(3)
        return "programs break" if self.programs.breaks else "programs work"

    def take_time(self, choices_seconds: Sequence[float]) -> str:
        """Let programs take another time; returns how long."""
        self.programs.takes_seconds = self.chance.one_of(choices_seconds)
        return f"programs take {self.programs.takes_seconds} s"

    def did(
        self, action: Action, units: Sequence[str] | None, from_seconds: float, to_seconds: float
    ) -> bool:
        """Whether an action's outcome was there for some moment, for each unit or for the lamp."""
        if units is None:
            return self._lamp_was(action, from_seconds, to_seconds)
        return all(self._did(action, unit, from_seconds, to_seconds) for unit in units)

    def fell(self, units: Sequence[str] | None, from_seconds: float, to_seconds: float) -> bool:
        """Whether some unit was started more than once, though only one client requested anything of it."""
        for unit in units or ():
            if "/" in unit:  # an engine restarts what crashes, and tells so
                continue
            first, *later = self._was(unit, from_seconds, to_seconds)
            is_alone = self.disturbed.get(unit, -1.0) < from_seconds - ON_ITS_WAY_SECONDS
            starts = 1 + ("auto-restart" in first.state.sub)  # it was to be started again anyhow
            if is_alone and later and later[-1].starts > first.starts + starts:
                return True
        return False

    def _did(self, action: Action, unit: str, from_seconds: float, to_seconds: float) -> bool:
        first, *later = was = list(self._was(unit, from_seconds, to_seconds))
        if "-compose/" in unit and self.disturbed.get(unit, -1.0) >= from_seconds:
            return True  # its containers were stopped or started one after the other
        if action is Action.STOP:
            return any(not each.state.is_running or _is_gone(each.state) for each in was)
        started = any(each.starts > first.starts for each in later)
        if action is Action.RESTART:
            # There is nothing to restart of what ends by itself, even if that takes some time.
            return started or any(_is_ending(each.state) for each in was)
        if "/" in unit:  # its health check may go on, and fail
            return any(each.state.load is LoadState.LOADED and each.state.is_running for each in was)
        ends = [each for each in later if each.state.active is ActiveState.INACTIVE]
        if self.disturbed.get(unit, -1.0) >= from_seconds:
            return (started and bool(ends)) or any(each.state.health is UnitHealth.UP for each in was)
        ended_well = started and was[-1] in ends
        before = [each for each in was if each.at_seconds < to_seconds - ON_ITS_WAY_SECONDS] or [first]
        seen = [before[-1], *(each for each in was if each.at_seconds >= to_seconds - ON_ITS_WAY_SECONDS)]
        return ended_well or any(each.state.health is UnitHealth.UP for each in seen)

    def _lamp_was(self, action: Action, from_seconds: float, to_seconds: float) -> bool:
        if action is Action.RESTART:
            return True
        before = [lit for at, lit in self.lit if at < from_seconds]
        during = [lit for at, lit in self.lit if from_seconds <= at <= to_seconds]
        return (action is Action.START) in {*before[-1:], *during}

    def _run(self, argv: tuple[str, ...]) -> Life:
        """What a program does, and how it ends."""
        programs = self.programs
        status = 0
        match list(argv):
            case ["/bin/check", word]:
                status = 0 if programs.passes[word] else 1
                if status or programs.breaks or programs.takes_seconds >= LEAST_LIMIT_SECONDS:
                    self.systemd.facts.unpassed[word] = asyncio.get_running_loop().time()
                if not (status or programs.breaks):
                    loop = asyncio.get_running_loop()
                    loop.call_later(programs.takes_seconds, self._passed, word, loop.time())
            case [program, *_] if program == TELL:
                pass
            case [program, *_] if program in UNSEEN_PROGRAMS:
                self.ran.append((asyncio.get_running_loop().time(), argv))
            case ["/bin/lamp", "status"]:
                status = 0 if programs.is_lit else 3
            case ["/bin/lamp", word]:
                now_seconds = asyncio.get_running_loop().time()
                self.overlaps |= now_seconds < self._busy_until_seconds
                self._busy_until_seconds = now_seconds + min(programs.takes_seconds, CUT_OFF_SECONDS)
                if programs.takes_seconds < CUT_OFF_SECONDS:
                    # Some programs have done it long before they end.
                    within_seconds = self.chance.one_of((0.0, programs.takes_seconds))
                    loop = asyncio.get_running_loop()
                    loop.call_later(within_seconds, self._lit_by, word == "start")
        return Life(programs.takes_seconds, NOT_AN_ANSWER if programs.breaks else status)

    def _passed(self, word: str, began_at_seconds: float) -> None:
        self.passed[word] = max(began_at_seconds, self.passed.get(word, 0))

    def _lit_by(self, lit: bool) -> None:
        if not self.programs.breaks:
            self._light(lit=lit)

    def _light(self, *, lit: bool) -> None:
        self.programs.is_lit = lit
        self.lit.append((asyncio.get_running_loop().time(), lit))


def _related_to(unit: str, specs: Mapping[str, Spec]) -> Iterator[str]:
    for name, spec in specs.items():
        if unit in (*spec.binds_to, *spec.part_of, *spec.conflicts):
            yield from (name, *_related_to(name, specs))
        if name in specs[unit].conflicts:
            yield name


def _is_ending(state: UnitState) -> bool:
    return not state.is_running or state.active is ActiveState.DEACTIVATING


def _is_gone(state: UnitState) -> bool:
    """Whether a container was removed."""
    return state.load is LoadState.NOT_FOUND and state.active is ActiveState.UNKNOWN
