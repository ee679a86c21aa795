"""What a controller is told when pairing fails (HAP specification, table 5-5). Pure: no I/O."""

from typing import Final

from hkswitch.model.printable import printable_line

LONGEST_REASON: Final = 200
"""Characters of what is wrong with a request, in the log."""

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


def reason_of(error: Exception) -> str:
    """What is wrong with a request, as a line of the log says it, where Python speaks to programmers."""
    match error:
        case RecursionError():
            return "it is nested too deeply"
        case UnicodeError():
            return "it is not UTF-8"
        case LookupError():
            return "a part is missing"
        case TypeError() | AttributeError():
            return "a part has the wrong type"
    return printable_line(str(error), LONGEST_REASON) or "a part is malformed"
