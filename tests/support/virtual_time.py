"""An event loop whose time passes while it would wait: hours take a moment, and always the same one."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop whose time passes while it would wait."""

    def __init__(self) -> None:
        self._now_seconds = 0.0
        super().__init__()
        selector: Any = self._selector  # type: ignore[attr-defined]
        select = selector.select

        def pass_time(timeout_seconds: float | None) -> Any:  # noqa: ANN401 -- the selector's
            assert timeout_seconds is not None, "nothing will ever happen"
            self._now_seconds += timeout_seconds
            return select(0)

        selector.select = pass_time

    def time(self) -> float:
        return self._now_seconds


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """What a coroutine returns, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(coroutine)
