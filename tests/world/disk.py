"""A simulated disk with one folder, and what kills and power cuts leave of it.

A kill leaves all that was done. A power cut leaves what was synced; of the rest, any part may be there: some
of a file's bytes, or zeros, and each change of a name for itself, unless the folder was synced.
It must not know what the files mean.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from tests.world.random_source import RandomSource

WRITING: Final = frozenset({"mkdir", "make", "open to write", "write", "truncate", "rename", "unlink"})
"""What a disk that is read-only refuses."""

GROWING: Final = frozenset({"mkdir", "make", "write"})
"""What a disk that is full refuses."""

OPENING: Final = frozenset({"make", "open", "open to write", "open the folder"})


class Killed(BaseException):
    """The process that did something on the disk is dead."""


@dataclass(eq=False)
class Node:
    """A file, by whatever names."""

    contents: bytes = b""
    is_synced: bool = True
    locked_by: "Opened | None" = None


@dataclass(eq=False)
class Opened:
    """An open file; the folder has no node."""

    node: Node | None
    process: object
    position: int = 0


@dataclass(eq=False)
class Disk:
    """The disk, and the processes that have files open on it."""

    chance: RandomSource
    names: dict[str, Node] = field(default_factory=dict)
    process: object = None
    """Whose code runs."""

    trouble: Callable[[str], None] = lambda _: None
    """Is told of each operation before it is done, and may raise `OSError` or `Killed`."""

    is_full: bool = False
    is_read_only: bool = False
    has_folder: bool = False
    dead: set[object] = field(default_factory=set)
    _numbers: Iterator[int] = field(default_factory=lambda: count(3))
    _open: dict[int, Opened] = field(default_factory=dict)
    _synced_names: dict[str, Node] = field(default_factory=dict)
    _changes: list[dict[str, Node | None]] = field(default_factory=list)
    """Of names, that are not synced."""

    @contextmanager
    def run_by(self, process: object) -> Iterator[None]:
        """Meanwhile, it is another process whose code runs."""
        before, self.process = self.process, process
        try:
            yield
        finally:
            self.process = before

    # How processes and the machine end

    def kill(self, process: object) -> None:
        """Let a process do nothing any more, and hold nothing."""
        self.dead.add(process)
        for number in [number for number, opened in self._open.items() if opened.process is process]:
            self.close(number)

    def cut_power(self) -> None:
        """Leave what a power cut leaves."""
        for process in {opened.process for opened in self._open.values()}:
            self.kill(process)
        self.names = dict(self._synced_names)
        for change in self._changes:
            if self.chance.of_one_in(2):
                self._rename(change)
        for node in self.names.values():
            if not node.is_synced:
                node.contents = self._left_of(node.contents)
                node.is_synced = True
        self.settle()

    def _left_of(self, contents: bytes) -> bytes:
        length = self.chance.stream.randrange(len(contents) + 1)
        return self.chance.one_of((contents, contents[:length], bytes(length), b""))

    # What processes do

    def step(self, operation: str) -> None:
        """Begin an operation; raises what becomes of it."""
        if self.process in self.dead:
            raise Killed
        self.trouble(operation)
        if self.is_read_only and operation in WRITING:
            raise failure(errno.EROFS)
        if self.is_full and operation in GROWING:
            raise failure(errno.ENOSPC)

    def open(self, name: str | None, flags: int) -> int:
        """Open a file, or the folder; returns a descriptor."""
        node = None
        if name is not None:
            writes = flags & (os.O_WRONLY | os.O_RDWR)
            makes = flags & os.O_CREAT and name not in self.names
            self.step("make" if makes else "open to write" if writes else "open")
            if makes:
                self.rename({name: Node()})
            elif flags & os.O_EXCL:
                raise failure(errno.EEXIST)
            node = self.node(name)
        else:
            self.step("open the folder")
        number = next(self._numbers)
        self._open[number] = Opened(node, self.process)
        return number

    def opened(self, number: int) -> Opened:
        """What a descriptor stands for."""
        if self.process in self.dead:
            raise Killed
        return self._open[number]

    def close(self, number: int) -> None:
        """Close a descriptor; what it locks is free again."""
        opened = self._open.pop(number, None)
        if opened is not None and opened.node is not None and opened.node.locked_by is opened:
            opened.node.locked_by = None

    def put(self, node: Node, position: int, written: bytes, *, whole: bool = False) -> int:
        """Write some of it, or all; returns how much that was."""
        size = len(written) if whole else self.chance.cut_at(len(written) - 1) + 1
        try:
            self.step("write")
        except BaseException:
            size = self.chance.stream.randrange(size)
            node.contents, node.is_synced = node.contents[:position] + written[:size], False
            raise
        node.contents = node.contents[:position] + written[:size] + node.contents[position + size :]
        node.is_synced = False
        return size

    def sync(self, opened: Opened) -> None:
        """Have it survive a power cut."""
        self.step("sync the folder" if opened.node is None else "sync")
        if opened.node is not None:
            opened.node.is_synced = True
        else:
            self.settle()

    def rename(self, change: dict[str, Node | None]) -> None:
        """Have other files by these names, or none."""
        self._changes.append(change)
        self._rename(change)

    def _rename(self, change: dict[str, Node | None]) -> None:
        for name, node in change.items():
            if node is None:
                self.names.pop(name, None)
            else:
                self.names[name] = node

    def node(self, name: str) -> Node:
        """The file of this name; raises `FileNotFoundError`."""
        if name not in self.names:
            raise failure(errno.ENOENT)
        return self.names[name]

    def is_safe(self, name: str) -> bool:
        """Whether a power cut leaves this file."""
        node = self.names.get(name)
        return node is not None and node.is_synced and self._synced_names.get(name) is node

    def settle(self) -> None:
        """Have everything as it is survive a power cut."""
        self._synced_names, self._changes = dict(self.names), []

    @property
    def open_files(self) -> int:
        """How many descriptors there are."""
        return len(self._open)


def failure(number: int) -> OSError:
    """What Python raises for an error number."""
    return OSError(number, os.strerror(number))
