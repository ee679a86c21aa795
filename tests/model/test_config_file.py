"""What is in the config file's place: it is read, or it is said why not, and nothing is waited for."""

import asyncio
import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hkswitch.model import config_file
from hkswitch.model.errors import ConfigError, ConfigUnreadable, Exit, Failure
from hkswitch.model.yaml_nodes import MOST_CONFIG_BYTES
from tests.support.command import run
from tests.support.waiting import PATIENCE_SECONDS

CONFIG = "groups: {web: {units: [httpd]}}"
IRREGULAR = "it is not a regular file"


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link_to_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def terminal(path: Path) -> None:
    path.symlink_to("/dev/tty")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def nothing(path: Path) -> None:
    path.with_name("other").touch()


IN_ITS_PLACE = [
    (pipe, IRREGULAR),
    (link_to_pipe, IRREGULAR),
    (bound_socket, IRREGULAR),
    (device, IRREGULAR),
    (terminal, IRREGULAR),
    (Path.mkdir, IRREGULAR),
    (link_to_itself, "Too many levels of symbolic links"),
    (nothing, "No such file or directory"),
]
in_its_place = pytest.mark.parametrize(
    ("make", "why"), IN_ITS_PLACE, ids=[make.__name__ for make, _ in IN_ITS_PLACE]
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


# Read at once


def test_a_file_is_read(file: Path) -> None:
    file.write_text(CONFIG)
    assert [group.id for group in config_file.read(file).groups] == ["web"]


def test_a_link_to_a_file_is_read(file: Path) -> None:
    file.with_name("other.yaml").write_text(CONFIG)
    file.symlink_to("other.yaml")
    assert [group.id for group in config_file.read(file).groups] == ["web"]


def test_the_largest_file_is_read(file: Path) -> None:
    file.write_text(CONFIG + "\n" + "#" * (MOST_CONFIG_BYTES - len(CONFIG) - 1))
    assert [group.id for group in config_file.read(file).groups] == ["web"]


@pytest.mark.parametrize("size", [MOST_CONFIG_BYTES + 1, 1 << 40])
def test_of_a_file_that_is_too_large_no_more_is_read_than_shows_it(file: Path, size: int) -> None:
    with file.open("wb") as opened:
        opened.truncate(size)
    assert len(config_file.config_bytes(file)) == MOST_CONFIG_BYTES + 1
    with pytest.raises(ConfigError, match="the file is too large"):
        config_file.read(file)


@in_its_place
def test_what_is_no_file_is_said_and_not_waited_for(
    file: Path, make: Callable[[Path], None], why: str
) -> None:
    make(file)
    with pytest.raises(ConfigUnreadable) as raised:
        config_file.read(file)
    assert str(raised.value) == f"cannot read {file}: {why}"


@in_its_place
def test_what_is_no_file_is_a_mistake(file: Path, make: Callable[[Path], None], why: str) -> None:
    make(file)
    with pytest.raises(ConfigUnreadable, match=why) as raised:
        config_file.read(file)
    assert raised.value.exit_code is Exit.CONFIG


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOTDIR, Exit.CONFIG),
        (errno.ENAMETOOLONG, Exit.CONFIG),
        (errno.EACCES, Exit.DENIED),
        (errno.EPERM, Exit.DENIED),
        (errno.EMFILE, Exit.UNAVAILABLE),
        (errno.ENFILE, Exit.UNAVAILABLE),
        (errno.ENOMEM, Exit.UNAVAILABLE),
        (errno.EIO, Exit.UNAVAILABLE),
        (errno.ESTALE, Exit.UNAVAILABLE),
    ],
)
def test_the_exit_code_says_whether_another_attempt_can_help(
    file: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: Exit
) -> None:
    file.write_text(CONFIG)

    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("hkswitch.model.config_file.os.open", fail)
    with pytest.raises(ConfigUnreadable) as raised:
        config_file.read(file)
    assert (str(raised.value), raised.value.exit_code) == (f"cannot read {file}: {os.strerror(number)}", code)


