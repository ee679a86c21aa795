"""Transports to a helper: a child started through sudo, or a connection to systemd's socket.

Does not run as root.
"""

import asyncio
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from hkswitch.backend import sudo_reasons
from hkswitch.backend.helper_session import HelperGone, HelperSession

END_WITHIN_SECONDS: Final = 1

SOCKET: Final = Path("/run/serviceswitch.sock")
"""The socket of serviceswitch.socket, which only the daemon's user may connect to."""

SOCKET_UNIT: Final = "serviceswitch.socket"

_CLOSED_AT_ONCE: Final = (
    "systemd closed the connection before the helper was ready; too many helpers may be running or hanging"
)


def sudo_command() -> tuple[str, ...]:
    """Return the one command that sudoers allows. sudo-rs may be the only sudo installed."""
    sudo = shutil.which("sudo") or shutil.which("sudo-rs") or "sudo"
    return (sudo, "-n", "-u", "root", *sudo_reasons.HELPER)


class SudoTransport:
    """The transport to a helper that is a child of the daemon: lines over pipes."""

    def __init__(self, command: Sequence[str]) -> None:
        """`command` is an argv, as `sudo_command` returns it."""
        self._command = command

    async def open(self, session: HelperSession) -> "_Pipes":
        """Start the helper; raises `HelperGone`."""
        loop = asyncio.get_running_loop()
        try:
            # TRUST: crosses to root. The command is literal; only requests in protocol/helper.py follow.
            _, pipes = await loop.subprocess_exec(lambda: _Pipes(session), *self._command)
        except OSError as error:
            raise HelperGone(f"{self._command[0]}: {error.strerror}") from None
        except RuntimeError as error:  # asyncio in Python 3.11 starts a thread for each child, and could not
            raise HelperGone(f"{self._command[0]}: {error}") from None
        return pipes

    def explain(self, why_gone: str) -> str:
        """Return one sentence for the log: why the helper is gone, and what to do."""
        return sudo_reasons.explain(why_gone)

    def hint(self, why_gone: str) -> str:
        """Return the cause and the remedy; empty if they are unknown."""
        return sudo_reasons.hint(why_gone)


class _Pipes(asyncio.SubprocessProtocol):
    """The helper's standard input, output and error."""

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
            with suppress(PermissionError):  # sudo, which may not be killed, ends with its pipe or with us
                self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)  # noqa: S101 -- asyncio's types are too wide
        stdin = transport.get_pipe_transport(0)
        assert isinstance(stdin, asyncio.WriteTransport)  # noqa: S101
        self._transport, self._stdin = transport, stdin
        self._session.begin(stdin.write)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            self._session.receive(data)
        else:
            self._session.receive_stderr(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature
        # The reason may still be on its way on standard error, but that may also stay open forever.
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
        reason = sudo_reasons.telling_line(self._session.stderr.lines)
        self._session.end(reason or _how_it_ended(self._transport.get_returncode()))


def _how_it_ended(code: int | None) -> str:
    """Describe the end of a process that printed nothing; None if it has not ended."""
    if not code:
        return "it gave no reason"
    if code == -signal.SIGTERM:
        code = 128 + signal.SIGTERM  # as if the helper had caught it: it was still starting
    if code < 0:
        return f"it was killed by signal {-code}"
    return f"it exited with status {code} and printed nothing"


class SocketTransport:
    """The transport to a helper that systemd starts for each connection: no setuid program."""

    def __init__(self, path: Path = SOCKET) -> None:
        """Does not connect yet."""
        self._path = path

    async def open(self, session: HelperSession) -> "_SocketConnection":
        """Connect, which starts the helper; raises `HelperGone`."""
        loop = asyncio.get_running_loop()
        try:
            # TRUST: crosses to root. Only requests in protocol/helper.py follow.
            _, connection = await loop.create_unix_connection(
                lambda: _SocketConnection(session), str(self._path)
            )
        except OSError as error:
            raise HelperGone(f"{self._path}: {error.strerror or error}") from None
        return connection

    def explain(self, why_gone: str) -> str:
        """Return one sentence for the log: why the helper is gone, and what to do."""
        if remedy := self.hint(why_gone):
            return f"the helper cannot be reached: {remedy} ({why_gone})"
        return f"the helper exited unexpectedly ({why_gone}); see `sudo journalctl -u 'serviceswitch@*'`"

    def hint(self, why_gone: str) -> str:
        """Return the likeliest cause and its remedy; empty if they are unknown."""
        if str(SOCKET) not in why_gone:
            return ""
        return f"{SOCKET_UNIT} is not active; run `sudo systemctl enable --now {SOCKET_UNIT}`"


class _SocketConnection(asyncio.Protocol):
    """A connection to the helper."""

    def __init__(self, session: HelperSession) -> None:
        self._session = session
        self._lost = asyncio.Event()

    async def close(self) -> None:
        self._transport.abort()  # the helper sees the end of its input; its replies are no longer needed
        await self._lost.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 -- asyncio's types are too wide
        self._transport = transport
        self._session.begin(transport.write)

    def data_received(self, data: bytes) -> None:
        self._session.receive(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature
        self._lost.set()
        self._session.end("" if self._session.hello.done() else _CLOSED_AT_ONCE)
