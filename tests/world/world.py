"""A whole world of one seed: its machine, daemon, helpers and controllers, and what it does to them."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from hkswitch.model.errors import Failure
from hkswitch.model.group import Group
from hkswitch.model.switch_events import Tile
from hkswitch.model.unit_state import Action, ActionResult
from hkswitch.network.endpoint import Place
from tests.world.chance import Chance
from tests.world.client import ClientBus
from tests.world.daemon import PLACE, Daemon
from tests.world.files import ConfigFile
from tests.world.front import Key
from tests.world.helper import AuditLog, Helper, Transport
from tests.world.machine import Machine
from tests.world.phone import Phone, Write
from tests.world.reach import Reach
from tests.world.scene import MISTAKES, Groups

GAPS_SECONDS: Final = (0.0, 0.0, 0.0005, 0.005, 0.05, 0.3, 1.0, 3.0, 12.0)
"""Between two operations."""

PLACES: Final = (PLACE, Place(("192.0.2.2", "2001:db8::2"), frozenset({2, 3})))
BEGAN_UNIX_SECONDS: Final = 1_800_000_000


@dataclass(eq=False)
class Act:
    """What a person at a terminal asked for, and what came of it."""

    action: Action
    group_id: str
    asked_seconds: float
    units: tuple[str, ...] | None
    """Of the group, None for one of commands."""
    daemon: Daemon = field(repr=False)
    ended_seconds: float | None = None
    result: ActionResult | None = None
    refusal: str = ""
    is_disputed: bool = False
    """Whether somebody else wanted something of the group, or of its units, before the end."""


def action_of(tile: Tile, *, on: bool) -> Action | None:
    """What a write of On asks for; nothing where a restart switch is turned off."""
    if tile is Tile.RESTART:
        return Action.RESTART if on else None
    return Action.START if on else Action.STOP


@dataclass(eq=False)
class World:
    """Everything there is; `note` writes the trace."""

    chance: Chance
    note: Callable[[str], None]
    reach: Reach
    groups: Groups = field(default_factory=Groups)
    acts: list[Act] = field(default_factory=list)
    reloads_asked: int = 0
    text_at_reload: str = ""
    """What the file said when a reload was asked for, last."""
    clock_steps_seconds: float = 0
    bus_lost_at_seconds: float = math.inf
    """Since when there is no bus, if there is none."""
    late_acts: int = 0
    """Jobs that a helper asked for when the daemon had let go of it."""
    daemons: list[Daemon] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.machine = Machine(self.chance, self.note)
        self.file = ConfigFile(self.groups.text)
        self.audit = AuditLog()
        self.transport = Transport(self.machine.systemd, self.file, self.audit, self.chance, self.note)
        self.machine.systemd.asked_by = self._asked_by
        self.phones = self.reach.phones()

    def unix_seconds(self) -> float:
        """What the machine's clock says."""
        return BEGAN_UNIX_SECONDS + asyncio.get_running_loop().time() + self.clock_steps_seconds

    def _asked_by(self, client: ClientBus) -> None:
        self.late_acts += sum(helper.is_late(client) for helper in self.transport.helpers)

    # The daemon

    @property
    def daemon(self) -> Daemon:
        """The one that runs, or ran last."""
        return self.daemons[-1]

    def boot(self) -> None:
        """Start the daemon, if the config lets it."""
        self.note("the daemon starts")
        daemon = Daemon(self.file, self.transport, self.reach.front, self.note)
        with suppress(Failure):
            daemon.start()
            self.daemons.append(daemon)
            self.reloads_asked = 0

    def meet(self) -> None:
        """Let every phone that was cut off come back."""
        for phone in self.phones:
            phone.connect(self.daemon.front)

    # What happens

    async def happen(self) -> None:
        """One thing, and then some time."""
        kinds: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (30, self._tap),
            (10, self._rush),
            (6, self._tap_and_reload),
            (5, self._rush_systemctl),
            (3, self._reexecute),
            (8, self._act),
            (16, self._by_systemctl),
            (8, self._crash),
            (6, self._programs),
            (10, self._reload),
            (4, self._mistake),
            (5, self._kill_helper),
            (4, self._stop_helper),
            (3, self._read_slowly),
            (3, self._kill_daemon),
            (3, self._lose_bus),
            (2, self._hang_bus),
            (3, self._daemon_reload),
            (2, self._refuse_helper),
            (8, self._come_back),
            (2, self._step_clock),
            (3, self._change_network),
        ]
        await self.chance.weighed(kinds)()
        await asyncio.sleep(self.chance.one_of(GAPS_SECONDS) * self.chance.seconds(0.5, 1.5))

    async def _tap(self) -> None:
        self.meet()
        phone = self.chance.one_of(self.phones)
        tiles = sorted(self.daemon.front.tiles, key=str)
        if tiles:
            key, on = self.chance.one_of(tiles), self.chance.of_one_in(2)
            self.note(f"the {phone.name} phone writes {'On' if on else 'Off'} to {key[0]} ({key[1].value})")
            self._tapped(phone, key, on=on)

    async def _rush(self) -> None:
        """Both phones, and a terminal, want something of one group at nearly the same time."""
        self.meet()
        groups = [key[0] for key in sorted(self.daemon.front.tiles, key=str) if key[1] is Tile.GROUP]
        if not groups:
            return
        group_id = self.chance.one_of(groups)
        for _ in range(self.chance.stream.randrange(2, 5)):
            if group_id not in self.daemon.front.groups:
                return  # a reload removed it meanwhile
            if self.chance.of_one_in(4):
                self.act(self.chance.one_of(list(Action)), group_id)
            else:
                self._write(group_id)
            await asyncio.sleep(self.chance.one_of((0, 0.0005, 0.005, 0.05, 0.3)))

    def _write(self, group_id: str) -> None:
        phone, on = self.chance.one_of(self.phones), self.chance.of_one_in(2)
        self.note(f"the {phone.name} phone writes {'On' if on else 'Off'} to {group_id}")
        self._tapped(phone, (group_id, Tile.GROUP), on=on)

    def _tapped(self, phone: Phone, key: Key, *, on: bool) -> None:
        is_contested = self._dispute(key[0], action_of(key[1], on=on))
        write = phone.tap(self.daemon.front, self.daemon.process, key, on=on)
        if write is not None and not self.reach.is_ordered:
            write.is_disputed = is_contested  # by a write that may arrive behind it

    async def _tap_and_reload(self) -> None:
        """Something is wanted of a group that a reload changes, or removes, meanwhile."""
        await self._rush()
        self.note(f"edited: {self.groups.change(self.chance)}")
        self.file.text = self.groups.text
        self.reload()

    async def _rush_systemctl(self) -> None:
        """Units change while systemd, or the helper, reads everything anew."""
        self.machine.systemd.daemon_reload()
        for _ in range(3):
            await self._by_systemctl()
            await asyncio.sleep(self.chance.one_of((0, 0.0005, 0.005, 0.05)))

    async def _reexecute(self) -> None:
        self.note("systemctl daemon-reexec")
        self.machine.systemd.leave_bus()
        await asyncio.sleep(self.chance.seconds(0, 0.3))
        self.machine.disturb_all()
        self.machine.systemd.join_bus()

    def _dispute(self, group_id: str, action: Action | None) -> bool:
        """Something is wanted of a group: whoever wanted something else may be told that it was done.

        Returns whether there is such a one.
        """
        asked = [
            (write, action_of(write.key[1], on=write.on))
            for phone in self.phones
            for write in phone.writes
            if write.key[0] == group_id
        ]
        others: list[Write | Act] = [write for write, wanted in asked if wanted is not action]
        others += [act for act in self.acts if act.group_id == group_id and act.action is not action]
        for other in others:
            other.is_disputed = True
            for unit in other.units or ():
                self.machine.disturb(unit)
        return bool(others)

    async def _act(self) -> None:
        groups = [key[0] for key in sorted(self.daemon.front.tiles, key=str) if key[1] is Tile.GROUP]
        if groups:
            action = self.chance.one_of(list(Action))
            self.act(action, self.chance.one_of(groups))

    def act(self, action: Action, group_id: str) -> Act:
        """As `hkswitch ACTION GROUP`."""
        self.note(f"hkswitch {action} {group_id}")
        self._dispute(group_id, action)
        now_seconds, units = asyncio.get_running_loop().time(), self.daemon.front.units(group_id)
        act = Act(action, group_id, now_seconds, units, self.daemon)
        self.acts.append(act)
        self.daemon.process.spawn(self._acted(self.daemon, act))
        return act

    async def _acted(self, daemon: Daemon, act: Act) -> None:
        try:
            act.result = await daemon.serving.act(act.action, act.group_id, "0", lambda: None)
        except Failure as failure:
            act.refusal = str(failure)
        act.ended_seconds = asyncio.get_running_loop().time()

    async def _by_systemctl(self) -> None:
        name = self.chance.one_of(self.machine.units)
        operation: Callable[[str], Any] = self.chance.one_of(
            (self.machine.systemd.start, self.machine.systemd.stop, self.machine.systemd.restart)
        )
        self.note(f"systemctl {operation.__name__} {name}")
        self.machine.disturb(name)
        operation(name)

    async def _crash(self) -> None:
        name = self.chance.one_of(self.machine.units)
        self.note(f"{name} crashes")
        self.machine.disturb(name)
        self.machine.systemd.crash(name, status=1)

    async def _programs(self) -> None:
        self.note(self.machine.change_programs())

    async def _reload(self) -> None:
        if self.chance.of_one_in(4):
            self.note(f"edited and not reloaded: {self.groups.change(self.chance)}")
            self.file.text = self.groups.text
            return
        for _ in range(self.chance.stream.randrange(3)):
            self.note(f"edited: {self.groups.change(self.chance)}")
        self.file.text = self.groups.text
        self.reload()

    @property
    def served(self) -> tuple[Group, ...]:
        """The groups that the daemon serves, as it has them."""
        return tuple(self.daemon.front.groups.values())

    def reload(self) -> None:
        """As `systemctl reload hkswitch`."""
        self.note("systemctl reload hkswitch")
        if not self.daemon.is_down:
            self.text_at_reload = self.file.text
            self.reloads_asked += 1
            self.daemon.reload()

    async def _mistake(self) -> None:
        kind = self.chance.stream.randrange(3)
        if kind == 0:
            self.file.text = self.chance.one_of(MISTAKES)
        self.file.is_untrusted, self.file.is_unreadable = kind == 1, kind == 2
        self.note(f"the config is {('wrong', 'untrusted', 'unreadable')[kind]}")
        if self.chance.of_one_in(2):
            self.reload()
        await asyncio.sleep(self.chance.one_of(GAPS_SECONDS))
        self.mend_config()

    def mend_config(self) -> None:
        """Have a good one again."""
        self.note("the config is good again")
        self.file.repairs += 1
        self.file.is_untrusted = self.file.is_unreadable = False
        self.file.text = self.groups.text

    async def _kill_helper(self) -> None:
        if (helper := self.transport.newest) is not None:
            self.note("the helper is killed")
            helper.kill()

    async def _stop_helper(self) -> None:
        if (helper := self.transport.newest) is not None:
            self.note("the helper is stopped")
            self.machine.disturb_all()
            helper.stop()
            self._later(self.chance.seconds(0.05, 25), helper, helper.go_on, "the helper goes on")

    async def _read_slowly(self) -> None:
        if (helper := self.transport.newest) is not None:
            self.note("the daemon reads nothing")
            self.machine.disturb_all()
            helper.output.hold()
            self._later(self.chance.seconds(0.05, 6), helper, helper.output.release, "the daemon reads again")

    def _later(self, seconds: float, helper: Helper, call: Callable[[], None], what: str) -> None:
        def then() -> None:
            if not helper.exited.is_set():
                self.note(what)
                self.machine.disturb_all()
                call()

        asyncio.get_running_loop().call_later(seconds, then)

    async def _kill_daemon(self) -> None:
        if self.chance.of_one_in(3):
            self.note("the daemon is told to end")
            await self.daemon.stop()
        else:
            self.note("the daemon is killed")
            self.daemon.kill()
        await asyncio.sleep(self.chance.seconds(0.1, 2))
        if not self.file.is_good:
            self.mend_config()
        self.boot()
        if self.chance.of_one_in(2):
            await asyncio.sleep(0)
            self.meet()

    async def _lose_bus(self) -> None:
        self.note("the bus is lost")
        self.machine.systemd.lose_bus()
        self.bus_lost_at_seconds = asyncio.get_running_loop().time()
        await asyncio.sleep(self.chance.one_of(GAPS_SECONDS))
        self.note("the bus is back")
        self.machine.disturb_all()
        self.bus_lost_at_seconds = math.inf
        self.machine.systemd.restore_bus()

    async def _hang_bus(self) -> None:
        self.note("systemd answers nothing")
        self.machine.systemd.hang()
        await asyncio.sleep(self.chance.one_of(GAPS_SECONDS))
        self.note("systemd answers again")
        self.machine.disturb_all()
        self.machine.systemd.go_on()

    async def _daemon_reload(self) -> None:
        self.note("systemctl daemon-reload")
        self.machine.systemd.daemon_reload()

    async def _refuse_helper(self) -> None:
        self.note("sudo refuses")
        self.transport.refuses = True
        if (helper := self.transport.newest) is not None:
            helper.kill()
        await asyncio.sleep(self.chance.one_of(GAPS_SECONDS))
        self.note("sudo does not refuse any more")
        self.transport.refuses = False

    async def _come_back(self) -> None:
        self.note("phones read")
        self.meet()
        for phone in self.phones:
            phone.read(self.daemon.front)

    async def _step_clock(self) -> None:
        self.clock_steps_seconds += self.chance.seconds(-1e6, 1e6)
        self.note("the clock is set")

    async def _change_network(self) -> None:
        outside = self.daemon.outside
        outside.place = self.chance.one_of(PLACES)
        self.note(f"the network changes: the bridge belongs to {outside.place}")
        outside.news.changed.set()

    async def end(self) -> None:
        """Stop everything, in order, and have nothing left."""
        self.note("the daemon is told to end")
        await self.daemon.stop()
        self.machine.systemd.close()
        left = [each for helper in self.transport.helpers for each in helper.leftovers]
        assert not left, f"a helper left something: {left}"
