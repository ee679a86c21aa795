"""Says on standard error what runs, so that nobody wonders during the long parts."""

import sys
import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Progress:
    """A line for each part, with the time since the beginning."""

    parts: int
    _part: int = 0
    _began_seconds: float = field(default_factory=time.monotonic)

    def part(self, what: str) -> None:
        """The next part begins."""
        self._part += 1
        self._say(f"[{self._part}/{self.parts}] {what}\n")

    def note(self, what: str) -> None:
        """Something within a part."""
        self._say(f"    {what}\n")

    def count_down(self, remaining_seconds: float) -> None:
        """A part that only lasts; the line is overwritten on a terminal and left out elsewhere."""
        if sys.stderr.isatty():
            self._say(f"    {remaining_seconds:3.0f} s to go\r")

    def _say(self, text: str) -> None:
        elapsed_seconds = time.monotonic() - self._began_seconds
        sys.stderr.write(f"{elapsed_seconds:4.0f} s  {text}")
        sys.stderr.flush()
