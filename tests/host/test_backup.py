"""docs/moving.md, "Move to another machine", step by step on a host that is wiped in between.

The paired controller goes on, as on a machine that replaces the first one at its address.
"""

import json
import re
from collections.abc import Iterator
from typing import Final

import pytest

from hkswitch.model.errors import Exit
from tests.host.conftest import PORT
from tests.host.installation import STATE, empty_state
from tests.host.machine import ADDRESS, Host, eventually_async
from tests.host.rootfs import CHECKOUT
from tests.support.controller import Controller
from tests.support.mdns import twin

CONFIG: Final = "/etc/hkswitch/config.yaml"
HERE: Final = "/srv/moving"
PURGE: Final = f"rm -rf /etc/hkswitch/replaced-* /root/hkswitch.backup /root/state {HERE}"


@pytest.fixture(autouse=True)
def no_copies_stay(daemon: Host) -> Iterator[None]:
    daemon.run("mkdir", HERE)
    yield
    daemon.run("systemctl", "disable", "hkswitch.service")
    daemon.run("sh", "-c", PURGE)


def chapter(title: str) -> str:
    text = (CHECKOUT / "docs" / "moving.md").read_text()
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def commands(text: str) -> list[str]:
    """Return the commands in a text; there is no terminal for the one that asks."""
    found = re.findall(r"^ *\$ (.+)$", text, re.MULTILINE)
    return [f"{each} --yes" if each.endswith(" reset") else each for each in found]


def steps() -> dict[int, list[str]]:
    """Return the commands of the chapter about a move by the numbers of their steps."""
    found = re.split(r"^(\d+)\. ", chapter("Move to another machine"), flags=re.MULTILINE)
    return {int(number): commands(step) for number, step in zip(found[1::2], found[2::2], strict=True)}


def accessory(host: Host) -> dict[str, object]:
    """Return the part of the bridge's state that is HAP-python's."""
    found: dict[str, object] = json.loads(host.read(f"{STATE}/bridge.json"))["accessory"]
    return found


async def the_old_machine_is_started_again(daemon: Host) -> None:
    """Announce the bridge from another machine, which adds a number to its name: the status tells."""

    def told() -> str:
        return str(json.loads(daemon.run("hkswitch", "status", "--json").stdout)["bridge"]["identity"])

    assert told() == ""
    async with twin(str(accessory(daemon)["mac"]), "Home 2", ADDRESS):
        await eventually_async(told)
        assert "stop hkswitch on that machine, and prevent that it starts again" in told()
    await eventually_async(lambda: told() == "")


def wipe(host: Host) -> None:
    """Make the host one with a new installation, and the copy of the backup a user's."""
    empty_state(host)
    host.write(CONFIG, "groups: {example: {units: [example]}}\n")
    host.run("chown", "--recursive", "nobody:", HERE)


async def test_who_follows_the_page_keeps_the_pairing(
    daemon: Host, in_network: None, stub_units: tuple[str, ...]
) -> None:
    def follow(number: int) -> list[str]:
        return [daemon.run("sh", "-c", f"cd {HERE} && {command}").stdout for command in steps()[number]]

    code = json.loads(daemon.run("hkswitch", "pair", "--json").stdout)["setup_code"]
    controller = await Controller.pair(daemon.address, PORT, code)
    config, seen = daemon.read(CONFIG), await controller.accessories()
    listed = daemon.run("hkswitch", "pair", "--list", "--json").stdout
    [paired] = json.loads(listed)
    await controller.close()
    follow(1)
    assert daemon.run("stat", "--format=%U:%G %a", f"{HERE}/hkswitch.backup").stdout == "root:root 600\n"
    wipe(daemon)
    refused = daemon.run("hkswitch", "restore", f"{HERE}/hkswitch.backup", check=False)
    assert refused.returncode == Exit.DENIED
    assert f"`sudo install -m 600 {HERE}/hkswitch.backup /root/hkswitch.backup`" in refused.stderr
    said = follow(2)[1]
    assert paired["id"] in said
    assert daemon.read(CONFIG) == config
    owners = daemon.run("stat", "--format=%n %U:%G %a", CONFIG, f"{STATE}/bridge.json").stdout
    assert owners.splitlines() == [
        f"{CONFIG} root:hkswitch 644",
        f"{STATE}/bridge.json hkswitch:hkswitch 600",
    ]
    follow(3)
    moved = controller.again()
    assert await moved.accessories() == seen
    await moved.subscribe()
    assert await moved.write("Web Server", on=True) == 0
    assert daemon.show("httpd.service", "ActiveState") == "active"
    assert json.loads(daemon.run("hkswitch", "pair", "--list", "--json").stdout)[0]["id"] == paired["id"]
    await moved.close()
    await the_old_machine_is_started_again(daemon)
    for where in ("/root/state", STATE):  # as from another machine, and on this one
        running = daemon.run(
            "hkswitch", "restore", "/root/hkswitch.backup", "--state-dir", where, check=False
        )
        assert running.returncode == Exit.UNAVAILABLE
        why = "answers mDNS with its identity" if where != STATE else "run `sudo systemctl stop hkswitch`"
        assert why in running.stderr
    assert daemon.read(CONFIG) == config
    follow(4)
    assert daemon.run("test", "-e", "/root/hkswitch.backup", check=False).returncode == 1


def test_who_goes_back_to_a_backup_keeps_what_is_paired_now(daemon: Host) -> None:
    daemon.run("hkswitch", "backup", "/root/hkswitch.backup")
    config, before = daemon.read(CONFIG), accessory(daemon)
    daemon.write(CONFIG, config.replace("Web Server", "Website"))
    for command in commands(chapter("Go back to a backup")):
        daemon.run("sh", "-c", command)
    assert daemon.read(CONFIG) == config
    after = accessory(daemon)
    assert after["paired_clients"] == before["paired_clients"]
    assert int(str(after["config_version"])) > int(str(before["config_version"]))


def test_a_reset_bridge_is_another_one_and_keeps_its_configuration(daemon: Host) -> None:
    config, before = daemon.read(CONFIG), accessory(daemon)
    *_, shown = [daemon.run("sh", "-c", each).stdout for each in commands(chapter("Begin with a new bridge"))]
    assert "Setup code: " in shown
    assert daemon.read(CONFIG) == config
    assert accessory(daemon)["mac"] != before["mac"]
    assert accessory(daemon)["paired_clients"] == {}


def test_the_chapters_have_commands() -> None:
    assert list(steps()) == list(range(1, 5))
    assert all(steps().values())
    titles = ("Go back to a backup", "Begin with a new bridge")
    assert [len(commands(chapter(title))) for title in titles] == [3, 4]
