"""The configurations that the helper trusts: real files and the real program, as root."""

import json
from collections.abc import Iterator
from typing import Final

import pytest

from tests.host.helper_requests import request_for_config
from tests.host.machine import Host

pytestmark = pytest.mark.any_release

FOLDER = "/etc/hkswitch"
FILE = f"{FOLDER}/config.yaml"
USERS: Final = "/var/tmp/users"
"""A folder of the user hkswitch, with a config that the helper must never trust."""

PUT_BACK: Final = f"""
mountpoint --quiet {FILE} && umount {FILE}
mountpoint --quiet {FOLDER} && umount {FOLDER}
set -e
rm -rf {FOLDER} {USERS} /root/real /root/real.yaml /root/second-name
mv /root/hkswitch.before {FOLDER}
chmod 0755 /etc
chown root /etc
"""

SET_ACL: Final = """
import os, pwd, struct, sys

USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
ANYBODY = 0xFFFFFFFF
path, tag, permissions, mask = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
who = pwd.getpwnam("hkswitch").pw_uid
entries = [(USER_OBJ, 7, ANYBODY), (GROUP_OBJ, 5, ANYBODY), (MASK, mask, ANYBODY), (OTHER, 5, ANYBODY)]
entries.append((USER if tag == "user" else GROUP, permissions, who))
value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in sorted(entries))
os.setxattr(path, "system.posix_acl_access", value)
"""
"""Replaces setfacl(1), which the hosts lack: adds an ACL entry for the user or the group hkswitch."""


@pytest.fixture(autouse=True)
def config_is_put_back(host: Host) -> Iterator[None]:
    host.run("cp", "-a", FOLDER, "/root/hkswitch.before")
    host.write(f"{USERS}/config.yaml", "groups: {web: {units: [httpd]}}\n")
    host.run("chown", "-R", "hkswitch:", USERS)
    yield
    host.run("sh", "-c", PUT_BACK)


def status_of_web(host: Host) -> tuple[int, str]:
    done = host.run("/usr/sbin/serviceswitch", "status", "web", check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "change",
    [
        "true",
        f"chmod 0600 {FILE}",
        f"chmod 0444 {FILE}",
        f"chmod 0700 {FOLDER}",
        f"ln {FILE} /root/second-name",
        f"mount -t tmpfs -o mode=0755 none {FOLDER}; cp /root/hkswitch.before/config.yaml {FILE}",
        f"mount --bind /root/hkswitch.before/config.yaml {FILE}",
    ],
)
def test_a_config_that_only_root_can_write_is_trusted(host: Host, change: str) -> None:
    host.run("sh", "-c", change)
    code, errors = status_of_web(host)
    assert (code, errors) == (3, "")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            f"chmod 0666 {FILE}",
            f"{FILE} is not trusted: other users can write it (mode 0666); run `sudo chmod go-w {FILE}`",
        ),
        (
            f"chmod 0664 {FILE}",
            f"{FILE} is not trusted: other users can write it (mode 0664); run `sudo chmod go-w {FILE}`",
        ),
        (f"chown hkswitch {FILE}", f"{FILE} is not trusted: its owner is uid"),
        (f"chmod 0777 {FOLDER}", f"{FOLDER} is not trusted: other users can write it (mode 0777)"),
        (f"chmod 1777 {FOLDER}", f"{FOLDER} is not trusted: other users can write it (mode 1777)"),
        (f"chown hkswitch {FOLDER}", f"{FOLDER} is not trusted: its owner is uid"),
        ("chmod 0775 /etc", "/etc is not trusted: other users can write it (mode 0775)"),
        ("chown hkswitch /etc", "/etc is not trusted: its owner is uid"),
        (
            f"mv {FILE} /root/real.yaml; ln -s /root/real.yaml {FILE}",
            f"{FILE} is not trusted: it is a symbolic link",
        ),
        (
            f"mv {FOLDER} /root/real; ln -s /root/real {FOLDER}",
            f"{FOLDER} is not trusted: it is a symbolic link",
        ),
        (f"rm {FILE}; mkfifo {FILE}", f"{FILE} is not trusted: it is not a file"),
        (f"rm {FILE}; mkdir {FILE}", f"{FILE} is not trusted: it is not a file"),
        (
            f"mv {FOLDER} /root/real; ln -s {USERS} {FOLDER}",
            f"{FOLDER} is not trusted: it is a symbolic link",
        ),
        (f"rm {FILE}; ln -s {USERS}/config.yaml {FILE}", f"{FILE} is not trusted: it is a symbolic link"),
        (f"rm {FILE}; ln -s nowhere {FILE}", f"{FILE} is not trusted: it is a symbolic link"),
        (f"rm {FILE}; ln -s config.yaml {FILE}", f"{FILE} is not trusted: it is a symbolic link"),
        (f"ln -f {USERS}/config.yaml {FILE}", f"{FILE} is not trusted: its owner is uid"),
        (f"mount --bind {USERS} {FOLDER}", f"{FOLDER} is not trusted: its owner is uid"),
        (f"mount --bind {USERS}/config.yaml {FILE}", f"{FILE} is not trusted: its owner is uid"),
        (
            f"mount -t tmpfs -o mode=1777 none {FOLDER}; cp /root/hkswitch.before/config.yaml {FILE}",
            f"{FOLDER} is not trusted: other users can write it (mode 1777)",
        ),
        (f"mount --bind /dev/zero {FILE}", f"{FILE} is not trusted: it is not a file"),
        (f"mount --bind /dev/tty {FILE}", f"{FILE} is not trusted: "),
        (f"rm {FILE}; mkfifo -m 0600 {FILE}", f"{FILE} is not trusted: it is not a file"),
        (
            f"rm {FILE}; python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('{FILE}')\"",
            f"{FILE} is not trusted: ",
        ),
        (f"truncate --size=2T {FILE}", f"{FILE} is not trusted: it is larger than 1048576 bytes"),
        (f"truncate --size=2M {FILE}", f"{FILE} is not trusted: it is larger than 1048576 bytes"),
    ],
)
def test_a_config_that_others_could_have_written_is_denied(host: Host, change: str, sentence: str) -> None:
    host.run("sh", "-c", change)
    code, errors = status_of_web(host)
    assert (code, errors.count("\n")) == (77, 1)
    assert errors.startswith(f"serviceswitch: {sentence}")


