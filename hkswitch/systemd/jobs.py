"""Awaits the results of systemd jobs, and several calls together. Does not use the bus."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from hkswitch.model.errors import BusUnavailable
from hkswitch.model.unit_state import JobResult

_Result = TypeVar("_Result")


class Jobs:
    """Awaited jobs; a job may end before the reply that names it arrives."""

    def __init__(self) -> None:
        self._collectors = 0
        self._ended: dict[str, JobResult] = {}
        self._waiting: dict[str, list[asyncio.Future[JobResult]]] = {}
        self._lost: BusUnavailable | None = None

    def collecting(self) -> "Jobs":
        """Keep the results of unknown jobs within the context: replies that name them may still arrive."""
        return self

    def __enter__(self) -> None:
        self._collectors += 1

    def __exit__(self, *_: object) -> None:
        self._collectors -= 1
        if not self._collectors:
            self._ended.clear()

    def removed(self, path: str, result: JobResult) -> None:
        """Note the result of a job that ended."""
        for future in self._waiting.pop(path, ()):
            if not future.done():
                future.set_result(result)
        if self._collectors:
            self._ended[path] = result

    def ending(self, path: str) -> "asyncio.Future[JobResult]":
        """Return a future for a job's result, which raises `BusUnavailable` if the connection is lost."""
        future: asyncio.Future[JobResult] = asyncio.get_running_loop().create_future()
        if self._lost is not None:
            future.set_exception(self._lost)
        elif (ended := self._ended.get(path)) is not None:
            future.set_result(ended)
        else:
            self._waiting.setdefault(path, []).append(future)
        return future

    def lose(self, error: BusUnavailable) -> None:
        """Fail all awaited jobs, and later ones: the connection is lost."""
        self._lost = error
        for future in (future for futures in self._waiting.values() for future in futures):
            if not future.done():
                future.set_exception(error)
        self._waiting.clear()


async def together(calls: Iterable[Coroutine[Any, Any, _Result]]) -> list[_Result]:
    """Await all of these at the same time; a single one, as in most groups, needs no task of its own."""
    match [*calls]:
        case [call]:
            return [await call]
        case several:
            return await asyncio.gather(*several)
