"""Tells systemd how the daemon is (sd_notify(3)), and that it is alive. Does nothing where nobody asked."""

import asyncio
import logging
import os
import socket
import weakref
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final

_MICROSECONDS: Final = 1_000_000

_log = logging.getLogger(__name__)


class Notifier:
    """The socket that systemd named in NOTIFY_SOCKET, and the watchdog, if it has one."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Reads what systemd said, and opens the socket; nothing is sent yet. Raises `OSError`."""
        self._address = environment.get("NOTIFY_SOCKET", "")
        # Opened once, so that the watchdog is fed while the process has no file descriptor left.
        # Not connected, so that another socket in the same place is found.
        self._socket = _open() if self._address else None
        if self._socket is not None:
            weakref.finalize(self, self._socket.close)
        self._watchdog_seconds = _watchdog_seconds(environment)

    def tell(self, **states: str) -> None:
        """Send assignments, like `tell(READY="1", STATUS="3 groups")`; what cannot be sent is logged."""
        if self._socket is None:
            return
        message = "\n".join(f"{key}={value}" for key, value in states.items())
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            self._socket.sendto(message.encode(), address)
        except OSError as error:
            _log.warning("cannot tell systemd (NOTIFY_SOCKET=%s): %s", self._address, error.strerror)

    @asynccontextmanager
    async def alive(self) -> AsyncIterator[None]:
        """Meanwhile, feed the watchdog from the event loop, so that it goes hungry when that hangs."""
        beating = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    async def _beat(self) -> None:
        while self._watchdog_seconds is not None:
            try:
                self.tell(WATCHDOG="1")
            except Exception as error:  # noqa: BLE001 -- no memory, for one: this time, and maybe not the next
                with suppress(MemoryError):
                    _log.warning("cannot feed systemd's watchdog: %r", error)
            try:
                await asyncio.sleep(self._watchdog_seconds / 2)
            except MemoryError:
                await asyncio.sleep(0)  # others have their turn, and for that no timer is made


def _open() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)


def _watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    """The time without a sign of life after which systemd ends us, as sd_watchdog_enabled(3) reads it."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # it is for a process that we are a child of
    if not (microseconds.isascii() and microseconds.isdigit()):
        return None
    return int(microseconds) / _MICROSECONDS or None
