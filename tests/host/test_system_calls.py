"""System calls that fail, one at a time, while a daemon starts, pairs, switches, reloads and is upgraded.

`make test-long` injects every possible error into every call of each scenario.
Other runs use a sample: calls whose failure once caused a bug, and one call of each kind.
"""

import errno
import sys
from collections.abc import Iterator
from typing import Final

import pytest
import pytest_asyncio

from tests.host import fault_scenarios
from tests.host.fake_daemon import fake_daemon
from tests.host.fault_harness import CONFIG, FOLDER, TAPPED, Bridge, PairedState
from tests.host.fault_injection import Fault
from tests.host.machine import Host

CONFIG_FILE: Final = "/etc/hkswitch/config.yaml"
SAMPLE: Final = {
    "start": [
        Fault("hkswitch", "open", 1, errno.EMFILE),  # of an import
        Fault("hkswitch", "descriptor", 3, errno.EMFILE),  # of the event loop
        Fault("hkswitch", "create", 1, errno.ENOSPC),  # the lock
        Fault("hkswitch", "rename", 3, errno.EIO),  # the control socket
        Fault("hkswitch", "fork", 1, errno.EAGAIN),  # the thread that reads the config
        Fault("serviceswitch", "open", 1, errno.EMFILE),
        Fault("serviceswitch", "descriptor", 3, errno.EMFILE),
        Fault("serviceswitch", "connect", 1, errno.ECONNREFUSED),  # to the bus
    ],
    "upgrade": [Fault("hkswitch", "fsync", 4, errno.EIO)],
    "stop": [Fault("hkswitch", "write", 2, errno.EIO)],  # to the journal
    "pair": [
        Fault("hkswitch", "open", 1, errno.EMFILE),
        Fault("hkswitch", "create", 1, errno.ENOSPC),
        Fault("hkswitch", "fsync", 2, errno.EIO),  # of the folder, which has the file already
    ],
    "tap": [
        Fault("hkswitch", "write", 1, errno.EPIPE),  # to the helper
        Fault("serviceswitch", "open", 4, errno.EMFILE),  # the config
        Fault("serviceswitch", "write", 1, errno.EIO),  # to the daemon
    ],
    "reload": [
        Fault("hkswitch", "open", 1, errno.EIO),  # the config
        Fault("hkswitch", "fork", 1, errno.EAGAIN),
        Fault("hkswitch", "fsync", 2, errno.EIO),
        Fault("hkswitch", "create", 2, errno.ENOSPC),  # the backup
    ],
}


@pytest.fixture(scope="module")
def bridges(
    host: Host, stub_unit_files: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Bridge]]:
    before = host.read(CONFIG_FILE)
    host.write(CONFIG_FILE, CONFIG)
    host.run("systemctl", "start", "smb")
    host.run("mkdir", FOLDER)
    printed = tmp_path_factory.mktemp("printed")
    found = [Bridge(host, number, printed / str(number)) for number in range(len(TAPPED))]
    for bridge in found:
        bridge.make()
    with host.network(), fake_daemon(host):
        yield found
    host.run("rm", "-r", FOLDER)
    host.run("systemctl", "stop", *stub_unit_files)
    host.write(CONFIG_FILE, before)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def paired_state(bridges: list[Bridge]) -> PairedState:
    return await fault_scenarios.pair_new_bridge(bridges[0])


@pytest.mark.any_release
@pytest.mark.parametrize("name", SAMPLE)
async def test_a_failing_call_costs_neither_the_pairing_nor_correct_states(
    bridges: list[Bridge],
    paired_state: PairedState,
    name: str,
    long: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    todo = SAMPLE[name]
    if long:
        todo = list(
            fault_scenarios.faults(name, await fault_scenarios.calls_of(name, bridges[0], paired_state))
        )
    found = await fault_scenarios.outcome(name, todo, bridges, paired_state)
    if long:
        with capsys.disabled():
            sys.stdout.write(f"\n{name}: {len(todo)} faults, {len(found.missed)} of them never reached\n")
    else:
        assert found.missed == []
    assert not found.failures, "\n\n".join((f"{len(found.failures)} of {len(todo)}", *found.failures))
