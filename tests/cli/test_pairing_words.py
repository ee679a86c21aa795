"""What people are told about pairing: the remedy is right for the service, the demo and a second bridge."""

import io
import logging
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from hkswitch.cli import demo, render
from hkswitch.control import STATE_FOLDER, socket_of
from hkswitch.control.client import NoAnswer, NoDaemon, untrusted
from hkswitch.control.words import command, gone_from_home, locked
from hkswitch.daemon.bridge import CannotServe
from hkswitch.daemon.changes import after_restart
from hkswitch.daemon.notify import Notifier
from hkswitch.daemon.service import _Service
from hkswitch.doctor import account
from hkswitch.doctor.finding import Verdict
from hkswitch.hap.pairing_rules import PairingAttempts
from hkswitch.hap.setup_code import Setup
from hkswitch.hap.state_file import StateUnwritable
from hkswitch.model.config import BridgeConfig, Config
from hkswitch.model.errors import Failure
from hkswitch.network import addresses
from hkswitch.network.endpoint import Endpoint
from hkswitch.protocol.report import BridgeReport, PairedController, Report
from tests.support.pairings import SETUP

OTHER = Path("/home/me/a state")
CONFIG = Config(BridgeConfig(name="hkswitch demo"), demo.GROUPS)
LOOPBACK = Endpoint((addresses.LOOPBACK,), frozenset())
LOCKED = "pairing is locked after 100 wrong setup codes"


@dataclass
class Front:
    """What a bridge says of its pairings."""

    paired: bool = False
    pairing_refused: bool = False
    setup: Setup = SETUP
    left_out: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("folder", "words", "typed"),
    [
        (STATE_FOLDER, "pair", "`sudo hkswitch pair`"),
        (STATE_FOLDER, "unpair --all", "`sudo hkswitch unpair --all`"),
        (Path("/srv/x"), "pair", "`hkswitch pair --state-dir /srv/x`"),
        (OTHER, "pair", "`hkswitch pair --state-dir '/home/me/a state'`"),
    ],
)
def test_a_command_names_the_state_folder_unless_it_is_the_services(
    folder: Path, words: str, typed: str
) -> None:
    assert command(folder, words) == typed


def test_a_program_that_is_not_in_the_path_is_named_as_it_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "bin" / "hkswitch"
    own.parent.mkdir()
    own.touch(0o755)
    monkeypatch.setattr(sys, "argv", [str(own)])
    monkeypatch.setenv("PATH", "/nonexistent")
    assert command(OTHER, "pair").startswith(f"`{own} pair ")
    monkeypatch.setenv("PATH", str(own.parent))
    assert shutil.which("hkswitch") == str(own)
    assert command(OTHER, "pair").startswith("`hkswitch pair ")


# The demo


def said_by_demo(capsys: pytest.CaptureFixture[str], front: Front, *, address: str | None = None) -> str:
    terminal = demo._Terminal(None, address, None, OTHER)
    terminal.serving(CONFIG, LOOPBACK, cast("Any", front), "")
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("front", "said", "unsaid"),
    [
        (Front(), SETUP.code, "Already paired"),
        (Front(paired=True), f"Already paired. {gone_from_home(OTHER)}", SETUP.code),
        (Front(pairing_refused=True), f"No controller can pair: {locked(OTHER)}.", SETUP.code),
    ],
    ids=["not paired", "paired", "locked"],
)
def test_the_demo_shows_the_code_only_if_it_is_of_use_and_the_remedy_otherwise(
    capsys: pytest.CaptureFixture[str], front: Front, said: str, unsaid: str
) -> None:
    shown = said_by_demo(capsys, front)
    assert said in shown
    assert unsaid not in shown


@pytest.mark.parametrize(("address", "is_said"), [(None, True), ("127.0.0.1", False)])
def test_the_demo_says_that_there_is_no_default_route_only_if_that_is_why(
    capsys: pytest.CaptureFixture[str], address: str | None, is_said: bool
) -> None:
    shown = said_by_demo(capsys, Front(), address=address)
    assert ("There is no default route" in shown) is is_said


@pytest.mark.parametrize(
    ("address", "port", "bridge"),
    [
        (None, None, BridgeConfig("Homelab")),
        ("192.0.2.1", None, BridgeConfig("Homelab", addresses=("192.0.2.1",))),
        (None, 5000, BridgeConfig("Homelab", port=5000)),
    ],
)
async def test_the_demo_takes_the_groups_of_a_config_but_neither_its_network_nor_its_alert_command(
    tmp_path: Path, address: str | None, port: int | None, bridge: BridgeConfig
) -> None:
    file = tmp_path / "config.yaml"
    own = "bridge: {name: Homelab, port: 50000, address: 127.0.0.1}"
    file.write_text(f"{own}\nalert_command: [/opt/alert]\ngroups: {{web: {{units: [httpd]}}}}\n")
    terminal = demo._Terminal(file, address, port, tmp_path)
    config = await terminal.read()
    assert (config.bridge, config.alert_command) == (bridge, ())
    assert after_restart(config, config, terminal.restart) == ""
    assert [group.id for group in config.groups] == ["web"]
    file.write_text("bridge: {name: Other, port: 50001}\ngroups: {mail: {units: [exim4]}}\n")
    again = await terminal.read()
    assert [group.id for group in again.groups] == ["mail"]
    assert after_restart(again, config, terminal.restart) == (
        "changes to bridge.name take effect after a restart of the demo"
    )


