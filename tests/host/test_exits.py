"""Sandbox escapes: a compromised daemon tries to escape through other services.

docs/sandbox.md lists what it can still reach, and why; these tests compare with the tables there.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.host.compromised_daemon import compromised, run_inside
from tests.host.descriptor_passing import RECEIVER, SENDER
from tests.host.fake_daemon import fake_daemon
from tests.host.helper_requests import FILE
from tests.host.installation import STATE, is_hello
from tests.host.machine import ADDRESS, Boot, Host, booted, install
from tests.host.matrix import TRANSPORTS
from tests.host.rootfs import CHECKOUT, RELEASES, WITH_SERVICES, root_folder, wheels_folder
from tests.host.test_install import SERVE, SUDOS

LINGERING: Final = "/var/lib/systemd/linger"
DOCUMENT: Final = (CHECKOUT / "docs" / "sandbox.md").read_text()

BY_SUDO, BY_SOCKET = "by sudo", "by the socket"

SERVICES: Final = ("atd", "avahi-daemon", "cron", "dbus", "polkit", "ssh")
"""The services that an attacker would use."""

LINGER: Final = (
    "busctl call org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager"
    " SetUserLinger ubb $(id -u) 1 0"
)


@pytest.fixture(scope="module", params=RELEASES)
def host(
    request: pytest.FixtureRequest, boot: Boot, tmp_path_factory: pytest.TempPathFactory, staging: str
) -> Iterator[Host]:
    """A host with other services running. `boot` skips the tests where no host can boot."""
    name = request.param
    read_only = {"/src": CHECKOUT, "/wheels": wheels_folder(RELEASES[name], print)}
    log = tmp_path_factory.mktemp("open") / "host.log"
    # IPAddressDeny= loads a BPF program
    options = ("--system-call-filter=bpf", staging)
    with booted(name, root_folder(WITH_SERVICES[name], print), read_only, log, options) as host:
        install(host)
        host.run("systemctl", "start", *SERVICES)
        yield host


@pytest.fixture(scope="module", params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def sandbox(transport: str, host: Host) -> Iterator[str]:
    """A compromised daemon in each of its sandboxes."""
    before = host.read(FILE)
    by_socket = transport == "socket"
    host.write(FILE, f"helper: {'socket' if by_socket else 'sudo'}\ngroups: {{web: {{units: [nginx]}}}}\n")
    with compromised(host, by_socket=by_socket):
        yield BY_SOCKET if by_socket else BY_SUDO
    host.write(FILE, before)


@pytest.fixture(autouse=True)
def no_leftovers(host: Host) -> Iterator[None]:
    """Check that after each attempt, the daemon's user has no processes outside its unit."""
    yield
    assert outside(host) == []
    assert host.run("ls", LINGERING, check=False).stdout == ""


def outside(host: Host) -> list[str]:
    """Return the processes of the daemon's user outside its unit."""
    listed = host.run("ps", "-U", "hkswitch", "-o", "cgroup:256=,args=", check=False).stdout
    return [line for line in listed.splitlines() if "/hkswitch.service" not in line]


# The bus


THE_BUS: Final = "busctl call org.freedesktop.DBus / org.freedesktop.DBus"
CALLS: Final = {
    "linger": LINGER,
    "loginctl": "loginctl enable-linger",
    "names": "busctl list",
    "the bus itself": f"{THE_BUS} ListNames",
    "a name of its own": f"{THE_BUS} RequestName su org.example 0",
    "listen": "timeout 5 busctl monitor",
    "a unit": "systemctl show --property=Version",
    "start a unit": "systemctl start nginx",
    "run a unit": "systemd-run --wait true",
    "polkit": "pkcheck --action-id org.freedesktop.login1.set-self-linger --process $$",
    "all that polkit allows": "pkaction",
    "avahi": "busctl call org.freedesktop.Avahi / org.freedesktop.Avahi.Server GetVersionString",
    "the user manager": "systemctl --user is-system-running",
}


@pytest.mark.parametrize("call", CALLS)
def test_the_bus_answers_no_call(host: Host, sandbox: str, call: str) -> None:
    assert run_inside(host, CALLS[call]).code != 0
    assert host.show("nginx.service", "ActiveState") == "inactive"


@pytest.mark.parametrize("call", ["linger", "names", "the bus itself", "polkit", "avahi"])
def test_the_bus_answers_the_same_calls_of_another_user(host: Host, call: str) -> None:
    """Without this, the test above would prove nothing."""
    host.write("/opt/call", CALLS[call])
    try:
        host.run("systemd-run", "--quiet", "--wait", "--pipe", "--property=User=games", "sh", "/opt/call")
    finally:
        host.run("rm", "-f", f"{LINGERING}/games")
        host.run("systemctl", "stop", f"user@{host.run('id', '-u', 'games').stdout.strip()}.service")


