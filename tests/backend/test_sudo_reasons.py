"""What sudo's words mean: each reason has its remedy, and words that no reason has stay as they are."""

import re
from pathlib import Path

import pytest

from hkswitch.backend.sudo_reasons import (
    REASONS,
    SUDOERS_RULE,
    Reason,
    explain,
    find_reason,
    hint,
    telling_line,
)
from tests.host.test_sudo_reasons import CASES, TIMED

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "sudo.md").read_text()

NO_NEW_PRIVILEGES = (
    'sudo: The "no new privileges" flag is set, which prevents sudo from running as root.',
    "sudo: If sudo is running in a container, you may need to adjust the container configuration to disable",
)
PASSWORD = "sudo: a password is required"
RS_NO = "sudo-rs: I'm sorry hkswitch. I'm afraid I can't do that"
EXPIRED = "sudo: account validation failure, is your account locked?"
PAM = "sudo: PAM account management error: Permission denied"
TTY = "sudo: sorry, you must have a tty to run sudo"
NO_PLUGIN = "sudo: error initializing audit plugin sudoers_audit"
MISTAKE = ("/etc/sudoers.d/hkswitch:1:19: syntax error", "hkswitch ALL=(root", "                  ^")
UNKNOWN_SETTING = (
    "/etc/sudoers.d/x:1:10: unknown setting: 'requiretty'",
    "Defaults requiretty",
    "  ^~~~~~~~~~",
)


@pytest.mark.parametrize(
    ("lines", "line", "remedy"),
    [
        (NO_NEW_PRIVILEGES, NO_NEW_PRIVILEGES[0], "remove that option"),
        (
            ("sudo: /usr/bin/sudo must be owned by uid 0 and have the setuid bit set",),
            "",
            "`chmod 4755 /usr/",
        ),
        (("sudo-rs: sudo must be owned by uid 0 and have the setuid bit set",), "", "remove that option"),
        ((PASSWORD,), PASSWORD, SUDOERS_RULE),
        ((RS_NO,), RS_NO, SUDOERS_RULE),
        (("sudo-rs: interactive authentication is required",), "", SUDOERS_RULE),
        (("hkswitch is not in the sudoers file.",), "", SUDOERS_RULE),
        ((EXPIRED, PASSWORD), EXPIRED, "`sudo chage --lastday=-1"),
        (("sudo-rs: Account validation failure, is your account locked?",), "", "`sudo chage --lastday=-1"),
        ((PAM, PASSWORD), PAM, "`+:hkswitch:ALL`"),
        (("sudo-rs: PAM error: Permission denied",), "", "`+:hkswitch:ALL`"),
        ((TTY,), TTY, "`Defaults!/usr/sbin/serviceswitch !requiretty`"),
        ((*MISTAKE, PASSWORD), MISTAKE[0], "`sudo visudo -c` must accept it"),
        ((*UNKNOWN_SETTING, RS_NO), RS_NO, SUDOERS_RULE),
        (
            ("sudo: unable to open /etc/sudoers: No such file or directory", NO_PLUGIN),
            "sudo: unable to open /etc/sudoers: No such file or directory",
            "`@includedir /etc/sudoers.d`",
        ),
        (
            ("sudo: PERM_SUDOERS: setresuid(-1, 1, -1): Invalid argument", NO_PLUGIN),
            "sudo: PERM_SUDOERS: setresuid(-1, 1, -1): Invalid argument",
            "`PrivateUsers=`",
        ),
        (("sudo:  is world writable", PASSWORD), "sudo:  is world writable", "`chmod 0440 /etc/sudoers "),
        (("sudo: unable to mkdir /var/log/sudo-io: Read-only file system",), "", "!log_input, !log_output`"),
        (("/usr/bin/sudo: Permission denied",), "", "`helper: socket`"),
        (("sudo: No such file or directory",), "", "install it"),
    ],
)
def test_the_line_that_gives_the_reason_is_found_and_its_remedy(
    lines: tuple[str, ...], line: str, remedy: str
) -> None:
    expected = line or lines[0]
    assert telling_line(lines) == expected
    assert remedy in hint(expected)
    assert explain(expected) == f"the helper cannot run: {hint(expected)} ({expected})"


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        ((), ""),
        (("sudo: unable to connect to log server",), "sudo: unable to connect to log server"),
        (("sudo: one", "sudo: two"), "sudo: two"),
        (("serviceswitch: out of resources",), "serviceswitch: out of resources"),
        (("PAM", "passwords are required", "must have a tea"), "must have a tea"),
        (("\x1b[2Jsudo", "a" * 10_000), "a" * 10_000),
    ],
)
def test_words_that_no_reason_has_are_kept_as_they_are_and_have_no_remedy(
    lines: tuple[str, ...], line: str
) -> None:
    assert telling_line(lines) == line
    assert (find_reason(line), hint(line)) == (None, "")
    assert (
        explain(line) == f"the helper exited unexpectedly ({line}); switches do not respond until it is back"
    )


