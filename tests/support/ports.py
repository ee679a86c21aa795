"""Free ports of the loopback interface."""

import os
import socket
from itertools import count
from typing import Final

from hkswitch.network.endpoint import Endpoint

LOOPBACK: Final = Endpoint(("127.0.0.1",), frozenset())
"""The endpoint of bridges in tests."""

_FIRST = 21_000 + 1_000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_ports = count(_FIRST)


def free_port(address: str = "127.0.0.1") -> int:
    """Return a port without a listener; concurrent test processes use separate ranges.

    The ranges are below the kernel's ephemeral ports.
    """
    for port in _ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return port
    raise AssertionError
