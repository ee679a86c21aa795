"""Where every failure becomes one sentence and an exit code, and none a traceback."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TextIO

import click

from hkswitch.model.errors import ConfigError, Exit, Failure
from hkswitch.model.printable import printable_lines

STANDARD_OUTPUT: Final = 1
"""Its file descriptor."""


@dataclass(eq=False)
class OutputFailed(Failure):
    """Standard output is closed or full, or cannot encode the text."""

    why: str
    is_broken_pipe: bool = False
    exit_code = Exit.OUTPUT

    def __str__(self) -> str:
        return f"cannot write to standard output: {self.why}"


class _Descriptor(io.RawIOBase):
    """Standard output itself. Only a failure to write here is one of standard output, whatever its errno.

    After the first failure, what is left in the buffers above is dropped.
    """

    def __init__(self, *, is_open: bool) -> None:
        """One that was closed from the beginning drops all: its number may be another file's by now."""
        self._is_open = is_open
        self._failed = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return STANDARD_OUTPUT if self._is_open else super().fileno()

    def isatty(self) -> bool:
        return self._is_open and os.isatty(STANDARD_OUTPUT)

    def write(self, data: bytes) -> int:  # type: ignore[override] # any buffer
        if self._failed or not self._is_open:
            return len(data)
        try:
            return os.write(STANDARD_OUTPUT, data)
        except OSError as error:
            self._failed = True
            raise OutputFailed(error.strerror or str(error), error.errno == errno.EPIPE) from error


class _Output(io.TextIOWrapper):
    """Text for standard output."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except UnicodeError as error:
            raise OutputFailed(f"{error}; set LC_ALL=C.UTF-8") from error


def run(program: click.Command) -> NoReturn:
    """Run a program, and exit as it ended."""
    sys.stdout = _output(sys.stdout)
    try:
        try:
            sys.exit(program.main(standalone_mode=False))
        finally:
            sys.stdout.flush()
    except Failure as failure:
        if not (
            isinstance(failure, OutputFailed) and failure.is_broken_pipe
        ):  # who closed a pipe wants no words
            # A config's problems begin with its name, as compilers do it, so that editors can jump there.
            _say(str(failure) if isinstance(failure, ConfigError) else f"hkswitch: {failure}")
        sys.exit(failure.exit_code)
    except (OSError, UnicodeError, ImportError) as error:
        _say(f"hkswitch: cannot continue: {_reason(error)}")
        sys.exit(Exit.UNAVAILABLE)
    except click.exceptions.Exit as ended:
        sys.exit(ended.exit_code)
    except click.ClickException as misuse:
        if sys.stderr is not None:  # click would take standard output
            with _standard_error():
                misuse.show()
        sys.exit(Exit.USAGE)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)


def _output(before: TextIO | None) -> _Output:
    """Standard output as Python set it up (None if it was closed), but for how it fails."""
    raw: Any = _Descriptor(is_open=before is not None)
    buffered = io.BufferedWriter(raw)
    if not isinstance(before, io.TextIOWrapper):
        return _Output(buffered)
    line_buffering = before.line_buffering or before.write_through
    return _Output(buffered, encoding=before.encoding, errors=before.errors, line_buffering=line_buffering)


def _reason(error: OSError | UnicodeError | ImportError) -> str:
    """What the system says, with the file's name if there is one."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"


def _say(text: str) -> None:
    # TRUST: a failure may quote what others wrote; root's terminal obeys none of it.
    with _standard_error():
        click.echo(printable_lines(text), err=True)


@contextmanager
def _standard_error() -> Iterator[None]:
    """Where that cannot be written, the exit code is all that is left to say."""
    try:
        yield
    except OSError:
        sys.stderr = io.StringIO()  # Python would fail to flush the other, and exit with 120