@pytest.mark.parametrize(
    ("in_use", "remedy", "words"),
    [
        (
            True,
            "stop that program, or pass another --port",
            "port 1: x has it; stop that program, or pass another --port",
        ),
        (True, "", "port 1: x has it"),
        (False, "stop that program, or pass another --port", "port 1: x has it"),
    ],
)
def test_only_a_port_that_is_taken_has_the_remedy_of_who_started_the_bridge(
    in_use: bool, remedy: str, words: str
) -> None:
    failure = CannotServe(LOOPBACK, 1, "x has it", in_use=in_use, remedy=remedy)
    assert str(failure) == f"cannot serve HomeKit on 127.0.0.1, {words}"


# The service


@pytest.mark.parametrize(
    ("front", "folder", "level", "end"),
    [
        (Front(paired=True), STATE_FOLDER, logging.INFO, "paired"),
        (Front(), STATE_FOLDER, logging.INFO, "not paired: run `sudo hkswitch pair`"),
        (Front(), OTHER, logging.INFO, f"not paired: run {command(OTHER, 'pair')}"),
        (
            Front(pairing_refused=True),
            STATE_FOLDER,
            logging.WARNING,
            f"not paired; {LOCKED}; run `sudo hkswitch pair --reset-attempts` to unlock it",
        ),
    ],
)
def test_the_log_says_once_whether_a_controller_can_pair(
    caplog: pytest.LogCaptureFixture, front: Front, folder: Path, level: int, end: str
) -> None:
    service = _Service(Path("config.yaml"), folder, Notifier({}))
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            service.serving(CONFIG, LOOPBACK, cast("Any", front), "")
    assert [(each.levelno, each.getMessage()) for each in caplog.records] == [
        (level, f"serving 3 groups on 127.0.0.1, port 51826, {end}")
    ]


# status and doctor


@pytest.mark.parametrize(
    ("refused", "line"),
    [
        (False, "controllers: none paired; run `sudo hkswitch pair`"),
        (True, f"controllers: none paired; {LOCKED}; run `sudo hkswitch pair --reset-attempts` to unlock it"),
    ],
)
def test_status_says_whether_a_controller_can_pair(refused: bool, line: str) -> None:
    bridge = BridgeReport("Homelab", "1", 0, (), 51826, (), pairing_refused=refused)
    output = io.StringIO()
    render.show_report(Report(bridge, ()), Console(file=output, width=1000), STATE_FOLDER)
    assert line in output.getvalue().splitlines()


def test_status_of_another_bridge_names_its_state_folder() -> None:
    output = io.StringIO()
    bridge = BridgeReport("Homelab", "1", 0, (), 51826, ())
    render.show_report(Report(bridge, ()), Console(file=output, width=1000), OTHER)
    assert f"run {command(OTHER, 'pair')}" in output.getvalue()


@pytest.mark.parametrize(
    ("controllers", "is_locked", "advice"),
    [
        ((), False, "run `sudo hkswitch pair`"),
        ((), True, "run `sudo hkswitch pair --reset-attempts`"),
        ((PairedController("A", admin=True),), True, ""),
    ],
)
def test_the_doctor_names_what_lets_a_controller_pair(
    controllers: tuple[PairedController, ...], is_locked: bool, advice: str
) -> None:
    finding = account.paired(controllers, STATE_FOLDER, locked=is_locked)
    assert (finding.verdict is Verdict.OK, finding.advice) == (not advice, advice)


@pytest.mark.parametrize(
    ("failure", "of_service", "of_another"),
    [
        (NoDaemon, "run `sudo systemctl start hkswitch`", "start the daemon for this folder"),
        (partial(NoAnswer, why="x"), "x; see `systemctl status hkswitch`", ": x"),
        (
            partial(untrusted, user_id=7),
            "restart hkswitch.service",
            "restart the daemon for this folder",
        ),
    ],
)
def test_who_asks_another_bridge_is_not_sent_to_the_service(
    failure: Callable[[Path], Failure], of_service: str, of_another: str
) -> None:
    assert str(failure(socket_of(STATE_FOLDER))).endswith(of_service)
    assert str(failure(socket_of(OTHER))).endswith(of_another)
    assert "systemctl" not in str(failure(socket_of(OTHER)))


# When it locks


@dataclass
class Disk:
    """Where the state is written."""

    is_full: bool = False

    def persist(self) -> None:
        if self.is_full:
            raise StateUnwritable(Path("bridge.json"), os.strerror(28))

    def async_persist(self) -> None:
        pass


@pytest.mark.parametrize(
    ("before", "told", "is_locked"), [(0, 0, False), (98, 0, False), (99, 1, True), (100, 0, True)]
)
def test_the_hundredth_wrong_code_locks_pairing_and_is_told_once(
    before: int, told: int, is_locked: bool
) -> None:
    calls: list[None] = []
    attempts = PairingAttempts(before, Disk(), lambda: calls.append(None))
    assert attempts.count() == before + 1
    assert (len(calls), attempts.is_locked) == (told, is_locked)


@pytest.mark.parametrize("is_full", [False, True])
def test_what_is_forgotten_is_on_disk_or_it_is_not_forgotten(is_full: bool) -> None:
    calls: list[None] = []
    attempts = PairingAttempts(100, Disk(is_full), lambda: calls.append(None))
    try:
        attempts.forget()
    except StateUnwritable:
        assert is_full
    assert (attempts.is_locked, len(calls)) == ((True, 0) if is_full else (False, 1))
