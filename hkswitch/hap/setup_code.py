"""What a phone needs to pair: setup code, setup ID, setup payload and its QR code, in text and as a picture.

No I/O but randomness. Knows no HAP-python: the command line would wait for it.
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
"""Controllers that are told in one sentence; a bridge may have many."""

FORBIDDEN_CODES: Final = frozenset({*(str(digit) * 8 for digit in range(10)), "12345678", "87654321"})
"""Setup codes that the HAP specification (2.5.1, "Setup Code") does not allow."""

PIXELS_A_MODULE: Final = 10
"""Of a picture: large enough for a phone that is held at some distance from a screen."""

CATEGORY_BRIDGE: Final = 2
FLAG_IP: Final = 2
BASE_36: Final = string.digits + string.ascii_uppercase


@dataclass(eq=False)
class UnknownController(Failure):
    """A controller that is not paired; `among` are the IDs of those that are."""

    id: str
    among: Sequence[str]
    exit_code = Exit.USAGE

    def __str__(self) -> str:
        return f"no controller {self.id!r} is paired; paired: {some(self.among) or 'none'}"


@dataclass(frozen=True, slots=True)
class Setup:
    """The setup code, like `123-45-678`, and the four characters that tell this bridge from others."""

    code: str
    id: str

    @classmethod
    def new(cls) -> "Setup":
        """A random one, never a code that is forbidden."""
        while (digits := "".join(secrets.choice(string.digits) for _ in range(8))) in FORBIDDEN_CODES:
            pass
        return cls(
            f"{digits[:3]}-{digits[3:5]}-{digits[5:]}", "".join(secrets.choice(BASE_36) for _ in range(4))
        )

    @property
    def payload(self) -> str:
        """The setup payload of the QR code: 9 digits to the base of 36, then the setup ID."""
        number = CATEGORY_BRIDGE << 31 | FLAG_IP << 27 | int(self.code.replace("-", ""))
        return f"X-HM://{_base_36(number):0>9}{self.id}"

    @property
    def is_allowed(self) -> bool:
        """Whether code and ID have their form, and the code is not a forbidden one."""
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
    """IDs of controllers in a sentence, not more than a person reads."""
    more = len(ids) - MOST_TOLD
    return ", ".join(ids[:MOST_TOLD]) + (f" and {more} more" if more > 0 else "")


def invitation(setup: Setup) -> str:
    """What a person needs to pair, as lines for a terminal."""
    return (
        f"{qr_code(setup.payload)}\nSetup code: {setup.code}   (Home app: +, Add Accessory, scan or type it)"
    )


def qr_code(payload: str) -> str:
    """The QR code of a setup payload as lines for a terminal."""
    drawn = io.StringIO()
    _code(payload).terminal(drawn, compact=True)
    return drawn.getvalue()


def picture(payload: str, kind: Literal["png", "svg"]) -> bytes:
    """The QR code of a setup payload as the contents of a file."""
    drawn = io.BytesIO()
    _code(payload).save(drawn, kind=kind, scale=PIXELS_A_MODULE, light="white")
    return drawn.getvalue()


def _code(payload: str) -> "QRCode":
    import segno  # noqa: PLC0415 -- no daemon draws: it would hold 3 MiB for nothing

    return segno.make(payload, micro=False)


def _base_36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = BASE_36[digit] + digits
    return digits
