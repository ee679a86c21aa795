"""`hkswitch host` on two hosts: what it writes, what it refuses, and the remedies of failed connections."""

import json
import re
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from hkswitch.backend.ssh_command import SSH_CONFIG
from hkswitch.backend.ssh_reasons import SSH_REASONS, SshReason
from hkswitch.remote.granted import AUTHORIZED_KEYS, SSHD_DROP_IN, SUDOERS
from hkswitch.remote.limits import DROP_IN
from tests.host.installation import empty_state
from tests.host.machine import Boot, Host, booted, connected, eventually, install
from tests.host.rootfs import CHECKOUT, RELEASES, WITH_SERVICES, root_folder, wheels_folder

NAME: Final = "nas"
BRIDGE: Final = "homelab"
HERE, THERE = "10.77.0.1", "10.77.0.2"
FILE: Final = "/etc/hkswitch/config.yaml"
FOLDER: Final = f"/etc/hkswitch/hosts/{NAME}"
ACCOUNT: Final = "hkswitch-remote"
ALLOW: Final = re.compile(r"^  (sudo hkswitch host allow .*)$", re.MULTILINE)
MOST_SECONDS: Final = 60
"""The time in which a user connects a host; the commands alone take a small part of it."""

CONFIG: Final = """\
# the bridge
groups:
  web: {units: [nginx]}  # here
"""
USED: Final = f"  {NAME}-media: {{host: {NAME}, group: media}}\n"
CONFIG_THERE: Final = "groups:\n  media: {units: [nginx]}\n"

STATE_THERE: Final = f"""
getent passwd {ACCOUNT}; getent group {ACCOUNT}; getent shadow {ACCOUNT} | cut -d: -f1,2
cd /etc/hkswitch
find . /etc/sudoers.d /etc/ssh/sshd_config.d -type f -printf '%p %u:%g %m ' -exec sha256sum {{}} \\;
sshd -T -C user={ACCOUNT},host=x,addr=10.77.0.1 | sha256sum
"""
STATE_HERE: Final = f"""
find /etc/hkswitch -printf '%p %y %u:%g %m ' -type f -exec sha256sum {{}} \\; -o -printf '\\n'
cat {DROP_IN} 2>/dev/null || true
"""


@pytest.fixture(scope="module", params=RELEASES)
def host(
    request: pytest.FixtureRequest, boot: Boot, tmp_path_factory: pytest.TempPathFactory, staging: str
) -> Iterator[Host]:
    """The bridge's machine. `boot` skips the tests where no host can boot."""
    with booted_with_sshd(request.param, tmp_path_factory.mktemp("bridge"), staging) as host:
        yield host


@pytest.fixture(scope="module")
def other(host: Host, tmp_path_factory: pytest.TempPathFactory, staging: str) -> Iterator[Host]:
    """The other host, on a network with the bridge's machine, and with an SSH server."""
    with booted_with_sshd(host.release, tmp_path_factory.mktemp("other"), staging) as other:
        other.write(FILE, CONFIG_THERE)
        if host.release != "bookworm":  # many failures in a row would block the bridge for a while
            other.write("/etc/ssh/sshd_config.d/00-tests.conf", "PerSourcePenalties no\n")
        other.run("systemctl", "start", "ssh")
        with connected(host, other, {"lan0": (HERE, THERE)}):
            yield other


@contextmanager
def booted_with_sshd(release: str, folder: Path, staging: str) -> Iterator[Host]:
    read_only = {"/src": CHECKOUT, "/wheels": wheels_folder(RELEASES[release], print)}
    root = root_folder(WITH_SERVICES[release], print)
    with booted(release, root, read_only, folder / "host.log", (staging,)) as host:
        install(host)
        yield host


@pytest.fixture(autouse=True)
def no_leftovers(host: Host, other: Host) -> Iterator[None]:
    """Check that each test leaves both hosts as they were."""
    host.write(FILE, CONFIG)
    before = state(host, STATE_HERE), state(other, STATE_THERE)
    yield
    assert (state(host, STATE_HERE), state(other, STATE_THERE)) == before


def state(host: Host, script: str) -> list[str]:
    return sorted(host.run("sh", "-c", script).stdout.splitlines())


@pytest.fixture
def added(host: Host, other: Host) -> Iterator[str]:
    """The command that allows the bridge, once the host was added."""
    output = host.run("hkswitch", "host", "add", NAME, THERE, *accepting(other), "--as", BRIDGE).stdout
    yield ALLOW.findall(output)[0]
    if NAME in host.read(FILE):
        host.write(FILE, host.read(FILE).replace(USED, ""))
        host.run("hkswitch", "host", "remove", NAME)
    host.run("rm", "-f", str(SSH_CONFIG))


@pytest.fixture
def allowed(added: str, other: Host) -> Iterator[str]:
    """The same, once it was typed."""
    other.run("sh", "-c", f"{added} --yes")
    yield added
    if BRIDGE in other.run("cat", str(AUTHORIZED_KEYS), check=False).stdout:
        other.run("hkswitch", "host", "disallow", BRIDGE, "--yes")


def accepting(other: Host, kind: str = "ed25519") -> tuple[str, str]:
    return "--fingerprint", fingerprint(other, kind)


def fingerprint(other: Host, kind: str = "ed25519") -> str:
    return other.run("ssh-keygen", "-lf", f"/etc/ssh/ssh_host_{kind}_key.pub").stdout.split()[1]


