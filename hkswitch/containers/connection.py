"""Requests to container engines: HTTP/1.0 on their unix sockets, one request a connection.

systemd starts a stopped engine for whoever connects. So this connects only while the engine's unit is active,
and asks systemd before each connection.
"""

import asyncio
from asyncio import LimitOverrunError, StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from hkswitch.containers.answers import EngineUnavailable, parse_error
from hkswitch.model.errors import BusUnavailable, reason_of
from hkswitch.model.group import Engine
from hkswitch.model.unit_state import UnitHealth, UnitState

SOCKETS: Final = {Engine.DOCKER: "/run/docker.sock", Engine.PODMAN: "/run/podman/podman.sock"}

LONGEST_ANSWER_BYTES: Final = 1024 * 1024
LONGEST_LINE_BYTES: Final = 64 * 1024
"""Of an event, and of an answer's head. asyncio buffers twice as much, and reads no more."""

LOOK_SECONDS: Final = 5
"""The time limit of each request that only looks."""

TOO_LONG: Final = "the engine's answer is too long"

OK, DONE, DONE_BEFORE, NOT_FOUND = 200, 204, 304, 404

Begin = Callable[[], None]
Streams = tuple[StreamReader, StreamWriter]
Connect = Callable[[Engine], Awaitable[Streams]]
UnitStates = Callable[[Iterable[str]], Awaitable[dict[str, UnitState]]]
"""Asks systemd for the states of units; raises `BusUnavailable`."""


def why_off(engine: Engine, states: Mapping[str, UnitState]) -> str:
    """Return why an engine cannot be asked, from the states of its units; empty if it can."""
    if states[engine.unit].health is not UnitHealth.UP:
        return f"{engine.unit} is {states[engine.unit]}"
    # systemd stops a socket's service first, which would wait for its connections for 5 s.
    stopping = (unit for unit in engine.units if states[unit].health is UnitHealth.STOPPING)
    return next((f"{unit} is {states[unit]}" for unit in stopping), "")


async def connect(engine: Engine) -> Streams:
    """Connect to an engine."""
    # TRUST: only root can have made a socket there, so root's engine answers.
    return await asyncio.open_unix_connection(SOCKETS[engine], limit=LONGEST_LINE_BYTES)


class EngineConnection(NamedTuple):
    """The way to one engine. Raises `EngineUnavailable` for each failure, and after a time limit."""

    engine: Engine
    unit_states: UnitStates
    connect: Connect

    @asynccontextmanager
    async def asking(
        self, method: str, path: str, seconds: float, begin: Begin = lambda: None
    ) -> AsyncIterator[tuple[int, StreamReader]]:
        """Send a request; yield the status of the answer, and its body, which may still be on its way.

        Calls `begin` just before, which may raise.
        """
        writer = None
        try:
            async with asyncio.timeout(seconds):
                if why := why_off(self.engine, await self.unit_states(self.engine.units)):
                    raise EngineUnavailable(why)
                reader, writer = await self.connect(self.engine)
                begin()
                writer.write(f"{method} {path} HTTP/1.0\r\n\r\n".encode())
                version, _, rest = (await reader.readuntil(b"\r\n\r\n")).partition(b" ")
            if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
                raise EngineUnavailable("the engine's answer is not HTTP")
            yield int(rest[:3]), reader
        except TimeoutError:
            raise EngineUnavailable(f"{self.engine} did not answer within {seconds} s") from None
        except EOFError:
            raise EngineUnavailable(f"{self.engine} closed the connection") from None
        except LimitOverrunError:
            raise EngineUnavailable(TOO_LONG) from None
        except (OSError, BusUnavailable) as error:
            raise EngineUnavailable(f"{self.engine}: {reason_of(error)}") from error
        finally:
            if writer is not None:
                writer.close()

    async def ask(
        self, method: str, path: str, seconds: float, begin: Begin = lambda: None
    ) -> tuple[int, bytes]:
        """Return the status and the body of an answer."""
        found = b""
        async with self.asking(method, path, seconds, begin) as (status, body), asyncio.timeout(seconds):
            while chunk := await body.read(LONGEST_LINE_BYTES):
                found += chunk
                if len(found) > LONGEST_ANSWER_BYTES:
                    raise EngineUnavailable(TOO_LONG)
        return status, found

    async def get(self, path: str) -> bytes:
        """Return what is at this path, nothing if that does not exist."""
        status, found = await self.ask("GET", path, LOOK_SECONDS)
        if status not in {OK, NOT_FOUND}:
            raise EngineUnavailable(parse_error(found))
        return found if status == OK else b""
