"""Many addresses that do the same wrong are a few lines and a sum, and hide nothing else."""

import asyncio
import logging
import re

import pytest

from hkswitch.hap import limits
from hkswitch.hap.complaints import ComplaintLog
from hkswitch.hap.limits import MOST_SOURCES
from tests.support.waiting import eventually

LOG = logging.getLogger("hkswitch.test")
DROPPED = "an mDNS packet was dropped (%d)"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COMPLAINT_SECONDS", 0.2)


def flood(complaints: ComplaintLog, more: int = 240) -> None:
    for number in range(MOST_SOURCES + more):
        complaints.complain(f"fd00::{number:x}", DROPPED % number)


async def test_a_flood_from_many_addresses_is_summed_up(caplog: pytest.LogCaptureFixture) -> None:
    complaints = ComplaintLog(LOG)
    flood(complaints)
    assert len(caplog.messages) == MOST_SOURCES
    await eventually(lambda: len(caplog.messages) > MOST_SOURCES)
    assert caplog.messages[MOST_SOURCES:] == [
        "240 more addresses in a minute, such as fd00::ff: an mDNS packet was dropped (255)"
    ]
    flood(complaints)
    await eventually(lambda: len(caplog.messages) == 2 * MOST_SOURCES + 2)


OTHER_KINDS = (
    "it did not say in time who it is",
    "its controller has too many connections; the longest idle one is closed",
    "b'GET' b'/x' is answered with 404 (NotOffered())",
)


@pytest.mark.parametrize("what", OTHER_KINDS)
async def test_it_hides_no_line_of_another_kind(caplog: pytest.LogCaptureFixture, what: str) -> None:
    complaints = ComplaintLog(LOG)
    flood(complaints)
    complaints.complain("10.0.0.7", what)
    assert caplog.messages[MOST_SOURCES:] == [f"10.0.0.7: {what}"]
    complaints.close()


@pytest.mark.parametrize("what", ["b'%s' b'/' is answered with 405 (x)", "this is not HTTP: '%s'", DROPPED])
async def test_what_a_device_chooses_makes_no_other_kind(caplog: pytest.LogCaptureFixture, what: str) -> None:
    complaints = ComplaintLog(LOG)
    for number in range(500):
        text = what % (
            number if "%d" in what else f"{number:x}".translate(str.maketrans("0123456789", "ghijklmnop"))
        )
        complaints.complain(f"fd00::{number:x}", text)
    assert len(caplog.messages) == MOST_SOURCES
    complaints.close()


async def test_nothing_is_summed_up_when_it_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    complaints = ComplaintLog(LOG)
    flood(complaints)
    complaints.close()
    await asyncio.sleep(0.25)
    assert len(caplog.messages) == MOST_SOURCES
    assert not any(re.search("more addresses", line) for line in caplog.messages)
