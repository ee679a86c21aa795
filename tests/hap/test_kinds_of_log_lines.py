"""Text that a device chooses never creates a kind of log line: each kind would add 16 lines."""

import asyncio
import logging
from pathlib import Path

import pytest

from hkswitch.backend.simulated import SimulatedHost
from hkswitch.hap.log_limiter import MOST_SOURCES, RateLimitedLog
from tests.hap.conftest import GROUPS, Served
from tests.support.waiting import PATIENCE_SECONDS

METHODS = ("GET", "get", "a", "it", "pairing", "malformed", "the-", "'x")


async def refused(bridge: Served, number: int) -> bytes:
    """Return the response to a device at another address."""
    local = (f"127.0.1.{number + 1}", 0)
    reader, writer = await asyncio.open_connection(bridge.address, bridge.port, local_addr=local)
    method = METHODS[number % len(METHODS)]
    writer.write(f"{method} /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(PATIENCE_SECONDS):
        answer = await reader.read()
    writer.close()
    return answer


async def test_methods_of_a_devices_own_are_one_kind_of_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bridge = await Served.start(tmp_path, SimulatedHost(GROUPS[1:2]), GROUPS[1:2])
    try:
        for number in range(4 * MOST_SOURCES):
            assert (await refused(bridge, number)).startswith(b"HTTP/1.1 404 ")
    finally:
        await bridge.stop()
    lines = [line for line in caplog.messages if line.startswith("127.0.1.")]
    assert len(lines) == MOST_SOURCES
    assert lines[1] == "127.0.1.2: request rejected with 404 (Not Found): get /nothing"


async def test_a_log_that_was_closed_sums_up_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("hkswitch.hap.log_limiter.LOG_INTERVAL_SECONDS", 0.01)
    complaints = RateLimitedLog(logging.getLogger("hkswitch.test"))
    for start in range(2):  # a bridge that cannot start closes it, and tries again
        caplog.clear()
        for number in range(2 * MOST_SOURCES):
            complaints.log_warning(f"fd0{start}::{number:x}", "it does so")
        if not start:
            complaints.close()
            await asyncio.sleep(0.02)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not any("more addresses in the last minute" in line for line in caplog.messages):  # noqa: ASYNC110 -- nothing tells of it
            await asyncio.sleep(0.01)
