"""Imports point one way, and each foreign library has one adapter."""

import ast
import io
import re
import tokenize
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "hkswitch").rglob("*.py"))

MAY_IMPORT = {
    "model": {"model"},
    "protocol": {"model", "protocol"},
    "systemd": {"model", "systemd"},
    "network": {"model", "network"},
    "containers": {"containers", "model"},
    "openssl": set(),
    "unit_names": {"containers", "model", "unit_names"},
    "editing": {"editing", "model", "serviceswitch"},
    "serviceswitch": {"containers", "model", "openssl", "protocol", "serviceswitch", "systemd"},
    "backend": {"backend", "model", "protocol"},
    "hap": {"hap", "model", "network", "protocol"},
    "control": {"control", "model", "protocol"},
    "backup": {"backup", "hap", "model"},
    "homebridge": {"editing", "homebridge", "model"},
    "remote": {"backend", "model", "protocol", "remote", "serviceswitch"},
    "daemon": {"backend", "control", "daemon", "hap", "model", "network", "protocol"},
    "doctor": {
        *("backend", "control", "doctor", "editing", "hap", "homebridge", "model", "network", "protocol"),
        *("containers", "remote", "serviceswitch", "systemd", "unit_names"),
    },
    "cli": {
        *("backend", "backup", "cli", "control", "daemon", "doctor", "editing", "hap", "homebridge", "model"),
        *("containers", "network", "protocol", "remote", "systemd", "unit_names"),
    },
    "__main__": {"cli", "openssl"},
}

MODULE_MAY_IMPORT = {
    "cli/actions.py": {"backend", "cli", "control", "doctor", "model", "protocol", "unit_names"},
    "cli/add.py": {"cli", "doctor", "editing", "model", "unit_names"},
    "cli/alerts.py": {"cli", "control", "protocol"},
    "cli/audit.py": {"cli", "model"},
    "cli/backup.py": {"backup", "cli", "control", "daemon", "doctor", "hap", "model"},
    "cli/check.py": {"cli", "doctor", "model", "unit_names"},
    "cli/config_change.py": {"backup", "cli", "control", "editing", "model"},
    "cli/diagnostics.py": {"cli", "doctor", "hap", "model", "network", "protocol", "backend"},
    "cli/doctor.py": {"cli", "doctor"},
    "cli/edit.py": {"cli", "editing", "model"},
    "cli/entry.py": {"cli", "model"},
    "cli/health.py": {"control", "editing", "model", "protocol", "unit_names"},
    "cli/host.py": {"backend", "cli", "model", "remote"},
    "cli/host_add.py": {"cli", "editing", "model", "remote"},
    "cli/host_allow.py": {"cli", "editing", "model", "remote"},
    "cli/host_list.py": {"cli", "control", "model", "remote"},
    "cli/import_homebridge.py": {"cli", "homebridge", "model"},
    "cli/take_over.py": {"cli", "control", "daemon", "doctor", "hap", "homebridge", "model"},
    "cli/logs.py": {"cli", "containers", "control", "model", "protocol", "unit_names"},
    "cli/main.py": {"cli"},
    "cli/options.py": {"control", "model"},
    "cli/pair.py": {"cli", "control", "hap", "model", "protocol"},
    "cli/reload.py": {"cli", "control", "protocol"},
    "cli/remove.py": {"cli", "editing", "model", "protocol"},
    "cli/render.py": {"cli", "control", "model", "protocol"},
    "cli/reset.py": {"cli", "control", "doctor", "hap", "model"},
    "cli/restore.py": {"backup", "cli", "control", "daemon", "doctor", "editing", "hap", "model"},
    "cli/run.py": {"cli", "control", "daemon", "model"},
    "cli/state_folder.py": {"control", "hap", "model"},
    "cli/status.py": {"cli", "containers", "control", "model", "protocol", "systemd"},
    "cli/unpair.py": {"cli", "control", "hap", "model", "protocol"},
    "control/peer_credentials.py": {"protocol"},
    "daemon/alerts.py": {"backend", "daemon", "model"},
    "daemon/bridge.py": {"daemon", "hap", "model", "network", "protocol"},
    "daemon/identities.py": {"hap", "model"},
    "daemon/changes.py": {"model"},
    "daemon/kept_alerts.py": {"daemon", "model", "protocol"},
    "daemon/kept_file.py": {"hap", "model"},
    "daemon/location.py": {"daemon", "model", "network"},
    "daemon/debug_log.py": {"model"},
    "daemon/logs.py": {"daemon", "hap", "model"},
    "daemon/notify.py": set(),
    "daemon/requests.py": {"model", "protocol"},
    "daemon/sensors.py": {"daemon", "hap", "model"},
    "daemon/signals.py": set(),
    "daemon/switchboard.py": {"backend", "daemon", "model", "protocol"},
    "daemon/tiles.py": {"daemon", "hap", "model"},
    "model/config_file.py": {"model"},
    "remote/account.py": {"model", "remote"},
    "remote/files.py": {"model"},
    "remote/granted.py": {"model", "remote"},
    "remote/host_key.py": {"backend", "model", "remote", "serviceswitch"},
    "remote/keys.py": {"model"},
    "remote/programs.py": {"model"},
    "remote/sshd.py": {"model", "remote"},
    "remote/undo.py": set(),
    "network/addresses.py": {"model", "network"},
    "network/choice.py": {"model"},
    "network/endpoint.py": set(),
    "network/listeners.py": {"model"},
    "network/mdns_port.py": {"network"},
    "systemd/command.py": {"model", "systemd"},
    "systemd/jobs.py": {"model"},
    "systemd/outcome.py": {"model"},
    "systemd/watch.py": {"model"},
    "unit_names/similar.py": {"model"},
    "unit_names/systemctl.py": {"model", "unit_names"},
    "unit_names/unit_files.py": {"unit_names"},
    "containers/answers.py": {"model"},
}
"""Of the rooms that wire others, what each module may; and what knows less than its room."""

