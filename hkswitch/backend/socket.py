"""A helper that systemd starts for whoever connects to its socket: no setuid program.

Does not run as root.
"""

import asyncio
from pathlib import Path
from typing import Final

from hkswitch.backend.helper_session import Conversation, HelperGone

SOCKET: Final = Path("/run/serviceswitch.sock")
"""Of serviceswitch.socket, which lets nobody in but the daemon's user."""

SOCKET_UNIT: Final = "serviceswitch.socket"


class Socket:
    """The way to a helper that systemd starts."""

    def __init__(self, path: Path = SOCKET) -> None:
        """Does not connect yet."""
        self._path = path

    async def open(self, conversation: Conversation) -> "_Connection":
        """Connect, which starts it; raises `HelperGone`."""
        loop = asyncio.get_running_loop()
        try:
            # TRUST: crosses to root. Only requests in protocol/helper.py follow.
            _, connection = await loop.create_unix_connection(
                lambda: _Connection(conversation), str(self._path)
            )
        except OSError as error:
            raise HelperGone(f"{self._path}: {error.strerror or error}") from None
        return connection

    def explain(self, why_gone: str) -> str:
        """What to do about it."""
        return explain(why_gone)


def explain(why: str) -> str:
    """What to do about a helper that is gone for this reason: one sentence for the log."""
    if str(SOCKET) in why:
        return f"the helper cannot be reached ({why}): `sudo systemctl enable --now {SOCKET_UNIT}`"
    return f"the helper ended ({why}); it is started again, and `journalctl -u 'serviceswitch@*'` says more"


class _Connection(asyncio.Protocol):
    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._lost = asyncio.Event()

    async def close(self) -> None:
        self._transport.abort()  # the helper sees the end of its input; nobody waits for its answers
        await self._lost.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 -- asyncio's types are too wide
        self._transport = transport
        self._conversation.begin(transport.write)

    def data_received(self, data: bytes) -> None:
        self._conversation.heard(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature
        self._lost.set()
        self._conversation.end()
