"""Log lines for the journal and for a terminal."""

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import TextIO

import pytest

from hkswitch.daemon.logs import JournalFormatter, is_journal


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


@pytest.fixture
def pipe() -> Iterator[TextIO]:
    reading, writing = os.pipe()
    with os.fdopen(reading), os.fdopen(writing, "w") as stream:
        yield stream


def name_of(stream: TextIO) -> str:
    """What systemd has in JOURNAL_STREAM if a service's output is this one."""
    status = os.fstat(stream.fileno())
    return f"{status.st_dev}:{status.st_ino}"


def test_an_output_that_systemd_names_is_the_journals(pipe: TextIO) -> None:
    assert is_journal(pipe, {"JOURNAL_STREAM": name_of(pipe)})


@pytest.mark.parametrize("inherited", ["1:1", "", "journal"])
def test_an_output_that_systemd_does_not_name_is_not_the_journals(pipe: TextIO, inherited: str) -> None:
    assert not is_journal(pipe, {"JOURNAL_STREAM": inherited})


FAILS_ONCE = """
import logging, sys
from hkswitch.daemon import logs

write, lost = sys.stderr.write, []

def write_from_the_second_on(text):
    if not lost:
        lost.append(text)
        raise OSError(5, "Input/output error")
    write(text)

sys.stderr.write = write_from_the_second_on
logs.begin({})
logging.error("lost")
logging.error("written")
"""


def test_a_line_that_cannot_be_written_is_lost_and_makes_no_traceback() -> None:
    done = subprocess.run((sys.executable, "-c", FAILS_ONCE), capture_output=True, text=True, check=True)
    assert re.fullmatch(r"..:..:.. written\n", done.stderr)


def test_without_systemd_no_output_is_the_journals(pipe: TextIO) -> None:
    assert not is_journal(pipe, {})