OVERRIDES = {
    f"hap/{name}.py"
    for name in (
        *("advertiser", "connection", "driver", "handler", "pair_setup", "pairings"),
        *("presence", "responder", "server"),
    )
}

ONLY_IN = {
    "yaml": {"model/yaml_nodes.py"},
    "sdbus": {
        f"systemd/{name}.py"
        for name in ("connection", "interface", "resources", "signals", "starts", "units")
    },
    "pyhap": {
        *("daemon/bridge.py", "daemon/sensors.py", "daemon/tiles.py"),
        *("hap/characteristics.py", "hap/database.py"),
        *OVERRIDES,
    },
    "h11": OVERRIDES,
    "cryptography": {"hap/keys.py", *OVERRIDES},
    # The doctor asks as a phone does.
    "zeroconf": {
        "daemon/bridge.py",
        "doctor/mdns.py",
        "hap/announcement.py",
        "hap/conflicts.py",
        "hap/twin.py",
        *OVERRIDES,
    },
    "segno": {"hap/setup_code.py"},
    "click": {
        str(module.relative_to(ROOT / "hkswitch")) for module in MODULES if module.parent.name == "cli"
    },
    "rich": {f"cli/{name}.py" for name in ("doctor", "layout", "render", "rich_console", "styled")},
    "ifaddr": {"network/addresses.py"},
    # Of these, only the first is part of a daemon, and it waits for no process.
    "subprocess": {
        "backend/spawning.py",
        *("cli/actions.py", "cli/audit.py", "cli/edit.py", "remote/programs.py", "unit_names/systemctl.py"),
    },
}

NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
}

PURE = {"asyncio", "logging", "os", "pathlib", "socket", "subprocess", "sys", "threading", "time"}


