"""Waiting for a condition with a deadline: the only way that tests wait."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

PATIENCE_SECONDS: Final = 20
"""The time limit of a wait, even on a busy machine; a wait ends as soon as its condition is true."""


async def eventually(condition: Callable[[], object], within_seconds: float = PATIENCE_SECONDS) -> None:
    """Return when `condition()` is true; fail after the deadline."""
    deadline_seconds = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline_seconds, f"not true within {within_seconds} s"
        await asyncio.sleep(0.01)


def wait_until(condition: Callable[[], object], within_seconds: float = PATIENCE_SECONDS) -> None:
    """Wait like `eventually`, without an event loop."""
    deadline_seconds = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline_seconds, f"not true within {within_seconds} s"
        time.sleep(0.01)