def typed(host: Host, command: str, answer: str = "y\n") -> str:
    """Run a command on a terminal, answer it, and return what it printed; a failure ends with its status."""
    done = host.run(
        "script", "--quiet", "--return", "--command", command, "/dev/null", input=answer, check=False
    )
    printed = re.sub(r"\r\n", "\n", done.stdout)
    return printed + (f"exit {done.returncode}" if done.returncode else "")


def failed(host: Host, *command: str) -> str:
    """Return why a command failed."""
    done = host.run("hkswitch", *command, check=False)
    assert done.returncode != 0, done.stdout
    return " ".join(done.stderr.split())


# Three commands


def test_a_host_is_connected_by_commands_that_print_the_next_one(host: Host, other: Host) -> None:
    began_seconds = time.monotonic()
    added = typed(host, f"umask 077; hkswitch host add {NAME} {THERE} --as {BRIDGE}")
    assert fingerprint(other) in added
    (allow,) = ALLOW.findall(added)
    assert ALLOW.findall(added) == re.findall(
        "sudo hkswitch host allow .*", host.run("hkswitch", "host", "list").stdout
    )
    assert "this machine itself has this key, for its host nas" in failed(host, *shlex.split(allow)[2:])
    with undone(other, f"mv {FILE} /root", f"mv /root/config.yaml {FILE}"):
        assert "finds no groups until you create it" in " ".join(typed(other, allow, "n\n").split())
    printed = typed(other, f"umask 077; {allow.replace(chr(39), '')}")  # without the quotes, too
    for file in (SUDOERS, AUTHORIZED_KEYS, SSHD_DROP_IN):
        assert all(line.strip() in printed for line in other.read(str(file)).splitlines())
    tested = host.run("hkswitch", "host", "test", NAME).stdout
    host.write(FILE, host.read(FILE).replace("\nhosts:", f"{USED}\nhosts:"))
    host.run("systemctl", "start", "hkswitch")
    eventually(lambda: host.run("hkswitch", "start", f"{NAME}-media", check=False).returncode == 0)
    assert other.show("nginx.service", "ActiveState") == "active"
    assert time.monotonic() - began_seconds < MOST_SECONDS
    host.run("systemctl", "stop", "hkswitch")
    other.run("systemctl", "stop", "nginx")
    empty_state(host)
    host.write(FILE, host.read(FILE).replace(USED, ""))
    assert re.search(r"connected in [0-9.]+ s, round trip [0-9.]+ ms\n +groups there: media\n", tested)

    # What was written here, and for whom.
    assert host.run(
        "stat", "--format=%U:%G %a", FOLDER, f"{FOLDER}/id_ed25519", f"{FOLDER}/known_hosts"
    ).stdout == ("root:hkswitch 750\nhkswitch:root 400\nroot:root 644\n")
    assert host.run("cat", f"{FOLDER}/id_ed25519", user="nobody", check=False).returncode != 0
    assert host.read(FILE).startswith(CONFIG)
    (known,) = host.read(f"{FOLDER}/known_hosts").splitlines()
    assert known.split() == [NAME, *other.read("/etc/ssh/ssh_host_ed25519_key.pub").split()[:2]]
    assert "MemoryMax=272M\nTasksMax=68\nLimitNOFILE=1040\n" in host.read(str(DROP_IN))
    assert limits(host) == (str(272 * 2**20), "68")

    # Once more: nothing changes, and nothing is asked.
    before = state(host, STATE_HERE), state(other, STATE_THERE)
    assert ALLOW.findall(host.run("hkswitch", "host", "add", NAME, THERE).stdout) == [allow]
    assert "nothing has changed" in other.run("sh", "-c", allow).stdout
    assert (
        f"The bridge {BRIDGE} is allowed here" in other.run("hkswitch", "host", "list", user="nobody").stdout
    )
    assert (state(host, STATE_HERE), state(other, STATE_THERE)) == before

    # A group uses it.
    host.write(FILE, host.read(FILE).replace("\nhosts:", f"{USED}\nhosts:"))
    listed = json.loads(host.run("hkswitch", "host", "list", "--json").stdout)
    assert [(each["name"], each["groups"]) for each in listed["hosts"]] == [
        (NAME, {f"{NAME}-media": "media"})
    ]
    assert f"run `sudo hkswitch remove {NAME}-media` first" in failed(host, "host", "remove", NAME)
    other.write(FILE, CONFIG_THERE.replace("media", "films"))
    without = host.run("hkswitch", "host", "test", NAME, check=False)
    assert (without.returncode, f"{NAME}-media: there is no group media" in without.stdout) == (78, True)
    other.write(FILE, CONFIG_THERE)

    # And back.
    host.write(FILE, host.read(FILE).replace(USED, ""))
    assert f"sudo hkswitch host disallow {BRIDGE}" in host.run("hkswitch", "host", "remove", NAME).stdout
    assert host.read(FILE) == CONFIG
    assert limits(host) == (str(256 * 2**20), "64")
    assert "nothing has changed" in typed(other, f"hkswitch host disallow {BRIDGE}", "n\n").lower()
    typed(other, f"hkswitch host disallow {BRIDGE}")


def limits(host: Host) -> tuple[str, str]:
    """Return the limits of the daemon, in bytes of memory and in tasks."""
    return host.show("hkswitch.service", "MemoryMax"), host.show("hkswitch.service", "TasksMax")