def test_the_bus_does_not_answer_the_user_outside_the_sandbox_either(host: Host) -> None:
    refused = host.run("busctl", "list", user="hkswitch", check=False)
    assert (refused.returncode, refused.stdout) == (1, "")


def test_the_user_has_no_home_and_no_shell(host: Host) -> None:
    account = host.run("getent", "passwd", "hkswitch").stdout.strip().split(":")
    assert account[5:] == ["/nonexistent", "/usr/sbin/nologin"]
    assert host.run("test", "-e", "/nonexistent", check=False).returncode == 1


# Other services


def test_ssh_accepts_no_key_from_its_folder(host: Host, sandbox: str) -> None:
    tried = run_inside(
        host,
        f"""set -e
        mkdir -p {STATE}/.ssh
        ssh-keygen -q -t ed25519 -N '' -f {STATE}/.ssh/id
        cp {STATE}/.ssh/id.pub {STATE}/.ssh/authorized_keys
        exec ssh -F none -i {STATE}/.ssh/id -o BatchMode=yes -o StrictHostKeyChecking=no \
            -o UserKnownHostsFile=/dev/null -N hkswitch@{ADDRESS}""",
    )
    assert tried.code == 255
    assert "Permission denied" in tried.said


JOBS: Final = {
    "cron": "echo '* * * * * /bin/true' | crontab -",
    "at": "echo /bin/true | at now",
    "the spool of cron": "echo '* * * * * /bin/true' >/var/spool/cron/crontabs/hkswitch",
    "the table of cron": "echo '* * * * * hkswitch /bin/true' >/etc/cron.d/it",
    "the spool of at": "touch /var/spool/cron/atjobs/a00001",
}


@pytest.mark.parametrize("job", JOBS)
def test_it_can_schedule_no_job_of_another_service(host: Host, sandbox: str, job: str) -> None:
    assert run_inside(host, JOBS[job]).code != 0
    left = host.run(
        "sh", "-c", "ls -A /var/spool/cron/crontabs; find /var/spool/cron/atjobs /etc/cron.d -user hkswitch"
    )
    assert left.stdout == ""


# Reachable sockets, services and programs


REACHABLE: Final = r"""
import os, socket, stat

def answers(address):
    for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET:
        with socket.socket(socket.AF_UNIX, kind) as tried:
            tried.settimeout(1)
            try:
                tried.connect(address)
            except OSError:
                continue
            return True
    return False

PASSED_OVER = "/proc", "/sys", "/src", "/wheels"

def files():
    for folder, folders, names in os.walk("/"):
        folders[:] = [name for name in folders if os.path.join(folder, name) not in PASSED_OVER]
        for path in (os.path.join(folder, name) for name in names):
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                yield path

for path in files():
    if answers(path):
        print(path)
for line in open("/proc/self/net/unix"):
    name = line.split()[7:]
    if name and name[0].startswith("@") and answers("\0" + name[0][1:]):
        print(name[0])
"""


def table(heading: str, column: str) -> set[str]:
    """Return the first cell of each table row in the document with "yes" in this column."""
    rows = [line.split("|")[1:-1] for line in section(heading).splitlines() if line.startswith("|")]
    names = [cell.strip() for cell in rows[0]]
    chosen = (row for row in rows[2:] if row[names.index(column)].strip() == "yes")
    return {path for row in chosen for path in re.findall("`(.*?)`", row[0])}


def section(heading: str) -> str:
    return DOCUMENT.partition(f"\n### {heading}\n")[2].partition("\n#")[0]


def test_it_can_connect_only_to_documented_sockets(host: Host, sandbox: str) -> None:
    host.write("/opt/compromised/reachable.py", REACHABLE)
    reached = run_inside(host, "python3 /opt/compromised/reachable.py")
    assert reached.code == 0, reached.said
    found = {re.sub("/compromised$", "/control", path) for path in reached.said.split()}
    assert found == table("Sockets", sandbox)


LOCAL: Final = "python3 -c \"import socket; socket.create_connection(('127.0.0.1', 22), timeout=2)\""


def test_with_the_socket_it_cannot_reach_localhost(host: Host, sandbox: str) -> None:
    assert (run_inside(host, LOCAL).code == 0) is (sandbox == BY_SUDO)


