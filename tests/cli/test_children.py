"""What the command line starts: it gets nothing of root's environment, and has its time and no more."""

import os
import time
from pathlib import Path

import pytest

from hkswitch import control
from hkswitch.backend import sudo_reasons
from hkswitch.cli import actions
from hkswitch.control import client
from hkswitch.model.environment import CHILD_ENVIRONMENT
from hkswitch.model.errors import Exit
from hkswitch.model.unit_state import Action, GroupState
from hkswitch.protocol.report import GroupReport, Report

BEGAN = 1.5e9


def program(folder: Path, name: str, script: str) -> Path:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return file


def journalctl(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program(folder, "journalctl", script)
    monkeypatch.setattr(
        actions, "CHILD_ENVIRONMENT", CHILD_ENVIRONMENT | {"PATH": f"{folder}:{CHILD_ENVIRONMENT['PATH']}"}
    )


def test_the_environment_is_constant() -> None:
    assert CHILD_ENVIRONMENT.keys() == {"PATH", "LC_ALL"}
    assert all(
        folder.startswith(("/usr/", "/sbin", "/bin")) for folder in CHILD_ENVIRONMENT["PATH"].split(":")
    )


@pytest.mark.parametrize(
    ("script", "lines"),
    [
        ("echo one; echo two", ["one", "two"]),
        ("printf 'a\\033[2Jb\\rc\\n'", ["a?[2Jb", "c"]),
        ("printf 'a\\377b'", ["a\ufffdb"]),
        ("seq 100", ["96", "97", "98", "99", "100"]),
        ("exit 1", []),
    ],
)
def test_the_last_lines_of_a_unit_are_few_and_printable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, lines: list[str]
) -> None:
    journalctl(tmp_path, monkeypatch, script)
    assert actions._last_lines("web.service", BEGAN) == lines


def test_only_lines_since_the_action_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journalctl(tmp_path, monkeypatch, 'echo "$@"')
    assert actions._journal("web.service", BEGAN) == (
        "Last lines of web.service:\n"
        "  --quiet --no-pager --output=cat --lines=5 --unit=web.service --since=@1500000000.000000"
    )


@pytest.mark.parametrize(
    ("unit", "typed"), [("web.service", "web.service"), (r"dev-a\x2db.mount", r"'dev-a\x2db.mount'")]
)
def test_a_journal_without_lines_for_this_user_comes_with_the_command_for_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str, typed: str
) -> None:
    journalctl(tmp_path, monkeypatch, "exit 1")
    assert actions._journal(unit, BEGAN) == f"`sudo journalctl -u {typed}` shows the log of {unit}"


@pytest.mark.parametrize(
    ("script", "shown"),
    [
        ("echo no such lamp", "Last lines of the commands of lamp:\n  no such lamp\n"),
        (
            "exit 1",
            "`sudo journalctl -u 'hkswitch-command-lamp[.:]*'` shows the log of the commands of lamp\n",
        ),
    ],
)
def test_the_units_of_commands_are_named_in_words(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    script: str,
    shown: str,
) -> None:
    journalctl(tmp_path, monkeypatch, script)
    lamp = GroupReport("lamp", "Lamp", GroupState.OFF, 0, {}, commands=True)
    monkeypatch.setattr(client, "ask_report", lambda _: Report(None, (lamp,)))
    actions._print_reasons(tmp_path, "lamp", "start lamp failed: /opt/lamp exited with status 1", BEGAN)
    assert capsys.readouterr().err == shown


def test_the_journal_is_asked_without_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "1")
    monkeypatch.setenv("SYSTEMD_PAGER", "/nowhere")
    journalctl(tmp_path, monkeypatch, f"env >{tmp_path}/env")
    actions._last_lines("web.service", BEGAN)
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert names - {"PWD", "_", "OLDPWD"} == set(CHILD_ENVIRONMENT)  # a shell has these of its own


@pytest.mark.parametrize("script", ["exec yes", "exec sleep 60", "yes & exec sleep 60", "exec cat /dev/zero"])
def test_a_journal_without_end_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(actions, "JOURNAL_WITHIN_SECONDS", 0.5)
    journalctl(tmp_path, monkeypatch, script)
    begun_seconds = time.monotonic()
    assert len(actions._last_lines("web.service", BEGAN)) <= actions.LAST_LINES
    assert time.monotonic() - begun_seconds < 10


def test_an_interrupted_action_is_said_to_continue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(actions, "_through_daemon", interrupt)
    with pytest.raises(KeyboardInterrupt):
        actions.act(Action.START, ["web"], tmp_path, wait=True)
    assert capsys.readouterr().err == f"{actions.STILL_RUNNING}\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_helper_gets_nothing_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "1")
    helper = program(tmp_path, "serviceswitch", f'env >{tmp_path}/env; echo "$@" >{tmp_path}/said; exit 78')
    monkeypatch.setattr(sudo_reasons, "HELPER", (str(helper),))
    monkeypatch.setattr(control, "RUNTIME_FOLDER", tmp_path)  # where no service listens
    assert actions.act(Action.START, ["web"], control.STATE_FOLDER, wait=True) is Exit.UNAVAILABLE
    assert (tmp_path / "said").read_text() == "start web\n"
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert names - {"PWD", "_", "OLDPWD"} == set(CHILD_ENVIRONMENT)
