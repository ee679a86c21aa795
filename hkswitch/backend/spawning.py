"""Starts a program whose standard streams are pipes. Does not run as root, and needs no event loop."""

import subprocess
from collections.abc import Sequence

Child = subprocess.Popen[bytes]
"""A process and our ends of its pipes."""


def spawn(command: Sequence[str], *, own_group: bool = False) -> Child:
    """Start a program, an argv; raises `OSError` or `MemoryError`.

    `own_group`: in a process group of its own, so that its children can be killed with it.
    """
    return subprocess.Popen(  # noqa: S603 -- the transports' own commands
        command,
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0 if own_group else None,
    )
