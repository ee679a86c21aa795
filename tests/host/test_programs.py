"""The programs that root runs or refuses to run, and how: by root's command, without the daemon."""

import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

import pytest

from tests.host.demo_unit import (
    CONFIG,
    LAMP,
    STATE,
    UNIT,
    audit,
    override,
    program,
    reset_lamp,
    run_count,
    run_helper,
)
from tests.host.machine import Host, eventually

__all__ = ["program", "reset_lamp"]


@pytest.fixture
def configured(host: Host) -> Iterator[Host]:
    before = host.read("/etc/hkswitch/config.yaml")
    host.write("/etc/hkswitch/config.yaml", CONFIG)
    yield host
    host.write("/etc/hkswitch/config.yaml", before)


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        ("exit 0", 0, "on"),
        ("exit 1", 3, "off"),
        ("exit 125", 3, "off"),
        ("exit 126", 69, f"cannot determine the state of lamp: {LAMP} exited with status 126"),
        ("exit 127", 69, f"cannot determine the state of lamp: {LAMP} exited with status 127"),
        ("exit 255", 69, f"cannot determine the state of lamp: {LAMP} exited with status 255"),
        ("kill -9 $$", 69, f"cannot determine the state of lamp: {LAMP} was killed by SIGKILL"),
        ("sleep 1000", 69, f"cannot determine the state of lamp: {LAMP} took longer than 2 s"),
    ],
)
def test_the_exit_code_of_a_status_says_the_state(
    configured: Host, status: str, code: int, said: str
) -> None:
    override(configured, "status", status)
    found, output = run_helper(configured, "status")
    assert (found, output.splitlines()[0].removeprefix("serviceswitch: ")) == (code, said)


def test_a_command_runs_as_root_with_an_empty_environment(configured: Host) -> None:
    configured.run("systemctl", "set-environment", "FOREIGN=1")
    override(
        configured,
        "start",
        f"""
env >{STATE}/env
readlink /proc/$$/fd/0 >{STATE}/stdin
cut -d' ' -f6 /proc/$$/stat >{STATE}/session; echo $$ >>{STATE}/session
cat /proc/self/cgroup >{STATE}/cgroup
grep CapBnd /proc/self/status >{STATE}/rights
pwd >{STATE}/folder
""",
    )
    assert run_helper(configured, "start") == (0, "")
    configured.run("systemctl", "unset-environment", "FOREIGN")
    environment = set(configured.read(f"{STATE}/env").splitlines())
    assert environment == {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG=C.UTF-8",
        "HKSWITCH_GROUP=lamp",
        "PWD=/",  # the shell's own
    }
    assert configured.read(f"{STATE}/stdin") == "/dev/null\n"
    session, process = configured.read(f"{STATE}/session").split()
    assert session == process
    assert configured.read(f"{STATE}/cgroup").strip().endswith(f"/system.slice/{UNIT}")
    assert configured.read(f"{STATE}/rights") == configured.run("grep", "CapBnd", "/proc/1/status").stdout
    assert configured.read(f"{STATE}/folder") == "/\n"


def test_root_needs_no_daemon_but_other_users_do(configured: Host) -> None:
    refused = configured.run("hkswitch", "start", "lamp", user="nobody", check=False)
    assert refused.returncode == 69
    assert refused.stderr == (
        "hkswitch: no daemon is listening on /run/hkswitch/control.sock; "
        "run `sudo systemctl start hkswitch`, or use sudo\n"
    )
    assert configured.run("hkswitch", "start", "lamp").returncode == 0
    assert configured.run("hkswitch", "restart", "lamp", check=False).returncode == 69
    assert configured.run("hkswitch", "stop", "lamp").returncode == 0
    assert (run_count(configured, "start"), run_count(configured, "stop")) == (1, 1)


def test_arguments_are_passed_literally(configured: Host) -> None:
    arguments = ["$PATH", "${PATH}", "%n", "a b", "", "-e", "'\"\\", "é", "; touch /run/lamp/on", "*"]
    written = ", ".join(json.dumps(argument) for argument in arguments)
    configured.write(LAMP, f'#!/bin/sh\nfor a; do echo "<$a>"; done >{STATE}/arguments; exit 9\n', mode=0o755)
    configured.write(
        "/etc/hkswitch/config.yaml",
        CONFIG.replace(f"start: [{LAMP}, start]", f"start: [{LAMP}, {written}]").replace(
            f"status: [{LAMP}, status]", "status: [/bin/false]"
        ),
    )
    assert run_helper(configured, "start")[0] == 69
    assert configured.read(f"{STATE}/arguments") == "".join(f"<{argument}>\n" for argument in arguments)


