"""The attempts of all hosts of a bridge to connect: their turns, and how many there may be. No other I/O."""

import asyncio
from typing import Final

from hkswitch.backend.paced_input import Allowance

AT_ONCE: Final = 10
PER_SECOND: Final = 5
"""Each takes 5 to 10 ms of a processor: fifty hosts that are away would take a quarter of one.

Up to a dozen do not notice this limit. Of fifty, each is tried every ten seconds, and at once when another
one is back (`Hosts`), as the bridge's own network may have been gone.
"""

APART_SECONDS: Final = 0.02
"""Between attempts. A key exchange takes 10 ms of a processor, or 50 ms of a small one: fifty at once would
keep this machine's own groups waiting."""


class Attempts:
    """The attempts of all hosts to connect."""

    def __init__(self) -> None:
        """There were none yet."""
        self._allowance = Allowance(AT_ONCE, PER_SECOND)
        self._next_seconds = float("-inf")

    async def turn(self) -> float:
        """Wait for the turn of an attempt; return how many seconds later the same host's next one may be."""
        loop = asyncio.get_running_loop()
        now_seconds = loop.time()
        wait_seconds = max(0.0, self._next_seconds - now_seconds)
        self._next_seconds = now_seconds + wait_seconds + APART_SECONDS
        pause_seconds = self._allowance.spend(1, now_seconds)
        if wait_seconds:
            await asyncio.sleep(wait_seconds)
        return pause_seconds
