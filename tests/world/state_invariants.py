"""Invariants of a bridge's state, whatever happens to its disk and its process."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

from hkswitch.daemon.bridge import Bridge
from hkswitch.hap.state_format import BACKUP_NAME, FILE_NAME, StateDamaged, Stored, parse
from hkswitch.model.errors import Failure
from tests.support.accessory_database import Ids, database, meanings
from tests.world.pairing import Controller
from tests.world.seed_run import Violation

if TYPE_CHECKING:
    from tests.world.state_world import StateWorld

WRITTEN_WITHIN_SECONDS: Final = 61.0
"""A daemon that could not write tries again every minute."""


class Paired(NamedTuple):
    """What the state file has of a controller."""

    public_key: bytes
    admin: bool


Pairings = dict[UUID, Paired]


def pairing_of(controller: Controller, *, admin: bool) -> Pairings:
    """Its pairing."""
    return {controller.id: Paired(controller.public_key, admin)}


@dataclass(eq=False)
class StateInvariants:
    """What controllers and people were told, and the states that are consistent with it."""

    world: "StateWorld"
    pairings: Pairings = field(default_factory=dict)
    most_attempts: int = 0
    least_attempts: int = 0
    _may_be: list[Pairings] = field(default_factory=lambda: [{}])
    """After a restart: several, if the daemon was killed before it told what it did."""

    _is_behind: bool = False
    _after: Pairings = field(default_factory=dict)
    _identity: tuple[object, ...] = ()
    _heard: list[int] = field(default_factory=lambda: [0])
    _versions: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """The accessories of each config version (c#)."""

    _seen: dict[Ids, str] = field(default_factory=dict)
    """What aids and iids meant to those who are paired."""

    def __post_init__(self) -> None:
        self.world.air.hear = lambda: self._heard.append(self.world.air.config_version)

    def wrong(self, what: str) -> None:
        raise Violation(what)

    def is_admin(self, controller_id: UUID) -> bool:
        return controller_id in self.pairings and self.pairings[controller_id].admin

    # What happens

    def changing(self, after: Pairings) -> None:
        """The pairings are about to change."""
        self._after = after
        self._may_be.append(after)

    def told(self, *, ok: bool) -> None:
        """They changed, or the request was answered with a failure."""
        self._may_be.pop()
        if ok and self._after != self.pairings:  # or nothing had to be written
            self.pairings, self._may_be = self._after, [self._after]

    def looked(self) -> None:
        """A command has read the disk."""
        stored = self._on_disk(FILE_NAME) or self._on_disk(BACKUP_NAME)
        if stored is not None:
            keys = stored.accessory["paired_clients"]
            self._found(
                {
                    UUID(each.id): Paired(bytes.fromhex(keys[each.id.lower()]), each.admin)
                    for each in stored.controllers
                }
            )

    def _found(self, found: Pairings) -> None:
        if found not in self._may_be:
            self.wrong(f"paired are {_names(found)}, and not {' or '.join(map(_names, self._may_be))}")
        self.pairings = found

    def started(self) -> None:
        """A daemon serves."""
        self._found(self._memory())
        bridge = self._bridge()
        identity = bridge.setup, bridge._driver.state.mac, bridge._driver.stored.accessory["private_key"]
        self._identity = self._identity or identity
        if self._identity != identity:
            self.wrong("it is another bridge")
        if self.world.faults.fired is None and self.world.faults.is_good:
            left = [name for name in self.world.disk.names if name.startswith(".")]
            if left:
                self.wrong(f"temporary files stay: {left}")

    def not_started(self, why: Failure) -> None:
        """A daemon gave up."""
        if isinstance(why, StateDamaged) or (not self.world.faults.fired and self.world.faults.is_good):
            self.wrong(f"it does not start: {why}")

    def stopped(self, leftovers: list[str]) -> None:
        """A daemon ended as it should."""
        if leftovers:
            self.wrong(f"the daemon left something: {leftovers}")

    def died(self) -> None:
        """There is no daemon any more; a kill may have kept it from writing the backup."""
        if self.world.faults.was_cut_short and self._on_disk(FILE_NAME) != self._on_disk(BACKUP_NAME):
            self._is_behind = True
        self.world.faults.was_cut_short = False

    # What must be true

    def check(self) -> None:
        """Now, between two steps."""
        if self._heard != sorted(self._heard):
            self.wrong(f"the config version went back: {self._heard}")
        self._heard = self._heard[-1:]
        has_lock = self.world.bridge is not None
        if self.world.disk.open_files != has_lock:
            self.wrong(f"{self.world.disk.open_files} files are open")
        if self.world.bridge is not None:
            self._check_memory()
            self._check_ids()
            self._check_disk()

    def _check_memory(self) -> None:
        found = self._memory()
        if found != self.pairings:
            self.wrong(f"paired are {_names(found)}, and not {_names(self.pairings)}")
        if found and not any(paired.admin for paired in found.values()):
            self.wrong("there is no admin")
        if self.world.air.paired != bool(found):
            self.wrong(f"it is advertised that it is {'' if self.world.air.paired else 'not '}paired")
        attempts = self._bridge()._driver.attempts.failed
        if not self.least_attempts <= attempts <= self.most_attempts:
            self.wrong(f"{attempts} attempts failed, not {self.least_attempts} to {self.most_attempts}")

    def _check_ids(self) -> None:
        """No aid and iid changes its meaning while a controller is paired."""
        if not self.pairings:
            self._seen.clear()
        for ids, what in meanings(database(self._bridge())).items():
            if self.pairings and self._seen.setdefault(ids, what) != what:
                self.wrong(f"{ids} is {what}, and was {self._seen[ids]}")

    def _check_disk(self) -> None:
        """Memory and disk agree, soon after the disk can be written."""
        faults, now_seconds = self.world.faults, asyncio.get_running_loop().time()
        memory, disk = self._bridge()._driver.stored, self._on_disk(FILE_NAME)
        if memory == disk and self.world.disk.is_safe(FILE_NAME):
            self.least_attempts = self.most_attempts = memory.failed_attempts
            if self._on_disk(BACKUP_NAME) in (None, disk):
                self._may_be, self._is_behind = [self.pairings], False
            if self._is_told():
                return
        elapsed_seconds = now_seconds - faults.disturbed_at_seconds
        if faults.is_good and elapsed_seconds > WRITTEN_WITHIN_SECONDS:
            self.wrong(f"memory and disk do not agree: {memory} and {disk}")

    def _is_told(self) -> bool:
        """Whether the config version stands for the accessories of this moment."""
        if self._bridge()._driver.writer.is_waiting:
            return False  # it stands for those that were written last
        version = self.world.air.config_version
        accessories = tuple(sorted(group.name for group in self.world.groups))
        return self._versions.setdefault(version, accessories) == accessories

    @property
    def has_backup(self) -> bool:
        """Whether the file and its backup are sound, and the backup had its time."""
        return not self._is_behind and None not in (self._on_disk(FILE_NAME), self._on_disk(BACKUP_NAME))

    def _on_disk(self, name: str) -> Stored | None:
        node = self.world.disk.names.get(name)
        with suppress(StateDamaged):
            return None if node is None else parse(self.world.folder / name, node.contents)
        return None

    def _bridge(self) -> Bridge:
        assert self.world.bridge is not None
        return self.world.bridge

    def _memory(self) -> Pairings:
        state = self._bridge()._driver.state
        return {each: Paired(key, state.is_admin(each)) for each, key in state.paired_clients.items()}


def _names(pairings: Pairings) -> str:
    return ", ".join(f"{str(each)[:2]}{' (admin)' * what.admin}" for each, what in pairings.items()) or "none"
