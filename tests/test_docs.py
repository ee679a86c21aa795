"""The commands and config blocks of the documents are true."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hkswitch import demo
from hkswitch.core.config import parse

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://)([^)#]+)\)")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
SERVICESWITCH = ["start", "stop", "restart", "status"]


def blocks(language: str) -> list[str]:
    return [text for path in DOCUMENTS for kind, text in BLOCK.findall(path.read_text()) if kind == language]


def commands() -> list[str]:
    lines = (line for block in blocks("console") for line in block.splitlines() if line.startswith("$ "))
    return sorted({line.removeprefix("$ ").removeprefix("sudo ") for line in lines})


@pytest.mark.parametrize("block", blocks("yaml"))
def test_a_config_block_is_a_config(block: str) -> None:
    assert parse(block.encode(), "block").groups


@pytest.mark.parametrize("command", commands())
def test_a_command_exists(command: str) -> None:
    match shlex.split(command):
        case ["make", target]:
            subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)
        case ["hkswitch", subcommand, *options]:
            program = Path(sys.executable).with_name("hkswitch")
            shown = subprocess.run(
                [program, subcommand, "--help"], check=True, capture_output=True, text=True
            )
            assert all(option in shown.stdout for option in options if option.startswith("-"))
        case ["serviceswitch", action, _]:
            assert action in SERVICESWITCH
        case ["systemctl" | "sudoedit", *_]:
            pass  # tests/host runs the installation as a user would
        case _:
            pytest.fail(f"no rule for: {command}")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_link_leads_to_a_file(path: Path) -> None:
    missing = [link for link in LINK.findall(path.read_text()) if not (path.parent / link).exists()]
    assert missing == []


def test_every_threat_names_a_test_that_exists() -> None:
    rows = [line for line in (ROOT / "docs" / "threats.md").read_text().splitlines() if line.startswith("| ")]
    attacks = [row for row in rows if not row.startswith("| attack")]
    named = [TEST.findall(row) for row in attacks]
    assert all(named)
    missing = [
        (path, name) for row in named for path, name in row if f"def {name}(" not in (ROOT / path).read_text()
    ]
    assert missing == []


def test_the_demo_has_the_groups_of_the_example() -> None:
    example = parse((ROOT / "config.example.yaml").read_bytes(), "config.example.yaml")
    assert example.groups == demo.GROUPS
