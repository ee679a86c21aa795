"""The helper's command line, as a process without root on a private bus."""

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import pytest

from hkswitch.serviceswitch.policy import CUT_SHORT
from tests.serviceswitch.journal import Journal, journal
from tests.support.fake_systemd import FakeSystemd, Unit
from tests.support.fixtures import bus_address, fake, systemd_on_bus
from tests.support.helper import HelperProgram
from tests.support.script import script
from tests.support.waiting import eventually

__all__ = ["bus_address", "fake", "journal", "systemd_on_bus"]

CONFIG = """\
hosts: {nas: {ssh: nas.lan}}
groups:
  web: {units: [httpd, cache]}
  half: {units: [httpd], actions: [start]}
  far: {host: nas, group: media}
"""
FAR = "far is group 'media' of the host nas"


@pytest.fixture
def program(tmp_path: Path) -> HelperProgram:
    config_file = tmp_path / "config.yaml"
    config_file.write_text(CONFIG)
    return HelperProgram(config_file)


async def run(program: HelperProgram, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and error output; the fake systemd works meanwhile."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *program.command(*arguments), stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
    )
    output, errors = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


def systemd_with(
    fake: FakeSystemd, *, httpd: str = "active", cache: str = "active", job: str = "done"
) -> None:
    fake.reset(
        Unit("httpd.service", active=httpd, sub="running" if httpd == "active" else "dead", job_result=job),
        Unit("cache.service", active=cache, sub="running" if cache == "active" else "dead"),
    )


async def test_status_of_a_group_that_is_on_is_0(fake: FakeSystemd, program: HelperProgram) -> None:
    systemd_with(fake)
    assert await run(program, "status", "web") == (
        0,
        "on\n  httpd.service active (running)\n  cache.service active (running)\n",
        "",
    )


async def test_status_of_a_group_that_is_not_on_is_3(fake: FakeSystemd, program: HelperProgram) -> None:
    systemd_with(fake, cache="inactive")
    assert await run(program, "status", "web") == (
        3,
        "partial\n  httpd.service active (running)\n  cache.service inactive (dead)\n",
        "",
    )


@pytest.mark.parametrize("action", ["start", "stop"])
async def test_an_action_that_is_done_is_0(fake: FakeSystemd, program: HelperProgram, action: str) -> None:
    systemd_with(fake)
    assert await run(program, action, "web") == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["start", "web"], 69, "serviceswitch: start web failed: httpd.service exited with status 1\n"),
        (["start", "none"], 77, "serviceswitch: there is no group 'none' in the configuration\n"),
        (["status", "none"], 77, "serviceswitch: there is no group 'none' in the configuration\n"),
        (["start", "far"], 77, f"serviceswitch: {FAR}; use `hkswitch start far`\n"),
        (["status", "far"], 77, f"serviceswitch: {FAR}; use `hkswitch status far`\n"),
        (["stop", "half"], 77, "serviceswitch: stop is not in this group's actions\n"),
        (["restart", "web"], 77, "serviceswitch: restart is not in this group's actions\n"),
        (
            ["serve"],
            64,
            "serviceswitch: cannot serve: standard input is neither a pipe nor a socket\n",
        ),
    ],
)
async def test_a_refusal_or_failure_is_one_sentence_and_a_code(
    fake: FakeSystemd, program: HelperProgram, arguments: list[str], code: int, message: str
) -> None:
    systemd_with(fake, job="failed")
    assert await run(program, *arguments) == (code, "", message)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["start"],
        ["serve", "extra"],
        ["start", "web", "--config=/tmp/mine"],
        ["--config", "/tmp/mine"],
        ["reload", "web"],
        ["START", "web"],
        ["serve\n"],
    ],
)
def test_wrong_arguments_are_64_and_show_the_usage(program: HelperProgram, arguments: list[str]) -> None:
    ended = subprocess.run(program.command(*arguments), capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (64, "")
    assert ended.stderr.startswith(
        "serviceswitch: invalid arguments\nusage: serviceswitch start|stop|restart|status GROUP"
    )


def test_a_bad_config_is_78_with_its_place(program: HelperProgram) -> None:
    program.config_file.write_text("groups: {web: {unit: httpd}}")
    ended = subprocess.run(program.command("start", "web"), capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (78, "")
    assert "config.yaml:1:16: groups.web" in ended.stderr


def test_no_bus_is_69(program: HelperProgram) -> None:
    environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"}
    ended = subprocess.run(
        program.command("start", "web"), capture_output=True, text=True, check=False, env=environment
    )
    assert ended.returncode == 69
    assert ended.stderr == (
        "serviceswitch: no connection to systemd over the system bus: No such file or directory\n"
    )


def test_nobody_but_root_may_do_anything(program: HelperProgram) -> None:
    code = (
        "import sys; from hkswitch.serviceswitch.main import Facts, Requester, run;"
        "facts = Facts(1000, Requester(is_pipe=True), None);"
        "sys.exit(run(sys.argv[1:], facts, read=lambda _: b'must not be read', audit=None))"
    )
    for arguments in (["start", "web"], ["status", "web"], ["serve"]):
        ended = subprocess.run(script(code, *arguments), capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stdout) == (77, "")
        assert ended.stderr == "serviceswitch: permission denied: only root may do this; use sudo\n"


# The audit


@pytest.fixture
def program_journal(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> Journal:
    """The journal that the program writes to."""
    monkeypatch.setenv("JOURNAL", journal.path)
    return journal


def audited(journal: Journal) -> list[tuple[str, str, str]]:
    """Priority, decision or outcome, and reason of each line."""
    return [
        (
            line["PRIORITY"],
            line.get("HKSWITCH_DECISION") or line["HKSWITCH_OUTCOME"],
            line.get("HKSWITCH_REASON", ""),
        )
        for line in journal.read_all()
    ]


ALLOWED = ("6", "allowed", "")


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["start", "half"], [ALLOWED, ("6", "done", "")]),
        (["start", "web"], [ALLOWED, ("3", "failed", "cache.service exited with status 1")]),
        (["start", "none"], [("4", "denied", "there is no group 'none' in the configuration")]),
        (["start", "far"], [("4", "denied", f"{FAR}; use `hkswitch start far`")]),
        (["stop", "half"], [("4", "denied", "stop is not in this group's actions")]),
        (["start", "a\nb"], [("4", "denied", r"there is no group 'a\nb' in the configuration")]),
        (["start", "\udcff"], [("4", "denied", r"there is no group '\udcff' in the configuration")]),
    ],
)
async def test_an_action_is_a_decision_and_a_result_in_the_journal(
    fake: FakeSystemd,
    program: HelperProgram,
    program_journal: Journal,
    arguments: list[str],
    lines: list[tuple[str, str, str]],
) -> None:
    systemd_with(fake)
    fake.units["cache.service"].job_result = "failed"
    await run(program, *arguments)
    assert audited(program_journal) == lines


