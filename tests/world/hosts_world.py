"""The world of one seed with several hosts: this machine, its daemon, and hosts that it reaches by ssh."""

import asyncio
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from hkswitch.backend import Host
from hkswitch.backend.helper_host import HelperHost
from hkswitch.backend.hosts import Hosts
from hkswitch.backend.ssh_transport import SshTransport
from hkswitch.daemon.assumed_states import AssumedStates, AssumingHost, Meaning
from hkswitch.model.elsewhere import Elsewhere, RemoteHost
from hkswitch.model.errors import Failure
from hkswitch.model.group import Group
from hkswitch.model.unit_state import Action
from hkswitch.protocol.control import ControlRequest, Operation
from hkswitch.protocol.report import GroupReport
from tests.world.client import ClientBus
from tests.world.controller_access import DirectAccess
from tests.world.daemon import Daemon, KeptInMemory
from tests.world.files import ConfigFile
from tests.world.front import Key
from tests.world.helper import Transport
from tests.world.hosts_scene import Layout
from tests.world.ills import Ill
from tests.world.machine import Machine
from tests.world.messages import Delay, Message
from tests.world.random_source import RandomSource
from tests.world.remote_site import RemoteSite
from tests.world.ssh_process import SshProcess
from tests.world.world import BEGAN_UNIX_SECONDS, Act, action_of

if TYPE_CHECKING:
    from hkswitch.daemon.kept_file import KeptFile

GONE_SECONDS: Final = 15.0
"""After the daemon's end, no helper is left on any host: those that hear nothing end after 10 s."""


class Served(NamedTuple):
    """The groups that the daemon serves from a moment on."""

    at_seconds: float
    groups: dict[str, Group]


@dataclass(frozen=True)
class AssumedFile:
    """The file of assumed states, on a disk that never fails."""

    contents: dict[str, Meaning]

    def keep(self, value: Mapping[str, Meaning]) -> None:
        """Write it."""
        after = {**value}
        self.contents.clear()
        self.contents.update(after)


class AssumedInMemory(AssumedStates):
    """Assumed states in such a file."""

    def __init__(self, file: AssumedFile) -> None:
        self._file = cast("KeptFile[Mapping[str, Meaning]]", file)  # it has the method that is used
        self._on = dict(file.contents)


