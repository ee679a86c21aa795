"""The debug log of a real daemon: turned on in three ways, complete, without secrets, and limited."""

import asyncio
import base64
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hkswitch.backend.debug_log import described
from hkswitch.cli import run
from hkswitch.control import client, socket_of
from hkswitch.daemon import debug_log
from hkswitch.daemon.debug_log import (
    DEBUG_PERIOD_SECONDS,
    MOST_ADDRESSES,
    MOST_DEBUG_LINES,
    MOST_UNAUTHENTICATED_LINES,
    DebugLimit,
)
from hkswitch.protocol.control import ControlRequest, Operation, SetupInfo
from hkswitch.protocol.helper import Refused
from tests.support.controller import Controller
from tests.support.fake_systemd import FakeSystemd, Unit
from tests.support.fixtures import bus_address, fake, systemd_on_bus
from tests.support.helper import HelperProgram
from tests.support.ports import free_port
from tests.support.waiting import eventually

__all__ = ["bus_address", "fake", "systemd_on_bus"]


OVERLONG = "x" * 5000


@dataclass
class Program:
    """`hkswitch run` as a process, whose `sudo` starts the helper's code without root."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def lines(self) -> list[str]:
        """What it has logged, without the time."""
        return [line[9:] for line in (self.folder / "log").read_text().splitlines()]

    def has_logged(self, line: str, before: int) -> bool:
        """Whether this is one of the lines after the first ones."""
        return line in self.lines[before:]

    def has(self, *words: str) -> bool:
        """Whether a line has all these words."""
        return any(all(word in line for word in words) for line in self.lines)

    async def setup(self) -> SetupInfo:
        path = socket_of(self.folder / "state")
        setup = await asyncio.to_thread(client.ask, path, ControlRequest(Operation.SETUP))
        assert isinstance(setup, SetupInfo)
        return setup

    async def toggle(self) -> None:
        """Send SIGUSR1, and wait until it is obeyed."""
        before = sum(line.startswith("debug log: ") for line in self.lines)
        self.process.send_signal(signal.SIGUSR1)
        await eventually(lambda: sum(line.startswith("debug log: ") for line in self.lines) > before)


@asynccontextmanager
async def running(folder: Path, *options: str, **environment: str) -> AsyncIterator[Program]:
    """Have one that serves the group web."""
    port = free_port()
    bridge = f"bridge: {{name: Parlour, address: 127.0.0.1, port: {port}}}"
    (folder / "config.yaml").write_text(f"{bridge}\ngroups: {{web: {{name: Web Server, units: [httpd]}}}}\n")
    sudo = folder / "bin" / "sudo"
    sudo.parent.mkdir()
    sudo.write_text(f"#!/bin/sh\nexec {' '.join(HelperProgram(folder / 'config.yaml').command('serve'))}\n")
    sudo.chmod(0o755)
    arguments = ("--config", str(folder / "config.yaml"), "--state-dir", str(folder / "state"), *options)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 -- it takes no time to start
            (sys.executable, "-m", "hkswitch", "run", *arguments),
            stderr=log,
            env={**os.environ, **environment, "PATH": f"{sudo.parent}:{os.environ['PATH']}"},
        )
    program = Program(folder, port, process)
    try:
        await eventually(lambda: program.has("serving 1 group") and program.has("the helper is ready"))
        yield program
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)


@asynccontextmanager
async def paired(program: Program) -> AsyncIterator[Controller]:
    controller = await Controller.pair("127.0.0.1", program.port, (await program.setup()).code)
    try:
        yield controller
    finally:
        await controller.close()


@pytest.fixture
def systemd(fake: FakeSystemd) -> FakeSystemd:
    fake.reset(Unit("httpd.service"))
    return fake


ON = ("1", "on", "yes", "true", "TRUE", "please", " 1 ")
OFF = ("", " ", "0", "no", "No", "NO", "false", "False", "off", "OFF", " off\t")


@pytest.mark.parametrize(
    ("value", "is_on"), [*((each, True) for each in ON), *((each, False) for each in OFF)]
)
def test_the_variable_is_on_unless_it_says_off(value: str, is_on: bool) -> None:
    assert run.is_on(value) is is_on


NOT_TRUSTED = "denied: /usr/local/bin/lamp is not trusted: its owner is uid 7"
NO_USER = "denied: there is no user 'tv'"


@pytest.mark.parametrize("reason", [NOT_TRUSTED, NO_USER])
def test_a_denial_names_its_program_or_user_and_the_documents_say_so(reason: str) -> None:
    assert described(Refused(1, reason)) == f"request 1: refused: {reason}"
    what = "the program or user because of which an action is denied"
    for path in ("docs/troubleshooting.md", "docs/man/hkswitch.1"):
        assert what in (Path(__file__).parents[2] / path).read_text()


def spellings(secret: str) -> Iterator[str]:
    """A secret as a log could have it: as text, in hex, in base64, and as Python shows bytes."""
    yield secret
    try:
        value = bytes.fromhex(secret)
    except ValueError:
        value = secret.encode()
    yield from (value.hex(), value.hex().upper(), value.hex(":"), base64.b64encode(value).decode())
    yield repr(value)[2:-1]
    yield str(list(value))


def secrets_of(state: Any, setup: SetupInfo, pairing: dict[str, Any]) -> list[str]:  # noqa: ANN401 -- JSON
    """All of a pairing that no log may have: the bridge's and the controller's keys, and the setup code."""
    accessory = state["accessory"]
    return [
        *(setup.code, setup.code.replace("-", ""), setup.payload, accessory["private_key"]),
        *(accessory["public_key"], *accessory["paired_clients"].values()),
        *(pairing[key] for key in ("AccessoryLTPK", "iOSDeviceLTSK", "iOSDeviceLTPK")),
    ]


@pytest.mark.asyncio(loop_scope="module")
async def test_everything_that_happens_is_a_line_and_none_has_a_secret(
    tmp_path: Path, systemd: FakeSystemd
) -> None:
    async with running(tmp_path, "--verbose") as program:
        async with paired(program) as controller:
            await controller.subscribe()
            assert await controller.write("Web Server", on=True) == 0
            assert await controller.read("Web Server") is True
            aid, iid = controller.switches["Web Server"].on
            both = [{"aid": aid, "iid": iid, "ev": True}, {"aid": 1, "iid": 999, "value": True}]
            await controller._put_json(both)
            systemd.change("httpd.service", "inactive", "dead")
            assert await controller.event("Web Server") is False
        setup = await program.setup()
        pairing: dict[str, Any] = dict(controller.pairing.pairing_data)
        who = f"{pairing['iOSPairingId'].upper()[:4]}…"
        for words in (
            ("mDNS: announced Parlour",),
            ("network: 127.0.0.1",),
            ("to the helper: report all states",),
            ("from the helper: group web: httpd.service",),
            ("127.0.0.1: POST /pair-setup",),
            ("127.0.0.1: 200, ",),
            (f"{who}: authenticated, from 127.0.0.1",),
            (f"{who}: GET /accessories",),
            (f"{who}: PUT /characteristics: ", ".", "=true"),
            (f"web: write 1: group on by {who}",),
            ("web: request ", ": start"),
            ("to the helper: request 1: start web",),
            ("from the helper: request 1: accepted",),
            ("from the helper: states: httpd.service=active/",),
            ("web: reported: httpd.service=active/",),
            ("from the helper: request 1: finished: httpd.service=done",),
            ("web: write 1: success",),
            (f"{who}: 204",),
            (f"{who}: 207: 1.999 status=-70409 {aid}.{iid} status=0",),
            (f"{who}: GET /characteristics?id=",),
            (f"{who}: 200: ", "=true"),
            ("web: show group off",),
            (f"{who}: event: ", "=false"),
        ):
            await eventually(partial(program.has, *words))
        log = (tmp_path / "log").read_text()
    state = json.loads((tmp_path / "state" / "bridge.json").read_text())
    secrets = secrets_of(state, setup, pairing)
    assert all(len(secret) >= len("12345678") for secret in secrets)
    found = [each for secret in secrets for each in spellings(secret) if each in log]
    assert found == []


@pytest.mark.parametrize(
    ("options", "environment", "is_on"),
    [
        ((), {}, False),
        (("--verbose",), {}, True),
        ((), {"HKSWITCH_DEBUG": "1"}, True),
    ],
    ids=["off", "--verbose", "HKSWITCH_DEBUG"],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_an_option_a_variable_or_a_signal_turns_it_on(
    tmp_path: Path,
    systemd: FakeSystemd,
    options: tuple[str, ...],
    environment: dict[str, str],
    is_on: bool,
) -> None:
    async with running(tmp_path, *options, **environment) as program:
        for _ in range(2):
            before = len(program.lines)
            for active, sub, line in (("active", "running", "web: on"), ("inactive", "dead", "web: off")):
                systemd.change("httpd.service", active, sub)
                await eventually(partial(program.has_logged, line, before))
            assert any("from the helper" in line for line in program.lines[before:]) is is_on
            await program.toggle()
            is_on = not is_on
            told = [line for line in program.lines if line.startswith("debug log: ")]
            assert told[-1] == f"debug log: {'on' if is_on else 'off'}"


@pytest.mark.asyncio(loop_scope="module")
async def test_an_unpaired_device_has_few_lines_and_hides_none_of_a_controller(
    tmp_path: Path, systemd: FakeSystemd
) -> None:
    del systemd
    async with running(tmp_path, "--verbose") as program, paired(program) as controller:
        for number in range(100):
            reader, writer = await asyncio.open_connection("127.0.0.1", program.port)
            writer.write(f"GET /{number}{OVERLONG} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            writer.close()
        assert await controller.read("Web Server") is False
        await eventually(lambda: program.has("200: ", "=false"))
        from_device = [line for line in program.lines if line.startswith("127.0.0.1: ")]
        assert 0 < len(from_device) <= MOST_UNAUTHENTICATED_LINES + 16  # which it has without the debug log
        assert max(map(len, program.lines)) < 300


def logged(
    limit: DebugLimit, name: str, text: str, level: int = logging.DEBUG, address: str | None = None
) -> str | None:
    record = logging.LogRecord(name, level, "", 0, "%s", (text,), None)
    if address is not None:
        record.address = address
    return record.getMessage() if limit.filter(record) else None


@pytest.fixture
def now_seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test may change."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_a_logger_has_so_many_lines_in_a_minute_and_hides_no_other(now_seconds: list[float]) -> None:
    limit = DebugLimit()
    assert sum(logged(limit, "hkswitch.a", "x") is not None for _ in range(5000)) == MOST_DEBUG_LINES
    assert logged(limit, "hkswitch.a", "an error", logging.ERROR) == "an error"
    assert logged(limit, "hkswitch.b", "x") == "x"
    now_seconds[0] = DEBUG_PERIOD_SECONDS
    dropped = 5000 - MOST_DEBUG_LINES
    assert logged(limit, "hkswitch.a", "y") == f"y (dropped {dropped} earlier lines)"
    assert logged(limit, "hkswitch.a", "z") == "z"


@pytest.mark.usefixtures("now_seconds")
def test_an_unauthenticated_device_hides_neither_another_nor_a_controller() -> None:
    limit = DebugLimit()
    scanner = [logged(limit, "hkswitch.a", "x", address="10.0.0.66") for _ in range(5000)]
    assert sum(line is not None for line in scanner) == MOST_UNAUTHENTICATED_LINES
    assert logged(limit, "hkswitch.a", "pair-verify", address="10.0.0.2") == "pair-verify"
    assert logged(limit, "hkswitch.a", "a controller") == "a controller"


def test_devices_with_many_addresses_share_a_limit_until_there_is_room(now_seconds: list[float]) -> None:
    limit = DebugLimit()
    lines = [logged(limit, "hkswitch.a", "x", address=f"10.0.{n // 256}.{n % 256}") for n in range(5000)]
    assert sum(line is not None for line in lines) == MOST_ADDRESSES + MOST_UNAUTHENTICATED_LINES
    assert logged(limit, "hkswitch.a", "late", address="10.1.0.1") is None
    now_seconds[0] = DEBUG_PERIOD_SECONDS
    assert logged(limit, "hkswitch.a", "late", address="10.1.0.1") == "late"


def test_a_line_is_short_and_printable() -> None:
    text = logged(DebugLimit(), "hkswitch.a", f"\x1b[2J\nroot: {OVERLONG}")
    assert text is not None
    assert text.startswith(r"\x1b[2J; root: xxx")
    assert text.endswith("x...")
    assert len(text) == debug_log.LONGEST_DEBUG_LINE


LIBRARIES = """
import logging
from hkswitch.daemon import logs

logs.begin({}, verbose=True)
for name in ("pyhap.hap_handler", "pyhap.encoder", "zeroconf", "asyncio"):
    logging.getLogger(name).setLevel(logging.DEBUG)
    logging.getLogger(name).debug("a key of %s", name)
logging.getLogger("hkswitch.part").debug("ours")
"""


def test_libraries_have_no_part_in_it() -> None:
    """HAP-python's debug lines have keys in them; they stay out even if its level lets them through."""
    done = subprocess.run((sys.executable, "-c", LIBRARIES), capture_output=True, text=True, check=True)
    assert [line[9:] for line in done.stderr.splitlines()] == ["ours"]
