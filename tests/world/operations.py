"""The operations that a seed performs on a world. Each is immediate; an outage lasts, and ends by itself."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from hkswitch.model.switch_events import Tile
from hkswitch.model.unit_state import Action
from tests.world.container_operations import ContainerOperations
from tests.world.daemon import PLACES
from tests.world.fault_injection import FaultInjection
from tests.world.random_source import RandomSource
from tests.world.scene import PROBED
from tests.world.terminal import OTHER_USER, ROOT
from tests.world.trouble_operations import TroubleOperations
from tests.world.world import World

GAPS_SECONDS: Final = (0.0, 0.0, 0.0005, 0.005, 0.05, 0.3, 1.0, 3.0, 12.0)
"""Pauses between two operations."""

SHORT_GAPS_SECONDS: Final = (0.0, 0.0, 0.0005, 0.005, 0.05, 0.05, 0.3)
"""Pauses within a burst of operations."""

REQUEST_SECONDS: Final = 0.15
"""The longest time that a request takes which waits for nothing."""

MALFORMED: Final = (
    b"",
    b'{"ask":',
    b"\xff\0\n",
    b"[" * 5000,
    b'{"ask": "status"}\n' * 20,
    b'{"ask": "watch"}\n',
    *(b'{"ask": "act", "action": "stop", "group": "%s"}\n' % name for name in (b"web", b"files", b"lamp")),
)
WORKLOADS: Final = (0, 1, 1, 1, 4)
"""Factors of weights: a seed has some operations never and some often, which finds faults that need many."""

Operation = Callable[[], Awaitable[None] | None]
Kinds = list[tuple[int, Operation]]


class EditedWorld(Protocol):
    """A world whose config can be edited and reloaded."""

    @property
    def chance(self) -> RandomSource:
        """The source of everything random."""

    def edit(self) -> None:
        """Edit the config."""

    def reload(self) -> None:
        """Reload the config, and wait for nothing."""


async def pause(chance: RandomSource, gaps_seconds: Sequence[float]) -> None:
    """Wait for about one of these times."""
    await asyncio.sleep(chance.one_of(gaps_seconds) * chance.seconds(0.5, 1.5))


async def edit_and_reload(world: EditedWorld) -> None:
    """Edit and reload once, or several times at almost the same time."""
    for _ in range(world.chance.one_of((1, 1, 2, 3))):
        if not world.chance.of_one_in(4):
            world.edit()
        world.reload()
        await pause(world.chance, SHORT_GAPS_SECONDS)


@dataclass(eq=False)
class Operations:
    """All operations, with their weights in this world."""

    world: World

    def __post_init__(self) -> None:
        self._faults = FaultInjection(self.world)
        containers = ContainerOperations(self.world)
        has_engines = bool(self.world.machine.engines.of)
        troubles, has_alerts = TroubleOperations(self.world), self.world.has_alerts
        self._requests = self._weighted(
            [
                (6, self._tap),
                (3, self._act),
                (3, self._by_systemctl),
                (2, self._crash),
                (2, self._edit_and_reload),
                (2, self._rush_and_reload),
                (2, self._bounce),
                (2 * self._has_programs, self._programs),
                *(containers.kinds() * has_engines),
                *(troubles.kinds() * has_alerts),
            ]
        )
        self._outages = self._weighted(
            [
                (5, self._faults.kill_helper),
                (4, self._faults.stop_helper),
                (3, self._faults.read_slowly),
                (3, self._faults.lose_bus),
                (2, self._faults.hang_bus),
                (3, self._faults.reexecute),
                (3, self._faults.daemon_reload),
                (2, self._faults.refuse_helper),
                (3, self._faults.break_config),
                (2, self._faults.remove_unit_file),
                *(containers.faults() * has_engines),
            ]
        )
        self._kinds: Kinds = [
            *self._weighted(
                [
                    (24, self._tap),
                    (10, self._rush),
                    (6, self._rush_and_reload),
                    (8, self._act),
                    (14, self._by_systemctl),
                    (6, self._crash),
                    (12 * self._has_programs, self._programs),
                    (4, self._edit),
                    (6, self._edit_and_reload),
                    (3, self._kill_daemon),
                    (8, self._read),
                    (3, self._send_malformed),
                    (1, self._step_clock),
                    (2, self._change_network),
                    *(containers.kinds() * has_engines),
                    *(troubles.kinds() * has_alerts),
                ]
            ),
            *(troubles.pauses() * has_alerts),
            (60, self._storm),
            (20, self._interruption),
            (10, self._outage),
        ]

    def begin(self) -> None:
        """Begin a round: in some worlds, programs are slow from now on."""
        if self._chance.of_one_in(3):
            self.world.note(self.world.machine.take_time((0.2, 1.5)))

    async def run_one(self) -> None:
        """Perform one operation, and pause."""
        await self._do(self._chance.weighed(self._kinds))
        await self._pause(GAPS_SECONDS)

    @property
    def _chance(self) -> RandomSource:
        return self.world.chance

    def _weighted(self, kinds: Kinds) -> Kinds:
        weighted = [(weight * self._chance.one_of(WORKLOADS), kind) for weight, kind in kinds]
        return weighted if any(weight for weight, _ in weighted) else kinds

    @property
    def _has_programs(self) -> bool:
        return not self.world.groups.chosen.keys().isdisjoint(PROBED)

    async def _do(self, operation: Operation) -> None:
        came = operation()
        if came is not None:
            await came

    async def _pause(self, gaps_seconds: Sequence[float]) -> None:
        await pause(self._chance, gaps_seconds)

    # Several at almost the same time

    async def _storm(self) -> None:
        """Inject faults while clients make requests."""
        outages = [self._chance.weighed(self._outages) for _ in range(self._chance.one_of((1, 1, 2, 2, 3)))]
        wishes = [self._chance.weighed(self._requests) for _ in range(self._chance.stream.randrange(1, 6))]
        operations = [*outages, *wishes]
        self._chance.stream.shuffle(operations)
        for operation in operations:
            await self._do(operation)
            await self._pause(SHORT_GAPS_SECONDS)

    async def _interruption(self) -> None:
        """Inject a fault while a request that changes something is pending."""
        groups = self._groups()
        if not groups:
            return
        group_id = self._chance.one_of(groups)
        members = self.world.daemon.front.groups[group_id].members
        is_up = all(map(self.world.machine.is_up, members))
        self.world.act(
            self._chance.one_of((Action.STOP, Action.RESTART)) if is_up else Action.START, group_id
        )
        await asyncio.sleep(self._chance.seconds(0, REQUEST_SECONDS))
        await self._outage()

    async def _rush_and_reload(self) -> None:
        """Make requests for a group that a reload changes or removes in between."""
        if groups := self._groups():
            group_id = self._chance.one_of(groups)
            await self._make_requests(group_id)
            self.world.edit(group_id)
            self.world.reload()
            await self._pause(SHORT_GAPS_SECONDS)
            await self._make_requests(group_id)

    async def _rush(self) -> None:
        """Let both phones and a terminal make requests for one group at almost the same time."""
        if groups := self._groups():
            await self._make_requests(self._chance.one_of(groups))

    async def _make_requests(self, group_id: str) -> None:
        """Make several requests for a group, until a reload removes it."""
        self.world.meet()
        for _ in range(self._chance.stream.randrange(2, 5)):
            if group_id not in self.world.daemon.front.groups:
                return
            if self._chance.of_one_in(4):
                self.world.act(self._some_action(group_id), group_id)
            else:
                phone, on = self._chance.one_of(self.world.phones), self._chance.of_one_in(2)
                self.world.tap(phone, (group_id, Tile.GROUP), on=on)
            await self._pause(SHORT_GAPS_SECONDS)

    async def _outage(self) -> None:
        await self._do(self._chance.weighed(self._outages))

    # Requests of clients

    def _groups(self) -> list[str]:
        """Return the ids of the current groups."""
        return sorted(group_id for group_id, tile in self.world.daemon.front.tiles if tile is Tile.GROUP)

    def _tap(self) -> None:
        self.world.meet()
        tiles = sorted(self.world.daemon.front.tiles, key=str)
        if tiles:
            phone = self._chance.one_of(self.world.phones)
            self.world.tap(phone, self._chance.one_of(tiles), on=self._chance.of_one_in(2))

    def _act(self) -> None:
        if groups := self._groups():
            group_id = self._chance.one_of(groups)
            self.world.act(self._some_action(group_id), group_id)

    def _some_action(self, group_id: str) -> Action:
        """Return an action, mostly one that is allowed."""
        allowed: list[Action] = sorted(self.world.daemon.front.groups[group_id].actions)
        choices = list(Action) if self._chance.of_one_in(8) else allowed
        return self._chance.one_of(choices)

    def _read(self) -> None:
        self.world.note("phones read")
        self.world.meet()
        for phone in self.world.phones:
            phone.read(self.world.daemon.front)

    def _send_malformed(self) -> None:
        """Send a malformed or denied request to the control socket."""
        said, user_id = self._chance.one_of(MALFORMED), self._chance.one_of((ROOT, OTHER_USER))
        self.world.note(f"user {user_id} says {said[:60]!r} on the control socket")
        link = self.world.daemon.terminals.say(said, user_id=OTHER_USER if b"stop" in said else user_id)
        if self._chance.of_one_in(2):
            link.hang_up()

    def _edit(self) -> None:
        self.world.edit()

    async def _edit_and_reload(self) -> None:
        await edit_and_reload(self.world)

    # Changes by others

    def _by_systemctl(self) -> None:
        if not self.world.machine.units:
            return
        name, systemd = self._chance.one_of(self.world.machine.units), self.world.machine.systemd
        operation: Callable[[str], None] = self._chance.one_of((systemd.start, systemd.stop, systemd.restart))
        self.world.machine.by_systemctl(operation, name)

    def _bounce(self) -> None:
        """Stop a unit by systemctl, and start it again some time later."""
        if self.world.machine.units:
            machine = self.world.machine
            name = self._chance.one_of(machine.units)
            machine.by_systemctl(machine.systemd.stop, name)
            later, seconds = asyncio.get_running_loop().call_later, self._chance.seconds(0, 3)
            later(seconds, machine.by_systemctl, machine.systemd.start, name)

    def _crash(self) -> None:
        if self.world.machine.units:
            name = self._chance.one_of(self.world.machine.units)
            self.world.note(f"{name} crashes")
            self.world.machine.disturb(name)
            self.world.machine.systemd.crash(name, status=1)

    def _programs(self) -> None:
        self.world.note(self.world.machine.change_programs())

    def _step_clock(self) -> None:
        self.world.clock_steps_seconds += self._chance.seconds(-1e6, 1e6)
        self.world.note("the clock is set")

    def _change_network(self) -> None:
        outside = self.world.daemon.outside
        outside.place = self._chance.one_of(PLACES)
        self.world.note(f"the network changes: the bridge belongs to {outside.place}")
        outside.news.changed.set()

    async def _kill_daemon(self) -> None:
        if self._chance.of_one_in(3):
            self.world.note("the daemon is told to end")
            await self.world.daemon.stop()
        else:
            self.world.note("the daemon is killed")
            self.world.daemon.kill()
        self.world.disturb_all()
        await asyncio.sleep(self._chance.seconds(0.1, 2))
        if not self.world.file.is_good:
            self.world.repair_config()
        self.world.boot()
        if self._chance.of_one_in(2):
            await asyncio.sleep(0)
            self.world.meet()
