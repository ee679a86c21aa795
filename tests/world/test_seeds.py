"""Worlds of fixed seeds: those that once found a fault, and some more. `make simulate` plays new ones."""

import os
import subprocess
import sys

import pytest

from tests.world.play import play

FIXED = range(1, 61)
FOUND = {
    367148717: "a restart that the loss of the bus kept from being made was called done",
    456083352: "a switchboard that ended still waited for a group that was asked how it is",
    10: "what a full disk refused was not written when there was room again",
    14: "a config version that was told was not written, and fell",
    282: "a pairing that failed was on the disk all the same, as its folder could not be synced",
    106: "a backup that could not be written brought back a controller that was removed",
    1846: "a removed backup was there again after a power cut",
    46: "the lock file, after a power cut, named zeros as the process that has it",
    210: "a lock file that could not be read was no reason to say that it is locked",
    59: "when the clock was set, controllers were cut off for having been idle for so long",
    39: "a connection that was closed still waited to send events",
}
"""Seeds, and what they found."""


def played_well(seed: int) -> None:
    played = play(seed)
    assert not played.failure, "\n".join([*played.trace[-60:], played.failure])


@pytest.mark.parametrize("seed", FIXED)
def test_nothing_is_wrong_in_the_world_of_a_seed(seed: int) -> None:
    played_well(seed)


@pytest.mark.parametrize("seed", FOUND, ids=FOUND.values())
def test_what_a_seed_found_is_found_no_more(seed: int) -> None:
    played_well(seed)


@pytest.mark.parametrize("seed", [5, 6, 7], ids=["a world", "a disk", "HAP"])
def test_a_seed_is_the_same_world_in_every_process(seed: int) -> None:
    traces = {
        subprocess.run(
            [sys.executable, "-m", "tests.world", "--seed", str(seed)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        ).stdout.rpartition(" operations")[0]
        for hash_seed in ("1", "2", "3")
    }
    assert len(traces) == 1
