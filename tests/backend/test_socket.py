"""A helper behind a socket, with somebody who starts one for each connection as systemd does."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from hkswitch.backend import helper_client as helper_module
from hkswitch.backend.helper_client import Helper
from hkswitch.backend.helper_session import HelperGone, RequestRefused
from hkswitch.backend.socket import Socket, explain
from hkswitch.model.errors import Exit
from hkswitch.model.unit_state import Action
from tests.support.fake_systemd import FakeSystemd, Unit
from tests.support.fixtures import bus_address, fake, systemd_on_bus
from tests.support.helper import HelperProgram
from tests.support.waiting import eventually

__all__ = ["bus_address", "fake", "systemd_on_bus"]


class Accepting:
    """Starts the helper for each connection, with the connection as its standard input and output."""

    def __init__(self, path: Path, program: HelperProgram) -> None:
        self._program = program
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.setblocking(False)
        self._listening.bind(str(path))
        self._listening.listen()
        self.helpers: list[asyncio.subprocess.Process] = []

    async def accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(self._listening)
            with connection:
                connection.setblocking(True)
                ends = connection.fileno()
                command = self._program.command("serve")
                self.helpers.append(await asyncio.create_subprocess_exec(*command, stdin=ends, stdout=ends))

    def close(self) -> None:
        self._listening.close()


@pytest_asyncio.fixture(loop_scope="module")
async def accepting(tmp_path: Path, fake: FakeSystemd) -> AsyncIterator[Accepting]:
    fake.reset(Unit("httpd.service"))
    config_file = tmp_path / "config.yaml"
    config_file.write_text("groups: {web: {units: [httpd]}}")
    accepting = Accepting(tmp_path / "serviceswitch.sock", HelperProgram(config_file))
    running = asyncio.create_task(accepting.accept())
    yield accepting
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    accepting.close()
    for helper in accepting.helpers:
        await asyncio.wait_for(helper.wait(), 10)


@pytest_asyncio.fixture(loop_scope="module")
async def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Helper]:
    monkeypatch.setattr(helper_module, "BACK_OFF_SECONDS", (0.05,))
    helper = Helper(Socket(tmp_path / "serviceswitch.sock"))
    running = asyncio.create_task(helper.keep_running())
    yield helper
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def ignore() -> None:
    """Of no interest that it was accepted."""


async def test_a_request_is_done_over_the_socket(
    accepting: Accepting, helper: Helper, fake: FakeSystemd
) -> None:
    await eventually(lambda: helper.is_ready)
    finished = await helper.request(Action.START, "web", ignore)
    assert [(unit.unit, unit.job.success) for unit in finished.units] == [("httpd.service", True)]


async def test_what_the_config_does_not_allow_is_denied_over_the_socket(
    accepting: Accepting, helper: Helper
) -> None:
    await eventually(lambda: helper.is_ready)
    with pytest.raises(RequestRefused, match="there is no group 'none'"):
        await helper.request(Action.START, "none", ignore)


async def test_a_helper_that_is_killed_has_a_successor(accepting: Accepting, helper: Helper) -> None:
    await eventually(lambda: helper.is_ready)
    accepting.helpers[0].kill()
    await eventually(lambda: len(accepting.helpers) == 2 and helper.is_ready)


async def test_the_helper_ends_with_the_connection(accepting: Accepting, tmp_path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(tmp_path / "serviceswitch.sock")
    assert b"hello" in await asyncio.wait_for(reader.readline(), 10)
    writer.close()
    assert await asyncio.wait_for(accepting.helpers[0].wait(), 10) == 0


async def test_another_user_is_told_nothing(
    accepting: Accepting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAEMON_UID", str(os.getuid() + 1))
    reader, writer = await asyncio.open_unix_connection(tmp_path / "serviceswitch.sock")
    assert await asyncio.wait_for(reader.read(), 10) == b""
    assert await asyncio.wait_for(accepting.helpers[0].wait(), 10) == Exit.DENIED
    writer.close()


async def test_without_a_socket_a_request_fails_at_once(helper: Helper) -> None:
    await asyncio.wait_for(helper.tried(), 5)
    with pytest.raises(HelperGone, match="No such file or directory"):
        await helper.request(Action.START, "web", ignore)


@pytest.mark.parametrize(
    ("why", "advice"),
    [
        ("/run/serviceswitch.sock: No such file or directory", "systemctl enable --now serviceswitch.socket"),
        ("/run/serviceswitch.sock: Permission denied", "systemctl enable --now serviceswitch.socket"),
        ("it ended", "journalctl -u 'serviceswitch@*'"),
        ("it did not say hello within 10 s", "journalctl -u 'serviceswitch@*'"),
    ],
)
def test_a_helper_that_is_gone_is_explained(why: str, advice: str) -> None:
    assert why in explain(why)
    assert advice in explain(why)
