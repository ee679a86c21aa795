"""What a reload may meet of what is under way: requests, probes, and units that it did not wait for."""

import asyncio
import math
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hkswitch.daemon.switchboard import GROUP_REMOVED
from hkswitch.model.unit_state import GroupState
from hkswitch.protocol.helper import CONFIG_CHANGED
from tests.support.fake_systemd import FakeSystemd, Outcome, Unit
from tests.support.fixtures import bus_address, fake, systemd_on_bus
from tests.support.real_daemon import Groups, RealDaemon
from tests.support.waiting import eventually

__all__ = ["bus_address", "fake", "systemd_on_bus"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

ON, OFF, MISSING, PARTIAL = GroupState.ON, GroupState.OFF, GroupState.MISSING, GroupState.PARTIAL
PROGRAM = "/bin/echo"
WEB = {"web": {"units": ["httpd"]}}
FILES = {"files": {"units": ["smb"]}}
NEW = {"new": {"units": ["new"]}}
LAMP = {"start": [PROGRAM, "start"], "stop": [PROGRAM, "stop"], "status": [PROGRAM, "status"]}


@pytest.fixture(autouse=True)
def units(fake: FakeSystemd) -> Iterator[None]:
    """One that is up, one that is down."""
    fake.reset(Unit("httpd.service", active="active", sub="running"), Unit("smb.service"))
    yield
    fake.release_lists()
    fake.end_commands()


def hold_first(fake: FakeSystemd, then: Outcome) -> None:
    """Each probe runs until it is ended, and those that begin after that end as said."""

    def run(_: list[str]) -> Outcome:
        return Outcome(seconds=math.inf) if not fake.ran[1:] else then

    fake.commands = run


GONE = f"failed: start web failed: {GROUP_REMOVED}"


@pytest.mark.parametrize(
    ("groups", "said", "then"),
    [
        ({"web": {"units": ["smb"], "name": "Other", "type": "fan"}}, "", {"web": ON}),
        ({"web": {"units": ["smb", "httpd"]}}, "", {"web": ON}),
        ({"web": {"units": ["httpd"]}}, "", {"web": ON}),
        ({"web": {"units": ["down"]}}, "", {"web": OFF}),
        ({"web": {"units": ["smb"], "actions": ["stop"]}}, "", {"web": ON}),
        ({"web": {"commands": LAMP}}, "", {"web": OFF}),
        (FILES, GONE, {"files": ON}),
    ],
    ids=["stays", "has more units", "has another unit", "is down", "loses start", "of commands", "removed"],
)
async def test_a_request_that_runs_goes_on_and_its_group_then_shows_what_it_is_now(
    daemon: RealDaemon, fake: FakeSystemd, groups: Groups, said: str, then: dict[str, GroupState]
) -> None:
    fake.commands = lambda _: Outcome(result="exit-code", status=1)
    fake.units["smb.service"].held = True
    fake.units["down.service"] = Unit("down.service")
    async with daemon.served({"web": {"units": ["smb"]}}):
        starting = asyncio.create_task(daemon.start("web"))
        await eventually(lambda: fake.units["smb.service"].job)
        daemon.write(groups)
        assert await daemon.reload() == ""
        if said:
            assert await starting == said
        else:
            assert not starting.done()
        fake.release("smb.service", active="active", sub="running")
        assert await starting == said
        await daemon.until_states(**then)
        last = [group.last_action for group in (await daemon.groups()).values()]
        assert [action and action.failure for action in last] == [None if said else ""]
        assert [call for call in fake.calls if call[0] == "StartUnit"] == [
            ("StartUnit", "smb.service", "replace")
        ]


async def test_the_end_of_a_request_does_not_settle_that_of_a_group_added_again(
    daemon: RealDaemon, fake: FakeSystemd
) -> None:
    fake.units["smb.service"].held = True
    async with daemon.served({"web": {"units": ["smb"]}}):
        old = asyncio.create_task(daemon.start("web"))
        await eventually(lambda: fake.units["smb.service"].job)
        daemon.write(FILES)
        assert await daemon.reload() == ""
        assert await old == GONE
        daemon.write({"web": {"units": ["smb"]}})
        assert await daemon.reload() == ""
        job = fake.units["smb.service"].job
        new = asyncio.create_task(daemon.start("web"))
        await eventually(lambda: fake.units["smb.service"].job not in {job, None})
        await daemon.has_heard(fake)  # the end of the old one, whose job was replaced
        last = (await daemon.groups())["web"].last_action
        assert last is not None
        assert last.outcome == "running"
        fake.release("smb.service", active="active", sub="running")
        assert await new == ""


async def test_a_request_sent_before_an_edit_and_read_after_it_is_refused(
    daemon: RealDaemon, fake: FakeSystemd
) -> None:
    async with daemon.served(FILES):
        os.kill(daemon.gate.pid, signal.SIGSTOP)
        try:
            starting = asyncio.create_task(daemon.start("files"))
            await daemon.until_asked("files")
            daemon.write({"files": {"units": ["httpd", "smb"]}})
        finally:
            os.kill(daemon.gate.pid, signal.SIGCONT)
        assert CONFIG_CHANGED in await starting
        assert fake.units["smb.service"].starts == 0
        assert await daemon.reload() == ""
        assert await daemon.states() == {"files": PARTIAL}
        assert await daemon.start("files") == ""


# Probes and units

CHECKED = {
    "web": {"units": ["httpd"], "check": [PROGRAM, "old"], "interval_seconds": 86_400, "timeout_seconds": 20}
}


@pytest.mark.parametrize(
    "change", [{"check": [PROGRAM, "new"]}, {"interval_seconds": 86_399}, {"timeout_seconds": 21}], ids=str
)
async def test_what_a_probe_that_runs_says_is_dropped_when_its_command_interval_or_timeout_changed(
    daemon: RealDaemon, fake: FakeSystemd, wait_for_told: Callable[[float], None], change: dict[str, Any]
) -> None:
    wait_for_told(0.2)
    hold_first(fake, Outcome(result="exit-code", status=1))
    async with daemon.served(CHECKED):
        await eventually(lambda: fake.held_commands)
        daemon.write({"web": {**CHECKED["web"], **change}})
        assert await daemon.reload() == ""
        await daemon.until_states(web=PARTIAL)
        fake.end_commands()  # it says yes
        await daemon.has_heard(fake)
        assert await daemon.states() == {"web": PARTIAL}
        assert len(fake.ran) == 2


async def test_a_new_interval_counts_from_the_reload_on(daemon: RealDaemon, fake: FakeSystemd) -> None:
    async with daemon.served(CHECKED):
        assert await daemon.states() == {"web": ON}
        daemon.write({"web": {**CHECKED["web"], "interval_seconds": 5}})
        assert await daemon.reload() == ""
        await eventually(lambda: len(fake.ran) >= 3)


async def test_a_unit_that_systemd_has_not_loaded_yet_is_missing_until_it_has(
    daemon: RealDaemon, fake: FakeSystemd
) -> None:
    async with daemon.served(WEB):
        daemon.write({**WEB, **NEW})
        assert await daemon.reload() == ""
        assert await daemon.states() == {"web": ON, "new": MISSING}
        fake.units["new.service"] = Unit("new.service")
        fake.reload()
        await daemon.until_states(web=ON, new=OFF)


async def test_a_check_that_takes_long_is_unknown_until_it_answers_and_touches_no_other_group(
    daemon: RealDaemon,
    fake: FakeSystemd,
    caplog: pytest.LogCaptureFixture,
    wait_for_told: Callable[[float], None],
) -> None:
    hold_first(fake, Outcome())
    async with daemon.served({**WEB, **FILES}):
        wait_for_told(0.2)
        before = await daemon.groups()
        caplog.clear()
        daemon.write({**WEB, **FILES, "slow": {**CHECKED["web"]}})
        assert await daemon.reload() == ""
        after = await daemon.groups()
        assert after.pop("slow").state is None
        assert after == before
        fake.end_commands()
        await daemon.until_states(web=ON, files=OFF, slow=ON)
        assert not [line for line in caplog.messages if line.startswith(("web:", "files:"))]


async def test_a_unit_of_a_group_that_goes_is_followed_for_one_that_stays(
    daemon: RealDaemon, fake: FakeSystemd
) -> None:
    both = {"both": {"units": ["httpd", "smb"]}}
    async with daemon.served({**WEB, **both}):
        daemon.write(WEB)
        assert await daemon.reload() == ""
        fake.change("httpd.service", "failed", "failed")
        await daemon.until_states(web=GroupState.FAILED)
        daemon.write({**both, **FILES})
        assert await daemon.reload() == ""
        assert await daemon.states() == {"both": GroupState.FAILED, "files": OFF}
        fake.change("httpd.service", "active", "running")
        fake.change("smb.service", "active", "running")
        await daemon.until_states(both=ON, files=ON)