def test_a_timeout_kills_all_processes_of_a_command(configured: Host) -> None:
    stubborn = "trap '' TERM HUP INT; while :; do sleep 1; done"
    override(configured, "start", f'setsid sh -c "{stubborn}" & sh -c "{stubborn}" & {stubborn}')
    assert run_helper(configured, "start")[0] == 69
    eventually(lambda: configured.run("pgrep", "-f", "[t]rap", check=False).stdout == "")
    eventually(lambda: configured.show(UNIT, "LoadState") == "not-found")


def test_output_goes_to_the_journal_which_limits_a_flood(configured: Host) -> None:
    # If a process exits before journald looks at it, journald's own limits apply.
    looked = f"until journalctl --quiet --unit={UNIT} --output=cat | grep -q begun; do sleep 0.1; done"
    flood = "i=0; while [ $i -lt 20000 ]; do echo flood; i=$((i + 1)); done"
    override(configured, "start", f"echo begun; echo wrong >&2; {looked}; {flood}")
    assert run_helper(configured, "start")[0] == 0
    eventually(lambda: {"begun", "wrong"} <= set(configured.journal(UNIT).splitlines()))
    lines = configured.journal(UNIT).splitlines()
    assert lines.count("flood") <= 2000  # the burst grows with the free space of the disk


def allowed_starts(host: Host) -> int:
    """Return how often helpers have allowed a start of the lamp."""
    lines = host.journalctl("--output=cat", "SYSLOG_IDENTIFIER=serviceswitch")
    return lines.count("allowed for uid 0: start lamp")


def test_two_helpers_do_not_run_commands_of_a_group_at_once(configured: Host) -> None:
    configured.write("/etc/hkswitch/config.yaml", CONFIG.replace("timeout_seconds: 2", "timeout_seconds: 60"))
    turn_on = f"echo run >>{STATE}/runs; until [ -e {STATE}/go ]; do sleep 0.1; done; : >/run/lamp/on; exit 0"
    override(configured, "start", turn_on)
    start, before = ("/usr/sbin/serviceswitch", "start", "lamp"), allowed_starts(configured)
    with configured.popen(*start) as first:
        eventually(lambda: configured.show(UNIT, "ActiveState") == "activating")
        code, said = run_helper(configured, "stop")
        assert code == 0, said  # it is still off
        with configured.popen(*start) as second:
            eventually(lambda: allowed_starts(configured) == before + 2)
            configured.write(f"{STATE}/go", "")
            assert (first.wait(10), second.wait(10)) == (0, 0)
    assert configured.read(f"{STATE}/runs") == "run\n"


UNTRUSTED: Final = [
    (f"chmod 0775 {LAMP}", f"{LAMP} is not trusted: other users can write it (mode 0775)"),
    (f"chmod 0757 {LAMP}", f"{LAMP} is not trusted: other users can write it (mode 0757)"),
    (f"chown hkswitch {LAMP}", f"{LAMP} is not trusted: its owner is uid"),
    (f"chmod 0644 {LAMP}", f"{LAMP} is not trusted: it is not executable; run `sudo chmod +x {LAMP}`"),
    (f"rm {LAMP}", f"{LAMP} does not exist; install it, or fix the path"),
    (f"rm {LAMP}; mkdir {LAMP}", f"{LAMP} is not trusted: it is not a file"),
    (f"rm {LAMP}; mkfifo -m 0700 {LAMP}", f"{LAMP} is not trusted: it is not a file"),
    (
        "chmod 0777 /usr/local/libexec",
        "/usr/local/libexec is not trusted: other users can write it",
    ),
    (
        "chmod 1777 /usr/local/libexec",
        "/usr/local/libexec is not trusted: other users can write it",
    ),
    ("chown hkswitch /usr/local", "/usr/local is not trusted: its owner is uid"),
    (
        f"rm {LAMP}; ln -s /var/tmp/users/lamp {LAMP}",
        "/var/tmp is not trusted: other users can write it",
    ),
    (
        f"rm {LAMP}; ln -s ../../../var/tmp/users/lamp {LAMP}",
        "/var/tmp is not trusted: other users",
    ),
    (f"rm {LAMP}; ln -s /run/users {LAMP}", "/run/users is not trusted: its owner is uid"),
    (f"rm {LAMP}; ln -s /run/users/lamp {LAMP}", "/run/users is not trusted: its owner is uid"),
    (
        f"cp -p /run/users/lamp {LAMP}.2; chown hkswitch {LAMP}.2; ln -f {LAMP}.2 {LAMP}; rm {LAMP}.2",
        f"{LAMP} is not trusted: its owner is uid",
    ),
    (f"rm {LAMP}; ln -s lamp {LAMP}", f"{LAMP} is not trusted: too many symbolic links"),
    (f"mount --bind /run/users/lamp {LAMP}", f"{LAMP} is not trusted: its owner is uid"),
]


