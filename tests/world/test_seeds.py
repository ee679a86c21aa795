"""Worlds of fixed seeds: those that find planted faults, and some more. `make simulate` plays new ones.

A seed is another world after a change of this folder: then these rows have to be found anew.
"""

import json
import os
import subprocess
import sys
from functools import cache

import pytest

from tests.world.play import play
from tests.world.seed_run import SeedRun

FIXED = (*range(100, 109), 114)
"""One of each kind."""
PLANTED = {
    1: (
        "what is not known stays available",
        "a write's second is not counted",
        "requests of a helper that ends hang",
        "a silent helper is waited for",
        "torn lines are lost",
        "what a new helper told is forgotten with the old one",
        "a reload asks for nothing anew",
        "a new helper's states count before they are whole",
        "a loss of the bus keeps old states",
        "a change of the config is noticed with requests only",
    ),
    3: (
        "a group's tile does not follow its units after a request",
        "a silent helper is believed for 5 s more",
        "a result overtakes the states that it led to",
    ),
    4: (
        "an older request's end settles a newer one",
        "a write that was not accepted is called a success after the second",
        "a replaced request is called done",
        "the end of a job before its name is lost",
    ),
    5: (
        "a restart switch does not turn itself off",
        "a write of a group that goes is not answered",
        "a request that a lost helper began is a success",
    ),
    7: ("a group of another token is taken for the same",),
    8: ("who read an error is not told the value again",),
    10: (
        "hosts that stay are not told of a reload",
        "each host has the groups of all hosts",
        "a request carries the token of this config",
        "what a host reports is shown under its own id",
    ),
    11: ("a helper that is gone is believed for ever",),
    12: (
        "a stop of a program that exits with 143 is told as a failure",
        "an open trouble is forgotten with the daemon",
        "a sensor that has to close stays open",
        "the alert command runs at the end of a trouble",
    ),
    13: ("units that a group lost are kept, and told to none",),
    15: (
        "a check's verdict outlives a change of its units",
        "a verdict from before a change is believed",
    ),
    20: ("a lost bus is not told",),
    22: (
        "the result of an action on containers overtakes their states",
        "a connection starts an engine that is off",
        "an engine that hangs holds up the first report of all groups",
        "an engine that broke off its events is not followed again",
        "a request that was overruled is sent to an engine",
    ),
    26: (
        "a request carries the id of this config",
        "samples count for the id that the group has there",
        "the traits that a host tells are ignored",
        "what a host tells of a group is not learned anew",
        "a group that a host has lost asks for a reload",
        "a host that is away is tried again every four seconds",
    ),
    32: ("a switchboard's timers outlive it",),
    41: (
        "a superseded success is not doubted",
        "a check that never answers is never No Response",
    ),
    48: ("states of an older epoch are believed",),
    56: ("what another command said is kept",),
    60: (
        "a rule restarts its group two samples too late",
        "a rule's restart is not audited as one",
    ),
    74: (
        "a group that takes the place of another one keeps its id",
        "the states of a host that is cut off stay valid when ssh ends",
    ),
    85: ("a read overtakes a newer signal",),
    90: (
        "a host without groups stays connected",
        "a reload waits for a host that hangs",
    ),
    122: ("a reload does not try a refused key again",),
    369: ("changes before the match are not read",),
    399: ("a restart that was not made is called done",),
    425: ("a forgotten unit is not read anew",),
    487: ("an old helper's verdict outlives changes that the next one sees",),
    735: ("a helper acts after the daemon has released it",),
    863: ("two commands of a group run at once",),
}
"""Seeds, and the faults that were planted, one at a time, and found by them."""


TRACES = """
import json, sys
from tests.world.play import play
print(json.dumps([play(seed).trace for seed in map(int, sys.argv[1:])]))
"""

A_WORLD, CONTAINERS, A_DISK, HAP, TROUBLE, HOSTS = 5, 6, 2, 11, 108, 106


@cache
def played(seed: int) -> SeedRun:
    return play(seed)


def played_well(seed: int) -> None:
    seed_run = played(seed)
    assert not seed_run.failure, "\n".join([*seed_run.trace[-60:], seed_run.failure])


@pytest.mark.parametrize("seed", FIXED)
def test_nothing_is_wrong_in_the_world_of_a_seed(seed: int) -> None:
    played_well(seed)


@pytest.mark.parametrize("seed", PLANTED, ids=lambda seed: PLANTED[seed][0])
def test_what_a_seed_would_find_is_not_there(seed: int) -> None:
    played_well(seed)


def test_a_seed_is_the_same_world_in_every_process() -> None:
    seeds = (A_WORLD, CONTAINERS, A_DISK, HAP, TROUBLE, HOSTS)
    done = subprocess.run(
        [sys.executable, "-c", TRACES, *map(str, seeds)],
        env={**os.environ, "PYTHONHASHSEED": "1"},  # this process has another one, a random one
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    assert json.loads(done.stdout) == [played(seed).trace for seed in seeds]
