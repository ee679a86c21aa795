"""A simulated systemd on a simulated bus: units, their jobs, and what others do to them.

Deterministic: it draws nothing, and takes its time from the running event loop. It must not know hkswitch,
but for the interface that hkswitch calls; tests/contract holds it to the real one.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from hkswitch.model.unit_state import ActiveState, LoadState, UnitState
from hkswitch.systemd.connection import PROPERTIES_INTERFACE, SYSTEMD
from hkswitch.systemd.interface import MANAGER_PATH
from tests.world import properties
from tests.world.bus import SimulatedBus
from tests.world.client import ClientBus, SimulatedConnection
from tests.world.commands import Decide, succeeds
from tests.world.jobs import Job, Jobs, Kind
from tests.world.manager_calls import Calls
from tests.world.messages import Delay, Message
from tests.world.pending import Pending
from tests.world.service import Service
from tests.world.timer_unit import TimerUnit
from tests.world.unit import Unit
from tests.world.unit_spec import Life, Spec
from tests.world.unit_states import Timer

MANAGER: Final = f"{SYSTEMD}.Manager"
NEWEST: Final = 257


def at_once() -> float:
    """The delay of a bus that has none."""
    return 0


class SimulatedSystemd:
    """The system of a simulated host, its bus included."""

    def __init__(
        self,
        units: Mapping[str, Spec] | None = None,
        *,
        version: int = NEWEST,
        delay_seconds: Delay = at_once,
        commands: Decide = succeeds,
    ) -> None:
        """Nothing runs. `commands` says what becomes of a command, by its argv."""
        self.version = version
        self.files = dict(units or {})
        """What is on disk: a loaded unit goes on as it was until `daemon_reload`."""
        self.subscribers: set[str] = set()
        self.jobs = Jobs(self)
        self.decide = commands
        self.loads: dict[str, float] = {}
        """The cores that programs use while they run, by their units."""
        self.bus = SimulatedBus(self, delay_seconds)
        self._calls = Calls(self)
        self.loaded: dict[str, Unit] = {}
        """The units in memory."""
        self._starts: Counter[str] = Counter()
        self._invocations = 0
        self._dirty: dict[str, Unit] = {}
        self._unused: dict[str, Unit] = {}
        self._working: asyncio.Handle | None = None
        self._hangs = False
        self._backlog: deque[Callable[[], None]] = deque()
        self._pending: set[Pending] = set()

    # The world's side

    def connection(self) -> SimulatedConnection:
        """A connection for `Systemd.connect`."""
        return SimulatedConnection(self.bus)

    def truth(self, name: str) -> UnitState:
        """A unit's state, as it is now, whether or not anyone was told."""
        unit = self.loaded.get(name)
        if unit is None:
            spec = self.files.get(name)
            load = LoadState.NOT_FOUND if spec is None else spec.load
            return UnitState(load, ActiveState.INACTIVE, "dead")
        return UnitState(unit.load, ActiveState(unit.active), unit.sub)

    def is_up(self, name: str) -> bool:
        """Whether a unit is active."""
        return self.truth(name).active is ActiveState.ACTIVE

    def start(self, name: str) -> None:
        """Have another client start a unit."""
        self._event(lambda: self._from_outside(name, Kind.START))

    def stop(self, name: str) -> None:
        """Have another client stop it."""
        self._event(lambda: self._from_outside(name, Kind.STOP))

    def restart(self, name: str) -> None:
        """Have another client restart it, which starts one that is stopped."""
        self._event(lambda: self._from_outside(name, Kind.RESTART))

    def crash(self, name: str, *, status: int = 0, signal: int = 0) -> None:
        """End a unit's main process, if it has one."""
        life = Life(0, status, signal)
        self._event(lambda: self.load(name).program_ends(life))

    def use_cores(self, name: str, cores: float) -> None:
        """Have the program of a unit use so many cores from now on, whenever it runs."""
        self.loads[name] = cores
        if (unit := self.loaded.get(name)) is not None:
            unit.load_changed()

    def define(self, name: str, spec: Spec | None) -> None:
        """Write a unit file, or remove it; one that is loaded stays as it is until `daemon_reload`."""
        if spec is None:
            self.files.pop(name, None)
        else:
            self.files[name] = spec

    def daemon_reload(self) -> None:
        """Read all unit files anew."""
        self._event(self._reload)

    def lose_bus(self) -> None:
        """Break all connections; no new one can be made."""
        self.bus.stop()
        self.subscribers.clear()

    def restore_bus(self) -> None:
        """Have the bus again."""
        self.bus.start()

    def leave_bus(self) -> None:
        """Be executed anew: until `join_bus`, systemd has no name on the bus. What runs goes on."""
        self.bus.disown()
        self.subscribers.clear()

    def join_bus(self) -> None:
        """Be on the bus again, under a name of its own."""
        self.bus.own()

    def reboot(self) -> None:
        """Know nothing but what is on disk, and run nothing: the host was turned off and on."""
        self.lose_bus()
        for pending in [*self._pending]:
            pending.cancel()
        self._backlog.clear()
        self.jobs = Jobs(self)
        for known in (self.loaded, self._dirty, self._unused):
            known.clear()
        self._hangs = False
        self.restore_bus()

    def hang(self) -> None:
        """Do nothing, and answer no call, until `go_on`."""
        self._hangs = True

    def go_on(self) -> None:
        """Do what was to be done meanwhile, in its order."""
        self._hangs = False
        while self._backlog and not self._hangs:
            self._backlog.popleft()()
        self._work_soon()

    def close(self) -> None:
        """Leave no timers."""
        self.bus.destroy()
        for pending in [*self._pending]:
            pending.cancel()
        if self._working is not None:
            self._working.cancel()

    # The units' and the calls' side

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def later(self, seconds: float, event: Callable[[], None]) -> Timer:
        pending = Pending(event, self._event, self._pending)
        pending.timer = asyncio.get_running_loop().call_later(seconds, pending.is_due)
        return pending

    def load(self, name: str) -> Unit:
        """A unit, loaded if need be: one without references is unloaded soon."""
        if (unit := self.loaded.get(name)) is None:
            kind = TimerUnit if name.endswith(".timer") else Service
            unit = self.loaded[name] = kind(name, self.files.get(name), self)
            self.touched(unit)
        return unit

    def make(self, name: str, spec: Callable[[], Spec]) -> Unit | None:
        """A unit that has no file; None if there is one with this name, and then its program never runs."""
        if name in self.files or (name in self.loaded and self.loaded[name].load is LoadState.LOADED):
            return None
        unit = self.loaded[name] = Service(name, spec(), self)
        self.touched(unit)
        return unit

    def units(self) -> Iterable[Unit]:
        return list(self.loaded.values())

    def changing(self, unit: Unit) -> None:
        if unit.is_known:
            self.tell(unit)

    def changed(self, unit: Unit) -> None:
        self.touched(unit)
        self.jobs.changed(unit)
        if not unit.is_down:
            return
        for other in self.units():
            if other.spec.triggers == unit.name:
                other.triggered_is_down()
            if unit.name in self.jobs.of:
                continue
            if unit.name in other.spec.binds_to and not other.is_down and other.active != "deactivating":
                self.jobs.add(other, Kind.STOP)

    def touched(self, unit: Unit) -> None:
        unit.is_dirty = True
        self._dirty[unit.name] = unit
        self._unused[unit.name] = unit
        self._work_soon()

    def unused(self, unit: Unit) -> None:
        """Unload a unit soon, unless it is referenced."""
        self._unused[unit.name] = unit
        self._work_soon()

    def restart_by_itself(self, unit: Unit) -> None:
        job = self.jobs.of.get(unit.name)
        if job is None or job.kind is not Kind.STOP:
            self.jobs.add(unit, Kind.START if self.version >= NEWEST else Kind.RESTART, again=True)

    def cores(self, unit: Unit) -> float:
        return self.loads.get(unit.name, 0)

    def used(self, unit: Unit) -> None:
        """Nothing of it is kept."""

    def trigger(self, name: str) -> bool:
        unit = self.load(name)
        is_loaded = unit.load is LoadState.LOADED
        if is_loaded:
            self.jobs.add(unit, Kind.START)
            self._work_soon()
        return is_loaded

    def invocation(self) -> bytes:
        self._invocations += 1
        return self._invocations.to_bytes(16)

    def count_start(self, unit: Unit) -> int:
        self._starts[unit.name] += 1
        return self._starts[unit.name]

    def job_removed(self, job: Job, result: str) -> None:
        self.tell(job.unit)
        self.signal(MANAGER_PATH, MANAGER, "JobRemoved", job.number, job.path, job.unit.name, result)

    def called(self, client: ClientBus, serial: int, message: Message) -> None:
        self._event(lambda: self._calls.called(client, serial, message))

    def left(self, client: ClientBus) -> None:
        self._event(lambda: self._forget(client))

    def tell(self, unit: Unit) -> None:
        """Send the signals of a unit that changed: the service's before the unit's."""
        if not unit.is_dirty:
            return
        unit.is_dirty = False
        self._dirty.pop(unit.name, None)
        if not unit.is_known:  # systemd sends UnitNew instead
            unit.is_known = True
            return
        path = properties.path_of(unit.name)
        for interface, values in properties.changes(unit, self.jobs.of.get(unit.name)):
            self.signal(path, PROPERTIES_INTERFACE, "PropertiesChanged", interface, values, [])

    def signal(self, path: str, interface: str, member: str, *body: object) -> None:
        """Send a signal, if any client has asked for signals."""
        if self.subscribers and self.bus.owner:
            self.bus.broadcast(Message(path, interface, member, body))

    # What happens, one after the other

    def _event(self, event: Callable[[], None]) -> None:
        if self._hangs:
            self._backlog.append(event)
        else:
            event()
            self._work_soon()

    def _work_soon(self) -> None:
        if self._working is None and not self._hangs:
            self._working = asyncio.get_running_loop().call_soon(self._work)

    def _work(self) -> None:
        """The end of a round of systemd's main loop, and then the jobs."""
        self._working = None
        if self._hangs:
            return
        self._tell_all()
        self.jobs.run()
        if self._dirty or self._unused:
            self._work_soon()

    def _tell_all(self) -> None:
        for unit in list(self._unused.values()):
            self._forget_unused(unit)
        self._unused.clear()
        for unit in list(self._dirty.values()):
            self.tell(unit)

    def _forget_unused(self, unit: Unit) -> None:
        is_over = unit.sub == "dead" or (unit.sub == "failed" and unit.spec.collects)
        if not is_over or unit.holders or unit.name in self.jobs.of:
            return
        if self.loaded.pop(unit.name, None) is not unit:
            return
        unit.is_dirty |= not unit.is_known
        self.tell(unit)
        self.signal(MANAGER_PATH, MANAGER, "UnitRemoved", unit.name, properties.path_of(unit.name))

    def _forget(self, client: ClientBus) -> None:
        self.subscribers.discard(client.name)
        for unit in self.units():
            if unit.holders.pop(client.name, 0):
                self._unused[unit.name] = unit

    def _from_outside(self, name: str, kind: Kind) -> None:
        unit = self.load(name)
        if kind is Kind.STOP or unit.load is LoadState.LOADED:
            self.jobs.add(unit, kind)

    def _reload(self) -> None:
        self.signal(MANAGER_PATH, MANAGER, "Reloading", True)
        for unit in self.units():
            if not unit.spec.collects:
                unit.reload(self.files.get(unit.name))
            self._unused[unit.name] = unit
        self.signal(MANAGER_PATH, MANAGER, "Reloading", False)
