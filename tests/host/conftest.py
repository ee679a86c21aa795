"""Fixtures of the tests on real hosts: a host for each release, stub units for real services, and the daemon.

They need root and mmdebstrap, and a network the first time. Every host is discarded at the end.
"""

import json
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
import yaml

from tests.host import engines
from tests.host.installation import empty_state
from tests.host.machine import ADDRESS, STAGING, Boot, Host, booted, eventually, install
from tests.host.matrix import SUDO_RS, is_in_ci, is_possible, is_redundant
from tests.host.rootfs import CHECKOUT, RECIPES, RELEASES, WITH_SERVICES, root_folder, wheels_folder
from tests.host.virtual_lan import Images, Lan, in_memory, powered_on
from tests.support.controller import Controller

TOOLS: Final = ("mmdebstrap", "systemd-nspawn", "nsenter", "setpriv", "ip")

STUB_UNITS: Final = (
    "smb.service",
    "nmb.service",
    "netatalk.service",
    "httpd.service",
    "libvirt-guests.service",
)

STUB_UNIT: Final = """\
[Unit]
Description=Stub for a real service
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart=/bin/sleep infinity
"""

CONFIG: Final = f"""\
bridge:
  address: {ADDRESS}
groups:
  vm-guests:
    name: VM Guests
    units: [libvirt-guests]
  fileserver:
    name: File Server
    units: [smb, nmb, netatalk]
  web:
    name: Web Server
    units: [httpd]
    restart: true
  real-web:
    name: Real Web
    units: [nginx]
  real-files:
    name: Real Files
    units: [smbd, nmbd]
"""

GROUPS: Final[dict[str, str]] = {
    group_id: group["name"] for group_id, group in yaml.safe_load(CONFIG)["groups"].items()
}
"""The names of the groups, by id."""

PORT: Final = 51826
FAILURE: Final = -70402
STOP_SECONDS: Final = 10


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    redundant: list[pytest.Item] = []
    rows: Counter[tuple[str, str | None, str | None]] = Counter()
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        item.add_marker("host")
        test, variant = _name(item), _variant(item)
        release = _parameter(item, "host") or _parameter(item, "lan")
        if is_in_ci(test, release, variant, rows[test, release, variant]):
            item.add_marker("ci")
        rows[test, release, variant] += 1
        is_once = item.get_closest_marker("any_release") is not None
        if not is_possible(release, variant) or (is_once and is_redundant(item.path.name, release)):
            redundant.append(item)
    config.hook.pytest_deselected(items=redundant)
    items[:] = [item for item in items if item not in redundant]


def _name(item: pytest.Item) -> str:
    """Return the names of a test's file and function."""
    return f"{item.path.name}::{getattr(item, 'originalname', item.name)}"


def _parameter(item: pytest.Item, name: str) -> str | None:
    """Return the value of a test's parameter; None if it has no such parameter."""
    value = item.callspec.params.get(name) if hasattr(item, "callspec") else None
    return None if value is None else str(value)


def _variant(item: pytest.Item) -> str | None:
    return _parameter(item, "transport") or _parameter(item, "package_kind")


@pytest.fixture(scope="session")
def exhaustive(request: pytest.FixtureRequest) -> bool:
    """Whether tests that loop over transports try all of them; CI tries one."""
    return bool(request.config.getoption("markexpr") != "ci")


async def start_fails(controller: Controller, name: str) -> bool:
    """Tap, and return whether that fails: by the status, or by a later event if the machine is too busy."""
    status = await controller.write(name, on=True)
    return status == FAILURE or (status == 0 and await controller.event(name) is False)


