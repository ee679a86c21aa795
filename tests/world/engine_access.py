"""A helper's way to the engines of its machine, on which the world sees what it asks them to do."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from hkswitch.model.group import Engine
from tests.world.engine_stream import StreamEnd, Streams
from tests.world.engines import MachineEngines

_POST: Final = re.compile(rb"POST /containers/([0-9a-f]{64})/(start|stop) HTTP/1.0\r\n\r\n")


@dataclass(eq=False)
class EngineAccess:
    """All connections of one helper."""

    engines: MachineEngines
    goes_on: asyncio.Event
    posted: Callable[[str, frozenset[str]], str]
    """Says what is wrong with a start or stop of a container of these members, if anything."""
    _stopped_at_seconds: float = 0
    _went_on_at_seconds: float = -1.0
    _ends: list[StreamEnd] = field(default_factory=list)
    _acting: dict[str, StreamEnd] = field(default_factory=dict)
    """The connections of starts and stops that have no answer yet, by containers."""
    _is_cut: bool = False

    async def connect(self, engine: Engine) -> Streams:
        """Connect to an engine; raises `OSError`."""
        now_seconds = asyncio.get_running_loop().time()
        # What a process that was stopped meanwhile has just read was so before.
        since_seconds = self._stopped_at_seconds if now_seconds == self._went_on_at_seconds else now_seconds
        await self.goes_on.wait()
        end, streams = await self.engines.connect(engine, since_seconds)
        await self.goes_on.wait()
        if self._is_cut:
            raise ConnectionResetError(104, "Connection reset by peer")
        end.wrote = lambda sent: self._check(engine, end, sent)
        self._ends = [*(each for each in self._ends if not each.is_closing()), end]
        return streams

    def cut(self) -> None:
        """The process is killed."""
        self._is_cut = True
        for end in self._ends:
            end.vanish()

    def hold(self) -> None:
        """The process is stopped."""
        self._stopped_at_seconds = asyncio.get_running_loop().time()
        for end in self._ends:
            end.hold()

    def release(self) -> None:
        """The process goes on."""
        self._went_on_at_seconds = asyncio.get_running_loop().time()
        for end in self._ends:
            end.release()

    def _check(self, engine: Engine, end: StreamEnd, sent: bytes) -> None:
        if not sent.startswith(b"POST"):
            return
        found = _POST.fullmatch(sent)
        assert found is not None, sent
        container_id, verb = found[1].decode(), found[2].decode()
        members = frozenset(self.engines.of[engine].names_of(container_id))
        about = f"{verb} of {', '.join(sorted(members))}"
        if (before := self._acting.get(container_id)) is not None and not before.is_closing():
            self.engines.wrongs.append(f"{about} while another act on it had not ended")
        self._acting[container_id] = end
        if wrong := self.posted(verb, members):
            self.engines.wrongs.append(f"{about}: {wrong}")
