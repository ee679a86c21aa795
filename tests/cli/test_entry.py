"""How the program ends: standard output's failures are called that, and no other failure is."""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from hkswitch.model.installation import CONFIG_FILE
from tests.support.script import script

PROGRAM = """\
import errno, os, sys
import click
from hkswitch.cli import entry
from tests.support.descriptors import no_descriptors

async def nothing():
    pass

@click.command()
def main():
    {body}

entry.run_program(main)
"""
WITHOUT_CLICK = """\
import errno, os, sys
from hkswitch.cli import entry

def main():
    {body}

entry.run(main)
"""
Ended = tuple[int, str, str]
ECHO = "click.echo('moon')"


def ended(
    body: str, *closed: int, stdout: str = "", stderr: str = "", program: str = PROGRAM, **environment: str
) -> Ended:
    """The exit code, standard output and standard error of a command that does this.

    `closed`: descriptors that are not open at its start. `stdout` and `stderr`: a file that takes the output,
    or "unread" for a pipe whose reader is gone.
    """
    code = program.format(body=body)
    argv = script(code)
    if closed:  # only a new interpreter sees at its start what is not open
        redirected = " ".join(f"{number}>&-" for number in closed)
        argv = ["sh", "-c", f'exec "$@" {redirected}', "sh", sys.executable, "-c", code]
    with ExitStack() as files:
        done = subprocess.run(
            argv,
            stdout=opened(stdout, files),
            stderr=opened(stderr, files),
            text=True,
            check=False,
            timeout=20,
            env={**os.environ, **environment},
        )
    return done.returncode, done.stdout or "", done.stderr or ""


def opened(name: str, files: ExitStack) -> int:
    """A descriptor for the output, closed with `files`; without a name, a pipe that is read."""
    if not name:
        return subprocess.PIPE
    if name != "unread":
        return files.enter_context(Path(name).open("w")).fileno()
    reading, writing = os.pipe()
    os.close(reading)
    files.callback(os.close, writing)
    return writing


OUTPUTS = [
    ECHO,
    "click.echo(b'moon')",
    "sys.stdout.write('moon')",
    "sys.stdout.write('moon'); sys.exit(3)",
    "print('moon' * 100_000)",
    "from hkswitch.cli.rich_console import FittedConsole; FittedConsole().print('moon')",
]


@pytest.mark.parametrize("body", OUTPUTS)
@pytest.mark.parametrize(
    ("stdout", "reason"),
    [("/dev/full", "No space left on device"), ("unread", "")],
)
def test_an_output_that_takes_nothing_is_74(body: str, stdout: str, reason: str) -> None:
    said = f"hkswitch: cannot write to standard output: {reason}\n" if reason else ""
    assert ended(body, stdout=stdout) == (74, "", said)


@pytest.mark.parametrize("body", OUTPUTS)
def test_a_closed_output_is_no_failure(body: str) -> None:
    assert ended(body, 1) == (3 if "exit(3)" in body else 0, "", "")


def test_an_output_that_was_closed_is_not_what_has_its_number_now(tmp_path: Path) -> None:
    file = tmp_path / "file"
    assert ended(
        f"file = os.open({str(file)!r}, os.O_CREAT | os.O_WRONLY); {ECHO}; os.write(2, b'%d' % file)", 1
    ) == (
        0,
        "",
        "1",
    )
    assert file.read_bytes() == b""


@pytest.mark.parametrize("body", ["sys.stdout.write('\\xe4')", "print('\\xe4')"])
def test_an_output_that_cannot_encode_the_text_is_74(body: str) -> None:
    code, _, errors = ended(body, PYTHONIOENCODING="ascii:strict")
    assert code == 74
    assert errors.startswith("hkswitch: cannot write to standard output: 'ascii' codec can't encode")
    assert errors.endswith("set LC_ALL=C.UTF-8\n")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("stdout", ["", "/dev/full", "unread"])
