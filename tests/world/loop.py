"""An event loop with virtual time, which passes only while no callback is ready. It polls no descriptor."""

import asyncio
import itertools
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, TypeVar

Result = TypeVar("Result")

MOST_TURNS_AT_ONCE: Final = 100_000
"""Turns of the loop without time passing, after which a task is taken to spin for ever."""


class Deadlock(AssertionError):
    """Everybody waits, and nothing will ever happen."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, and so its own order of callbacks, on a clock of its own that begins at 0."""

    def __init__(self) -> None:
        self._now_seconds = 0.0
        self._turns = 0
        self.task_numbers = itertools.count(1)
        super().__init__(_Selector(self._pass))

    def time(self) -> float:
        """The time, in virtual seconds."""
        return self._now_seconds

    @property
    def timers(self) -> list[asyncio.TimerHandle]:
        """What is still to be called, at some time."""
        scheduled: list[asyncio.TimerHandle] = getattr(self, "_scheduled")  # noqa: B009 -- asyncio's own
        return [timer for timer in scheduled if not timer.cancelled()]

    def _pass(self, seconds: float | None) -> None:
        if seconds is None:
            raise Deadlock("every task waits for something that will never happen")
        self._turns = 0 if seconds else self._turns + 1
        assert self._turns < MOST_TURNS_AT_ONCE, "a task spins, and no time passes"
        self._now_seconds += seconds


class _Selector(selectors.BaseSelector):
    """Knows no descriptor that is ever ready, and waits by calling `wait`."""

    def __init__(self, wait: Callable[[float | None], None]) -> None:
        self._wait = wait
        self._keys: dict[int, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:  # noqa: ANN401
        descriptor = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        self._keys[descriptor] = selectors.SelectorKey(fileobj, descriptor, events, data)
        return self._keys[descriptor]

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:  # noqa: ANN401 -- as selectors has it
        return self._keys.pop(fileobj if isinstance(fileobj, int) else fileobj.fileno())

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._wait(timeout)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """What a coroutine returns, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
