"""Commands on a real host as their own user, detached, momentary and without a status, with a controller."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Final

import pytest
import pytest_asyncio

from tests.host.machine import ADDRESS, Host, eventually, eventually_async
from tests.support.controller import Controller

USER: Final = "jo"
HOME: Final = "/home/jo"
TOOL: Final = f"{HOME}/tool"
OUT: Final = f"{HOME}/out"
ELSEWHERE: Final = "/srv/jo"

PROGRAM: Final = f"""\
#!/bin/sh
case $1 in
facts)
    {{
        id -un; id -Gn; pwd
        echo "$HOME $USER $LOGNAME $SHELL"
        grep NoNewPrivs /proc/self/status
    }} >{OUT} ;;
root) sudo -n /usr/bin/id -u >{OUT} ;;
log) echo "$2" >>{OUT} ;;
fail) exit 3 ;;
children) sleep 1111 & nohup sleep 2222 >/dev/null 2>&1 & ;;
long) exec sleep 3333 ;;
slow) sleep 30; echo slow >>{OUT} ;;
esac
"""

GROUPS: Final = {
    "facts": f"commands: {{start: [{TOOL}, facts]}}\n    momentary: true",
    "elsewhere": f"directory: {ELSEWHERE}\n    commands: {{start: [{TOOL}, facts]}}\n    momentary: true",
    "root": f"commands: {{start: [{TOOL}, root]}}\n    momentary: true",
    "mute": f"commands: {{stop: [{TOOL}, log, muted]}}\n    momentary: true",
    "tv": f"commands: {{start: [{TOOL}, log, up], stop: [{TOOL}, log, down]}}\n    assume_state: true",
    "broken": f"commands: {{start: [{TOOL}, fail], stop: [{TOOL}, log, down]}}\n    assume_state: true",
    "kept": f"commands: {{start: [{TOOL}, children]}}\n    momentary: true\n    detach: true",
    "ended": f"commands: {{start: [{TOOL}, children]}}\n    momentary: true",
    "long": (
        f"commands: {{start: [{TOOL}, long], stop: [{TOOL}, log, down]}}\n"
        "    assume_state: true\n    detach: true\n    timeout_seconds: 1"
    ),
    "slow": (
        f"commands: {{start: [{TOOL}, slow], stop: [{TOOL}, log, down]}}\n"
        "    assume_state: true\n    detach: true\n    timeout_seconds: 1"
    ),
    "too-slow": f"commands: {{start: [{TOOL}, long]}}\n    momentary: true\n    timeout_seconds: 1",
    "probed": (
        f"commands: {{start: [{TOOL}, log, up], stop: [{TOOL}, log, down], status: [{TOOL}, long]}}\n"
        "    detach: true\n    timeout_seconds: 1\n    interval_seconds: 60"
    ),
}


@pytest.fixture(scope="module")
def config() -> str:
    groups = "".join(f"  {group_id}:\n    user: {USER}\n    {text}\n" for group_id, text in GROUPS.items())
    nobody = f"  nobody:\n    user: no-such-user\n    commands: {{start: [{TOOL}]}}\n    momentary: true\n"
    mine = f"  mine:\n    commands: {{start: [{TOOL}, log, root]}}\n    momentary: true\n"
    return f"bridge:\n  address: {ADDRESS}\ngroups:\n{groups}{nobody}{mine}"


PREPARE: Final = f"""
groupadd --force gpio
useradd --create-home --shell /bin/bash --groups gpio {USER}
mkdir {ELSEWHERE}
echo '{USER} ALL=(root) NOPASSWD: /usr/bin/id' >/etc/sudoers.d/{USER}
"""
RESTORE: Final = f"""
userdel --remove {USER} 2>/dev/null
groupdel gpio
rm -r {ELSEWHERE} /etc/sudoers.d/{USER}
"""


@pytest.fixture(scope="module", autouse=True)
def user(host: Host) -> Iterator[None]:
    """A user with a home, a further group and a sudo rule, who owns the program of the commands."""
    host.run("sh", "-ec", PREPARE)
    host.write(TOOL, PROGRAM, mode=0o777)
    host.run("chown", USER, TOOL)
    yield
    host.run("sh", "-ec", RESTORE)


@pytest.fixture(autouse=True)
def nothing_left(host: Host, user: None) -> Iterator[None]:
    yield
    host.run("sh", "-c", f"pkill -u {USER}; rm -f {OUT}")
    eventually(lambda: not running(host, "sleep"))


@pytest_asyncio.fixture(loop_scope="module")
async def phone(daemon: Host, controller: Controller) -> AsyncIterator[Controller]:
    yield controller


def running(host: Host, what: str) -> list[str]:
    """Return the command lines of the user's processes that begin with `what`."""
    lines = host.run("ps", "-u", USER, "-o", "args=", check=False).stdout.splitlines()
    return [line for line in lines if line.startswith(what)]


