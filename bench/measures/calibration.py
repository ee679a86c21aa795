"""The speed of the machine. Runs on the host, and prints the milliseconds of each measurement as JSON."""

import json
import subprocess
import sys
import time

ADDITIONS = 2_000_000
"""Of the loop, which take some 50 ms."""


def loop_ms() -> float:
    """Run a loop that needs nothing but a processor, and return its time."""
    began_seconds = time.monotonic()
    total = 0
    for number in range(ADDITIONS):
        total += number
    taken_ms = (time.monotonic() - began_seconds) * 1000
    assert total == ADDITIONS * (ADDITIONS - 1) // 2
    return taken_ms


def python_ms() -> float:
    """Start and end Python, and return the time."""
    began_seconds = time.monotonic()
    subprocess.run(("python3", "-c", "pass"), check=True)
    return (time.monotonic() - began_seconds) * 1000


def main() -> None:
    """Measure both in turn."""
    times_ms: dict[str, list[float]] = {"python3 -c pass": [], "loop": []}
    for _ in range(int(sys.argv[1])):
        times_ms["python3 -c pass"].append(python_ms())
        times_ms["loop"].append(loop_ms())
    json.dump(times_ms, sys.stdout)


if __name__ == "__main__":
    main()
