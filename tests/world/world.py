"""The world of one seed: its machine, daemon, helpers and controllers, and the operations on them."""

import asyncio
import math
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

from hkswitch.model.errors import Failure
from hkswitch.model.group import Engine, Group
from hkswitch.model.switch_events import Tile
from hkswitch.model.unit_state import Action
from hkswitch.protocol.control import ControlRequest, Operation
from hkswitch.protocol.report import GroupReport
from tests.world.client import ClientBus
from tests.world.controller_access import ControllerAccess
from tests.world.daemon import Daemon, KeptInMemory
from tests.world.files import ConfigFile
from tests.world.front import Key
from tests.world.helper import Transport
from tests.world.machine import Machine
from tests.world.messages import Delay, Message
from tests.world.outages import Outages
from tests.world.phone import Phone, Write
from tests.world.random_source import RandomSource
from tests.world.rule_reference import RuleReference
from tests.world.scene import MISTAKES, Groups
from tests.world.seed_run import Violation
from tests.world.terminal import Asked
from tests.world.trouble_reference import TroubleReference

BEGAN_UNIX_SECONDS: Final = 1_800_000_000
SHUTDOWN_SECONDS: Final = 4.0

CONNECTION: Final = "connection to systemd"


Units = tuple[str, ...] | None
"""The units and containers of a group; None for a group of commands."""


class GroupUnits(NamedTuple):
    """The units that the config gives a group from a moment on."""

    at_seconds: float
    group_id: str
    units: Units


@dataclass(eq=False)
class Act:
    """A request from a terminal, and its result."""

    action: Action
    group_id: str
    asked_seconds: float
    units: Units
    daemon: Daemon = field(repr=False)
    asked: Asked = field(init=False)
    ended_seconds: float | None = None
    is_disputed: bool = False
    """Whether another client requested something of the group or of its units before the end."""
    is_shared: bool = False
    """Whether another group was requested something of that has some of its units, before the end."""
    is_second: bool = False
    """Whether the same request was pending already: if that fails first, this is a start of its own."""

    def __str__(self) -> str:
        said = f"hkswitch {self.action} {self.group_id}, asked at {self.asked_seconds:.4f}"
        if self.ended_seconds is None:
            return f"{said}, has not ended"
        came = "done" if self.asked.is_done else getattr(self.asked.last, "reason", "cut off")
        return f"{said}, ends at {self.ended_seconds:.4f}: {came}"


def action_of(tile: Tile, *, on: bool) -> Action | None:
    """Return the action that a write of On requests, or None where a restart switch is turned off."""
    if tile is Tile.RESTART:
        return Action.RESTART if on else None
    return Action.START if on else Action.STOP