@pytest.mark.parametrize("path", [FILE, FOLDER, "/etc"])
@pytest.mark.parametrize("tag", ["user", "group"])
def test_an_acl_that_lets_others_write_is_denied(host: Host, path: str, tag: str) -> None:
    host.run("python3", "-c", SET_ACL, path, tag, "7", "7")
    assert host.run("test", "-w", path, user="hkswitch", check=False).returncode == 0
    code, errors = status_of_web(host)
    host.run("python3", "-c", f"import os; os.removexattr({path!r}, 'system.posix_acl_access')")
    assert code == 77
    assert errors.startswith(f"serviceswitch: {path} is not trusted: other users can write it")


@pytest.mark.parametrize(("permissions", "mask"), [("5", "5"), ("7", "5")], ids=["reads", "masked"])
def test_an_acl_without_write_permission_is_trusted(host: Host, permissions: str, mask: str) -> None:
    host.run("python3", "-c", SET_ACL, FILE, "user", permissions, mask)
    assert host.run("test", "-w", FILE, user="hkswitch", check=False).returncode == 1
    assert status_of_web(host) == (3, "")


def test_another_name_in_a_users_folder_changes_nothing(host: Host) -> None:
    """fs.protected_hardlinks keeps users from creating a hard link; an existing one is still root's file."""
    name = f"{USERS}/second-name"
    assert "not permitted" in host.run("ln", FILE, name, user="hkswitch", check=False).stderr
    host.run("ln", FILE, name)
    assert host.run("sh", "-c", f"echo >>{name}", user="hkswitch", check=False).returncode != 0
    assert status_of_web(host) == (3, "")


