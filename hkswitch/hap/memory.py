"""Gives memory that is free back to the kernel: what many answers took, glibc keeps for others.

A connection that was cut is a circle of objects, which Python finds late in a process that has little to do.
"""

import asyncio
import ctypes
import gc
from typing import Final

AFTER_SECONDS: Final = 1.0


class FreeMemory:
    """What was freed of late."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
        self._timer: asyncio.TimerHandle | None = None

    def give_back_soon(self) -> None:
        """Give it back when what is being closed is closed; once for all that is meanwhile."""
        if self._timer is None:
            self._timer = self._loop.call_later(AFTER_SECONDS, self._give_back)

    def close(self) -> None:
        """Do not give back any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _give_back(self) -> None:
        self._timer = None
        gc.collect()
        if self._trim is not None:
            self._trim(0)
