"""The port of mDNS. Programs share it, unless one of them binds it without SO_REUSEADDR."""

import errno
import os
import socket
from collections.abc import Iterable
from typing import Final

from hkswitch.network.listeners import udp_holders

MDNS_PORT: Final = 5353

_AVAHI: Final = "avahi"
_AVAHI_REMEDY: Final = (
    "set `disallow-other-stacks=no` in /etc/avahi/avahi-daemon.conf, "
    "and run `sudo systemctl restart avahi-daemon`"
)


class MdnsPortTaken(OSError):
    """Another program does not share the port of mDNS."""

    def __init__(self) -> None:
        super().__init__(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def is_taken(addresses: Iterable[str]) -> bool:
    """Return whether another program keeps the port for itself where these addresses need it.

    Binds the port for a moment, as zeroconf does: its sockets of IPv6 need the port of IPv4 too.
    """
    families = {socket.AF_INET6 if ":" in address else socket.AF_INET for address in addresses}
    return any(_is_taken(family) for family in families)


def _is_taken(family: socket.AddressFamily) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            probe.bind(("", MDNS_PORT))
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


def taken_by() -> tuple[str, str]:
    """Return which program keeps the port for itself, as a clause, and the remedy."""
    holders = udp_holders(MDNS_PORT)
    # Some may share it, such as browsers, but the kernel does not tell which.
    likeliest = [each for each in holders if _AVAHI in each] or holders or ("another program",)
    holder = likeliest[0] if len(likeliest) == 1 else f"one of {', '.join(likeliest)}"
    remedy = _AVAHI_REMEDY if _AVAHI in holder else "stop it, or have it share the port"
    return f"{holder} does not share port {MDNS_PORT}/udp", remedy
