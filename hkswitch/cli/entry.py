"""Runs the command line: every failure becomes one sentence and an exit code, never a traceback.

What cannot be written to standard output is such a failure; on standard error, it is dropped.
"""

import errno
import gc
import io
import os
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, NoReturn, TextIO, TypeVar

from hkswitch.cli.layout import say
from hkswitch.model.errors import ConfigError, ConfigUnreadable, Exit, Failure, reason_of
from hkswitch.model.installation import CONFIG_FILE
from hkswitch.model.printable import printable_lines

if TYPE_CHECKING:
    import click

STDOUT: Final = 1
STDERR: Final = 2

INTERRUPTED: Final = 130
"""The exit code after Ctrl-C, as in a shell."""

_Result = TypeVar("_Result")


class ReaderGone(Failure):
    """Standard output is a pipe, and its reader has closed it. No message is printed."""

    exit_code = Exit.OUTPUT


class _Descriptor(io.RawIOBase):
    """Standard output or standard error.

    It drops everything if it was closed at the start: its number may belong to another file.
    """

    def __init__(self, number: int, *, is_open: bool) -> None:
        self._number = number
        self._is_open = is_open

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number if self._is_open else super().fileno()

    def isatty(self) -> bool:
        return self._is_open and os.isatty(self._number)

    def write(self, data: bytes) -> int:  # type: ignore[override] # any buffer
        try:
            return os.write(self._number, data) if self._is_open else len(data)
        except OSError as error:
            self._fail(error)
            return len(data)

    def _fail(self, error: OSError) -> None:
        """Drop what cannot be written to standard error: only the exit code can report anything then."""


class _StandardOutput(_Descriptor):
    """Standard output: its errors, and no other file's, are errors of standard output.

    After the first error, it drops the contents of the buffers above it.
    """

    def _fail(self, error: OSError) -> None:
        self._is_open = False
        if error.errno == errno.EPIPE:
            raise ReaderGone(str(error)) from error
        raise _output_failed(error.strerror or str(error)) from error


class _Output(io.TextIOWrapper):
    """Text for a standard stream; an encoding error, which only standard output has, becomes a `Failure`."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except UnicodeError as error:
            raise _output_failed(f"{error}; set LC_ALL=C.UTF-8") from error


def _output_failed(reason: str) -> Failure:
    return Failure(f"cannot write to standard output: {reason}", Exit.OUTPUT)


def run_program(program: "click.Command") -> NoReturn:
    """Run a click program, and exit with its exit code."""
    import click  # noqa: PLC0415 -- what runs without it does not wait for it

    try:
        run(lambda: program.main(standalone_mode=False))
    except click.exceptions.Exit as ended:
        sys.exit(ended.exit_code)
    except click.ClickException as misuse:
        # click would print it as wide as it is.
        shown = io.StringIO()
        misuse.show(shown)
        say(shown.getvalue().rstrip("\n"), err=True)
        sys.exit(Exit.USAGE)
    except click.Abort:
        sys.exit(INTERRUPTED)


def run(doing: Callable[[], Any]) -> NoReturn:
    """Call a function, and exit with the exit code that it returns."""
    sys.stdout = _stream(_StandardOutput(STDOUT, is_open=sys.stdout is not None), sys.stdout)
    sys.stderr = _stream(_Descriptor(STDERR, is_open=sys.stderr is not None), sys.stderr)
    try:
        try:
            sys.exit(doing())
        except KeyboardInterrupt:
            say("", err=True)  # as click does: the terminal has shown ^C without a new line
            raise
        finally:
            sys.stdout.flush()
    except ReaderGone as failure:  # as in `hkswitch status | head -1`
        sys.exit(failure.exit_code)
    except Failure as failure:
        _print_error(_described(failure))
        sys.exit(failure.exit_code)
    except (OSError, UnicodeError, ImportError, MemoryError, SystemError) as error:
        _print_error(f"hkswitch: cannot continue: {reason_of(error)}")
        sys.exit(Exit.UNAVAILABLE)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _described(failure: Failure) -> str:
    if isinstance(failure, ConfigError):
        # Its problems begin with its name, as in a compiler's output: editors can jump there.
        return str(failure)
    return f"hkswitch: {failure}" + (_remedy(failure) if isinstance(failure, ConfigUnreadable) else "")


def _remedy(failure: ConfigUnreadable) -> str:
    if failure.exit_code is Exit.CONFIG and str(failure).startswith(f"cannot read {CONFIG_FILE}: "):
        return "; run `sudo hkswitch doctor`"  # it prints how to create the file
    is_command = os.geteuid() != 0 and sys.argv[1:2] != ["run"]  # the daemon cannot use sudo
    return "; use sudo" if failure.exit_code is Exit.DENIED and is_command else ""


def _stream(raw: Any, before: TextIO | None) -> _Output:  # noqa: ANN401 -- typeshed has no type for it
    """Return a standard stream as Python set it up (None if it was closed), but on `raw`."""
    buffered = io.BufferedWriter(raw)
    if not isinstance(before, io.TextIOWrapper):
        return _Output(buffered, errors="backslashreplace")
    line_buffering = before.line_buffering or before.write_through
    return _Output(buffered, encoding=before.encoding, errors=before.errors, line_buffering=line_buffering)


def _print_error(text: str) -> None:
    # TRUST: a failure may quote other users, whose escape sequences must not reach root's terminal.
    say(printable_lines(text), err=True)


def in_event_loop(doing: Coroutine[object, object, _Result]) -> _Result:
    """Run a coroutine to its end."""
    gc.enable()  # this may run for a long time: see __main__.py
    try:
        import asyncio  # noqa: PLC0415 -- a request to the daemon needs no event loop, and is faster without one

        return asyncio.run(doing)
    finally:
        doing.close()  # it did not start if there was no file descriptor for the loop
