"""Setup codes, the setup payload and its QR code."""

import secrets
import struct
import zlib
from collections.abc import Iterator
from xml.etree import ElementTree as ET

import pytest
import segno

from hkswitch.hap.setup_code import FORBIDDEN_CODES, PIXELS_A_MODULE, Setup, modules, picture

QUIET_ZONE = 4
"""Modules around the code that must be light."""


def test_the_payload_is_that_of_the_specification() -> None:
    # Category 2 (bridge), flag IP; worked out by hand from the bit fields of the setup payload.
    number = int("0" * 3 + "0" * 4 + "00000010" + "0010" + f"{51808582:027b}", 2)
    payload = Setup("518-08-582", "7OSX").payload
    assert payload.startswith("X-HM://")
    assert int(payload[7:16], 36) == number
    assert payload[16:] == "7OSX"


def test_new_setups_are_allowed_and_differ() -> None:
    setups = [Setup.new() for _ in range(200)]
    assert all(setup.is_allowed for setup in setups)
    assert len({setup.code for setup in setups}) > 190


def test_a_forbidden_code_is_never_made(monkeypatch: pytest.MonkeyPatch) -> None:
    digits = iter("12345678" + "00000000" + "87654321" + "31415926")
    monkeypatch.setattr(secrets, "choice", lambda among: next(digits) if len(among) == 10 else "X")
    assert Setup.new() == Setup("314-15-926", "XXXX")


@pytest.mark.parametrize("code", sorted(FORBIDDEN_CODES))
def test_a_forbidden_code_is_not_allowed(code: str) -> None:
    assert not Setup(f"{code[:3]}-{code[3:5]}-{code[5:]}", "7OSX").is_allowed


@pytest.mark.parametrize(
    ("code", "setup_id"),
    [
        ("31415926", "7OSX"),
        ("314-15-92", "7OSX"),
        ("314-15-92a", "7OSX"),
        ("", "7OSX"),
        ("３14-15-926", "7OSX"),  # noqa: RUF001 -- a digit, but not an ASCII one
        ("314-15-926", "7OS"),
        ("314-15-926", "7osx"),
        ("314-15-926", ""),
    ],
)
def test_what_is_no_setup_is_not_allowed(code: str, setup_id: str) -> None:
    assert not Setup(code, setup_id).is_allowed


def test_the_qr_code_holds_the_payload() -> None:
    payload = Setup("518-08-582", "7OSX").payload
    assert segno.make(payload, micro=False).mode == "alphanumeric"
    assert len(modules(payload)) == 21 + 2 * QUIET_ZONE


def chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        yield kind, png[at + 8 : at + 8 + length]
        at += length + 12


def unfiltered(data: bytes, row_bytes: int) -> Iterator[bytes]:
    row = bytes(row_bytes)
    for at in range(0, len(data), row_bytes + 1):
        filtered = data[at + 1 : at + 1 + row_bytes]
        assert data[at] in {0, 2}  # none, or the difference to the row above
        row = bytes((a + b) % 256 for a, b in zip(filtered, row, strict=True)) if data[at] else filtered
        yield row


def dark_modules(png: bytes) -> list[list[bool]]:
    """Read the centre of each module of a 1-bit image, as a camera would see it."""
    parts = dict(chunks(png))
    width, height, depth, colour = struct.unpack_from(">IIBB", parts[b"IHDR"])
    assert (depth, colour) == (1, 0)  # greyscale: 0 is black
    rows = list(unfiltered(zlib.decompress(parts[b"IDAT"]), (width + 7) // 8))
    assert len(rows) == height
    middles = range(PIXELS_A_MODULE // 2, width, PIXELS_A_MODULE)
    return [[not rows[y][x // 8] >> (7 - x % 8) & 1 for x in middles] for y in middles]


def test_a_png_shows_the_code_with_its_quiet_zone() -> None:
    payload = Setup("518-08-582", "7OSX").payload
    png = picture(payload, "png")
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    expected = segno.make(payload, micro=False).matrix_iter(border=QUIET_ZONE)
    assert dark_modules(png) == [[bool(module) for module in row] for row in expected]


def test_an_svg_is_one_with_a_light_background() -> None:
    root = ET.fromstring(picture(Setup("518-08-582", "7OSX").payload, "svg"))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.attrib["width"] == root.attrib["height"]
    light, dark = root.iter("{http://www.w3.org/2000/svg}path")
    assert light.attrib["fill"] in {"white", "#fff"}
    assert dark.attrib["stroke"] == "#000"