def test_a_trial_says_what_does_not_fit_there(host: Host, other: Host, allowed: str) -> None:
    assert allowed
    host.write(FILE, host.read(FILE).replace("\nhosts:", f"{USED}\nhosts:"))
    other.write(FILE, "groups: 5\n")
    rejected = host.run("hkswitch", "host", "test", NAME, check=False)
    assert (rejected.returncode, "rejected" in rejected.stdout, "no group" in rejected.stdout) == (
        78,
        True,
        False,
    )
    other.write(FILE, CONFIG_THERE)
    with_restart = USED.replace("media}", "media, restart: true}")
    host.write(FILE, host.read(FILE).replace(USED, with_restart))
    denied = host.run("hkswitch", "host", "test", NAME, check=False)
    assert (denied.returncode, "has no effect" in " ".join(denied.stdout.split())) == (78, True)
    other.write(FILE, CONFIG_THERE.replace("]}", "], actions: [start, stop, restart]}"))
    host.run("hkswitch", "host", "test", NAME)
    other.write(FILE, CONFIG_THERE)
    host.write(FILE, host.read(FILE).replace(with_restart, USED))
    other_account = host.run("hkswitch", "host", "add", NAME, f"me@{THERE}").stderr
    assert "as hkswitch-remote, not as me" in " ".join(other_account.split())
    assert "leave out the user in the destination" in failed(host, "host", "test", NAME)
    assert host.run("hkswitch", "host", "add", NAME, THERE).stderr == ""


def test_a_host_key_is_accepted_only_by_an_answer_or_its_fingerprint(host: Host, other: Host) -> None:
    add = ("host", "add", NAME, THERE)
    before = state(host, STATE_HERE)
    assert "use --fingerprint" in failed(host, *add)
    assert "Nothing has changed." in typed(host, f"hkswitch {' '.join(add)}", "n\n")
    assert "exit 130" in typed(host, f"hkswitch {' '.join(add)}", "\x03")
    assert f"not {fingerprint(other, 'rsa')}" in failed(host, *add, *accepting(other, "rsa"))
    assert "permission denied" in host.run("hkswitch", *add, user="nobody", check=False).stderr
    assert state(host, STATE_HERE) == before


def test_a_changed_host_key_is_refused_until_it_is_accepted(host: Host, other: Host, allowed: str) -> None:
    key = host.read(f"{FOLDER}/id_ed25519")
    old = fingerprint(other)
    other.run("sh", "-ec", "cd /etc/ssh; cp -a ssh_host_ed25519_key ssh_host_ed25519_key.pub /root")
    try:
        other.run("sh", "-c", "cd /etc/ssh; echo y | ssh-keygen -q -t ed25519 -N '' -f ssh_host_ed25519_key")
        other.run("systemctl", "restart", "ssh")
        assert "has another key than the one that you accepted" in failed(host, "host", "test", NAME)
        shown = typed(host, f"hkswitch host add {NAME} {THERE}", "n\n")
        assert old in shown
        assert fingerprint(other) in shown
        assert "has another key than the one that you accepted" in failed(host, "host", "test", NAME)
        typed(host, f"hkswitch host add {NAME} {THERE}")
        host.run("hkswitch", "host", "test", NAME)
        assert host.read(f"{FOLDER}/id_ed25519") == key
    finally:
        other.run("sh", "-ec", "mv /root/ssh_host_ed25519_key* /etc/ssh; systemctl restart ssh")


def test_a_trial_is_no_process_that_a_compromised_daemon_could_take_over(
    host: Host, other: Host, allowed: str
) -> None:
    assert allowed

    def can_take_over(pid: str) -> bool:
        command = 'exec 3<>"/proc/$0/mem"'
        return host.run("sh", "-c", command, pid, user="hkswitch", check=False).returncode == 0

    def found(program: str) -> str:
        return host.run("pgrep", "-u", "hkswitch", "-x", program, check=False).stdout.strip()

    with host.popen("sleep", "infinity", user="hkswitch"):
        assert can_take_over(eventually(lambda: found("sleep")))
    stopped = undone(other, "pkill -STOP -x sshd", "pkill -CONT -x sshd")  # it accepts, and does not answer
    with stopped, host.popen("hkswitch", "host", "test", NAME):
        assert not can_take_over(eventually(lambda: found("ssh")))


# Everything or nothing


class Obstacle(NamedTuple):
    """Something on the other host that denies bridges, and what `host allow` says of it."""

    make: str
    undo: str
    says: str


CONFIG_OF_SSHD: Final = "/etc/ssh/sshd_config"
SAVED: Final = f"mv /root/sshd_config {CONFIG_OF_SSHD}"


def in_sshd(change: str) -> str:
    return f"cp -a {CONFIG_OF_SSHD} /root; {change}"


