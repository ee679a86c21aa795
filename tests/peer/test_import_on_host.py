"""On a real host, the taps of imported switches run the commands that homebridge-cmdswitch2 ran for them.

Homebridge 1.11.4 runs there first, as its user; then the same config is imported, and hkswitch gets the same
taps. Stub programs log who ran what.
"""

import asyncio
import json
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml

from bench import peer
from bench.environment import booted_host
from bench.progress import Progress
from hkswitch.homebridge import jsonc
from hkswitch.model.errors import Exit
from tests.host.conftest import PORT, TOOLS
from tests.host.installation import empty_state
from tests.host.machine import ADDRESS, INTERFACE, Host, eventually_async
from tests.peer.homebridge import CODE, MAIN
from tests.peer.imported_cases import (
    CASES,
    DIFFERENCES,
    LOG,
    NOT_RUN,
    ON,
    ON_AGAIN,
    STUBS,
    TAPS,
    UNIT_STUB,
    Call,
    Case,
    Difference,
    Found,
    Tapped,
    actions,
    calls,
    compare,
    mark,
    probes,
    stub,
    unit,
)
from tests.support.controller import Controller
from tests.support.waiting import PATIENCE_SECONDS

CASE_SECONDS: Final = 240
FOLDER: Final = "/var/lib/homebridge"
HOMEBRIDGE: Final = "homebridge.service"
HOMEBRIDGE_PORT: Final = 51827
CONFIG: Final = "/etc/hkswitch/config.yaml"
SUDOERS: Final = "/etc/sudoers.d/homebridge"
HERE: Final = Path(__file__).parents[1] / "homebridge" / "cases"
EXPECTED: Final[dict[str, Any]] = yaml.safe_load((HERE / "EXPECTED.yaml").read_text())["cases"]

# Homebridge's own package has this folder in its unit, too.
WORKING_FOLDER: Final = f"[Service]\nWorkingDirectory={FOLDER}\n"
"""A drop-in of Homebridge's unit."""

PREPARE: Final = f"""
useradd --create-home --shell /bin/bash jo
chmod 755 /home/jo
mkdir --mode=777 {STUBS}
"""
RESET: Final = f"""
rm -rf {FOLDER} {CONFIG} {STUBS}/[!u]*
install --directory --owner=homebridge {FOLDER}
install --mode=666 /dev/null {LOG}
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """A host with Homebridge, the users of the cases, and hkswitch."""
    if os.geteuid() != 0 or not all(map(shutil.which, TOOLS)):
        pytest.skip("root and the tools of the host tests are needed")
    with booted_host(peer.downloaded(), Progress(parts=1)) as booted:
        booted.run("sh", "-ec", PREPARE)
        booted.write(f"/etc/systemd/system/{HOMEBRIDGE}.d/folder.conf", WORKING_FOLDER)
        booted.write(UNIT_STUB, stub(""), mode=0o755)
        booted.write("/usr/local/bin/serviceswitch", (HERE / "serviceswitch.sh").read_text(), mode=0o755)
        yield booted


@pytest.fixture(scope="module")
def used() -> dict[str, set[Difference]]:
    """The differences that were found, by the case."""
    return {}


def prepare(host: Host, case: Case, config: str) -> None:
    """Install what a case needs, with nothing running and nothing logged."""
    host.run("sh", "-ec", RESET)
    for path, body in case.all_stubs.items():
        host.write(path, stub(body), mode=0o755)
    host.run("chown", "--recursive", "jo:", "/home/jo")
    for name in (*case.units, *case.slow_units):
        host.write(f"/etc/systemd/system/{name}.service", unit(slow=name in case.slow_units))
    host.run("systemctl", "daemon-reload")
    rules = (f"homebridge ALL=(root) NOPASSWD: {program}\n" for program in case.sudo)
    host.write(SUDOERS, "".join(rules), mode=0o440)
    host.write(f"{FOLDER}/config.json", config)


def stop(host: Host, case: Case) -> None:
    for name in (*case.units, *case.slow_units):
        host.run("systemctl", "stop", f"{name}.service")


def homebridge_config(name: str) -> str:
    """Return a case as a config for Homebridge on the host: with a bridge of the host's."""
    config = jsonc.read((HERE / f"{name}.json").read_bytes(), name)
    assert isinstance(config, dict)
    bridge = {"name": "Homebridge", "username": MAIN, "port": HOMEBRIDGE_PORT, "pin": CODE}
    return json.dumps({**config, "bridge": {**bridge, "bind": [INTERFACE, ADDRESS]}})