@pytest.mark.any_release
@pytest.mark.parametrize(("change", "sentence"), UNTRUSTED, ids=lambda value: str(value)[:40])
def test_a_program_that_others_could_have_written_is_denied_and_not_run(
    configured: Host, change: str, sentence: str
) -> None:
    configured.run(
        "sh",
        "-c",
        "mkdir -p /run/users; cp -p /usr/local/libexec/lamp /run/users; chown -R hkswitch /run/users",
    )
    before = len(audit(configured))
    try:
        configured.run("sh", "-c", f"{change} || true")
        code, said = run_helper(configured, "start")
        status = run_helper(configured, "status")
    finally:
        configured.run(
            "sh",
            "-c",
            f"umount {LAMP}; rm -rf {LAMP} /run/users; chown root /usr/local; chmod 0755 /usr/local/libexec",
        )
    assert (code, status[0]) == (77, 69)
    assert sentence in said
    denied = audit(configured)[before:]
    assert [line["HKSWITCH_DECISION"] for line in denied] == ["denied"]
    assert configured.run("test", "-e", f"{STATE}/log", check=False).returncode == 1


@pytest.mark.any_release
@pytest.mark.parametrize(
    "change",
    [
        f"mv {LAMP} /usr/local/libexec/real; ln -s real {LAMP}",
        f"mv {LAMP} /usr/local/libexec/real; ln -s /usr/local/share/../libexec/real {LAMP}",
        f"mv {LAMP} /opt/lamp; ln -s /opt {LAMP}.d; ln -s {LAMP}.d/lamp {LAMP}",
        f"chmod 0500 {LAMP}",
    ],
)
def test_a_program_behind_links_of_roots_is_run(configured: Host, change: str) -> None:
    configured.run("sh", "-ec", change)
    assert run_helper(configured, "start") == (0, "")
    configured.run("rm", "-f", "/usr/local/libexec/real", f"{LAMP}.d", "/opt/lamp")
    assert run_count(configured, "start") == 1


@pytest.mark.any_release
@pytest.mark.parametrize(
    "deed",
    [
        f"echo >>{LAMP}",
        f"rm -f {LAMP}",
        f"mv /var/tmp/lamp {LAMP}",
        f"ln -sf /var/tmp/lamp {LAMP}",
        f"chmod 0777 {LAMP}",
        "mv /usr/local/libexec /usr/local/other",
        "ln -sfn /var/tmp /usr/local",
    ],
)
def test_a_program_that_is_run_cannot_be_swapped(configured: Host, deed: str) -> None:
    before = configured.run("stat", "--format=%i %Z", LAMP, "/usr/local/libexec", "/usr/local").stdout
    planted = "printf '#!/bin/sh\\n: >/run/lamp/planted' >/var/tmp/lamp; chmod 0755 /var/tmp/lamp"
    done = configured.run("sh", "-c", f"{planted}; {deed}", user="hkswitch", check=False)
    configured.run("rm", "-f", "/var/tmp/lamp")
    assert done.returncode != 0
    assert configured.run("stat", "--format=%i %Z", LAMP, "/usr/local/libexec", "/usr/local").stdout == before
    assert run_helper(configured, "start") == (0, "")
    assert run_count(configured, "start") == 1


def test_the_programs_of_debian_are_behind_links_of_roots(configured: Host) -> None:
    configured.write("/etc/hkswitch/config.yaml", CONFIG.replace(f"[{LAMP}, status]", "[/bin/true]"))
    assert PurePosixPath(configured.run("readlink", "/bin").stdout.strip()).name == "bin"
    assert run_helper(configured, "status") == (0, "on\n  /bin/true exited with status 0\n")
