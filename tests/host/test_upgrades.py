"""Upgrades close sandbox escapes that an older version allowed, and keep the administrator's decisions.

They run by the Debian package, by the RPM package's scriptlets (run without rpm), and by make install.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from tests.host.installation import broken_program, leftovers
from tests.host.machine import FROM_WHEELS, Boot, Host, booted, eventually, staged
from tests.host.matrix import PACKAGE_KINDS, SUDO_RS
from tests.host.rootfs import CHECKOUT, RELEASES, WITH_SERVICES, root_folder, wheels_folder
from tests.host.test_install import SUDOS

DROP_INS: Final = "/etc/systemd/system/hkswitch.service.d"
SERVICE: Final = "hkswitch.service"
STATE: Final = "/var/lib/hkswitch"
POLICY: Final = "/usr/share/dbus-1/system.d/hkswitch.conf"
RULE: Final = "/etc/sudoers.d/hkswitch"
RECORD: Final = "/var/lib/serviceswitch/sudoers"
LINE: Final = "hkswitch ALL=(root) NOPASSWD: /usr/sbin/serviceswitch serve\n"

STAGED: Final = "/root/staged"
DEBS: Final = "/var/tmp/debs"

BUILD: Final = f"""
export {" ".join(FROM_WHEELS)}
/src/packaging/deb /root
dpkg-deb --raw-extract /root/*.deb /root/opened
dpkg-deb -Znone --build /root/opened {DEBS}/hkswitch.deb
rm -r /root/*.deb /root/opened
"""
"""The package is not compressed, as it is unpacked often here."""

ESCAPED: Final = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=default.target\n"
PRECIOUS: Final = "/etc/precious"

MAKE_OLD: Final = f"""
systemctl stop {SERVICE} var-lib-hkswitch.mount
usermod --home {STATE} hkswitch
rm -r {POLICY} {RECORD}
busctl call org.freedesktop.DBus / org.freedesktop.DBus ReloadConfig
mkdir {PRECIOUS}
touch {PRECIOUS}/file
install -d -m 0700 -o hkswitch -g hkswitch {STATE}
cd {STATE}
mkdir -p .config/systemd/user/default.target.wants .ssh
cat >.config/systemd/user/esc.service
ln -s ../esc.service .config/systemd/user/default.target.wants
ln -s {PRECIOUS} .config/link
ln -s {PRECIOUS} .local
touch .ssh/authorized_keys .forward bridge.json bridge.json.backup lock
chown -hR hkswitch: .
install -m 4755 -o hkswitch /bin/sleep setuid
echo '* * * * * sleep 1000' | crontab -u hkswitch -
echo 'sleep 1000' | setpriv --reuid=hkswitch --regid=hkswitch --clear-groups at -q z now + 1 hour 2>/dev/null
setpriv --reuid=hkswitch --regid=hkswitch --clear-groups \\
    unshare --user --map-root-user --root=/usr /bin/sleep 2000 >/dev/null 2>&1 </dev/null &
systemd-run --quiet --wait loginctl enable-linger hkswitch
systemctl start user@$(id -u hkswitch)
"""
"""Turns an installation into an old one, whose user has a home, jobs, and processes outside the sandbox."""


@pytest.fixture(scope="module", params=RELEASES)
def host(
    request: pytest.FixtureRequest, boot: Boot, tmp_path_factory: pytest.TempPathFactory, staging: str
) -> Iterator[Host]:
    """A host without hkswitch, but with other services. `boot` skips where no host can boot."""
    name = request.param
    read_only = {"/src": CHECKOUT, "/wheels": wheels_folder(RELEASES[name], print)}
    log = tmp_path_factory.mktemp("upgrades") / "host.log"
    with booted(name, root_folder(WITH_SERVICES[name], print), read_only, log, (staging,)) as host:
        host.run("install", "-d", DEBS)
        host.run("sh", "-ec", BUILD, timeout_seconds=240)
        host.run("cp", "-a", staged(host), STAGED)
        yield host


@pytest.fixture(autouse=True)
def no_leftovers(host: Host) -> Iterator[None]:
    """Check that a test has removed everything it installed."""
    yield
    assert leftovers(host) == ""


# How it is installed


def by_deb(host: Host) -> str:
    done = host.run("sh", "-ec", f"dpkg --install {DEBS}/*.deb 2>&1", timeout_seconds=60)
    return done.stdout


def by_make(host: Host) -> str:
    done = host.run("env", f"STAGED={STAGED}", "/src/packaging/install", timeout_seconds=60)
    return done.stdout + done.stderr


def by_rpm(host: Host) -> str:
    """Install like rpm: unpack the files of the Debian package, and run the scriptlets in rpm's order."""
    there = host.run("test", "-e", "/usr/share/hkswitch/account", check=False).returncode == 0
    unpack = f"dpkg-deb --extract {DEBS}/*.deb /"
    script = f"exec 2>&1\n{scriptlet('pre')}\n{unpack}\n{scriptlet('post')}"
    return host.run("sh", "-ec", script, "rpm", "2" if there else "1", timeout_seconds=60).stdout


def scriptlet(name: str) -> str:
    """Return a scriptlet of the spec file as a subshell."""
    spec = (CHECKOUT / "packaging" / "hkswitch.spec").read_text()
    text = re.search(rf"^%{name}\n(.*?)\n(?=%\w)", spec, re.MULTILINE | re.DOTALL)
    assert text is not None
    return f"(\n{text[1]}\n)"


def purge_deb(host: Host) -> None:
    host.run("dpkg", "--purge", "hkswitch", timeout_seconds=60)


def purge_make(host: Host) -> None:
    host.run("/src/packaging/uninstall", "--purge", timeout_seconds=60)


def purge_rpm(host: Host) -> None:
    """Remove like rpm, which keeps the user and its folder; the rest cleans up for the next test."""
    host.run("sh", "-ec", scriptlet("preun"), "rpm", "0")
    files = "dpkg-deb --fsys-tarfile /var/tmp/debs/*.deb | tar --list | sed -n 's#^[.]##p' | grep -v '/$'"
    host.run("sh", "-ec", f"{files} | xargs rm -f; rm -f {RULE} {RULE}.rpmsave")
    host.run(
        "sh", "-ec", f"sh -s end </src/packaging/account; userdel hkswitch; rm -rf {STATE} /etc/hkswitch"
    )
    host.run("rm", "-rf", "/usr/lib/hkswitch", "/usr/share/hkswitch", "/var/lib/serviceswitch")
    host.run("sh", "-c", "rm -rf /usr/share/doc/hkswitch /usr/lib/systemd/system/hkswitch.service.d")
    host.run("systemctl", "daemon-reload")


KINDS: Final[dict[str, tuple[Callable[[Host], str], Callable[[Host], None]]]] = {
    "deb": (by_deb, purge_deb),
    "rpm": (by_rpm, purge_rpm),
    "make": (by_make, purge_make),
}

Upgrade = Callable[[Host], str]


@contextmanager
def installed(host: Host, kind: str) -> Iterator[Upgrade]:
    """Install hkswitch; yield a function that installs it again and returns the output."""
    install, purge = KINDS[kind]
    install(host)
    yield install
    purge(host)


@pytest.fixture(scope="module", params=PACKAGE_KINDS)
def package_kind(request: pytest.FixtureRequest) -> str:
    """The package kind, for tests in which all kinds behave alike, as they run the same program."""
    return str(request.param)


@pytest.fixture
def upgrade(host: Host, package_kind: str) -> Iterator[Upgrade]:
    with installed(host, package_kind) as again:
        yield again


def matrix_independent_id(kind: str) -> str:
    """Return a test ID that does not look like a variant of the matrix, so that CI runs it for each kind."""
    return f"by {kind}"


@pytest.fixture(params=PACKAGE_KINDS, ids=matrix_independent_id)
def each_upgrade(request: pytest.FixtureRequest, host: Host) -> Iterator[Upgrade]:
    with installed(host, request.param) as again:
        yield again


# Access of other hosts


@pytest.mark.parametrize("kind", KINDS, ids=matrix_independent_id)
def test_a_removal_ends_the_access_of_other_bridges(host: Host, kind: str) -> None:
    install, purge = KINDS[kind]
    effective = "sshd -T -C user=hkswitch-remote,host=x,addr=10.0.0.1"
    host.run("systemctl", "start", "ssh")
    before = host.run("sh", "-c", effective).stdout
    install(host)
    key = host.run(
        "sh", "-c", "ssh-keygen -q -t ed25519 -N '' -f /root/k; cat /root/k.pub; rm /root/k*"
    ).stdout
    host.run("hkswitch", "host", "allow", "homelab", key, "--yes")
    host.write(f"{DROP_INS}/60-hosts.conf", "[Service]\nMemoryMax=272M\n")
    assert "/etc/hkswitch/authorized_keys" in host.run("sh", "-c", effective).stdout
    process = ("sh", "-c", "trap '' TERM; sleep infinity & wait")
    with host.popen(*process, user="hkswitch-remote") as session:
        processes = ("ps", "-U", "hkswitch-remote", "-o", "args=")
        eventually(lambda: "sleep" in host.run(*processes, check=False).stdout)
        purge(host)
        assert session.wait(10) != 0
    assert host.run("sh", "-c", effective).stdout == before
    assert host.run("getent", "passwd", "hkswitch-remote", check=False).returncode == 2
    assert host.run("test", "-e", DROP_INS, check=False).returncode == 1
    host.run("systemctl", "stop", "ssh")


# Sandbox escapes


@pytest.fixture
def escaped_uid(host: Host, each_upgrade: Upgrade) -> Iterator[str]:
    """An old installation whose daemon has escaped; the UID of its user."""
    host.run("sh", "-ec", MAKE_OLD, input=ESCAPED)
    eventually(lambda: all(program in run_by_user(host) for program in ("sleep infinity", "sleep 2000")))
    assert host.run("sh", "-c", LATER).stdout.count("\n") == 2
    yield host.run("id", "-u", "hkswitch").stdout.strip()
    host.run("rm", "-r", PRECIOUS)


LATER: Final = "find /var/spool/cron -type f -user hkswitch"
"""The jobs that cron and at would run as the user."""


def run_by_user(host: Host) -> str:
    return host.run("ps", "-U", "hkswitch", "-o", "args=", check=False).stdout


def home(host: Host) -> str:
    return host.run("getent", "passwd", "hkswitch").stdout.split(":")[5]


@pytest.mark.parametrize("ran", [True, False], ids=["it ran", "it did not run"])
def test_an_upgrade_closes_the_escapes_of_an_old_installation_and_nothing_else(
    host: Host, each_upgrade: Upgrade, escaped_uid: str, ran: bool
) -> None:
    host.run("rm", f"{STATE}/bridge.json", f"{STATE}/bridge.json.backup")  # the daemon creates new ones
    if ran:
        host.run("systemctl", "start", SERVICE)
    kept = ["bridge.json", "bridge.json.backup", "lock"] if ran else ["lock"]
    before = host.run("sh", "-c", f"sha256sum {STATE}/bridge.json", check=False).stdout
    each_upgrade(host)
    assert home(host) == "/nonexistent"
    assert "sleep" not in run_by_user(host)
    assert host.run("sh", "-c", LATER).stdout == ""
    assert (
        host.run("systemctl", "is-active", f"user@{escaped_uid}.service", check=False).stdout == "inactive\n"
    )
    assert host.run("ls", "/var/lib/systemd/linger", check=False).stdout == ""
    assert host.run("ls", "-A", STATE).stdout.split() == kept
    assert host.run("sh", "-c", f"sha256sum {STATE}/bridge.json", check=False).stdout == before
    assert host.run("ls", PRECIOUS).stdout == "file\n"
    assert host.run("busctl", "list", user="hkswitch", check=False).returncode == 1
    state = host.run("systemctl", "is-active", SERVICE, check=False).stdout
    assert state == ("active\n" if ran else "inactive\n")


def test_a_user_that_can_log_in_is_left_alone_and_reported(host: Host, upgrade: Upgrade) -> None:
    host.run("usermod", "--home", STATE, "--shell", "/bin/sh", "hkswitch")
    said = upgrade(host)
    assert f"hkswitch: The user hkswitch can log in, so it keeps its home directory {STATE}," in said
    assert home(host) == STATE


def test_an_upgrade_without_escapes_to_close_leaves_the_daemon_alone(host: Host) -> None:
    """Runs only the scriptlets, as the packages restart the daemon afterwards."""
    by_deb(host)
    try:
        host.run("systemctl", "start", SERVICE)
        process = host.show(SERVICE, "MainPID")
        host.run("/usr/share/hkswitch/account", "secure")
        assert host.show(SERVICE, "MainPID") == process
    finally:
        purge_deb(host)


@pytest.mark.parametrize("kind", ["deb", "make"], ids=matrix_independent_id)
def test_a_purge_ends_all_that_runs_as_the_user(host: Host, kind: str) -> None:
    install, purge = KINDS[kind]
    install(host)
    user = host.run("id", "-u", "hkswitch").stdout.strip()
    host.run("systemd-run", "--quiet", "--wait", "loginctl", "enable-linger", "hkswitch")
    host.run("systemctl", "start", f"user@{user}.service")
    with host.popen("sh", "-c", "trap '' TERM; sleep infinity & wait", user="hkswitch"):
        eventually(lambda: "sleep infinity" in run_by_user(host))
        purge(host)
    assert host.run("getent", "passwd", "hkswitch", check=False).returncode == 2
    assert host.run("ps", "-U", user, "-o", "args=", check=False).stdout == ""


# The administrator's decisions


@pytest.mark.parametrize("kind", ["deb", "make"], ids=matrix_independent_id)
def test_a_purge_empties_a_mount_of_the_administrators_and_removes_the_rest(host: Host, kind: str) -> None:
    install, purge = KINDS[kind]
    install(host)
    host.run("sh", "-ec", f"systemctl stop var-lib-hkswitch.mount; mount -t tmpfs none {STATE}")
    try:
        host.run("install", "-o", "hkswitch", "/dev/null", f"{STATE}/pairing")
        purge(host)
        assert host.run("ls", "-A", STATE).stdout == ""
        assert host.run("mountpoint", STATE).returncode == 0
        assert host.run("getent", "passwd", "hkswitch", check=False).returncode == 2
    finally:
        host.run("sh", "-c", f"umount {STATE}; rmdir {STATE}")


EDITED: Final = f"Defaults:hkswitch !requiretty\n{LINE}"

KEPT: Final = {
    "removed": (f"rm {RULE}", None, "The sudo rule was removed; it is not installed again"),
    "edited": (f"cat >{RULE}", EDITED, f"The sudo rule {RULE} was edited; it is left unchanged"),
    "a link": (f"rm {RULE}; ln -s /etc/mine {RULE}; cat >/etc/mine", EDITED, "was edited"),
}


def rule(host: Host) -> str | None:
    done = host.run("cat", RULE, check=False)
    return done.stdout if done.returncode == 0 else None


@pytest.mark.parametrize(
    ("decision", "recorded"),
    [("edited", True), ("removed", True), ("a link", True), ("edited", False), ("removed", False)],
    ids=lambda value: value if isinstance(value, str) else "recorded" if value else "of an older version",
)
def test_a_rule_that_the_administrator_changed_is_left_alone_and_reported(
    host: Host, upgrade: Upgrade, decision: str, recorded: bool
) -> None:
    change, expected, sentence = KEPT[decision]
    host.run("sh", "-ec", change, input=EDITED)
    if not recorded:
        host.run("rm", "-r", "/var/lib/serviceswitch")
    for _ in range(2 if recorded else 1):
        assert sentence in upgrade(host)
        assert rule(host) == expected
    host.run("rm", "-f", RULE, "/etc/mine")


def test_a_rule_of_an_older_version_is_replaced(host: Host, upgrade: Upgrade) -> None:
    for older in (LINE, f"# As an older version said it.\n{LINE}"):
        host.run("sh", "-ec", f"cat >{RULE}; rm -r /var/lib/serviceswitch", input=older)
        assert "sudo rule" not in upgrade(host)
        assert rule(host) == (CHECKOUT / "packaging" / "hkswitch.sudoers").read_text()
        assert host.run("stat", "--format=%U:%G %a", RULE).stdout == "root:root 440\n"


def test_a_rule_that_was_placed_last_is_replaced_by_another(host: Host, each_upgrade: Upgrade) -> None:
    placed_last = f"{LINE}Defaults:hkswitch !use_pty\n"
    host.run("sh", "-ec", f"cat >{RULE}; cp {RULE} {RECORD}", input=placed_last)
    assert "sudo rule" not in each_upgrade(host)
    assert rule(host) == (CHECKOUT / "packaging" / "hkswitch.sudoers").read_text()


VISUDOS: Final = {'exec visudo-rs "$@"': False, '! grep -q pam_session "$2"': False, "true": True}
"""Commands of a visudo: that of sudo-rs, one of a sudo that lacks a setting, and one that accepts all."""


def test_settings_that_visudo_does_not_know_are_not_placed_and_the_rule_is(
    host: Host, each_upgrade: Upgrade
) -> None:
    for visudo, is_placed in VISUDOS.items():
        if "visudo-rs" in visudo and SUDO_RS not in SUDOS[host.release]:
            continue
        with broken_program(host, "visudo", f"#!/bin/sh\n{visudo}\n"):
            assert "sudo rule" not in each_upgrade(host)
        found = rule(host) or ""
        assert (allowed(host), "Defaults" in found) == (LINE, is_placed)
        assert host.read(RECORD) == found
        assert host.run("stat", "--format=%U:%G %a", RULE).stdout == "root:root 440\n"
    assert rule(host) == (CHECKOUT / "packaging" / "hkswitch.sudoers").read_text()


REMOVE: Final = {
    "deb": ("dpkg --remove hkswitch", purge_deb),
    "make": ("/src/packaging/uninstall", purge_make),
}


@pytest.mark.parametrize("kind", REMOVE, ids=matrix_independent_id)
@pytest.mark.parametrize(
    ("change", "without", "again"),
    [(":", None, LINE), (f"rm {RULE}", None, None), (f"echo '{LINE}# mine' >{RULE}", LINE, LINE)],
    ids=["as it was", "removed", "edited"],
)
def test_a_removal_and_another_installation_keep_the_decision(
    host: Host, kind: str, change: str, without: str | None, again: str | None
) -> None:
    command, purge = REMOVE[kind]
    install, _ = KINDS[kind]
    install(host)
    host.run("sh", "-ec", f"{change}\n{command}", timeout_seconds=60)
    assert allowed(host) == without
    install(host)
    assert allowed(host) == again
    purge(host)
    assert rule(host) is None
    install(host)
    assert allowed(host) == LINE  # a purge forgets the decision
    purge(host)


def allowed(host: Host) -> str | None:
    """Return the lines of the rule that allow something."""
    found = rule(host)
    return None if found is None else re.sub(r"^(#|Defaults!).*\n", "", found, flags=re.MULTILINE)
