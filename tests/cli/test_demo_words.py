"""What the demo says is true of the demo: what it reads, what it heard of before, and what helps there."""

import asyncio
import os
import pty
import re
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from hkswitch.backend import simulated_faults
from hkswitch.cli import demo, pair
from hkswitch.control import STATE_FOLDER, client
from hkswitch.control.words import command
from hkswitch.daemon.notify import Notifier
from hkswitch.daemon.service import _Service
from hkswitch.hap.setup_code import Setup
from hkswitch.hap.stored_pairings import NoBridgeYet
from hkswitch.model.config import BridgeConfig, parse
from hkswitch.model.errors import ConfigError, Failure
from hkswitch.model.group import AlertSensor, Commands, Group
from hkswitch.network import addresses
from hkswitch.network.endpoint import Endpoint
from hkswitch.protocol.control import ControlRequest, Operation
from tests.cli.test_pairing_words import CONFIG, LOOPBACK, Front
from tests.support.command import HKSWITCH, run
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_SECONDS

SETUP = Setup("031-45-154", "ABCD")


def terminal(folder: Path = Path("/srv/x"), address: str | None = None) -> demo._Terminal:
    return demo._Terminal(None, address, None, folder)


def said(capsys: pytest.CaptureFixture[str], of: demo._Terminal, *, trouble: str = "", **front: Any) -> str:  # noqa: ANN401
    of.serving(CONFIG, LOOPBACK, cast("Any", Front(**front)), trouble)
    return capsys.readouterr().out


# --address

REFUSED = ("fe80::1", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "fd00::1%eth0", "x", "")


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_the_configuration_refuses_is_misuse_with_its_sentence(
    tmp_path: Path, address: str
) -> None:
    text = f"bridge: {{address: '{address}'}}\ngroups: {{web: {{units: [httpd]}}}}\n"
    with pytest.raises(ConfigError) as caught:
        parse(text.encode(), "x")
    [problem] = caught.value.problems
    code, output, errors = run("demo", "--address", address, "--state-dir", tmp_path)
    assert (code, output) == (64, "")
    assert errors.splitlines()[-1] == f"Error: Invalid value for '--address': {problem.message}"


@pytest.mark.parametrize("address", ["127.0.0.1", "192.168.1.10", "::1", "fe80::1%eth0", "FD00::1"])
def test_an_address_that_the_configuration_takes_is_taken_in_its_form(address: str) -> None:
    [option] = [each for each in demo.demo.params if each.name == "address"]
    assert option.callback is not None
    assert option.callback(cast("Any", None), option, address) == address.lower()


# The network


@pytest.mark.parametrize(
    ("lack", "address", "expected"),
    [
        (
            "a default route: there is none; set bridge.interface",
            None,
            f"a default route: cannot choose an address without a default route; {demo.NAME_ADDRESS}",
        ),
        (
            "192.0.2.7: no interface that is up has it",
            "192.0.2.7",
            "192.0.2.7: no interface that is up has it",
        ),
        ("", None, ""),
    ],
)
def test_the_demo_names_the_option_that_helps_and_no_key_that_it_does_not_read(
    monkeypatch: pytest.MonkeyPatch, lack: str, address: str | None, expected: str
) -> None:
    place = Endpoint(("192.0.2.1",), frozenset({1}), lack)
    monkeypatch.setattr(addresses, "endpoint_of", lambda *_: place)
    bridge = BridgeConfig(addresses=() if address is None else (address,))
    found = terminal(address=address).find(bridge, place)
    assert found == Endpoint(("192.0.2.1",), frozenset({1}), expected)


# Troubles


@pytest.mark.parametrize("trouble", ["r/demo.yaml:1:9: groups: must be a list", "cannot write x"])
def test_a_trouble_is_said_as_it_is(capsys: pytest.CaptureFixture[str], trouble: str) -> None:
    assert f"\nNote: {trouble}.\n" in said(capsys, terminal(), trouble=trouble)


