"""kill -9 at a random moment of a pairing, an unpairing, a reload or a start.

The next start has either the old or the new state, and the controller still works.
"""

import asyncio
import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import pytest
import pytest_asyncio
from aiohomekit.exceptions import HomeKitException

from hkswitch.control import PRIVILEGED_NAME, SOCKET_NAME, socket_of
from hkswitch.control.client import ask
from hkswitch.hap import state_file
from hkswitch.hap.state_file import BACKUP_NAME, FILE_NAME, LOCK_NAME, Stored
from hkswitch.model.group import aid_of
from hkswitch.protocol.control import ControlRequest, Operation
from tests.support.controller import Controller
from tests.support.killable_bridge import ADDRESS, KillableBridge

SEED = os.environ.get("KILL_SEED") or str(random.SystemRandom().randrange(10**9))
"""Set it to repeat the operations; the moments also depend on the machine's speed."""

KILLS, KILLS_LONG = 12, 500
ROUND_WITHIN_SECONDS = 30
NOTHING_MORE_SECONDS = 0.3
"""Output of a dead bridge arrives sooner; the controller would try to connect forever."""

OPERATIONS = {"pairing": 6, "unpairing": 5, "reload": 4, "start": 5}
"""How often each is killed, relatively."""

FILE_OPERATIONS = {"pairing": 16, "unpairing": 16, "reload": 16, "start": 38}
"""The folder is opened, the old file is opened and read, a file is made, opened, synced and renamed, and the
folder is synced, and so for the backup.

A start also takes the lock and reads, and may write twice.
"""

FILES = {FILE_NAME, BACKUP_NAME, LOCK_NAME, SOCKET_NAME, PRIVILEGED_NAME}
GROUPS = tuple(map(frozenset, (["web"], ["web", "files"], ["web", "mail"], ["web", "files", "mail"])))


class Paired(Controller):
    """A controller that accepts the bridge's answer that it is already paired."""

    async def look(self) -> list[dict[str, Any]]:
        return []


@dataclass(frozen=True)
class Moment:
    """When to kill: before a file operation (not 0), or after a time."""

    file_operation: int
    after_seconds: float

    def __str__(self) -> str:
        if self.file_operation:
            return f"before file operation {self.file_operation}"
        return f"after {self.after_seconds * 1000:.1f} ms"


