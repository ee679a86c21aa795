"""Fault injection: fails chosen system calls of a program, by seccomp(2) user notifications.

`strace -e inject=...` counts the calls of each thread, from its exec on. This counts the calls of all threads
of a program, from the start of its main() or from any later moment; it needs no other program, works across
sudo, and can arm another fault in a running process. It changes the outcome of a call and nothing else.

Run as a program, this file is the launcher: it installs the filter on itself, passes the listener to the
test, and executes a command.
"""

import ctypes
import errno
import fcntl
import os
import platform
import select
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

_CALLS: Final[Mapping[str, tuple[str, tuple[int, int | None]]]] = {
    "open": ("open", (2, None)),
    "openat": ("open", (257, 56)),
    "openat2": ("open", (437, 437)),
    "accept4": ("descriptor", (288, 242)),
    "dup": ("descriptor", (32, 23)),
    "epoll_create1": ("descriptor", (291, 20)),
    "eventfd2": ("descriptor", (290, 19)),
    "pipe2": ("descriptor", (293, 59)),
    "socket": ("descriptor", (41, 198)),
    "socketpair": ("descriptor", (53, 199)),
    "timerfd_create": ("descriptor", (283, 85)),
    "pwrite64": ("write", (18, 68)),
    "write": ("write", (1, 64)),
    "writev": ("write", (20, 66)),
    "fdatasync": ("fsync", (75, 83)),
    "fsync": ("fsync", (74, 82)),
    "rename": ("rename", (82, None)),
    "renameat": ("rename", (264, 38)),
    "renameat2": ("rename", (316, 276)),
    "connect": ("connect", (42, 203)),
    "clone": ("fork", (56, 220)),
    "clone3": ("fork", (435, 435)),
    "fork": ("fork", (57, None)),
    "vfork": ("fork", (58, None)),
}
"""The kind of each call, and its number on x86_64 and aarch64 (asm/unistd.h; None: no such call)."""

_MACHINE: Final = ("x86_64", "aarch64").index(platform.machine())
_NAMES: Final = {numbers[_MACHINE]: name for name, (_, numbers) in _CALLS.items()}
_SECCOMP: Final = (317, 277)[_MACHINE]

_ERRORS: Final = {
    "open": (errno.EMFILE, errno.EIO, errno.EINTR),
    "create": (errno.EMFILE, errno.EIO, errno.EINTR, errno.ENOSPC),
    "descriptor": (errno.EMFILE,),
    "write": (errno.EIO, errno.ENOSPC, errno.EINTR),
    "fsync": (errno.EIO, errno.ENOSPC, errno.EINTR),
    "rename": (errno.EIO, errno.ENOSPC),
    "connect": (errno.EAGAIN, errno.ECONNREFUSED),
    "fork": (errno.EAGAIN,),
}
_WRITE_ERRORS: Final = {
    "pipe:": (errno.EPIPE, errno.EIO, errno.EINTR),
    "socket:": (errno.EINTR,),
    "anon_inode:": (errno.EINTR,),
}

MAIN: Final = {
    "hkswitch": "/hkswitch/__pycache__/openssl.",
    "serviceswitch": "/serviceswitch/__pycache__/main.",
}
"""Programs by process name, and the file that the first statement of each program's main() opens."""

_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV and _SEND in linux/seccomp.h
_NOTIFICATION, _RESPONSE = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")
_SET_FILTER, _NEW_LISTENER, _WAIT_KILLABLE, _CONTINUE = 1, 1 << 3, 1 << 5, 1
_LOAD, _EQUALS, _RETURN = 0x20, 0x15, 0x06  # linux/bpf_common.h
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000  # SECCOMP_RET_ALLOW and SECCOMP_RET_USER_NOTIF


class Call(NamedTuple):
    """A system call: the program that made it, its kind, and the file it concerns, if any."""

    program: str
    kind: str
    name: str
    file: str

    @property
    def errors(self) -> tuple[int, ...]:
        """The errors that the manual pages list for it; disk errors only for files on a disk.

        fork never fails for lack of descriptors, and calls that do not block are not interrupted.
        """
        kinds = _WRITE_ERRORS if self.kind == "write" else {}
        return next((kinds[kind] for kind in kinds if self.file.startswith(kind)), _ERRORS[self.kind])


class Fault(NamedTuple):
    """An error to inject into the Nth call (from 1) of a kind by a program."""

    program: str
    kind: str
    number: int
    error: int

    def __str__(self) -> str:
        return f"{self.program}: {self.kind} {self.number}: {errno.errorcode[self.error]}"


