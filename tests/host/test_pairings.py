"""Managing pairings from the command line on a real host: permissions, with and without the daemon."""

import json
from collections.abc import Iterator

import pytest

from hkswitch.hap.state_file import BACKUP_NAME, FILE_NAME
from hkswitch.model.errors import Exit
from tests.host.conftest import PORT
from tests.host.machine import Host, eventually, eventually_async
from tests.support.controller import Controller

STATE = "/var/lib/hkswitch"
MEMBER = "member"


@pytest.fixture(scope="module")
def member(daemon: Host) -> Iterator[str]:
    """A user in the supplementary group hkswitch."""
    daemon.run("useradd", "--groups=hkswitch", MEMBER)
    yield MEMBER
    daemon.run("userdel", MEMBER)


async def paired_anew(daemon: Host) -> Controller:
    code = json.loads(daemon.run("hkswitch", "pair", "--json").stdout)["setup_code"]
    return await Controller.pair(daemon.address, PORT, code)


def listed(daemon: Host, user: str | None = None) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(
        daemon.run("hkswitch", "pair", "--list", "--json", user=user).stdout
    )
    return found


async def test_any_user_may_list_pairings(daemon: Host, in_network: None) -> None:
    assert daemon.run("hkswitch", "pair", "--list", user="nobody").stdout == "No controller is paired.\n"
    controller = await paired_anew(daemon)
    [seen] = listed(daemon, user="nobody")
    assert (seen["admin"], seen["connections"]) == (True, 1)
    assert seen["id"] == str(controller.pairing.pairing_data["iOSPairingId"]).upper()
    await controller.close()
    daemon.run("hkswitch", "unpair", "--all")


@pytest.mark.parametrize(
    "command",
    [
        ("pair",),
        ("pair", "--json"),
        ("pair", "--png", "-"),
        ("pair", "--reset-attempts"),
        ("unpair", "--all"),
    ],
    ids=" ".join,
)
async def test_other_users_cannot_see_the_code_or_change_anything(
    daemon: Host, in_network: None, command: tuple[str, ...]
) -> None:
    controller = await paired_anew(daemon)
    done = daemon.run("hkswitch", *command, user="nobody", check=False)
    assert (done.returncode, done.stdout) == (Exit.DENIED, "")
    assert done.stderr.count("\n") == 1
    assert len(listed(daemon)) == 1
    await controller.close()
    daemon.run("hkswitch", "unpair", "--all")


@pytest.mark.parametrize("user", [None, "hkswitch", MEMBER], ids=["root", "hkswitch", "member"])
async def test_permitted_users_can_unpair_and_the_controller_is_disconnected(
    daemon: Host, in_network: None, member: str, user: str | None
) -> None:
    controller = await paired_anew(daemon)
    eventually(lambda: daemon.show("hkswitch.service", "StatusText").endswith(", paired"))
    is_closed = controller.closing()
    said = daemon.run("hkswitch", "unpair", user=user).stdout
    assert "No controller is paired now; run `sudo hkswitch pair` to show the setup code again." in said
    await eventually_async(is_closed)
    unpaired = "not paired: run `sudo hkswitch pair`"
    eventually(lambda: daemon.show("hkswitch.service", "StatusText").endswith(unpaired))
    assert "Setup code: " in daemon.run("hkswitch", "pair", user=user).stdout
    await controller.close()


async def test_without_a_daemon_root_unpairs_in_the_state_folder_and_the_daemon_still_reads_it(
    daemon: Host, in_network: None
) -> None:
    controller = await paired_anew(daemon)
    await controller.close()
    daemon.run("systemctl", "stop", "hkswitch.service")
    assert len(listed(daemon)) == 1
    daemon.run("hkswitch", "unpair")
    owners = daemon.run("sh", "-c", f"stat -c '%U:%G %a' {STATE}/*").stdout.splitlines()
    assert set(owners) == {"hkswitch:hkswitch 600"}
    daemon.run("systemctl", "start", "hkswitch.service")
    assert listed(daemon) == []
    again = await paired_anew(daemon)
    await again.close()
    daemon.run("hkswitch", "unpair", "--all")


