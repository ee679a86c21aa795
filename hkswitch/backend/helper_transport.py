"""A helper that the daemon starts itself, by sudo: lines over pipes. Does not run as root."""

import asyncio
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from hkswitch.backend.helper_session import HelperGone, HelperSession
from hkswitch.backend.sudo import explain, hint, telling

END_WITHIN_SECONDS: Final = 1


class Process:
    """The transport to a helper that is a child."""

    def __init__(self, command: Sequence[str]) -> None:
        """`command` is an argv, as `by_sudo` returns it."""
        self._command = command

    async def open(self, session: HelperSession) -> "_Pipes":
        """Start it; raises `HelperGone`."""
        loop = asyncio.get_running_loop()
        try:
            # TRUST: crosses to root. The command is literal; only requests in protocol/helper.py follow.
            _, pipes = await loop.subprocess_exec(lambda: _Pipes(session), *self._command)
        except OSError as error:
            raise HelperGone(f"{self._command[0]}: {error.strerror}") from None
        except RuntimeError as error:  # asyncio of Python 3.11 has a thread for each child, and got none
            raise HelperGone(f"{self._command[0]}: {error}") from None
        return pipes

    def explain(self, why_gone: str) -> str:
        """What to do about it."""
        return explain(why_gone)

    def hint(self, why_gone: str) -> str:
        """The same in short."""
        return hint(why_gone)


class _Pipes(asyncio.SubprocessProtocol):
    """Its standard input, output and error."""

    def __init__(self, session: HelperSession) -> None:
        self._session = session
        self._exited = asyncio.Event()
        self._outputs = {1, 2}

    async def close(self) -> None:
        self._stdin.close()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(END_WITHIN_SECONDS):
                    await self._exited.wait()
        finally:
            with suppress(PermissionError):  # a sudo that may not be killed ends with its pipe, or with us
                self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)  # noqa: S101 -- asyncio's types are too wide
        stdin = transport.get_pipe_transport(0)
        assert isinstance(stdin, asyncio.WriteTransport)  # noqa: S101
        self._transport, self._stdin = transport, stdin
        self._session.begin(stdin.write)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            self._session.heard(data)
        else:
            self._session.complained(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature
        # Why it ended may still be on its way on standard error; but that one may stay open for ever.
        self._outputs.discard(fd)
        if not self._outputs and self._exited.is_set():
            self._end()
        elif not self._outputs or fd == 1:
            asyncio.get_running_loop().call_later(END_WITHIN_SECONDS, self._end)

    def process_exited(self) -> None:
        self._exited.set()
        if not self._outputs:
            self._end()

    def _end(self) -> None:
        self._session.end(telling(self._session.complaints.lines) or _how(self._transport.get_returncode()))


def _how(code: int | None) -> str:
    """How a process ended that said nothing; None if it has not ended."""
    if not code:
        return "it exited"
    if code == -signal.SIGTERM:
        code = 128 + signal.SIGTERM  # as of a helper that caught it: it was still starting
    if code < 0:
        return f"it was ended by signal {-code}"
    return f"it exited with status {code} and said nothing"