OBSTACLES: Final = {
    "AllowUsers": Obstacle(
        in_sshd(f"echo AllowUsers admin pi@10.* >>{CONFIG_OF_SSHD}"), SAVED, "AllowUsers lacks"
    ),
    "AllowGroups": Obstacle(
        in_sshd(f"echo AllowGroups ssh-* >>{CONFIG_OF_SSHD}"), SAVED, "AllowGroups lacks"
    ),
    "DenyUsers": Obstacle(in_sshd(f"echo DenyUsers hk* >>{CONFIG_OF_SSHD}"), SAVED, "DenyUsers hk* denies"),
    "no Include": Obstacle(in_sshd(f"sed -i /^Include/d {CONFIG_OF_SSHD}"), SAVED, "add `Include /etc/ssh/"),
    "a mistake": Obstacle(
        in_sshd(f"echo Nonsense yes >>{CONFIG_OF_SSHD}"), SAVED, "sshd rejects its settings"
    ),
    "an earlier Match": Obstacle(
        "printf 'Match User hkswitch-*\\n  PermitTTY yes\\n' >/etc/ssh/sshd_config.d/0.conf",
        "rm /etc/ssh/sshd_config.d/0.conf",
        "PermitTTY is yes",
    ),
    "no includedir": Obstacle(
        "cp -a /etc/sudoers /root; sed -i 's/^@includedir/# &/' /etc/sudoers",
        "mv /root/sudoers /etc/sudoers",
        "needs the line `@includedir /etc/sudoers.d`",
    ),
    "no helper": Obstacle(
        "mv /usr/sbin/serviceswitch /root",
        "mv /root/serviceswitch /usr/sbin",
        "install hkswitch on this host",
    ),
    "no sudo": Obstacle("mv /usr/bin/sudo /root", "mv /root/sudo /usr/bin", "cannot find sudo"),
    "no sshd": Obstacle("mv /usr/sbin/sshd /root", "mv /root/sshd /usr/sbin", "cannot find sshd"),
    "no host keys": Obstacle(
        "mkdir /root/keys; mv /etc/ssh/ssh_host_* /root/keys",
        "mv /root/keys/* /etc/ssh; rmdir /root/keys",
        "sshd has no host keys yet",
    ),
    "another account": Obstacle(f"useradd {ACCOUNT}", f"userdel {ACCOUNT}", "there is another account"),
    "a line of others": Obstacle(
        f"echo ssh-ed25519 AAAA me >{AUTHORIZED_KEYS}",
        f"rm {AUTHORIZED_KEYS}",
        "line 1 is not the key of a bridge",
    ),
    "no reload": Obstacle(
        "mkdir -p /run/systemd/system/ssh.service.d; printf '[Service]\\nExecReload=\\nExecReload=false\\n' "
        ">/run/systemd/system/ssh.service.d/x.conf; systemctl daemon-reload",
        "rm -r /run/systemd/system/ssh.service.d; systemctl daemon-reload",
        "systemctl failed",
    ),
}


OBSTACLES_IN_CI: Final = ("AllowUsers", "no Include", "no includedir", "no reload")


def test_an_obstacle_is_reported_and_nothing_is_changed(other: Host, added: str, exhaustive: bool) -> None:
    command = added.removeprefix("sudo ")
    for name in OBSTACLES if exhaustive else OBSTACLES_IN_CI:
        obstacle = OBSTACLES[name]
        with undone(other, obstacle.make, obstacle.undo):
            before = state(other, STATE_THERE)
            done = other.run("sh", "-c", f"{command} --yes", check=False)
            assert done.returncode != 0, name
            assert obstacle.says in " ".join(done.stderr.split()), name
            assert state(other, STATE_THERE) == before, name


@contextmanager
def undone(host: Host, make: str, undo: str) -> Iterator[None]:
    try:
        host.run("sh", "-ec", make)
        yield
    finally:
        host.run("sh", "-ec", undo)


INTERRUPTING: Final = """\
#!/bin/sh
case $1 in %s)
    test -e /root/once || { touch /root/once; kill -%s $PPID; sleep 5; } ;;
esac
exec /usr/bin/systemctl "$@"
"""
"""A systemctl that interrupts its caller once, when everything else is done."""


def test_an_interrupted_add_leaves_nothing(host: Host, other: Host, exhaustive: bool) -> None:
    before = state(host, STATE_HERE)
    command = ("hkswitch", "host", "add", NAME, THERE, *accepting(other))
    for at, signal in (("daemon-reload", "TERM"), ("daemon-reload", "INT"))[: 2 if exhaustive else 1]:
        host.write("/usr/local/bin/systemctl", INTERRUPTING % (at, signal), 0o755)
        with undone(host, "true", "rm -f /usr/local/bin/systemctl /root/once"):
            assert host.run(*command, check=False).returncode == 130
        assert state(host, STATE_HERE) == before
    # A command that was killed leaves what the next one removes.
    host.run("sh", "-c", f"mkdir -p {FOLDER}/../.{NAME}.new; touch {FOLDER}/../.{NAME}.new/id_ed25519")
    host.run(*command)
    host.run("hkswitch", "host", "remove", NAME)


def test_an_interrupted_allow_leaves_nothing(host: Host, other: Host, added: str) -> None:
    before = state(other, STATE_THERE)
    command = added.removeprefix("sudo ")
    assert "exit 130" in typed(other, command, "\x03")
    assert state(other, STATE_THERE) == before
    for signal in ("INT", "TERM", "HUP"):
        other.write("/usr/local/bin/systemctl", INTERRUPTING % ("reload", signal), 0o755)
        with undone(other, "true", "rm -f /usr/local/bin/systemctl /root/once"):
            done = other.run("sh", "-c", f"exec {command} --yes", check=False)
        assert done.returncode == 130, done.stderr
        assert state(other, STATE_THERE) == before
    # One that was killed has written the files, and the next one has sshd read them.
    killing = (INTERRUPTING % ("reload", "KILL")).replace("sleep 5", "exit")
    other.write("/usr/local/bin/systemctl", killing, 0o755)
    with undone(other, "true", "rm -f /usr/local/bin/systemctl /root/once"):
        assert other.run("sh", "-c", f"{command} --yes", check=False).returncode
    other.run("sh", "-c", f"{command} --yes")
    host.run("hkswitch", "host", "test", NAME)
    other.run("hkswitch", "host", "disallow", BRIDGE, "--yes")


