"""`hkswitch audit` has journalctl ask for root's helper alone, whatever it is given."""

import os
import subprocess
from contextlib import nullcontext
from pathlib import Path

import pytest

from hkswitch.cli import audit
from hkswitch.model.errors import Failure
from hkswitch.model.installation import HELPER_SLICE
from hkswitch.serviceswitch.audit import IDENTIFIER
from tests.support.script import script

SHOW = """
import os, pathlib, sys
from hkswitch.cli import audit
from hkswitch.model import config_file
config_file.DEFAULT = pathlib.Path(sys.argv.pop(1))
audit.JOURNALCTL = sys.argv.pop(1)
audit.JOURNALS = ()
def instead(program, argv, environment):
    print(program, *argv[1:], sorted(environment), sep="\\n")
    sys.exit(0)
os.execve = instead
sys.argv[0] = "hkswitch"
from hkswitch.__main__ import main
sys.exit(main())
"""


NO_FILE = Path("/nonexistent/config.yaml")


def ran(*arguments: str, config: Path = NO_FILE, journalctl: str = audit.JOURNALCTL) -> tuple[int, str, str]:
    """The exit code, what would be executed (its arguments, the names in its environment), and errors."""
    command = script(SHOW, str(config), journalctl, "audit", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def shown(*arguments: str) -> list[str]:
    code, output, errors = ran(*arguments)
    assert (code, errors) == (0, "")
    return output.splitlines()


def test_the_query_is_for_lines_of_roots_helper_in_its_own_unit() -> None:
    query = [
        "_UID=0",
        f"_SYSTEMD_SLICE={HELPER_SLICE}",
        "_TRANSPORT=journal",
        f"SYSLOG_IDENTIFIER={IDENTIFIER}",
    ]
    assert shown() == ["/usr/bin/journalctl", "--no-pager", *query, "['LC_ALL', 'PATH']"]
    assert shown("web")[-2:] == ["HKSWITCH_GROUP=web", "['LC_ALL', 'PATH']"]


@pytest.mark.parametrize("group", ["--output=json", "-D/tmp/evil", "_UID=1000", "+", "a b", "/usr/bin/x"])
def test_a_group_is_never_an_option_nor_another_match(group: str) -> None:
    assert shown("--", group)[-2] == f"HKSWITCH_GROUP={group}"


@pytest.mark.parametrize("path", ["README.md", "SECURITY.md", "docs/threats.md", "docs/man/serviceswitch.8"])
def test_the_documents_give_the_query_that_the_command_runs(path: str) -> None:
    text = (Path(__file__).parents[2] / path).read_text()
    assert " ".join(audit.QUERY) in text or (path == "README.md" and "sudo hkswitch audit" in text)
    assert "journalctl SYSLOG_IDENTIFIER=serviceswitch _UID=0" not in text


def test_without_journalctl_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "JOURNALCTL", "/nonexistent/journalctl")
    with pytest.raises(Failure, match="cannot start /nonexistent/journalctl: No such file"):
        audit.show_journal(None)


# A group that is not configured


NOTE = "hkswitch: group {0!r} is no longer in the configuration; these are its lines in the journal:\n"
UNKNOWN = (
    "hkswitch: cannot show the audit log of group {0!r}: "
    "it is not in the configuration, and the journal has no line about it\n"
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text("groups: {web: {units: [nginx]}}\n")
    return file


def journalctl(folder: Path, script: str) -> str:
    """A stand-in for journalctl that notes down how it was asked."""
    file = folder / "journalctl"
    file.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{folder}/asked\nenv >{folder}/env\n{script}\n')
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize(
    ("group", "script", "expected"),
    [
        ("web", "echo 'not asked'; exit 9", (0, "")),
        ("old", "echo 'start old: done'", (0, NOTE)),
        ("old", "exit 0", (64, UNKNOWN)),
        ("WEB", "exit 0", (64, UNKNOWN)),
        ("\x1b[2J", "exit 0", (64, UNKNOWN)),
        ("\x1b[2J", "echo 'denied'", (0, NOTE)),
        ("old", "exit 1", (0, "")),  # as without the right to read it, which journalctl itself then says
    ],
)
def test_a_group_must_be_configured_or_have_lines(
    tmp_path: Path, config: Path, group: str, script: str, expected: tuple[int, str]
) -> None:
    stand_in = journalctl(tmp_path, script)
    ended, output, said = ran(group, config=config, journalctl=stand_in)
    code, errors = expected
    assert (ended, said) == (code, errors.format(group))
    assert output.splitlines()[:1] == ([stand_in] if code == 0 else [])


@pytest.mark.parametrize("text", ["groups: {web: {units: [nginx]}, web2: 1}\n", "\t", "groups: {}\n"])
def test_a_configuration_with_mistakes_keeps_no_audit_back(tmp_path: Path, config: Path, text: str) -> None:
    config.write_text(text)
    code, output, said = ran("old", config=config, journalctl=journalctl(tmp_path, "exit 0"))
    assert (code, output.splitlines()[-2], said) == (0, "HKSWITCH_GROUP=old", "")


def test_whether_there_are_lines_is_asked_without_the_environment(
    tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYSTEMD_PAGER", "/nowhere")
    assert ran("old", config=config, journalctl=journalctl(tmp_path, "exit 0"))[0] == 64
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert names - {"PWD", "_", "OLDPWD"} == {"LC_ALL", "PATH"}
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == ["--no-pager", "--quiet", "--lines=1", "--output=cat", *audit.QUERY, "HKSWITCH_GROUP=old"]


@pytest.mark.parametrize(
    ("readable", "allowed"),
    [([], True), ([True], True), ([False, True], True), ([False], False), ([False, False], False)],
)
def test_a_user_who_cannot_read_the_journal_gets_a_remedy_instead_of_an_empty_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readable: list[bool], allowed: bool
) -> None:
    files = {
        str(tmp_path / str(number) / "machine" / "system.journal"): r for number, r in enumerate(readable)
    }
    for file in map(Path, files):
        file.parent.mkdir(parents=True)
        file.touch()
    monkeypatch.setattr(audit, "JOURNALS", tuple(tmp_path / str(number) for number in range(len(readable))))
    monkeypatch.setattr(os, "access", lambda file, _: files[str(file)])
    with (
        nullcontext()
        if allowed
        else pytest.raises(Failure, match="permission denied; use sudo, or run `sudo")
    ):
        audit.check_right()


def test_a_long_line_is_shown_whole_and_without_escape_sequences(capsys: pytest.CaptureFixture[str]) -> None:
    program = "i=0; while [ $i -lt 3000 ]; do printf 'x '; i=$((i + 1)); done; printf 'the end\\033[31m\\n'"
    assert audit._show_each_line(["/bin/sh", "-c", program]) == 0
    assert capsys.readouterr().out == f"{'x ' * 3000}the end?[31m\n"
