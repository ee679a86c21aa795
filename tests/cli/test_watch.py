"""`hkswitch status --watch`: it goes on until Ctrl-C, whatever becomes of the daemon."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from hkswitch.cli import status
from hkswitch.cli.status import WatchedReport
from hkswitch.control import SOCKET_NAME
from hkswitch.control.client import NoAnswer, NoDaemon
from hkswitch.control.server import served
from hkswitch.model.errors import Failure
from hkswitch.model.unit_state import GroupState
from hkswitch.protocol.control import Status, encode_control_reply
from hkswitch.protocol.report import GroupReport, Report
from tests.support.pairings import NotedPairings

WEB = GroupReport("web", "Web", GroupState.ON, 1, {})
FILES = GroupReport("files", "Files", GroupState.OFF, 1, {})
BOTH = Report(None, (WEB, FILES))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "ASK_DAEMON_AGAIN_SECONDS", 0.02)


@asynccontextmanager
async def watched(folder: Path, *groups: str) -> AsyncIterator[Callable[[], asyncio.Task[WatchedReport]]]:
    """What is seen next, and then; the command line blocks, so it has a thread."""
    seen: Iterator[WatchedReport] = status.watch_reports(folder, groups)
    asked: list[asyncio.Task[WatchedReport]] = []

    def next_seen() -> asyncio.Task[WatchedReport]:
        asked.append(asyncio.create_task(asyncio.to_thread(next, seen)))
        return asked[-1]

    async with asyncio.timeout(20):
        yield next_seen
    seen.close()  # type: ignore[attr-defined] # it is a generator


def daemon(report: Report) -> NotedPairings:
    return NotedPairings(shown=report)


async def test_a_daemon_that_goes_away_is_said_once_and_the_next_one_is_watched(tmp_path: Path) -> None:
    path = tmp_path / SOCKET_NAME
    later = Report(None, (WEB._replace(state=None),))
    async with watched(tmp_path) as seen:
        async with served(path, daemon(BOTH)):
            assert await seen() == WatchedReport(BOTH)
        assert await seen() == WatchedReport(BOTH, daemon_ended=True)
        for _ in range(3):  # restarts
            waiting = seen()
            done, _ = await asyncio.wait([waiting], timeout=0.1)
            assert not done  # it is not said again and again
            async with served(path, daemon(later)):
                assert await waiting == WatchedReport(later)
            assert await seen() == WatchedReport(later, daemon_ended=True)
        last = seen()
        async with served(path, daemon(BOTH)):
            assert await last == WatchedReport(BOTH)


async def test_without_a_daemon_at_the_beginning_it_fails_at_once(tmp_path: Path) -> None:
    async with watched(tmp_path) as seen:
        with pytest.raises(NoDaemon):
            await seen()


async def test_a_daemon_that_closes_at_the_beginning_is_no_daemon_to_wait_for(tmp_path: Path) -> None:
    async with sending(tmp_path, b""), watched(tmp_path) as seen:
        with pytest.raises(NoAnswer):
            await seen()


async def test_a_group_that_does_not_exist_at_the_beginning_is_a_mistake(tmp_path: Path) -> None:
    async with served(tmp_path / SOCKET_NAME, daemon(BOTH)), watched(tmp_path, "web", "no") as seen:
        with pytest.raises(Failure, match="there is no group 'no'"):
            await seen()


async def test_a_group_that_a_reload_removes_may_come_back(tmp_path: Path) -> None:
    noted = daemon(BOTH)
    async with served(tmp_path / SOCKET_NAME, noted), watched(tmp_path, "web") as seen:
        assert await seen() == WatchedReport(Report(None, (WEB,)))
        for shown, expected in ((Report(None, (FILES,)), ()), (BOTH, (WEB,))):
            noted.shown = shown
            assert noted.changed is not None
            noted.changed.set()
            assert await seen() == WatchedReport(Report(None, expected))


@asynccontextmanager
async def sending(folder: Path, line: bytes) -> AsyncIterator[None]:
    """A daemon that answers with a line and closes, as one of another version may."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        with suppress(ConnectionError):
            writer.write(line)
            await writer.drain()
        writer.close()

    path = folder / SOCKET_NAME
    async with await asyncio.start_unix_server(serve, path):
        yield
    path.unlink(missing_ok=True)


def changed(**changes: object) -> bytes:
    """The answer of a daemon of another version."""
    said = json.loads(encode_control_reply(Status(BOTH)))
    said["report"] |= changes
    return json.dumps(said).encode() + b"\n"


async def test_the_next_daemon_may_be_a_newer_one(tmp_path: Path) -> None:
    async with watched(tmp_path) as seen, AsyncExitStack() as first:
        await first.enter_async_context(served(tmp_path / SOCKET_NAME, daemon(Report(None, ()))))
        assert await seen() == WatchedReport(Report(None, ()))
        await first.aclose()
        assert await seen() == WatchedReport(Report(None, ()), daemon_ended=True)
        async with sending(tmp_path, changed(moon="full")):
            assert await seen() == WatchedReport(BOTH)
            assert await seen() == WatchedReport(BOTH, daemon_ended=True)


async def test_a_next_daemon_that_cannot_be_understood_is_the_end(tmp_path: Path) -> None:
    async with watched(tmp_path) as seen:
        async with served(tmp_path / SOCKET_NAME, daemon(BOTH)):
            assert await seen() == WatchedReport(BOTH)
        assert await seen() == WatchedReport(BOTH, daemon_ended=True)
        async with sending(tmp_path, changed(version=2)):
            with pytest.raises(
                Failure, match=r"unsupported version of the report\): are both the same version\?"
            ):
                await seen()
