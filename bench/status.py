"""How long `hkswitch status` takes as a process, beside a Python that does nothing.

A demo is served on loopback meanwhile. The programs take turns, so that both see the same machine.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROUNDS: Final = 21
PORT: Final = 51899
HKSWITCH: Final = str(Path(sys.executable).with_name("hkswitch"))


@contextmanager
def demo(state_folder: str) -> Iterator[None]:
    """A bridge that serves until the end of the block."""
    options = ("--address", "127.0.0.1", "--port", str(PORT), "--state-dir", state_folder)
    with subprocess.Popen((HKSWITCH, "demo", *options), stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        serving.stdout.readline()
        yield
        serving.terminate()


def took_ms(command: tuple[str, ...]) -> float:
    """How long a program took."""
    started_seconds = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - started_seconds) * 1000


def main() -> None:
    """Measure, and print a line for each program."""
    with tempfile.TemporaryDirectory() as folder, demo(folder):
        at_demo = ("--state-dir", folder)
        programs = {
            "python -c pass": (sys.executable, "-c", "pass"),
            "hkswitch status": (HKSWITCH, "status", *at_demo),
            "hkswitch status --json": (HKSWITCH, "status", "--json", *at_demo),
            "hkswitch stop web": (HKSWITCH, "stop", "web", *at_demo),
        }
        times_ms: dict[str, list[float]] = {name: [] for name in programs}
        for _ in range(ROUNDS):
            for name, command in programs.items():
                times_ms[name].append(took_ms(command))
    for name, taken in times_ms.items():
        last_ms = statistics.quantiles(taken, n=20)[-1]
        median_ms = statistics.median(taken)
        sys.stdout.write(f"{name:24} median {median_ms:4.0f} ms, 95th percentile {last_ms:4.0f} ms\n")


if __name__ == "__main__":
    main()
