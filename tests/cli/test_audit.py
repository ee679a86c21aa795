"""`hkswitch audit` has journalctl ask for root's helper alone, whatever it is given."""

import subprocess
import sys
from pathlib import Path

import pytest

from hkswitch.cli import audit
from hkswitch.serviceswitch.audit import IDENTIFIER
from hkswitch.serviceswitch.own_unit import SLICE

SHOW = """
import os, sys
def instead(program, argv, environment):
    print(program, *argv[1:], sorted(environment), sep="\\n")
    sys.exit(0)
os.execve = instead
sys.argv[0] = "hkswitch"
from hkswitch.__main__ import main
sys.exit(main())
"""


def shown(*arguments: str) -> list[str]:
    """What would be executed, its arguments and the names in its environment."""
    command = [sys.executable, "-c", SHOW, "audit", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_the_query_is_for_lines_of_roots_helper_in_its_own_unit() -> None:
    query = [
        "_UID=0",
        f"_SYSTEMD_SLICE={SLICE}",
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
    with pytest.raises(audit.NoJournalctl, match="cannot start /nonexistent/journalctl: No such file"):
        audit.show(None)
