"""The state folder is mounted nosuid, and an upgrade removes setuid programs created there before."""

from collections.abc import Iterator
from typing import Final

import pytest

from tests.host.machine import Host, eventually

STATE: Final = "/var/lib/hkswitch"
SERVICE: Final = "hkswitch.service"
MOUNT: Final = "var-lib-hkswitch.mount"
SECURE: Final = ("/src/packaging/account", "secure", "/usr/lib/sysusers.d/hkswitch.conf")
CLOSED: Final = {"nosuid", "nodev", "noexec"}


@pytest.fixture(autouse=True)
def as_installed(host: Host, no_leftovers: None) -> Iterator[None]:
    """Stops the daemon, and resets its state folder to that of a new installation."""
    yield
    host.run("systemctl", "stop", SERVICE)
    host.run("sh", "-c", f"systemctl unmask {MOUNT}; umount {STATE}; rm -rf {STATE} /srv/state /tmp/its-*")
    host.run(*SECURE)


def options(host: Host) -> set[str]:
    """Return the mount options of the state folder."""
    found = host.run("findmnt", "--noheadings", "--output=OPTIONS", "--target", STATE)
    return set(found.stdout.strip().split(","))


def starts(host: Host) -> None:
    started = host.run("systemctl", "start", SERVICE, check=False)
    assert started.returncode == 0, host.journal(SERVICE) + host.journal(MOUNT)
    assert "bridge.json" in host.run("ls", STATE).stdout.split()


# The mount


def test_it_is_closed_when_hkswitch_is_installed(host: Host) -> None:
    assert options(host) >= CLOSED
    assert host.run("stat", "--format=%U:%G %a", STATE).stdout == "hkswitch:hkswitch 700\n"


def test_it_is_closed_from_boot_on_before_users_and_their_jobs(host: Host) -> None:
    assert host.show(MOUNT, "WantedBy").split() == ["multi-user.target"]
    assert {"systemd-user-sessions.service", "cron.service"} <= set(host.show(MOUNT, "Before").split())
    assert MOUNT in host.show(SERVICE, "Requires").split()
    assert MOUNT in host.show(SERVICE, "After").split()


AT_FIRST: Final = "mount --rbind /var /var; mount -o remount,bind,ro /var"
LATER: Final = "mount -o remount,bind,rw /var"


def test_it_is_writable_where_the_system_was_read_only_when_it_was_mounted(host: Host) -> None:
    """As at boot, where the kernel mounts / read-only, and systemd remounts it later."""
    assert {"systemd-remount-fs.service", "local-fs-pre.target"} <= set(host.show(MOUNT, "After").split())
    try:
        host.run("sh", "-ec", f"systemctl stop {MOUNT}; {AT_FIRST}; systemctl start {MOUNT}; {LATER}")
        assert options(host) >= CLOSED | {"rw"}
        starts(host)
    finally:
        host.run("sh", "-c", f"systemctl stop {SERVICE} {MOUNT}; umount --lazy --recursive /var")


def test_it_stays_closed_when_the_daemon_stops(host: Host) -> None:
    starts(host)
    host.run("systemctl", "restart", SERVICE)
    host.run("systemctl", "stop", SERVICE)
    assert options(host) >= CLOSED


GONE: Final = f"systemctl stop {MOUNT}; rm -rf {STATE}"

