"""What the seed decides: every choice and every delay of a world comes from here."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

_Choice = TypeVar("_Choice")

QUICK_SECONDS: Final = 0.0005
SLOW_SECONDS: Final = 0.05
"""Of a message on a busy machine."""


@dataclass(frozen=True)
class Chance:
    """A stream of choices."""

    stream: random.Random

    @classmethod
    def of(cls, seed: int) -> "Chance":
        """The choices of a seed."""
        return cls(random.Random(seed))

    def of_one_in(self, number: int) -> bool:
        """True once in so many times."""
        return self.stream.randrange(number) == 0

    def seconds(self, least: float, most: float) -> float:
        """Some time."""
        return self.stream.uniform(least, most)

    def delay_seconds(self) -> float:
        """How long a message takes: mostly no time, sometimes long."""
        kind = self.stream.randrange(10)
        if kind < 5:
            return 0.0
        return self.stream.uniform(0, QUICK_SECONDS if kind < 9 else SLOW_SECONDS)

    def cut_at(self, number: int) -> int:
        """Where to cut so many bytes: mostly nowhere."""
        return self.stream.randrange(number + 1) if self.of_one_in(6) else number

    def one_of(self, choices: Sequence[_Choice]) -> _Choice:
        """One of these."""
        return choices[self.stream.randrange(len(choices))]

    def weighed(self, choices: Sequence[tuple[int, Any]]) -> Any:  # noqa: ANN401 -- whatever they are
        """One of these, by their weights."""
        left = self.stream.randrange(sum(weight for weight, _ in choices))
        for weight, choice in choices:
            left -= weight
            if left < 0:
                return choice
        raise AssertionError
