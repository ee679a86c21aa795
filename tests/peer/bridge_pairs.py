"""Runs all scenarios with both implementations, several at once: each pair has its own bridges."""

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple

from tests.peer.compare import Found, Transcript, compare, unexplained
from tests.peer.differences import DIFFERENCES
from tests.peer.peers import Ours, Reference, ours, reference
from tests.peer.scenario import Scenario
from tests.peer.scenario_run import run_scenario

BRIDGE_PAIRS: Final = 3
TRIES: Final = 3
"""An unexplained difference must occur each time: on a busy machine, responses can be late."""


class Comparison(NamedTuple):
    """The transcripts of both implementations in a scenario."""

    name: str
    ours: Transcript
    theirs: Transcript

    @property
    def differences(self) -> list[Found]:
        return list(compare(self.name, self.ours, self.theirs))


class BridgePair(NamedTuple):
    """The bridges of each implementation."""

    ours: Ours
    reference: Reference

    async def run_scenario(self, scenario: Scenario) -> Comparison:
        for tries in count(1):
            said = await asyncio.gather(
                run_scenario(scenario, self.ours), run_scenario(scenario, self.reference)
            )
            played = Comparison(scenario.name, *said)
            if tries == TRIES or not unexplained(played.differences, DIFFERENCES):
                return played
        raise AssertionError


async def run_all(scenarios: Iterable[Scenario], folder: Path) -> list[Comparison]:
    """Run scenarios, and return the transcripts in the same order."""
    waiting = list(enumerate(scenarios))
    waiting.reverse()
    played: dict[int, Comparison] = {}

    async def run(pair_of_bridges: BridgePair) -> None:
        while waiting:
            number, scenario = waiting.pop()
            played[number] = await pair_of_bridges.run_scenario(scenario)

    async with AsyncExitStack() as stack:
        pairs = []
        for number in range(BRIDGE_PAIRS):
            folders = [folder / f"{who}{number}" for who in ("ours", "theirs")]
            for each in folders:
                each.mkdir()
            own = await stack.enter_async_context(ours(folders[0]))
            pairs.append(BridgePair(own, await stack.enter_async_context(reference(folders[1], own))))
        await asyncio.gather(*map(run, pairs))
    return [played[number] for number in sorted(played)]