def test_it_can_start_only_documented_setuid_programs(host: Host, sandbox: str) -> None:
    found = run_inside(host, "find / -xdev -type f -perm /6000 -executable 2>/dev/null").said.split()
    explained = re.findall(r"^\| `(.*?)`", section("Setuid programs"), re.MULTILINE)
    assert sorted({Path(path).name for path in found}) == explained
    flags = run_inside(host, "grep NoNewPrivs /proc/self/status").said.split()
    assert flags == ["NoNewPrivs:", "0" if sandbox == BY_SUDO else "1"]


GAINS: Final = {
    "su": "su -c id",
    "su to itself": "su -s /bin/sh -c id hkswitch",
    "sudo": "sudo -n id",
    "sudo to itself": "sudo -n -u hkswitch id",
    "newgrp": "newgrp root",
    "gpasswd": "gpasswd -a hkswitch sudo",
    "chsh": "chsh -s /bin/sh",
    "chfn": "chfn -r 1",
    "passwd": "passwd",
    "mount": "mount --bind /etc /tmp",
    "umount": "umount /run/systemd",
    "dbus-daemon-launch-helper": "/usr/lib/dbus-1.0/dbus-daemon-launch-helper org.freedesktop.PolicyKit1",
    "polkit-agent-helper-1": "echo secret | /usr/lib/polkit-1/polkit-agent-helper-1 root",
    "ssh-keysign": "/usr/lib/openssh/ssh-keysign",
}


@pytest.mark.parametrize("program", GAINS)
def test_it_gains_nothing_from_any_setuid_program(host: Host, sandbox: str, program: str) -> None:
    tried = run_inside(host, f"setsid {GAINS[program]}")
    assert tried.code != 0
    assert "uid=" not in tried.said


# Setuid programs of its own


MOUNT: Final = "var-lib-hkswitch.mount"
OWN_FOLDERS: Final = (STATE, "/run/hkswitch", "/tmp", "/var/tmp")
OWN: Final = "its-own-id"
OWN_BIT: Final = "chmod 0755 {0}; install -m 0755 /usr/bin/id {0}/" + OWN + " && chmod 6755 {0}/" + OWN

RECEIVE: Final = f"""{RECEIVER}
_, folders, _, _ = socket.recv_fds(receiver, 1, 1)
os.chdir(folders[0])
try:
    subprocess.run(["./its-own-id"])
except OSError as error:
    print(error.strerror)
"""
SEND: Final = f"""{SENDER}
socket.send_fds(sender, [b"x"], [os.open(sys.argv[1], os.O_PATH)])
"""


@pytest.fixture(params=OWN_FOLDERS)
def own_program(request: pytest.FixtureRequest, host: Host, sandbox: str) -> Iterator[str]:
    """A folder of the daemon, in which it has tried to create a setuid program."""
    made = run_inside(host, OWN_BIT.format(request.param))
    assert (made.code == 0) is (host.release == "bookworm" and sandbox == BY_SUDO), made.said
    for path in own_programs(host):
        host.run("chmod", "6755", path)  # as if that had worked
    yield request.param
    run_inside(host, f"rm {request.param}/{OWN}")


def own_programs(host: Host) -> list[str]:
    return host.run("find", *OWN_FOLDERS, "-name", OWN).stdout.split()


def as_another(host: Host, path: str) -> str:
    """Run id(1), which was made setuid, as another user."""
    return host.run("sh", "-c", f"{path} 2>&1", user="games", check=False).stdout


def test_no_other_user_can_become_it_by_its_own_setuid_program(host: Host, own_program: str) -> None:
    if own_program in OWN_FOLDERS[:2]:
        assert own_programs(host) == [f"{own_program}/{OWN}"]
    for path in own_programs(host):
        assert "Permission denied" in as_another(host, path) or "hkswitch" not in as_another(host, path)


def test_no_other_user_can_become_it_by_a_folder_that_it_passes_on(host: Host, own_program: str) -> None:
    host.write("/opt/compromised/send.py", SEND)
    with host.popen("python3", "-c", RECEIVE, user="games") as receiver:
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "listening\n"
        assert run_inside(host, f"python3 /opt/compromised/send.py {own_program}").code == 0
        assert receiver.stdout.read() == "Permission denied\n"


@pytest.mark.parametrize("own_program", [STATE], indirect=True)
def test_only_the_mount_prevents_its_setuid_programs(host: Host, own_program: str) -> None:
    """Without this, the tests above would prove nothing."""
    host.run("umount", "--lazy", STATE)
    try:
        assert "euid" in (said := as_another(host, f"{STATE}/{OWN}"))
        assert "(hkswitch)" in said
    finally:
        host.run("systemctl", "start", MOUNT)
    assert "Permission denied" in as_another(host, f"{STATE}/{OWN}")


