"""The command line on a real host: commands that need a daemon or another user."""

import json
from collections.abc import Iterator
from typing import Final

import pytest

from tests.host.machine import SYNC_JOURNAL, Host, eventually

CONFIG = "/etc/hkswitch/config.yaml"


def test_any_user_may_check_the_config_and_see_the_status(daemon: Host) -> None:
    assert daemon.run("hkswitch", "check", user="nobody").stdout == "configuration OK\n"
    assert "fileserver" in daemon.run("hkswitch", "status", user="nobody").stdout


def test_other_users_cannot_see_the_setup_code(daemon: Host) -> None:
    done = daemon.run("hkswitch", "pair", user="nobody", check=False)
    assert (done.returncode, done.stdout) == (77, "")
    assert done.stderr == (
        "hkswitch: permission denied: only root and members of the group hkswitch may do this; use sudo\n"
    )


def test_the_daemon_and_root_see_the_same_setup_code(daemon: Host) -> None:
    as_root = daemon.run("hkswitch", "pair").stdout
    assert daemon.run("hkswitch", "pair", user="hkswitch").stdout == as_root
    assert "Setup code: " in as_root


def test_root_starts_and_stops_through_the_daemon_which_logs_the_user(
    daemon: Host, stub_units: tuple[str, ...]
) -> None:
    assert daemon.run("hkswitch", "start", "fileserver", "web").stderr == ""
    assert daemon.show("netatalk.service", "ActiveState") == "active"
    assert daemon.run("hkswitch", "status", "fileserver", user="nobody").returncode == 0
    shown = json.loads(daemon.run("hkswitch", "status", "web", "--json").stdout)
    assert [group["last_action"]["by"] for group in shown["groups"]] == ["user 0"]
    assert daemon.run("hkswitch", "stop", "web", user="hkswitch").returncode == 0
    assert daemon.run("hkswitch", "status", "web", check=False).returncode == 3


@pytest.mark.parametrize("action", ["start", "stop", "restart"])
def test_other_users_cannot_start_or_stop_groups(
    daemon: Host, stub_units: tuple[str, ...], action: str
) -> None:
    daemon.run("systemctl", "start", "httpd")
    since = daemon.show("httpd.service", "ActiveEnterTimestampMonotonic")
    done = daemon.run("hkswitch", action, "web", user="nobody", check=False)
    assert (done.returncode, done.stdout) == (77, "")
    assert "permission denied" in done.stderr
    assert daemon.show("httpd.service", "ActiveEnterTimestampMonotonic") == since


def test_a_start_that_fails_shows_the_last_lines_of_the_unit(
    daemon: Host, stub_units: tuple[str, ...]
) -> None:
    program = "/bin/sh -c 'echo no such \\x1b[31mfile; exit 1'"
    daemon.unit("httpd.service", f"[Service]\nType=oneshot\nExecStart={program}\n")
    done = daemon.run("hkswitch", "start", "web", check=False)
    assert done.returncode == 69
    said = done.stderr.splitlines()
    assert said[:2] == [
        "hkswitch: start web failed: httpd.service exited with status 1",
        "Last lines of httpd.service:",
    ]
    assert "  no such ?[31mfile" in said
    assert len(said) == 7


def test_without_waiting_the_end_is_not_reported(daemon: Host, stub_units: tuple[str, ...]) -> None:
    daemon.unit("httpd.service", "[Service]\nType=oneshot\nExecStart=/bin/sleep 1000\n")
    assert daemon.run("hkswitch", "start", "web", "--no-wait", timeout_seconds=5).stderr == ""
    eventually(lambda: daemon.show("httpd.service", "ActiveState") == "activating")


def test_an_unreadable_config_is_reported(daemon: Host) -> None:
    daemon.run("chmod", "0600", CONFIG)
    done = daemon.run("hkswitch", "check", user="nobody", check=False)
    daemon.run("chmod", "0644", CONFIG)
    assert done.returncode == 77
    assert done.stderr == f"hkswitch: cannot read {CONFIG}: Permission denied; use sudo\n"


