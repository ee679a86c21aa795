"""A new machine with Python, make and git, on which a new user follows the README."""

import json
import os
import re
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Final

import pytest

from tests.host.machine import ADDRESS, FROM_WHEELS, Boot, Host, booted, eventually
from tests.host.rootfs import CHECKOUT, FRESH, packages_folder, root_folder
from tests.support.controller import Controller

USER: Final = "newcomer"
HOME: Final = f"/home/{USER}"
CLONE: Final = f"{HOME}/hkswitch"

ADD: Final = 'sudo hkswitch add nginx --name "Web Server" --id web'

STUB_UNIT: Final = "[Service]\nExecStart=/bin/sleep infinity\n"

TESTS_SECONDS: Final = 900


@pytest.fixture(scope="module")
def host(boot: Boot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """The machine, with a clone of the repository in a user's home. `boot` skips where no host can boot."""
    wheels = packages_folder(FRESH, print)
    log = tmp_path_factory.mktemp("fresh") / "host.log"
    with booted(FRESH.name, root_folder(FRESH, print), {"/src": CHECKOUT, "/wheels": wheels}, log) as host:
        host.run("useradd", "--create-home", USER)
        host.run("chmod", "666", "/dev/net/tun")  # as udev would, which the host lacks
        host.run("sh", "-ec", COPY, CLONE, *tracked())
        host.run("chown", "--recursive", USER, CLONE)
        typed(host, "git init -q; git add -A; git -c user.name=n -c user.email=n@localhost commit -qm all")
        yield host


COPY: Final = 'mkdir "$0"; cd /src; cp --parents --target-directory="$0" "$@"'


def tracked() -> list[str]:
    """Return the files of a clone, and new ones of this checkout."""
    listed = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate")
    files = subprocess.run(listed, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout
    return [file for file in files.split("\0") if file and (CHECKOUT / file).exists()]


@pytest.fixture(autouse=True)
def no_leftovers() -> None:
    """Check nothing: the machine is discarded, and each test continues where the previous one ended."""


def as_typed(command: str) -> tuple[str, ...]:
    environment = (f"HOME={HOME}", f"USER={USER}", "TERM=dumb", *FROM_WHEELS)
    return ("env", *environment, "sh", "-ec", f"cd {CLONE}; {command}")


def typed(host: Host, command: str, timeout_seconds: float = 120) -> str:
    """Run a command as the new user, in the clone, and return its output."""
    return host.run(*as_typed(command), user=USER, timeout_seconds=timeout_seconds).stdout


def readme_commands() -> list[str]:
    """Return the README's commands to try and test hkswitch, and those to install it."""
    text = (CHECKOUT / "README.md").read_text()
    first = text.partition("\n## Try it\n")[2].partition("\nOn other distributions")[0]
    return re.findall(r"^\$ (.*)$", first, re.MULTILINE)


def test_these_are_the_commands_of_the_readme() -> None:
    assert readme_commands() == [
        "make demo",
        "make test",
        "make deb",
        "sudo apt install ./dist/hkswitch_*.deb",
        ADD,
        "sudo systemctl enable --now hkswitch",
        "sudo hkswitch pair",
    ]


def read_until(process: "subprocess.Popen[str]", pattern: str, within_seconds: float) -> str:
    """Read a program's output until it matches the pattern; return the match."""
    assert process.stdout is not None
    deadline_seconds = time.monotonic() + within_seconds
    printed = ""
    while not (found := re.search(pattern, printed)):
        left_seconds = max(0, deadline_seconds - time.monotonic())
        assert select.select([process.stdout], [], [], left_seconds)[0], f"not in time: {printed}"
        some = os.read(process.stdout.fileno(), 65536)  # unbuffered, as select ignores the buffer
        assert some, f"it ended: {printed}"
        printed += some.decode(errors="replace")
    return found[0]


async def test_make_demo_is_a_bridge_that_can_be_paired_with_and_switched(host: Host) -> None:
    with host.popen(*as_typed("make demo"), user=USER) as demo:
        setup_code = read_until(demo, r"\b\d{3}-\d{2}-\d{3}\b", within_seconds=120)
        with host.network():
            controller = await Controller.pair(ADDRESS, 51826, setup_code)
            assert await controller.write("File Server", on=True) == 0
            assert await controller.read("File Server") is True
            await controller.close()
        os.killpg(demo.pid, signal.SIGINT)  # like a terminal
        assert demo.wait(timeout=10) is not None


TEST_FILE: Final = re.compile(r"tests/[a-z_/]+\.py\b")


def test_make_test_passes_and_what_it_skips_is_run_as_root(host: Host) -> None:
    """CI has no other run of these tests."""
    printed = typed(host, "make test", TESTS_SECONDS)
    assert re.search(r"^=+ \d+ passed", printed, re.MULTILINE), printed[-2000:]
    skipped = "".join(re.findall(r"^SKIPPED .*\n", printed, re.MULTILINE))
    as_root = typed(host, "make --dry-run test-as-root")
    assert {*TEST_FILE.findall(skipped)} <= {*TEST_FILE.findall(as_root)}
    assert skipped


async def test_the_commands_that_install_it_lead_to_a_paired_bridge(host: Host) -> None:
    typed(host, "make deb")
    host.run(
        "sh", "-ec", f"cd {CLONE}; apt-get install --yes --quiet ./dist/hkswitch_*.deb", timeout_seconds=120
    )
    host.unit("nginx.service", STUB_UNIT)
    added = host.run(*shlex.split(ADD)).stdout
    assert "in place of the example groups" in added
    assert "run `sudo systemctl enable --now hkswitch`, then `sudo hkswitch pair`" in added
    assert host.read("/etc/hkswitch/config.yaml").endswith(
        "\n\n  web:\n    name: Web Server\n    units: [nginx]\n"
    )
    host.run("hkswitch", "check", user=USER)
    host.run("systemctl", "enable", "--now", "--quiet", "hkswitch")
    shown = json.loads(host.run("hkswitch", "pair", "--json").stdout)
    with host.network():
        controller = await Controller.pair(ADDRESS, 51826, shown["setup_code"])
        assert await controller.write("Web Server", on=True) == 0
        await controller.close()
    eventually(lambda: host.show("nginx.service", "ActiveState") == "active")
    status = json.loads(host.run("hkswitch", "status", "--json", user=USER).stdout)
    assert len(status["bridge"]["controllers"]) == 1
    eventually(lambda: host.show("hkswitch.service", "ActiveState") == "active")


def test_the_commands_of_the_first_switch_work_in_the_order_of_the_readme(host: Host) -> None:
    """Continues after the test above, with the configuration that those commands made."""
    for unit in ("smbd.service", "nmbd.service"):
        host.unit(unit, STUB_UNIT)
    text = (CHECKOUT / "README.md").read_text()
    section = text.partition("\n## First switch\n")[2].partition("\n## ")[0]
    typed_here = re.findall(r"^\$ (.*)$", section, re.MULTILINE)
    assert len(typed_here) >= 10
    for command in typed_here:
        host.run(*shlex.split(command.replace("sudo hkswitch edit", "sudo EDITOR=true hkswitch edit")))


UPSTREAM: Final = """
git clone -q . ../upstream
git remote add origin ../upstream
git fetch -q
git branch -q --set-upstream-to="origin/$(git branch --show-current)"
git -C ../upstream -c user.name=n -c user.email=n@localhost commit -q --allow-empty -m next
"""
"""Gives the clone an upstream repository with one more commit."""


def test_the_commands_that_upgrade_it_lead_to_the_next_commit_and_keep_the_pairing(host: Host) -> None:
    text = (CHECKOUT / "README.md").read_text().partition("\n## Upgrade\n")[2].partition("\n## ")[0]
    pull, make, install = re.findall(r"^\$ (.*)$", text, re.MULTILINE)
    before = host.run("hkswitch", "--version").stdout.split()[1]
    typed(host, UPSTREAM)
    typed(host, f"{pull} -q")
    typed(host, make)
    command = install.replace("sudo apt", "apt-get --yes --quiet")
    said = host.run("sh", "-ec", f"cd {CLONE}; {command}", timeout_seconds=120).stdout
    after = host.run("hkswitch", "--version").stdout.split()[1]
    assert re.fullmatch(re.escape(before) + r"\+1\.g[0-9a-f]{7}", after)
    assert f"Upgraded hkswitch from {before}-1~deb13 to {after}-1~deb13 and restarted it;" in said
    status = json.loads(host.run("hkswitch", "status", "--json", user=USER).stdout)
    assert (status["bridge"]["version"], len(status["bridge"]["controllers"])) == (after, 1)
