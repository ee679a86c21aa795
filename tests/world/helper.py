"""Simulated helper processes, with the real dispatcher in them, and the transport that starts them.

A process that is killed loses its pipes and its bus at once: what its coroutines still do on their way out
reaches nobody. One that is stopped reads, writes and calls nothing until it goes on.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, cast

from hkswitch.backend.helper_client import back_off_seconds
from hkswitch.backend.helper_session import HelperGone, HelperSession, Terms, local_terms
from hkswitch.containers.engines import Engines
from hkswitch.model.errors import Failure
from hkswitch.serviceswitch.dispatcher import Dispatcher
from hkswitch.serviceswitch.main import serve_beside
from hkswitch.serviceswitch.policy import Policy, TrustedConfig
from hkswitch.serviceswitch.stdio import OutputUnwritable
from hkswitch.systemd.connection import BusConnection
from hkswitch.systemd.link import Link
from hkswitch.systemd.units import Systemd
from tests.world.audit_log import AuditLog
from tests.world.client import ClientBus, SimulatedConnection
from tests.world.engine_access import EngineAccess
from tests.world.engines import MachineEngines
from tests.world.files import PATH, ConfigFile
from tests.world.messages import Message
from tests.world.pipes import Broken, Pipe
from tests.world.processes import Process, current
from tests.world.random_source import SLOW_SECONDS, RandomSource
from tests.world.systemd import SimulatedSystemd

if TYPE_CHECKING:
    from hkswitch.serviceswitch.audit import Audit

END_WITHIN_SECONDS: Final = 1.0
ON_ITS_WAY_SECONDS: Final = 10 * SLOW_SECONDS
"""Of what was asked for before it was let go of: the calls that come before a start are some."""

START_SECONDS: Final = (0.02, 0.4)

_Result = TypeVar("_Result")


class StoppableConnection(SimulatedConnection):
    """The bus, for a process that may be stopped."""

    goes_on: asyncio.Event

    async def call(self, call: Awaitable[_Result]) -> _Result:
        try:
            return await super().call(call)
        finally:
            await self.goes_on.wait()  # it learns nothing meanwhile, and so does nothing more


class Caller(Protocol):
    """What is at the other end of a helper's pipes: a session of the daemon, or what leads to one."""

    def begin(self, write: Callable[[bytes], None]) -> None:
        """Send with `write` from now on."""

    def receive(self, data: bytes) -> None:
        """Take what the helper wrote."""

    def end(self) -> None:
        """The helper has closed its output."""


