"""The signals that the daemon handles, and functions that wait for the first of several events."""

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any


async def first_to_end(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run coroutines concurrently until one ends; raises its exception."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def signals() -> Iterator["asyncio.Queue[signal.Signals]"]:
    """Provide the signals that the daemon handles, in order of arrival."""
    received: asyncio.Queue[signal.Signals] = asyncio.Queue()
    obeyed = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
    loop = asyncio.get_running_loop()
    for number in obeyed:
        loop.add_signal_handler(number, received.put_nowait, number)
    try:
        yield received
    finally:
        for number in obeyed:
            loop.remove_signal_handler(number)
        for number in (signal.SIGHUP, signal.SIGUSR1):  # they must not end a stop
            signal.signal(number, signal.SIG_IGN)


async def signal_or_end(
    received: "asyncio.Queue[signal.Signals]", task: asyncio.Future[Any]
) -> signal.Signals | None:
    """Return the next signal, or None if the task ended first; raises the task's exception."""
    waiting = asyncio.ensure_future(received.get())
    try:
        await asyncio.wait([waiting, task], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            return waiting.result()
        task.result()
        return None
    finally:
        waiting.cancel()
