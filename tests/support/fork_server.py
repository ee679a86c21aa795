"""A program that starts Python scripts in milliseconds: it imports what they need once, and forks.

It reads requests from a socket, one per message: JSON and three descriptors. It answers with the process ID;
by then, the process is a child of the nearest subreaper above this program: `tests/support/forks.py`.
"""

import atexit
import ctypes
import gc
import json
import os
import runpy
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from tests.support import no_systemd

PR_SET_PDEATHSIG = 1
LONGEST_START_BYTES = 1 << 20


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    with socket.socket(fileno=int(sys.argv[1])) as starts:
        while True:
            message, descriptors, _, _ = socket.recv_fds(starts, LONGEST_START_BYTES, 3)
            if not message:
                return
            start = json.loads(message)
            for name in start["modules"]:
                import_module(name)
            if start["hides_systemd"]:
                no_systemd.hide()
            gc.freeze()  # otherwise the collector's writes would copy shared pages
            process = _forked_twice()
            if process == 0:
                starts.close()
                break
            for descriptor in descriptors:
                os.close(descriptor)
            starts.send(str(process).encode())
    _become(start, descriptors)
    _run_and_exit(sys.argv[0])


def _run_and_exit(path: str) -> None:
    """Run a program, and exit as the interpreter does, but free no object.

    That would write to nearly all pages that are shared with the server, and so copy them: it took four times
    as long as everything else about a start.
    """
    try:
        runpy.run_path(path, run_name="__main__")
        code = 0
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        code = end.code or 0
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except (OSError, ValueError):
        sys.exit(code)  # the interpreter tries again, and reports it
    os._exit(code & 0xFF)


def _forked_twice() -> int:
    """Return the ID of the new process, whose parent has exited; 0 in that process."""
    reading, writing = os.pipe()
    if (between := os.fork()) == 0:
        if (process := os.fork()) == 0:
            os.close(reading)
            os.close(writing)
            return 0
        os.write(writing, str(process).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as number:
        os.waitpid(between, 0)
        return int(number.read())


def _take_name(argv: list[str]) -> None:
    """Set the command line that /proc shows."""
    with open("/proc/self/stat") as stat:  # noqa: PTH123
        first, last = map(int, stat.read().rpartition(")")[2].split()[45:47])
    room = last - first
    name = os.fsencode("\0".join([sys.executable, *argv]))[: room - 1]
    ctypes.memmove(first, name.ljust(room, b"\0"), room)


def _become(start: Mapping[str, Any], descriptors: list[int]) -> None:
    """Set up this process like a new interpreter."""
    _take_name(start["argv"])
    if start["is_session"]:
        os.setsid()
    for standard, descriptor in enumerate(descriptors):
        os.dup2(descriptor, standard)
    for descriptor in descriptors:
        os.close(descriptor)
    os.chdir(start["folder"])
    os.environ.clear()
    os.environ.update(start["environment"])
    sys.argv = start["argv"]
    sys.path[0] = os.path.dirname(sys.argv[0])  # noqa: PTH120 -- as Python does
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # type: ignore[misc] # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # type: ignore[misc] # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(  # type: ignore[misc] # noqa: SIM115
        2, "w", buffering=1, errors="backslashreplace", closefd=False
    )


if __name__ == "__main__":
    main()
