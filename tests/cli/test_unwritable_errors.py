"""Standard error that is closed, full or unread: each command does the same, with the same exit code."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
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

REDIRECTIONS = {"closed": 'exec "$@" 2>&-', "full": 'exec "$@" 2>/dev/full', "unread": 'exec "$@"'}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("demo")
    (folder / "dangerous.yaml").write_text(DANGEROUS)
    (folder / "homebridge.json").write_text(json.dumps(HOMEBRIDGE))
    with demo_in(folder / "state", free_port()) as demo:
        yield demo


def ended(demo: Demo, command: str, shell: str = 'exec "$@"', *, unread: bool = False) -> tuple[int, bytes]:
    """The exit code and standard output of a command with this redirection."""
    word, *_ = arguments = command.split()
    at_demo = ["--state-dir", str(demo.state_folder)] if word in OF_A_STATE_FOLDER else []
    reading, writing = os.pipe()
    if unread:
        os.close(reading)
    done = subprocess.run(
        ["sh", "-c", shell, "sh", HKSWITCH, *arguments, *at_demo],
        stdout=subprocess.PIPE,
        stderr=writing,
        check=False,
        timeout=20,
        cwd=demo.state_folder.parent,
    )
    os.close(writing)
    if not unread:
        os.close(reading)
    return done.returncode, done.stdout


@pytest.mark.parametrize(("command", "code"), COMMANDS.items())
def test_a_command_ends_and_prints_as_it_does_with_standard_error(
    demo: Demo, command: str, code: int
) -> None:
    plain = ended(demo, command)
    assert plain[0] == code
    found = {
        name: ended(demo, command, shell, unread=name == "unread") for name, shell in REDIRECTIONS.items()
    }
    assert found == dict.fromkeys(REDIRECTIONS, plain)


@pytest.mark.parametrize("name", REDIRECTIONS)
def test_an_action_is_carried_out(demo: Demo, name: str) -> None:
    for action, state in (("start", "on"), ("stop", "off")):
        command = f"{action} web vm-guests"
        assert ended(demo, command, REDIRECTIONS[name], unread=name == "unread") == (0, b"")
        groups = json.loads(run("status", "--json", "--state-dir", demo.state_folder)[1])["groups"]
        assert {group["state"] for group in groups if group["id"] != "fileserver"} == {state}


AUDIT = """
import pathlib, sys
from hkswitch.cli import audit
from hkswitch.model import config_file
config_file.DEFAULT = pathlib.Path("dangerous.yaml")
audit.JOURNALCTL = "./journalctl"
sys.argv = ["hkswitch", "audit", "removed"]
from hkswitch.__main__ import main
main()
"""


@pytest.mark.parametrize("name", REDIRECTIONS)
def test_the_audit_log_of_a_removed_group_is_shown(tmp_path: Path, name: str) -> None:
    (tmp_path / "dangerous.yaml").write_text(DANGEROUS)
    (tmp_path / "journalctl").write_text("#!/bin/sh\necho line\ncase $2 in --quiet) ;; *) exit 5 ;; esac\n")
    (tmp_path / "journalctl").chmod(0o755)
    reading, writing = os.pipe()
    os.close(reading)
    command = ["sh", "-c", REDIRECTIONS[name], "sh", sys.executable, "-c", AUDIT]
    stderr = writing if name == "unread" else subprocess.PIPE
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, check=False, cwd=tmp_path)
    os.close(writing)
    assert (done.returncode, done.stdout) == (5, b"line\n")