@asynccontextmanager
async def running(host: Host, service: str, port: int, code: Callable[[], str]) -> AsyncIterator[Controller]:
    """Run a bridge within the block, and pair a controller with it."""
    started = host.run("systemctl", "start", service, check=False)
    assert started.returncode == 0, host.journal(service)
    try:
        listens = f":{port} "
        await eventually_async(
            lambda: listens in host.run("ss", "--listening", "--tcp", "--numeric").stdout,
            timeout_seconds=30,
        )
        async with asyncio.timeout(CASE_SECONDS):
            controller = await Controller.pair(ADDRESS, port, code())
            try:
                yield controller
            finally:
                await controller.close()
    except TimeoutError as error:
        raise AssertionError(host.journal(service)) from error
    finally:
        host.run("systemctl", "stop", service)


def homebridge_is_idle(host: Host) -> bool:
    """Whether no command of the plugin runs."""
    listed = host.run("ps", "-e", "-o", "cgroup:128=").stdout.splitlines()
    return sum(line.rstrip().endswith(f"/{HOMEBRIDGE}") for line in listed) == 1


def hkswitch_is_idle(host: Host) -> bool:
    """Whether no command of hkswitch runs."""
    states = "--state=active,activating,deactivating"
    listed = host.run("systemctl", "list-units", states, "--plain", "--no-legend", "hkswitch-command-*")
    return not listed.stdout.strip()


class Bridge(NamedTuple):
    """A bridge to tap: its controller, and the names of its switches by those in Homebridge's config.

    `settled`: whether everything that a tap of a switch began is over. `shows`: as in `Case`.
    """

    controller: Controller
    switches: Mapping[str, str]
    settled: Callable[[str, str], bool]
    shows: Mapping[tuple[str, str], bool]

    def expected(self, switch: str, tap: str) -> bool:
        """Return the state that a switch shows after a tap."""
        return self.shows.get((switch, tap), tap in (ON, ON_AGAIN))


async def tapped(host: Host, case: Case, bridge: Bridge) -> dict[tuple[str, str], Tapped]:
    """Tap all switches, and return what came of each tap."""
    found = {}
    for switch, seen in bridge.switches.items():
        for tap in case.taps.get(switch, TAPS):
            host.run("sh", "-c", f"cat >>{LOG}", input=mark(switch, tap))
            async with asyncio.timeout(PATIENCE_SECONDS):
                failed = await bridge.controller.write(seen, on=tap in (ON, ON_AGAIN)) != 0
            await within_time(lambda switch=switch, tap=tap: bridge.settled(switch, tap))  # type: ignore[misc]
            expected = bridge.expected(switch, tap)
            found[switch, tap] = Tapped(failed, await shown(bridge.controller, seen, expected=expected))
    return found


async def within_time(condition: Callable[[], bool]) -> None:
    """Wait for a condition, but not for ever: what is missing then is seen when the logs are compared."""
    deadline_seconds = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline_seconds:
            break
        await asyncio.sleep(0.05)


async def shown(controller: Controller, name: str, *, expected: bool) -> bool:
    """Return the state that a switch shows, as soon as it is the expected one."""
    deadline_seconds = time.monotonic() + PATIENCE_SECONDS
    while (read := await controller.read(name)) != expected:  # Homebridge sends 0 and 1
        if time.monotonic() > deadline_seconds:
            break
        await asyncio.sleep(0.05)
    return bool(read)


def with_calls(
    host: Host, case: Case, found: Mapping[tuple[str, str], Tapped]
) -> dict[tuple[str, str], Tapped]:
    logged = calls(host.read(LOG))
    return {tap: each._replace(calls=actions(case, logged[tap])) for tap, each in found.items()}


async def of_plugin(host: Host, name: str) -> dict[tuple[str, str], Tapped]:
    """Tap the switches of a real Homebridge."""
    case = CASES[name]
    switches = {switch: switch for switch in imported_switches(name)}
    async with running(host, HOMEBRIDGE, HOMEBRIDGE_PORT, lambda: CODE) as controller:
        shows = {**case.shows, **case.plugin_shows}
        bridge = Bridge(controller, switches, lambda _switch, _tap: homebridge_is_idle(host), shows)
        found = await tapped(host, case, bridge)
    assert {tap: each.shown for tap, each in found.items()} == {tap: bridge.expected(*tap) for tap in found}
    return with_calls(host, case, found)


