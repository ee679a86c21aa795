"""The order of requests that wait for a helper: the oldest is sent first. Knows nothing about helpers."""

from collections.abc import Callable

from hkswitch.backend.wakeups import Wakeups


class RequestTurns:
    """The requests that wait, oldest first."""

    def __init__(self, news: Wakeups, is_ready: Callable[[], bool], within_seconds: float) -> None:
        """`is_ready` tells whether requests can be sent; they wait for that, but not longer."""
        self._news = news
        self._is_ready = is_ready
        self._within_seconds = within_seconds
        self._waiting: list[int] = []

    async def turn_of(self, request_id: int) -> None:
        """Wait, up to the limit, until requests can be sent and all older ones have been."""

        def is_next() -> bool:
            return self._waiting[0] == request_id

        self._waiting.append(request_id)
        try:
            if not await self._news.until(lambda: self._is_ready() and is_next(), self._within_seconds):
                await self._news.until(
                    is_next, self._within_seconds
                )  # older requests give up at the same time
        finally:
            self._waiting.remove(request_id)
            self._news.wake()
