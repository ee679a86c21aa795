"""Connects the bridge, switches, sensors, host and network while the daemon serves; runs reloads.

The bridge, the host and the environment are interfaces here: each has a second implementation, in the demo or
in tests.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from typing import Final, NamedTuple, Protocol

from hkswitch import __version__
from hkswitch.backend import Host
from hkswitch.control.pairings import Pairings
from hkswitch.daemon.alerts import AlertDisplay, Alerts
from hkswitch.daemon.bridge import WriteHandler
from hkswitch.daemon.changes import after_restart, without_restart
from hkswitch.daemon.location import Location, Movable, NetworkWatch
from hkswitch.daemon.rules import Rules
from hkswitch.daemon.signals import first_to_end
from hkswitch.daemon.switchboard import Display, GroupNote, Switchboard
from hkswitch.hap.setup_code import Setup
from hkswitch.hap.state_file import StateUnwritable
from hkswitch.model.config import BridgeConfig, Config
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.group import Group
from hkswitch.model.printable import one_line, printable_line
from hkswitch.model.switch_events import Observed
from hkswitch.model.unit_state import Action, ActionResult, Sample
from hkswitch.network.endpoint import Endpoint
from hkswitch.protocol.alert_report import AlertReport, reports_of
from hkswitch.protocol.control import SetupInfo
from hkswitch.protocol.host_report import MOST_HOSTS, HostReport
from hkswitch.protocol.report import STARTING, BridgeReport, PairedController, Report

RELOAD_AGAIN_SECONDS: Final = 60.0
"""The interval between automatic reloads: a disk may have room for the old state but not for the new one."""

_log = logging.getLogger(__name__)


class ServedBridge(Display, AlertDisplay, Movable, Pairings, Protocol):
    """The bridge, as `Serving` needs it."""

    @property
    def setup(self) -> Setup:
        """The setup code and ID."""

    @property
    def paired(self) -> bool:
        """Whether any controller is paired."""

    @property
    def pairing_refused(self) -> bool:
        """Whether pairing is locked after too many wrong setup codes, and no controller is paired."""

    @property
    def config_version(self) -> int:
        """The number (c#) that makes controllers read the accessories again when it grows."""

    @property
    def storage_problem(self) -> str:
        """The reason why the state cannot be written, and the consequences; empty if it can be written."""

    @property
    def identity_conflict(self) -> str:
        """A second bridge with the same identity, and the remedy; empty if none is known."""

    @property
    def type_note(self) -> str:
        """A note about groups that do not get the type that the config gives them; empty if all do."""

    @property
    def left_out(self) -> frozenset[str]:
        """The groups that controllers do not see until the state can be written."""

    def regroup(self, groups: Iterable[Group], write_handler: WriteHandler) -> None:
        """Serve these groups, and pass writes to `write_handler`; raises `StateUnwritable`."""

    async def stop(self) -> None:
        """Go offline."""


class Environment(Protocol):
    """The environment of a daemon, systemd or a terminal: provides its config, and shows its state."""

    @property
    def restart(self) -> str:
        """How to restart the daemon, for use in a sentence."""

    async def read(self) -> Config:
        """Return the config on disk; raises `Failure`."""

    def reloading(self) -> None:
        """Note the start of a reload; a call of `waiting` or `serving` marks its end."""

    def find(self, bridge: BridgeConfig, before: Endpoint | None) -> Endpoint:
        """Find the endpoint (`location.FindEndpoint`)."""

    def waiting(self, why: str) -> None:
        """Show that the bridge is offline, and why; called after each change."""

    def serving(self, config: Config, endpoint: Endpoint, bridge: ServedBridge, trouble: str) -> None:
        """Show that the bridge is online at `endpoint`; called after each change.

        `trouble`: what else it waits for, and why switches do not work; empty if there is no problem.
        """


class NotWritten(Failure):
    """A valid config whose new accessories cannot be written, and therefore not served."""

    exit_code = Exit.CANNOT_WRITE


class Followers(NamedTuple):
    """The parts that follow the states of all groups."""

    switchboard: Switchboard
    alerts: Alerts
    rules: Rules


class Serving:
    """A bridge that serves, its switches and sensors, their host and its location."""

    def __init__(
        self,
        host: Host,
        bridge: ServedBridge,
        followers: Followers,
        environment: Environment,
        config: Config,
    ) -> None:
        self._host = host
        self._bridge = bridge
        self.switchboard, self.alerts, self._rules = followers
        self.alerts.tell_of_changes(self.switchboard.noticed)
        self._environment = environment
        self._config = config
        self._location = Location(bridge, self.switchboard, environment.find, self.publish, config.bridge)
        self._open = asyncio.Event()
        self._applying = asyncio.Lock()
        self._not_reloaded = ""
        self._logged_wait = ""
        self._waits_for_room = False
        """Whether the last reload failed because nothing could be written."""
        self._has_room = asyncio.Event()
        self._running_since_unix_seconds = int(time.time())

    # Operations of the control socket

    def report(self) -> Report:
        """Return the state of the bridge and of all groups."""
        bridge = BridgeReport(
            name=self._config.bridge.name,
            version=__version__,
            running_since_unix_seconds=self._running_since_unix_seconds,
            addresses=() if self._location.endpoint is None else self._location.endpoint.addresses,
            port=self._config.bridge.port,
            controllers=self._bridge.controllers(),
            helper=printable_line(self._host.trouble()),
            config=printable_line(self._config_problem()),
            pairing_refused=self._bridge.pairing_refused,
            storage=printable_line(self._bridge.storage_problem),
            network=printable_line(self._location.waits_for or ("" if self._location.endpoint else STARTING)),
            identity=printable_line(self._bridge.identity_conflict),
        )
        return Report(bridge, self.switchboard.report(self._note_of), self._hosts())

    def _hosts(self) -> tuple[HostReport, ...]:
        """Return how the other hosts are; the daemon connects to none that has no groups."""
        used = self._host.remote_hosts()
        names = {host.name for host in used}
        others = (HostReport(each.name, each.ssh) for each in self._config.hosts if each.name not in names)
        return tuple(sorted([*used, *others][:MOST_HOSTS]))

    def _note_of(self, group_id: str) -> GroupNote:
        return GroupNote(self.alerts.trouble_of(group_id), self._rules.description(group_id))

    def last_alerts(self) -> tuple[AlertReport, ...]:
        """Return the last alerts, newest first."""
        return reports_of(self.alerts.last(), {group.id: group.name for group in self._config.groups})

    async def act(self, action: Action, group_id: str, by: str, begun: Callable[[], None]) -> ActionResult:
        """Run an action on a group, and return its result; raises `Failure`."""
        return await self.switchboard.act(action, group_id, by, begun)

    def changes(self) -> AbstractContextManager[asyncio.Event]:
        """Provide an event that is set at each change."""
        return self.switchboard.changes()

    def setup_info(self) -> SetupInfo:
        """Return the data that a phone needs to pair."""
        return self._bridge.setup_info()

    def controllers(self) -> tuple[PairedController, ...]:
        """Return the paired controllers, and the number of connections of each."""
        return self._bridge.controllers()

    def unpair(self, controller_id: str | None) -> None:
        """Remove one pairing, or all (None); raises `Failure`."""
        self._bridge.unpair(controller_id)

    def reset_attempts(self) -> None:
        """Unlock pairing after too many wrong setup codes; raises `Failure`."""
        self._bridge.reset_attempts()

    # From the host (`backend.Observer`)

    def observed(self, group_id: str, observed: Observed) -> None:
        """Pass the state of a group to its latch and its switch."""
        self.alerts.observed(group_id, observed)
        self.switchboard.observed(group_id, observed)
        self._rules.observed(group_id, observed)

    def sampled(self, group_id: str, sample: Sample) -> None:
        """Pass the resources of a group to its rule."""
        self._rules.sampled(group_id, sample)

    def noticed(self) -> None:
        """Tell the environment and the watchers that something has changed."""
        self.publish()

    # Life cycle

    async def live(self, news: Callable[[], AbstractAsyncContextManager[NetworkWatch]]) -> None:
        """Start, and follow the network through its `news`; never returns, but may raise."""
        await self._host.open(self)
        self._open.set()
        async with news() as changes:
            await first_to_end(
                self._host.until_broken(), self._location.follow(changes), self._reload_when_there_is_room()
            )

    async def reload(self) -> str:
        """Apply the config on disk; return a note for the user.

        An invalid config, or one that root rejects, changes nothing: this raises `Failure`, logs the reason,
        and shows it in the status until root accepts the config or a reload succeeds. Reloads wait for the
        start, and for one another.
        """
        await self._open.wait()
        async with self._applying:
            self._environment.reloading()
            try:
                config = await self._environment.read()
                if problem := await self._host.check_config():
                    raise Failure(problem, Exit.CONFIG)
                self._not_reloaded, self._waits_for_room = "", False
                return await self._apply(config)
            except Failure as failure:
                self._waits_for_room = isinstance(failure, NotWritten)
                # If root rejects the config too, the helper reports when it is valid again.
                why = "" if await self._host.check_config() else str(failure)
                self._not_reloaded = one_line(why)
                _log.error("not reloaded: %s", failure)
                raise
            finally:
                self.publish()

    async def reload_if_possible(self) -> None:
        """Reload for a signal; its sender gets no result."""
        with suppress(Failure):  # it is in the log
            await self.reload()

    async def _reload_when_there_is_room(self) -> None:
        """Reload when writing succeeds again, if the last reload could not write."""
        while True:
            await self._has_room.wait()
            self._has_room.clear()
            if self._waits_for_room:
                _log.info("reloading again: the last reload could not write the bridge's state")
                await self.reload_if_possible()
                await asyncio.sleep(RELOAD_AGAIN_SECONDS)

    async def _apply(self, config: Config) -> str:
        """Serve another config. The order matters, and only this function defines it.

        The bridge comes first, with accessories for all groups, then the latches and the switchboard, which
        show their states on them, and then the host, which reports these states. The network comes last: the
        bridge stays at its old endpoint until then, and longer if the new one is not available.
        """
        before, after = self._config, without_restart(config, self._config)
        try:
            self._bridge.regroup(config.groups, self.switchboard)
        except StateUnwritable as failure:  # nothing has changed
            remedy = "free space on that disk or make it writable; hkswitch then reloads automatically"
            raise NotWritten(f"{failure}; {remedy}") from failure
        self._config = after
        self.alerts.regroup(after)
        self.switchboard.regroup(config.groups)
        self._rules.regroup(self.switchboard.groups)
        await self._host.watch(config.groups)
        self._location.wanted = after.bridge
        await self._location.settle()
        notes = [
            after_restart(config, before, self._environment.restart),
            self._host.config_problem(),
            self._helper_problem(),
            self._location.waits_for,
            self._bridge.storage_problem,
            self._bridge.type_note,
        ]
        note = "; ".join(note for note in notes if note)
        _log.info("reloaded%s", f": {note}" if note else "")
        return note

    def _config_problem(self) -> str:
        """Return why the config on disk is not in effect; empty if it is."""
        return self._host.config_problem() or self._not_reloaded

    def _helper_problem(self) -> str:
        """Return why no switch works; empty if they do."""
        why = self._host.trouble()
        return f"the helper is not running ({why})" if why else ""

    async def stop(self) -> None:
        """Go offline, and end the requests and the helper."""
        await self._bridge.stop()
        await self.switchboard.close()
        await self._rules.close()
        await self.alerts.close()
        await self._host.close()

    def publish(self) -> None:
        """Show the current state to the environment and to the watchers."""
        self.switchboard.noticed()
        if self._waits_for_room and not self._bridge.storage_problem:
            self._has_room.set()
        waits_for, endpoint = self._location.waits_for, self._location.endpoint
        if endpoint is not None:
            trouble = (
                self._helper_problem()
                or self._config_problem()
                or self._bridge.storage_problem
                or self._bridge.identity_conflict
            )
            text = "; ".join(each for each in (waits_for, trouble) if each)
            self._environment.serving(self._config, endpoint, self._bridge, text)
            self._log_wait(waits_for)
        elif waits_for:
            self._environment.waiting(waits_for)
            self._logged_wait = ""

    def _log_wait(self, waits_for: str) -> None:
        """Log once what an online bridge waits for, and once when the wait ends."""
        before, self._logged_wait = self._logged_wait, waits_for
        if waits_for and waits_for != before:
            _log.warning("%s", waits_for)
        elif before and not waits_for:
            _log.info("no longer %s", before.partition(":")[0])