def test_bridges_come_and_go_one_by_one(host: Host, other: Host, allowed: str) -> None:
    key = other.run(
        "sh", "-c", "ssh-keygen -q -t ed25519 -N '' -f /root/k; cat /root/k.pub; rm /root/k*"
    ).stdout
    alone = state(other, STATE_THERE)
    other.run("hkswitch", "host", "allow", "annex", key, "--yes")
    names = [line.split()[-1] for line in other.read(str(AUTHORIZED_KEYS)).splitlines()[1:]]
    assert names == ["annex", BRIDGE]
    assert [line.split()[-1] for line in other.read(str(SUDOERS)).splitlines()[1:]] == names
    other.run("visudo", "-c")
    with session(host, other):
        other.run("hkswitch", "host", "disallow", "annex", "--yes")
        assert state(other, STATE_THERE) == alone
        assert helpers(other) == 1
        # Another key of the same bridge ends the session of the old one.
        asked = typed(other, f"hkswitch host allow {BRIDGE} {key.strip()}", "n\n")
        assert "If that is another machine, answer no" in " ".join(asked.split())
        assert helpers(other) == 1
        other.run("hkswitch", "host", "allow", BRIDGE, key, "--yes")
        eventually(lambda: helpers(other) == 0)
    assert "refuses the key of this bridge" in failed(host, "host", "test", NAME)
    other.run("sh", "-c", f"{allowed} --yes")
    # A connection without a session, in which the old key could begin one later.
    with held(host):
        assert "hello" in in_held(host)
        other.run("hkswitch", "host", "allow", BRIDGE, key, "--yes")
        assert "hello" not in in_held(host)
    other.run("sh", "-c", f"{allowed} --yes")
    # What is revoked stays so, even if sshd cannot be told.
    obstacle = OBSTACLES["no reload"]
    with session(host, other), undone(other, obstacle.make, obstacle.undo):
        assert obstacle.says in failed(other, "host", "disallow", BRIDGE, "--yes")
        eventually(lambda: helpers(other) == 0)
    assert other.run("getent", "passwd", ACCOUNT, check=False).stdout == ""
    assert "it is not allowed" in failed(other, "host", "disallow", BRIDGE)


@contextmanager
def session(host: Host, other: Host) -> Iterator[None]:
    """Hold a connection as the daemon does."""
    script = """
    (while echo '{"ping":1}'; do sleep 1; done) | ssh -F none -T -o BatchMode=yes -o HostKeyAlias="$1" \\
        -o UserKnownHostsFile="$0/known_hosts" -i "$0/id_ed25519" hkswitch-remote@"$2" """
    with host.popen("sh", "-c", script, FOLDER, NAME, THERE, user="hkswitch"):
        eventually(lambda: helpers(other) == 1)
        yield


HELD: Final = "/tmp/held"


@contextmanager
def held(host: Host) -> Iterator[None]:
    """Hold a connection in which sessions can be begun one after the other."""
    options = f"-F none -o BatchMode=yes -o HostKeyAlias={NAME} -o UserKnownHostsFile={FOLDER}/known_hosts"
    command = f"ssh {options} -i {FOLDER}/id_ed25519 -M -S {HELD} -N -f {ACCOUNT}@{THERE} >/dev/null 2>&1"
    host.run("sh", "-c", command, user="hkswitch")
    try:
        yield
    finally:
        host.run("ssh", "-F", "none", "-S", HELD, "-O", "exit", THERE, user="hkswitch", check=False)
        host.run("rm", "-f", HELD)


def in_held(host: Host) -> str:
    """Begin a session in the connection that is held, and return what the other host's helper says."""
    command = ("ssh", "-F", "none", "-o", "BatchMode=yes", "-T", "-S", HELD, f"{ACCOUNT}@{THERE}")
    return host.run(*command, user="hkswitch", check=False).stdout


def helpers(host: Host) -> int:
    listed = host.run("ps", "-e", "-o", "args=").stdout.splitlines()
    return sum("-m hkswitch.serviceswitch serve --for" in line for line in listed)


def test_a_host_behind_another_is_reached_by_roots_ssh_config(host: Host, other: Host) -> None:
    """The daemon's user has no home: root's file has the key for the host in between, and that host's key."""
    gate = "/etc/hkswitch/gate"
    config = (
        f"Host behind\n  HostName 127.0.0.1\n  ProxyJump gate\nHost gate\n  HostName {THERE}\n  User jumper\n"
        f"  IdentityFile {gate}\n  UserKnownHostsFile {gate}.known_hosts\n"
    )
    key = other.read("/etc/ssh/ssh_host_ed25519_key.pub")
    with (
        undone(other, "useradd --create-home jumper", "userdel --force --remove jumper"),
        undone(host, f"ssh-keygen -q -t ed25519 -N '' -f {gate}", f"rm -f {gate}* {SSH_CONFIG}"),
    ):
        host.run("chown", "hkswitch", gate)
        host.write(f"{gate}.known_hosts", f"{THERE} {key}")
        host.write(str(SSH_CONFIG), "Host *\n  ProxyCommand touch /root/ran\n")
        host.run("chown", "hkswitch", str(SSH_CONFIG))
        assert str(SSH_CONFIG) in failed(host, "host", "add", NAME, "behind", *accepting(other))
        assert host.run("test", "-e", "/root/ran", check=False).returncode == 1
        host.write(str(SSH_CONFIG), config)
        jump = "install -d /home/jumper/.ssh; cat >/home/jumper/.ssh/authorized_keys"
        other.run("sh", "-ec", jump, input=host.read(f"{gate}.pub"))
        added = host.run("hkswitch", "host", "add", NAME, "behind", *accepting(other), "--as", BRIDGE).stdout
        other.run("sh", "-c", f"{ALLOW.findall(added)[0]} --yes")
        assert "groups there: media" in host.run("hkswitch", "host", "test", NAME).stdout
        host.run("hkswitch", "host", "remove", NAME)
        other.run("hkswitch", "host", "disallow", BRIDGE, "--yes")