@pytest.mark.parametrize(
    "arguments", [["status", "web"], ["status", "none"], ["START", "web"], ["--help"], ["serve"]]
)
async def test_what_decides_nothing_is_not_audited(
    fake: FakeSystemd,
    program: HelperProgram,
    program_journal: Journal,
    arguments: list[str],
) -> None:
    systemd_with(fake)
    await run(program, *arguments)
    assert audited(program_journal) == []


def test_a_bad_config_and_a_missing_bus_are_audited(
    program: HelperProgram, program_journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent")
    subprocess.run(program.command("start", "web"), capture_output=True, check=False)
    program.config_file.write_text("groups: [\n")
    subprocess.run(program.command("start", "web"), capture_output=True, check=False)
    allowed, no_bus, bad_config = audited(program_journal)
    assert allowed == ALLOWED
    assert no_bus == (
        "3",
        "failed",
        "no connection to systemd over the system bus: No such file or directory",
    )
    assert bad_config[:2] == ("4", "denied")
    assert ":2:1: not valid YAML" in bad_config[2]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
async def test_an_action_that_a_signal_ends_is_audited(
    fake: FakeSystemd,
    program: HelperProgram,
    program_journal: Journal,
    number: int,
    code: int,
) -> None:
    systemd_with(fake)
    fake.units["httpd.service"].held = True
    process = await asyncio.create_subprocess_exec(*program.command("start", "web"))
    await eventually(lambda: fake.units["httpd.service"].job)
    process.send_signal(number)
    assert await asyncio.wait_for(process.wait(), 5) == code
    assert audited(program_journal) == [ALLOWED, ("3", "failed", CUT_SHORT)]


@pytest.mark.parametrize("journal_is", ["gone", "stopped"])
async def test_an_action_that_the_journal_does_not_take_is_not_done(
    fake: FakeSystemd, program: HelperProgram, program_journal: Journal, journal_is: str
) -> None:
    systemd_with(fake)
    fake.calls.clear()
    if journal_is == "gone":
        Path(program_journal.path).unlink()
    else:
        program_journal.stop()
    code, output, errors = await run(program, "start", "half")
    assert (code, output) == (69, "")
    assert "serviceswitch: cannot record the decision in the journal: " in errors
    assert [call for call in fake.calls if call[0] == "StartUnit"] == []


# What its caller does to its output


@pytest.mark.parametrize("argument", ["--help", "--version"])
@pytest.mark.parametrize("full", ["/dev/full", "closed"])
def test_an_output_that_takes_nothing_is_74(program: HelperProgram, argument: str, full: str) -> None:
    redirect = f">{full}" if full != "closed" else ">&-"
    ended = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirect}', "sh", *program.command(argument)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr.count("\n")) == (74, 1)
    assert ended.stderr.startswith("serviceswitch: cannot write the output: ")


def test_a_standard_error_that_takes_nothing_changes_no_code(program: HelperProgram) -> None:
    for redirect in ("2>/dev/full", "2>&-"):
        ended = subprocess.run(
            ["sh", "-c", f'exec "$@" {redirect}', "sh", *program.command("what")],
            capture_output=True,
            check=False,
        )
        assert ended.returncode == 64
