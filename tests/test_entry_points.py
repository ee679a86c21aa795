"""Both programs when their first steps fail, as without file descriptors: a sentence, and no traceback."""

import subprocess
import sys

import pytest

PROGRAMS = {
    "hkswitch": ("hkswitch.__main__", "hkswitch.cli.main", ("status", "--config", "/nonexistent")),
    "serviceswitch": ("hkswitch.serviceswitch.__main__", "hkswitch.serviceswitch.audit", ("status", "web")),
}
"""The module of each program's main(), one that it imports, and arguments that want an event loop."""

NO_IMPORT = """
class Refusing:
    def find_spec(self, name, path, target=None):
        if name == MODULE:
            raise ERROR

sys.meta_path.insert(0, Refusing())
"""
NO_LOOP = """
import socket

def socketpair():
    raise ERROR

socket.socketpair = socketpair
"""
BEGUN = """
sys.argv = [PROGRAM, *ARGUMENTS]
os.geteuid = lambda: 0
module = __import__(MAIN, fromlist=["main"])
raise SystemExit(module.main())
"""


def ended(program: str, before: str, error: str = "", redirection: str = "") -> tuple[int, str]:
    """The exit code of a program, and what it said; nothing may be on standard output."""
    main, module, arguments = PROGRAMS[program]
    names = f"PROGRAM, MAIN, MODULE, ARGUMENTS = {program!r}, {main!r}, {module!r}, {arguments!r}"
    code = f"import os, sys\n{names}\n{before.replace('ERROR', error)}\n{BEGUN}"
    command = ("sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-c", code)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("OSError(24, 'Too many open files')", "[Errno 24] Too many open files"),
        ("ImportError('x.so: Too many open files')", "x.so: Too many open files"),
        ("MemoryError", "out of memory"),
        ("SystemError('error return without exception set')", "error return without exception set"),
    ],
)
def test_an_import_that_fails_is_a_sentence(program: str, error: str, said: str) -> None:
    assert ended(program, NO_IMPORT, error) == (69, f"{program}: cannot start: {said}\n")


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_an_import_that_fails_without_standard_error_has_the_same_exit_code(
    program: str, redirection: str
) -> None:
    assert ended(program, NO_IMPORT, "MemoryError", redirection) == (69, "")


@pytest.mark.parametrize(
    ("program", "verb"), [("hkswitch", "cannot continue"), ("serviceswitch", "out of resources")]
)
@pytest.mark.parametrize(
    ("error", "said"),
    [("OSError(24, 'Too many open files')", "Too many open files"), ("MemoryError", "out of memory")],
)
def test_an_event_loop_that_cannot_be_made_is_a_sentence(
    program: str, verb: str, error: str, said: str
) -> None:
    assert ended(program, NO_LOOP, error) == (69, f"{program}: {verb}: {said}\n")