# Failed connections


class Failing(NamedTuple):
    """A cause of a failed connection, on one of the hosts."""

    words: str
    make: str
    undo: str
    is_here: bool = False


OLD_HELPER: Final = "#!/bin/sh\\necho serviceswitch: invalid arguments >&2\\nexit 64\\n"


def aside(path: str) -> tuple[str, str]:
    return f"mv {path} /root/aside", f"mv /root/aside {path}"


CASES: Final = {
    "no name": Failing(
        "Could not resolve hostname", f"echo HostName nas.invalid >{SSH_CONFIG}", f"rm {SSH_CONFIG}", True
    ),
    "no server": Failing("Connection refused", "systemctl stop ssh", "systemctl start ssh"),
    "no route": Failing(
        "No route to host", f"ip route add unreachable {THERE}", f"ip route del unreachable {THERE}", True
    ),
    "no network": Failing(
        "Network is unreachable",
        f"printf 'BindAddress ::1\\nHostName fd99::1\\n' >{SSH_CONFIG}",
        f"rm {SSH_CONFIG}",
        True,
    ),
    "an unknown key": Failing(
        "host key is known for",
        *(f"cp -a {FOLDER}/known_hosts /root; : >{FOLDER}/known_hosts", f"mv /root/known_hosts {FOLDER}"),
        True,
    ),
    "a refused key": Failing(f"{ACCOUNT}@", *aside(str(AUTHORIZED_KEYS))),
    "an unreadable key": Failing(
        "Load key ", f"chown root {FOLDER}/id_ed25519", f"chown hkswitch {FOLDER}/id_ed25519", True
    ),
    "no key": Failing("no such identity", *aside(f"{FOLDER}/id_ed25519"), True),
    "a bad ssh_config": Failing(
        f"{SSH_CONFIG}: ", f"echo Nonsense yes >{SSH_CONFIG}", f"rm {SSH_CONFIG}", True
    ),
    "a bad value": Failing(f"{SSH_CONFIG} line", f"echo Port x >{SSH_CONFIG}", f"rm {SSH_CONFIG}", True),
    "a private ssh_config": Failing(
        "Can't open user config file",
        f"echo Port 22 >{SSH_CONFIG}; chmod 0600 {SSH_CONFIG}",
        f"rm {SSH_CONFIG}",
        True,
    ),
    "no cipher": Failing(
        "Unable to negotiate with", f"echo Ciphers 3des-cbc >{SSH_CONFIG}", f"rm {SSH_CONFIG}", True
    ),
    "no sudo rule": Failing("password is required", *aside(str(SUDOERS))),
    "no sudo": Failing("sudo: not found", *aside("/usr/bin/sudo")),
    "no hkswitch": Failing("serviceswitch: command not found", *aside("/usr/sbin/serviceswitch")),
    "an old hkswitch": Failing(
        "serviceswitch: invalid arguments",
        "mv /usr/sbin/serviceswitch /root/aside; "
        f"printf '{OLD_HELPER}' >/usr/sbin/serviceswitch; chmod 0755 /usr/sbin/serviceswitch",
        "mv /root/aside /usr/sbin/serviceswitch",
    ),
    "no shell": Failing(
        "account is currently not available",
        f"usermod --shell /usr/sbin/nologin {ACCOUNT}",
        f"usermod --shell /bin/sh {ACCOUNT}",
    ),
    "an expired account": Failing(
        "account has expired", f"chage --expiredate=0 {ACCOUNT}", f"chage --expiredate=-1 {ACCOUNT}"
    ),
    "an old password": Failing(
        "password has expired", f"chage --lastday=0 {ACCOUNT}", f"chage --lastday=-1 {ACCOUNT}"
    ),
    "a refusal by PAM": Failing(
        "Connection closed by",
        "sed -i '1i account requisite pam_deny.so' /etc/pam.d/sshd",
        "sed -i 1d /etc/pam.d/sshd",
    ),
    "no answer": Failing(
        "timed out",
        "nft 'add table inet away; add chain inet away in { type filter hook input priority 0; }; "
        "add rule inet away in tcp dport 22 drop'",
        "nft delete table inet away",
    ),
    "bash": Failing(
        "sudo: command not found",
        f"usermod --shell /bin/bash {ACCOUNT}; mv /usr/bin/sudo /root/aside",
        f"mv /root/aside /usr/bin/sudo; usermod --shell /bin/sh {ACCOUNT}",
    ),
    "a damaged hkswitch": Failing(
        "unable to execute",
        "mv /usr/sbin/serviceswitch /root/aside; "
        "printf '#!/nowhere\\n' >/usr/sbin/serviceswitch; chmod 0755 /usr/sbin/serviceswitch",
        "mv /root/aside /usr/sbin/serviceswitch",
    ),
    "requiretty": Failing(
        "must have a tty", "echo Defaults requiretty >/etc/sudoers.d/tty", "rm /etc/sudoers.d/tty"
    ),
}


