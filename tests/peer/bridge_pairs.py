"""Plays all conversations with both bridges, several at once: each lane has bridges of its own."""

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple

from tests.peer.compare import Found, Lines, compare, unexplained
from tests.peer.conversation import Conversation
from tests.peer.differences import DIFFERENCES
from tests.peer.peers import Ours, Reference, ours, reference
from tests.peer.player import play

LANES: Final = 3
TRIES: Final = 3
"""A difference that no entry explains must be there each time: a machine that is busy makes answers late."""


class Played(NamedTuple):
    """What both said in a conversation."""

    name: str
    ours: Lines
    theirs: Lines

    @property
    def differences(self) -> list[Found]:
        return list(compare(self.name, self.ours, self.theirs))


class Lane(NamedTuple):
    """A bridge of each."""

    ours: Ours
    reference: Reference

    async def play(self, conversation: Conversation) -> Played:
        for tries in count(1):
            said = await asyncio.gather(play(conversation, self.ours), play(conversation, self.reference))
            played = Played(conversation.name, *said)
            if tries == TRIES or not unexplained(played.differences, DIFFERENCES):
                return played
        raise AssertionError


async def play_all(conversations: Iterable[Conversation], folder: Path) -> list[Played]:
    """What was said in each, in their order."""
    waiting = list(enumerate(conversations))
    waiting.reverse()
    played: dict[int, Played] = {}

    async def run(lane: Lane) -> None:
        while waiting:
            number, conversation = waiting.pop()
            played[number] = await lane.play(conversation)

    async with AsyncExitStack() as stack:
        lanes = []
        for number in range(LANES):
            folders = [folder / f"{who}{number}" for who in ("ours", "theirs")]
            for each in folders:
                each.mkdir()
            own = await stack.enter_async_context(ours(folders[0]))
            lanes.append(Lane(own, await stack.enter_async_context(reference(folders[1], own))))
        await asyncio.gather(*map(run, lanes))
    return [played[number] for number in sorted(played)]
