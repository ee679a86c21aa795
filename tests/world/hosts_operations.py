"""The operations of a world with several hosts: requests, what others change, and what goes wrong there."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from hkswitch.model.switch_events import Tile
from hkswitch.model.unit_state import Action
from tests.world.hosts_world import HostsWorld
from tests.world.ills import Ill
from tests.world.liar import Liar
from tests.world.machine import Machine
from tests.world.operations import GAPS_SECONDS, SHORT_GAPS_SECONDS, WORKLOADS, edit_and_reload, pause
from tests.world.random_source import RandomSource
from tests.world.remote_site import RemoteSite

ILL_SECONDS: Final = (0.3, 1.0, 3.5, 5.0, 8.5, 9.5, 12.0, 20.0, 30.0, 60.0)
LONG_ILL_SECONDS: Final = 150.0
TOGETHER: Final = {Ill.CUT, Ill.OFF, Ill.FROZEN, Ill.SLOW, Ill.LIES}
"""Of these, a host has one at a time."""

OFTEN: Final = (Ill.CUT, Ill.CUT, Ill.CUT, Ill.OFF, Ill.LIES, Ill.LIES, Ill.SLOW)
TAKES_SECONDS: Final = (0.01, 0.2, 1.5, 3.5)

Operation = Callable[[], Awaitable[None] | None]


@dataclass(eq=False)
class HostsOperations:
    """All operations, with their weights in this world."""

    world: HostsWorld
    planned: list[asyncio.TimerHandle] = field(default_factory=list)

    def __post_init__(self) -> None:
        kinds: list[tuple[int, Operation]] = [
            (16, self._tap),
            (8, self._act),
            (12, self._by_systemctl),
            (6, self._crash),
            (4, self._programs),
            (20, self._fall_ill),
            (8, self._interruption),
            (6, self._rush),
            (6, self._edit_and_reload),
            (2, self._edit),
            (6, self._edit_there),
            (4, self._drop),
            (3, self._kill_helper_there),
            (3, self._kill_daemon),
            (2, self.world.kill_helper),
        ]
        weighted = [(weight * self._chance.one_of(WORKLOADS), kind) for weight, kind in kinds]
        self._kinds = weighted if any(weight for weight, _ in weighted) else kinds

    async def run_one(self) -> None:
        """Perform one operation, and pause."""
        await self._do(self._chance.weighed(self._kinds))
        await self._pause(GAPS_SECONDS)

    def end(self) -> None:
        """Let nothing happen that was planned."""
        for planned in self.planned:
            planned.cancel()
        self.planned.clear()

    @property
    def _chance(self) -> RandomSource:
        return self.world.chance

    async def _do(self, operation: Operation) -> None:
        came = operation()
        if came is not None:
            await came

    async def _pause(self, gaps_seconds: tuple[float, ...]) -> None:
        await pause(self._chance, gaps_seconds)

    # Requests

    def _group_ids(self) -> list[str]:
        return sorted(self.world.daemon.front.groups)

    def _tap(self) -> None:
        self.world.meet()
        tiles = sorted(self.world.daemon.front.tiles, key=str)
        if tiles:
            key, phone = self._chance.one_of(tiles), self._chance.one_of(self.world.phones)
            self.world.tap(phone.name, key, on=self._chance.of_one_in(2))

    def _act(self) -> None:
        if group_ids := self._group_ids():
            self._act_on(self._chance.one_of(group_ids))

    def _act_on(self, group_id: str) -> None:
        self.world.act(
            self._chance.one_of((Action.START, Action.START, Action.STOP, Action.RESTART)), group_id
        )

    async def _rush(self) -> None:
        """Make several requests for one group at almost the same time."""
        if group_ids := self._group_ids():
            group_id = self._chance.one_of(group_ids)
            self.world.meet()
            for _ in range(self._chance.stream.randrange(2, 5)):
                if group_id not in self.world.daemon.front.groups:
                    return
                if self._chance.of_one_in(3):
                    self._act_on(group_id)
                else:
                    phone, key = self._chance.one_of(self.world.phones), (group_id, Tile.GROUP)
                    self.world.tap(phone.name, key, on=self._chance.of_one_in(2))
                await self._pause(SHORT_GAPS_SECONDS)

    async def _interruption(self) -> None:
        """Have something go wrong with a host while a request for one of its groups is pending."""
        groups = self.world.daemon.front.groups
        remote = [(each.id, each.elsewhere) for each in groups.values() if each.elsewhere is not None]
        if remote:
            group_id, place = self._chance.one_of(remote)
            self._act_on(group_id)
            await self._pause(SHORT_GAPS_SECONDS)
            self._make_ill(self.world.sites[place.host.name])

    # What goes wrong with hosts

    def _site(self) -> RemoteSite:
        return self._chance.one_of([*self.world.sites.values()])

    def _fall_ill(self) -> None:
        self._make_ill(self._site())

    def _make_ill(self, site: RemoteSite) -> None:
        ill = self._chance.one_of(OFTEN if self._chance.of_one_in(2) else [*Ill])
        self.make_ill(site, ill)

    def make_ill(self, site: RemoteSite, ill: Ill, seconds: float = 0) -> None:
        """Have something wrong with a host for a time, unless the same, or what excludes it, lasts."""
        if ill in site.ills or (ill in TOGETHER and site.ills.keys() & TOGETHER):
            return
        is_long = self._chance.of_one_in(20)
        seconds = seconds or (LONG_ILL_SECONDS if is_long else self._chance.one_of(ILL_SECONDS))
        site.fall_ill(ill)

        def end() -> None:
            if ill in site.ills:
                site.recover(ill)

        self._later(seconds * self._chance.seconds(0.8, 1.2), end)
        if ill is Ill.LIES:
            self._lie(site)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        now_seconds = asyncio.get_running_loop().time()
        self.planned = [each for each in self.planned if each.when() > now_seconds]
        self.planned.append(asyncio.get_running_loop().call_later(seconds, call))

    def _lie(self, site: RemoteSite) -> None:
        """Have it lie again and again."""
        if Ill.LIES not in site.ills:
            return
        if (helper := site.connected) is not None:
            group_ids = {*self.world.layout.entries, *self.world.layout.local.chosen, "never"}
            for other in self.world.sites.values():
                group_ids |= other.groups.chosen.keys()
            units = ["a.service", "b.service", "d.service", *site.machine.units]
            Liar(helper, self._chance, sorted(group_ids), units).lie()
        self._later(self._chance.one_of((0.001, 0.05, 0.3, 1.0)), lambda: self._lie(site))

    def _drop(self) -> None:
        site = self._site()
        self.world.note(f"on {site.name}: all connections break")
        site.drop()

    def _kill_helper_there(self) -> None:
        site = self._site()
        if (helper := site.connected) is not None and Ill.OFF not in site.ills:
            self.world.note(f"on {site.name}: the helper is killed")
            helper.kill()

    # Changes by others

    def _machine(self) -> Machine:
        machines = [
            self.world.machine,
            *(each.machine for each in self.world.sites.values() if self._is_on(each)),
        ]
        return self._chance.one_of(machines)

    def _is_on(self, site: RemoteSite) -> bool:
        return Ill.OFF not in site.ills

    def _by_systemctl(self) -> None:
        machine = self._machine()
        if machine.units:
            systemd = machine.systemd
            operation = self._chance.one_of((systemd.start, systemd.start, systemd.stop, systemd.restart))
            machine.by_systemctl(operation, self._chance.one_of(machine.units))

    def _crash(self) -> None:
        machine = self._machine()
        if machine.units:
            name = self._chance.one_of(machine.units)
            machine.note(f"{name} crashes")
            machine.disturb(name)
            machine.systemd.crash(name, status=1)

    def _programs(self) -> None:
        machine = self._machine()
        is_slow = self._chance.of_one_in(2)
        machine.note(machine.take_time(TAKES_SECONDS) if is_slow else machine.change_programs())

    def _edit(self) -> None:
        self.world.edit()

    async def _edit_and_reload(self) -> None:
        await edit_and_reload(self.world)

    def _edit_there(self) -> None:
        site = self._site()
        if Ill.CONFIG not in site.ills:
            site.edit()

    async def _kill_daemon(self) -> None:
        if self._chance.of_one_in(3):
            await self.world.stop_daemon()
        else:
            self.world.kill_daemon()
        await asyncio.sleep(self._chance.seconds(0.1, 2))
        self.world.boot()
        if self._chance.of_one_in(2):
            await asyncio.sleep(0)
            self.world.meet()
