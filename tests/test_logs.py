"""Log lines for the journal and for a terminal, and what systemd is told."""

import logging
import socket
from pathlib import Path

import pytest

from hkswitch.logs import JournalFormatter
from hkswitch.notify import Notifier


@pytest.mark.parametrize(
    ("level", "line"),
    [(logging.INFO, "<6>web: on"), (logging.WARNING, "<4>web: on"), (logging.ERROR, "<3>web: on")],
)
def test_a_line_for_the_journal_begins_with_its_priority(level: int, line: str) -> None:
    record = logging.LogRecord("hkswitch", level, "", 0, "%s: on", ("web",), None)
    assert JournalFormatter("%(message)s").format(record) == line


def test_a_record_is_one_line() -> None:
    record = logging.LogRecord("hkswitch", logging.INFO, "", 0, "one\ntwo", (), None)
    assert JournalFormatter("%(message)s").format(record) == "<6>one | two"


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(tmp_path: Path, abstract: bool) -> None:
    name = f"@hkswitch-test-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{name[1:]}" if abstract else name)
        systemd.settimeout(5)
        Notifier({"NOTIFY_SOCKET": name}).tell(READY="1", STATUS="3 groups")
        assert systemd.recv(4096) == b"READY=1\nSTATUS=3 groups"


def test_without_systemd_nothing_happens() -> None:
    Notifier({}).tell(READY="1")
