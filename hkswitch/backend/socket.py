"""A helper that systemd starts for whoever connects to its socket: no setuid program.

Does not run as root.
"""

import asyncio
from pathlib import Path
from typing import Final

from hkswitch.backend.helper_session import HelperGone, HelperSession

SOCKET: Final = Path("/run/serviceswitch.sock")
"""Of serviceswitch.socket, which lets nobody in but the daemon's user."""

SOCKET_UNIT: Final = "serviceswitch.socket"

_CLOSED_AT_ONCE: Final = (
    "systemd closed the connection before the helper said hello; too many helpers may be running or hanging"
)


class Socket:
    """The transport to a helper that systemd starts."""

    def __init__(self, path: Path = SOCKET) -> None:
        """Does not connect yet."""
        self._path = path

    async def open(self, session: HelperSession) -> "_Connection":
        """Connect, which starts it; raises `HelperGone`."""
        loop = asyncio.get_running_loop()
        try:
            # TRUST: crosses to root. Only requests in protocol/helper.py follow.
            _, connection = await loop.create_unix_connection(lambda: _Connection(session), str(self._path))
        except OSError as error:
            raise HelperGone(f"{self._path}: {error.strerror or error}") from None
        return connection

    def explain(self, why_gone: str) -> str:
        """What to do about it."""
        return explain(why_gone)

    def hint(self, why_gone: str) -> str:
        """The same in short."""
        return hint(why_gone)


def hint(why: str) -> str:
    """The likeliest cause and what to do about it, where that is known."""
    if str(SOCKET) not in why:
        return ""
    return f"{SOCKET_UNIT} does not run; `sudo systemctl enable --now {SOCKET_UNIT}`"


def explain(why: str) -> str:
    """What to do about a helper that is gone for this reason: one sentence for the log."""
    if remedy := hint(why):
        return f"the helper cannot be reached: {remedy} ({why})"
    return f"the helper exited unexpectedly ({why}); see `journalctl -u 'serviceswitch@*'`"


class _Connection(asyncio.Protocol):
    def __init__(self, session: HelperSession) -> None:
        self._session = session
        self._lost = asyncio.Event()

    async def close(self) -> None:
        self._transport.abort()  # the helper sees the end of its input; nobody waits for its answers
        await self._lost.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 -- asyncio's types are too wide
        self._transport = transport
        self._session.begin(transport.write)

    def data_received(self, data: bytes) -> None:
        self._session.heard(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature
        self._lost.set()
        self._session.end("" if self._session.hello.done() else _CLOSED_AT_ONCE)
