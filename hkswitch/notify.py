"""Tells systemd how the daemon is (sd_notify(3)). Does nothing where nobody asked."""

import logging
import socket
from collections.abc import Mapping

_log = logging.getLogger(__name__)


class Notifier:
    """The socket that systemd named in NOTIFY_SOCKET, if it did."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Reads the socket's name; nothing is sent yet."""
        self._address = environment.get("NOTIFY_SOCKET", "")

    def tell(self, **states: str) -> None:
        """Send assignments, like `tell(READY="1", STATUS="3 groups")`; what cannot be sent is logged."""
        if not self._address:
            return
        message = "\n".join(f"{key}={value}" for key, value in states.items())
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify_socket:
            try:
                notify_socket.sendto(message.encode(), address)
            except OSError as error:
                _log.warning("cannot tell systemd (NOTIFY_SOCKET=%s): %s", self._address, error.strerror)