@pytest.mark.parametrize("why", ["it gave no reason", "it exited with status 1", "it was killed by signal 9"])
def test_an_end_without_words_is_a_reason_only_if_sudo_ends_so(why: str) -> None:
    assert hint(why) == ""
    assert "!command_timeout" in hint("it exited with status 143 and printed nothing")
    assert "!log_input" in hint("it exited with status 1 and printed nothing")
    assert hint("it exited with status 13 and printed nothing") == ""


def test_no_reason_hides_another() -> None:
    for place, reason in enumerate(REASONS):
        assert [each.words for each in REASONS[:place] if each.words in reason.words] == []


def test_a_host_test_makes_each_reason_happen() -> None:
    tried = {words for case in CASES.values() for words in case.says.values()} | {TIMED}
    assert tried == {reason.words for reason in REASONS}


def test_the_installed_file_has_the_lines_of_the_document_and_no_other() -> None:
    installed = (ROOT / "packaging" / "hkswitch.sudoers").read_text()
    lines = [line.partition(" # ")[0] for line in installed.splitlines() if not line.startswith("#")]
    assert lines[0] == SUDOERS_RULE
    assert all(f"\n```\n{line}\n```\n" in DOCUMENT for line in lines)
    assert len(lines) == 2


def rows() -> list[list[str]]:
    table = DOCUMENT.partition("\n## Reasons and remedies\n")[2]
    lines = (line for line in table.splitlines() if line.startswith("| `"))
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


def test_the_document_has_each_reason_with_its_remedy_and_no_other() -> None:
    documented = [
        (words, said_by, cause, remedy)
        for said, said_by, cause, remedy in rows()
        for words in re.findall("`(.*?)`", said)
    ]
    assert sorted(documented) == sorted(map(as_documented, REASONS))


def as_documented(reason: Reason) -> tuple[str, str, str, str]:
    return reason.words, ", ".join(reason.said_by), reason.cause, reason.remedy


FAR_FETCHED = ("runchroot", "rlimit", "command_timeout", "PrivateUsers", "CHROOT=")
SAID_BY_EVERYDAY_MISTAKES = (
    ("sudo: /usr/sbin/serviceswitch: command not found", "the helper is not installed"),
    ("sudo-rs: '/usr/sbin/serviceswitch': command not found", "the helper is not installed"),
    (PASSWORD, "sudo has no rule that lets hkswitch start the helper"),
    (RS_NO, "sudo has no rule that lets hkswitch start the helper"),
    ("it was killed by signal 11", "the helper crashed"),
    ("it exited with status 143 and printed nothing", "the helper was terminated"),
    ("sudo: No such file or directory", "sudo is not installed"),
)


@pytest.mark.parametrize(("said", "cause"), SAID_BY_EVERYDAY_MISTAKES)
def test_the_likeliest_cause_comes_first_and_in_plain_words(said: str, cause: str) -> None:
    assert hint(said).startswith(cause)
    assert explain(said).startswith(f"the helper cannot run: {cause}")
    first_clause = re.split("[,;]", hint(said))[0]
    assert not any(word in first_clause for word in FAR_FETCHED)