@dataclass(eq=False)
class HostsWorld:
    """The whole world; `note` writes the trace."""

    chance: RandomSource
    note: Callable[[str], None]
    kept: KeptInMemory = field(default_factory=KeptInMemory)
    assumed: AssumedFile = field(default_factory=lambda: AssumedFile({}))
    acts: list[Act] = field(default_factory=list)
    daemons: list[Daemon] = field(default_factory=list)
    served: list[Served] = field(default_factory=list)
    """What the daemon serves, and served."""
    children: list[SshProcess] = field(default_factory=list)
    changed_at_seconds: float = 0
    """When the daemon was started, or its config was written or reloaded, last."""
    reloaded_at_seconds: float = 0
    helper_killed_at_seconds: float = -math.inf
    """When this machine's helper was killed, last, which concerns its own groups only."""
    openings: list[tuple[float, str]] = field(default_factory=list)
    """Sensors that opened, and are not judged yet."""
    sensors: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.layout = Layout.of(self.chance)
        self.file = ConfigFile(self.layout.text)
        self.note(f"the configuration:\n{self.layout.text}")
        self.machine = Machine(self.chance, self.note, self.layout.local.units(self.chance))
        self.transport = Transport(
            self.machine.systemd, self.machine.engines, self.file, self.chance, self.note
        )
        self.machine.systemd.asked_by = self._asked_by
        self.sites = {
            name: RemoteSite(name, self.chance, self.note, groups)
            for name, groups in self.layout.there.items()
        }
        for site in self.sites.values():
            self.note(f"on {site.name}:\n{site.groups.text}")
        self.access = DirectAccess(self.chance, sensor_watch=self)
        self.phones = self.access.phones()

    def unix_seconds(self) -> float:
        return BEGAN_UNIX_SECONDS + asyncio.get_running_loop().time()

    def _asked_by(self, client: ClientBus, call: Message) -> None:
        for helper in self.transport.helpers:
            helper.asked_for(client, call)

    # SensorWatch

    def regrouped(self, groups: Iterable[Group]) -> None:
        """These groups are served from now on."""
        found = {group.id: group for group in groups}
        self.served.append(Served(asyncio.get_running_loop().time(), found))
        self.sensors = {name: self.sensors.get(name, False) for name, each in found.items() if each.alert}

    def shown(self, group_id: str, *, detected: bool) -> None:
        """The daemon shows a sensor."""
        if self.sensors.get(group_id) is not detected:
            self.note(f"    the sensor of {group_id} {'opens' if detected else 'closes'}")
            self.sensors[group_id] = detected
            if detected:
                self.openings.append((asyncio.get_running_loop().time(), group_id))

    # The daemon

    @property
    def daemon(self) -> Daemon:
        """The one that runs, or ran last."""
        return self.daemons[-1]

    def boot(self) -> None:
        """Start the daemon."""
        self.note("the daemon starts")
        front, attempted = self.access.front, lambda _: None
        daemon = Daemon(self.file, self.transport, front, self.note, self.kept, attempted, self._hosts)
        with suppress(Failure):
            daemon.start()
            self.daemons.append(daemon)
            self.changed_at_seconds = self.reloaded_at_seconds = asyncio.get_running_loop().time()
            self.watched = daemon.terminals.ask(ControlRequest(Operation.WATCH))

    def _hosts(self, groups: Collection[Group], transport: Transport) -> Host:
        """As daemon/service.py does it."""
        hosts = Hosts(HelperHost(groups, transport), groups, _remote)
        return AssumingHost(hosts, groups, AssumedInMemory(self.assumed))

    async def execute(
        self, command: Sequence[str], protocol: asyncio.SubprocessProtocol, *, own_group: bool
    ) -> None:
        """Start ssh, as `child_process.execute` does it."""
        assert own_group
        await asyncio.sleep(self.chance.delay_seconds())
        words = [word.split("=", 1) for word in command if "=" in word]
        process = SshProcess(protocol, dict(words))
        self.children = [child for child in self.children if not child.has_ended]
        self.children.append(process)
        protocol.connection_made(process)
        process.start(self.sites[command[-1].partition("@")[2]])

    def kill_helper(self) -> None:
        """Kill this machine's helper."""
        if (helper := self.transport.newest) is not None:
            self.note("the helper of this machine is killed")
            self.helper_killed_at_seconds = asyncio.get_running_loop().time()
            helper.kill()

    def kill_daemon(self) -> None:
        """SIGKILL: what it has started ends with its pipes."""
        self.note("the daemon is killed")
        self.daemon.kill()
        for child in self.children:
            child.orphan()

    async def stop_daemon(self) -> None:
        """SIGTERM."""
        self.note("the daemon is told to end")
        await self.daemon.stop()

    def meet(self) -> None:
        """Let every phone that was cut off come back."""
        for phone in self.phones:
            phone.connect(self.daemon.front)

    # What the facts are

    def place_of(self, group_id: str) -> Elsewhere | None:
        """Where the daemon has this group."""
        return self.daemon.front.groups[group_id].elsewhere

    def machine_of(self, place: Elsewhere | None) -> Machine:
        """The machine that runs the groups of a place."""
        return self.machine if place is None else self.sites[place.host.name].machine

    def truth_of(self, group: Group) -> Group | None:
        """What a served group is, by the config that defines it."""
        if group.elsewhere is None:
            return self.file.parsed.group(group.id) if self.file.is_good else group
        return self.sites[group.elsewhere.host.name].good_groups.get(group.elsewhere.group)

    def reports(self) -> tuple[GroupReport, ...]:
        """What the daemon says of its groups; nothing if it is down."""
        return () if self.daemon.is_down else self.daemon.serving.report().groups

    # Requests

    def tap(self, name: str, key: Key, *, on: bool) -> None:
        """A phone writes On of a tile."""
        self.note(f"the {name} phone writes {'On' if on else 'Off'} to {key[0]} ({key[1].value})")
        phone = next(phone for phone in self.phones if phone.name == name)
        is_contested = self._dispute(key[0], action_of(key[1], on=on))
        write = phone.tap(self.daemon.front, self.daemon.process, key, on=on)
        if write is not None:
            write.is_disputed = is_contested

    def act(self, action: Action, group_id: str, delay_seconds: Delay | None = None) -> Act:
        """As `hkswitch ACTION GROUP`."""
        self.note(f"hkswitch {action} {group_id}")
        is_contested = self._dispute(group_id, action)
        act = Act(action, group_id, asyncio.get_running_loop().time(), None, self.daemon)
        act.is_disputed = is_contested

        def ended() -> None:
            act.ended_seconds = asyncio.get_running_loop().time()

        self.acts.append(act)
        request = ControlRequest(Operation.ACT, action=action, group=group_id)
        act.asked = self.daemon.terminals.ask(request, ended, delay_seconds)
        return act

    def _dispute(self, group_id: str, action: Action | None) -> bool:
        """Note that requests for these units contradict one another.

        Returns whether one of a terminal does, which may arrive later than this.
        """
        concerned, is_contested = self._sharing(group_id), False
        group = self.daemon.front.groups.get(group_id)
        if group is not None and (group := self.truth_of(group)) is not None and group.runs_each_time:
            action = None  # each request replaces the one before, and all are carried out
        for phone in self.phones:
            for write in phone.writes:
                if write.key[0] in concerned and action_of(write.key[1], on=write.on) is not action:
                    write.is_disputed = True
        for act in self.acts:
            if act.group_id in concerned and act.action is not action:
                act.is_disputed = is_contested = True
        return is_contested

    def _sharing(self, group_id: str) -> set[str]:
        """The groups with some of the same members on the same machine."""
        groups = self.daemon.front.groups
        if group_id not in groups:
            return {group_id}
        mine, where = self.truth_of(groups[group_id]), self.machine_of(groups[group_id].elsewhere)
        members = {*(mine.members if mine else ())}
        same = [each for each in groups.values() if self.machine_of(each.elsewhere) is where]
        shares = {
            each.id for each in same if (its := self.truth_of(each)) and not members.isdisjoint(its.members)
        }
        return {group_id, *shares}

    # Changes

    def edit(self) -> None:
        """Write another config, without a reload."""
        self.note(f"edited: {self.layout.change(self.chance)}")
        self.changed_at_seconds = asyncio.get_running_loop().time()
        self.file.text, self.file.edits = self.layout.text, self.file.edits + 1

    def reload(self) -> None:
        """As `systemctl reload hkswitch`."""
        self.note("systemctl reload hkswitch")
        self.changed_at_seconds = self.reloaded_at_seconds = asyncio.get_running_loop().time()
        if not self.daemon.is_down:
            self.daemon.reload()

    def recover(self) -> None:
        """Put everything right."""
        for site in self.sites.values():
            site.recover_from_all()
        self.machine.repair()

    async def end(self) -> None:
        """Stop everything, and have nothing left, on any host."""
        await self.stop_daemon()
        left = [each for child in self.children for each in child.leftovers]
        assert not left, f"the daemon left something: {left}"
        for site in self.sites.values():
            if Ill.FROZEN in site.ills:
                site.recover(Ill.FROZEN)
        await asyncio.sleep(GONE_SECONDS)
        for site in [*self.sites.values()]:
            helpers = site.transport.helpers
            alive = [helper for helper in helpers if not helper.exited.is_set()]
            assert not alive, f"{len(alive)} helpers stay on {site.name}"
            left = [each for helper in helpers for each in helper.leftovers]
            assert not left, f"a helper on {site.name} left something: {left}"
            site.machine.systemd.close()
        self.machine.systemd.close()


def _remote(host: RemoteHost, groups: Collection[Group]) -> HelperHost:
    return HelperHost(groups, SshTransport(host), host)
