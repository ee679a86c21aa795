"""Reports progress on standard error."""

import sys
import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Progress:
    """Prints a line for each part, with the elapsed time."""

    parts: int
    _part: int = 0
    _began_seconds: float = field(default_factory=time.monotonic)

    def part(self, what: str) -> None:
        """Begin the next part."""
        self._part += 1
        self._print(f"[{self._part}/{self.parts}] {what}\n")

    def note(self, what: str) -> None:
        """Print a detail of the current part."""
        self._print(f"    {what}\n")

    def count_down(self, remaining_seconds: float) -> None:
        """Show the remaining time on a terminal, on a line that is overwritten."""
        if sys.stderr.isatty():
            self._print(f"    {remaining_seconds:3.0f} s left\r")

    def _print(self, text: str) -> None:
        elapsed_seconds = time.monotonic() - self._began_seconds
        sys.stderr.write(f"{elapsed_seconds:4.0f} s  {text}")
        sys.stderr.flush()