def ssh_reason(words: str) -> SshReason:
    found = [each for each in SSH_REASONS if each.words.startswith(words)]
    return min(found, key=lambda reason: len(reason.words))


CASES_IN_CI: Final = ("a refused key", "no sudo rule", "an old hkswitch")
"""tests/remote has most of the others, without a second host."""


def test_a_failed_connection_is_explained_with_its_remedy(
    host: Host, other: Host, allowed: str, exhaustive: bool
) -> None:
    for name in CASES if exhaustive else CASES_IN_CI:
        case = CASES[name]
        reason = ssh_reason(case.words)
        with undone(host if case.is_here else other, case.make, case.undo):
            said = failed(host, "host", "test", NAME)
        assert reason.words in said, (name, said)
        assert " ".join(f"{reason.cause}; {reason.remedy.replace('NAME', NAME)}".split()) in said, (
            name,
            said,
        )
        host.run("hkswitch", "host", "test", NAME)


# What the command line shows of it


def findings(host: Host, check: str) -> list[dict[str, str]]:
    """Return what root's doctor says in a check."""
    found = json.loads(host.run("hkswitch", "doctor", "--json", check=False).stdout)
    return [each for each in found["checks"] if each["check"] == check]


def test_a_group_of_another_host_is_used_from_the_command_line(host: Host, other: Host, allowed: str) -> None:
    group = f"{NAME}-media"
    host.run("systemctl", "start", "hkswitch")
    try:
        unused = host.run("hkswitch", "status").stdout
        assert re.search(rf"^{NAME} +{THERE} +not used: no group is on it$", unused, re.MULTILINE)
        added = host.run("hkswitch", "add", group, "--host", NAME, "--group", "media", "--name", "Films")
        assert added.stdout.splitlines()[-1] == f"{group} is off."
        absent = host.run("hkswitch", "add", "absent", "--host", NAME)
        assert "has no group 'absent'; add it there, or correct `group` here" in absent.stderr
        missing = findings(host, "hosts")
        assert [each["verdict"] for each in missing] == ["fail"]
        assert f"{NAME}: the configuration there has no group absent (absent here)" in missing[0]["finding"]
        host.run("hkswitch", "remove", "absent")
        (fine,) = findings(host, "hosts")
        assert (fine["verdict"], fine["finding"].startswith(f"{NAME}: hkswitch ")) == ("ok", True)

        host.run("chown", "root", f"{FOLDER}/id_ed25519")
        assert f"the daemon cannot read {FOLDER}/id_ed25519" in findings(host, "hosts")[0]["finding"]
        host.run("chown", "hkswitch", f"{FOLDER}/id_ed25519")

        host.run("hkswitch", "start", group)
        assert other.show("nginx.service", "ActiveState") == "active"
        shown = host.run("hkswitch", "status", group).stdout
        assert re.search(rf"^{NAME} +{THERE} +connected for \d+ s +[\d.]+ ms +\d", shown, re.MULTILINE)
        assert re.search(rf"^{group} +Films +{NAME} +on +nginx.service active", shown, re.MULTILINE)
        report = json.loads(host.run("hkswitch", "status", "--json").stdout)
        assert [(each["name"], each["problem"]) for each in report["hosts"]] == [(NAME, "")]
        assert "on nas, `sudo hkswitch logs media` shows the log" in failed(host, "logs", group)
        assert f"serviceswitch: {group} is group 'media' of the host {NAME}" in " ".join(
            host.run("serviceswitch", "status", group, check=False).stderr.split()
        )
        for query in (("media",), ("--bridge", BRIDGE), ("media", "--bridge", BRIDGE)):
            audited = other.run("hkswitch", "audit", *query).stdout
            assert f"allowed for bridge {BRIDGE}: start media" in audited
        assert "allowed for" not in other.run("hkswitch", "audit", "--bridge", "other", check=False).stdout

        refused_until_allowed(host, other, allowed)
        host.run("systemctl", "stop", "hkswitch")
        assert f"it is group 'media' of the host {NAME}, which only the daemon can reach" in failed(
            host, "stop", group
        )
        alone = host.run("hkswitch", "status", check=False).stdout
        assert f"{group}: only the daemon connects to other hosts" in alone
    finally:
        host.run("systemctl", "stop", "hkswitch")
        other.run("systemctl", "stop", "nginx")
        empty_state(host)
        host.run("hkswitch", "remove", group, check=False)


def refused_until_allowed(host: Host, other: Host, allow: str) -> None:
    """Take the right from the bridge, and give it back with the remedies that are printed."""
    group = f"{NAME}-media"
    other.run("hkswitch", "host", "disallow", BRIDGE, "--yes")
    eventually(lambda: host.run("hkswitch", "status", group, check=False).returncode == 69)
    eventually(lambda: "refuses the key" in host.run("hkswitch", "status", check=False).stdout)
    away = host.run("hkswitch", "status", check=False).stdout
    assert away.count("that host refuses the key of this bridge") == 1
    assert f"{group}: the host {NAME} is not connected, see above" in away
    assert f"- host {NAME} has a problem; run `sudo hkswitch host test {NAME}`" in away
    assert f"run `sudo hkswitch host test {NAME}`" in failed(host, "start", group)
    (refused,) = findings(host, "hosts")
    assert (refused["verdict"], "refuses the key" in refused["finding"]) == ("fail", True)
    assert "the command that `sudo hkswitch host list` prints" in refused["advice"]

    other.run("sh", "-c", f"{allow} --yes")  # the daemon tries again after ten minutes, or at once
    assert "run `sudo hkswitch reload`" in host.run("hkswitch", "host", "test", NAME).stdout
    (works,) = findings(host, "hosts")
    assert "a test connection works, but the daemon is not connected" in works["finding"]
    assert "run `sudo hkswitch reload`" in works["advice"]
    host.run("hkswitch", "reload")
    eventually(lambda: host.run("hkswitch", "status", group, check=False).returncode == 0)


