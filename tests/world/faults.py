"""Faults of a bridge's disk: it is full or read-only for a time, or one operation fails."""

import asyncio
import errno
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Final

from hkswitch.hap.state_format import BACKUP_NAME, FILE_NAME
from tests.world.disk import OPENING, Disk, Killed, Node, failure
from tests.world.random_source import RandomSource


class Doom(Enum):
    """What happens at an operation."""

    KILL = "kill -9"
    POWER = "a power cut"
    ERROR = "an error"


ERRORS: Final = (errno.EIO, errno.EIO, errno.ENOSPC, errno.EROFS)
OPEN_ERRORS: Final = (*ERRORS, errno.EMFILE)
OPERATIONS: Final = (6, 12, 30)
"""Of writing the file, of writing its backup too, and of a start, which may do both twice."""


@dataclass(eq=False)
class Faults:
    """The faults of a disk."""

    disk: Disk
    chance: RandomSource
    note: Callable[[str], None]
    doom: Doom | None = None
    fired: Doom | None = None
    """What happened, since `arm`."""

    was_cut_short: bool = False
    """Whether a process died in the middle of something, since this was set to False."""

    disturbed_at_seconds: float = -inf
    """When anything went wrong last."""

    _left: int = 0

    def __post_init__(self) -> None:
        self.disk.trouble = self._step

    def arm(self, doom: Doom) -> None:
        """Have it happen at one of the next operations."""
        self.doom, self._left = doom, self.chance.stream.randrange(self.chance.one_of(OPERATIONS))

    def disarm(self) -> None:
        """Have nothing happen."""
        self.doom = self.fired = None

    def _step(self, operation: str) -> None:
        if self.doom is None:
            return
        self._left -= 1
        if self._left >= 0:
            return
        self.fired, self.doom = self.doom, None
        self._disturb()
        if self.fired is Doom.ERROR:
            number = self.chance.one_of(OPEN_ERRORS if operation in OPENING else ERRORS)
            self.note(f"    {errno.errorcode[number]} at {operation}")
            raise failure(number)
        self.note(f"    {self.fired.value} at {operation}")
        self.was_cut_short = True
        self.disk.kill(self.disk.process)
        raise Killed

    def _disturb(self) -> None:
        self.disturbed_at_seconds = asyncio.get_running_loop().time()

    @property
    def is_good(self) -> bool:
        """Whether the disk can be written."""
        return not (self.disk.is_full or self.disk.is_read_only)

    def change_disk(self) -> None:
        """Have it full, or read-only, or good again."""
        full, read_only = self.chance.one_of((*[(False, False)] * 3, (True, False), (False, True)))
        self.disk.is_full, self.disk.is_read_only = full, read_only
        self._disturb()
        self.note(f"the disk is {'full' if full else 'read-only' if read_only else 'good'}")

    def damage(self) -> None:
        """Damage the file, or its backup, but not both."""
        name = self.chance.one_of((FILE_NAME, FILE_NAME, BACKUP_NAME))
        if name not in self.disk.names:
            return
        contents = self.disk.names[name].contents
        at = self.chance.stream.randrange(len(contents) + 1)
        kinds = {
            "cut": contents[:at],
            "zeros": bytes(len(contents)),
            "empty": b"",
            "flipped": contents[:at] + bytes(byte ^ 1 for byte in contents[at : at + 1]) + contents[at + 1 :],
        }
        kind = self.chance.one_of((*kinds, "gone"))
        self.note(f"{name} is damaged: {kind}")
        self.disk.rename({name: Node(kinds[kind]) if kind in kinds else None})
        self.disk.settle()