@dataclass(eq=False)
class World:
    """The whole world; `note` writes the trace."""

    chance: RandomSource
    note: Callable[[str], None]
    access: ControllerAccess
    has_engines: bool = False
    has_alerts: bool = False
    violation: Violation | None = None
    """What was wrong at a moment between two looks."""
    kept: KeptInMemory = field(default_factory=KeptInMemory)
    """The file of alerts."""
    planned: list[asyncio.TimerHandle] = field(default_factory=list)
    """What others will do."""
    acts: list[Act] = field(default_factory=list)
    reloads_asked: int = 0
    edits_at_reload: int = 0
    """How often the config had been edited when a reload was asked for, last."""
    clock_steps_seconds: float = 0
    bus_lost_at_seconds: float = math.inf
    """When the bus was lost; infinite while there is one."""
    late_acts: int = 0
    """Jobs that a helper requested after the daemon had released it."""
    daemons: list[Daemon] = field(default_factory=list)
    changed_at_seconds: float = 0
    """When the last operation happened that delays what is reported."""
    _units_history: list[GroupUnits] = field(default_factory=list)

    def __post_init__(self) -> None:
        make = Groups.with_containers if self.has_engines else Groups.of
        self.groups = (Groups.with_alerts if self.has_alerts else make)(self.chance)
        self.outages = Outages(self.note, self._outage_ended)
        units = self.groups.units(self.chance)
        self.machine = Machine(self.chance, self.note, units, has_engines=self.has_engines)
        self.file = ConfigFile(self.groups.text)
        self.note(f"the configuration:\n{self.groups.text}")
        self.transport = Transport(
            self.machine.systemd, self.machine.engines, self.file, self.chance, self.note
        )
        self.facts = self.machine.systemd.facts
        self.troubles, self.rules = TroubleReference(self), RuleReference(self)
        self.access.sensor_watch = self.troubles
        self.transport.restarted_by_rule = self.rules.restarted
        self.machine.systemd.asked_by = self._asked_by
        self.machine.systemd.joined = partial(self.outages.is_over, CONNECTION)
        self.phones = self.access.phones()

    def unix_seconds(self) -> float:
        """What the machine's clock says."""
        return BEGAN_UNIX_SECONDS + asyncio.get_running_loop().time() + self.clock_steps_seconds

    def _asked_by(self, client: ClientBus, call: Message) -> None:
        for helper in self.transport.helpers:
            helper.asked_for(client, call)
        self.late_acts += sum(helper.is_late(client) for helper in self.transport.helpers)

    # The daemon

    @property
    def daemon(self) -> Daemon:
        """The one that runs, or ran last."""
        return self.daemons[-1]

    def boot(self) -> None:
        """Start the daemon, if the config lets it."""
        self.note("the daemon starts")
        daemon = Daemon(
            self.file, self.transport, self.access.front, self.note, self.kept, self.rules.attempted
        )
        with suppress(Failure):
            daemon.start()
            self.daemons.append(daemon)
            self.reloads_asked = 0
            self.watched = daemon.terminals.ask(ControlRequest(Operation.WATCH))

    async def reboot(self, seconds: float, *, is_clean: bool) -> None:
        """Turn the host off and on; what ran by then is started again."""
        self.note(f"the host is {'shut down' if is_clean else 'reset'}, and boots {seconds:.1f} s later")
        systemd, units = self.machine.systemd, self.machine.units
        ran = [unit for unit in units if self.machine.is_up(unit)]
        self.outages.end_all()
        if is_clean:
            for unit in ran:
                systemd.stop(unit)
            await self.daemon.stop()
            await asyncio.sleep(self.chance.seconds(0, SHUTDOWN_SECONDS))
        else:
            self.daemon.kill()
        for helper in self.transport.helpers:
            helper.kill()
        self.disturb_all()
        systemd.reboot()
        await asyncio.sleep(seconds)
        self.disturb_all()
        for unit in ran:
            systemd.start(unit)
        if not self.file.is_good:
            self.repair_config()
        self.boot()

    def meet(self) -> None:
        """Let every phone that was cut off come back."""
        for phone in self.phones:
            phone.connect(self.daemon.front)

    def lose_bus(self) -> None:
        """Have no bus, until `bus_is_back`."""
        self.disturb_all()
        self.machine.systemd.lose_bus()
        self.outages.last(CONNECTION)
        self.bus_lost_at_seconds = asyncio.get_running_loop().time()

    def leave_bus(self) -> None:
        """Have systemd not on it, until it joins it again."""
        self.disturb_all()
        self.machine.systemd.leave_bus()
        self.outages.last(CONNECTION)

    def bus_is_back(self) -> None:
        """Have it again."""
        self.bus_lost_at_seconds = math.inf
        self.machine.systemd.restore_bus()

    def repair(self) -> None:
        """Put everything right, and let nothing happen that was planned."""
        for planned in self.planned:
            planned.cancel()
        self.planned.clear()
        self.outages.end_all()
        self.repair_config()
        self.machine.repair()

    def _outage_ended(self, what: Hashable) -> None:
        """What an engine does delays no other group."""
        if isinstance(what, Engine):
            self.machine.engines.of[what].trouble()
        else:
            self.disturb_all()

    def disturb_all(self) -> None:
        """Something is held up, or goes on: for some time nothing that is told is as new as it seems."""
        self.changed_at_seconds = asyncio.get_running_loop().time()
        self.machine.disturb_all()

    # Requests of clients

    def tap(self, phone: Phone, key: Key, *, on: bool) -> None:
        """A phone writes On of a tile."""
        self.note(f"the {phone.name} phone writes {'On' if on else 'Off'} to {key[0]} ({key[1].value})")
        is_contested = self._dispute(key[0], action_of(key[1], on=on))
        self.facts.asked[key[0]] = asyncio.get_running_loop().time()
        write = phone.tap(self.daemon.front, self.daemon.process, key, on=on)
        if write is not None:
            write.is_disputed = is_contested

    def _dispute(self, group_id: str, action: Action | None) -> bool:
        """Note a request for a group: another client's pending request may be answered as done.

        Returns whether there is such a one that may arrive later than this.
        """
        asked = [
            (write, action_of(write.key[1], on=write.on))
            for phone in self.phones
            for write in phone.writes
            if write.key[0] == group_id
        ]
        others: list[Write | Act] = [write for write, wanted in asked if wanted is not action]
        others += [act for act in self.acts if act.group_id == group_id and act.action is not action]
        members = {*(self.daemon.front.units(group_id) or ())}
        for act in self.acts:
            act.is_shared |= act.group_id != group_id and not members.isdisjoint(act.units or ())
        for other in others:
            other.is_disputed = True
            for unit in other.units or ():
                self.machine.disturb(unit)
        return any(isinstance(other, Act) or not self.access.is_ordered for other in others)

    def act(self, action: Action, group_id: str, delay_seconds: Delay | None = None) -> Act:
        """As `hkswitch ACTION GROUP`."""
        self.note(f"hkswitch {action} {group_id}")
        self._dispute(group_id, action)
        now_seconds, units = asyncio.get_running_loop().time(), self.daemon.front.units(group_id)
        self.facts.asked[group_id] = now_seconds
        act = Act(action, group_id, now_seconds, units, self.daemon)
        act.is_second = any(write.key[0] == group_id for phone in self.phones for write in phone.writes)

        def ended() -> None:
            act.ended_seconds = asyncio.get_running_loop().time()

        self.acts.append(act)
        act.asked = self.daemon.terminals.ask(
            ControlRequest(Operation.ACT, action=action, group=group_id), ended, delay_seconds
        )
        return act

    def reports(self) -> tuple[GroupReport, ...]:
        """What the daemon says of its groups; nothing if it is down."""
        return () if self.daemon.is_down else self.daemon.serving.report().groups

    def has_alert_command(self, group: Group) -> bool:
        """Whether root runs a command for the troubles of this group, as its config is now."""
        if not self.file.is_good or not self.file.parsed.alert_command:
            return False
        found = self.file.parsed.group(group.id)
        return found is not None and found.alert is not None and found.token == group.token

    @property
    def served(self) -> tuple[Group, ...]:
        """The groups that the daemon serves, as it has them."""
        return tuple(self.daemon.front.groups.values())

    def reload(self) -> None:
        """As `systemctl reload hkswitch`."""
        self.note("systemctl reload hkswitch")
        if not self.daemon.is_down:
            self.edits_at_reload = self.file.edits
            self.reloads_asked += 1
            self.daemon.reload()

    def edit(self, group_id: str = "") -> None:
        """Write another config without a reload."""
        name, text = self.groups.change(self.chance, group_id)
        self.note(f"edited: {name}: {text}" if text else f"edited: {name} is removed")
        self._write(self.groups.text)

    def break_config(self) -> None:
        """Write a config that is invalid, untrusted or unreadable."""
        kind = self.chance.stream.randrange(3)
        if kind == 0:
            self.file.text, self.file.edits = self.chance.one_of(MISTAKES), self.file.edits + 1
        self.file.is_untrusted, self.file.is_unreadable = kind == 1, kind == 2
        self.note(f"the config is {('wrong', 'untrusted', 'unreadable')[kind]}")

    def repair_config(self) -> None:
        """Write a valid config again."""
        self.note("the config is good again")
        self.file.is_untrusted = self.file.is_unreadable = False
        self.file.repairs += 1
        self._write(self.groups.text)

    def _write(self, text: str) -> None:
        self.file.repairs += self.file.text in MISTAKES
        self.file.text, self.file.edits = text, self.file.edits + 1
        self.changed_at_seconds = asyncio.get_running_loop().time()
        for group in self.file.parsed.groups:
            units = None if group.commands is not None else group.members
            self._units_history.append(GroupUnits(self.changed_at_seconds, group.id, units))

    def units_between(self, group_id: str, from_seconds: float, to_seconds: float) -> list[Units]:
        """What the config said of a group's units in some time, of which a wish may find any."""
        return [
            said.units
            for said in self._units_history
            if said.group_id == group_id and from_seconds <= said.at_seconds <= to_seconds
        ]

    async def end(self) -> None:
        """Stop everything, in order, and have nothing left."""
        self.note("the daemon is told to end")
        await self.daemon.stop()
        self.machine.systemd.close()
        left = [each for helper in self.transport.helpers for each in helper.leftovers]
        assert not left, f"a helper left something: {left}"
