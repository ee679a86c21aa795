"""Other hosts of a world: each has a machine, a config and helpers of its own, behind a network.

What is wrong with a host is a fact of the world, by which the daemon is judged. It must not ask the daemon.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from hkswitch.model.group import Group
from hkswitch.model.unit_state import Action
from tests.world.client import ClientBus
from tests.world.files import ConfigFile
from tests.world.helper import Transport
from tests.world.ills import (
    AWAY_SECONDS,
    LINES,
    LONG_AWAY_SECONDS,
    LONG_PAUSE_SECONDS,
    PAUSES_SECONDS,
    UNREACHABLE,
    Ill,
)
from tests.world.machine import Machine
from tests.world.messages import Message
from tests.world.random_source import RandomSource
from tests.world.remote_helper import RemoteHelper
from tests.world.scene import MISTAKES, Groups
from tests.world.ssh_process import SshProcess

RTT_SECONDS: Final = 0.02
HANDSHAKE_SECONDS: Final = 0.25


RELOADED_SECONDS: Final = 8.0
"""A start or a reload waits up to five seconds for this machine's helper, and one for others."""

RETURN_SECONDS: Final = 3.0
"""After that pause, everything that is said of the host is right again."""

SLOW_LATENCIES_SECONDS: Final = (0.3, 0.8, 1.5, 3.0)
HANDSHAKE_STEPS: Final = 4


@dataclass(frozen=True)
class Path:
    """The way of one ssh process to its helper."""

    site: "RemoteSite"
    helper: RemoteHelper

    def write(self, data: bytes) -> None:
        self.helper._sent(data)

    def hang_up(self) -> None:
        self.helper.orphan()

    @property
    def is_over(self) -> bool:
        """Whether the daemon has let go of it."""
        session = self.helper.session
        return isinstance(session, SshProcess) and session.has_ended


