"""Transports to a helper: a child started through sudo, or a connection to systemd's socket.

Does not run as root.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hkswitch.backend import sudo_reasons
from hkswitch.backend.child_pipes import ChildPipes, adopt, start
from hkswitch.backend.helper_client import back_off_seconds
from hkswitch.backend.helper_session import HelperGone, HelperSession, Terms, local_terms
from hkswitch.backend.spawning import Child

SOCKET: Final = Path("/run/serviceswitch.sock")
"""The socket of serviceswitch.socket, which only the daemon's user may connect to."""

SOCKET_UNIT: Final = "serviceswitch.socket"

_CLOSED_AT_ONCE: Final = (
    "systemd closed the connection before the helper was ready; too many helpers may be running or hanging"
)


class SudoTransport:
    """The transport to a helper that is a child of the daemon: lines over pipes."""

    def __init__(self, command: Sequence[str], launched: Child | None = None) -> None:
        """`command` is an argv, as `sudo_command` returns it; `launched` is a process that it has started."""
        self._command = command
        self._launched = launched

    @property
    def terms(self) -> Terms:
        """What is expected of the helper."""
        return local_terms()

    async def open(self, session: HelperSession) -> ChildPipes:
        """Start the helper, unless it has been launched; raises `HelperGone`."""
        pipes = ChildPipes(session, sudo_reasons.telling_line)
        if (child := self._launched) is not None:
            self._launched = None
            return await adopt(child, pipes)
        # TRUST: crosses to root. The command is literal; only requests in protocol/helper.py follow.
        return await start(self._command, pipes)

    def pause_seconds(self, why_gone: str, attempt: int) -> float:  # noqa: ARG002 -- only some reasons matter
        """Return how long to wait before the next attempt."""
        return back_off_seconds(attempt)

    def explain(self, why_gone: str) -> str:
        """Return one sentence for the log: why the helper is gone, and what to do."""
        return sudo_reasons.explain(why_gone)

    def hint(self, why_gone: str) -> str:
        """Return the cause and the remedy; empty if they are unknown."""
        return sudo_reasons.hint(why_gone)


class SocketTransport:
    """The transport to a helper that systemd starts for each connection: no setuid program."""

    def __init__(self, path: Path = SOCKET) -> None:
        """Does not connect yet."""
        self._path = path

    @property
    def terms(self) -> Terms:
        """What is expected of the helper."""
        return local_terms()

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

    def pause_seconds(self, why_gone: str, attempt: int) -> float:  # noqa: ARG002 -- only some reasons matter
        """Return how long to wait before the next attempt."""
        return back_off_seconds(attempt)

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
