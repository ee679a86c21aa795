"""Imports point one way, and each foreign library has one adapter."""

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "hkswitch").rglob("*.py"))

MAY_IMPORT = {
    "core": {"core"},
    "jobs": {"core"},
    "systemd": {"core", "jobs", "systemd"},
    "openssl": set(),
    "serviceswitch": {"core", "openssl", "systemd", "serviceswitch"},
    "hosts": {"core", "systemd", "hosts"},
    "homekit": {"core", "homekit"},
    "switchboard": {"core", "history", "hosts"},
    "addresses": {"core"},
    "configfile": {"core"},
    "notify": set(),
    "ports": set(),
    "logs": set(),
    "status": {"configfile", "control", "core", "systemd"},
    "page": {"core"},
    "peers": set(),
    "control": {"core", "control", "peers"},
    "edge": {"core"},
    "actions": {"control", "core", "hosts"},
    "homebridge": {"core", "homebridge"},
    "importing": {"core", "homebridge"},
    "history": {"core"},
    "pairs": {"core", "control", "homekit"},
    "doctor": {
        *("addresses", "configfile", "control", "core", "doctor", "homekit", "hosts", "ports"),
        *("serviceswitch", "systemd"),
    },
    "diagnostics": {"addresses", "core", "doctor", "homekit", "hosts", "status"},
}
"""Rooms that are not here (daemon, demo, cli) wire the others and may import all of them."""

HARDENING = {
    f"homekit/hardening/{name}.py" for name in ("advertiser", "connection", "driver", "requests", "setup")
}

ONLY_IN = {
    "yaml": {"core/yamltree.py"},
    "sdbus": {"systemd/connection.py", "systemd/interface.py", "systemd/signals.py", "systemd/units.py"},
    "pyhap": {"homekit/bridge.py", *HARDENING, "homekit/reads.py", "homekit/writes.py"},
    "h11": HARDENING,
    "cryptography": HARDENING,
    "zeroconf": {"doctor/mdns.py", "homekit/bridge.py", *HARDENING},  # the doctor asks as a phone does
    "segno": {"homekit/pairing.py"},
    "click": {"cli.py", "edge.py"},
    "rich": {"actions.py", "cli.py", "doctor/page.py", "page.py"},
    "ifaddr": {"addresses.py"},
    "subprocess": {"actions.py"},  # it is no daemon
}

NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
}

PURE = {"asyncio", "logging", "os", "pathlib", "socket", "subprocess", "sys", "threading", "time"}


def imported(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        match node:
            case ast.Import(names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str(name), names=names):
                yield from (f"{name}.{alias.name}" for alias in names)


def room(dotted: str) -> str:
    return dotted.split(".")[1]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_room_may(module: Path) -> None:
    own = module.relative_to(ROOT / "hkswitch").parts[0].removesuffix(".py")
    rooms = {room(name) for name in imported(module) if name.startswith("hkswitch.")} - {"__version__"}
    assert rooms <= MAY_IMPORT.get(own, rooms), f"{own} may not import {rooms - MAY_IMPORT[own]}"


def test_the_doctor_knows_of_the_helpers_room_only_what_it_trusts() -> None:
    names = {name for module in (ROOT / "hkswitch" / "doctor").glob("*.py") for name in imported(module)}
    assert {name for name in names if "serviceswitch" in name} == {"hkswitch.serviceswitch.trusted"}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_foreign_library_has_one_adapter(module: Path) -> None:
    name = str(module.relative_to(ROOT / "hkswitch"))
    foreign = {dotted.split(".")[0] for dotted in imported(module)} & ONLY_IN.keys()
    assert {library for library in foreign if name not in ONLY_IN[library]} == set()


@pytest.mark.parametrize(
    "module", sorted((ROOT / "hkswitch" / "core").glob("*.py")), ids=lambda path: path.name
)
def test_core_is_pure(module: Path) -> None:
    assert {name.split(".")[0] for name in imported(module)} & PURE == set()


def test_the_helper_imports_no_library_but_those_of_config_and_systemd() -> None:
    allowed = {
        "hkswitch",
        "asyncio",
        "collections",
        "contextlib",
        "dataclasses",
        "itertools",
        "os",
        "pathlib",
        "pwd",
        "select",
        "signal",
        "socket",
        "stat",
        "struct",
        "sys",
        "time",
        "typing",
    }
    for module in (ROOT / "hkswitch" / "serviceswitch").glob("*.py"):
        assert {name.split(".")[0] for name in imported(module)} <= allowed, module.name


def closure(*modules: str) -> set[Path]:
    """What these modules import of ours, and they themselves."""
    found: set[Path] = set()
    waiting = [*modules]
    while waiting:
        dotted = waiting.pop()
        path = ROOT.joinpath(*dotted.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if file in found or not file.exists():
            continue
        found.add(file)
        ours = [name for name in imported(file) if name.startswith("hkswitch")]
        waiting += [".".join(name.split(".")[:depth]) for name in ours for depth in range(1, 9)]
    return found


def lines_of_code(module: Path) -> int:
    """Lines that are neither empty, nor a comment, nor part of a docstring."""
    text = module.read_text()
    described: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            described.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    code = (token for token in tokens if token.type not in NO_CODE)
    return len({line for token in code for line in range(token.start[0], token.end[0] + 1)} - described)


def test_what_runs_as_root_is_small_and_gets_no_larger() -> None:
    room = (ROOT / "hkswitch" / "serviceswitch").glob("*.py")
    assert sum(map(lines_of_code, room)) <= 925
    assert sum(map(lines_of_code, closure("hkswitch.serviceswitch.__main__"))) <= 2425


def test_the_helper_imports_nothing_of_the_daemons() -> None:
    rooms = {
        path.relative_to(ROOT / "hkswitch").parts[0].removesuffix(".py")
        for path in closure("hkswitch.serviceswitch.__main__")
    }
    assert rooms == {"__init__", "core", "jobs", "openssl", "serviceswitch", "systemd"}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_is_and_stays_readable(module: Path) -> None:
    text = module.read_text()
    assert ast.get_docstring(ast.parse(text))
    assert text.count("\n") <= 360
