"""A program that runs the code in its first argument, as `python -c` does: forks.py starts it fast."""

import sys
from pathlib import Path
from typing import Final

SCRIPT: Final = Path(__file__)


def script(code: str, *arguments: str) -> list[str]:
    """Return the argv of a process that runs this code."""
    return [sys.executable, str(SCRIPT), code, *arguments]


if __name__ == "__main__":
    sys.path[0] = ""  # the current folder, as with -c: tests/support is no place to import from
    _, code_of_this_run, *sys.argv[1:] = sys.argv
    exec(code_of_this_run, {"__name__": "__main__"})