@pytest.mark.parametrize(
    "body",
    [
        "print('moon')",
        "print('moon'); sys.exit(3)",
        "print('moon'); raise KeyboardInterrupt",
        "print('moon'); raise entry.Failure('no moon', entry.Exit.DENIED)",
        "print('moon'); raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))",
    ],
)
def test_a_program_ends_without_click_as_it_ends_with_it(body: str, stdout: str) -> None:
    with_click = ended(body, stdout=stdout)
    assert ended(body, stdout=stdout, program=WITHOUT_CLICK) == with_click
    assert with_click[0] in {0, 3, 69, 74, 77, 130}


ELSEWHERE = [
    ("raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))", "Too many open files"),
    ("raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))", "No space left on device"),
    ("raise OSError(errno.EACCES, os.strerror(errno.EACCES), '/x')", "/x: Permission denied"),
    ("raise OSError('no interface with this name')", "no interface with this name"),
    ("os.read(1000, 1)", "Bad file descriptor"),
    ("raise ImportError('x.so: cannot open shared object file')", "x.so: cannot open shared object file"),
    ("open('/nonexistent')", "/nonexistent: No such file or directory"),
    ("with no_descriptors(): os.pipe()", "Too many open files"),
    ("raise MemoryError", "out of memory"),
    ("raise OSError", "OSError"),
    ("raise SystemError('error return without exception set')", "error return without exception set"),
    (
        "sys.modules['asyncio'] = None; entry.in_event_loop(nothing())",
        "import of asyncio halted; None in sys.modules",
    ),
    ("b'\\xff'.decode()", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
]


@pytest.mark.parametrize(("body", "reason"), ELSEWHERE)
@pytest.mark.parametrize("stdout", ["", "/dev/full"])
def test_a_failure_elsewhere_is_69_and_not_blamed_on_the_output(body: str, reason: str, stdout: str) -> None:
    assert ended(body, stdout=stdout) == (69, "", f"hkswitch: cannot continue: {reason}\n")


@pytest.mark.parametrize(("body", "reason"), ELSEWHERE[:3])
def test_a_failure_elsewhere_is_69_without_an_output_too(body: str, reason: str) -> None:
    assert ended(body, 1) == (69, "", f"hkswitch: cannot continue: {reason}\n")


@pytest.mark.parametrize(
    ("body", "code"),
    [("raise OSError(errno.EMFILE, 'x')", 69), ("sys.exit(3)", 3), ("raise click.UsageError('x')", 64)],
)
def test_without_standard_error_the_exit_code_still_counts(body: str, code: int) -> None:
    assert ended(body, 2) == (code, "", "")
    assert ended(body, stderr="/dev/full") == (code, "", "")


@pytest.mark.parametrize("body", OUTPUTS[:3])
def test_what_is_printed_arrives(body: str) -> None:
    assert ended(body) == (0, "moon\n" if "echo" in body else "moon", "")


@pytest.mark.parametrize(
    ("uid", "command", "file", "code", "remedy"),
    [
        (1000, "check", "/x", "DENIED", "; use sudo"),
        (0, "check", CONFIG_FILE, "CONFIG", "; run `sudo hkswitch doctor`"),
        (1000, "run", CONFIG_FILE, "CONFIG", "; run `sudo hkswitch doctor`"),
        (1000, "check", "/x", "CONFIG", ""),
        (0, "check", "/x", "DENIED", ""),
        (1000, "run", "/x", "DENIED", ""),  # hkswitch.service cannot use sudo
        (0, "check", CONFIG_FILE, "UNAVAILABLE", ""),
    ],
)
def test_a_config_that_cannot_be_read_has_the_remedy_that_helps(
    uid: int, command: str, file: str, code: str, remedy: str
) -> None:
    body = f"""os.geteuid = lambda: {uid}; sys.argv[1:] = [{command!r}]
    raise entry.ConfigUnreadable({file!r}, 'why', entry.Exit.{code})"""
    assert ended(body)[2] == f"hkswitch: cannot read {file}: why{remedy}\n"
