"""Writes to the caller's descriptors: they may be closed, full, or read by nobody. Runs as root.

It must never wait for ever: a root process that hangs on its caller's pipe would outlive all that ends it.
"""

import os
import select
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from hkswitch.model.errors import Exit, Failure

READ_WITHIN_SECONDS: Final = 5


@dataclass(eq=False)
class Unheard(Failure):
    """The answers reach nobody."""

    why: str
    exit_code = Exit.OUTPUT

    def __str__(self) -> str:
        return f"the answers reach nobody ({self.why}); ending"


def write(descriptor: int, data: bytes, within_seconds: float = READ_WITHIN_SECONDS) -> None:
    """Write all of `data`, and wait so long if it is not read; raises `Unheard`."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    try:
        while data:
            if not any(ready & select.POLLOUT for _, ready in poll.poll(within_seconds * 1000)):
                raise Unheard(f"nothing was read within {within_seconds} s")
            data = data[os.write(descriptor, data[: select.PIPE_BUF]) :]  # a ready pipe has room for so much
    except OSError as error:
        raise Unheard(str(error.strerror)) from None


def complain(sentence: str) -> None:
    """Say a sentence on standard error, if that takes it at once."""
    with suppress(Unheard):
        write(2, f"serviceswitch: {sentence}\n".encode(errors="backslashreplace"), within_seconds=0)


def hold_standard_descriptors() -> None:
    """Open what is closed of standard input, output and error, so that nothing else takes their numbers."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        descriptor = os.dup(descriptor)
    os.close(descriptor)
