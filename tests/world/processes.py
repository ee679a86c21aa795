"""Which coroutines and timers are of which simulated process, so that it can be killed with all of them."""

import asyncio
from collections.abc import Coroutine
from contextvars import Context, ContextVar, copy_context
from itertools import count
from typing import Any
from weakref import WeakSet

from tests.world.loop import VirtualLoop

_PROCESS: ContextVar["Process | None"] = ContextVar("_PROCESS", default=None)


_numbers = count(1000)


class Process:
    """A process: whatever begins in its context is a part of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.number = next(_numbers)
        self.is_dead = False
        self.context: Context = copy_context()
        self.context.run(_PROCESS.set, self)
        self._tasks: WeakSet[NumberedTask] = WeakSet()

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something as a part of it."""
        return asyncio.get_running_loop().create_task(coroutine, context=self.context)

    def add(self, task: "NumberedTask") -> None:
        """This is one of its tasks."""
        self._tasks.add(task)

    def wipe_out(self) -> None:
        """Let nothing of it go on."""
        self.is_dead = True
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        for task in sorted(self._tasks, key=lambda task: task.number):
            task.cancel()
        for timer in loop.timers:
            if _of(timer) is self:
                timer.cancel()

    @property
    def leftovers(self) -> list[str]:
        """What of it has not ended."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        timers = [repr(timer) for timer in loop.timers if _of(timer) is self]
        return [repr(task) for task in self._tasks if not task.done()] + timers


def current() -> Process | None:
    """The process whose code runs now."""
    return _PROCESS.get()


def number() -> int:
    """What getpid() says in a process."""
    process = _PROCESS.get()
    return 1 if process is None else process.number


def _of(timer: asyncio.TimerHandle) -> Process | None:
    context: Context = getattr(timer, "_context")  # noqa: B009 -- asyncio's own
    return context.get(_PROCESS)


class NumberedTask(asyncio.Task[Any]):
    """A task that is where it is in a set for its number, and not for its place in memory."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], loop: VirtualLoop, **options: Any) -> None:  # noqa: ANN401 -- as asyncio has it
        self.number = next(loop.task_numbers)
        super().__init__(coroutine, loop=loop, **options)

    def __hash__(self) -> int:
        return self.number


def make_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:  # noqa: ANN401 -- as asyncio has it
    """A task factory that knows of which process a task is."""
    context: Context | None = options.get("context")
    process = _PROCESS.get() if context is None else context.get(_PROCESS)
    assert isinstance(loop, VirtualLoop)
    task = NumberedTask(coroutine, loop, **options)
    if process is not None:
        process.add(task)
    return task