@dataclass(eq=False)
class RemoteSite:
    """One other host."""

    name: str
    chance: RandomSource
    note: Callable[[str], None]
    groups: Groups
    ills: dict[Ill, float] = field(default_factory=dict)
    """What is wrong now, and since when."""
    good_since_seconds: float = 0
    """Since when nothing is wrong; infinite while something is."""
    unserved_since_seconds: float = 0
    """Since when there is no helper that is heard; infinite while there is one."""
    pause_seconds: float = 0
    """How long the daemon may wait before it tries again, after what was wrong last."""
    changed_at_seconds: float = 0
    """When its config was written last."""
    heard_at_seconds: float = -math.inf
    """When anything came from a helper there."""
    latency_seconds: float = RTT_SECONDS / 2
    sent: list[tuple[float, Action, str]] = field(default_factory=list)
    """What the daemon sent: when, and which action on which group there."""
    wrongs: list[str] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    meanings: list[tuple[float, str, Group | None]] = field(default_factory=list)
    """What its config said of each group from a moment on."""
    _past: list[tuple[Ill, float, float]] = field(default_factory=list)
    """What was wrong with it, from when until when."""

    def __post_init__(self) -> None:
        self.machine = Machine(self.chance, self._say, self.groups.units(self.chance))
        self.file = ConfigFile(self.groups.text)
        self.transport = Transport(
            self.machine.systemd, self.machine.engines, self.file, self.chance, self._say
        )
        self.machine.systemd.asked_by = self._asked_by
        self._ran: list[str] = []
        self._restored = asyncio.Event()
        self._restored.set()
        self._note_meanings(-math.inf)

    def _say(self, text: str) -> None:
        self.note(f"on {self.name}: {text}")

    def _asked_by(self, client: ClientBus, call: Message) -> None:
        for helper in self.transport.helpers:
            helper.asked_for(client, call)

    # Its config

    def edit(self) -> None:
        """Change what its config says of some group."""
        name, text = self.groups.change(self.chance)
        self._say(f"edited: {name}: {text}")
        self.write_config(self.groups.text)

    def write_config(self, text: str) -> None:
        self.changed_at_seconds = asyncio.get_running_loop().time()
        self.file.text, self.file.edits = text, self.file.edits + 1
        if self.file.is_good:
            self._note_meanings(self.changed_at_seconds)

    @property
    def good_groups(self) -> dict[str, Group]:
        """The groups of its last valid config."""
        return {group.id: group for group in self._good.groups}

    def _note_meanings(self, at_seconds: float) -> None:
        self._good = self.file.parsed
        there = self.good_groups
        for name in {*there, *(known for _, known, _ in self.meanings)}:
            self.meanings.append((at_seconds, name, there.get(name)))

    def groups_between(self, there: str, from_seconds: float, to_seconds: float) -> list[Group]:
        """What a group was at some moment between these."""
        known = [(at, group) for at, name, group in self.meanings if name == there]
        before = [group for at, group in known if at <= from_seconds][-1:]
        found = [*before, *(group for at, group in known if from_seconds < at <= to_seconds)]
        return [group for group in found if group is not None]

    # What is wrong

    def fall_ill(self, ill: Ill) -> None:
        """Have something wrong from now on."""
        self._say(f"it {ill.value}")
        now_seconds = asyncio.get_running_loop().time()
        if self.good_since_seconds + self.pause_seconds + RETURN_SECONDS < now_seconds:
            self.pause_seconds = 0
        self.ills[ill] = now_seconds
        self.good_since_seconds = math.inf
        if ill in UNREACHABLE:
            self.unserved_since_seconds = min(self.unserved_since_seconds, now_seconds)
        match ill:
            case Ill.CUT:
                self._cut()
            case Ill.OFF:
                self._power_off()
            case Ill.FROZEN:
                for helper in self.transport.helpers:
                    helper.stop()
            case Ill.SLOW:
                self.latency_seconds = self.chance.one_of(SLOW_LATENCIES_SECONDS)
            case Ill.CONFIG:
                self._break_config()
            case Ill.REFUSES | Ill.CHANGED | Ill.NO_SUDO | Ill.NO_SSHD if self.chance.of_one_in(2):
                self.drop()
            case _:
                pass

    def recover(self, ill: Ill) -> None:
        """Have it over."""
        now_seconds = asyncio.get_running_loop().time()
        self._say(f"it no longer {ill.value}")
        since_seconds = self.ills.pop(ill)
        self._past.append((ill, since_seconds, now_seconds))
        pause_seconds = PAUSES_SECONDS.get(ill, AWAY_SECONDS)
        if now_seconds - since_seconds > LONG_AWAY_SECONDS:
            pause_seconds = max(pause_seconds, LONG_PAUSE_SECONDS)
        self.pause_seconds = max(self.pause_seconds, pause_seconds)
        if not self.ills:
            self.good_since_seconds = now_seconds
        match ill:
            case Ill.CUT:
                self._restore()
            case Ill.OFF:
                self._power_on()
            case Ill.FROZEN:
                for helper in self.transport.helpers:
                    helper.go_on()
            case Ill.SLOW:
                self.latency_seconds = RTT_SECONDS / 2
            case Ill.CONFIG:
                self._repair_config()
            case Ill.LIES:
                self.drop()
            case _:
                pass

    def recover_from_all(self) -> None:
        """Have nothing wrong any more."""
        for ill in [*self.ills]:
            self.recover(ill)
        self.machine.repair()

    def drop(self) -> None:
        """Break all connections."""
        for path in self.paths:
            self.reset(path)

    def _cut(self) -> None:
        self._restored.clear()
        for path in self.paths:
            path.helper.input.hold()
            path.helper.output.hold()

    def _restore(self) -> None:
        """Bring what was under way, late; or not at all."""
        self._restored.set()
        for path in self.paths:
            if self.chance.of_one_in(3):
                self.reset(path)
            path.helper.input.release()
            if path.is_over:
                path.helper.output.cut()
            path.helper.output.release()

    def _power_off(self) -> None:
        """Nobody hears of it."""
        for path in self.paths:
            path.helper.output.hold()
            path.helper.kill()
        machine = self.machine
        self._ran = [unit for unit in machine.units if machine.is_up(unit)]
        machine.disturb_all()
        machine.systemd.reboot()

    def _power_on(self) -> None:
        for path in self.paths:
            self.reset(path)  # an unknown connection
        self.machine.disturb_all()
        for unit in self._ran:
            self.machine.systemd.start(unit)

    def _break_config(self) -> None:
        if self.chance.of_one_in(2):
            self.file.is_untrusted = True
        else:
            self.write_config(self.chance.one_of(MISTAKES))

    def _repair_config(self) -> None:
        self.file.is_untrusted = False
        self.write_config(self.groups.text)

    def reset(self, path: Path) -> None:
        """Break a connection: both ends see it."""
        path.helper.break_off()
        session = path.helper.session
        assert isinstance(session, SshProcess)
        session.fail("client_loop: send disconnect: Broken pipe")

    def right_from_seconds(self, reloaded_at_seconds: float) -> float:
        """From when on everything that is said of it must be right; a reload spares the pause."""
        if self.ills:
            return math.inf
        right_seconds = self.good_since_seconds + self.pause_seconds + RETURN_SECONDS
        if reloaded_at_seconds < self.good_since_seconds:
            return right_seconds
        return min(right_seconds, reloaded_at_seconds + RELOADED_SECONDS + RETURN_SECONDS)

    def was_ill(self, ill: Ill | None, since_seconds: float) -> bool:
        """Whether that was wrong with it at some moment since then; None is anything."""
        if ill is None:
            return bool(self.ills) or self.good_since_seconds + self.pause_seconds >= since_seconds
        return ill in self.ills or any(
            each is ill and until >= since_seconds for each, _, until in self._past
        )

    def is_slow_since(self, since_seconds: float) -> bool:
        """Whether its network or its helper was slow at some moment since then."""
        return any(self.was_ill(ill, since_seconds) for ill in (Ill.FROZEN, Ill.SLOW))

    def ill_since_seconds(self, at_seconds: float) -> float:
        """When what was wrong with it at a moment, or later, began; that moment if nothing was."""
        began = [*self.ills.values(), *(since for _, since, until in self._past if until >= at_seconds)]
        return min((at_seconds, *began))

    def delay_seconds(self) -> float:
        """What the next bytes take, in one direction."""
        return self.latency_seconds * self.chance.seconds(0.5, 1) + self.chance.delay_seconds()

    # For ssh

    async def connect(self, ssh: SshProcess, within_seconds: float) -> Path | str:
        """Take a connection."""
        try:
            async with asyncio.timeout(within_seconds):
                await self._answer()
        except TimeoutError:
            banner = " during banner exchange" * (Ill.DEAF in self.ills or Ill.SLOW in self.ills)
            return f"ssh: connect to host nas port 22: Connection timed out{banner}"
        wrong = next((line for ill, line in LINES.items() if ill in self.ills), "")
        if wrong:
            return wrong
        helper = RemoteHelper(ssh, self.transport, site=self)
        self.transport.helpers = [each for each in self.transport.helpers if not each.exited.is_set()]
        self.transport.helpers.append(helper)
        path = Path(self, helper)
        self.paths = [each for each in self.paths if not each.helper.exited.is_set()]
        self.paths.append(path)
        helper.start()
        return path

    async def _answer(self) -> None:
        """The handshake."""
        for _ in range(1 if Ill.NO_SSHD in self.ills else HANDSHAKE_STEPS):
            await asyncio.sleep(HANDSHAKE_SECONDS / HANDSHAKE_STEPS + 2 * self.delay_seconds())
            await self._restored.wait()
            while self.ills.keys() & {Ill.OFF, Ill.DEAF, Ill.FROZEN}:  # noqa: ASYNC110 -- they have no event
                await asyncio.sleep(0.1)

    def is_heard(self, since_seconds: float) -> bool:
        """Whether its kernel and sshd answered since then."""
        silent = [since for ill, since in self.ills.items() if ill in UNREACHABLE]
        return not silent or min(silent) > since_seconds

    @property
    def connected(self) -> RemoteHelper | None:
        """The helper that the daemon is connected to, if any, whether or not it is heard."""
        for path in reversed(self.paths):
            if not path.is_over and not path.helper.exited.is_set():
                return path.helper
        return None
