"""The command line as a process: what it prints and how it ends. One sentence, never a traceback."""

import asyncio
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest
import pytest_asyncio

from hkswitch import __version__
from hkswitch.cli import render
from hkswitch.cli.demo import GROUPS, HIGHEST_PORT, TROUBLED_GROUPS
from hkswitch.control import SOCKET_NAME
from hkswitch.hap.state_file import BACKUP_NAME, FILE_NAME
from tests.support import options
from tests.support.command import HKSWITCH, run
from tests.support.controller import Controller
from tests.support.fake_systemd import FakeSystemd, Unit
from tests.support.fixtures import bus_address, fake, systemd_on_bus
from tests.support.helper import HelperProgram
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_SECONDS, eventually

__all__ = ["bus_address", "fake", "systemd_on_bus"]

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"


THIS_USER = render._requester(f"user {os.geteuid()}")
WITHOUT_DAEMON = "hkswitch: the daemon is not running, and systemd cannot be asked instead:\n"


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text(
        f"bridge: {{address: 127.0.0.1, port: {free_port()}}}\ngroups:\n  web: {{units: [httpd]}}\n"
    )
    return file


def test_version() -> None:
    assert run("--version") == (0, f"hkswitch {__version__}\n", "")


def test_the_example_config_is_ok() -> None:
    assert run("check", "--config", EXAMPLE) == (0, "configuration OK\n", "")


def test_check_lists_every_problem_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("bridge: {port: 80}\ngroups:\n  web: {unit: httpd}\n")
    code, output, errors = run("check", "--config", file)
    assert (code, output) == (78, "")
    assert [line.removeprefix(f"{file}:").split(": ")[:2] for line in errors.splitlines()] == [
        ["1:16", "bridge.port"],
        ["3:9", "groups.web.unit"],
    ]


def test_the_help_says_what_each_command_does_in_a_line() -> None:
    code, output, _ = run("--help", COLUMNS="80")
    listed, _, _ = output.partition("\nCommands:\n")[2].partition("\n\n")
    assert code == 0
    assert listed
    assert len(listed.splitlines()) == len(options.top_level())
    assert [line for line in listed.splitlines() if line.endswith(".")] == []


@pytest.mark.parametrize("name", options.commands_seen())
def test_a_command_says_of_itself_what_the_list_says(name: str) -> None:
    summary = (options.command(name).help or "").partition("\n\n")[0]
    assert summary == f"{options.summary(name)}."


def test_a_mistyped_command_is_answered_with_the_right_one() -> None:
    code, _, errors = run("statsu")
    assert code == 64
    assert "status" in errors.splitlines()[-1]


@pytest.mark.parametrize("command", ["run", "check", "status"])
def test_no_config_is_78(command: str, tmp_path: Path) -> None:
    code, output, errors = run(command, "--config", tmp_path / "none.yaml")
    assert (code, output) == (78, "")
    reason = f"hkswitch: cannot read {tmp_path}/none.yaml: No such file or directory\n"
    assert errors == (WITHOUT_DAEMON if command == "status" else "") + reason


@pytest.mark.parametrize(
    "arguments",
    [
        ["bogus"],
        ["run", "--bogus"],
        ["run", "extra"],
        ["demo", "--port", "80"],
        ["demo", "--port", "x"],
        ["demo", "--address", "foo"],
        ["pair", "extra"],
        ["pair", "--list", "--png", "x"],
        ["pair", "--png", "x", "--svg", "y"],
        ["pair", "--reset-attempts", "--list"],
        ["pair", "--reset-attempts", "--json"],
        ["pair", "--json", "--svg", "-"],
        ["unpair", "A", "B"],
        ["unpair", "A", "--all"],
        ["unpair", "", "--all"],
    ],
)
def test_wrong_arguments_are_64(arguments: list[str]) -> None:
    code, output, errors = run(*arguments)
    assert (code, output) == (64, "")
    assert "Error: " in errors
    assert "Traceback" not in errors


IMPORTING = """
import os, sys

NUMBER, PROGRAM, *ARGUMENTS = sys.argv[1:]

class Signalling:
    def find_spec(self, name, path, target=None):
        if name not in ("_signal", "hkswitch", "hkswitch.serviceswitch", PROGRAM):
            # Another list: Python goes over this one just now.
            sys.meta_path = [each for each in sys.meta_path if each is not self]
            os.kill(os.getpid(), int(NUMBER))

sys.meta_path.insert(0, Signalling())
sys.argv = ["hkswitch", *ARGUMENTS]
__import__(PROGRAM)
assert not any(isinstance(each, Signalling) for each in sys.meta_path)
"""
"""A program that gets a signal with its first import."""