@cache
def parsed(module: Path) -> ast.Module:
    """The tree of a module, parsed once for all tests."""
    return ast.parse(module.read_text())


@cache
def imported(module: Path) -> tuple[str, ...]:
    found: list[str] = []
    for node in ast.walk(parsed(module)):
        match node:
            case ast.Import(names):
                found += (name.name for name in names)
            case ast.ImportFrom(module=str(name), names=names):
                found += (f"{name}.{alias.name}" for alias in names)
    return tuple(found)


def room(dotted: str) -> str:
    return dotted.split(".")[1]


def test_a_module_imports_only_what_its_room_may() -> None:
    for module in MODULES:
        inside = module.relative_to(ROOT / "hkswitch")
        own = inside.parts[0].removesuffix(".py")
        rooms = {room(name) for name in imported(module) if name.startswith("hkswitch.")} - {"__version__"}
        allowed = set() if inside.name == inside.parts[0] == "__init__.py" else MAY_IMPORT[own]
        assert rooms <= allowed, f"{inside}: {own} may not import {rooms - allowed}"
        allowed = MODULE_MAY_IMPORT.get(str(inside), rooms)
        assert rooms <= allowed, f"{inside} may not import {rooms - allowed}"


def test_the_programs_can_be_seen_and_little_lies_loose() -> None:
    top = {path.name for path in (ROOT / "hkswitch").iterdir()} - {"py.typed", "__pycache__"}
    assert {"cli", "daemon", "doctor", "serviceswitch"} <= top
    assert {name for name in top if name.endswith(".py")} == {"__init__.py", "__main__.py", "openssl.py"}
    assert {name for name in top if not name.endswith(".py")} <= MAY_IMPORT.keys()


def test_the_map_in_the_architecture_has_a_line_for_each_folder_and_file() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    drawn = text.partition("## Map")[2].partition("\n## ")[0]
    listed = re.findall(r"^(?:\* | *)([a-z_]+(?:/|\.py)) +\S", drawn, re.MULTILINE)
    there = [
        *(module.name for module in MODULES if module.name != "__init__.py"),
        *(f"{folder.parent.name}/" for folder in MODULES if folder.name == "__init__.py"),
    ]
    assert sorted(listed) == sorted(there)


# The walks of the architecture

STEP = re.compile(r"^\d+\. (.*)$", re.MULTILINE)
NAMED_FILE = re.compile(r"`((?:\w+/)?\w+\.py)`")
NAMED_FUNCTION = re.compile(r"`((?:\w+\.)?\w+)\(\)`")


def steps() -> list[str]:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    return STEP.findall(text.partition("step by step\n")[2].partition("\n## Decisions")[0])


def functions_in(module: Path) -> set[str]:
    """The functions of a module by name, and its methods by class and name."""
    body = parsed(module).body
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    methods = {
        f"{owner.name}.{node.name}"
        for owner in body
        if isinstance(owner, ast.ClassDef)
        for node in owner.body
        if isinstance(node, functions)
    }
    return methods | {node.name for node in body if isinstance(node, functions)}


def wrong_names(step: str) -> list[str]:
    """Functions that the file named right after them does not define, and files that do not exist."""
    wrong, waiting = [], []
    for token in re.findall(r"`[^`]+`", step):
        if function := NAMED_FUNCTION.fullmatch(token):
            waiting.append(function[1])
        elif file := NAMED_FILE.fullmatch(token):
            module = ROOT / "hkswitch" / file[1]
            defined = functions_in(module) if module.exists() else set()
            wrong += [name for name in waiting if name not in defined]
            wrong += [] if module.exists() else [file[1]]
            waiting = []
    return wrong + waiting


