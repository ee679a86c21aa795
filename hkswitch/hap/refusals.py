"""What a controller is told when pairing fails (HAP specification, table 5-5). Pure: no I/O."""

from typing import Final

UNKNOWN: Final = b"\x01"
AUTHENTICATION: Final = b"\x02"
MAX_PEERS: Final = b"\x04"
MAX_TRIES: Final = b"\x05"
BUSY: Final = b"\x07"


class Refused(Exception):
    """The bridge does not do what a controller wants; `error` is what that is told, and `why` is logged."""

    def __init__(self, error: bytes, why: str) -> None:
        super().__init__(why)
        self.error = error
