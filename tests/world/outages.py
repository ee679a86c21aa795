"""The outages of a world: each lasts for some time, or until all are ended."""

import asyncio
import math
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, field


@dataclass(eq=False)
class Outages:
    """Those that last."""

    note: Callable[[str], None]
    ended: Callable[[Hashable], None]
    """Is called with each that ends."""
    past: list[tuple[float, float]] = field(default_factory=list)
    """From when until when each was out of order that is not any more."""
    _lasting: dict[Hashable, float] = field(default_factory=dict)
    """Since when what has no end of its own is out of order."""
    _ends: dict[Hashable, tuple[float, asyncio.TimerHandle, Callable[[], None]]] = field(default_factory=dict)

    def begin(self, what: Hashable, seconds: float, end: Callable[[], None]) -> None:
        """It is out of order from now on, for so long; `end` puts it right."""
        loop = asyncio.get_running_loop()
        self._ends[what] = loop.time(), loop.call_later(seconds, self._end, what), end

    def last(self, what: Hashable) -> None:
        """It is out of order from now on, until `is_over` says otherwise."""
        self._lasting.setdefault(what, asyncio.get_running_loop().time())

    def is_over(self, what: Hashable) -> None:
        """It is not, if it was."""
        if (began_at_seconds := self._lasting.pop(what, None)) is not None:
            self.past.append((began_at_seconds, asyncio.get_running_loop().time()))

    def has(self, what: Hashable) -> bool:
        """Whether it is out of order."""
        return what in self._ends

    @property
    def lasts(self) -> bool:
        """Whether anything is out of order that has no end of its own."""
        return bool(self._lasting)

    def any_but(self, harmless: Collection[Hashable]) -> bool:
        """Whether anything else than these is."""
        return any(what not in harmless for what in self._ends)

    def before(self, at_seconds: float) -> float:
        """When what was out of order at some time began to be so; that time if nothing was."""
        began = [*self._lasting.values(), *(began_at_seconds for began_at_seconds, *_ in self._ends.values())]
        now = [(began_at_seconds, math.inf) for began_at_seconds in began]
        return min(
            (began for began, ended in (*self.past, *now) if began <= at_seconds <= ended), default=at_seconds
        )

    def end_all(self) -> None:
        """Put everything right now."""
        for what in [*self._ends]:
            self._end(what)

    def _end(self, what: Hashable) -> None:
        began_at_seconds, timer, end = self._ends.pop(what)
        timer.cancel()
        self.past.append((began_at_seconds, asyncio.get_running_loop().time()))
        end()
        self.ended(what)
