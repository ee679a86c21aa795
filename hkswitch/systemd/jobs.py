"""The ends of systemd's jobs, for those who wait for them. Knows no bus."""

import asyncio

from hkswitch.model.errors import BusUnavailable
from hkswitch.model.unit_state import JobResult


class Jobs:
    """Results of jobs, whichever comes first: the answer that names the job, or its end."""

    def __init__(self) -> None:
        self._collectors = 0
        self._ended: dict[str, JobResult] = {}
        self._waiting: dict[str, list[asyncio.Future[JobResult]]] = {}
        self._lost: BusUnavailable | None = None

    def collecting(self) -> "Jobs":
        """While entered, the ends of unknown jobs are kept: their names may be on the way."""
        return self

    def __enter__(self) -> None:
        self._collectors += 1

    def __exit__(self, *_: object) -> None:
        self._collectors -= 1
        if not self._collectors:
            self._ended.clear()

    def removed(self, path: str, result: JobResult) -> None:
        """Take over how a job ended."""
        for future in self._waiting.pop(path, ()):
            if not future.done():
                future.set_result(result)
        if self._collectors:
            self._ended[path] = result

    def ending(self, path: str) -> "asyncio.Future[JobResult]":
        """The end of a job, waited for from now on; `BusUnavailable` if it will not be told any more."""
        future: asyncio.Future[JobResult] = asyncio.get_running_loop().create_future()
        if self._lost is not None:
            future.set_exception(self._lost)
        elif (ended := self._ended.get(path)) is not None:
            future.set_result(ended)
        else:
            self._waiting.setdefault(path, []).append(future)
        return future

    def lose(self, error: BusUnavailable) -> None:
        """No ends are told from now on."""
        self._lost = error
        for future in (future for futures in self._waiting.values() for future in futures):
            if not future.done():
                future.set_exception(error)
        self._waiting.clear()