@dataclass(eq=False)
class Helper:
    """One process."""

    session: Caller
    transport: "Transport"
    exited: asyncio.Event = field(default_factory=asyncio.Event)
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)
    is_dead: bool = False
    hung_up_at_seconds: float | None = None
    """When the daemon let go of it."""
    silent_since_seconds: float | None = None
    """When it was stopped, or ended."""
    _lines: "asyncio.Queue[bytes]" = field(default_factory=asyncio.Queue)
    _rest: bytes = b""
    _heard_last: bytes = b""
    _connections: list[SimulatedConnection] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.began_at_seconds = asyncio.get_running_loop().time()
        self.goes_on.set()
        self._process = Process("helper")
        self.audit = AuditLog(self.transport.file, self.transport.restarted_by_rule)
        self._engines = EngineAccess(self.transport.engines, self.goes_on, self._posted)
        self._finished = 0
        late = self._delay_seconds, self.transport.chance.cut_at
        self.input = Pipe(self._take, self._end_of_input, *late, self._process.context)
        self.output = Pipe(self._heard, self._gone, *late, copy_context())
        self.session.begin(self._sent)

    def start(self) -> None:
        """Execute it."""
        self._process.spawn(self._live())

    def kill(self) -> None:
        """SIGKILL."""
        if self.exited.is_set():
            return
        self._fall_silent()
        self._process.wipe_out()
        self._engines.cut()
        for connection in self._connections:
            connection.close()
        self.output.close()
        self.input.cut()
        self.goes_on.set()  # its coroutines end without effect
        self.exited.set()

    def stop(self) -> None:
        """SIGSTOP."""
        self.silent_since_seconds = asyncio.get_running_loop().time()
        self.goes_on.clear()
        self._engines.hold()
        self.input.hold()

    def go_on(self) -> None:
        """SIGCONT."""
        self.silent_since_seconds = None
        self.goes_on.set()
        self._engines.release()
        self.input.release()

    def is_late(self, client: ClientBus) -> bool:
        """Whether it requests something on this connection, although the daemon has released it."""
        if self.hung_up_at_seconds is None or all(each.client is not client for each in self._connections):
            return False
        return asyncio.get_running_loop().time() > self.hung_up_at_seconds + ON_ITS_WAY_SECONDS

    def asked_for(self, client: ClientBus, call: Message) -> None:
        """Look at a call that makes a job, if it is one of this helper's."""
        if any(each.client is client for each in self._connections):
            self.audit.asked_for(call)
            self.transport.unwritten += self.audit.undecided

    def _posted(self, verb: str, members: frozenset[str]) -> str:
        """Say what is wrong with a request to an engine."""
        if self.hung_up_at_seconds is not None:
            return "the daemon had let go of the helper"
        return self.audit.posted(verb, members)

    def orphan(self) -> None:
        """Close both pipes, as the daemon is dead."""
        if self.hung_up_at_seconds is None:
            self.hung_up_at_seconds = asyncio.get_running_loop().time()
        self.input.close()
        self.output.cut()

    async def end(self) -> None:
        """Close its input, wait a little, and kill it."""
        self.orphan()
        with suppress(TimeoutError):
            async with asyncio.timeout(END_WITHIN_SECONDS):
                await self.exited.wait()
        if self.transport.chance.of_one_in(2):  # a daemon may not kill what sudo started
            self.kill()

    async def _live(self) -> None:
        try:
            await asyncio.sleep(self.transport.chance.seconds(*START_SECONDS))
            link = Link(partial(Systemd.connect, self._open))
            config = TrustedConfig(PATH, self.transport.file.read_by_root, _trusts)
            policy = Policy(config, cast("Audit", self.audit))
            dispatcher = Dispatcher(
                policy,
                link,
                Engines(link.states, self._engines.connect),
                watch=link.watch,
                measure=link.usages,
                write=self._write,
                has_hung_up=lambda: self.hung_up_at_seconds is not None,
            )
            await serve_beside(link, dispatcher, self._each_line())
        except Failure as failure:
            self.transport.note(f"the helper ends: {failure}")
        finally:
            if not self.is_dead and self.audit.without_effect:
                self.transport.unwritten.append(f"{self.audit.without_effect} results of a helper that ended")
            self._fall_silent()
            self.output.close()
            self.input.cut()
            self.exited.set()

    @property
    def leftovers(self) -> list[str]:
        """What of it has not ended."""
        return self._process.leftovers

    def _delay_seconds(self) -> float:
        """How long the next write takes to arrive."""
        return self.transport.chance.delay_seconds()

    def _fall_silent(self) -> None:
        if not self.is_dead:
            self.is_dead = True
            if self.silent_since_seconds is None or self.hung_up_at_seconds is None:
                # Who let go of one that was stopped, and then killed it, heard nothing of it before.
                self.silent_since_seconds = asyncio.get_running_loop().time()

    def _open(self) -> BusConnection:
        connection = StoppableConnection(self.transport.systemd.bus)
        connection.goes_on = self.goes_on
        self._connections.append(connection)
        return connection

    async def _write(self, data: bytes) -> None:
        await self.goes_on.wait()
        if self.is_dead:
            raise OutputUnwritable("it was killed")
        try:
            await self.output.write(data)
        except Broken:
            raise OutputUnwritable("Broken pipe") from None

    def _sent(self, data: bytes) -> None:
        asked = json.loads(data)
        if "group" in asked:
            self.transport.asked[asked["id"]] = asked["group"]
        with suppress(Broken):
            self.input.send(data)

    def _take(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._lines.put_nowait(line + b"\n")

    def _end_of_input(self) -> None:
        self._lines.put_nowait(self._rest)
        self._lines.put_nowait(b"")

    def _heard(self, data: bytes) -> None:
        if self.silent_since_seconds is not None:  # it wrote this before
            self.silent_since_seconds = asyncio.get_running_loop().time()
        *lines, self._heard_last = (self._heard_last + data).split(b"\n")
        for reply in map(json.loads, lines):
            if reply["type"] == "accepted":
                group_id = self.transport.asked[reply["id"]]
                self.transport.accepted_at_seconds[group_id] = asyncio.get_running_loop().time()
            elif reply["type"] == "finished":
                self._finished += 1
                if self.audit.effects < self._finished:
                    self.transport.unwritten.append(f"the result of {reply}")
        self.session.receive(data)

    def _gone(self) -> None:
        """The daemon sees that it ended."""
        self.session.end()

    async def _each_line(self) -> AsyncIterator[bytes]:
        while line := await self._lines.get():
            yield line


def _trusts(program: str) -> None:
    """Every program is root's."""
    assert program.startswith("/")


@dataclass(eq=False)
class Transport:
    """Starts helpers, one after the other; it may be told that none can be."""

    systemd: SimulatedSystemd
    engines: MachineEngines
    file: ConfigFile
    chance: RandomSource
    note: Callable[[str], None]
    refuses: bool = False
    asked: dict[int, str] = field(default_factory=dict)
    """The groups of the requests, by their numbers."""
    accepted_at_seconds: dict[str, float] = field(default_factory=dict)
    """When the daemon heard that something was accepted for a group, last."""
    helpers: list[Helper] = field(default_factory=list)
    restarted_by_rule: Callable[[str], None] = lambda _: None
    """Is told the group of each restart that was allowed to a rule."""
    unwritten: list[str] = field(default_factory=list)
    """What helpers did, and did not write into the audit as they must."""
    _told_at_seconds: float = 0

    @property
    def terms(self) -> Terms:
        return local_terms()

    def pause_seconds(self, why_gone: str, attempt: int) -> float:  # noqa: ARG002 -- Transport's signature
        return back_off_seconds(attempt)

    async def open(self, session: HelperSession) -> "_Carrier":
        await asyncio.sleep(self.chance.delay_seconds())
        if self.refuses:
            raise HelperGone("a password is required")
        helper = Helper(session, self)
        self._told_at_seconds = self.told_at_seconds
        self.helpers = [each for each in self.helpers if not each.exited.is_set()]
        self.helpers.append(helper)
        helper.start()
        return _Carrier(helper)

    def explain(self, why_gone: str) -> str:
        return why_gone

    def hint(self, why_gone: str) -> str:  # noqa: ARG002 -- Transport's signature
        return ""

    @property
    def told_at_seconds(self) -> float:
        """When some helper could tell anything, last."""
        now_seconds = asyncio.get_running_loop().time()
        silent = (each.silent_since_seconds for each in self.helpers)
        return max((now_seconds if at is None else at for at in silent), default=self._told_at_seconds)

    @property
    def newest(self) -> Helper | None:
        """The helper that was started last, if it lives."""
        return self.helpers[-1] if self.helpers and not self.helpers[-1].is_dead else None


@dataclass(frozen=True)
class _Carrier:
    """The daemon's hold on a helper."""

    helper: Helper

    async def close(self) -> None:
        process = current()
        if process is None or not process.is_dead:  # one that was killed does not wait for its helper
            await self.helper.end()
