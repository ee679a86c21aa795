"""A helper behind a socket, with somebody who starts one for each connection as systemd does."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from hkswitch.backend import helper_client
from hkswitch.backend.helper_host import HelperHost
from hkswitch.backend.helper_transport import SocketTransport
from hkswitch.model.errors import Exit
from hkswitch.model.switch_events import RequestOrigin
from hkswitch.model.unit_state import Action, ActionResult, GroupState
from tests.support.fake_systemd import FakeSystemd, Unit
from tests.support.fixtures import bus_address, fake, systemd_on_bus
from tests.support.helper import HelperProgram
from tests.support.host_with_helper import Recorder, groups_of, ignore
from tests.support.waiting import eventually

__all__ = ["bus_address", "fake", "systemd_on_bus"]


CONFIG = "groups: {web: {units: [httpd]}}"


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
    config_file.write_text(CONFIG)
    accepting = Accepting(tmp_path / "serviceswitch.sock", HelperProgram(config_file))
    running = asyncio.create_task(accepting.accept())
    yield accepting
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    accepting.close()
    for helper in accepting.helpers:
        await asyncio.wait_for(helper.wait(), 10)


@pytest.fixture
def told() -> Recorder:
    return Recorder(groups_of(CONFIG))


@pytest_asyncio.fixture(loop_scope="module")
async def host(tmp_path: Path, told: Recorder, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HelperHost]:
    """A host that is open: nobody accepts without the fixture `accepting`."""
    monkeypatch.setattr(helper_client, "BACK_OFF_SECONDS", (0.05,))
    host = HelperHost(told.groups.values(), SocketTransport(tmp_path / "serviceswitch.sock"))
    await host.open(told)
    yield host
    await host.close()


async def asked(host: HelperHost, group_id: str = "web") -> ActionResult:
    return await host.request(Action.START, group_id, ignore, RequestOrigin.CONTROLLER)


async def test_states_are_told_and_a_request_is_done_over_the_socket(
    accepting: Accepting, host: HelperHost, told: Recorder
) -> None:
    assert told.state("web") is GroupState.OFF
    assert await asked(host) == ActionResult()
    assert told.state("web") is GroupState.ON


async def test_what_the_config_does_not_allow_is_denied_over_the_socket(
    accepting: Accepting, host: HelperHost
) -> None:
    assert await asked(host, "none") == ActionResult("denied: there is no group 'none' in the configuration")


async def test_a_helper_that_is_killed_has_a_successor_and_nothing_is_told_anew(
    accepting: Accepting, host: HelperHost, told: Recorder
) -> None:
    told.forget()
    accepting.helpers[0].kill()
    await eventually(lambda: len(accepting.helpers) == 2 and not host.trouble())
    assert await asked(host) == ActionResult()
    assert told.states("web") == [GroupState.ON]


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


async def test_without_a_socket_open_does_not_fail_and_says_why_nothing_is_known(
    host: HelperHost, told: Recorder, tmp_path: Path
) -> None:
    why = f"{tmp_path / 'serviceswitch.sock'}: No such file or directory"
    assert host.trouble() == why
    assert told.last["web"].units is None
    assert why in told.why("web")
    assert await asked(host) == ActionResult(f"the helper is not running ({why})")


async def test_a_connection_that_is_closed_at_once_says_what_that_may_mean(
    tmp_path: Path, told: Recorder
) -> None:
    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_unix_server(refuse, tmp_path / "serviceswitch.sock")
    host = HelperHost(told.groups.values(), SocketTransport(tmp_path / "serviceswitch.sock"))
    await host.open(told)
    assert "too many helpers may be running or hanging" in told.why("web")
    await host.close()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    ("why", "advice"),
    [
        ("/run/serviceswitch.sock: No such file or directory", "systemctl enable --now serviceswitch.socket"),
        ("/run/serviceswitch.sock: Permission denied", "systemctl enable --now serviceswitch.socket"),
        ("it gave no reason", "sudo journalctl -u 'serviceswitch@*'"),
        ("it was not ready within 10 s", "sudo journalctl -u 'serviceswitch@*'"),
    ],
)
def test_a_helper_that_is_gone_is_explained(why: str, advice: str) -> None:
    assert why in SocketTransport().explain(why)
    assert advice in SocketTransport().explain(why)