async def of_hkswitch(
    host: Host, name: str, expected: Mapping[tuple[str, str], int]
) -> dict[tuple[str, str], Tapped]:
    """Tap the switches of hkswitch until each tap has run as many commands as expected."""
    case = CASES[name]

    def settled(switch: str, tap: str) -> bool:
        ran = len(actions(case, calls(host.read(LOG))[switch, tap]))
        return ran >= expected[switch, tap] and hkswitch_is_idle(host)

    def code() -> str:
        return str(json.loads(host.run("hkswitch", "pair", "--json").stdout)["setup_code"])

    try:
        async with running(host, "hkswitch.service", PORT, code) as controller:
            bridge = Bridge(controller, imported_switches(name), settled, case.shows)
            found = await tapped(host, case, bridge)
    finally:
        empty_state(host)
    return with_calls(host, case, found)


def imported_switches(name: str) -> dict[str, str]:
    """Return the names of the groups that a case becomes, by those of the switches."""
    return {each["switch"]: each["name"] for each in EXPECTED[name]["switches"] if each["kind"] != "left"}


def all_calls(host: Host) -> list[Call]:
    return [call for found in calls(host.read(LOG)).values() for call in found]


def explanation(found: Found) -> Difference | None:
    return next((each for each in DIFFERENCES if each.explains(found)), None)


def expected_calls(name: str, plugin: Mapping[tuple[str, str], Tapped]) -> dict[tuple[str, str], int]:
    """Return how many commands hkswitch runs at each tap: those of the plugin, or none on purpose."""

    def is_skipped(switch: str, tap: str) -> bool:
        return explanation(Found(name, switch, tap, NOT_RUN, (), ())) is not None

    return {tap: 0 if is_skipped(*tap) else len(each.calls) for tap, each in plugin.items()}


def use_copies(host: Host, case: Case) -> None:
    """Check that root runs no program of another user, and use root-owned copies, as the import says."""
    text = host.read(CONFIG)
    for path, copy in case.copies.items():
        assert f"'{path}' stays denied as long as users other than root can write it" in text
        text = text.replace(path, copy)
    (group,) = yaml.safe_load(text)["groups"]
    for action in ("start", "stop"):
        denied = host.run("/usr/sbin/serviceswitch", action, group, check=False)
        assert denied.returncode == Exit.DENIED, denied.stderr
    assert not actions(case, all_calls(host))
    host.write(CONFIG, text)


@pytest.mark.parametrize("name", CASES)
async def test_imported_switches_run_what_the_plugin_ran(
    host: Host, used: dict[str, set[Difference]], name: str
) -> None:
    case = CASES[name]
    prepare(host, case, homebridge_config(name))
    with host.network():
        plugin = await of_plugin(host, name)
        assert {switch for (switch, _), each in plugin.items() if each.calls} == {*imported_switches(name)}
        plugin_probes = probes(case, all_calls(host))
        stop(host, case)
        prepare(host, case, homebridge_config(name))
        host.run(
            *("hkswitch", "import-homebridge", f"{FOLDER}/config.json", "--user", "homebridge", "-o", CONFIG)
        )
        host.run("chgrp", "hkswitch", CONFIG)
        host.run("chmod", "0640", CONFIG)
        if case.copies:
            use_copies(host, case)
        host.run("hkswitch", "check")
        ours = await of_hkswitch(host, name, expected_calls(name, plugin))
        stop(host, case)
    found = [
        each
        for (switch, tap), theirs in plugin.items()
        for each in compare(name, switch, tap, theirs, ours[switch, tap])
    ]
    explained = {each: explanation(each) for each in found}
    used[name] = {difference for difference in explained.values() if difference}
    unexplained = [each for each, difference in explained.items() if not difference]
    assert not unexplained, "\n" + "\n".join(map(str, unexplained))
    assert probes(case, all_calls(host)) == plugin_probes


def test_each_difference_is_one_that_there_is(used: dict[str, set[Difference]]) -> None:
    if set(used) != set(CASES):
        pytest.skip("not all cases have been compared")
    found = set().union(*used.values())
    unused = [each for each in DIFFERENCES if each not in found]
    assert not unused, "no such difference any more:\n" + "\n".join(map(str, unused))
