"""The setup code, setup ID and setup payload, and the QR code as modules or image.

Does no I/O, but draws random numbers. Imports no HAP-python, which would slow down the command line.
"""

import io
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from hkswitch.model.errors import Exit, Failure

if TYPE_CHECKING:
    from segno import QRCode

MOST_TOLD: Final = 8
"""Controller IDs to list in one sentence; a bridge may have many."""

FORBIDDEN_CODES: Final = frozenset({*(str(digit) * 8 for digit in range(10)), "12345678", "87654321"})
"""Setup codes that the HAP specification (2.5.1, "Setup Code") forbids."""

PIXELS_A_MODULE: Final = 10
"""The size of a module in the image: large enough to scan from a screen at some distance."""

QUIET_ZONE_MODULES: Final = 4
"""The light border that readers need (ISO/IEC 18004)."""

CATEGORY_BRIDGE: Final = 2
FLAG_IP: Final = 2
BASE_36: Final = string.digits + string.ascii_uppercase


@dataclass(frozen=True, slots=True)
class Setup:
    """The setup code, like `123-45-678`, and the setup ID, which identifies the bridge in the QR code."""

    code: str
    id: str

    @classmethod
    def new(cls) -> "Setup":
        """Draw a random code that is not forbidden, and a random ID."""
        while (digits := "".join(secrets.choice(string.digits) for _ in range(8))) in FORBIDDEN_CODES:
            pass
        return cls(
            f"{digits[:3]}-{digits[3:5]}-{digits[5:]}", "".join(secrets.choice(BASE_36) for _ in range(4))
        )

    @property
    def payload(self) -> str:
        """The setup payload of the QR code: 9 base-36 digits, then the setup ID."""
        number = CATEGORY_BRIDGE << 31 | FLAG_IP << 27 | int(self.code.replace("-", ""))
        return f"X-HM://{_base_36(number):0>9}{self.id}"

    @property
    def is_allowed(self) -> bool:
        """Whether code and ID are well-formed, and the code is not forbidden."""
        digits = self.code.replace("-", "")
        return (
            [len(part) for part in self.code.split("-")] == [3, 2, 3]
            and digits.isascii()
            and digits.isdigit()
            and digits not in FORBIDDEN_CODES
            and len(self.id) == 4
            and set(self.id) <= set(BASE_36)
        )


def some(ids: Sequence[str]) -> str:
    """List controller IDs for a sentence; if there are many, only the first ones."""
    more = len(ids) - MOST_TOLD
    return ", ".join(ids[:MOST_TOLD]) + (f" and {more} more" if more > 0 else "")


def unknown_controller(controller_id: str, paired: Sequence[str]) -> Failure:
    """Return the failure for a controller that is not paired; `paired` has the IDs of those that are."""
    return Failure(
        f"no paired controller has the ID {controller_id!r}; paired: {some(paired) or 'none'}", Exit.USAGE
    )


def modules(payload: str) -> list[list[bool]]:
    """Return the rows of the QR code of a setup payload with its quiet zone; True is dark."""
    return [[bool(module) for module in row] for row in _code(payload).matrix_iter(border=QUIET_ZONE_MODULES)]


def picture(payload: str, kind: Literal["png", "svg"]) -> bytes:
    """Return the QR code of a setup payload as an image file."""
    drawn = io.BytesIO()
    _code(payload).save(drawn, kind=kind, scale=PIXELS_A_MODULE, light="white", border=QUIET_ZONE_MODULES)
    return drawn.getvalue()


def _code(payload: str) -> "QRCode":
    import segno  # noqa: PLC0415 -- saves the daemon, which draws no QR codes, 3 MiB

    return segno.make(payload, micro=False)


def _base_36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = BASE_36[digit] + digits
    return digits
