"""Waiting for a condition with a deadline: the only way in which tests wait."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

PATIENCE_SECONDS: Final = 20
"""How long a test waits for what must come, on a busy machine too: a wait ends with its condition."""


async def eventually(condition: Callable[[], object], within_seconds: float = PATIENCE_SECONDS) -> None:
    """Return when `condition()` is true; fail when it is not in time."""
    deadline_seconds = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline_seconds, f"not true within {within_seconds} s"
        await asyncio.sleep(0.01)


def wait_until(condition: Callable[[], object], within_seconds: float = PATIENCE_SECONDS) -> None:
    """The same where there is no event loop."""
    deadline_seconds = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline_seconds, f"not true within {within_seconds} s"
        time.sleep(0.01)
