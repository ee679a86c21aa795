"""Worlds of fixed seeds: those that once found a fault, and some more. `make simulate` plays new ones."""

import os
import subprocess
import sys

import pytest

from tests.world.play import play

FIXED = range(1, 25)
FOUND = {
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

PLANTED = {
    1000: (
        "an older request's end settles a newer one",
        "a write that was not accepted is called a success after the second",
        "what is not known stays available",
        "a group's tile does not follow its units after a request",
        "a write of a group that goes is not answered",
        "a write's second is not counted",
        "requests of a helper that ends hang",
        "torn lines are lost",
        "what a new helper told is forgotten with the old one",
        "a request that a lost helper began is a success",
        "a reload asks for nothing anew",
        "a change of the config is noticed with requests only",
        "after the bus is back nothing is watched",
    ),
    1001: ("a group of another token is taken for the same",),
    1002: (
        "the state file is not synced",
        "memory keeps a pairing that could not be written",
    ),
    1003: (
        "a restart switch does not turn itself off",
        "a silent helper is waited for",
        "units that a group lost are kept, and told to none",
        "the end of a job before its name is lost",
    ),
    1005: (
        "a loss of the bus keeps old states",
        "a lost bus is not told",
        "a lost bus is not noticed by who reads",
    ),
    1007: ("a new helper's states count before they are whole",),
    1008: ("who read an error is not told the value again",),
    1016: ("a start is done when its job is",),
    1021: ("a reload that root refuses is applied",),
    1023: ("a result overtakes the states that it led to",),
    1039: ("a replaced request is called done",),
    1071: ("a helper that is gone is believed for ever",),
    1080: ("a switchboard's timers outlive it",),
    1093: (
        "a superseded success is not doubted",
        "a read overtakes a newer signal",
    ),
    1104: ("a check's verdict outlives a change of its units",),
    1113: ("a probe goes on with the command that it had",),
}
"""Seeds, and the faults that were planted, one at a time, and found by them."""


def played_well(seed: int) -> None:
    played = play(seed)
    assert not played.failure, "\n".join([*played.trace[-60:], played.failure])


@pytest.mark.parametrize("seed", FIXED)
def test_nothing_is_wrong_in_the_world_of_a_seed(seed: int) -> None:
    played_well(seed)


@pytest.mark.parametrize("seed", FOUND, ids=FOUND.values())
def test_what_a_seed_found_is_found_no_more(seed: int) -> None:
    played_well(seed)


@pytest.mark.parametrize("seed", PLANTED, ids=lambda seed: PLANTED[seed][0])
def test_what_a_seed_would_find_is_not_there(seed: int) -> None:
    played_well(seed)


TRACES = """
import sys
from tests.world.play import play
for seed in map(int, sys.argv[1:]):
    print("\\n".join(play(seed).trace))
"""


def test_a_seed_is_the_same_world_in_every_process() -> None:
    a_world, a_disk, hap = "5", "6", "11"
    traces = {
        subprocess.run(
            [sys.executable, "-c", TRACES, a_world, a_disk, hap],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(traces) == 1
