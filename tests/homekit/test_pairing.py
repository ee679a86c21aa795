"""Setup codes, the setup payload and its QR code."""

import secrets

import pytest
import segno

from hkswitch.homekit.pairing import FORBIDDEN_CODES, Setup, qr_code


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
    assert qr_code(payload).count("\n") > 10