LAYOUTS: Final = {
    "not there": (GONE, True),
    "root's": (f"{GONE}; mkdir {STATE}", True),
    "another mount": (f"{GONE}; mkdir {STATE}; mount -t tmpfs -o suid none {STATE}", False),
    "another mount that is nosuid": (f"{GONE}; mkdir {STATE}; mount -t tmpfs -o nosuid none {STATE}", None),
    "without the mount, by mask": (f"systemctl stop {MOUNT}; systemctl mask {MOUNT}", False),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_daemon_starts_whatever_its_state_folder_is(host: Host, layout: str) -> None:
    change, closed = LAYOUTS[layout]
    host.run("sh", "-ec", change)
    starts(host)
    assert host.run("stat", "--dereference", "--format=%U:%G %a", STATE).stdout == "hkswitch:hkswitch 700\n"
    assert (options(host) >= CLOSED) is (closed is True)
    assert ("nosuid" in options(host)) is (closed is not False)


@pytest.mark.parametrize("target", ["/srv/state", "/srv/nothing"])
def test_a_link_is_left_to_the_administrator(host: Host, target: str) -> None:
    """systemd itself refuses to start a service with such a StateDirectory=."""
    host.run("sh", "-ec", f"{GONE}; mkdir /srv/state; ln -s {target} {STATE}")
    assert host.run(*SECURE).stderr == ""
    assert host.run("readlink", STATE).stdout == f"{target}\n"


def test_a_mount_of_the_administrators_survives_a_removal(host: Host) -> None:
    host.run("sh", "-ec", f"{GONE}; mkdir {STATE}; mount -t tmpfs none {STATE}")
    host.run("/src/packaging/account", "release")
    assert host.run("stat", "--file-system", "--format=%T", STATE).stdout == "tmpfs\n"


# Programs that exist already


RUNNING: Final = "sleep 3000"

OWN: Final = (
    *("/var/lib/hkswitch/its-id", "/var/lib/hkswitch/folder/its-id", "/var/lib/hkswitch/its group"),
    *("/run/hkswitch/its-id", "/tmp/its-id", "/var/tmp/its\nid"),
)

MAKE: Final = r"""
cd /tmp
mkdir -p /run/hkswitch its-folder /var/lib/hkswitch/folder
touch /var/lib/hkswitch/bridge.json
mkdir /var/lib/hkswitch/its-folder
ln -s /usr/bin/sudo /var/lib/hkswitch/its-link
ln -s /usr/bin /var/lib/hkswitch/its-folder-link
install /usr/bin/id its-plain
install -m 4755 /usr/bin/id its-roots
install -m 4755 -o games /usr/bin/id its-games
chown -hR hkswitch: /run/hkswitch /var/lib/hkswitch its-folder its-plain
chmod 4600 /var/lib/hkswitch/bridge.json
chmod 2755 its-folder
for path; do install -m 4755 -o hkswitch /usr/bin/id "$path"; done
chown :hkswitch "/var/lib/hkswitch/its group"
chmod 2755 "/var/lib/hkswitch/its group"
"""

FOUND: Final = r"""
find /var/lib/hkswitch /run/hkswitch /tmp /var/tmp \( -name 'its*' -o -name bridge.json \) -printf '%p\0'
"""

KEPT: Final = {
    *("/var/lib/hkswitch/bridge.json", "/var/lib/hkswitch/its-folder"),
    *("/var/lib/hkswitch/its-link", "/var/lib/hkswitch/its-folder-link"),
    *("/tmp/its-folder", "/tmp/its-plain", "/tmp/its-roots", "/tmp/its-games"),
}


def found(host: Host) -> set[str]:
    return set(host.run("sh", "-c", FOUND).stdout.split("\0")) - {""}


@pytest.mark.parametrize("program", ["secure", "release"])
def test_only_setuid_programs_of_the_user_are_removed(host: Host, program: str) -> None:
    host.run("sh", "-ec", MAKE, "sh", *OWN)
    assert found(host) == KEPT | set(OWN)
    said = host.run("/src/packaging/account", *({"secure": SECURE[1:]}.get(program, (program,)))).stderr
    assert found(host) == KEPT
    assert host.run("stat", "--format=%U %a", "/usr/bin/sudo").stdout == "root 4755\n"
    assert (
        "hkswitch: Deleted setuid programs of the user hkswitch: 6, the first one /var/lib/hkswitch/" in said
    )
    assert said.count("\n") == 1
    assert (options(host) >= CLOSED) is (program == "secure")


def test_its_name_cannot_inject_terminal_escapes(host: Host) -> None:
    name = "its\\033[2J\x1b[2J\nhkswitch: all is well"
    host.run("install", "-m", "4755", "-o", "hkswitch", "/usr/bin/id", f"{STATE}/{name}")
    said = host.run(*SECURE).stderr
    assert f"1, the first one {STATE}/its\\033[2J?[2J?hkswitch: all is well." in said
    assert said.count("\n") == 1


def test_nothing_is_reported_where_nothing_is_removed(host: Host) -> None:
    assert host.run(*SECURE).stderr == ""


@pytest.mark.parametrize("ran", [True, False], ids=["it ran", "it did not run"])
def test_an_upgrade_that_closes_the_folder_kills_all_processes_of_the_user(host: Host, ran: bool) -> None:
    if ran:
        starts(host)
    host.run("umount", "--lazy", STATE)  # as with an older version
    with host.popen(*RUNNING.split(), user="hkswitch"):
        eventually(lambda: RUNNING in run_by_user(host))
        host.run(*SECURE)
        assert RUNNING not in run_by_user(host)
    assert host.run("systemctl", "is-active", SERVICE, check=False).stdout == (
        "active\n" if ran else "inactive\n"
    )
    assert options(host) >= CLOSED


def test_an_upgrade_with_a_closed_folder_kills_nothing(host: Host) -> None:
    starts(host)
    process = host.show(SERVICE, "MainPID")
    host.run(*SECURE)
    assert host.show(SERVICE, "MainPID") == process


def run_by_user(host: Host) -> str:
    return host.run("ps", "-U", "hkswitch", "-o", "args=", check=False).stdout