@pytest.fixture(scope="session")
def staging(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The systemd-nspawn option that mounts the folder shared by all hosts of this run."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "staged"
    folder.mkdir(exist_ok=True)
    return f"--bind={folder}:{STAGING}"


@pytest.fixture(scope="session")
def boot(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, staging: str) -> Boot:
    """A function that boots a host of a release without hkswitch; use `install` to add it."""
    if os.geteuid() != 0:
        pytest.skip("root is needed to boot hosts")
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        pytest.skip(f"needed to boot hosts: {', '.join(missing)}")
    logs = tmp_path_factory.mktemp("hosts")
    capture = request.config.pluginmanager.getplugin("capturemanager")
    terminal = request.config.pluginmanager.getplugin("terminalreporter")

    def say(line: str) -> None:
        if terminal is not None:  # xdist workers have none
            with capture.global_and_fixture_disabled():
                terminal.write_line(f"\n{line}")

    def boot_release(name: str) -> AbstractContextManager[Host]:
        release = RELEASES[name]
        read_only = {"/src": CHECKOUT, "/wheels": wheels_folder(release, say)}
        return booted(name, root_folder(release, say), read_only, logs / f"{name}.log", (staging,))

    return boot_release


@pytest.fixture(scope="session", params=RELEASES)
def host(request: pytest.FixtureRequest, boot: Boot) -> Iterator[Host]:
    """A host with hkswitch installed, shared by all tests of a release."""
    with boot(request.param) as host:
        install(host)
        yield host


@pytest.fixture(scope="session")
def engine_host(boot: Boot, tmp_path_factory: pytest.TempPathFactory, staging: str) -> Iterator[Host]:
    """A host with hkswitch, Docker and Podman. `boot` skips where no host can boot."""
    read_only = {"/src": CHECKOUT, "/wheels": wheels_folder(RECIPES, print)}
    log, options = tmp_path_factory.mktemp("engines") / "host.log", (*engines.BOOT_OPTIONS, staging)
    with booted(RECIPES.name, root_folder(RECIPES, print), read_only, log, options) as host:
        install(host)
        engines.prepare(host)
        yield host


@pytest.fixture(scope="session", params=RELEASES)
def lan(
    request: pytest.FixtureRequest,
    boot: Boot,
    tmp_path_factory: pytest.TempPathFactory,
    staging: str,
    exhaustive: bool,
) -> Iterator[Lan]:
    """Hosts with hkswitch and sshd on one network: six of both releases, or in CI five of one."""
    central = request.param
    releases = (*RELEASES, *RELEASES, central) if exhaustive else 4 * (central,)
    with in_memory(tmp_path_factory.mktemp("lan")) as folder:
        images = Images(
            roots={name: root_folder(WITH_SERVICES[name], print) for name in {central, *releases}},
            read_only={
                name: {"/src": CHECKOUT, "/wheels": wheels_folder(RELEASES[name], print)}
                for name in {central, *releases}
            },
            options=(staging,),
            folder=folder,
        )
        with powered_on(images, central, releases) as lan:
            yield lan


@pytest.fixture(params=engines.ENGINES)
def engine(request: pytest.FixtureRequest, daemon: Host) -> Iterator[engines.Engine]:
    """An engine without containers; the module's host must be `engine_host`."""
    engine = engines.Engine(daemon, request.param)
    with engine.emptied():
        yield engine


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that a test could leave behind on a host."""

    failed_units: str
    files: str
    processes: frozenset[str]


SNAPSHOTS: Final = pytest.StashKey[dict[Host, Snapshot]]()
"""The last snapshot of each host, until a fixture of several tests changes it."""


@pytest.hookimpl
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest) -> None:
    forget_snapshots(fixturedef, request.config)


@pytest.hookimpl
def pytest_fixture_post_finalizer(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> None:
    forget_snapshots(fixturedef, request.config)


def forget_snapshots(fixture: pytest.FixtureDef[object], config: pytest.Config) -> None:
    """Forget all snapshots if several tests share the fixture. Those of a session only boot hosts."""
    if fixture.scope != "function":
        config.stash[SNAPSHOTS] = {}


@pytest.fixture(autouse=True)
def no_leftovers(request: pytest.FixtureRequest, host: Host) -> Iterator[None]:
    """Fail a test that leaves something behind on the host, before it breaks a later one."""
    before = request.config.stash.setdefault(SNAPSHOTS, {}).get(host) or snapshot(host)
    yield
    after = request.config.stash[SNAPSHOTS][host] = snapshot(host)
    assert after == before


SNAPSHOT_SCRIPT: Final = """
systemctl list-units --state=failed --plain --no-legend
echo ---
find /etc/systemd/system /run/systemd/system /etc/hkswitch /etc/sudoers.d \\
    -type l -printf '%p -> %l\\n' -o -type f -exec sha256sum {} +
echo ---
ps -e -o user:32=,pid=,cgroup:128=,args=
"""
"""A single program, as it runs before and after every test."""


DAEMONS: Final = ("/hkswitch.service", "/serviceswitch@", "/serviceswitch-")
"""The cgroups of the daemon and of its helper."""


def snapshot(host: Host) -> Snapshot:
    """Record failed units, unit files, configuration, and hkswitch's processes outside the daemon."""
    failed, files, listed = host.run("sh", "-c", SNAPSHOT_SCRIPT).stdout.split("---\n")
    return Snapshot(failed, "\n".join(sorted(files.splitlines())), _ours(listed, DAEMONS))


def processes(host: Host, but_in: Collection[str] = ()) -> frozenset[str]:
    """Return the processes of the user hkswitch and all helpers, except those in some cgroups."""
    return _ours(host.run("ps", "-e", "-o", "user:32=,pid=,cgroup:128=,args=").stdout, but_in)


def _ours(listed: str, but_in: Collection[str]) -> frozenset[str]:
    lines = [line for line in listed.splitlines() if not line.endswith(" <defunct>")]
    ours = (line for line in lines if line.startswith("hkswitch ") or "serviceswitch " in line)
    return frozenset(line for line in ours if not any(unit in line for unit in but_in))


@pytest.fixture(scope="module")
def stub_unit_files(host: Host) -> Iterator[tuple[str, ...]]:
    """Units with the names of real services, which only sleep, in a folder where packages put units."""
    paths = [f"/usr/local/lib/systemd/system/{name}" for name in STUB_UNITS]
    for path in paths:
        host.write(path, STUB_UNIT)
    host.run("systemctl", "daemon-reload")
    yield STUB_UNITS
    host.run("rm", *paths)
    host.run("systemctl", "daemon-reload")


@pytest.fixture
def stub_units(host: Host, stub_unit_files: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The stub units, stopped after each test; overrides written by `Host.unit` are removed then."""
    yield stub_unit_files
    host.run("sh", "-ec", RESET_SCRIPT, "sh", *stub_unit_files)


RESET_SCRIPT: Final = """
cd /etc/systemd/system
for unit; do
    for written in "$unit" "$unit.d"; do
        [ ! -e "$written" ] || { rm -r "$written"; reload=1; }
    done
done
[ -z "$reload" ] || systemctl daemon-reload
# Each is listed with its states, and with a job that it has; a line that ends otherwise needs a reset.
clean=" inactive  *dead  *Stub for a real service$"
systemctl list-units --all --plain --no-legend "$@" | grep -qv "$clean" || exit 0
systemctl kill --signal=KILL "$@" 2>/dev/null || true # running ones
systemctl stop "$@"
systemctl reset-failed "$@" 2>/dev/null || true # failed ones
"""
"""A single program, which does only what is necessary, as it runs after nearly every test."""


@pytest.fixture(scope="module")
def config() -> str:
    """The config of the daemon; modules may override it."""
    return CONFIG


@pytest.fixture(scope="module")
def transport() -> str:
    """The transport to the helper; modules may override or parametrize it."""
    return "sudo"


@pytest.fixture(scope="module")
def transport_enabled(host: Host, transport: str) -> Iterator[None]:
    """Set the host up for the transport, as the documentation says."""
    if transport == "sudo":
        yield
        return
    if transport == SUDO_RS:
        with only_sudo_rs(host):
            yield
        return
    drop_ins = "/etc/systemd/system/hkswitch.service.d"
    host.run("mkdir", "-p", drop_ins)  # other hosts in the config have a file there
    host.run("ln", "-s", "/usr/lib/hkswitch/systemd/helper-socket.conf", drop_ins)
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "start", "serviceswitch.socket")
    yield
    host.run("systemctl", "stop", "serviceswitch.socket")
    host.run("rm", f"{drop_ins}/helper-socket.conf")
    host.run("rmdir", "--ignore-fail-on-non-empty", drop_ins)
    host.run("systemctl", "daemon-reload")


RULE: Final = "/etc/sudoers.d/hkswitch"


@contextmanager
def rule_for_sudo_rs(host: Host) -> Iterator[None]:
    """Remove the settings that sudo-rs does not know, as an installation without the original sudo does."""
    rule = host.read(RULE)
    host.write(RULE, re.sub("^Defaults.*\n", "", rule, flags=re.MULTILINE), 0o440)
    try:
        yield
    finally:
        host.write(RULE, rule, 0o440)


@contextmanager
def only_sudo_rs(host: Host) -> Iterator[None]:
    """Hide the original sudo from the daemon, so that it uses sudo-rs, and its rule."""
    drop_in = "/run/systemd/system/hkswitch.service.d/only-sudo-rs.conf"
    host.write(drop_in, "[Service]\nInaccessiblePaths=-/usr/bin/sudo\n")
    host.run("systemctl", "daemon-reload")
    try:
        with rule_for_sudo_rs(host):
            yield
    finally:
        host.run("rm", drop_in)
        host.run("systemctl", "daemon-reload")


@pytest.fixture(scope="module")
def daemon(
    host: Host, stub_unit_files: tuple[str, ...], config: str, transport: str, transport_enabled: None
) -> Iterator[Host]:
    """The host with the daemon running. The daemon must stop in time and leave nothing behind."""
    before = host.read("/etc/hkswitch/config.yaml")
    helper = "socket" if transport == "socket" else "sudo"
    host.write("/etc/hkswitch/config.yaml", f"helper: {helper}\n{config}")
    started = host.run("systemctl", "start", "hkswitch.service", check=False)
    assert started.returncode == 0, host.journal("hkswitch.service")
    yield host
    stopping_seconds = time.monotonic()
    host.run("systemctl", "stop", "hkswitch.service")
    stopped_seconds = time.monotonic()
    host.write("/etc/hkswitch/config.yaml", before)
    empty_state(host)
    assert stopped_seconds - stopping_seconds < STOP_SECONDS, host.journal("hkswitch.service")
    assert host.show("hkswitch.service", "Result") == "success", host.journal("hkswitch.service")
    eventually(lambda: not processes(host))


@pytest.fixture(scope="module")
def in_network(daemon: Host) -> Iterator[None]:
    """Puts the controller into the host's network, like a phone."""
    with daemon.network():
        yield


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def paired(daemon: Host, in_network: None) -> AsyncIterator[Controller]:
    """The paired controller; use `again` for more connections."""
    shown = json.loads(daemon.run("hkswitch", "pair", "--json").stdout)
    assert shown["paired"] is False
    controller = await Controller.pair(daemon.address, PORT, shown["setup_code"])
    assert json.loads(daemon.run("hkswitch", "pair", "--json").stdout) == {**shown, "paired": True}
    yield controller
    await controller.close()


@pytest_asyncio.fixture(loop_scope="module")
async def controller(paired: Controller, stub_units: tuple[str, ...]) -> AsyncIterator[Controller]:
    """A new connection of the paired controller; all units are stopped."""
    fresh = paired.again()
    await fresh.subscribe()
    yield fresh
    await fresh.close()
