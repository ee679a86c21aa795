"""Run times of whole programs. Runs on the host, and prints the milliseconds of each as JSON."""

import json
import subprocess
import sys
import time

PYTHON = "/usr/lib/hkswitch/bin/python3"
BEGIN = "from hkswitch import openssl; openssl.leave_out();"
PROGRAMS = {
    "python3 -c pass": ("python3", "-c", "pass"),
    "hkswitch status": ("hkswitch", "status"),
    "hkswitch status --json": ("hkswitch", "status", "--json"),
    "imports of the daemon": (PYTHON, "-I", "-c", f"{BEGIN} import hkswitch.daemon.service"),
    "imports of the helper": (PYTHON, "-I", "-c", f"{BEGIN} import hkswitch.serviceswitch.main"),
}


def took_ms(command: tuple[str, ...]) -> float:
    """Run a program to its successful exit, and return the time."""
    began_seconds = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return (time.monotonic() - began_seconds) * 1000


def main() -> None:
    """Run the programs in turn, so that all see the same load."""
    rounds = int(sys.argv[1])
    times_ms: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(rounds):
        for name, command in PROGRAMS.items():
            times_ms[name].append(took_ms(command))
    json.dump(times_ms, sys.stdout)


if __name__ == "__main__":
    main()
