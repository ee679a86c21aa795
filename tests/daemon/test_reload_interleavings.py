"""What a reload may meet: other reloads, a helper or a systemd that is away, and another file."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator

import pytest

from hkswitch.backend import helper_session
from hkswitch.backend.reported_state import changed_groups
from hkswitch.control import socket_of
from hkswitch.model.installation import CONFIG_FILE
from hkswitch.model.unit_state import GroupState
from hkswitch.protocol.helper import CONFIG_CHANGED
from tests.support.fake_systemd import FakeSystemd, Unit
from tests.support.fixtures import bus_address, fake, systemd_on_bus
from tests.support.real_daemon import RealDaemon
from tests.support.waiting import PATIENCE_SECONDS, eventually

__all__ = ["bus_address", "fake", "systemd_on_bus"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

ON, OFF, PARTIAL = GroupState.ON, GroupState.OFF, GroupState.PARTIAL
WEB = {"web": {"units": ["httpd"]}}
FILES = {"files": {"units": ["smb"]}}
NEW = {"new": {"units": ["new"]}}


@pytest.fixture(autouse=True)
def units(fake: FakeSystemd) -> Iterator[None]:
    """One that is up, one that is down."""
    fake.reset(Unit("httpd.service", active="active", sub="running"), Unit("smb.service"))
    yield
    fake.release_lists()
    fake.end_commands()


@pytest.fixture
def pinged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The helper looks at its config soon."""
    monkeypatch.setattr(helper_session, "SILENCE_SECONDS", 0.5)


# The helper is not there


@pytest.mark.parametrize("when", ["is away", "starts", "is in back-off"])
async def test_a_reload_while_the_helper_is_not_there_is_applied_and_told_by_the_next_one(
    daemon: RealDaemon, when: str
) -> None:
    async with daemon.served(WEB):
        daemon.gate.refused = "" if when == "starts" else "no sudo"
        daemon.gate.is_open = asyncio.Event()
        tries = daemon.gate.tries
        daemon.kill_helper()
        await eventually(lambda: daemon.gate.tries == tries + 1)
        if when == "is in back-off":
            daemon.gate.is_open.set()
            await eventually(lambda: daemon.host.trouble() == "no sudo")
        daemon.write({**WEB, **FILES})
        note = await daemon.reload()
        assert note.startswith("the helper is not running (")
        assert await daemon.states() == {"web": ON, "files": None}
        daemon.gate.refused = ""
        daemon.gate.is_open.set()
        await daemon.until_states(web=ON, files=OFF)
        assert daemon.told[-1] == "serving web files on 127.0.0.1"


# Several reloads


async def test_a_second_reload_waits_for_what_the_first_one_has_the_helper_read(
    daemon: RealDaemon, fake: FakeSystemd
) -> None:
    async with daemon.served(WEB):
        fake.holds_list = lambda _: True
        daemon.write({**WEB, **FILES})
        first = asyncio.create_task(daemon.reload())
        await eventually(lambda: fake.held_lists)
        second = asyncio.create_task(daemon.reload())
        assert await daemon.states() == {"web": ON, "files": None}
        assert daemon.told.count("reloading") == 1
        daemon.write({**FILES, **NEW})
        fake.units["new.service"] = Unit("new.service")
        fake.release_lists()
        # The helper had read the newer file for the first one, or had not yet.
        assert await first in {"", changed_groups(["web"])}
        assert await second == ""
        assert await daemon.states() == {"files": OFF, "new": OFF}


async def test_what_was_told_for_a_reload_before_the_newest_one_is_not_believed(
    daemon: RealDaemon, fake: FakeSystemd, wait_for_told: Callable[[float], None]
) -> None:
    async with daemon.served(WEB):
        wait_for_told(0.2)
        fake.holds_list = lambda _: True
        daemon.write({**WEB, **FILES})
        assert await daemon.reload() == ""
        await eventually(lambda: fake.held_lists)
        wait_for_told(PATIENCE_SECONDS)
        daemon.write({**FILES, **NEW})
        reloading = asyncio.create_task(daemon.reload())
        await eventually(lambda: len(fake.held_lists) == 2)
        fake.units["new.service"] = Unit("new.service", active="active", sub="running")
        fake.release_lists(but=lambda units: "new.service" in units)
        await daemon.has_heard(fake)
        assert await daemon.states() == {"files": None, "new": None}
        assert not reloading.done()
        fake.release_lists()
        assert await reloading == ""
        assert await daemon.states() == {"files": OFF, "new": ON}


async def test_of_two_signals_to_reload_the_last_config_is_served(daemon: RealDaemon) -> None:
    async with daemon.served(WEB):
        daemon.write(FILES)
        os.kill(os.getpid(), signal.SIGHUP)
        daemon.write({**WEB, **FILES})
        os.kill(os.getpid(), signal.SIGHUP)
        await daemon.until_states(web=ON, files=OFF)
        await eventually(lambda: daemon.told[-1] == "serving web files on 127.0.0.1")


async def test_a_reload_while_the_daemon_waits_for_its_first_states_is_applied(
    daemon: RealDaemon, fake: FakeSystemd
) -> None:
    fake.holds_list = lambda _: True
    async with daemon.begun(WEB):
        await eventually(lambda: fake.held_lists)
        daemon.write(FILES)
        reloading = asyncio.create_task(daemon.reload())
        assert await daemon.states() == {"web": None}
        assert daemon.told == []
        fake.release_lists()
        assert await reloading == ""
        assert await daemon.states() == {"files": OFF}


