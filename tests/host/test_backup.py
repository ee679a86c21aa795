"""docs/moving.md, "Move to another machine", step by step on a host that is wiped in between.

The paired controller goes on, as on a machine that replaces the first one at its address.
"""

import json
import re
from collections.abc import Iterator
from typing import Final

import pytest

from hkswitch.model.errors import Exit
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


def steps() -> dict[int, list[str]]:
    """Return the commands of the chapter by the numbers of their steps."""
    text = (CHECKOUT / "docs" / "moving.md").read_text()
    chapter = text.partition("\n## Move to another machine\n")[2].partition("\n## ")[0]
    found = re.split(r"^(\d+)\. ", chapter, flags=re.MULTILINE)
    return {
        int(number): re.findall(r"^ *\$ (.+)$", step, re.MULTILINE)
        for number, step in zip(found[1::2], found[2::2], strict=True)
    }


async def the_old_machine_is_started_again(daemon: Host) -> None:
    """Announce the bridge from another machine, which adds a number to its name: the status tells."""

    def told() -> str:
        return str(json.loads(daemon.run("hkswitch", "status", "--json").stdout)["bridge"]["identity"])

    assert told() == ""
    device_id = json.loads(daemon.read(f"{STATE}/bridge.json"))["accessory"]["mac"]
    async with twin(device_id, "Home 2", ADDRESS):
        await eventually_async(told)
        assert "stop hkswitch on that machine, and prevent that it starts again" in told()
    await eventually_async(lambda: told() == "")


def wipe(host: Host) -> None:
    """Make the host one with a new installation, and the copy of the backup a user's."""
    empty_state(host)
    host.write(CONFIG, "groups: {example: {units: [example]}}\n")
    host.run("chown", "--recursive", "nobody:", HERE)


async def test_who_follows_the_page_keeps_the_pairing(daemon: Host, controller: Controller) -> None:
    def follow(number: int) -> list[str]:
        return [daemon.run("sh", "-c", f"cd {HERE} && {command}").stdout for command in steps()[number]]

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


def test_the_chapter_has_four_steps_with_commands() -> None:
    assert list(steps()) == list(range(1, 5))
    assert all(steps().values())