def test_a_pipe_that_comes_after_the_first_look_is_not_waited_for(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(CONFIG)
    before = file.stat()
    file.unlink()
    pipe(file)
    monkeypatch.setattr(Path, "stat", lambda _: before)
    with pytest.raises(ConfigUnreadable, match=IRREGULAR):
        config_file.read(file)


@pytest.mark.parametrize(
    "command",
    [["check"], ["status"], ["run"], ["demo", "--address", "127.0.0.1"]],
    ids=lambda command: str(command[0]),
)
def test_no_command_waits_for_a_pipe(file: Path, command: list[str]) -> None:
    pipe(file)
    state = () if command[0] in {"check", "status"} else ("--state-dir", file.with_name("state"))
    code, output, errors = run(*command, "--config", file, *state)
    assert (code, output, errors.splitlines()[-1]) == (78, "", f"hkswitch: cannot read {file}: {IRREGULAR}")


def test_the_doctor_does_not_wait_for_a_pipe(file: Path) -> None:
    pipe(file)
    code, output, errors = run("doctor", "--config", file, "--state-dir", file.with_name("state"))
    assert (code, errors) == (69, "")
    assert f"FAIL    configuration   cannot read {file}: {IRREGULAR}; " in output


@pytest.mark.parametrize("option", ["config", "wrapper"])
def test_an_import_does_not_wait_for_a_pipe(tmp_path: Path, option: str) -> None:
    config, wrapper = tmp_path / "config", tmp_path / "wrapper"
    config.write_text("{}")
    wrapper.write_text("")
    (tmp_path / option).unlink()
    pipe(tmp_path / option)
    assert run("import-homebridge", config, "--wrapper", wrapper) == (
        78,
        "",
        f"hkswitch: cannot read {tmp_path / option}: {IRREGULAR}\n",
    )


# Read by a thread


async def test_within_its_time_it_is_the_same(file: Path) -> None:
    file.write_text(CONFIG)
    assert await config_file.read_within(file, PATIENCE_SECONDS) == config_file.read(file)


@in_its_place
async def test_within_its_time_a_failure_is_the_same(
    file: Path, make: Callable[[Path], None], why: str
) -> None:
    make(file)
    with pytest.raises(ConfigUnreadable) as raised:
        await config_file.read_within(file, PATIENCE_SECONDS)
    assert str(raised.value).endswith(f": {why}")


async def test_within_its_time_mistakes_are_the_same(file: Path) -> None:
    file.write_text("groups: {}")
    with pytest.raises(ConfigError, match="must have at least one group"):
        await config_file.read_within(file, PATIENCE_SECONDS)


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "config"]


@pytest.fixture
def hangs(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A file system that does not answer until the event is set, as the kernel lets a call wait for NFS."""
    answers = threading.Event()
    real = os.open

    def slow(path: str | Path, *arguments: int, **named: int) -> int:
        assert path != file or answers.wait(PATIENCE_SECONDS)
        return real(path, *arguments, **named)

    monkeypatch.setattr("hkswitch.model.config_file.os.open", slow)
    yield answers
    answers.set()
    for thread in readers():
        thread.join(PATIENCE_SECONDS)
    assert readers() == []


async def test_a_file_system_that_hangs_does_not_hold_up_the_event_loop(
    file: Path, hangs: threading.Event
) -> None:
    file.write_text(CONFIG)
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.001)

    turning = asyncio.create_task(turn())
    with pytest.raises(ConfigUnreadable) as raised:
        await config_file.read_within(file, 0.2)
    turning.cancel()
    assert str(raised.value) == f"cannot read {file}: reading took longer than 0.2 s"
    assert raised.value.exit_code is Exit.UNAVAILABLE  # at boot, it may answer later
    assert turns > 10


async def test_a_file_system_that_answers_later_changes_nothing(file: Path, hangs: threading.Event) -> None:
    file.write_text(CONFIG)
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    with pytest.raises(config_file.ConfigReadTimedOut):
        await config_file.read_within(file, 0.01)
    [reader] = readers()
    hangs.set()
    await asyncio.to_thread(reader.join, PATIENCE_SECONDS)
    await asyncio.sleep(0)
    assert told == []
    assert [group.id for group in (await config_file.read_within(file, PATIENCE_SECONDS)).groups] == ["web"]


async def test_who_gives_up_waiting_is_told_nothing_more(file: Path, hangs: threading.Event) -> None:
    file.write_text(CONFIG)
    reading = asyncio.create_task(config_file.read_within(file, PATIENCE_SECONDS))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_without_a_thread_it_is_said(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(Failure, match=r"cannot read .*: can't start new thread") as raised:
        await config_file.read_within(file, PATIENCE_SECONDS)
    assert raised.value.exit_code is Exit.UNAVAILABLE


SLOW = "cannot read {}: reading took longer than 0.1 s\n"


def test_a_process_ends_while_its_config_still_hangs(file: Path) -> None:
    file.write_text(CONFIG)
    program = (
        "import asyncio, os, pathlib, sys, time; from hkswitch.model import config_file\n"
        "os.open = lambda *_, **__: time.sleep(1000)\n"
        "try: asyncio.run(config_file.read_within(pathlib.Path(sys.argv[1]), 0.1))\n"
        "except config_file.ConfigUnreadable as failure: print(failure)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, file],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (
        0,
        f"cannot read {file}: reading took longer than 0.1 s\n",
        "",
    )
