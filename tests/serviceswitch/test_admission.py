"""A helper that was started by sudo serves the daemon's user only while root's config says `helper: sudo`."""

import json
import subprocess
from pathlib import Path
from typing import Final

import pytest

from hkswitch.model.unit_state import Action
from hkswitch.protocol.helper import Request, encode_message
from tests.serviceswitch.journal import Journal, journal
from tests.support.helper import HelperProgram

__all__ = ["journal"]

CALLER: Final = "1234"
"""Whom tests/serviceswitch/helper_program.py works for."""

GROUPS: Final = "groups: {web: {units: [httpd]}}\n"
BY_SOCKET: Final = f"helper: socket\n{GROUPS}"
START: Final = encode_message(Request(1, Action.START, "web", "0" * 16)).decode()

SENTENCE: Final = (
    "`helper: socket` is set: the user hkswitch cannot use sudo; run `sudo systemctl restart hkswitch`"
)


@pytest.fixture
def program(tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> HelperProgram:
    """No bus is there: nothing that is asked for here may get so far."""
    monkeypatch.setenv("JOURNAL", journal.path)
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent")
    return HelperProgram(tmp_path / "config.yaml")


def serve(program: HelperProgram, config: str, lines: str = "") -> subprocess.CompletedProcess[str]:
    program.config_file.write_text(config)
    return subprocess.run(
        program.command("serve"), input=lines, capture_output=True, text=True, check=False, timeout=20
    )


def test_the_daemons_user_is_refused_at_once_and_that_is_audited(
    program: HelperProgram, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAEMON_UID", CALLER)
    refused = serve(program, BY_SOCKET, START)
    assert (refused.returncode, refused.stdout, refused.stderr) == (77, "", f"serviceswitch: {SENTENCE}\n")
    (line,) = journal.read_all()
    assert (line["HKSWITCH_DECISION"], line["HKSWITCH_ACTION"]) == ("denied", "serve")
    assert line["HKSWITCH_REASON"] == SENTENCE


@pytest.mark.parametrize(
    ("daemon_uid", "config"),
    [(CALLER, GROUPS), (CALLER, f"helper: sudo\n{GROUPS}"), ("4321", BY_SOCKET)],
    ids=["by default", "by sudo", "another user"],
)
def test_others_and_the_daemon_where_it_comes_by_sudo_are_served(
    program: HelperProgram, monkeypatch: pytest.MonkeyPatch, daemon_uid: str, config: str
) -> None:
    monkeypatch.setenv("DAEMON_UID", daemon_uid)
    served = serve(program, config)
    assert (served.returncode, json.loads(served.stdout)["type"]) == (0, "hello")


@pytest.mark.parametrize("config", ["helper: socket\ngroups: [\n", "helper: nothing\n"])
def test_a_config_that_cannot_be_read_opens_nothing(
    program: HelperProgram, journal: Journal, monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    monkeypatch.setenv("DAEMON_UID", CALLER)
    served = serve(program, config, START)
    hello, answer = map(json.loads, served.stdout.splitlines())
    assert (hello["type"], answer["type"]) == ("hello", "refused")
    assert answer["reason"].startswith("denied: ")
    assert [line["HKSWITCH_DECISION"] for line in journal.read_all()] == ["denied"]


def test_a_config_that_names_the_socket_later_refuses_the_next_request(
    program: HelperProgram, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAEMON_UID", CALLER)
    program.config_file.write_text(GROUPS)
    with subprocess.Popen(
        program.command("serve"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as helper:
        assert helper.stdin is not None
        assert helper.stdout is not None
        assert json.loads(helper.stdout.readline())["type"] == "hello"
        program.config_file.write_text(BY_SOCKET)
        helper.stdin.write(START)
        helper.stdin.flush()
        assert json.loads(helper.stdout.readline())["reason"] == f"denied: {SENTENCE}"
        helper.stdin.close()
    assert [line["HKSWITCH_REASON"] for line in journal.read_all()] == [SENTENCE]
