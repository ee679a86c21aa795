"""What ssh's words mean: each reason has its remedy, and other words stay as they are."""

import pytest

from hkswitch.backend.ssh_command import SSH, key_file, ssh_command, user_of
from hkswitch.backend.ssh_reasons import (
    SSH_REASONS,
    SshProblem,
    explain,
    hint,
    is_noise,
    problem_of,
    telling_line,
)
from tests.host.test_host_setup import CASES
from tests.remote.test_loopback import ENDS, FAULTS

NOT_TRIED = {
    f"{SSH}: No such file",  # `host` commands look for it first
    *("not responding", "closed by remote host", "Connection reset by", "Broken pipe"),  # of a session
    *("has changed and you have requested", "Host key verification failed"),  # they follow other lines
}
REFUSED = "hkswitch-remote@nas: Permission denied (publickey,password)."
CHANGED = "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @"
HOME = "Could not chdir to home directory /nonexistent: No such file or directory"
NO_RULE = "sudo: a password is required"


@pytest.mark.parametrize(
    ("lines", "line", "remedy"),
    [
        ((REFUSED,), REFUSED, "`sudo hkswitch host list`"),
        ((REFUSED.replace("hkswitch-remote", "me"),), "", "leave out the user in the destination"),
        ((HOME, "Host key verification failed."), "Host key verification failed.", "jump host"),
        ((HOME, NO_RULE), NO_RULE, "`@includedir /etc/sudoers.d`"),
        (
            ("@@@@", CHANGED, "Host key verification failed."),
            CHANGED,
            "`sudo hkswitch host add pi DESTINATION`",
        ),
        (('Load key "/x": Permission denied', REFUSED), 'Load key "/x": Permission denied', "mode 0400"),
        ((f"{SSH}: No such file or directory",), "", "openssh-client"),
        (("Timeout, server nas not responding.",), "", "check that it is on"),
    ],
)
def test_the_line_that_gives_the_reason_is_found_and_its_remedy(
    lines: tuple[str, ...], line: str, remedy: str
) -> None:
    expected = (line or lines[0]).strip("@ ").removesuffix(".")
    assert telling_line(lines) == expected
    assert remedy in hint(expected, "pi")
    assert explain(expected, "pi") == f"no connection: {hint(expected, 'pi')} ({expected})"


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        ((), ""),
        ((HOME,), ""),
        (("something", HOME), "something"),
        (("a permission was denied", "b"), "b"),
        (("\x1b[2Jssh", "a" * 10_000), "a" * 10_000),
    ],
)
def test_words_that_no_reason_has_are_kept_and_have_no_remedy(lines: tuple[str, ...], line: str) -> None:
    assert telling_line(lines) == line
    assert hint(line) == ""
    assert problem_of(line) is SshProblem.AWAY
    assert "`sudo hkswitch host test pi`" in explain(line, "pi")
    assert not is_noise(line)


@pytest.mark.parametrize(
    ("why", "refused", "changed"),
    [(REFUSED, True, False), (CHANGED, False, True), (NO_RULE, False, False), ("", False, False)],
)
def test_the_final_failures_are_known(why: str, *, refused: bool, changed: bool) -> None:
    problem = problem_of(why)
    assert (problem is SshProblem.REFUSED_KEY, problem is SshProblem.CHANGED_HOST_KEY) == (refused, changed)


def test_no_reason_hides_another() -> None:
    for place, reason in enumerate(SSH_REASONS):
        assert [each.words for each in SSH_REASONS[:place] if each.words in reason.words] == []


def test_a_test_makes_each_reason_happen() -> None:
    tried = {*NOT_TRIED, *ENDS} - {"Connection"}
    tried |= {case.words for case in CASES.values()} | {fault.words for fault in FAULTS.values()}
    words = [reason.words for reason in SSH_REASONS]
    untried = [each for each in words if not any(each.startswith(beginning) for beginning in tried)]
    assert untried == []


@pytest.mark.parametrize(
    ("destination", "user", "last"),
    [
        ("nas.lan", None, ("-l", "hkswitch-remote", "--", "nas.lan")),
        ("pi@nas.lan", "pi", ("--", "pi@nas.lan")),
        ("ssh://pi@[fe80::1]:22", "pi", ("--", "ssh://pi@[fe80::1]:22")),
        ("ssh://nas:22", None, ("-l", "hkswitch-remote", "--", "ssh://nas:22")),
    ],
)
def test_a_connection_is_made_as_the_user_that_it_names(
    destination: str, user: str | None, last: tuple[str, ...]
) -> None:
    command = ssh_command("nas", destination, has_config=False)
    assert user_of(destination) == user
    assert command[-len(last) :] == last
    assert ("-l" in command) is (user is None)
    assert command[:3] == (SSH, "-F", "none")
    assert f"IdentityFile={key_file('nas')}" in command