# The bus


async def test_a_reload_while_systemd_is_away_is_applied_and_told_when_it_is_back(
    daemon: RealDaemon, fake: FakeSystemd
) -> None:
    async with daemon.served(WEB):
        await fake.leave()
        try:
            await daemon.until_states(web=None)
            daemon.write({**WEB, **FILES})
            assert await daemon.reload() == ""
            groups = await daemon.groups()
            assert groups.keys() == {"web", "files"}
            assert {group.state for group in groups.values()} == {None}
            assert all("systemd" in group.why for group in groups.values())
        finally:
            await fake.come_back()
        await daemon.until_states(web=ON, files=OFF)


# The file


async def test_a_file_edited_between_the_daemons_read_and_the_helpers_is_another_config(
    daemon: RealDaemon, fake: FakeSystemd
) -> None:
    async with daemon.served(WEB):
        daemon.write({**WEB, **FILES})
        daemon.after_read = lambda: daemon.write({**WEB, "files": {"units": ["smb", "httpd"]}})
        changed = changed_groups(["files"])
        assert await daemon.reload() == changed
        assert await daemon.states() == {"web": ON, "files": None}
        assert await daemon.config_problem() == changed
        assert CONFIG_CHANGED in await daemon.start("files")
        daemon.after_read = lambda: None
        assert await daemon.reload() == ""
        assert await daemon.states() == {"web": ON, "files": PARTIAL}
        assert await daemon.config_problem() == ""
        assert fake.units["smb.service"].starts == 0


async def test_a_file_edited_and_not_reloaded_makes_its_groups_unknown_with_the_next_helper(
    daemon: RealDaemon,
) -> None:
    async with daemon.served({**WEB, **FILES}):
        daemon.write({"web": {"units": ["smb"], "name": "Other"}, **FILES})
        daemon.kill_helper()
        await daemon.until_states(web=None, files=OFF)
        assert (await daemon.groups())["web"].why == CONFIG_CHANGED
        assert daemon.told[-1] == f"serving web files on 127.0.0.1; {changed_groups(['web'])}"
        assert await daemon.reload() == ""
        assert await daemon.states() == {"web": OFF, "files": OFF}


@pytest.mark.parametrize(
    ("contents", "mode", "why"),
    [
        ("groups: {", 0o644, f"{CONFIG_FILE}:2:1: not valid YAML: "),
        ("bridge: 1\ngroups: 2", 0o644, f"{CONFIG_FILE}:1:9: bridge: "),
        ("", 0o666, f"{CONFIG_FILE} is not trusted: "),
    ],
    ids=["invalid", "two mistakes", "untrusted"],
)
@pytest.mark.usefixtures("pinged")
async def test_a_helper_that_never_believed_the_file_knows_nothing_until_it_does(
    daemon: RealDaemon, contents: str, mode: int, why: str
) -> None:
    async with daemon.served(WEB):
        daemon.config_file.chmod(mode)
        if contents:
            daemon.config_file.write_text(contents)
        daemon.kill_helper()
        await daemon.until_states(web=None)
        problem = await daemon.config_problem()
        assert problem.startswith(why)
        assert "?" not in problem
        assert (await daemon.groups())["web"].why == problem
        assert daemon.told[-1] == f"serving web on 127.0.0.1; {problem}"
        daemon.config_file.chmod(0o644)
        daemon.write(WEB)
        await daemon.until_states(web=ON)
        assert await daemon.config_problem() == ""


@pytest.mark.parametrize("was_reloaded", [False, True])
@pytest.mark.usefixtures("pinged")
async def test_a_file_that_is_valid_again_clears_the_warning_without_a_reload(
    daemon: RealDaemon, was_reloaded: bool
) -> None:
    async with daemon.served(WEB):
        daemon.config_file.write_text("groups: {web: {unit: no}}")
        if was_reloaded:
            assert (await daemon.reload()).startswith(f"failed: not reloaded: {daemon.config_file}:1:")
        await daemon.until_config_problem(lambda problem: problem.startswith(f"{CONFIG_FILE}:1:"))
        assert f"; {CONFIG_FILE}:1:" in daemon.told[-1]
        assert await daemon.states() == {"web": ON}
        daemon.write(WEB)
        await daemon.until_config_problem(lambda problem: not problem)
        await eventually(lambda: daemon.told[-1] == "serving web on 127.0.0.1")


# The end


@pytest.mark.parametrize("by_signal", [True, False])
async def test_a_stop_while_a_reload_waits_for_the_helper_is_obeyed(
    daemon: RealDaemon, fake: FakeSystemd, by_signal: bool
) -> None:
    reloading: asyncio.Task[str] | None = None
    async with daemon.served(WEB):
        fake.holds_list = lambda _: True
        daemon.write(FILES)
        if by_signal:
            os.kill(os.getpid(), signal.SIGHUP)
        else:
            reloading = asyncio.create_task(daemon.reload())
        await eventually(lambda: fake.held_lists)
    assert not socket_of(daemon.state_folder).exists()
    if reloading is not None:
        assert "it closed the connection" in await reloading
