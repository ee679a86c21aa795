"""Quick starts: a program of hkswitch is a fork of a process that has imported everything it needs.

Imports took most of the tests' time. Only starts by `subprocess` or asyncio are quick, and only those without
unusual arguments. All others start a new interpreter, and with `--real-starts`, all do.
"""

import ctypes
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support import fork_server
from tests.support.command import HKSWITCH
from tests.support.helper import PROGRAM
from tests.support.host_with_helper import PATCHED
from tests.support.script import SCRIPT

PR_SET_CHILD_SUBREAPER = 36
ROOM_FOR_NAMES_BYTES: Final = 2048

_COMMANDS: Final = (
    "hkswitch.cli.actions",
    "hkswitch.cli.add",
    "hkswitch.cli.check",
    "hkswitch.cli.demo",
    "hkswitch.cli.edit",
    "hkswitch.cli.entry",
    "hkswitch.cli.import_homebridge",
    "hkswitch.cli.main",
    "hkswitch.cli.pair",
    "hkswitch.cli.reload",
    "hkswitch.cli.remove",
    "hkswitch.cli.render",
    "hkswitch.cli.run_command",
    "hkswitch.cli.status_command",
    "hkswitch.cli.unpair",
    "hkswitch.daemon.service",
    "hkswitch.systemd.units",
    "rich.console",
    "rich.live",
)
_HELPER: Final = ("hkswitch.serviceswitch.main",)
_SCRIPT: Final = (*_COMMANDS, "hkswitch.network.addresses")
MODULES: Final[Mapping[str, Sequence[str]]] = {
    str(HKSWITCH): _COMMANDS,
    str(PROGRAM): _HELPER,
    str(PATCHED): _HELPER,
    str(SCRIPT): _SCRIPT,
}
"""The modules to import before a fork, by program."""

USUAL: Final = {
    "executable": None,
    "preexec_fn": None,
    "close_fds": True,
    "pass_fds": (),
    "shell": False,
    "restore_signals": True,
    "gid": None,
    "gids": None,
    "uid": None,
    "umask": -1,
    "process_group": -1,
}
"""The arguments that a quick start must have."""

AT_ITS_START: Final = ("PYTHON", "LANG", "LC_")
"""Prefixes of variables that Python reads only at its start."""


class Forks:
    """The fork server, which ends with this process."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None)
        self._socket, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            os.set_inheritable(its.fileno(), True)
            command = [sys.executable, fork_server.__file__, str(its.fileno()), " " * ROOM_FOR_NAMES_BYTES]
            os.posix_spawn(sys.executable, command, os.environ)

    def start(self, start: Mapping[str, Any], descriptors: Sequence[int]) -> int:
        """Start a process as a child of this one, and return its ID."""
        self._libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
        socket.send_fds(self._socket, [json.dumps(start).encode()], descriptors)
        process = int(self._socket.recv(100))
        self._libc.prctl(PR_SET_CHILD_SUBREAPER, 0)  # do not adopt orphans of other processes
        return process


def quick_start(arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the request for the fork server, or None if this start cannot be quick."""
    argv = [os.fspath(word) for word in arguments["args"]] if not isinstance(arguments["args"], str) else []
    if argv[:1] == [sys.executable]:
        argv = argv[1:]
    environment = dict(os.environ if arguments["env"] is None else arguments["env"])
    if not argv or argv[0] not in MODULES:
        return None
    if any(arguments.get(name, usual) != usual for name, usual in USUAL.items()):
        return None
    if _at_start(environment) != _at_start(os.environ):
        return None
    return {
        "argv": argv,
        "modules": MODULES[argv[0]],
        "hides_systemd": argv[0] in {str(HKSWITCH), str(SCRIPT)},
        "environment": environment,
        "folder": str(Path(arguments["cwd"] or ".").resolve()),
        "is_session": arguments["start_new_session"],
    }


def _at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(AT_ITS_START)}


def patched(execute: Callable[..., None], forks: Forks) -> Callable[..., None]:
    """Return Popen's function, extended by quick starts."""
    parameters = signature(execute)

    def start(popen: "subprocess.Popen[Any]", *args: object) -> None:
        arguments = parameters.bind(popen, *args).arguments
        if (quick := quick_start(arguments)) is None:
            execute(popen, *args)
            return
        ends = [arguments[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        popen.pid = forks.start(quick, [number if end == -1 else end for number, end in enumerate(ends)])
        popen._child_created = True  # type: ignore[attr-defined]
        names = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        popen._close_pipe_fds(*(arguments[name] for name in names))  # type: ignore[attr-defined]

    return start


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--real-starts", action="store_true", help="start each process as users do")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("--real-starts"):
        execute = subprocess.Popen._execute_child  # type: ignore[attr-defined]
        subprocess.Popen._execute_child = patched(execute, Forks())  # type: ignore[attr-defined]
