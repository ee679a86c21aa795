"""A command that a text suggests is complete: one that needs root begins with sudo."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "hkswitch").rglob("*.py"))
SCRIPTS = [path for path in sorted((ROOT / "packaging").rglob("*")) if path.is_file()]

NEEDS_ROOT = re.compile(
    r"\\?`(?:journalctl|ch(?:own|mod)|apt|rpm|make (?:un)?install|hkswitch (?:reload|start|stop|restart)|"
    r"systemctl (?:start|stop|restart|reload|enable|disable|edit|mask|unmask|kill|daemon-reload))\b[^`]*"
)
EXCEPT = re.compile(r"as root|make install DESTDIR")


def without_sudo(text: str) -> list[str]:
    return [found[0] for found in NEEDS_ROOT.finditer(text) if not EXCEPT.search(text)]


def texts(module: Path) -> Iterator[str]:
    """Yield a module's strings, without docstrings."""
    tree = ast.parse(module.read_text())
    described = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in described:
            yield node.value


def test_a_remedy_that_needs_root_begins_with_sudo() -> None:
    said = [(path, text) for path in MODULES for text in texts(path)]
    for path in SCRIPTS:
        lines = path.read_text(errors="replace").splitlines()
        said += [(path, line) for line in lines if not line.startswith("#")]
    assert [(path.name, found) for path, text in said if (found := without_sudo(text))] == []


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("run `journalctl -u x`", True),
        ("run `systemctl restart ", True),
        (r"run \`make uninstall PREFIX=/usr\`", True),
        ("run `hkswitch reload`", True),
        ("run `sudo journalctl -u x`", False),
        ("`systemctl status x` gives the reason", False),
        ("as root, run `chown root x`", False),
    ],
)
def test_a_command_without_sudo_is_found(text: str, is_found: bool) -> None:
    assert bool(without_sudo(text)) is is_found
