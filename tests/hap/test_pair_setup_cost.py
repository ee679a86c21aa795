"""The cost of pair-setup: one computation per answer, with turns for others in between."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from hkswitch.hap.pair_setup import Verifier
from tests.hap.conftest import Served
from tests.hap.test_pair_setup import BEGIN, PROVE, Parts, failed_attempts
from tests.support.raw_client import (
    ERROR,
    PUBLIC_KEY,
    RawClient,
    Said,
    raw_client,
    tlv,
)
from tests.support.waiting import eventually


@pytest.fixture
def worked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the computations in order, with "turn" for each turn of the loop."""
    done: list[str] = []
    derive_public, derive_secret, verifier = (
        Verifier._derive_B,
        Verifier._derive_premaster_secret,
        Verifier._get_verifier,
    )

    def noted(name: str, work: object) -> object:
        def do(self: Verifier) -> object:
            done.append(name)
            return work(self)  # type: ignore[operator] # it is one of the three

        return do

    monkeypatch.setattr(Verifier, "_derive_B", noted("challenge", derive_public))
    monkeypatch.setattr(Verifier, "_derive_premaster_secret", noted("secret", derive_secret))
    monkeypatch.setattr(Verifier, "_get_verifier", noted("code", verifier))
    return done


@pytest.fixture
async def turns(worked: list[str]) -> AsyncIterator[None]:
    loop, going = asyncio.get_running_loop(), [True]

    def turn() -> None:
        if going[0]:
            worked.append("turn")
            loop.call_soon(turn)

    loop.call_soon(turn)
    yield
    going[0] = False


def posted(*parts: tuple[int, bytes]) -> bytes:
    body = tlv(*parts)
    return f"POST /pair-setup HTTP/1.1\r\nHost: b\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def answers(one: RawClient, *steps: Parts) -> list[Said]:
    """Send all steps at once, and read all answers."""
    one.writer.write(b"".join(posted(*step) for step in steps))
    received = b""
    found: list[Said] = []
    async with asyncio.timeout(20):
        while len(found) < len(steps):
            received += await one.reader.read(65536)
            while (end := received.find(b"\r\n\r\n")) >= 0:
                head, rest = received[:end].lower(), received[end + 4 :]
                length = next(
                    int(line[15:]) for line in head.splitlines() if line.startswith(b"content-length")
                )
                if len(rest) < length:
                    break
                found.append(Said(200, rest[:length]))
                received = rest[length:]
    return found


async def test_100_beginnings_at_once_are_worked_out_once(unpaired: Served, worked: list[str]) -> None:
    async with raw_client(unpaired.address, unpaired.port) as one:
        said = await answers(one, *[BEGIN] * 100)
    assert len({answer.tlv[PUBLIC_KEY] for answer in said}) == 1
    assert set(worked) == {"code", "challenge"}
    assert worked.count("code") == 1


async def test_a_beginning_after_another_went_away_is_not_worked_out_again(
    unpaired: Served, worked: list[str]
) -> None:
    keys = []
    for _ in range(5):
        await eventually(lambda: unpaired.bridge._driver.pair_setup.holder is None)
        async with raw_client(unpaired.address, unpaired.port) as one:
            keys.append((await one.pair_setup(*BEGIN)).tlv[PUBLIC_KEY])
    assert len(set(keys)) == 1
    assert worked.count("code") == 1


async def test_a_challenge_that_was_answered_is_never_given_again(
    unpaired: Served, worked: list[str]
) -> None:
    async with raw_client(unpaired.address, unpaired.port) as one:
        said = await answers(one, *[BEGIN, PROVE] * 4)
    assert len({answer.tlv[PUBLIC_KEY] for answer in said[::2]}) == 4
    assert [answer.tlv[ERROR] for answer in said[1::2]] == [b"\x02"] * 4
    assert failed_attempts(unpaired) == 4
    assert worked.count("code") == 1


async def test_others_have_their_turn_between_two_answers(
    unpaired: Served, worked: list[str], turns: None
) -> None:
    async with raw_client(unpaired.address, unpaired.port) as one:
        await answers(one, *[BEGIN, PROVE] * 4)
    work = [what for what in worked if what != "turn"]
    assert work.count("secret") == 4
    at = [number for number, what in enumerate(worked) if what == "secret"]
    assert all("turn" in worked[before:after] for before, after in pairwise(at))


async def test_an_answer_of_one_that_went_away_is_not_worked_out(unpaired: Served, worked: list[str]) -> None:
    async with raw_client(unpaired.address, unpaired.port) as one:
        await one.pair_setup(*BEGIN)
        connection = unpaired.bridge._driver.pair_setup.holder
        assert connection is not None
        one.writer.write(posted(*PROVE))
        await one.writer.drain()
        unpaired.bridge._driver.pair_setup.end(connection)
        answer = await one.heard()
    assert answer.tlv[ERROR] == b"\x01"
    assert "secret" not in worked
    assert failed_attempts(unpaired) == 0


async def test_a_paired_bridge_works_nothing_out(unpaired: Served, worked: list[str]) -> None:
    controller = await unpaired.pair()
    worked.clear()
    async with raw_client(unpaired.address, unpaired.port) as one:
        said = await answers(one, *[BEGIN] * 100)
    assert {answer.tlv[ERROR] for answer in said} == {b"\x06"}
    assert worked == []
    await controller.close()