def test_a_group_that_no_phone_is_shown_is_not_served(capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(capsys, terminal(), left_out=frozenset({"web"}))
    assert "Serving simulated switches: VM Guests, File Server.\n" in shown


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (CONFIG.groups, []),
        (
            demo.TROUBLED_GROUPS,
            [
                (
                    "Simulated crashes: Mail Server, 60 seconds after each start, for 20 seconds; "
                    "the sensor detects it."
                ),
                "Simulated load: Photos, 20 seconds after each start; the rule then restarts it.",
            ],
        ),
        (
            (demo.TROUBLED_GROUPS[0], replace(demo.TROUBLED_GROUPS[0], id="b", name="Backup")),
            [
                (
                    "Simulated crashes: Mail Server, Backup, 60 seconds after each start, for 20 seconds; "
                    "the sensor detects it."
                )
            ],
        ),
        (
            (replace(demo.TROUBLED_GROUPS[1], alert=AlertSensor.LEAK),),
            ["Simulated load: Photos, 20 seconds after each start; the rule then restarts it."],
        ),
        ((Group("lamp", "Lamp", commands=Commands(("/opt/on",)), alert=AlertSensor.CONTACT),), []),
    ],
)
def test_the_demo_names_the_groups_that_it_gives_faults(
    capsys: pytest.CaptureFixture[str], groups: tuple[Group, ...], expected: list[str]
) -> None:
    terminal().serving(replace(CONFIG, groups=groups), LOOPBACK, cast("Any", Front(setup=SETUP)), "")
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if line.startswith("Simulated ")] == expected


def test_the_rule_of_the_demo_acts_within_a_minute_of_a_start() -> None:
    [rule] = (group.restart_when for group in demo.TROUBLED_GROUPS if group.restart_when)
    seconds = simulated_faults.CALM_SECONDS + rule.for_seconds + 2 * demo.FAULTS_EVERY_SECONDS
    assert seconds <= 60


# Changes


def test_the_demo_prints_only_what_has_changed(capsys: pytest.CaptureFixture[str]) -> None:
    own = terminal()
    assert said(capsys, own, setup=SETUP).startswith("Serving simulated switches: ")
    assert said(capsys, own, setup=SETUP) == ""
    assert said(capsys, own, setup=SETUP, trouble="cannot write x") == "Note: cannot write x.\n"
    assert said(capsys, own, setup=SETUP, trouble="cannot write x") == ""
    assert said(capsys, own, setup=SETUP) == "The last note no longer applies.\n"
    assert said(capsys, own, paired=True) == f"Paired. {demo.REMOVE_FIRST}\n"


def test_the_demo_prints_its_address_again_when_the_network_is_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = terminal()
    said(capsys, own, setup=SETUP)
    own.waiting("waiting for 192.0.2.7: no interface that is up has it")
    assert capsys.readouterr().out == "Waiting for 192.0.2.7: no interface that is up has it.\n"
    assert re.fullmatch(r"Address: .*\n", said(capsys, own, setup=SETUP))


# Pairings


@pytest.mark.parametrize(
    ("paired", "words"),
    [
        ([True], ["Already paired."]),
        ([True, True], ["Already paired.", ""]),
        ([False, True], ["Setup code:", "Paired."]),
        ([False, True, True], ["Setup code:", "Paired.", ""]),
        ([True, False, True], ["Already paired.", "Setup code:", "Paired."]),
    ],
)
def test_the_demo_says_already_paired_only_of_a_pairing_that_was_there_at_the_start(
    capsys: pytest.CaptureFixture[str], paired: list[bool], words: list[str]
) -> None:
    own = terminal()
    for is_paired, expected in zip(paired, words, strict=True):
        shown = said(capsys, own, paired=is_paired, setup=SETUP).splitlines() or [""]
        assert any(line.startswith(expected) for line in shown)
        assert (shown == [""]) is (expected == "")
        assert any("unpair --all" in line for line in shown) == (expected == "Already paired.")
        assert any("Add Anyway" in line for line in shown) == (expected == "Setup code:")


