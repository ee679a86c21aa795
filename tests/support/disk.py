"""A small disk that can be full or read-only, mounted at hkswitch.service's state folder.

Only processes in its mount namespace see it, and it disappears with the namespace. Needs root.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE

import pytest

from hkswitch.control import RUNTIME_FOLDER, STATE_FOLDER
from tests.support.command import HKSWITCH
from tests.support.script import script

SIZE = "64k"
HOLD = f"""
mount -t tmpfs tmpfs {STATE_FOLDER.parent} && mkdir -m 700 {STATE_FOLDER} &&
mount -t tmpfs -o size={SIZE},mode=700 tmpfs {STATE_FOLDER} &&
mount -t tmpfs tmpfs {RUNTIME_FOLDER.parent} && mkdir {RUNTIME_FOLDER} &&
echo mounted && exec cat
"""
INSIDE = """
import ctypes, os, runpy, sys
namespace = os.open(f"/proc/{sys.argv[1]}/ns/mnt", os.O_RDONLY)
if ctypes.CDLL(None, use_errno=True).setns(namespace, 0) != 0:
    raise OSError(ctypes.get_errno(), "setns")
os.close(namespace)
del sys.argv[:2]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass(frozen=True)
class Disk:
    """The disk; `holder` is a process that keeps the mount namespace."""

    holder: asyncio.subprocess.Process

    @classmethod
    @asynccontextmanager
    async def mounted(cls) -> AsyncIterator["Disk"]:
        """Provide an empty disk within the block."""
        if os.geteuid() != 0:
            pytest.skip("needs root, to mount")
        holder = await asyncio.create_subprocess_exec(
            "unshare", "--mount", "sh", "-c", HOLD, stdin=PIPE, stdout=PIPE
        )
        assert holder.stdout is not None
        try:
            if await holder.stdout.readline() != b"mounted\n":
                pytest.skip("may not mount here")
            yield cls(holder)
        finally:
            await holder.communicate(b"")  # closes its standard input, which ends it

    @property
    def state_folder(self) -> Path:
        """The path of the state folder for this process."""
        return Path(f"/proc/{self.holder.pid}/root{STATE_FOLDER}")

    @property
    def contents(self) -> dict[str, bytes]:
        """Return the files in the state folder, except those that only fill it."""
        return {file.name: file.read_bytes() for file in self.state_folder.iterdir() if file != self._filler}

    def inside(self, *command: str | Path) -> tuple[str | Path, ...]:
        """Return a command that runs in the disk's mount namespace."""
        return ("nsenter", f"--target={self.holder.pid}", "--mount", *command)

    def hkswitch(self, *arguments: str | Path) -> list[str]:
        """Return a command that runs hkswitch in the disk's mount namespace, and starts quickly."""
        return script(INSIDE, str(self.holder.pid), str(HKSWITCH), *map(str, arguments))

    def fill(self) -> None:
        """Fill the disk."""
        with self._filler.open("ab", buffering=0) as filler:
            while True:
                try:
                    filler.write(bytes(1024))
                except OSError:
                    return

    def free(self) -> None:
        """Free space again."""
        self._filler.unlink()

    async def forbid_writing(self) -> None:
        """Remount it read-only, for every open from now on."""
        await self._run("mount", "--bind", STATE_FOLDER, STATE_FOLDER)
        await self._run("mount", "-o", "remount,bind,ro", STATE_FOLDER)

    async def allow_writing(self) -> None:
        """Remount it writable."""
        await self._run("umount", STATE_FOLDER)

    @property
    def _filler(self) -> Path:
        return self.state_folder / "filler"

    async def _run(self, *command: str | Path) -> None:
        process = await asyncio.create_subprocess_exec(*self.inside(*command))
        assert await process.wait() == 0