@dataclass
class House:
    """A bridge that is killed repeatedly, and the controller that last paired with it."""

    bridge: KillableBridge
    random: random.Random
    controller: Controller | None = None
    groups: frozenset[str] = GROUPS[0]
    versions: dict[int, AbstractSet[int]] = field(default_factory=dict)
    """The accessories, by AID, of each config version."""

    usual_seconds: dict[str, float] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)

    async def move_in(self) -> None:
        """Do everything once without a kill, to measure how long it takes."""
        self.bridge.configure(self.groups)
        await self.bridge.start()
        await self.bridge.served()
        for operation in OPERATIONS:
            await self._prepare(operation)
            if operation == "start":
                await self.bridge.start()
            begin_seconds = time.perf_counter()
            await self._do(operation)
            self.usual_seconds[operation] = time.perf_counter() - begin_seconds
        await self._live()

    async def kill_once(self) -> None:
        """Kill once, and check the invariants."""
        operation, moment = self._plan()
        try:
            async with asyncio.timeout(ROUND_WITHIN_SECONDS):
                await self._prepare(operation)
                before = self._stored()
                told = await self._killed_during(operation, moment)
                self._is_old_or_new(operation, before, told=told)
                await self._start_again()
                await self._live()
        except BaseException as error:
            error.add_note(f"killed {moment} of a {operation}; KILL_SEED={SEED}\n{self.bridge.log[-2000:]}")
            raise

    async def leave(self) -> None:
        if self.controller is not None:
            await self.controller.close()

    def _plan(self) -> tuple[str, Moment]:
        operation = self.random.choices(list(OPERATIONS), list(OPERATIONS.values()))[0]
        aimed, part = self.random.random() < 0.5, self.random.uniform(0, 1.2)
        file_operation = self.random.randint(1, FILE_OPERATIONS[operation])
        return operation, Moment(file_operation if aimed else 0, part * self.usual_seconds[operation])

    # What is killed

    async def _prepare(self, operation: str) -> None:
        if operation == "pairing" and self.controller is not None:
            await self._unpair()
            await self.controller.close()
            self.controller = None
        if operation in {"reload", "start"}:
            self._configure(self.random.choice([groups for groups in GROUPS if groups != self.groups]))
        if operation == "start":
            await self.bridge.killed()

    async def _do(self, operation: str) -> None:
        """Return when the controller was told success, or the bridge said that it serves."""
        match operation:
            case "pairing":
                await self._pair()
            case "unpairing":
                await self._unpair()
            case "reload":
                self.bridge.reload()
                await self.bridge.served_or_ended()
            case "start":
                await self.bridge.served_or_ended()

    async def _pair(self) -> None:
        code = self._stored().setup.code
        self.controller = await Paired.pair(ADDRESS, self.bridge.port, code)

    async def _unpair(self) -> None:
        assert self.controller is not None
        await self.controller.unpair()

    async def _killed_during(self, operation: str, moment: Moment) -> bool:
        """Whether success was said before."""
        if operation == "start":
            await self.bridge.start(dies_at=moment.file_operation)
        elif moment.file_operation:
            self.bridge.doom(moment.file_operation)
        doing = asyncio.create_task(self._do(operation))
        if moment.file_operation:
            doing.add_done_callback(lambda _: self.bridge.kill())  # if it came through
        else:
            asyncio.get_running_loop().call_later(moment.after_seconds, self.bridge.kill)
        await self.bridge.ended.wait()
        return await _told(doing)

    # What must be true

    def _is_old_or_new(self, operation: str, before: Stored, *, told: bool) -> None:
        """Check that the state on disk is the old or the new one, and contains every confirmed change."""
        after = self._stored()
        assert _identity(after) == _identity(before)
        old, new = _controllers(before), _controllers(after)
        match operation:
            case "pairing" if told:
                assert self.controller is not None
                assert new == {_id(self.controller)}
            case "pairing":
                assert len(new) <= 1
            case "unpairing":
                assert new == set() or (new == old and not told)
            case _:
                assert new == old
        self._versions_are_right(operation, before, after)

    def _versions_are_right(self, operation: str, before: Stored, after: Stored) -> None:
        """A config version (c#) is told after it was written, and grows when the accessories are others."""
        version = _version(after)
        assert version >= self.bridge.config_version
        if version != _version(before):
            assert operation in {"reload", "start"}
            self._versioned(version, _aids(self.groups))
        self.outcomes[f"{operation}: {'old' if _facts(before) == _facts(after) else 'new'}"] += 1

    def _versioned(self, version: int, aids: AbstractSet[int]) -> None:
        assert version >= max(self.versions, default=0), "the config version went back"
        assert self.versions.setdefault(version, aids) == aids, (
            "other accessories with the same config version"
        )

    async def _start_again(self) -> None:
        self.outcomes["leftovers"] += bool(self._files() - FILES)
        if self.random.random() < 0.2:
            self._configure(self.random.choice(GROUPS))  # the file is edited again before
        await self.bridge.start()
        await self.bridge.served()
        assert self._files() == FILES

    async def _live(self) -> None:
        """A controller that is paired reads and writes, and one that is not can pair."""
        paired = _controllers(self._stored())
        if self.controller is None or _id(self.controller) not in paired:
            await self._pair_anew(paired)
        assert self.controller is not None
        await self.controller.close()
        self.controller = controller = self.controller.again()
        aids = {accessory["aid"] for accessory in await controller.look()} - {1}
        assert aids == _aids(self.groups)
        self._versioned(self.bridge.config_version, aids)
        on = not await controller.read("Web")
        assert await controller.write("Web", on=on) == 0
        assert await controller.read("Web") is on

    async def _pair_anew(self, paired: AbstractSet[str]) -> None:
        if self.controller is not None:
            await self.controller.close()
            await _is_refused(self.controller)
        if paired:  # by a controller that was not told so: only the host can help
            await asyncio.to_thread(
                ask, socket_of(self.bridge.state_folder), ControlRequest(Operation.UNPAIR)
            )
        await self._pair()

    def _configure(self, groups: frozenset[str]) -> None:
        self.groups = groups
        self.bridge.configure(groups)

    def _files(self) -> set[str]:
        return {file.name for file in self.bridge.state_folder.iterdir()}

    def _stored(self) -> Stored:
        """Return the contents of the file, not of its backup, which must also be sound."""
        assert state_file._read(self.bridge.state_folder / BACKUP_NAME) is not None
        stored = state_file._read(self.bridge.state_folder / FILE_NAME)
        assert stored is not None
        return stored


