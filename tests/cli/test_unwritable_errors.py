"""Standard error that is closed, full or unread: each command does the same, with the same exit code."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli.test_main import Demo, demo_in
from tests.support.command import HKSWITCH, run
from tests.support.ports import free_port

DANGEROUS = "groups: {bus: {units: [dbus.service]}}"
HOMEBRIDGE = {
    "platforms": [
        {
            "platform": "cmdSwitch2",
            "switches": [{"name": "Web", "on_cmd": "systemctl start web", "off_cmd": "systemctl stop web"}],
        }
    ]
}

COMMANDS = {
    "status --json": 0,
    "status --json web": 3,
    "status nope": 64,
    "start nope": 64,
    "stop web nope": 64,
    "restart web": 69,
    "restart --no-wait web": 69,
    "check --config dangerous.yaml": 0,
    "check --config none.yaml": 78,
    "import-homebridge homebridge.json": 0,
    "import-homebridge none.json": 78,
    "pair --png -": 0,
    "pair --list": 0,
    "unpair nope": 64,
    "reload": 0,
    "bogus": 64,
}
"""Commands, with their exit codes; all but a few write to standard error."""

OF_A_STATE_FOLDER = {"status", "start", "stop", "restart", "pair", "unpair", "reload"}

STANDARD_ERRORS = ("closed", "full", "unread")
CLOSED = ("sh", "-c", 'exec "$@" 2>&-', "sh")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("demo")
    (folder / "dangerous.yaml").write_text(DANGEROUS)
    (folder / "homebridge.json").write_text(json.dumps(HOMEBRIDGE))
    with demo_in(folder / "state", free_port()) as demo:
        yield demo


def run_with(
    standard_error: str, argv: Sequence[str | Path], folder: Path
) -> "subprocess.CompletedProcess[bytes]":
    """Run a program whose standard error is closed, full, unread or, with any other word, read."""
    reading, writing = os.pipe()
    with ExitStack() as descriptors:
        descriptors.callback(os.close, writing)
        if standard_error == "unread":
            os.close(reading)
        else:
            descriptors.callback(os.close, reading)
        full = descriptors.enter_context(Path("/dev/full").open("w"))
        return subprocess.run(
            [*CLOSED, *argv] if standard_error == "closed" else argv,
            stdout=subprocess.PIPE,
            stderr=full if standard_error == "full" else writing,
            check=False,
            timeout=20,
            cwd=folder,
        )


def ended(demo: Demo, command: str, standard_error: str = "read") -> tuple[int, bytes]:
    """The exit code and standard output of a command with this standard error."""
    word, *_ = arguments = command.split()
    at_demo = ["--state-dir", str(demo.state_folder)] if word in OF_A_STATE_FOLDER else []
    done = run_with(standard_error, [HKSWITCH, *arguments, *at_demo], demo.state_folder.parent)
    return done.returncode, done.stdout


@pytest.mark.parametrize(("command", "code"), COMMANDS.items())
def test_a_command_ends_and_prints_as_it_does_with_standard_error(
    demo: Demo, command: str, code: int
) -> None:
    plain = ended(demo, command)
    assert plain[0] == code
    found = {name: ended(demo, command, name) for name in STANDARD_ERRORS}
    assert found == dict.fromkeys(STANDARD_ERRORS, plain)


@pytest.mark.parametrize("name", STANDARD_ERRORS)
def test_an_action_is_carried_out(demo: Demo, name: str) -> None:
    for action, state in (("start", "on"), ("stop", "off")):
        assert ended(demo, f"{action} web vm-guests", name) == (0, b"")
        groups = json.loads(run("status", "--json", "--state-dir", demo.state_folder)[1])["groups"]
        assert {group["state"] for group in groups if group["id"] in {"web", "vm-guests"}} == {state}


AUDIT = """
import pathlib, sys
from hkswitch.cli import audit
from hkswitch.model import config_file
config_file.DEFAULT = pathlib.Path("dangerous.yaml")
audit.JOURNALCTL = "./journalctl"
audit.JOURNALS = ()
sys.argv = ["hkswitch", "audit", "removed"]
from hkswitch.__main__ import main
main()
"""


@pytest.mark.parametrize("name", STANDARD_ERRORS)
def test_the_audit_log_of_a_removed_group_is_shown(tmp_path: Path, name: str) -> None:
    (tmp_path / "dangerous.yaml").write_text(DANGEROUS)
    (tmp_path / "journalctl").write_text("#!/bin/sh\necho line\ncase $2 in --quiet) ;; *) exit 5 ;; esac\n")
    (tmp_path / "journalctl").chmod(0o755)
    done = run_with(name, [sys.executable, "-c", AUDIT], tmp_path)
    assert (done.returncode, done.stdout) == (5, b"line\n")
