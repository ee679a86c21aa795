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
    raise OSError(24, "Too many open files")

socket.socketpair = socketpair
"""
BEGUN = """
sys.argv = [PROGRAM, *ARGUMENTS]
os.geteuid = lambda: 0
module = __import__(MAIN, fromlist=["main"])
raise SystemExit(module.main())
"""


def ended(program: str, before: str, error: str = "") -> tuple[int, str]:
    """The exit code of a program, and what it said."""
    main, module, arguments = PROGRAMS[program]
    names = f"PROGRAM, MAIN, MODULE, ARGUMENTS = {program!r}, {main!r}, {module!r}, {arguments!r}"
    code = f"import os, sys\n{names}\n{before.replace('ERROR', error)}\n{BEGUN}"
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("OSError(24, 'Too many open files')", "[Errno 24] Too many open files"),
        ("ImportError('x.so: Too many open files')", "x.so: Too many open files"),
    ],
)
def test_an_import_that_fails_is_a_sentence(program: str, error: str, said: str) -> None:
    assert ended(program, NO_IMPORT, error) == (69, f"{program}: cannot start: {said}\n")


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("hkswitch", "cannot continue: Too many open files"),
        ("serviceswitch", "out of resources: [Errno 24] Too many open files"),
    ],
)
def test_an_event_loop_that_cannot_be_made_is_a_sentence(program: str, said: str) -> None:
    assert ended(program, NO_LOOP) == (69, f"{program}: {said}\n")