def test_there_are_four_walks() -> None:
    headings = re.findall(r"^## (.*), step by step$", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    assert headings == ["A tap", "A unit signal", "A reload", "`hkswitch status`"]
    assert len(steps()) >= 20


@pytest.mark.parametrize("step", steps(), ids=lambda step: step[:40])
def test_a_step_names_functions_and_the_files_that_define_them(step: str) -> None:
    assert wrong_names(step) == []


@pytest.mark.parametrize(
    ("step", "wrong"),
    [
        ("`Switchboard.write()` in `daemon/switchboard.py`", []),
        ("`ask()` and `watch()` in `control/client.py`", []),
        ("`Switchboard.wrote()` in `daemon/switchboard.py`", ["Switchboard.wrote"]),
        ("`write()` in `daemon/switchboard.py`", ["write"]),
        ("`write()` in `daemon/board.py`", ["write", "daemon/board.py"]),
        ("`ask()` asks", ["ask"]),
        ("see `daemon/board.py`", ["daemon/board.py"]),
    ],
)
def test_a_wrong_name_in_a_step_is_found(step: str, wrong: list[str]) -> None:
    assert wrong_names(step) == wrong


def test_a_module_that_the_architecture_names_exists() -> None:
    named = set(NAMED_FILE.findall((ROOT / "ARCHITECTURE.md").read_text()))
    assert {"hap/events.py", "daemon/serving.py"} <= named
    folders = (ROOT / "hkswitch", ROOT)
    missing = [name for name in sorted(named) if not any((folder / name).exists() for folder in folders)]
    assert missing == []


@pytest.mark.parametrize("room", ["doctor", "editing"])
def test_of_the_helpers_room_others_know_only_what_it_trusts(room: str) -> None:
    names = {name for module in (ROOT / "hkswitch" / room).glob("*.py") for name in imported(module)}
    assert {name for name in names if "serviceswitch" in name} == {"hkswitch.serviceswitch.trusted_files"}


def test_a_foreign_library_has_one_adapter() -> None:
    for module in MODULES:
        name = str(module.relative_to(ROOT / "hkswitch"))
        foreign = {dotted.split(".")[0] for dotted in imported(module)} & ONLY_IN.keys()
        assert {library for library in foreign if name not in ONLY_IN[library]} == set(), name


PURE_MODULES = [
    path
    for path in MODULES
    if path.parent.name in {"editing", "model", "protocol"}
    and path.name not in {"config_file.py", "config_replacement.py", "machine.py"}
]
READS_ONE_OPTION = {"credentials.py": {"socket"}}
"""It asks the kernel about a socket that it is given, and both programs need that."""


@pytest.mark.parametrize("module", PURE_MODULES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_model_protocol_and_editing_are_pure(module: Path) -> None:
    impure = {name.split(".")[0] for name in imported(module)} & PURE
    assert impure == READS_ONE_OPTION.get(module.name, set())


def test_the_helper_imports_no_library_but_those_of_config_and_systemd() -> None:
    allowed = {
        "_signal",
        "hkswitch",
        "asyncio",
        "collections",
        "contextlib",
        "dataclasses",
        "fcntl",
        "gc",
        "itertools",
        "os",
        "pathlib",
        "pwd",
        "select",
        "signal",
        "socket",
        "stat",
        "sys",
        "termios",
        "threading",
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


def own_imports(module: Path) -> set[Path]:
    """The files of ours that a module imports, also those for types alone."""
    found = set()
    for dotted in imported(module):
        path = ROOT.joinpath(*dotted.split("."))
        file = next((each for each in (path, path.parent) if each.with_suffix(".py").exists()), None)
        if file is not None:
            found.add(file.with_suffix(".py"))
    return found


def test_no_modules_import_one_another_in_a_circle() -> None:
    imports = {module: own_imports(module) for module in MODULES}
    assert Path(ROOT / "hkswitch/hap/connection.py") in imports[ROOT / "hkswitch/hap/server.py"]
    while leaves := [module for module, others in imports.items() if not others & imports.keys()]:
        for module in leaves:
            del imports[module]
    assert sorted(str(module.relative_to(ROOT)) for module in imports) == []


def lines_of_code(module: Path) -> int:
    """Lines that are neither empty, nor a comment, nor part of a docstring."""
    text = module.read_text()
    described: set[int] = set()
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            described.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    code = (token for token in tokens if token.type not in NO_CODE)
    return len({line for token in code for line in range(token.start[0], token.end[0] + 1)} - described)


def test_what_runs_as_root_is_small_and_gets_no_larger() -> None:
    room = (ROOT / "hkswitch" / "serviceswitch").glob("*.py")
    # 80 lines of it are for commands as another user, detached ones, and those without a status.
    # 160 lines are for the resources of groups, the alert command and the order of failures and states.
    # 26 lines are for the bridges of other hosts.
    # 39 lines are for speed: one read, question and write for many requests, and news of journald's reads.
    assert sum(map(lines_of_code, room)) <= 1998
    # A third of the parser is the table of config keys: data, from which the documents are made too.
    # 590 lines of it are for containers: a client for two engines, and what the config says of them.
    # 820 lines are for alerts and rules: who ended what, resources, and the keys and messages of both.
    # 130 lines are for groups of other hosts in the config, and for what a helper tells of its own to them.
    # 60 lines are for speed: besides those above, starts read only what they need of a unit.
    assert sum(map(lines_of_code, closure("hkswitch.serviceswitch.__main__"))) <= 5847


def test_nothing_that_starts_programs_runs_in_a_thread() -> None:
    """Root's commands change their effective user for a moment, which all threads of a process share."""
    threads = re.compile(r"\bto_thread\b|\brun_in_executor\b|\bThreadPool|\bThread\(")
    found = {str(module.relative_to(ROOT)) for module in MODULES if threads.search(module.read_text())}
    # One reads a file, and the other writes to a pipe, in a helper whose user never changes.
    assert found == {"hkswitch/model/config_file.py", "hkswitch/serviceswitch/stdio.py"}


def test_the_helper_imports_nothing_of_the_daemons() -> None:
    rooms = {
        path.relative_to(ROOT / "hkswitch").parts[0].removesuffix(".py")
        for path in closure("hkswitch.serviceswitch.__main__")
    }
    assert rooms == {"__init__", "containers", "model", "openssl", "protocol", "serviceswitch", "systemd"}


NAMES_A_SOCKET = re.compile(r"(docker|podman)\.sock\b")


@pytest.mark.parametrize("program", ["hkswitch.daemon.service", "hkswitch.cli.demo"])
def test_the_daemon_knows_no_systemd_and_no_bus(program: str) -> None:
    modules = closure(program)
    assert ROOT / "hkswitch" / "backend" / "helper_host.py" in modules
    assert "systemd" not in {module.parent.name for module in modules}
    assert {dotted.split(".")[0] for module in modules for dotted in imported(module)}.isdisjoint(
        {"sdbus", "dbus_fast", "jeepney"}
    )


@pytest.mark.parametrize("program", ["hkswitch.daemon.service", "hkswitch.cli.demo"])
def test_the_daemon_knows_no_container_engine_and_not_where_its_socket_is(program: str) -> None:
    modules = closure(program)
    assert "containers" not in {module.parent.name for module in modules}
    assert [module.name for module in modules if NAMES_A_SOCKET.search(module.read_text())] == []
    engines = closure("hkswitch.containers.connection")
    assert [module.name for module in engines if NAMES_A_SOCKET.search(module.read_text())] == [
        "connection.py"
    ]


def test_the_helper_does_not_know_which_units_are_dangerous() -> None:
    names = {path.name for path in closure("hkswitch.serviceswitch.__main__")}
    assert "config_values.py" in names
    assert "dangerous_units.py" not in names


def test_a_module_says_what_it_is_and_stays_readable() -> None:
    for module in MODULES:
        text = module.read_text()
        assert ast.get_docstring(parsed(module)), module
        assert text.count("\n") <= 360, module
