"""Many addresses with the same fault make a few lines and a summary, and hide no other lines."""

import asyncio
import logging
from collections.abc import Iterator

import pytest

from hkswitch.hap.log_limiter import LOG_INTERVAL_SECONDS, MOST_SOURCES, RateLimitedLog

LOG = logging.getLogger("hkswitch.test")
DROPPED = "dropped an mDNS packet (%d)"


class Clock(asyncio.SelectorEventLoop):
    """An event loop with a simulated clock."""

    now_seconds = 0.0

    def time(self) -> float:
        return self.now_seconds

    def be_later(self, seconds: float) -> None:
        """Advance the clock, and run due callbacks."""
        self.now_seconds += seconds
        self.call_soon(self.stop)
        self.run_forever()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    own = Clock()
    monkeypatch.setattr("hkswitch.hap.log_limiter.asyncio.get_running_loop", lambda: own)
    yield own
    own.close()


def flood(complaints: RateLimitedLog, more: int = 240) -> None:
    for number in range(MOST_SOURCES + more):
        complaints.log_warning(f"fd00::{number:x}", DROPPED % number)


def test_a_flood_from_many_addresses_is_summed_up(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    complaints = RateLimitedLog(LOG)
    flood(complaints)
    clock.be_later(LOG_INTERVAL_SECONDS - 1)
    assert len(caplog.messages) == MOST_SOURCES
    clock.be_later(1)
    assert caplog.messages[MOST_SOURCES:] == [
        "240 more addresses in the last minute, for example fd00::ff: dropped an mDNS packet (255)"
    ]
    flood(complaints)
    clock.be_later(LOG_INTERVAL_SECONDS)
    assert len(caplog.messages) == 2 * MOST_SOURCES + 2


OTHER_KINDS = (
    "did not authenticate within 30 s",
    "too many connections of its controller, closing the one that has been idle longest",
    "request rejected with 404 (Not Found): GET /x",
)


@pytest.mark.parametrize("what", OTHER_KINDS)
def test_it_hides_no_line_of_another_kind(clock: Clock, caplog: pytest.LogCaptureFixture, what: str) -> None:
    complaints = RateLimitedLog(LOG)
    flood(complaints)
    complaints.log_warning("10.0.0.7", what)
    assert caplog.messages[MOST_SOURCES:] == [f"10.0.0.7: {what}"]


@pytest.mark.parametrize("what", ["request rejected with 405 (x): %s /", "malformed HTTP: '%s'", DROPPED])
def test_what_a_device_chooses_makes_no_other_kind(
    clock: Clock, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    complaints = RateLimitedLog(LOG)
    for number in range(500):
        text = what % (
            number if "%d" in what else f"{number:x}".translate(str.maketrans("0123456789", "ghijklmnop"))
        )
        complaints.log_warning(f"fd00::{number:x}", text)
    assert len(caplog.messages) == MOST_SOURCES


def test_nothing_is_summed_up_when_it_is_closed(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    complaints = RateLimitedLog(LOG)
    flood(complaints)
    complaints.close()
    clock.be_later(2 * LOG_INTERVAL_SECONDS)
    assert len(caplog.messages) == MOST_SOURCES
    flood(complaints)
    clock.be_later(LOG_INTERVAL_SECONDS)
    assert any("more addresses" in line for line in caplog.messages)
