"""Pair-setup: only with the setup code, one controller at a time, and not after too many wrong codes."""

from dataclasses import replace
from pathlib import Path

import pytest
from aiohomekit.crypto.srp import MODULUS_VALUE as N
from aiohomekit.exceptions import AuthenticationError, BusyError, MaxTriesError, UnavailableError

from hkswitch.backend.simulated import SimulatedHost
from hkswitch.hap import sessions, state_file
from hkswitch.protocol.control import MOST_FAILED_ATTEMPTS
from tests.hap.conftest import GROUPS, Served
from tests.support.controller import Controller
from tests.support.raw_client import (
    DATA,
    ERROR,
    METHOD,
    PROOF,
    PUBLIC_KEY,
    STATE,
    raw_client,
)
from tests.support.waiting import eventually

Parts = tuple[tuple[int, bytes], ...]

BEGIN: Parts = ((STATE, b"\x01"), (METHOD, b"\x00"))
PROVE: Parts = ((STATE, b"\x03"), (PUBLIC_KEY, b"k" * 384), (PROOF, b"p" * 64))
EXCHANGE: Parts = ((STATE, b"\x05"), (DATA, b"x" * 80))
UNKNOWN, AUTHENTICATION, UNAVAILABLE = b"\x01", b"\x02", b"\x06"


def failed_attempts(served: Served) -> int:
    stored = state_file.read(served.state_folder)
    assert stored is not None
    return stored.failed_attempts


@pytest.mark.parametrize("times", [0, 1, 2], ids=["zero", "N", "2N"])
async def test_a_public_key_that_is_zero_modulo_n_is_refused_and_its_known_key_opens_nothing(
    unpaired: Served, times: int
) -> None:
    public_key = (N * times).to_bytes(385).lstrip(b"\0") or b"\0"
    async with raw_client(unpaired.address, unpaired.port) as attacker:
        await attacker.pair_setup(*BEGIN)
        proved = await attacker.pair_setup((STATE, b"\x03"), (PUBLIC_KEY, public_key), (PROOF, b"p" * 64))
        exchanged = await attacker.pair_setup(*EXCHANGE)
    assert (proved.tlv[STATE], proved.tlv[ERROR]) == (b"\x04", AUTHENTICATION)
    assert (exchanged.tlv[STATE], exchanged.tlv[ERROR]) == (b"\x06", UNKNOWN)
    assert failed_attempts(unpaired) == 1
    assert not unpaired.bridge.paired


async def test_a_key_of_a_length_that_none_has_is_a_failed_attempt(unpaired: Served) -> None:
    async with raw_client(unpaired.address, unpaired.port) as attacker:
        await attacker.pair_setup(*BEGIN)
        answer = await attacker.pair_setup((STATE, b"\x03"), (PUBLIC_KEY, b"\1" * 1000), (PROOF, b"p" * 64))
    assert answer.tlv[ERROR] == AUTHENTICATION
    assert failed_attempts(unpaired) == 1


@pytest.mark.parametrize(
    ("steps", "attempts"),
    [
        ([PROVE], 0),
        ([EXCHANGE], 0),
        ([BEGIN, EXCHANGE], 0),
        ([BEGIN, PROVE, PROVE], 1),
        ([BEGIN, PROVE, EXCHANGE], 1),
    ],
    ids=["M3", "M5", "M1-M5", "M1-M3-M3", "M1-M3-M5"],
)
async def test_a_step_out_of_order_is_refused_and_is_no_other_guess(
    unpaired: Served, steps: list[Parts], attempts: int
) -> None:
    async with raw_client(unpaired.address, unpaired.port) as attacker:
        answers = [await attacker.pair_setup(*step) for step in steps]
    assert answers[-1].tlv[ERROR] == UNKNOWN
    assert failed_attempts(unpaired) == attempts


async def test_a_wrong_code_is_refused_and_the_right_one_then_taken(unpaired: Served) -> None:
    with pytest.raises(AuthenticationError):
        await Controller.pair(unpaired.address, unpaired.port, "999-99-998")
    assert failed_attempts(unpaired) == 1
    controller = await unpaired.pair()
    await controller.close()


async def test_after_too_many_failures_nobody_can_pair_until_they_are_forgotten(tmp_path: Path) -> None:
    bridge = await started(tmp_path)
    await bridge.stop()
    stored = state_file.read(tmp_path)
    assert stored is not None
    state_file.write(tmp_path, replace(stored, failed_attempts=MOST_FAILED_ATTEMPTS - 1))
    bridge = await started(tmp_path)
    told = list[bool]()
    bridge.bridge.tell_of_changes(lambda: told.append(bridge.bridge.pairing_refused))
    with pytest.raises(AuthenticationError):
        await Controller.pair(bridge.address, bridge.port, "999-99-998")
    await eventually(lambda: told == [True])
    with pytest.raises(MaxTriesError):
        await bridge.pair()
    assert bridge.bridge.setup_info().pairing_refused
    await bridge.stop()
    bridge = await started(tmp_path)  # a restart gives no other hundred
    with pytest.raises(MaxTriesError):
        await bridge.pair()
    bridge.bridge.reset_attempts()
    assert (failed_attempts(bridge), bridge.bridge.pairing_refused) == (0, False)
    controller = await bridge.pair()
    await controller.close()
    await bridge.stop()


async def started(state_folder: Path) -> Served:
    return await Served.start(state_folder, SimulatedHost(GROUPS[1:2]), GROUPS[1:2])


async def test_another_controller_is_told_to_wait_until_the_first_has_gone(unpaired: Served) -> None:
    async with raw_client(unpaired.address, unpaired.port) as first:
        await first.pair_setup(*BEGIN)
        with pytest.raises(BusyError):
            await unpaired.pair()
    await eventually(lambda: unpaired.bridge._driver.pair_setup.holder is None)
    controller = await unpaired.pair()
    await controller.close()


async def test_one_that_never_ends_its_pairing_is_cut_off(
    unpaired: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sessions, "PAIR_SETUP_SECONDS", 0.3)
        async with raw_client(unpaired.address, unpaired.port) as slow:
            await slow.pair_setup(*BEGIN)
            await slow.pair_setup(*BEGIN)  # which gives no more time
            assert await slow.is_closed()
    controller = await unpaired.pair()
    await controller.close()


async def test_one_that_pairs_has_more_time_than_one_that_says_nothing(
    unpaired: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "AUTHENTICATION_SECONDS", 0.3)
    async with (
        raw_client(unpaired.address, unpaired.port) as silent,
        raw_client(unpaired.address, unpaired.port) as pairing,
    ):
        await pairing.pair_setup(*BEGIN)
        assert await silent.is_closed()
        assert (await pairing.pair_setup(*PROVE)).tlv[ERROR] == AUTHENTICATION


async def test_a_bridge_that_is_paired_is_not_available(unpaired: Served) -> None:
    controller = await unpaired.pair()
    with pytest.raises(UnavailableError):
        await unpaired.pair()
    async with raw_client(unpaired.address, unpaired.port) as attacker:
        assert (await attacker.pair_setup(*EXCHANGE)).tlv[ERROR] == UNAVAILABLE
    assert failed_attempts(unpaired) == 0
    await controller.close()
