"""Puts a simulated disk under `hkswitch.hap.state_file`: its paths, open files and system calls."""

import errno
import io
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatch
from pathlib import Path, PosixPath
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest import mock

from hkswitch.hap import state_file
from tests.world.disk import Disk, Node, Opened


@contextmanager
def mounted(disk: Disk) -> Iterator[Path]:
    """Meanwhile, the state file's module works on this disk; returns the folder."""
    system = _System(disk)
    kind = type("DiskPath", (DiskPath,), {"disk": disk})
    with ExitStack() as stack:
        for name, instead in (("os", system), ("fcntl", system), ("open", system.open_descriptor)):
            stack.enter_context(mock.patch.object(state_file, name, instead, create=True))
        yield kind("/disk/state")


class DiskPath(PosixPath):
    """A path of the folder, or of a file in it."""

    disk: ClassVar[Disk]

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:  # noqa: ARG002
        assert exist_ok
        if not self.disk.has_folder:
            self.disk.step("mkdir")
            self.disk.has_folder = True

    def exists(self) -> bool:
        return self.name in self.disk.names

    def rename(self, target: Any) -> Any:  # noqa: ANN401 -- as pathlib has it
        self.disk.step("rename")
        self.disk.rename({self.name: None, target.name: self.disk.node(self.name)})
        return target

    def unlink(self, missing_ok: bool = False) -> None:
        if missing_ok and self.name not in self.disk.names:
            return
        self.disk.step("unlink")
        self.disk.node(self.name)
        self.disk.rename({self.name: None})

    def glob(self, pattern: str) -> Iterable["DiskPath"]:  # type: ignore[override] # with fewer options
        self.disk.step("list")
        return [self / name for name in self.disk.names if fnmatch(name, pattern)]


class _Raw(io.RawIOBase):
    """An open file, as Python's buffers want it."""

    def __init__(self, disk: Disk, number: int) -> None:
        self._disk, self._number = disk, number

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 -- any buffer
        opened, node = self._opened()
        self._disk.step("read")
        read = node.contents[opened.position :][: len(buffer)]
        buffer[: len(read)] = read
        opened.position += len(read)
        return len(read)

    def write(self, written: Any) -> int:  # noqa: ANN401 -- any buffer
        opened, node = self._opened()
        size = self._disk.put(node, opened.position, bytes(written))
        opened.position += size
        return size

    def close(self) -> None:
        if not self.closed:
            self._disk.close(self._number)
        super().close()

    def _opened(self) -> tuple[Opened, Node]:
        opened = self._disk.opened(self._number)
        assert opened.node is not None
        return opened, opened.node


class _System:
    """The part of `os` and `fcntl` that the state file needs; `os`'s numbers are its own."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    LOCK_EX, LOCK_NB = 2, 4

    def __getattr__(self, name: str) -> int:
        assert name.startswith("O_"), name
        return int(getattr(os, name))

    def geteuid(self) -> int:
        return 1000

    def getpid(self) -> int:
        return 77

    def open(self, path: Path, flags: int, _: int = 0) -> int:
        return self._disk.open(None if flags & os.O_DIRECTORY else path.name, flags)

    def open_descriptor(self, number: int, mode: str, buffering: int = -1) -> Any:  # noqa: ANN401 -- a file
        raw = _Raw(self._disk, number)
        if buffering == 0:
            return raw
        return io.BufferedWriter(raw) if mode == "wb" else io.BufferedReader(raw)

    def close(self, number: int) -> None:
        self._disk.close(number)

    def fstat(self, number: int) -> SimpleNamespace:
        mode = stat.S_IFREG if self._disk.opened(number).node else stat.S_IFDIR
        return SimpleNamespace(st_mode=mode, st_uid=os.geteuid())

    def fsync(self, number: int) -> None:
        self._disk.sync(self._disk.opened(number))

    def ftruncate(self, number: int, size: int) -> None:
        self._disk.step("truncate")
        node = self._disk.opened(number).node
        assert node is not None
        node.contents, node.is_synced = node.contents[:size], False

    def pwrite(self, number: int, written: bytes, position: int) -> int:
        node = self._disk.opened(number).node
        assert node is not None
        return self._disk.put(node, position, written, whole=True)

    def flock(self, number: int, _: int) -> None:
        opened = self._disk.opened(number)
        assert opened.node is not None
        if opened.node.locked_by not in {None, opened}:
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))
        opened.node.locked_by = opened
