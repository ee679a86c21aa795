"""Lines on standard error: all are kept up to a limit, made printable, and logged once."""

import logging

import pytest

from hkswitch.backend.helper_stderr import (
    LONGEST_STDERR_LINE,
    MOST_KEPT,
    MOST_KNOWN,
    MOST_LOGGED,
    PERIOD_SECONDS,
    HelperStderr,
)


@pytest.fixture(autouse=True)
def warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "hkswitch.backend.helper_stderr")


def test_all_lines_are_kept_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    stderr = HelperStderr()
    for line in ("/etc/sudoers.d/x:1:14: syntax error", "foo ALL=(root", "         ^", "sudo: no"):
        stderr.take(line, 0, again=False)
    assert stderr.lines == (
        "/etc/sudoers.d/x:1:14: syntax error",
        "foo ALL=(root",
        "         ^",
        "sudo: no",
    )
    assert tuple(caplog.messages) == stderr.lines


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", None),
        (" \t\r", None),
        ("Could not chdir to home directory /nonexistent: No such file or directory", None),
        ("sudo: no\r", "sudo: no"),
        ("Defaults\trequiretty", "Defaults        requiretty"),
        ("\x1b[2J\x9b31mgone", "?[2J?31mgone"),
        ("a\u202eb\x00", "a?b?"),
        ("x" * 10_000, "x" * LONGEST_STDERR_LINE),
    ],
)
def test_a_line_is_short_and_can_be_printed(
    text: str, line: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    stderr = HelperStderr()
    stderr.take(text, 0, again=False)
    assert stderr.lines == (() if line is None else (line,))
    assert caplog.messages == [] if line is None else [line]


def test_of_many_lines_the_newest_are_kept() -> None:
    stderr = HelperStderr()
    for number in range(1000):
        stderr.take(f"line {number}", 0, again=False)
    assert stderr.lines == tuple(f"line {number}" for number in range(1000 - MOST_KEPT, 1000))


def test_a_retry_that_says_the_same_is_not_logged_again(caplog: pytest.LogCaptureFixture) -> None:
    stderr = HelperStderr()
    for _ in range(3):
        stderr.begin()
        stderr.take("sudo: one", 0, again=False)
        stderr.take("sudo: two", 0, again=False)
        assert stderr.lines == ("sudo: one", "sudo: two")
    assert caplog.messages == ["sudo: one", "sudo: two"]
    stderr.forget()
    stderr.take("sudo: one", 0, again=False)
    assert caplog.messages == ["sudo: one", "sudo: two", "sudo: one"]


def test_a_helper_that_is_ready_may_say_the_same_twice(caplog: pytest.LogCaptureFixture) -> None:
    stderr = HelperStderr()
    for _ in range(2):
        stderr.take("done: start web", 0, again=True)
    assert caplog.messages == ["done: start web"] * 2


@pytest.mark.parametrize("again", [True, False])
def test_a_flood_is_a_few_lines_and_how_many_were_left_out(
    again: bool, caplog: pytest.LogCaptureFixture
) -> None:
    stderr = HelperStderr()
    for number in range(100_000):
        stderr.take(f"line {number}", number / 100_000, again=again)
    assert len(caplog.messages) == MOST_LOGGED
    stderr.take("later", PERIOD_SECONDS, again=True)
    left_out = f"suppressed lines of the helper's standard error: {100_000 - MOST_LOGGED}"
    assert caplog.messages[MOST_LOGGED:] == [left_out, "later"]


def test_a_flood_of_new_lines_does_not_fill_the_memory() -> None:
    stderr = HelperStderr()
    for number in range(10 * MOST_KNOWN):
        stderr.take(f"line {number}", 0, again=False)
    assert len(stderr._known) == MOST_KNOWN