def output(host: Host) -> list[str]:
    return host.run("sh", "-c", f"cat {OUT} || true").stdout.splitlines()


def last_outcome(host: Host, group: str) -> str:
    """Return how the last action on a group ended."""
    report = json.loads(host.run("hkswitch", "status", "--json", group, check=False).stdout)
    return str(report["groups"][0]["last_action"]["outcome"])


def helper(host: Host, action: str, group: str) -> tuple[int, str]:
    done = host.run("/usr/sbin/serviceswitch", action, group, check=False)
    return done.returncode, (done.stdout + done.stderr).strip()


# The user


def test_a_user_runs_it_at_home_with_its_groups_and_may_gain_privileges(daemon: Host) -> None:
    assert helper(daemon, "start", "facts") == (0, "")
    assert output(daemon) == [
        USER,
        f"{USER} gpio",
        HOME,
        f"{HOME} {USER} {USER} /bin/bash",
        "NoNewPrivs:\t0",
    ]


def test_another_directory_is_where_it_runs(daemon: Host) -> None:
    assert helper(daemon, "start", "elsewhere") == (0, "")
    assert output(daemon)[2:4] == [ELSEWHERE, f"{HOME} {USER} {USER} /bin/bash"]


def test_a_sudo_inside_it_works(daemon: Host) -> None:
    assert helper(daemon, "start", "root") == (0, "")
    assert output(daemon) == ["0"]


@pytest.mark.parametrize(
    ("group", "reason"),
    [
        ("nobody", "there is no user 'no-such-user'; create the user, or change `user` of the group"),
        ("mine", f"{HOME} is not trusted: its owner is uid"),
    ],
)
async def test_what_is_denied_runs_nothing_and_is_an_error(
    daemon: Host, phone: Controller, group: str, reason: str
) -> None:
    code, text = helper(daemon, "start", group)
    assert code == 77
    assert reason in text
    assert await phone.write(group.capitalize(), on=True) != 0
    assert output(daemon) == []


def test_check_and_doctor_name_a_user_that_does_not_exist(daemon: Host) -> None:
    checked = daemon.run("hkswitch", "check")
    assert "groups.nobody.user: there is no user 'no-such-user' on this machine" in checked.stderr
    found = json.loads(daemon.run("hkswitch", "doctor", "--json", check=False).stdout)
    [trust] = [each for each in found["checks"] if each["check"] == "trust"]
    assert trust["verdict"] == "fail"
    assert "there is no user 'no-such-user'" in trust["finding"]


# Momentary


async def test_a_momentary_switch_turns_itself_off_after_each_run(daemon: Host, phone: Controller) -> None:
    for _ in range(2):
        assert await phone.write("Facts", on=True) == 0
        assert await phone.event("Facts") is False
        assert await phone.read("Facts") is False
        assert output(daemon)[:1] == [USER]
        daemon.run("rm", OUT)
    assert await phone.write("Facts", on=False) == 0
    assert output(daemon) == []


