"""The completions offer the commands and options of the program, all of them and nothing else."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest

from hkswitch.cli import host_list, pair, status
from hkswitch.model.unit_state import GroupState
from hkswitch.protocol.report import BridgeReport, GroupReport, PairedController, Report
from release import completions
from tests.support import options

SCRIPTS = completions.scripts()
BASH, ZSH, FISH = (SCRIPTS[name] for name in ("hkswitch.bash", "_hkswitch", "hkswitch.fish"))

PROGRAM = options.program_seen()
COMMANDS = options.commands_seen()
TOP_LEVEL = options.top_level()
NESTED = {name: name.split()[0] for name in COMMANDS if " " in name}
"""Commands of a group of commands, with the name of the group."""

OF_HOSTS = {name for name, seen in COMMANDS.items() if "HOST" in seen.arguments}
WITH_HOST = {name for name, seen in COMMANDS.items() if "HOST" in seen.options.values()}
OF_GROUPS = {name for name, seen in COMMANDS.items() if any("GROUP" in word for word in seen.arguments)}

SHELLS = [
    (shell, script)
    for shell, script in (("bash", BASH), ("zsh", ZSH), ("fish", FISH))
    if shell == "bash" or shutil.which(shell)
]
"""Shells that can say whether a script is one of theirs; bash is everywhere."""

PHONE = "8DE3A2C0-5D7B-4E7C-9F52-3F1B7A2D9E10"
TABLET = "12AB34CD-5D7B-4E7C-9F52-3F1B7A2D9E10"
CONTROLLERS = (PairedController(PHONE, admin=True, connections=1), PairedController(TABLET, admin=False))
REPORT = Report(
    BridgeReport("Homelab", "1.2.3", 1, ("192.168.1.10",), 51826, CONTROLLERS),
    tuple(GroupReport(name, name.title(), GroupState.ON, 1, {}) for name in ("web", "vm-guests", "vpn")),
)

LISTED = """\
nginx.service           enabled  enabled
nmbd@.service           disabled enabled
smbd.service            masked   enabled
$(reboot).service       enabled  enabled
fstrim.timer            enabled  enabled
"""
"""What systemctl lists, and names that no completion may offer."""

HOSTS = host_list.as_text(
    [{"name": name, "ssh": "a", "groups": {"name": "b"}} for name in ("nas", "$(reboot)", "pi-2")]
)

UNITS = "list-unit-files --type=service --no-legend --no-pager --plain"

COMPLETE = """\
source "$1"
command_not_found_handle() { printf '%s\\n' "$1" >>"$STARTED"; return 127; }
compopt() { printf 'compopt %s\\n' "$*"; }
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_hkswitch
((${#COMPREPLY[@]} == 0)) || printf '%s\\n' "${COMPREPLY[@]}"
"""


@dataclass(frozen=True)
class Completed:
    """What bash offers, and what it started: programs that it did not find, or questions to a stand-in."""

    offered: list[str]
    started: list[str]


def complete(folder: Path, *words: str, answering: bool = False) -> Completed:
    """Complete the last of `words` in bash, where there is no program, or those that answer."""
    started = folder / "started"
    started.write_text("")
    script = folder / "hkswitch.bash"
    script.write_text(BASH)
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    if answering:
        stand_in(programs / "hkswitch", started)
        stand_in(programs / "systemctl", started)
    path = f"{programs}:{os.environ['PATH']}" if answering else str(programs)
    bash = shutil.which("bash")
    assert bash
    done = subprocess.run(
        [bash, "--norc", "--noprofile", "-c", COMPLETE, "bash", script, "hkswitch", *words],
        env={"PATH": path, "STARTED": str(started)},
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert done.stderr == ""
    return Completed(done.stdout.splitlines(), started.read_text().splitlines())


def stand_in(file: Path, started: Path) -> None:
    """A program that answers as hkswitch and systemctl do, and notes what it was asked."""
    answers = {
        "status --json": status.report_as_json(REPORT),
        "pair --list": pair.list_as_text(CONTROLLERS),
        "host list --json": HOSTS,
        UNITS: LISTED,
    }
    cases = "\n".join(
        f"{shlex.quote(asked)}) printf '%s\\n' {shlex.quote(said)} ;;" for asked, said in answers.items()
    )
    file.write_text(f'#!/bin/sh\necho "$*" >>{shlex.quote(str(started))}\ncase "$*" in\n{cases}\nesac\n')
    file.chmod(0o755)


@pytest.mark.parametrize(("shell", "script"), SHELLS, ids=[shell for shell, _ in SHELLS])
def test_a_completion_is_a_script_of_its_shell(tmp_path: Path, shell: str, script: str) -> None:
    file = tmp_path / "script"
    file.write_text(script)
    read = subprocess.run([shell, "-n", file], capture_output=True, text=True, check=False, timeout=20)
    assert (read.returncode, read.stdout + read.stderr) == (0, "")


def test_the_completion_for_bash_passes_shellcheck() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, "-"], input=BASH, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_program_writes_all_of_them_whatever_python_is_told(tmp_path: Path) -> None:
    """packaging/stage runs it by its file, isolated, with the Python that hkswitch is installed for."""
    subprocess.run([sys.executable, "-I", completions.__file__, tmp_path], check=True, timeout=20)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == SCRIPTS


# bash


def test_bash_offers_every_command_and_starts_no_program(tmp_path: Path) -> None:
    assert complete(tmp_path, "") == Completed(TOP_LEVEL, [])
    for group in dict.fromkeys(NESTED.values()):
        below = [name.split()[1] for name, of in NESTED.items() if of == group]
        assert complete(tmp_path, group, "") == Completed(below, [])
        assert complete(tmp_path, group, "-") == Completed(["--help"], [])


def test_bash_offers_the_options_of_the_program_and_starts_no_program(tmp_path: Path) -> None:
    done = complete(tmp_path, "-")
    assert (sorted(done.offered), done.started) == (sorted(PROGRAM.long_options), [])


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_bash_offers_the_options_of_a_command_and_starts_no_program(tmp_path: Path, name: str) -> None:
    for begun in ("-", "--"):
        done = complete(tmp_path, *name.split(), begun)
        assert (sorted(done.offered), done.started) == (sorted(COMMANDS[name].long_options), [])


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("sta",), ["status", "start"]),
        (("x",), []),
        (("status", "--w"), ["--watch"]),
        (("-h", "che"), ["check"]),
        (("status", "web", "--j"), ["--json"]),
        (("check", ""), []),
        (("bogus", "-"), []),
        (("host", "te"), ["test"]),
        (("host", "add", "nas", ""), []),
        (("host", "bogus", "-"), []),
        (("host", "add", "--f"), ["--fingerprint"]),
    ],
    ids=" ".join,
)
def test_bash_offers_what_goes_on_as_it_was_begun(
    tmp_path: Path, words: tuple[str, ...], offered: list[str]
) -> None:
    assert complete(tmp_path, *words) == Completed(offered, [])


FILES, FOLDERS, NOTHING = ["compopt -o default"], ["compopt -o dirnames"], list[str]()
VALUES = {
    "FILE": FILES,
    "OLD=COPY": FILES,
    "DIR": FOLDERS,
    "IP": NOTHING,
    "N": NOTHING,
    **dict.fromkeys(("NAME", "ID", "TYPE", "SENSOR", "PROJECT", "ENGINE", "SHA256", "BRIDGE"), NOTHING),
}


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        (name, option, value)
        for name, seen in sorted(COMMANDS.items())
        for option, value in seen.options.items()
        if value not in {"", "HOST"}  # a program is asked for hosts
    ],
)
def test_bash_offers_what_the_value_of_an_option_is(
    tmp_path: Path, name: str, option: str, value: str
) -> None:
    words = *name.split(), option
    assert complete(tmp_path, *words, "") == Completed(VALUES[value], [])
    assert complete(tmp_path, *words, "=") == Completed(VALUES[value], [])
    assert complete(tmp_path, *words, "=", "x") == Completed(VALUES[value], [])


@pytest.mark.parametrize("name", sorted(OF_GROUPS))
def test_bash_asks_for_the_groups_once(tmp_path: Path, name: str) -> None:
    asked = ["status --json"]
    assert complete(tmp_path, name, "", answering=True) == Completed(["web", "vm-guests", "vpn"], asked)
    assert complete(tmp_path, name, "web", "v", answering=True) == Completed(["vm-guests", "vpn"], asked)


def test_bash_asks_for_the_controllers_once(tmp_path: Path) -> None:
    assert complete(tmp_path, "unpair", "", answering=True) == Completed([PHONE, TABLET], ["pair --list"])


@pytest.mark.parametrize("name", sorted(OF_HOSTS))
def test_bash_asks_for_the_hosts_once(tmp_path: Path, name: str) -> None:
    assert sorted(OF_HOSTS) == ["host remove", "host test"]
    done = complete(tmp_path, *name.split(), "", answering=True)
    assert done == Completed(["nas", "pi-2"], ["host list --json"])


def test_bash_asks_for_the_hosts_once_as_the_value_of_an_option(tmp_path: Path) -> None:
    assert {"add"} == WITH_HOST
    done = complete(tmp_path, "add", "x", "--host", "", answering=True)
    assert done == Completed(["nas", "pi-2"], ["host list --json"])
    assert complete(tmp_path, "add", "--host", "=", "p", answering=True).offered == ["pi-2"]
    assert complete(tmp_path, "add", "--host", "x", answering=True).offered == []


def test_bash_asks_systemctl_for_the_units_once_and_offers_services(tmp_path: Path) -> None:
    done = complete(tmp_path, "add", "n", answering=True)
    assert done.offered == ["nginx", "nmbd@"]
    assert done.started == [UNITS]


def test_bash_offers_files_for_a_config_of_homebridge(tmp_path: Path) -> None:
    assert complete(tmp_path, "import-homebridge", "") == Completed(FILES, [])


@pytest.mark.parametrize("name", [*sorted(OF_GROUPS), "unpair"])
def test_bash_is_quiet_where_there_is_no_program(tmp_path: Path, name: str) -> None:
    """It also shows that a program that is started is noticed here."""
    started = tmp_path / "programs" / "hkswitch"
    started.parent.mkdir()
    started.write_text("#!/bin/sh\nexit 69\n")
    started.chmod(0o755)
    (started.parent / "sed").symlink_to(shutil.which("sed") or "sed")
    assert complete(tmp_path, name, "") == Completed([], [])
    started.unlink()
    assert complete(tmp_path, name, "") == Completed([], ["hkswitch"])


# zsh and fish, as text


def zsh_commands(script: str) -> list[str]:
    listed = re.search(r"commands=\(\n(.*?)\n +\)", script, re.DOTALL)
    assert listed
    names = re.findall(r"^ +'([a-z-]+):.+'$", listed[1], re.MULTILINE)
    assert len(names) == len(listed[1].splitlines())
    return names


def zsh_options(text: str) -> dict[str, bool]:
    """The options in a call of _arguments, and whether they have a value."""
    alone = re.findall(r"'(?:\([^)]*\))?(-[a-z-]+)(=?)\[", text)
    spelt = [word for group in re.findall(r"\{(-[^}]+)\}'\[", text) for word in group.split(",")]
    assert len(alone) + len(spelt) >= text.count("[")
    return {name: bool(value) for name, value in alone} | {
        word.rstrip("+="): word.endswith(("+", "=")) for word in spelt
    }


def zsh_branches() -> dict[str, str]:
    return {name: text for name, text in branches(ZSH, 16).items() if name not in NESTED.values()} | {
        f"{group} {name}": text
        for group in dict.fromkeys(NESTED.values())
        for name, text in branches(branches(ZSH, 16)[group], 32).items()
    }


def branches(script: str, indent: int) -> dict[str, str]:
    """The branches of a case, which are indented by so many spaces, by their names."""
    pattern = rf"^ {{{indent}}}([a-z][a-z-]*)\)\n(.*?)^ {{{indent + 4}}};;$"
    return dict(re.findall(pattern, script, re.MULTILINE | re.DOTALL))


def test_zsh_offers_every_command() -> None:
    assert zsh_commands(ZSH) == TOP_LEVEL
    for group in dict.fromkeys(NESTED.values()):
        assert [f"{group} {name}" for name in zsh_commands(branches(ZSH, 16)[group])] == [
            name for name in NESTED if NESTED[name] == group
        ]
    assert zsh_branches().keys() == COMMANDS.keys()


def test_zsh_offers_the_options_of_the_program() -> None:
    found = re.search(r"_arguments -C -A '-\*' (.*?) && ret", ZSH, re.DOTALL)
    assert found
    assert zsh_options(found[1]) == PROGRAM.with_value


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_zsh_offers_the_options_and_arguments_of_a_command(name: str) -> None:
    text = zsh_branches()[name]
    assert zsh_options(text) == COMMANDS[name].with_value
    free = name in {"host add", "host allow", "host disallow"}
    assert len(re.findall(r"'(?:\*|1):", text)) == (0 if free else len(COMMANDS[name].arguments))
    assert (":host:_hkswitch_hosts'" in text) == (name in OF_HOSTS | WITH_HOST)
    assert (":group:_hkswitch_groups'" in text) == (name in OF_GROUPS)


@dataclass(frozen=True)
class FishRule:
    """A `complete`: the commands it counts for (None: with and without one), and what it offers."""

    commands: list[str] | None
    words: list[str]
    options: list[str]
    has_value: bool


def fish_rules() -> list[FishRule]:
    lines = (line for line in FISH.splitlines() if line.startswith("complete "))
    return [fish_rule(shlex.split(line)) for line in lines]


def fish_rule(words: list[str]) -> FishRule:
    given: dict[str, list[str]] = defaultdict(list)
    flags = ""
    rest = iter(words[1:])
    for word in rest:
        flags += word[1:]
        if word[-1] in "cnslad":
            given[word[-1]].append(next(rest))
    assert given["c"] == ["hkswitch"]
    name, *commands = given["n"][0].split() if given["n"] else (None,)
    assert name in {None, "__hkswitch_command", "__hkswitch_subcommand"}
    if name == "__hkswitch_subcommand":
        commands = [" ".join(commands)]
    spelt = [*(f"-{short}" for short in given["s"]), *(f"--{long}" for long in given["l"])]
    return FishRule(None if name is None else commands, given["a"], spelt, "r" in flags or "x" in flags)


def fish_options(command: str | None) -> dict[str, bool]:
    """What is offered behind a command, or where there is none."""
    meant = [
        rule
        for rule in fish_rules()
        if rule.commands is None or (command in rule.commands if command else not rule.commands)
    ]
    return {option: rule.has_value for rule in meant for option in rule.options}


def test_fish_offers_every_command() -> None:
    assert [word for rule in fish_rules() if rule.commands == [] for word in rule.words] == TOP_LEVEL
    named = {name for rule in fish_rules() for name in rule.commands or ()}
    assert named <= COMMANDS.keys() | {*NESTED.values()}
    for group in dict.fromkeys(NESTED.values()):
        below = [
            f"{group} {word}" for rule in fish_rules() if rule.commands == [group] for word in rule.words
        ]
        assert below == [name for name in NESTED if NESTED[name] == group]


def test_fish_offers_the_options_of_the_program() -> None:
    assert fish_options(None) == PROGRAM.with_value


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_fish_offers_the_options_of_a_command(name: str) -> None:
    assert fish_options(name) == COMMANDS[name].with_value


def test_fish_offers_groups_where_they_are_meant() -> None:
    asking = [rule for rule in fish_rules() if "(__hkswitch_groups)" in rule.words]
    assert {name for rule in asking for name in rule.commands or ()} == OF_GROUPS
    asking = [rule for rule in fish_rules() if "(__hkswitch_hosts)" in rule.words]
    assert {name for rule in asking for name in rule.commands or ()} == OF_HOSTS | WITH_HOST


def test_zsh_reads_groups_and_controllers_as_bash_does() -> None:
    scripts = re.findall(r"\| *\n? *sed -n '([^']+)'", BASH)
    assert len(scripts) == 4
    assert re.findall(r"\| *\n? *sed -n '([^']+)'", ZSH) == scripts


def test_fish_reads_groups_and_controllers_of_what_the_program_prints() -> None:
    groups, hosts, controllers, units = (
        [match[1] for line in printed.splitlines() if (match := re.match(pattern, line))]
        for pattern, printed in zip(
            re.findall(r"--filter --regex '([^']+)' '\$1'", FISH),
            (status.report_as_json(REPORT), HOSTS, pair.list_as_text(CONTROLLERS), LISTED),
            strict=True,
        )
    )
    assert units == ["nginx", "nmbd@", "smbd"]
    assert groups == ["web", "vm-guests", "vpn"]
    assert controllers == [PHONE, TABLET]
    assert hosts == ["nas", "pi-2"]
