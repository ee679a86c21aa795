"""A program that starts real bridges in milliseconds: it imports everything once and forks each bridge.

Reads lines from its standard input: a config file, a state folder and the file operation at which to die (0:
none). Prints `started` and the process, then `serving` and the config version (c#) whenever that bridge
serves the current config, and `ended` when it exits. One bridge at a time; it dies with this program.
"""

import asyncio
import ctypes
import gc
import logging
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hkswitch.backend.simulated import SimulatedHost
from hkswitch.daemon import logs
from hkswitch.daemon.service import serve
from hkswitch.daemon.serving import ServedBridge
from hkswitch.model.config import BridgeConfig, Config
from hkswitch.model.config_file import read as read_config
from hkswitch.model.errors import Failure
from hkswitch.network.endpoint import Endpoint

PR_SET_PDEATHSIG = 1


@dataclass
class Doom:
    """Kills this process just before one of the file operations in a folder.

    A signal SIGRTMIN+n restarts the count at that moment.
    """

    folder: str
    left: int

    def begin(self) -> None:
        for number in range(signal.SIGRTMIN, signal.SIGRTMAX + 1):
            signal.signal(number, self._count_anew)
        sync = os.fsync

        def fsync(fd: int) -> None:
            self._step()
            sync(fd)

        os.fsync = fsync  # type: ignore[assignment] # Python raises no audit event for it
        sys.addaudithook(self._audit)

    def _count_anew(self, number: int, _: object) -> None:
        self.left = number - signal.SIGRTMIN

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in {"open", "os.rename", "os.remove"} and self._concerns(arguments[0]):
            self._step()

    def _concerns(self, path: object) -> bool:
        # Python wraps an open descriptor in a file: between the two, the file exists and is empty.
        return isinstance(path, int) or (
            isinstance(path, str | Path) and os.fspath(path).startswith(self.folder)
        )

    def _step(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Outside:
    """The environment of the daemon."""

    config_file: Path

    async def read(self) -> Config:
        return read_config(self.config_file)

    @property
    def restart(self) -> str:
        return "`sudo systemctl restart hkswitch`"

    def reloading(self) -> None:
        say("reloading")

    def find(self, bridge: BridgeConfig, before: Endpoint | None) -> Endpoint:
        del before
        return Endpoint(bridge.addresses, frozenset())

    def waiting(self, why: str) -> None:
        say(why)

    def serving(self, config: Config, place: Endpoint, front: ServedBridge, trouble: str) -> None:
        del config, place, trouble
        say("serving", front.config_version)


def say(*words: object) -> None:
    """Print one line atomically: the bridge and this program share a pipe."""
    os.write(sys.stdout.fileno(), (" ".join(map(str, words)) + "\n").encode())


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def be_bridge(config_file: Path, state_folder: Path, dies_at: int) -> None:
    die_with_parent()
    Doom(str(state_folder), dies_at).begin()
    outside = Outside(config_file)
    config = read_config(config_file)
    try:
        asyncio.run(serve(config, SimulatedHost(config.groups, job_seconds=0.01), state_folder, outside))
    except Failure as failure:
        logging.error("%s", failure)  # noqa: LOG015 -- as the command line does


def main() -> None:
    die_with_parent()
    logs.begin(os.environ)
    gc.freeze()
    while line := sys.stdin.readline():
        config_file, state_folder, dies_at = line.split("\t")
        if (process := os.fork()) == 0:
            try:
                be_bridge(Path(config_file), Path(state_folder), int(dies_at))
            except BaseException:
                logging.exception("the bridge broke")  # noqa: LOG015
            os._exit(1)
        say("started", process)
        _, status = os.waitpid(process, 0)
        say("ended", os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
