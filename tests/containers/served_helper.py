"""The helper's dispatcher with a scripted systemd and both simulated engines, in virtual time."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from hkswitch.model.config import parse
from hkswitch.model.errors import BusUnavailable
from hkswitch.model.group import Engine
from hkswitch.model.unit_state import Action, ActiveState, JobResult, LoadState, UnitResult, UnitState, Usage
from hkswitch.serviceswitch.audit import Decision, Denial, Effect
from hkswitch.serviceswitch.dispatcher import Dispatcher
from hkswitch.serviceswitch.policy import Policy, TrustedConfig
from hkswitch.systemd.command import Command, Ended, ServiceResult
from tests.containers.both_engines import BothEngines

if TYPE_CHECKING:
    from hkswitch.serviceswitch.audit import Audit

UP = UnitState(LoadState.LOADED, ActiveState.ACTIVE, "running")
DOWN = UnitState(LoadState.LOADED, ActiveState.INACTIVE, "dead")


class KeptAudit:
    """An audit that keeps what it is told."""

    def __init__(self) -> None:
        self.denials: list[str] = []
        self.failures: list[str] = []

    async def decided(self, action: str, group: str, *, by_rule: bool = False) -> Decision:
        return Decision(action, group, 1, by_rule)

    def denied(self, denial: Denial) -> None:
        self.denials.append(denial.reason)

    def ended(self, effect: Effect) -> None:
        self.failures.append(effect.failed)


class ServedHelper:
    """A helper, and what it was asked and told. `done` has the jobs and the engines' requests, in order."""

    def __init__(self, config: str) -> None:
        self.both = BothEngines()
        self.config = config
        self.units: dict[str, UnitState] = {}
        self.done: list[str] = []
        self.replies: list[dict[str, Any]] = []
        self.at_seconds: list[float] = []
        """When each of them was written."""
        self.job_seconds = 0.1
        self.failing: set[str] = set()
        """Units whose jobs fail."""
        self.runs: dict[str, str] = {}
        """The units that can be measured, each with its invocation ID."""
        self.measured: list[set[str]] = []
        """The units that were measured, each time."""
        self.measure_seconds = 0.05
        self.check_exits_with = 0
        self.has_hung_up = False
        self.audit = KeptAudit()
        self._news = asyncio.Condition()
        self._lines: asyncio.Queue[bytes] = asyncio.Queue()
        self._numbers = 0
        self._watched: tuple[str, ...] = ()
        for engine in self.both.by_engine.values():
            engine.on_request = self._requested
        read: Callable[[str], bytes] = lambda _: self.config.encode()  # noqa: E731
        config_of_root = TrustedConfig("config.yaml", read, examine=lambda _: None)
        self.dispatcher = Dispatcher(
            Policy(config_of_root, cast("Audit", self.audit)),
            self,
            self.both.engines,
            watch=self.watch,
            measure=self.usages,
            write=self._write,
            has_hung_up=lambda: self.has_hung_up,
        )

    @asynccontextmanager
    async def serving(self, settled_seconds: float = 1.5) -> AsyncIterator["ServedHelper"]:
        """Serve a daemon that observes, from when the first states are known."""
        serving = asyncio.ensure_future(self.dispatcher.serve(self._each_line()))
        self.send(observe=1, sampled=[])
        await asyncio.sleep(settled_seconds)
        yield self
        assert not serving.done(), serving
        self._lines.put_nowait(b"")
        await serving
        await asyncio.sleep(0.1)
        self.both.has_only_asked_active_engines()

    # The daemon

    def send(self, **message: object) -> None:
        self._lines.put_nowait(json.dumps(message).encode() + b"\n")

    def request(self, action: Action | str, group_id: str, token: str = "") -> int:
        """Request an action on a group as it is in the config now; return the request's number."""
        self._numbers += 1
        group = parse(self.config.encode(), "config.yaml").group(group_id)
        token = token or (group.token if group else "none")
        self.send(
            id=self._numbers, action=str(action), group=group_id, token=token, confirm_ms=200, by_rule=False
        )
        return self._numbers

    async def act(self, action: Action | str, group_id: str) -> list[str]:
        """Request an action and wait for its end; the results in words."""
        return await self.end_of(self.request(action, group_id))

    async def end_of(self, number: int) -> list[str]:
        async with self._news:
            await self._news.wait_for(lambda: self._results_of(number))
        return self._results_of(number)

    def _results_of(self, number: int) -> list[str]:
        [*found] = (each["units"] for each in self.told("finished") if each["id"] == number)
        return [" ".join(filter(None, row.values())) for rows in found for row in rows]

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [reply for reply in self.replies if reply["type"] == kind]

    @property
    def last_states(self) -> dict[str, str]:
        """The last state of each member, in words."""
        rows = [row for reply in self.told("states") for row in reply["units"]]
        of_engines = {engine.unit for engine in Engine}
        return {name: f"{active} ({sub})" for name, _, active, sub in rows if name not in of_engines}

    def told_of(self, member: str) -> list[str]:
        """Every state of a member, in words."""
        rows = [row for reply in self.told("states") for row in reply["units"] if row[0] == member]
        return [f"{active} ({sub})" for _, _, active, sub in rows]

    def told_at_seconds(self, kind: str) -> float:
        """When a message of this kind was written first."""
        return next(
            at for at, reply in zip(self.at_seconds, self.replies, strict=True) if reply["type"] == kind
        )

    # systemd

    def set_unit(self, name: str, state: UnitState) -> None:
        """Change the state of a unit, and tell it."""
        self.units[name] = state
        for engine, simulated in self.both.by_engine.items():
            if engine.unit == name:
                simulated.unit = state
        if name in self._watched and not self.both.bus_problem:
            self.dispatcher.observation.seen({name: state})

    def lose_bus(self) -> None:
        self.both.bus_problem = "the bus is gone"
        self.dispatcher.observation.lost(BusUnavailable(self.both.bus_problem))

    async def find_bus(self) -> None:
        self.both.bus_problem = ""
        await self.watch(self._watched)

    def watch(self, units: Iterable[str]) -> Coroutine[None, None, None]:
        self._watched = tuple(units)
        return self._see(self._watched)

    async def _see(self, watched: tuple[str, ...]) -> None:
        await asyncio.sleep(0.01)
        if not self.both.bus_problem:
            self.dispatcher.observation.seen({unit: self._state(unit) for unit in watched})
            if watched is self._watched:
                self.dispatcher.observation.found()

    async def usages(self, units: Iterable[str]) -> list[Usage]:
        self.measured.append({*units})
        await asyncio.sleep(self.measure_seconds)
        if self.both.bus_problem:
            raise BusUnavailable(self.both.bus_problem)
        runs = {unit: self.runs[unit] for unit in self.measured[-1] if unit in self.runs}
        return [Usage(unit, run, 1.0, 10**9, None) for unit, run in runs.items()]

    async def states(self, units: Iterable[str]) -> dict[str, UnitState]:
        await asyncio.sleep(0)
        if self.both.bus_problem:
            raise BusUnavailable(self.both.bus_problem)
        return {unit: self._state(unit) for unit in units}

    async def run(
        self,
        action: Action,
        units: Iterable[str],
        confirm_seconds: float,  # noqa: ARG002 -- ServiceManager's signature
        begin: Callable[[], None],
    ) -> tuple[UnitResult, ...]:
        await asyncio.sleep(0)
        begin()
        names = [*units]
        self.done += [f"{action} {name}" for name in names]
        await asyncio.sleep(self.job_seconds)
        for name in names:
            if name not in self.failing:
                self.set_unit(name, DOWN if action is Action.STOP else UP)
        jobs = {name: JobResult.FAILED if name in self.failing else JobResult.DONE for name in names}
        return tuple(UnitResult(name, job) for name, job in jobs.items())

    async def execute(self, command: Command, begin: Callable[[], None], begun: Callable[[], None]) -> Ended:
        begin()
        begun()
        self.done.append(f"ran {command.argv[0]}")
        status = self.check_exits_with
        return Ended(ServiceResult.EXIT_CODE if status else ServiceResult.SUCCESS, status)

    def _state(self, unit: str) -> UnitState:
        engines = {engine.unit: simulated.unit for engine, simulated in self.both.by_engine.items()}
        return (self.units | engines).get(unit, DOWN)

    def _requested(self, request: str) -> None:
        if request.startswith("POST"):
            self.done.append(" ".join(request.split("/")[:1:-1]))

    # Its pipe

    async def _write(self, data: bytes) -> None:
        lines = [json.loads(line) for line in data.splitlines()]
        self.replies += lines
        self.at_seconds += [asyncio.get_running_loop().time()] * len(lines)
        async with self._news:
            self._news.notify_all()

    async def _each_line(self) -> AsyncIterator[bytes]:
        while line := await self._lines.get():
            yield line


def other_than(engine: Engine) -> Engine:
    return Engine.PODMAN if engine is Engine.DOCKER else Engine.DOCKER