@dataclass
class Injector:
    """Decides which calls of one process and its children fail."""

    listener: int
    calls: list[Call] = field(default_factory=list)
    """The calls since `arm`, or since main() began."""
    failed: Call | None = None
    """The call that was made to fail."""
    _fault: Fault | None = None
    _counted: set[str] = field(default_factory=set)
    _waits_for_main: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def arm(self, fault: Fault | None, *, at_main: bool = False) -> None:
        """Restart the count, from now or from each program's main() on, and set the fault to inject."""
        with self._lock:
            self.calls, self.failed, self._fault = [], None, fault
            self._counted, self._waits_for_main = set() if at_main else {*MAIN}, at_main

    def disarm(self) -> None:
        """Let all calls through, uncounted."""
        with self._lock:
            self._counted, self._waits_for_main = set(), False

    def keep_answering(self) -> None:
        """Answer notifications until the last process has exited."""
        poll = select.poll()
        poll.register(self.listener, select.POLLIN)
        while any(event & select.POLLIN for _, event in poll.poll()):
            notification = bytearray(_NOTIFICATION.size)
            with suppress(FileNotFoundError):  # the calling process was killed
                fcntl.ioctl(self.listener, _RECEIVE, notification)
                number, task, _, name, _, _, *arguments = _NOTIFICATION.unpack(notification)
                error = self._error_of(task, _NAMES[name], arguments)
                response = _RESPONSE.pack(number, 0, -error, 0 if error else _CONTINUE)
                fcntl.ioctl(self.listener, _SEND, bytearray(response))
        os.close(self.listener)

    def _error_of(self, task: int, name: str, arguments: Sequence[int]) -> int:
        program = _program(task)
        if program not in MAIN or not (self._waits_for_main or self._counted):
            return 0
        call = _call(task, program, name, arguments)
        with self._lock:
            if program not in self._counted:
                if self._waits_for_main and MAIN[program] in call.file:
                    self._counted.add(program)
                return 0
            self.calls.append(call)
            if self._fault is None or self.failed is not None or call[:2] != self._fault[:2]:
                return 0
            if sum(call[:2] == earlier[:2] for earlier in self.calls) != self._fault.number:
                return 0
            self.failed = call
            return self._fault.error


@contextmanager
def run_with_fault(
    command: Sequence[str],
    fault: Fault | None = None,
    **options: Any,  # noqa: ANN401 -- Popen's
) -> Iterator[tuple["subprocess.Popen[bytes]", Injector]]:
    """Run a command with this fault, counted from main() on, and kill it in the end."""
    ours, launchers = socket.socketpair()
    with ours, launchers:
        launcher = (sys.executable, __file__, str(launchers.fileno()), *command)
        process = subprocess.Popen(launcher, pass_fds=[launchers.fileno()], **options)
        launchers.close()
        _, (listener,), _, _ = socket.recv_fds(ours, 1, 1)
    injector = Injector(listener)
    injector.arm(fault, at_main=True)
    answering = threading.Thread(target=injector.keep_answering, daemon=True)
    answering.start()
    try:
        yield process, injector
    finally:
        process.kill()
        process.wait()


def _program(task: int) -> str:
    """Return the name of a process; the helper sets its own only once main() has begun."""
    is_helper = _text(f"/proc/{task}/cmdline").split("\0")[1:4] == ["-I", "-m", "hkswitch.serviceswitch"]
    return "serviceswitch" if is_helper else _text(f"/proc/{task}/comm").strip()


def _call(task: int, program: str, name: str, arguments: Sequence[int]) -> Call:
    kind = _CALLS[name][0]
    if kind == "open":
        path, flags = arguments[0:2] if name == "open" else arguments[1:3]
        created = name != "openat2" and flags & os.O_CREAT
        return Call(program, "create" if created else kind, name, _string(task, path))
    if kind == "rename":
        return Call(program, kind, name, _string(task, arguments[0 if name == "rename" else 1]))
    if kind in {"write", "fsync"}:
        with suppress(OSError):
            return Call(program, kind, name, str(Path(f"/proc/{task}/fd/{arguments[0]}").readlink()))
    return Call(program, kind, name, "")


def _string(task: int, address: int) -> str:
    """Read a NUL-terminated string from another process's memory."""
    with suppress(OSError), Path(f"/proc/{task}/mem").open("rb", buffering=0) as memory:
        return os.pread(memory.fileno(), 512, address).partition(b"\0")[0].decode(errors="replace")
    return ""


def _text(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return ""


def _filter() -> ctypes.Array[ctypes.c_char]:
    """Build a BPF filter that notifies of the calls in _CALLS and allows all others (seccomp(2))."""
    numbers = sorted(number for number in _NAMES if number is not None)
    steps = [(_LOAD, 0, 0, 0)]
    steps += [(_EQUALS, len(numbers) - index, 0, number) for index, number in enumerate(numbers)]
    steps += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _NOTIFY)]
    return ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))


def _launch(bound: int, command: Sequence[str]) -> None:
    code = _filter()
    program = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(code)))
    with socket.socket(fileno=bound) as to_test:
        libc = ctypes.CDLL(None, use_errno=True)
        flags = _NEW_LISTENER | _WAIT_KILLABLE
        listener = libc.syscall(_SECCOMP, _SET_FILTER, flags, program)
        if listener < 0:
            raise OSError(ctypes.get_errno(), "seccomp")
        socket.send_fds(to_test, [b"."], [listener])
    os.close(listener)
    os.execvp(command[0], list(command))


if __name__ == "__main__":
    _launch(int(sys.argv[1]), sys.argv[2:])
