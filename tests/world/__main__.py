"""`make simulate`: runs new seeds for a given time, and says how to repeat one that failed."""

import argparse
import multiprocessing
import os
import random
import signal
import sys
import time
from contextlib import suppress
from multiprocessing.queues import SimpleQueue
from typing import Final

from tests.world.play import play
from tests.world.seed_run import SeedRun

Found = SimpleQueue[SeedRun]

TRACE_LINES: Final = 80
"""How much of the end of a trace is printed, unless one seed was requested."""

LINE_LENGTH: Final = 150
"""The length of a failure in the list at the end."""

SEED_WITHIN_SECONDS: Final = 60
"""Much longer than any world takes."""


def main() -> int:
    """Run the seeds and print the results."""
    parser = argparse.ArgumentParser(prog="python -m tests.world", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for so many seconds (60)")
    parser.add_argument("--seed", type=int, help="this one only, with the whole trace")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="side by side")
    options = parser.parse_args()
    if options.seed is not None:
        return _one(options.seed)
    return _many(options.seconds, options.processes)


def _one(seed: int) -> int:
    began_seconds = time.monotonic()
    seed_run = play(seed)
    sys.stdout.write("\n".join(seed_run.trace) + "\n")
    _say(seed_run, time.monotonic() - began_seconds)
    return 1 if seed_run.failure else 0


def _many(seconds: float, processes: int) -> int:
    began_seconds = time.monotonic()
    first = random.SystemRandom().randrange(10**9)
    sys.stdout.write(f"from seed {first} on, for {seconds:g} s\n")
    found: Found = multiprocessing.SimpleQueue()
    until_seconds = began_seconds + seconds
    players = [
        multiprocessing.Process(
            target=_play_each, args=(first + number, processes, until_seconds, found), daemon=True
        )
        for number in range(processes)
    ]
    for player in players:
        player.start()
    count, bad = 0, dict[int, str]()
    with suppress(KeyboardInterrupt):
        while any(player.is_alive() for player in players) or not found.empty():
            if found.empty():
                time.sleep(0.05)
                continue
            seed_run = found.get()
            count += 1
            if seed_run.failure:
                bad[seed_run.seed] = seed_run.failure
                _explain(seed_run)
    for player in players:
        player.kill()
        player.join()
    took_seconds = time.monotonic() - began_seconds
    sys.stdout.write(f"{count} seeds in {took_seconds:.0f} s, {count / took_seconds:.1f} a second; ")
    sys.stdout.write(f"{len(bad)} failed\n")
    for seed, failure in bad.items():
        sys.stdout.write(f"make simulate SEED={seed}: {failure.strip().splitlines()[-1][:LINE_LENGTH]}\n")
    return 1 if bad or not count or any(player.exitcode == 1 for player in players) else 0


def _play_each(first: int, stride: int, until_seconds: float, found: Found) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process ends it
    signal.signal(signal.SIGALRM, _hangs)
    seed = first
    while time.monotonic() < until_seconds:
        signal.alarm(SEED_WITHIN_SECONDS)
        seed_run = play(seed)
        signal.alarm(0)
        found.put(seed_run if seed_run.failure else SeedRun(seed, steps=seed_run.steps))
        seed += stride


def _hangs(*_: object) -> None:
    raise TimeoutError(f"the world did not end within {SEED_WITHIN_SECONDS} s of real time")


def _explain(seed_run: SeedRun) -> None:
    before = len(seed_run.trace) - TRACE_LINES
    cut = [f"... {before} lines before these: make simulate SEED={seed_run.seed}"] if before > 0 else []
    sys.stdout.write("\n".join(("", *cut, *seed_run.trace[-TRACE_LINES:], "")))
    _say(seed_run, None)


def _say(seed_run: SeedRun, took_seconds: float | None) -> None:
    took = "" if took_seconds is None else f" in {took_seconds:.2f} s"
    came = seed_run.failure.rstrip() or "all well"
    sys.stdout.write(f"seed {seed_run.seed}, {seed_run.steps} steps{took}: {came}\n")
    if seed_run.failure:
        sys.stdout.write(f"again: make simulate SEED={seed_run.seed}\n")


if __name__ == "__main__":
    sys.exit(main())
