"""The rooms that work together while the bridge serves: how a reload and a move go. Decides nothing.

What a front, a host and an outside are is not known here: each has a second kind, in the demo or in tests.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Final, Protocol

from hkswitch import __version__
from hkswitch.backend import Host
from hkswitch.control.pairings import Pairings
from hkswitch.daemon.bridge import Taps
from hkswitch.daemon.changes import after_restart, with_what_stays
from hkswitch.daemon.location import Changes, Location, Movable
from hkswitch.daemon.signals import first_to_end
from hkswitch.daemon.switchboard import Display, Switchboard
from hkswitch.hap.setup_code import Setup
from hkswitch.hap.state_file import StateUnwritable
from hkswitch.model.config import BridgeConfig, Config
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.group import Group
from hkswitch.model.printable import one_line, printable_line
from hkswitch.model.switch_events import Observed
from hkswitch.model.unit_state import Action, ActionResult
from hkswitch.network.endpoint import Endpoint
from hkswitch.protocol.control import SetupIs
from hkswitch.protocol.report import BridgeReport, PairedController, Report

RELOAD_AGAIN_SECONDS: Final = 60.0
"""Between two reloads of its own: a disk may have room for the old state and not for the new one."""

STARTING: Final = "not in the network yet: the daemon is starting"

_log = logging.getLogger(__name__)


class Front(Display, Movable, Pairings, Protocol):
    """Where controllers see the groups: the bridge."""

    @property
    def setup(self) -> Setup:
        """What is needed to pair."""

    @property
    def paired(self) -> bool:
        """Whether any controller is paired."""

    @property
    def pairing_refused(self) -> bool:
        """Whether none is, and none can be: too many setup codes were wrong."""

    @property
    def config_version(self) -> int:
        """The number (c#) that tells controllers to read the accessories anew when it grows."""

    @property
    def storage_problem(self) -> str:
        """Why the state cannot be written, and what that means."""

    @property
    def left_out(self) -> frozenset[str]:
        """The groups that no phone is shown until the state can be written."""

    def regroup(self, groups: Iterable[Group], taps: Taps) -> None:
        """Have these groups, and bring `taps` what controllers write; raises `StateUnwritable`."""

    async def stop(self) -> None:
        """Go offline."""


class Outside(Protocol):
    """Who started the daemon: gives it what it needs, and is told how it is."""

    @property
    def restart(self) -> str:
        """What restarts it, for a sentence: a command, or in words."""

    async def read(self) -> Config:
        """The config as it is now; raises `Failure`."""

    def reloading(self) -> None:
        """The config is about to be read anew; `waiting` or `serving` says when that is done."""

    def find(self, bridge: BridgeConfig, before: Endpoint | None) -> Endpoint:
        """As `location.Find` says."""

    def waiting(self, why: str) -> None:
        """The bridge is nowhere; called again after each change. `why`: what it waits for, as a sentence."""

    def serving(self, config: Config, place: Endpoint, front: Front, trouble: str) -> None:
        """The bridge is there; called again after each change.

        `trouble` is what it waits for besides, and why some switch does not work.
        """


@dataclass(eq=False)
class NotReloaded(Failure):
    """The config is good, and root does not believe it."""

    why: str
    exit_code = Exit.CONFIG

    def __str__(self) -> str:
        return self.why


@dataclass(eq=False)
class NotWritten(Failure):
    """The config is good, and the new accessories cannot be written, without which they are not served."""

    why: StateUnwritable
    exit_code = Exit.CANNOT_WRITE

    def __str__(self) -> str:
        return f"{self.why}; make room on that disk, or make it writable: hkswitch then reloads by itself"


@dataclass(frozen=True, slots=True)
class _Told:
    """What the host tells goes to the switches, and to those who look at the daemon."""

    serving: "Serving"

    def observed(self, group_id: str, observed: Observed) -> None:
        self.serving.switchboard.observed(group_id, observed)

    def noticed(self) -> None:
        self.serving.say()


class Serving:
    """The rooms that work together."""

    def __init__(
        self, host: Host, front: Front, switchboard: Switchboard, outside: Outside, config: Config
    ) -> None:
        self._host = host
        self._front = front
        self.switchboard = switchboard
        self._outside = outside
        self._config = config
        self._location = Location(front, switchboard, outside.find, self.say, config.bridge)
        self._open = asyncio.Event()
        self._applying = asyncio.Lock()
        self._not_reloaded = ""
        self._logged_wait = ""
        self._waits_for_room = False
        """Whether the last reload failed because nothing could be written."""
        self._has_room = asyncio.Event()
        self._running_since_unix_seconds = int(time.time())

    # What can be asked on the control socket

    def report(self) -> Report:
        """How everything is."""
        bridge = BridgeReport(
            name=self._config.bridge.name,
            version=__version__,
            running_since_unix_seconds=self._running_since_unix_seconds,
            addresses=() if self._location.place is None else self._location.place.addresses,
            port=self._config.bridge.port,
            controllers=self._front.controllers(),
            helper=printable_line(self._host.trouble()),
            config=printable_line(self._config_problem()),
            pairing_refused=self._front.pairing_refused,
            storage=printable_line(self._front.storage_problem),
            network=printable_line(self._location.waits_for or ("" if self._location.place else STARTING)),
        )
        return Report(bridge, self.switchboard.report())

    async def act(self, action: Action, group_id: str, by: str, begun: Callable[[], None]) -> ActionResult:
        """Do an action on a group; returns what came of it. Raises `Failure`."""
        return await self.switchboard.act(action, group_id, by, begun)

    def changes(self) -> AbstractContextManager[asyncio.Event]:
        """Meanwhile, an event that is set at each change."""
        return self.switchboard.changes()

    def setup_is(self) -> SetupIs:
        """What is needed to pair."""
        return self._front.setup_is()

    def controllers(self) -> tuple[PairedController, ...]:
        """Who is paired, and how often connected."""
        return self._front.controllers()

    def unpair(self, controller_id: str | None) -> None:
        """Remove a pairing, or all; raises `Failure`."""
        self._front.unpair(controller_id)

    def reset_attempts(self) -> None:
        """Let controllers pair again after too many wrong setup codes; raises `Failure`."""
        self._front.reset_attempts()

    # Its life

    async def live(self, news: Callable[[], AbstractAsyncContextManager[Changes]]) -> None:
        """Start, and follow the network, of which `news` tells; ends only with what breaks it."""
        await self._host.open(_Told(self))
        self._open.set()
        async with news() as changes:
            await first_to_end(
                self._host.until_broken(), self._location.follow(changes), self._reload_when_there_is_room()
            )

    async def reload(self) -> str:
        """Apply the config as it is now; returns what a person should know about that.

        One with mistakes, or that root does not believe, changes nothing: raises `Failure`, and says why in
        the log, and in the status until root believes it again or a reload succeeds. Reloads wait for the
        start, and for one another.
        """
        await self._open.wait()
        async with self._applying:
            self._outside.reloading()
            try:
                config = await self._outside.read()
                if problem := await self._host.check_config():
                    raise NotReloaded(problem)
                self._not_reloaded, self._waits_for_room = "", False
                return await self._apply(config)
            except Failure as failure:
                self._waits_for_room = isinstance(failure, NotWritten)
                # What root says too is root's to take back, when the file is valid again.
                why = "" if await self._host.check_config() else str(failure)
                self._not_reloaded = one_line(why)
                _log.error("not reloaded: %s", failure)
                raise
            finally:
                self.say()

    async def reload_if_possible(self) -> None:
        """Reload for a signal, whose sender cannot be told what came of it."""
        with suppress(Failure):  # it is in the log
            await self.reload()

    async def _reload_when_there_is_room(self) -> None:
        """Apply what a reload could not write, when writing succeeds again."""
        while True:
            await self._has_room.wait()
            self._has_room.clear()
            if self._waits_for_room:
                _log.info("reloading again: the last reload could not write the bridge's state")
                await self.reload_if_possible()
                await asyncio.sleep(RELOAD_AGAIN_SECONDS)

    async def _apply(self, config: Config) -> str:
        """Serve another config. This order matters, and is nowhere else.

        The bridge first has accessories for all groups, then the switchboard has switches that show
        something on them, and then the host tells what they show. The network comes last: the bridge
        answers at its old place until then, but also then if the new one is not there.
        """
        before, after = self._config, with_what_stays(config, self._config)
        try:
            self._front.regroup(config.groups, self.switchboard)
        except StateUnwritable as failure:  # nothing has changed
            raise NotWritten(failure) from failure
        self._config = after
        self.switchboard.regroup(config.groups)
        await self._host.watch(config.groups)
        self._location.wanted = after.bridge
        await self._location.settle()
        notes = [
            after_restart(config, before, self._outside.restart),
            self._host.config_problem(),
            self._helper_problem(),
            self._location.waits_for,
            self._front.storage_problem,
        ]
        note = "; ".join(note for note in notes if note)
        _log.info("reloaded%s", f": {note}" if note else "")
        return note

    def _config_problem(self) -> str:
        """Why the config on disk is not the one in force."""
        return self._host.config_problem() or self._not_reloaded

    def _helper_problem(self) -> str:
        """Why no switch works."""
        why = self._host.trouble()
        return f"the helper is not running ({why})" if why else ""

    async def stop(self) -> None:
        """Go offline, and end what is under way."""
        await self._front.stop()
        await self.switchboard.close()
        await self._host.close()

    def say(self) -> None:
        """Tell how it is now."""
        self.switchboard.noticed()
        if self._waits_for_room and not self._front.storage_problem:
            self._has_room.set()
        waits_for, place = self._location.waits_for, self._location.place
        if place is not None:
            trouble = self._helper_problem() or self._config_problem() or self._front.storage_problem
            text = "; ".join(each for each in (waits_for, trouble) if each)
            self._outside.serving(self._config, place, self._front, text)
            self._log_wait(waits_for)
        elif waits_for:
            self._outside.waiting(waits_for)
            self._logged_wait = ""

    def _log_wait(self, waits_for: str) -> None:
        """Log what a bridge that serves waits for besides, once, and the end of that."""
        before, self._logged_wait = self._logged_wait, waits_for
        if waits_for and waits_for != before:
            _log.warning("%s", waits_for)
        elif before and not waits_for:
            _log.info("no longer %s", before.partition(":")[0])