def test_no_program_here_has_file_capabilities(host: Host, sandbox: str) -> None:
    """The document covers such programs of other machines by their capabilities."""
    assert run_inside(host, "getcap -r /usr /opt /etc /srv /var 2>/dev/null").said == ""


RAISED: Final = "/opt/raised"
RAISE: Final = f"""
mkdir {RAISED}
for capability; do
    cp /usr/bin/grep "{RAISED}/$capability"
    setcap "$capability" "{RAISED}/$capability"
done
"""
HELD: Final = f"cd {RAISED}; for name in *; do echo $name $(./$name CapPrm /proc/self/status 2>&1); done"


def outcome(printed: str) -> str:
    """Return the document's word for the capability sets that a program printed."""
    if "Operation not permitted" in printed:
        return "not executed"
    return "executed without it" if int(printed.rsplit(maxsplit=1)[-1], 16) == 0 else "executed with it"


def capabilities(column: str) -> dict[str, str]:
    """Return a column of the document for each file capability."""
    names, _, *rows = (line.split(" | ") for line in section("File capabilities").splitlines() if "|" in line)
    return {
        capability: row[names.index(column)] for row in rows for capability in re.findall("`(.*?)`", row[0])
    }


def test_a_file_capability_gives_it_only_what_is_documented(host: Host, sandbox: str) -> None:
    explained = capabilities(sandbox)
    try:
        host.run("sh", "-ec", RAISE, "sh", *explained)
        said = dict(line.split(" ", 1) for line in run_inside(host, HELD).said.splitlines() if line)
        shown = host.run("sh", "-c", HELD, user="hkswitch").stdout
    finally:
        host.run("rm", "-r", RAISED)
    assert {name: outcome(said[name]) for name in explained} == explained
    # Outside the sandbox each runs with its capability, or the test would prove nothing.
    outside = dict(line.split(" ", 1) for line in shown.splitlines())
    assert {outcome(outside[name]) for name in explained} == {"executed with it"}


WRITABLE: Final = r"""
exec 2>/dev/null
find / \( -path /proc -o -path /sys -o -path /src -o -path /wheels -o -path /dev \) -prune -o \
    -type d -writable -print -o \
    -type f -writable ! -path '/var/lib/hkswitch/*' ! -path /run/systemd/notify ! -path '/run/*.sock' -print
"""


def test_it_can_write_only_its_own_files_which_no_other_user_runs(host: Host, sandbox: str) -> None:
    found = run_inside(host, WRITABLE).said.split()
    assert {path for path in found if not path.startswith(f"{STATE}/")} == {
        *(STATE, "/run/hkswitch"),
        *("/tmp", "/var/tmp"),
    }


# sudo, although root's config selects the socket


@pytest.fixture
def helper_key(request: pytest.FixtureRequest, host: Host) -> Iterator[str]:
    before = host.read(FILE)
    host.write(FILE, f"helper: {request.param}\ngroups: {{web: {{units: [nginx]}}}}\n")
    yield request.param
    host.write(FILE, before)


@pytest.mark.parametrize(
    "helper_key", ["sudo", "socket"], indirect=True, ids=["it names sudo", "it names the socket"]
)
def test_a_pipe_by_sudo_is_served_only_if_roots_config_selects_sudo(host: Host, helper_key: str) -> None:
    for sudo in SUDOS[host.release]:
        # not from the sandbox, where sudo does not work at all
        asked = ("sh", "-c", 'sleep 1 | "$0" "$@"', sudo, "-n", *SERVE)
        with fake_daemon(host):
            ended = host.run(*asked, user="hkswitch", check=False)
        if helper_key == "sudo":
            assert (ended.returncode, is_hello(ended.stdout)) == (0, True)
        else:
            assert (ended.returncode, ended.stdout) == (77, "")
            assert "`helper: socket` is set: the user hkswitch cannot use sudo" in ended.stderr


def test_the_refusal_is_audited(host: Host) -> None:
    listed = host.journalctl("--output=json", "SYSLOG_IDENTIFIER=serviceswitch", "_UID=0").splitlines()
    denied = [line for line in map(json.loads, listed) if line.get("HKSWITCH_ACTION") == "serve"]
    assert {line["HKSWITCH_DECISION"] for line in denied} == {"denied"}
    assert {line["HKSWITCH_BY_UID"] for line in denied} == {host.run("id", "-u", "hkswitch").stdout.strip()}
