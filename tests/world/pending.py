"""Timers of simulated units. Knows no systemd."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Pending:
    """What happens after a time; it can be cancelled while it waits for a systemd that hangs, too."""

    event: Callable[[], None]
    when_due: Callable[[Callable[[], None]], None]
    all: set["Pending"]
    timer: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        self.all.add(self)

    def is_due(self) -> None:
        self.when_due(self._happen)

    def cancel(self) -> None:
        self.all.discard(self)
        if self.timer is not None:
            self.timer.cancel()

    def _happen(self) -> None:
        if self in self.all:
            self.all.discard(self)
            self.event()
