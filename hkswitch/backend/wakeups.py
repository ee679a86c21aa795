"""Waits for conditions that news can change. Knows nothing about them."""

import asyncio
from collections.abc import Callable
from contextlib import suppress


class Wakeups:
    """Wakes all who wait whenever something has changed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def wake(self) -> None:
        """Have all conditions looked at again."""
        self._event.set()
        self._event = asyncio.Event()

    async def until(self, condition: Callable[[], bool], within_seconds: float) -> bool:
        """Wait for a condition, up to a limit; return whether it holds."""
        if condition():
            return True  # almost always, and without a timer
        with suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                while not condition():
                    await self._event.wait()
        return condition()
