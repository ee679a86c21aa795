"""The random source of a world: every choice and every delay comes from its seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

_Choice = TypeVar("_Choice")

QUICK_SECONDS: Final = 0.0005
SLOW_SECONDS: Final = 0.05
"""The longest delay of a message on a busy machine."""


@dataclass(frozen=True)
class RandomSource:
    """A seeded source of choices and delays."""

    stream: random.Random

    @classmethod
    def of(cls, seed: int) -> "RandomSource":
        """Return the source of a seed."""
        return cls(random.Random(seed))

    def of_one_in(self, number: int) -> bool:
        """Return True once in `number` times on average."""
        return self.stream.randrange(number) == 0

    def seconds(self, least: float, most: float) -> float:
        """Return a duration between these."""
        return self.stream.uniform(least, most)

    def delay_seconds(self) -> float:
        """Return the delay of a message: mostly none, sometimes a long one."""
        kind = self.stream.randrange(10)
        if kind < 5:
            return 0.0
        return self.stream.uniform(0, QUICK_SECONDS if kind < 9 else SLOW_SECONDS)

    def cut_at(self, number: int) -> int:
        """Return where to split `number` bytes: mostly at their end."""
        return self.stream.randrange(number + 1) if self.of_one_in(6) else number

    def one_of(self, choices: Sequence[_Choice]) -> _Choice:
        """Return one of these."""
        return choices[self.stream.randrange(len(choices))]

    def weighed(self, choices: Sequence[tuple[int, Any]]) -> Any:  # noqa: ANN401 -- whatever they are
        """Return one of these by their weights."""
        left = self.stream.randrange(sum(weight for weight, _ in choices))
        for weight, choice in choices:
            left -= weight
            if left < 0:
                return choice
        raise AssertionError