# Restarts


@pytest.mark.parametrize(
    ("restart", "words"),
    [
        (terminal().restart, "a restart of the demo"),
        (_Service(Path("c"), STATE_FOLDER, Notifier({})).restart, "`sudo systemctl restart hkswitch`"),
        (_Service(Path("c"), Path("/srv/x"), Notifier({})).restart, "a restart"),
    ],
)
def test_each_bridge_names_what_restarts_it(restart: str, words: str) -> None:
    assert restart == words


async def test_a_reload_of_the_demo_says_what_takes_a_restart_and_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "demo.yaml"

    def write(name: str, groups: str = "{web: {units: [httpd]}}") -> None:
        file.write_text(f"bridge: {{name: {name}}}\ngroups: {groups}\n")

    async def reloaded() -> tuple[int, str, str]:
        return await asyncio.to_thread(run, "reload", "--state-dir", tmp_path / "s2")

    write("One")
    where = ("--config", "demo.yaml", "--address", "127.0.0.1", "--port", str(free_port()))
    process = await asyncio.create_subprocess_exec(
        *(HKSWITCH, "demo", *where, "--state-dir", "s2"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    try:
        await _line(process.stdout, lambda line: line.startswith("Setup code: "))
        assert await reloaded() == (0, "reloaded\n", "")
        write("Two")
        note = "changes to bridge.name take effect after a restart of the demo"
        assert await reloaded() == (0, f"reloaded: {note}\n", "")
        write("One", "1")
        assert (await reloaded())[0] == 78
        await _line(process.stdout, lambda line: line.startswith("Note: demo.yaml:2:9: groups: "))
    finally:
        process.send_signal(signal.SIGTERM)
        await process.communicate()


def test_the_demo_ends_with_its_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    where = ("--address", "127.0.0.1", "--port", str(free_port()), "--state-dir", str(tmp_path / "s"))
    command = ("setsid", "--ctty", HKSWITCH, "demo", *where)
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as demo_process:
        os.close(theirs)
        try:
            printed = b""
            while b"Setup code: " not in printed:
                printed += os.read(ours, 4096)
            os.close(ours)
            assert demo_process.wait(PATIENCE_SECONDS) == 0
        finally:
            demo_process.kill()


async def _line(output: asyncio.StreamReader, is_it: Callable[[str], bool]) -> str:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not is_it(line := (await output.readline()).decode()):
            assert line
        return line


# Commands


def test_a_command_works_in_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(Path("r/s2"), "pair") == f"`hkswitch pair --state-dir {tmp_path}/r/s2`"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "hkswitch").touch(0o755)
    monkeypatch.setattr("sys.argv", ["bin/hkswitch"])
    monkeypatch.setenv("PATH", os.devnull)
    assert command(Path("r"), "pair") == f"`{tmp_path}/bin/hkswitch pair --state-dir {tmp_path}/r`"


@pytest.mark.parametrize(
    ("folder", "remedy"),
    [
        (None, "run `sudo systemctl start hkswitch` first, or pass the --state-dir of another bridge"),
        ("nosuch", "start the daemon for this folder first"),
    ],
)
def test_a_folder_without_a_bridge_has_a_remedy_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str | None, remedy: str
) -> None:
    monkeypatch.setattr("hkswitch.control.STATE_FOLDER", tmp_path / "service")
    monkeypatch.setattr("hkswitch.control.RUNTIME_FOLDER", tmp_path / "run")
    state_folder = tmp_path / (folder or "service")
    with pytest.raises(NoBridgeYet) as caught:
        pair.ask_or_do(state_folder, ControlRequest(Operation.SETUP))
    assert str(caught.value) == f"there is no bridge in {state_folder} yet; {remedy}"
    assert isinstance(caught.value, Failure)
    with pytest.raises(client.NoDaemon):
        client.ask(state_folder / "control.sock", ControlRequest(Operation.SETUP))
