"""Whose request is done next: one of each controller in a turn of the event loop, in the order they came.

A controller may have many connections, and ask for much on each of them at once: others wait for one of its
requests only. Pure: it does no I/O.
"""

from collections import deque
from collections.abc import Callable, Hashable
from typing import Final, Protocol


class Connection(Protocol):
    """What is needed of a connection that waits."""

    def go_on(self) -> None:
        """It is its turn."""


class Turns:
    """Who had a turn, and who waits for one."""

    def __init__(self, soon: Callable[[Callable[[], None]], object]) -> None:
        """`soon` calls a function when all others had their turn, as a loop's `call_soon` does."""
        self._soon: Final = soon
        self._had: set[Hashable] = set()
        self._waiting: dict[Hashable, deque[Connection]] = {}

    def take(self, owner: Hashable) -> bool:
        """Whether it is the owner's turn now. If not, the connection has to wait."""
        if owner in self._had:
            return False
        if not self._had:
            self._soon(self._next)
        self._had.add(owner)
        return True

    def wait(self, owner: Hashable, connection: Connection) -> None:
        """Have a connection go on behind the owner's others that wait; the owner has just had its turn."""
        self._waiting.setdefault(owner, deque()).append(connection)

    def _next(self) -> None:
        """Begin the next turn with those who wait."""
        going_on = {owner: waiting.popleft() for owner, waiting in self._waiting.items()}
        self._waiting = {owner: waiting for owner, waiting in self._waiting.items() if waiting}
        self._had = set(going_on)
        for connection in going_on.values():
            self._soon(connection.go_on)
        if going_on:
            self._soon(self._next)