async def _told(doing: asyncio.Task[None]) -> bool:
    """Whether the controller was told success by a bridge that is dead."""
    await asyncio.wait([doing], timeout=NOTHING_MORE_SECONDS)
    doing.cancel()
    try:
        await doing
    except (HomeKitException, asyncio.CancelledError):
        return False
    return True


async def _is_refused(controller: Controller) -> None:
    stranger = controller.again()
    with pytest.raises(HomeKitException):
        await stranger.connect_once()
    await stranger.close()


def _identity(stored: Stored) -> tuple[object, ...]:
    return stored.setup, stored.device_id, stored.accessory["private_key"], stored.accessory["public_key"]


def _controllers(stored: Stored) -> set[str]:
    return {controller.id for controller in stored.controllers}


def _version(stored: Stored) -> int:
    return int(stored.accessory["config_version"])


def _facts(stored: Stored) -> tuple[object, ...]:
    return _controllers(stored), _version(stored)


def _id(controller: Controller) -> str:
    return str(controller.pairing.pairing_data["iOSPairingId"]).upper()


def _aids(groups: AbstractSet[str]) -> set[int]:
    return {aid_of(group) for group in groups}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridges(
    tmp_path_factory: pytest.TempPathFactory, long: bool
) -> AsyncIterator[list[KillableBridge]]:
    """Bridges to kill concurrently: they wait more than they compute."""
    folder = tmp_path_factory.mktemp("kill")
    async with AsyncExitStack() as stack:
        own = [KillableBridge.kept(folder / str(number)) for number in range(3 if long else 2)]
        yield [await stack.enter_async_context(bridge) for bridge in own]


async def test_a_first_start_that_is_killed_makes_one_identity(
    bridges: list[KillableBridge], long: bool
) -> None:
    bridge = bridges[0]
    bridge.configure(["web"])
    for operation in range(1, FILE_OPERATIONS["start"], 1 if long else 6):
        await bridge.start(dies_at=operation)
        await bridge.served_or_ended()
        await bridge.killed()
        made = state_file.read(bridge.state_folder)
        await bridge.start()
        await bridge.served()
        stored = state_file.read(bridge.state_folder)
        assert stored is not None
        assert made is None or _identity(made) == _identity(stored)
        assert {file.name for file in bridge.state_folder.iterdir()} == FILES, operation
        await bridge.killed()
        shutil.rmtree(bridge.state_folder)


async def killed(bridge: KillableBridge, kills: int, seed: str) -> Counter[str]:
    """Return how often its state was old and new."""
    house = House(bridge, random.Random(seed))
    try:
        await house.move_in()
        for _ in range(kills):
            await house.kill_once()
    finally:
        await house.leave()
    for sign in ("Traceback", "is damaged", "is gone"):
        assert sign not in bridge.log
    return house.outcomes


# What aiohomekit does when it is told to close while it connects.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
async def test_a_bridge_that_is_killed_has_the_old_or_the_new_state_and_works(
    bridges: list[KillableBridge], long: bool
) -> None:
    kills = ceil((KILLS_LONG if long else KILLS) / len(bridges))
    begin_seconds = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(killed(bridge, kills, f"{SEED}/{number}"))
            for number, bridge in enumerate(bridges)
        ]
    outcomes = sum((task.result() for task in tasks), Counter[str]())
    each_ms = (time.perf_counter() - begin_seconds) / kills / len(bridges) * 1000
    sys.stdout.write(f"KILL_SEED={SEED}: {each_ms:.0f} ms a kill, {sorted(outcomes.items())}\n")
    if long:
        both = {f"{operation}: {state}" for operation in OPERATIONS for state in ("old", "new")}
        assert both <= set(outcomes)
