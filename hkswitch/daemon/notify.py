"""Reports the daemon's state and its health to systemd (sd_notify(3)), if systemd asked for it."""

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
    """The socket that systemd names in NOTIFY_SOCKET, and the watchdog, if there is one."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Read the environment, and open the socket; nothing is sent yet. Raises `OSError`."""
        self._address = environment.get("NOTIFY_SOCKET", "")
        # Opened once, so that the watchdog gets its messages even if no file descriptor is left.
        # Not connected, so that a new socket at the same path is found.
        self._socket = _open() if self._address else None
        if self._socket is not None:
            weakref.finalize(self, self._socket.close)
        self._watchdog_seconds = _watchdog_seconds(environment)

    def tell(self, **states: str) -> bool:
        """Send assignments, like `tell(READY="1", STATUS="3 groups")`; log a failure to send.

        Returns whether systemd has them.
        """
        if self._socket is None:
            return False
        message = "\n".join(f"{key}={value}" for key, value in states.items())
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            self._socket.sendto(message.encode(), address)
        except OSError as error:
            _log.warning("cannot notify systemd (NOTIFY_SOCKET=%s): %s", self._address, error.strerror)
            return False
        return True

    @asynccontextmanager
    async def alive(self) -> AsyncIterator[None]:
        """Feed the watchdog from the event loop, so that it expires when the loop hangs."""
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
            except Exception as error:  # noqa: BLE001 -- such as out of memory, which may pass
                with suppress(MemoryError):
                    _log.warning("cannot notify systemd's watchdog: %r", error)
            try:
                await asyncio.sleep(self._watchdog_seconds / 2)
            except MemoryError:
                await asyncio.sleep(0)  # lets other tasks run, without a timer


def _open() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)


def _watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    """Return the time without a notification after which systemd kills us (sd_watchdog_enabled(3))."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # it is meant for a parent process
    if not (microseconds.isascii() and microseconds.isdigit()):
        return None
    return int(microseconds) / _MICROSECONDS or None