def test_a_restored_bridge_has_access_to_hosts_as_before(host: Host, allowed: str) -> None:
    assert allowed
    try:
        host.run("systemctl", "start", "hkswitch")
        host.run("systemctl", "stop", "hkswitch")
        before = hosts_state(host)
        host.run("hkswitch", "backup", "/root/hosts.backup")
        host.run("rm", "-r", "/etc/hkswitch/hosts", str(DROP_IN))
        restored = host.run("hkswitch", "restore", "/root/hosts.backup").stdout
        assert f"keys for other hosts: {NAME}\n" in restored
        host.run("sh", "-c", "rm -r /etc/hkswitch/replaced-*")
        assert hosts_state(host) == before
        host.run("hkswitch", "host", "test", NAME)
    finally:
        host.run("rm", "-f", "/root/hosts.backup")
        host.run("chgrp", "root", FILE)
        empty_state(host)


def hosts_state(host: Host) -> tuple[list[str], tuple[str, str]]:
    """Return what is there for other hosts: files with contents, owners and modes, and the limits."""
    return [line for line in state(host, STATE_HERE) if "/hosts" in line or "=" in line], limits(host)


FAULTS: Final = {
    "mode": Obstacle(
        f"chmod 0666 {AUTHORIZED_KEYS}", f"chmod 0644 {AUTHORIZED_KEYS}", f"{AUTHORIZED_KEYS} has mode 0666"
    ),
    "owner": Obstacle(
        f"chown daemon {SUDOERS}",
        f"chown root {SUDOERS}",
        f"{SUDOERS} is not owned by root; run `sudo chown root",
    ),
    "folder": Obstacle(
        "chmod g+w /etc/hkswitch",
        "chmod g-w /etc/hkswitch",
        f"sshd ignores {AUTHORIZED_KEYS}: other users than root can write /etc/hkswitch; run `sudo chown",
    ),
    "changed": Obstacle(
        f"cp -a {SSHD_DROP_IN} /root; sed -i s/PermitTTY.no/PermitTTY\\ yes/ {SSHD_DROP_IN}",
        f"mv /root/{SSHD_DROP_IN.name} {SSHD_DROP_IN}",
        f"{SSHD_DROP_IN} is not as `hkswitch host allow` writes it; run the command again",
    ),
    "lost": Obstacle(
        f"mv {SUDOERS} /root",
        f"mv /root/{SUDOERS.name} {SUDOERS}",
        f"{SUDOERS} does not exist; run the command",
    ),
    "another key": Obstacle(
        f"cp -a {AUTHORIZED_KEYS} /root; echo 'ssh-ed25519 AAAA x' >>{AUTHORIZED_KEYS}",
        f"mv /root/{AUTHORIZED_KEYS.name} {AUTHORIZED_KEYS}",
        "line 3 is not the key of a bridge; remove it",
    ),
    "locked": Obstacle(
        f"usermod --lock {ACCOUNT}",
        f"usermod --password '*' {ACCOUNT}",
        f"the account {ACCOUNT} is locked; run",
    ),
    "AllowUsers": OBSTACLES["AllowUsers"],
    "no includedir": Obstacle(
        "cp -a /etc/sudoers /root; sed -i /includedir/d /etc/sudoers",
        "mv /root/sudoers /etc/sudoers",
        "cannot start the helper for homelab: sudo: a password is required; /etc/sudoers needs the line",
    ),
    "no server": Obstacle(
        "systemctl stop ssh.socket ssh",
        "systemctl start ssh",
        "no SSH server is running; run `sudo systemctl",
    ),
}


FAULTS_IN_CI: Final = ("owner", "lost", "AllowUsers", "no includedir", "no server")


def test_the_doctor_checks_what_lets_bridges_in(other: Host, allowed: str, exhaustive: bool) -> None:
    assert allowed
    (fine,) = findings(other, "bridges")
    assert (fine["verdict"], fine["finding"]) == ("ok", f"1 bridge allowed: {BRIDGE}")
    (service,) = findings(other, "service")
    assert (service["verdict"], "not needed" in service["finding"]) == ("ok", True)
    (unseen,) = [
        each
        for each in json.loads(other.run("hkswitch", "doctor", "--json", user="nobody", check=False).stdout)[
            "checks"
        ]
        if each["check"] == "bridges"
    ]
    assert (unseen["verdict"], unseen["advice"]) == ("skip", "run `sudo hkswitch doctor`")
    for name in FAULTS if exhaustive else FAULTS_IN_CI:
        fault = FAULTS[name]
        with undone(other, fault.make, fault.undo):
            (found,) = findings(other, "bridges")
            assert found["verdict"] == "fail", name
            assert fault.says in f"{found['finding']}; {found['advice']}", name
    other.run("hkswitch", "host", "disallow", BRIDGE, "--yes")
    assert findings(other, "bridges") == []