@pytest.mark.parametrize("addition", ["  extra:\n    name: Extra One\n    units: [extra]\n"])
def test_a_reload_adds_a_new_group_without_a_restart(daemon: Host, addition: str) -> None:
    pid = daemon.show("hkswitch.service", "MainPID")
    before = daemon.read(CONFIG)
    daemon.write(CONFIG, before + addition)
    daemon.run("systemctl", "reload", "hkswitch.service")
    eventually(lambda: "extra: missing" in daemon.journal("hkswitch.service"))
    eventually(lambda: daemon.run("hkswitch", "status").stdout.count("not-found") == 1)
    daemon.write(CONFIG, before)
    daemon.run("systemctl", "reload", "hkswitch.service")
    eventually(lambda: daemon.show("hkswitch.service", "ActiveState") == "active")  # the reload is over
    assert daemon.show("hkswitch.service", "MainPID") == pid


def test_a_reload_of_a_broken_config_keeps_the_daemon_as_it_was(daemon: Host) -> None:
    before = daemon.read(CONFIG)
    daemon.write(CONFIG, "groups: {web: {unit: httpd}}\n")
    assert daemon.run("systemctl", "reload", "hkswitch.service", check=False).returncode != 0
    assert "not reloaded: " in daemon.journal("hkswitch.service")
    assert f"{CONFIG}:1:16: groups.web.unit" in daemon.journal("hkswitch.service")
    daemon.write(CONFIG, before)
    daemon.run("systemctl", "reload", "hkswitch.service")
    eventually(lambda: daemon.show("hkswitch.service", "ActiveState") == "active")  # the reload is over


# Changes of the configuration


USE_SUDO: Final = "hkswitch: cannot change {0}: permission denied; use sudo\n"


@pytest.fixture
def unchanged_in_the_end(daemon: Host, stub_units: tuple[str, ...]) -> Iterator[str]:
    """The config, which is restored, and the daemon's process, which stays the same."""
    before, process = daemon.read(CONFIG), daemon.show("hkswitch.service", "MainPID")
    daemon.run("chmod", "0640", CONFIG)
    daemon.run("chgrp", "hkswitch", CONFIG)
    yield before
    assert daemon.run("stat", "-c", "%a %U %G", CONFIG).stdout == "640 root hkswitch\n"
    assert daemon.run("ls", "-A", "/etc/hkswitch").stdout == "config.yaml\n"
    daemon.write(CONFIG, before)
    daemon.run("hkswitch", "reload")
    assert daemon.show("hkswitch.service", "MainPID") == process