async def test_a_momentary_switch_with_a_stop_command_rests_at_on(daemon: Host, phone: Controller) -> None:
    await phone.until_on_is("Mute", on=True)
    assert await phone.write("Mute", on=False) == 0
    assert await phone.event("Mute") is True
    assert output(daemon) == ["muted"]
    assert await phone.write("Mute", on=True) == 0
    assert output(daemon) == ["muted"]


async def test_a_momentary_command_that_takes_too_long_is_a_failure(daemon: Host, phone: Controller) -> None:
    assert helper(daemon, "start", "too-slow") == (
        69,
        f"serviceswitch: start too-slow failed: {TOOL} took longer than 1 s",
    )
    assert running(daemon, "sleep 3333") == []


# Assumed


async def test_each_tap_runs_and_the_last_success_stays_over_a_restart(
    daemon: Host, phone: Controller
) -> None:
    for on in (True, True, False, True):
        assert await phone.write("Tv", on=on) == 0
        assert await phone.read("Tv") is on
    assert output(daemon) == ["up", "up", "down", "up"]
    assert "on, assumed" in daemon.run("hkswitch", "status").stdout
    daemon.run("systemctl", "restart", "hkswitch.service")
    again = phone.again()
    await again.until_on_is("Tv", on=True)
    assert await again.write("Tv", on=False) == 0
    await again.close()


async def test_an_action_that_fails_changes_no_assumed_state(daemon: Host, phone: Controller) -> None:
    assert await phone.write("Broken", on=True) != 0
    assert await phone.read("Broken") is False
    assert "off, assumed" in daemon.run("hkswitch", "status", "broken", check=False).stdout


async def test_root_at_the_helper_changes_no_assumed_state(daemon: Host, phone: Controller) -> None:
    assert helper(daemon, "start", "tv") == (0, "tv: the state that hkswitch assumes has not changed")
    assert await phone.read("Tv") is False
    code, text = helper(daemon, "status", "tv")
    assert code == 69
    assert text.endswith("cannot determine the state of tv: no command tells it (assume_state)")


# Detached


def test_what_a_detached_command_leaves_in_the_background_stays(daemon: Host) -> None:
    assert helper(daemon, "start", "kept") == (0, "")
    assert sorted(running(daemon, "sleep")) == ["sleep 1111", "sleep 2222"]


def test_what_any_other_command_leaves_in_the_background_is_ended(daemon: Host) -> None:
    assert helper(daemon, "start", "ended") == (0, "")
    eventually(lambda: running(daemon, "sleep") == [])


async def test_a_detached_command_goes_on_after_its_time_limit_and_delays_no_other(
    daemon: Host, phone: Controller
) -> None:
    assert await phone.write("Long", on=True) == 0
    await eventually_async(lambda: running(daemon, "sleep 3333"))
    assert await phone.write("Long", on=False) == 0
    await eventually_async(lambda: output(daemon) == ["down"])
    assert running(daemon, "sleep 3333") == ["sleep 3333"]
    assert await phone.read("Long") is False
    unit = daemon.run("systemctl", "list-units", "--plain", "--no-legend", "hkswitch-command-long:*").stdout
    shown = daemon.run("systemctl", "show", "-p", "TimeoutStartUSec,KillMode", unit.split()[0]).stdout
    assert shown.split() == ["TimeoutStartUSec=10min", "KillMode=process"]


async def test_a_detached_command_of_30_seconds_is_not_cut_short(daemon: Host, phone: Controller) -> None:
    assert await phone.write("Slow", on=True) == 0
    await eventually_async(lambda: last_outcome(daemon, "slow") == "done")
    assert await phone.read("Slow") is True
    daemon.run("pkill", "-u", USER, "sleep")  # instead of 30 s
    await eventually_async(lambda: output(daemon) == ["slow"])


def test_a_status_is_ended_with_its_time_limit_even_if_actions_are_not(daemon: Host) -> None:
    code, text = helper(daemon, "status", "probed")
    assert code == 69
    assert text.endswith(f"{TOOL} took longer than 1 s")
    eventually(lambda: running(daemon, "sleep 3333") == [])
