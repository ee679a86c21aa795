"""Clients at terminals: their requests on the daemon's control socket, and the answers.

The real server has the other end; the socket is simulated, and tells who is there.
"""

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from hkswitch.control.server import Clients
from hkswitch.protocol.control import (
    LONGEST_CONTROL_REQUEST_BYTES,
    ControlReply,
    ControlRequest,
    DoneWithNote,
    Operation,
    Progress,
    Status,
    encode_control_request,
    parse_control_reply,
)
from tests.world.link import End, Link
from tests.world.messages import Delay
from tests.world.processes import Process
from tests.world.random_source import RandomSource

SOCKET: Final = "/run/hkswitch/control"
ROOT: Final = 0
OTHER_USER: Final = 12345


@dataclass(frozen=True)
class Credentials:
    """A socket, as far as it tells who is at the other end."""

    user_id: int

    def getsockopt(self, level: int, option: int, size: int) -> bytes:  # noqa: ARG002 -- as socket has it
        return struct.pack("iII", 1, self.user_id, self.user_id)[:size] if size < 1024 else b""


@dataclass(eq=False)
class Asked:
    """One question, and what came of it."""

    question: ControlRequest
    answers: list[ControlReply] = field(default_factory=list)
    link: Link | None = None
    _rest: bytes = b""
    _newest: bytes = b""
    """Of a watcher; what was before is of no use."""

    @property
    def last(self) -> ControlReply | None:
        """The newest answer that is not only a beginning."""
        ends = [answer for answer in self.answers if answer is not Progress.BEGUN]
        return ends[-1] if ends else None

    @property
    def is_cut(self) -> bool:
        """Whether no answer can come any more."""
        return self.link is None or self.link.is_cut

    @property
    def is_done(self) -> bool:
        """Whether it was done."""
        return self.last is Progress.DONE or isinstance(self.last, DoneWithNote)

    def heard(self, data: bytes) -> None:
        """Take bytes of answers."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if self.question.operation is Operation.WATCH:
            self._newest = lines[-1] if lines else self._newest
            return
        for line in lines:
            self.answers.append(parse_control_reply(line + b"\n"))
            assert self.answers[:-1] in ([], [Progress.BEGUN]), f"too many answers: {self}"

    @property
    def status(self) -> Status | None:
        """What a watcher sees, if it has seen anything."""
        seen = parse_control_reply(self._newest + b"\n") if self._newest else None
        return seen if isinstance(seen, Status) else None


class Terminals:
    """The control socket of one daemon."""

    def __init__(self, process: Process, clients: Clients, chance: RandomSource) -> None:
        self._process = process
        self._clients = clients
        self._chance = chance
        self._links: list[Link] = []

    def ask(
        self,
        question: ControlRequest,
        then: Callable[[], None] = lambda: None,
        delay_seconds: Delay | None = None,
    ) -> Asked:
        """As `hkswitch` asks; `then` is called when it was answered, and at the end of the connection."""
        asked = Asked(question)

        def heard(data: bytes) -> None:
            asked.heard(data)
            if asked.last is not None:
                then()
                if asked.link is not None:
                    asked.link.hang_up()

        asked.link = self._connect(ROOT, End(None, heard, then), delay_seconds)
        self._send(asked.link, encode_control_request(question))
        return asked

    def say(self, said: bytes, *, user_id: int = ROOT) -> Link:
        """Say anything at all."""
        link = self._connect(user_id, End(None, lambda _: None, lambda: None), None)
        self._send(link, said)
        return link

    def go_down(self) -> None:
        """The daemon is gone."""
        for link in self._links:
            link.break_off()

    def _send(self, link: Link, said: bytes) -> None:
        cut = self._chance.cut_at(len(said))
        for piece in (said[:cut], said[cut:]):
            link.send(piece)

    def _connect(self, user_id: int, end: End, delay_seconds: Delay | None) -> Link:
        delay_seconds = delay_seconds or self._chance.delay_seconds
        return self._process.context.run(self._accept, user_id, end, delay_seconds)

    def _accept(self, user_id: int, end: End, delay_seconds: Delay) -> Link:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(LONGEST_CONTROL_REQUEST_BYTES, loop)
        protocol = asyncio.StreamReaderProtocol(reader, self._clients.accept, loop)
        facts = {"socket": Credentials(user_id), "peername": "", "sockname": SOCKET}
        link = Link(self._process, protocol, facts, end, delay_seconds)
        self._links = [each for each in self._links if not each.is_cut]
        self._links.append(link)
        return link