def test_a_group_is_added_edited_used_and_removed_with_sudo(daemon: Host, unchanged_in_the_end: str) -> None:
    before = unchanged_in_the_end
    added = daemon.run("sudo", "hkswitch", "add", "netatalk", "--name", "Disk Care")
    block = "  disk-care:\n    name: Disk Care\n    units: [netatalk]\n"
    assert daemon.read(CONFIG) == before + block
    assert "+    units: [netatalk]" in added.stdout.splitlines()
    assert added.stdout.splitlines()[-1] == "reloaded"
    daemon.run("sudo", "hkswitch", "start", "disk-care")
    assert daemon.run("hkswitch", "status", "disk-care").returncode == 0
    editing = "EDITOR=sed -i 's/units:..netatalk./units: [httpd]/'"
    edited = daemon.run("sudo", editing, "hkswitch", "edit")
    assert daemon.read(CONFIG) == before + block.replace("netatalk", "httpd")
    assert "+    units: [httpd]" in edited.stdout.splitlines()
    assert edited.stdout.splitlines()[-1] == "reloaded"
    assert daemon.run("hkswitch", "status", "disk-care", check=False).returncode == 3
    removed = daemon.run("sudo", "hkswitch", "remove", "disk-care")
    assert daemon.read(CONFIG) == before
    assert removed.stdout.splitlines()[-2:] == ["Removed disk-care.", "reloaded"]
    assert daemon.run("hkswitch", "status", "disk-care", check=False).returncode == 64


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("add", "ngnix", "--id", "n"), 64, "ngnix.service does not exist; did you mean nginx.service?"),
        (("add", "fstrm.timer", "--id", "n"), 64, "fstrm.timer does not exist; did you mean fstrim.timer?"),
        (("add", "gety@tty1", "--id", "n"), 64, "gety@tty1.service does not exist; did you mean getty@tty1"),
        (("add", "no-such-thing-at-all"), 64, "no-such-thing-at-all.service does not exist\n"),
        (("remove", "filserver"), 64, "there is no group 'filserver'; did you mean fileserver?"),
        (("start", "filserver"), 64, "there is no group 'filserver'; did you mean fileserver?"),
        (("logs", "filserver"), 64, "there is no group 'filserver'; did you mean fileserver?"),
    ],
)
def test_a_misspelt_unit_or_group_changes_nothing_and_is_answered_with_the_right_one(
    daemon: Host, words: tuple[str, ...], code: int, reason: str
) -> None:
    before = daemon.read(CONFIG)
    done = daemon.run("hkswitch", *words, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert reason in done.stderr
    assert daemon.read(CONFIG) == before


@pytest.mark.parametrize("words", [("add", "nginx", "--id", "n"), ("remove", "web"), ("edit",)])
def test_other_users_cannot_change_the_config(daemon: Host, words: tuple[str, ...]) -> None:
    done = daemon.run("hkswitch", *words, user="nobody", check=False)
    assert (done.returncode, done.stdout) == (77, "")
    assert done.stderr == USE_SUDO.format(CONFIG)


def test_a_config_that_others_can_write_is_not_touched(daemon: Host) -> None:
    daemon.run("chmod", "0666", CONFIG)
    before = daemon.read(CONFIG)
    done = daemon.run("hkswitch", "add", "nginx", "--id", "n", check=False)
    daemon.run("chmod", "0644", CONFIG)
    assert done.returncode == 77
    assert "is not trusted: other users can write it (mode 0666)" in done.stderr
    assert daemon.read(CONFIG) == before


def test_a_misspelt_unit_is_reported_by_check_start_status_and_doctor(
    daemon: Host, unchanged_in_the_end: str
) -> None:
    daemon.write(CONFIG, unchanged_in_the_end + "  typo: {units: [ngnix]}\n")
    daemon.run("hkswitch", "reload")
    daemon.run("chgrp", "hkswitch", CONFIG)
    daemon.run("chmod", "0640", CONFIG)
    meant = "ngnix.service does not exist; did you mean nginx.service?"
    assert f"warning: groups.typo.units[0]: {meant}" in daemon.run("hkswitch", "check").stderr
    started = daemon.run("hkswitch", "start", "typo", check=False)
    assert started.returncode == 69
    assert f"hkswitch: {meant}" in started.stderr.splitlines()
    shown = daemon.run("hkswitch", "status", user="nobody").stdout
    assert shown.endswith(f"Problems:\n- group typo: {meant} Correct it with `sudo hkswitch edit`\n")
    assert "Problems" not in daemon.run("hkswitch", "status", "web", check=False).stdout
    assert meant.partition("; ")[2] in daemon.run("hkswitch", "doctor", check=False).stdout


# Logs


def test_the_log_of_a_group_has_its_units_and_what_the_helper_did_in_order(
    daemon: Host, stub_units: tuple[str, ...]
) -> None:
    program = "/bin/sh -c 'echo serving just now; exec sleep infinity'"
    daemon.unit("httpd.service", f"[Service]\nExecStart={program}\n")
    wanted = ["allowed for uid", "Started httpd", "serving just now", "done for uid"]
    # Older lines too: it may begin to follow only after the start.
    with daemon.popen("timeout", "60", "hkswitch", "logs", "--follow", "-n", "100", "web") as following:
        assert following.stdout is not None
        daemon.run("hkswitch", "start", "web")
        seen: list[str] = []
        for line in following.stdout:
            seen.append(line)
            if all(each in "".join(seen) for each in wanted):
                break
        else:
            pytest.fail(f"it showed only {seen}")
    daemon.run("sh", "-ec", SYNC_JOURNAL)
    lines = daemon.run("sudo", "hkswitch", "logs", "web").stdout.splitlines()
    first, last = (max(n for n, line in enumerate(lines) if text in line) for text in (wanted[0], wanted[3]))
    started = max(n for n, line in enumerate(lines) if wanted[1] in line)
    assert first < started <= last + 1
    assert not [line for line in lines if "fileserver" in line]
    assert len(daemon.run("hkswitch", "logs", "--lines=1", "web").stdout.splitlines()) == 1


@pytest.mark.parametrize("command", [("logs", "web"), ("audit",), ("audit", "web"), ("audit", "removed")])
def test_a_user_who_may_not_read_the_journal_learns_which_group_to_join(
    daemon: Host, command: tuple[str, ...]
) -> None:
    done = daemon.run("hkswitch", *command, user="nobody", check=False)
    assert (done.returncode, done.stdout) == (77, "")
    assert "`sudo usermod -aG systemd-journal $USER`" in done.stderr
