"""docs/moving.md, step by step, on a host that has the set-up of an article about Homebridge.

The account, the sudo rule, the script and the configuration are the article's. Homebridge's folder was
recorded with a real Homebridge, and its service only sleeps.
"""

import re
from collections.abc import Iterator
from typing import Final

import pytest

from tests.host.conftest import STUB_UNIT
from tests.host.installation import empty_state
from tests.host.machine import ADDRESS, Host
from tests.host.rootfs import CHECKOUT
from tests.support.homebridge_folder import RECORDED, Seen, described, port_of

PAGE: Final = CHECKOUT / "docs" / "moving.md"
FOLDER: Final = "/var/lib/homebridge"
CONFIG: Final = "/etc/hkswitch/config.yaml"
SCRIPT: Final = "/usr/local/bin/serviceswitch"
RULES: Final = "/etc/sudoers.d/homebridge"
SERVICE: Final = "/usr/local/lib/systemd/system/homebridge.service"
HERE: Final = "/root/moving"
FOUND_NOTHING: Final = 1  # grep(1)
SLEEPING: Final = STUB_UNIT.replace("[Service]", "[Service]\nUser=homebridge\n# hb-service") + (
    "\n[Install]\nWantedBy=multi-user.target\n"
)


@pytest.fixture
def article(host: Host, stub_units: tuple[str, ...]) -> Iterator[Host]:
    """The host with Homebridge as the article sets it up, running."""
    before = host.read(CONFIG)
    host.run("useradd", "--system", f"--home-dir={FOLDER}", "--create-home", "homebridge")
    for file in (RECORDED / "article").rglob("*"):
        if file.is_file():
            host.write(f"{FOLDER}/{file.relative_to(RECORDED / 'article')}", file.read_text(), mode=0o600)
    host.run("chown", "--recursive", "homebridge:", FOLDER)
    host.write(SCRIPT, (RECORDED.with_name("cases") / "serviceswitch.sh").read_text(), mode=0o755)
    host.write(RULES, f"homebridge ALL=(root) NOPASSWD: {SCRIPT}\n", mode=0o440)
    host.write(SERVICE, SLEEPING)
    host.run("mkdir", HERE)
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "enable", "--now", "homebridge.service")
    yield host
    host.run("systemctl", "disable", "--now", "hkswitch.service", "homebridge.service")
    host.run("rm", "-rf", HERE, SCRIPT, RULES, SERVICE)
    host.run("systemctl", "daemon-reload")
    host.run("userdel", "--remove", "homebridge", check=False)
    host.write(CONFIG, before)
    empty_state(host)


def steps() -> dict[int, list[str]]:
    """Return the commands of the page's part about Homebridge by the numbers of their steps."""
    text = PAGE.read_text().partition("\n## Move to another machine\n")[0]
    found = re.split(r"^(\d+)\. ", text, flags=re.MULTILINE)
    return {
        int(number): re.findall(r"^ *\$ (.+)$", text, re.MULTILINE)
        for number, text in zip(found[1::2], found[2::2], strict=True)
    }


async def test_who_follows_the_page_has_the_same_bridge_with_units(article: Host) -> None:
    done: dict[str, str] = {}

    def follow(*numbers: int) -> None:
        for command in (command for number in numbers for command in steps()[number]):
            ran = article.run("sh", "-c", f"cd {HERE} && {command}", check=False)
            assert ran.returncode in ({0, FOUND_NOTHING} if "grep" in command else {0}), ran
            done[command] = ran.stdout + ran.stderr

    follow(*range(1, 7))
    imports = [command for command in done if "import-homebridge" in command]
    assert [f"{FOLDER}/config.json" in command for command in imports] == [True, False]
    written = article.read(CONFIG)
    assert article.run("stat", "--format=%U:%G %a", CONFIG).stdout == "root:hkswitch 640\n"
    assert re.findall(r"units: \[(.*)\]", written) == ["libvirt-guests", "smb, nmb, netatalk", "httpd"]
    assert "commands" not in written
    assert f"{SCRIPT} instead of" in done["sudo hkswitch doctor"]
    with article.network():
        port = port_of(RECORDED / "article")
        for controller in Seen.read(RECORDED / "article").controllers(ADDRESS, port):
            accessories = await controller.accessories()
            assert described(accessories) == described(Seen.read(RECORDED / "article").accessories)
            await controller.look()
            for on, state in ((True, "active"), (False, "inactive")):
                assert await controller.write("fileserver", on=on) == 0
                units = ("smb.service", "nmb.service", "netatalk.service")
                assert {article.show(unit, "ActiveState") for unit in units} == {state}
            await controller.close()
    follow(7, 8, 9)
    assert [done[command] for number in (8, 9) for command in steps()[number] if "grep" in command] == [
        "",
        "",
    ]
    assert f"{SCRIPT} instead of" not in article.run("hkswitch", "doctor").stdout


def test_the_page_has_nine_steps_and_the_last_ones_have_commands() -> None:
    assert list(steps()) == list(range(1, 10))
    assert [number for number, commands in steps().items() if not commands] == [1]
