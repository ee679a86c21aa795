"""What waits, in the order in which it came: a value that never changes, and the next one is made cheaply.

A tuple would be copied whole for each thing that comes or goes, so that many that wait take the square of
their number. Versions share a list, of which each sees its own part. Pure: no I/O.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar, overload

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Waiting(Sequence[T], Generic[T]):
    """Things with numbers that grow. To add behind, to take the first and to find one is cheap."""

    _shared: list[T] = field(default_factory=list)
    _begin: int = 0
    _end: int = 0

    @classmethod
    def of(cls, *items: T) -> "Waiting[T]":
        """These."""
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
        return isinstance(other, Waiting) and [*self] == [*other]

    def __hash__(self) -> int:
        return hash((*self,))

    def added(self, item: T) -> "Waiting[T]":
        """With one more, which came last."""
        is_newest = self._end == len(self._shared)  # what follows in the list is another version's
        is_mostly_gone = self._begin > len(self)
        if not is_newest or is_mostly_gone:
            return Waiting.of(*self, item)
        self._shared.append(item)
        return Waiting(self._shared, self._begin, self._end + 1)

    def find(self, number: int, number_of: Callable[[T], int]) -> int | None:
        """The place of the one with this number."""
        index = bisect_left(self, number, key=number_of)
        return index if index < len(self) and number_of(self[index]) == number else None

    def without(self, index: int) -> "Waiting[T]":
        """Without the one at this place, which is mostly the first."""
        if index == 0:
            return Waiting(self._shared, self._begin + 1, self._end)
        return Waiting.of(*(item for place, item in enumerate(self) if place != index))