def test_two_daemons_cannot_have_one_state_folder(daemon: Host) -> None:
    done = daemon.run("hkswitch", "run", user="hkswitch", check=False)
    pid = daemon.show("hkswitch.service", "MainPID")
    assert done.returncode == Exit.UNAVAILABLE
    assert f"in use by another hkswitch (process {pid})" in done.stderr
    for user in (None, "nobody"):
        refused = daemon.run("hkswitch", "run", user=user, check=False)
        assert (refused.returncode, refused.stdout) == (Exit.DENIED, "")
        assert "; run `sudo systemctl start hkswitch`, or pass another --state-dir\n" in refused.stderr
    assert daemon.show("hkswitch.service", "ActiveState") == "active"


def test_root_does_not_follow_a_link_that_the_daemons_user_planted(daemon: Host) -> None:
    daemon.run("systemctl", "stop", "hkswitch.service")
    daemon.write("/root/secret", "secret\n", mode=0o600)
    for name in (FILE_NAME, BACKUP_NAME):
        daemon.run("mv", f"{STATE}/{name}", f"{STATE}/kept-{name}")
        daemon.run("ln", "-s", "/root/secret", f"{STATE}/{name}", user="hkswitch")
    done = daemon.run("hkswitch", "unpair", "--all", check=False)
    assert done.returncode == Exit.DAMAGED
    assert daemon.read("/root/secret") == "secret\n"
    for name in (FILE_NAME, BACKUP_NAME):
        daemon.run("mv", f"{STATE}/kept-{name}", f"{STATE}/{name}")
    daemon.run("rm", "/root/secret")
    daemon.run("systemctl", "start", "hkswitch.service")


def test_a_busy_port_is_reported_with_the_process_that_uses_it(daemon: Host) -> None:
    daemon.run("systemctl", "stop", "hkswitch.service")
    taker = f"import signal, socket; s = socket.create_server(('', {PORT})); signal.pause()"
    daemon.run("systemd-run", "--unit=taker", "--collect", "python3", "-c", taker)
    eventually(lambda: f":{PORT}" in daemon.run("ss", "-lnt").stdout)
    before = len(daemon.journal("hkswitch.service"))
    daemon.run("systemctl", "start", "--no-block", "hkswitch.service")
    sentence = (
        f"cannot serve HomeKit on {daemon.address}, port {PORT}: "
        "a program of user root uses it; stop that program, "
        "or set another bridge.port with `sudo hkswitch edit`"
    )
    eventually(lambda: sentence in daemon.journal("hkswitch.service")[before:])
    assert "Traceback" not in daemon.journal("hkswitch.service")[before:]
    daemon.run("systemctl", "stop", "taker.service")
    eventually(lambda: daemon.show("hkswitch.service", "StatusText").startswith("Serving"))


SUDOER = "sudoer"
AS_SUDOER = f"""\
useradd --create-home {SUDOER}
echo '{SUDOER} ALL=(root) NOPASSWD: /usr/bin/hkswitch' >/etc/sudoers.d/{SUDOER}
install -m 600 /dev/null /etc/roots
"""


@pytest.fixture
def sudoer(daemon: Host) -> Iterator[str]:
    """A user who may run hkswitch as root, and a file of root's."""
    daemon.run("sh", "-ec", AS_SUDOER)
    yield SUDOER
    daemon.run("sh", "-ec", f"rm -f /etc/roots /etc/sudoers.d/{SUDOER}; userdel --remove {SUDOER}")


def test_a_picture_belongs_to_the_user_of_sudo_and_no_other_file_ever_does(daemon: Host, sudoer: str) -> None:
    home = f"/home/{sudoer}"
    said = daemon.run("sudo", "hkswitch", "pair", "--png", f"{home}/code.png", user=sudoer).stdout
    assert said == f"{home}/code.png contains the setup code; only {sudoer} can read it.\n"
    assert (
        daemon.run("grep", "--text", "--only-matching", "PNG", f"{home}/code.png", user=sudoer).stdout
        == "PNG\n"
    )
    daemon.run("ln", "-s", "/etc", f"{home}/way", user=sudoer)
    daemon.run("sudo", "hkswitch", "pair", "--png", f"{home}/way/roots", user=sudoer)
    assert daemon.run("stat", "--format=%U %a", "/etc/roots").stdout == "root 600\n"