def signalled(number: signal.Signals, program: str, *arguments: str) -> tuple[int, str]:
    """The exit code and the errors of a program that gets a signal with its first import."""
    # A runner may ignore some, such as nohup.
    command = [
        "env",
        "--default-signal",
        sys.executable,
        "-c",
        IMPORTING,
        str(int(number)),
        program,
        *arguments,
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stderr


@pytest.mark.parametrize("program", ["hkswitch.__main__", "hkswitch.serviceswitch.__main__"])
def test_ctrl_c_is_no_traceback_while_the_program_is_still_imported(program: str) -> None:
    assert signalled(signal.SIGINT, program) == (-signal.SIGINT, "")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_a_daemon_that_is_still_imported_ignores_what_it_later_handles(number: signal.Signals) -> None:
    assert signalled(number, "hkswitch.__main__", "run") == (0, "")
    assert signalled(number, "hkswitch.__main__", "status") == (-number, "")


def test_a_reader_that_went_away_is_no_traceback() -> None:
    command = f"{HKSWITCH} --help >&-; {HKSWITCH} check --config {EXAMPLE} >/dev/full"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert ended.returncode == 74
    assert "cannot write to standard output: No space left on device" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_without_a_daemon_and_a_bus_status_is_69(config_file: Path) -> None:
    nowhere = "unix:path=/nonexistent"
    code, _, errors = run("status", "--config", config_file, DBUS_SYSTEM_BUS_ADDRESS=nowhere)
    assert code == 69
    reason = "hkswitch: no connection to systemd over the system bus: No such file or directory\n"
    assert errors == f"{WITHOUT_DAEMON}{reason}"


@pytest.mark.parametrize(
    ("make_level", "remedy"),
    [("", "pass another port, such as `--port {}`"), ("1", "run `make demo PORT={} ADDRESS=127.0.0.1`")],
)
async def test_a_busy_port_is_69(tmp_path: Path, make_level: str, remedy: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        arguments = ("--address", "127.0.0.1", "--port", str(port), "--state-dir", tmp_path)
        code, _, errors = run("demo", *arguments, MAKELEVEL=make_level)
    assert code == 69
    other = port + 1 if port < HIGHEST_PORT else port - 1
    assert errors.splitlines()[-1] == (
        f"hkswitch: cannot serve HomeKit on 127.0.0.1, port {port}: process {os.getpid()} (python) uses it; "
        f"stop that program, or {remedy.format(other)}"
    )


@pytest.mark.parametrize(
    ("variables", "options"),
    [
        (["PORT=51827"], ["--port", "51827"]),
        (["PORT=51827", "ADDRESS=192.0.2.7"], ["--port", "51827", "--address", "192.0.2.7"]),
        ([], []),
    ],
)
def test_make_passes_the_port_of_its_command_line_and_not_of_the_environment(
    variables: list[str], options: list[str]
) -> None:
    asked = ["make", "--no-print-directory", "--dry-run", "--old-file=.venv/.runtime", "demo", *variables]
    environment = os.environ | {"PORT": "3000", "ADDRESS": "192.0.2.9", "MAKEFLAGS": ""}
    made = subprocess.run(
        asked, cwd=EXAMPLE.parent, env=environment, capture_output=True, text=True, check=True
    )
    assert made.stdout.splitlines()[-1].split() == [".venv/bin/hkswitch", "demo", *options]


def test_a_place_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    command: list[str | Path] = [HKSWITCH, "demo", "--address", "192.0.2.77", "--state-dir", tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        waiting = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=5) == 0
    assert waiting == "Waiting for 192.0.2.77: no interface that is up has the address 192.0.2.77.\n"


def test_a_state_folder_that_cannot_be_written_is_73(tmp_path: Path) -> None:
    code, _, errors = run("demo", "--address", "127.0.0.1", "--state-dir", "/proc/state")
    assert code in {73, 77}
    assert errors.splitlines()[-1].startswith("hkswitch: cannot ")
    assert "No such file or directory" in errors


@pytest.mark.parametrize(
    ("command", "below"), [("pair", ""), ("pair", "state"), ("status", ""), ("run", ""), ("demo", "state")]
)
def test_a_state_folder_that_is_a_file_is_misuse(tmp_path: Path, command: str, below: str) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / below
    code, output, errors = run(command, "--state-dir", folder)
    assert (code, output) == (64, "")
    assert errors.splitlines()[-1] == f"Error: Invalid value for '--state-dir': {folder} is not a folder"


@pytest.mark.parametrize(
    "contents",
    [b"", b"\xff", b'{"version": 1, "setup": {}, "accessory": {}}'],
)
def test_a_damaged_state_file_is_65_and_left_alone(tmp_path: Path, contents: bytes) -> None:
    state_file = tmp_path / FILE_NAME
    state_file.write_bytes(contents)
    for arguments in (["pair"], ["demo", "--address", "127.0.0.1"]):
        code, _, errors = run(*arguments, "--state-dir", tmp_path)
        assert code == 65
        assert errors.startswith(f"hkswitch: {state_file} is damaged (")
        assert "; restore a backup with `hkswitch restore`, or give" in errors
        assert errors.count("\n") == 1
    assert state_file.read_bytes() == contents


PAIRING = [["pair"], ["pair", "--list"], ["pair", "--reset-attempts"], ["unpair", "--all"], ["unpair"]]


@pytest.mark.parametrize("arguments", [*PAIRING, ["demo", "--address", "127.0.0.1"]], ids=" ".join)
def test_a_state_file_of_a_newer_version_is_65_and_left_alone(tmp_path: Path, arguments: list[str]) -> None:
    state_file = tmp_path / FILE_NAME
    state_file.write_text('{"version": 4}')
    why = "a newer version of hkswitch wrote it (format 4, this one reads 3)"
    remedy = "install that version again, or restore a backup from before the upgrade with `hkswitch restore`"
    assert run(*arguments, "--state-dir", tmp_path) == (
        65,
        "",
        f"hkswitch: cannot use {state_file}: {why}; {remedy}\n",
    )
    assert state_file.read_text() == '{"version": 4}'
    assert not (tmp_path / BACKUP_NAME).exists()


@pytest.mark.parametrize("arguments", PAIRING, ids=" ".join)
def test_pair_without_a_bridge_says_what_to_do(tmp_path: Path, arguments: list[str]) -> None:
    advice = "start the daemon for this folder first"
    assert run(*arguments, "--state-dir", tmp_path / "none") == (
        69,
        "",
        f"hkswitch: there is no bridge in {tmp_path}/none yet; {advice}\n",
    )
    assert list(tmp_path.iterdir()) == []


HOMEBRIDGE = """\
{"platforms": [{"platform": "cmdSwitch2", "switches": [
  // comments are allowed
  {"name": "File Server", "on_cmd": "sudo systemctl start smb nmb", "off_cmd": "sudo systemctl stop smb nmb"},
  {"name": "Stack", "on_cmd": "sudo /opt/stackctl start", "off_cmd": "sudo /opt/stackctl stop"},
  {"name": "Wake", "on_cmd": "echo a | cat", "off_cmd": "echo b | cat", "state_cmd": "true && true"},
  {"name": "Door", "state_cmd": "true"},
]}]}
"""
STACKCTL = "#!/bin/sh\ncase $1 in start|stop) systemctl $1 grafana;; esac\n"


def test_a_homebridge_config_becomes_one_of_ours(tmp_path: Path) -> None:
    old, new = tmp_path / "config.json", tmp_path / "config.yaml"
    old.write_text(HOMEBRIDGE)
    code, output, errors = run("import-homebridge", old, "-o", new)
    assert (code, errors) == (0, "")
    assert output.splitlines()[0] == "Imported 3 of 4 switches."
    assert output.splitlines()[1] == "Groups of units: 1; groups of commands: 2."
    assert "Door" in output.splitlines()[2]
    assert run("check", "--config", new)[0] == 0
    code, output, errors = run("import-homebridge", old)
    assert output == new.read_text()
    assert errors.splitlines()[0] == "Imported 3 of 4 switches."
    code, _, errors = run("import-homebridge", old, "-o", new)
    assert (code, errors) == (
        73,
        f"hkswitch: cannot write {new}: it already exists; remove it, or name another file\n",
    )


def test_a_config_that_cannot_be_written_is_not_in_the_way_of_the_next_attempt(tmp_path: Path) -> None:
    old, new = tmp_path / "config.json", tmp_path / "config.yaml"
    old.write_text(HOMEBRIDGE)
    shell = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh"]
    command = [*shell, str(HKSWITCH), "import-homebridge", str(old), "-o", str(new)]
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert failed.returncode == 73
    assert failed.stderr == f"hkswitch: cannot write {new}: File too large\n"
    assert list(tmp_path.iterdir()) == [old]
    assert run("import-homebridge", old, "-o", new)[0] == 0


def test_a_script_is_read_from_a_copy(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(HOMEBRIDGE)
    (tmp_path / "copy").write_text(STACKCTL)
    assert "units: [grafana]" not in run("import-homebridge", tmp_path / "config.json")[1]
    wrapper = f"/opt/stackctl={tmp_path}/copy"
    code, output, _ = run("import-homebridge", tmp_path / "config.json", "--wrapper", wrapper)
    assert code == 0
    assert "units: [grafana]" in output
    code, output, errors = run(
        "import-homebridge", tmp_path / "config.json", "--wrapper", "/opt/stackctl=/none"
    )
    assert (code, output) == (78, "")
    assert errors == "hkswitch: cannot read /none: No such file or directory\n"


def test_commands_run_as_the_owner_of_the_folder_of_homebridge(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(HOMEBRIDGE)
    assert "    user: homebridge\n" in run("import-homebridge", file)[1]
    (tmp_path / "persist").mkdir()
    owner = (tmp_path / "persist").owner()
    user = "homebridge" if owner == "root" else owner  # root may have made a copy
    assert f"    user: {user}\n" in run("import-homebridge", file)[1]
    (tmp_path / "persist").rename(tmp_path / "elsewhere")
    (tmp_path / "persist").symlink_to("/etc")  # any user can make one to a folder of root's
    assert "    user: homebridge\n" in run("import-homebridge", file)[1]
    assert "    user: pi\n" in run("import-homebridge", file, "--user", "pi")[1]
    assert "    user: " not in run("import-homebridge", file, "--user", "root")[1]
    code, output, errors = run("import-homebridge", file, "--user", "a:b")
    assert (code, output) == (64, "")
    assert errors == "hkswitch: cannot run commands as 'a:b': invalid user name; use `--user NAME`\n"


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (None, "cannot read {file}: No such file or directory"),
        ("{", "{file}:1:2: not valid JSON"),
        ('{"platforms": []}', "{file}: no switch could be imported\n{file}: it has no platforms"),
        (
            '{"accessory": "cmdSwitch", "name": "A"}',
            "{file}: no switch could be imported\n{file}: 'A': it switches",
        ),
    ],
)
def test_what_is_no_homebridge_config_is_78(tmp_path: Path, contents: str | None, said: str) -> None:
    file = tmp_path / "config.json"
    if contents is not None:
        file.write_text(contents)
    code, output, errors = run("import-homebridge", file)
    assert (code, output) == (78, "")
    assert errors.removeprefix("hkswitch: ").startswith(said.format(file=file))
    assert run("import-homebridge", file, "--wrapper", tmp_path / "none")[0] == 78


@dataclass
class Demo:
    """A demo that serves."""

    process: subprocess.Popen[str]
    port: int
    state_folder: Path


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    with demo_in(tmp_path / "state", free_port()) as demo:
        yield demo


@pytest.fixture(scope="module")
def running_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One for all tests that only look at it."""
    with demo_in(tmp_path_factory.mktemp("demo") / "state", free_port()) as demo:
        yield demo


@contextmanager
def demo_in(state_folder: Path, port: int) -> Iterator[Demo]:
    command: list[str | Path] = [
        HKSWITCH,
        "demo",
        "--address",
        "127.0.0.1",
        "--port",
        str(port),
        "--state-dir",
        state_folder,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "Serving simulated switches" in process.stdout.readline()
        yield Demo(process, port, state_folder)
        process.kill()


@pytest_asyncio.fixture(loop_scope="module")
async def paired_demo(demo: Demo) -> AsyncIterator[tuple[Demo, Controller]]:
    shown = json.loads(run("pair", "--json", "--state-dir", demo.state_folder)[1])
    controller = await Controller.pair("127.0.0.1", demo.port, shown["setup_code"])
    yield demo, controller
    await controller.close()


async def test_the_demo_serves_the_groups_of_the_example(paired_demo: tuple[Demo, Controller]) -> None:
    _, controller = paired_demo
    assert controller.switches.keys() >= {"VM Guests", "File Server", "Web Server", "Mail Server", "Photos"}
    assert await controller.write("File Server", on=True) == 0
    assert await controller.read("File Server") is True


async def test_the_demo_shows_the_code_and_a_line_for_each_change(
    paired_demo: tuple[Demo, Controller],
) -> None:
    demo, controller = paired_demo
    await controller.write("Web Server", on=True)
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(timeout=5) == 0
    assert demo.process.stdout is not None
    assert demo.process.stderr is not None
    output, errors = demo.process.stdout.read(), demo.process.stderr.read()
    code = json.loads(run("pair", "--json", "--state-dir", demo.state_folder)[1])["setup_code"]
    assert f"Setup code: {code}" in output
    assert "web: starting\n" in errors
    assert "web: on\n" in errors
    assert demo.process.returncode == 0


async def test_pair_as_json_has_the_keys_that_other_programs_read(
    paired_demo: tuple[Demo, Controller],
) -> None:
    demo, _ = paired_demo
    code, output, _ = run("pair", "--json", "--state-dir", demo.state_folder)
    shown = json.loads(output)
    assert code == 0
    assert shown.keys() == {
        "paired",
        "device_id",
        "setup_code",
        "setup_payload",
        "failed_attempts",
        "pairing_refused",
        "note",
    }
    assert (shown["paired"], shown["note"]) == (True, "")


async def test_the_demo_is_asked_who_is_paired_and_removes_it(paired_demo: tuple[Demo, Controller]) -> None:
    demo, _ = paired_demo
    [shown] = json.loads(run("pair", "--list", "--json", "--state-dir", demo.state_folder)[1])
    assert (shown["admin"], shown["connections"]) == (True, 1)
    code, output, _ = run("unpair", shown["id"].lower()[:8], "--state-dir", demo.state_folder)
    assert (code, output.split(". ")[0]) == (0, f"Removed {shown['id']}")
    assert "Setup code: " in run("pair", "--state-dir", demo.state_folder)[1]


async def test_a_second_bridge_on_the_same_state_folder_is_69(demo: Demo) -> None:
    arguments = ["demo", "--address", "127.0.0.1", "--port", str(free_port())]
    code, _, errors = await asyncio.to_thread(run, *arguments, "--state-dir", demo.state_folder)
    assert code == 69
    assert errors.splitlines()[-1] == (
        f"hkswitch: {demo.state_folder} is in use by another hkswitch (process {demo.process.pid}); "
        "stop it first"
    )
    assert (await asyncio.to_thread(run, "pair", "--state-dir", demo.state_folder))[0] == 0


async def test_only_its_owner_may_read_the_state(demo: Demo) -> None:
    assert demo.state_folder.stat().st_mode & 0o777 == 0o700
    assert (demo.state_folder / FILE_NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("state", "code"), [(("active", "running"), 0), (("inactive", "dead"), 3)])
async def test_without_a_daemon_status_asks_systemd_and_says_so(
    fake: FakeSystemd, config_file: Path, state: tuple[str, str], code: int
) -> None:
    fake.reset(Unit("httpd.service", active=state[0], sub=state[1]))
    options = ("--config", config_file)
    done, output, _ = await asyncio.to_thread(run, "status", "--json", *options)
    shown = json.loads(output)
    assert (done, shown["bridge"]) == (0, None)
    assert [(group["id"], group["state"]) for group in shown["groups"]] == [
        ("web", "on" if code == 0 else "off")
    ]
    done, output, _ = await asyncio.to_thread(run, "status", "web", *options)
    assert done == code
    assert output.splitlines()[0] == (
        "The daemon is not running; run `sudo systemctl start hkswitch`. These states come from systemd."
    )
    assert f"httpd.service {state[0]} ({state[1]})" in output
    _, twice, _ = await asyncio.to_thread(run, "status", "web", "web", *options)
    assert twice == output
    done, _, errors = await asyncio.to_thread(run, "status", "none", *options)
    assert (done, errors) == (64, "hkswitch: there is no group 'none'; the groups are web\n")


def test_what_the_daemon_does_is_seen_and_done_from_the_command_line(demo: Demo) -> None:
    at_demo = ("--state-dir", demo.state_folder)
    assert run("status", "fileserver", *at_demo)[0] == 3
    assert run("start", "fileserver", "web", *at_demo) == (0, "", "")
    code, output, _ = run("status", "fileserver", *at_demo)
    assert code == 0
    assert "on 127.0.0.1, port" in output.splitlines()[0]
    assert re.search(rf"by {THIS_USER}, took \d+\.\d s", output)
    assert run("restart", "fileserver", *at_demo)[0] == 69  # it is not among the group's actions
    assert run("stop", "fileserver", "--no-wait", *at_demo) == (0, "", "")


def in_terminal(command: str, **environment: str) -> str:
    """What a terminal of 60 columns is sent."""
    terminal = ["script", "--quiet", "--return", "--command", f"stty cols 60; {command}", "/dev/null"]
    ended = subprocess.run(
        terminal,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
        env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", **environment},
    )
    return ended.stdout


@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_are_for_terminals_that_want_them(
    demo: Demo, environment: dict[str, str], coloured: bool
) -> None:
    command = f"{HKSWITCH} status --state-dir {demo.state_folder}"
    run("start", "web", "--state-dir", demo.state_folder)
    assert ("\x1b[32m" in in_terminal(command, **environment)) is coloured
    assert "\x1b" not in run("status", "--state-dir", demo.state_folder)[1]


def test_no_line_is_wider_than_the_terminal(running_demo: Demo) -> None:
    shown = in_terminal(f"{HKSWITCH} status --state-dir {running_demo.state_folder}")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert any(line.startswith("fileserver ") for line in lines)
    assert [line for line in lines if len(line) > 60] == []


def test_status_without_a_reader_says_nothing_and_ends(running_demo: Demo) -> None:
    command: list[str | Path] = [HKSWITCH, "status", "--state-dir", running_demo.state_folder]
    reader, writer = os.pipe()
    os.close(reader)  # before it can print anything
    try:
        unread = subprocess.run(
            command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=20, check=False
        )
    finally:
        os.close(writer)
    assert (unread.returncode, unread.stderr) == (74, "")


@pytest.mark.parametrize("language", ["C", "C.UTF-8", "POSIX"])
def test_status_is_the_same_in_every_language(running_demo: Demo, language: str) -> None:
    code, output, errors = run(
        "status", "--state-dir", running_demo.state_folder, LC_ALL=language, LANG=language
    )
    assert (code, errors) == (0, "")
    assert "netatalk.service inactive (dead)" in output
    assert output.isascii()


@pytest.mark.parametrize("word", ["start", "stop", "restart"])
def test_an_action_on_no_group_is_64(running_demo: Demo, word: str) -> None:
    code, output, errors = run(word, "none", "--state-dir", running_demo.state_folder)
    assert (code, output) == (64, "")
    groups = ", ".join(group.id for group in (*GROUPS, *TROUBLED_GROUPS))
    assert errors == f"hkswitch: there is no group 'none'; the groups are {groups}\n"
    assert run(word, "--state-dir", running_demo.state_folder)[0] == 64


def test_an_action_that_is_not_in_the_groups_actions_says_so_and_status_too(running_demo: Demo) -> None:
    at_demo = ("--state-dir", running_demo.state_folder)
    code, _, errors = run("restart", "web", *at_demo)
    assert (code, errors) == (69, "hkswitch: restart web failed: restart is not in this group's actions\n")
    said = json.loads(run("status", "--json", *at_demo)[1])
    (last,) = [group["last_action"] for group in said["groups"] if group["id"] == "web"]
    assert (last["outcome"], last["failure"]) == ("failed", "restart is not in this group's actions")


def test_watch_prints_a_line_for_each_change(demo: Demo) -> None:
    command: list[str | Path] = [HKSWITCH, "status", "--watch", "--json", "--state-dir", demo.state_folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        states = [state_of_web(watching.stdout.readline())]
        assert run("start", "web", "--state-dir", demo.state_folder)[0] == 0
        while states[-1] != "on":
            states.append(state_of_web(watching.stdout.readline()))
        watching.send_signal(signal.SIGINT)
        assert watching.wait(timeout=5) == 130
        assert watching.stderr.read().strip() == ""
    assert states[0] == "off"


def test_watch_goes_on_when_the_daemon_restarts(demo: Demo) -> None:
    at_demo = ("--state-dir", demo.state_folder)
    watch: list[str | Path] = [HKSWITCH, "status", "--watch", "web", *at_demo]
    with (
        subprocess.Popen([*watch, "--json"], stdout=subprocess.PIPE, text=True) as for_programs,
        subprocess.Popen(watch, stdout=subprocess.PIPE, text=True) as for_people,
        killed_in_time(for_programs, for_people),
    ):
        assert for_programs.stdout is not None
        assert for_people.stdout is not None
        assert state_of_web(for_programs.stdout.readline()) == "off"
        assert "on 127.0.0.1, port" in for_people.stdout.readline()
        demo.process.kill()
        demo.process.wait()
        away = for_programs.stdout.readline()
        assert (json.loads(away)["bridge"], state_of_web(away)) == (None, "unknown")
        line_of(for_people.stdout, "The daemon is not running; reconnecting.")
        line_of(for_people.stdout, "web ")
        with demo_in(demo.state_folder, free_port()):
            assert json.loads(for_programs.stdout.readline())["bridge"] is not None
            line_of(for_people.stdout, "hkswitch demo: running")
        for watching in (for_programs, for_people):
            watching.send_signal(signal.SIGINT)
            assert watching.wait(timeout=5) == 130


@contextmanager
def killed_in_time(*processes: subprocess.Popen[str]) -> Iterator[None]:
    """A process that prints nothing more is killed, and its output ends."""
    deadlines = [threading.Timer(PATIENCE_SECONDS, process.kill) for process in processes]
    for deadline in deadlines:
        deadline.start()
    try:
        yield
    finally:
        for deadline in deadlines:
            deadline.cancel()


def line_of(output: IO[str], beginning: str) -> None:
    """Read until a line begins so; fails at the end of the output."""
    for line in output:
        if line.startswith(beginning):
            return
    pytest.fail(f"no line begins with {beginning!r}")


def state_of_web(line: str) -> str:
    return next(str(group["state"]) for group in json.loads(line)["groups"] if group["id"] == "web")


@dataclass
class Daemon:
    """A daemon that serves, and what it tells systemd."""

    process: asyncio.subprocess.Process
    notified: socket.socket

    async def told(self) -> list[str]:
        message = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.notified, 4096), 10)
        return message.decode().splitlines()

    async def end(self, number: signal.Signals) -> tuple[int, str]:
        """Its exit code and all that it logged."""
        self.process.send_signal(number)
        code = await asyncio.wait_for(self.process.wait(), 5)
        assert self.process.stderr is not None
        return code, (await self.process.stderr.read()).decode()


def sudo_in(folder: Path, script: str) -> dict[str, str]:
    """An environment in which sudo is this script; there is no systemd but the one of the tests."""
    folder.mkdir()
    sudo = folder / "sudo"
    sudo.write_text(f"#!/bin/sh\n{script}\n")
    sudo.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


@asynccontextmanager
async def daemon_with(config_file: Path, environment: Mapping[str, str]) -> AsyncIterator[Daemon]:
    folder = config_file.parent
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(folder / "notify"))
        notified.setblocking(False)
        process = await asyncio.create_subprocess_exec(
            *(HKSWITCH, "run", "--config", config_file, "--state-dir", folder / "state"),
            stderr=asyncio.subprocess.PIPE,
            env={**environment, "NOTIFY_SOCKET": str(folder / "notify")},
        )
        try:
            yield Daemon(process, notified)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest_asyncio.fixture(loop_scope="module")
async def daemon(fake: FakeSystemd, config_file: Path, tmp_path: Path) -> AsyncIterator[Daemon]:
    """One that serves, with the helper's code behind its sudo."""
    fake.reset(Unit("httpd.service"), Unit("smb.service"))
    helper = shlex.join(HelperProgram(config_file).command("serve"))
    async with daemon_with(config_file, sudo_in(tmp_path / "sudo", f"exec {helper}")) as daemon:
        ready, status = await daemon.told()
        assert ready == "READY=1"
        assert status.startswith("STATUS=Serving 1 group on 127.0.0.1, port ")
        assert ", not paired: run `" in status
        yield daemon


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_daemon_serves_until_it_is_told_to_stop(
    daemon: Daemon, tmp_path: Path, number: signal.Signals
) -> None:
    shown = await asyncio.to_thread(run, "pair", "--list", "--state-dir", tmp_path / "state")
    assert shown == (0, "No controller is paired.\n", "")
    code, lines = await daemon.end(number)
    assert code == 0
    assert not (tmp_path / "state" / SOCKET_NAME).exists()
    assert await daemon.told() == ["STOPPING=1"]
    assert "web: off\n" in lines
    assert "Traceback" not in lines


async def test_the_daemon_has_the_helper_start_what_is_asked_for(daemon: Daemon, tmp_path: Path) -> None:
    at_daemon = ("--state-dir", tmp_path / "state")
    assert await asyncio.to_thread(run, "start", "web", *at_daemon) == (0, "", "")
    code, output, _ = await asyncio.to_thread(run, "status", "web", *at_daemon)
    assert code == 0
    assert re.search(rf"start \d+ s ago by {THIS_USER}\b", " ".join(output.split()))
    _, lines = await daemon.end(signal.SIGTERM)
    assert "web: on\n" in lines


async def test_the_daemon_reloads_its_config(daemon: Daemon, config_file: Path) -> None:
    config_file.write_text(config_file.read_text() + "  files: {units: [smb]}\n")
    daemon.process.send_signal(signal.SIGHUP)
    assert (await daemon.told())[0] == "RELOADING=1"
    while not (status := (await daemon.told())[1]).startswith("STATUS=Serving 2 groups"):
        pass
    assert "; " not in status
    _, lines = await daemon.end(signal.SIGTERM)
    assert "files: off\n" in lines
    assert "reloaded\n" in lines
    assert lines.count("web: off\n") == 1


@pytest.mark.parametrize("contents", ["groups: {web: {unit: httpd}}", None])
async def test_a_reload_of_a_bad_config_changes_nothing_and_says_why(
    daemon: Daemon, config_file: Path, contents: str | None
) -> None:
    good = config_file.read_text()
    at_daemon = ("--state-dir", config_file.parent / "state")
    if contents is None:
        config_file.unlink()
    else:
        config_file.write_text(contents)
    code, output, errors = await asyncio.to_thread(run, "reload", *at_daemon)
    assert (code, output) == (78, "")
    problem = f"{'cannot read ' if contents is None else ''}{config_file}:"
    assert errors.startswith(f"hkswitch: not reloaded: {problem}")
    shown = (await asyncio.to_thread(run, "status", *at_daemon))[1]
    assert re.search(r"^configuration: not applied \((cannot read )?\S*/config\.yaml", shown, re.MULTILINE)
    assert "web" in shown
    config_file.write_text(good)
    assert await asyncio.to_thread(run, "reload", *at_daemon) == (0, "reloaded\n", "")
    assert "not applied" not in (await asyncio.to_thread(run, "status", *at_daemon))[1]
    _, lines = await daemon.end(signal.SIGTERM)
    assert f"not reloaded: {problem}" in lines


async def test_without_a_helper_the_daemon_serves_and_says_what_is_missing(
    config_file: Path, tmp_path: Path
) -> None:
    refused = sudo_in(tmp_path / "sudo", "echo sudo: a password is required >&2; exit 1")
    async with daemon_with(config_file, refused) as daemon:
        cause = "sudo has no rule that lets hkswitch start the helper without a password; "
        assert f"; the helper is not running ({cause}" in (await daemon.told())[1]
        at_daemon = ("--state-dir", tmp_path / "state")
        code, output, _ = await asyncio.to_thread(run, "status", "web", *at_daemon)
        assert code == 69
        assert f"\nhelper: unavailable ({cause}" in " ".join(output.split(" ")).replace("\n ", " ")
        assert "\nweb: the helper is not running, see above\n" in output
        code, _, errors = await asyncio.to_thread(run, "start", "web", *at_daemon)
        assert code == 69
        assert errors.startswith("hkswitch: start web failed: the helper is not running (sudo: a password")
        code, lines = await daemon.end(signal.SIGTERM)
        assert (code, "Traceback" in lines) == (0, False)


async def test_the_helper_inherits_no_ignored_signal(config_file: Path, tmp_path: Path) -> None:
    """The daemon drops some until it can handle them, and starts the helper before that."""
    ignored = tmp_path / "ignored"
    script = (
        f"sed -n s/^SigIgn:.//p /proc/self/status >{ignored}.new; mv {ignored}.new {ignored}; exec sleep 60"
    )
    async with daemon_with(config_file, sudo_in(tmp_path / "sudo", script)):
        await eventually(ignored.exists)
    bits = int(ignored.read_text(), 16)
    assert not [each for each in (signal.SIGHUP, signal.SIGUSR1) if bits >> (each - 1) & 1]


async def test_a_stop_while_it_starts_is_obeyed_at_once(config_file: Path, tmp_path: Path) -> None:
    began = tmp_path / "began"
    async with daemon_with(
        config_file, sudo_in(tmp_path / "sudo", f"touch {began}; exec sleep 60")
    ) as daemon:
        socket = tmp_path / "state" / SOCKET_NAME
        await eventually(lambda: began.exists() and socket.exists())  # it waits for the helper now
        daemon.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(daemon.process.wait(), 2.5) == 0
        assert daemon.process.stderr is not None
        assert "serving" not in (await daemon.process.stderr.read()).decode()
