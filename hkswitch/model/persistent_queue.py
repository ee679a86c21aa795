"""A persistent queue: an immutable value that is cheap to derive new versions from. Pure: no I/O.

A tuple would be copied for each item that is added or removed, so n items would take O(n^2) time.
The versions of a queue share one list, and each version sees its own part of it.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar, overload

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class PersistentQueue(Sequence[T], Generic[T]):
    """A queue of items with increasing numbers; appending, finding, and removing the first are cheap."""

    _shared: list[T] = field(default_factory=list)
    _begin: int = 0
    _end: int = 0

    @classmethod
    def of(cls, *items: T) -> "PersistentQueue[T]":
        """Return a queue of these items."""
        return cls([*items], 0, len(items))

    def __len__(self) -> int:
        return self._end - self._begin

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...

    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return self._shared[self._begin : self._end][index]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._shared[self._begin + index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PersistentQueue) and [*self] == [*other]

    def __hash__(self) -> int:
        return hash((*self,))

    def added(self, item: T) -> "PersistentQueue[T]":
        """Return a queue with one more item at its end."""
        is_newest = self._end == len(self._shared)  # later items belong to another version
        is_mostly_gone = self._begin >= len(self)  # an empty one shares nothing with others
        if not is_newest or is_mostly_gone:
            return PersistentQueue.of(*self, item)
        self._shared.append(item)
        return PersistentQueue(self._shared, self._begin, self._end + 1)

    def find(self, number: int, number_of: Callable[[T], int]) -> int | None:
        """Return the index of the item with this number."""
        index = bisect_left(self, number, key=number_of)
        return index if index < len(self) and number_of(self[index]) == number else None

    def without(self, index: int) -> "PersistentQueue[T]":
        """Return a queue without the item at this index, which is usually the first."""
        if index == 0:
            return PersistentQueue(self._shared, self._begin + 1, self._end)
        return PersistentQueue.of(*(item for each, item in enumerate(self) if each != index))
