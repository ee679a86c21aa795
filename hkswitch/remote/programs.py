"""Runs ssh, sshd, visudo and other programs for root's command line: without a terminal, and with limits.

They block, and inherit nothing from the caller's environment.
"""

import selectors
import shutil
import subprocess
import time
from contextlib import suppress
from typing import Final, NamedTuple

from hkswitch.model.environment import CHILD_ENVIRONMENT, SEARCH_PATH
from hkswitch.model.errors import Failure

PROGRAM_SECONDS: Final = 20
MOST_PRINTED_BYTES: Final = 1024 * 1024
"""For each stream: a program that prints more is killed."""

_CHUNK_BYTES: Final = 65536


class Ran(NamedTuple):
    """A program that has ended."""

    code: int
    output: str
    errors: str

    @property
    def reason(self) -> str:
        """The line with its error message, as far as there is one."""
        lines = [line.strip() for line in f"{self.output}\n{self.errors}".splitlines() if line.strip()]
        return lines[-1] if lines else f"it exited with status {self.code}"


class ProgramFailed(Failure):
    """A program that could not be run, or did not end in time."""


def path_of(program: str) -> str | None:
    """Return the path of a program; None if it is not installed."""
    return shutil.which(program, path=SEARCH_PATH)


def run(*command: str, timeout_seconds: float = PROGRAM_SECONDS, account: str | None = None) -> Ran:
    """Run a program to its end, as a user, with an empty pipe as its input; raises `ProgramFailed`."""
    path = path_of(command[0])
    if path is None:
        raise ProgramFailed(f"cannot run {command[0]}: it is not installed")
    try:
        # In a session of its own it has no terminal on which it could prompt.
        process = subprocess.Popen(  # noqa: S603 -- no shell, and each caller checks its arguments
            (path, *command[1:]),
            stdin=subprocess.PIPE,  # the helper reads from nothing else
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=CHILD_ENVIRONMENT,
            start_new_session=True,
            user=account,
            group=account,
            extra_groups=None if account is None else (),
        )
    except OSError as error:
        raise ProgramFailed(f"cannot run {command[0]}: {error.strerror or error}") from error
    with process:
        try:
            if process.stdin is not None:
                process.stdin.close()
            output, errors = _collected(process, time.monotonic() + timeout_seconds)
            return Ran(process.wait(timeout=1), output, errors)
        except (TimeoutError, subprocess.TimeoutExpired):
            raise ProgramFailed(f"{command[0]} did not end within {timeout_seconds:g} s") from None
        finally:
            with suppress(ProcessLookupError):
                process.kill()


def checked(*command: str) -> str:
    """Run a program and return its output; raises `ProgramFailed` with its message if it fails."""
    ran = run(*command)
    if ran.code:
        raise ProgramFailed(f"{command[0]} failed: {ran.reason}")
    return ran.output


def _collected(process: subprocess.Popen[bytes], until_seconds: float) -> tuple[str, str]:
    """Return the output and the errors of a program, after both have ended."""
    assert process.stdout is not None  # noqa: S101 -- both are pipes
    assert process.stderr is not None  # noqa: S101
    found = {process.stdout: bytearray(), process.stderr: bytearray()}
    with selectors.DefaultSelector() as selector:
        for stream in found:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            left_seconds = until_seconds - time.monotonic()
            ready = selector.select(left_seconds) if left_seconds > 0 else []
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                stream = process.stdout if key.fileobj is process.stdout else process.stderr
                if not (data := stream.read1(_CHUNK_BYTES)):  # type: ignore[attr-defined] # it is buffered
                    selector.unregister(stream)
                found[stream] += data
                if len(found[stream]) > MOST_PRINTED_BYTES:
                    raise ProgramFailed(f"a program printed more than {MOST_PRINTED_BYTES} bytes")
    output, errors = (each.decode(errors="replace") for each in found.values())
    return output, errors
