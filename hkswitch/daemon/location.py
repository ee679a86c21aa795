"""Where the bridge is in the network: goes where the config wants it, and leaves what that does not choose.

Knows what it waits for, and tries again. Says nothing to people, and knows no HomeKit.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from hkswitch.daemon.bridge import CannotServe, Taps
from hkswitch.daemon.signals import first_to_end
from hkswitch.model.config import BridgeConfig
from hkswitch.model.errors import Failure
from hkswitch.network import listeners
from hkswitch.network.addresses import TablesUnreadable
from hkswitch.network.choice import NoAddress
from hkswitch.network.endpoint import Endpoint

TRY_AGAIN_SECONDS: Final = 5.0


class Movable(Protocol):
    """What is brought somewhere: the bridge."""

    async def start(self, taps: Taps, place: Endpoint) -> None:
        """Go online there; raises `CannotServe`."""

    async def move(self, place: Endpoint) -> None:
        """Be online there instead; raises `CannotServe`, and has to be moved or to leave after that."""

    async def leave(self) -> None:
        """Be online nowhere, until it moves."""


class Changes(Protocol):
    """News of the network."""

    async def wait(self) -> None:
        """Return when something changed since the last return."""


class Find(Protocol):
    """How to find a place."""

    def __call__(self, bridge: BridgeConfig, before: Endpoint | None) -> Endpoint:
        """Where to serve; raises `NoAddress` while there is no such place.

        `before`: where the bridge is by the same choice, if it is anywhere.
        """


class Location:
    """Where a bridge is."""

    def __init__(
        self, front: Movable, taps: Taps, find: Find, say: Callable[[], None], wanted: BridgeConfig
    ) -> None:
        """`say` is called whenever `place` or `waits_for` is another one."""
        self.wanted = wanted
        self.place: Endpoint | None = None
        self._front = front
        self._taps = taps
        self._find = find
        self._say = say
        self._missing: Failure | None = None
        self._chosen: tuple[tuple[str, ...], tuple[str, ...]] | None = None
        """The choice by which it is there."""
        self._started = False
        self._settling = asyncio.Lock()
        self._unsettled = asyncio.Event()

    @property
    def waits_for(self) -> str:
        """What it waits for, and why; empty if it is everywhere where it should be."""
        if isinstance(self._missing, NoAddress):
            return f"waiting for {self._missing.wanted}: {self._missing}"
        if self._missing is not None:
            return f"trying again: {self._missing}"
        return f"waiting for {self.place.lack}" if self.place is not None and self.place.lack else ""

    async def follow(self, changes: Changes) -> None:
        """Be where the config wants the bridge, now and after each change of the network.

        Raises `CannotServe` if another program has the port of a bridge that never served.
        """
        while True:
            await self._settle()
            await first_to_end(changes.wait(), self._until_try_again())

    async def settle(self) -> None:
        """Go where the bridge should be now, as after a reload; `follow` raises what is wrong for good."""
        with suppress(CannotServe):
            await self._settle()

    async def _until_try_again(self) -> None:
        await self._unsettled.wait()
        await asyncio.sleep(TRY_AGAIN_SECONDS)

    async def _settle(self) -> None:
        async with self._settling:
            before, chosen = self.place, (self.wanted.interfaces, self.wanted.addresses)
            if chosen != self._chosen:
                before, self._chosen = None, chosen
            try:
                place = self._find(self.wanted, before)
            except TablesUnreadable as why:
                # No news of the kernel's follows when there are descriptors again.
                await self._miss(why, stays_at=before, try_again=True)
            except NoAddress as why:
                await self._miss(why, stays_at=None, try_again=False)
            else:
                await self._go(place)

    async def _go(self, place: Endpoint) -> None:
        try:
            if self._started:
                await self._front.move(place)  # also if it is there: a move may have been broken off
            else:
                await self._front.start(self._taps, place)
                self._started = True
        except CannotServe as failure:
            _name_holder(failure)
            if failure.in_use and not self._started:
                self._missing = failure
                self._unsettled.set()
                raise
            kept = None if self.place is None else self.place.within(place)
            await self._miss(failure, stays_at=kept, try_again=True)
        else:
            self._unsettled.clear()
            self._note(place, None)

    async def _miss(self, why: Failure, *, stays_at: Endpoint | None, try_again: bool) -> None:
        """Be at most at `stays_at`, which is a part of where it is: what is not chosen is left at once."""
        (self._unsettled.set if try_again else self._unsettled.clear)()
        self._note(stays_at, why)
        if self._started and stays_at is not None:
            with suppress(CannotServe):
                await self._front.move(stays_at)
                return
            self._note(None, why)
        if self._started:
            await self._front.leave()

    def _note(self, place: Endpoint | None, missing: Failure | None) -> None:
        before = self.place, self.waits_for
        self.place, self._missing = place, missing
        if before != (self.place, self.waits_for):
            self._say()


def _name_holder(failure: CannotServe) -> None:
    """Say who has the port, if that is what is wrong and can be known."""
    if failure.in_use and (holder := listeners.holder(failure.port, failure.place.addresses)):
        failure.why = f"{holder} has it"