RACE: Final = """
import json, os, subprocess, sys

FOLDER, USERS, AWAY = "/etc/hkswitch", "/var/tmp/users", "/root/real"
FILE, TRUSTED, NEW = FOLDER + "/config.yaml", "/root/real.yaml", FOLDER + "/new"
REQUEST = sys.argv[2].encode()

def swap_names():
    for source in (USERS + "/config.yaml", TRUSTED):
        os.link(source, NEW)
        os.rename(NEW, FILE)

def swap_links():
    os.symlink(USERS + "/config.yaml", NEW)
    os.rename(NEW, FILE)
    os.link(TRUSTED, NEW)
    os.rename(NEW, FILE)

def swap_folders():
    os.rename(FOLDER, AWAY)
    os.symlink(USERS, FOLDER)
    os.unlink(FOLDER)
    os.rename(AWAY, FOLDER)

def swap_owners():
    os.chown(FILE, 1, 1)
    os.chown(FILE, 0, 0)

os.link(FILE, TRUSTED)
helper = subprocess.Popen(("/usr/sbin/serviceswitch", "serve"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
helper.stdout.readline()
swapping = os.fork()
while swapping == 0:
    globals()[sys.argv[1]]()
reasons = set()
for _ in range(3000):
    helper.stdin.write(REQUEST)
    helper.stdin.flush()
    reply = json.loads(helper.stdout.readline())
    reasons.add(reply.get("reason", reply["type"]))
os.kill(swapping, 9)
os.waitpid(swapping, 0)
helper.stdin.close()
print(json.dumps([sorted(reasons), helper.wait()]))
"""


@pytest.mark.parametrize(
    ("swap", "refusal"),
    [
        ("swap_names", f"denied: {FILE} is not trusted: its owner is uid"),
        ("swap_links", f"denied: {FILE} is not trusted: it is a symbolic link"),
        ("swap_folders", f"denied: {FOLDER} is not trusted: it is a symbolic link"),
        ("swap_owners", f"denied: {FILE} is not trusted: its owner is uid"),
    ],
)
def test_a_file_swapped_between_check_and_use_is_never_trusted(host: Host, swap: str, refusal: str) -> None:
    theirs = "groups: {theirs: {units: [httpd]}}\n"
    host.write(f"{USERS}/config.yaml", theirs)
    host.run("chown", "hkswitch:", f"{USERS}/config.yaml")
    start = request_for_config(
        theirs, 1, "start", "theirs"
    )  # it would be executed if this config were trusted
    reasons, code = json.loads(host.run("python3", "-c", RACE, swap, start).stdout)
    assert code == 0
    assert "denied: there is no group 'theirs' in the configuration" in reasons
    assert [reason for reason in reasons if reason.startswith(refusal)] != []
    known = ("denied: there is no group 'theirs'", "denied: /etc/hkswitch")
    assert [reason for reason in reasons if not reason.startswith(known)] == []


def test_an_empty_config_is_reported(host: Host) -> None:
    host.write(FILE, "")
    code, errors = status_of_web(host)
    assert (code, errors.count("\n")) == (78, 1)
    assert errors.startswith(f"serviceswitch: {FILE}:1:1: the key 'groups' is missing")


def test_a_missing_config_is_reported(host: Host) -> None:
    host.run("rm", FILE)
    assert status_of_web(host) == (
        78,
        f"serviceswitch: {FILE} does not exist; run `sudo hkswitch doctor`\n",
    )


@pytest.mark.parametrize(
    "environment",
    [
        "PYTHONPATH=/tmp/evil",
        "PYTHONHOME=/tmp/evil",
        "PYTHONSTARTUP=/tmp/evil/hkswitch.py",
        "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/tmp/evil/bus",
        "PATH=/tmp/evil",
    ],
)
def test_the_environment_changes_nothing(host: Host, environment: str) -> None:
    host.run("mkdir", "-p", "/tmp/evil")
    host.write("/tmp/evil/hkswitch.py", "print('evil'); raise SystemExit(99)")
    done = host.run(
        "env", "--chdir=/tmp/evil", environment, "/usr/sbin/serviceswitch", "status", "web", check=False
    )
    host.run("rm", "-rf", "/tmp/evil")
    assert (done.returncode, done.stderr) == (3, "")


def test_only_root_is_served(host: Host) -> None:
    done = host.run("/usr/sbin/serviceswitch", "status", "web", user="hkswitch", check=False)
    assert (done.returncode, done.stderr) == (
        77,
        "serviceswitch: permission denied: only root may do this; use sudo\n",
    )
