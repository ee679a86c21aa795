"""A type that cannot be written: phones keep the old type, and get the new one when the disk has space."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from hkswitch.daemon.bridge import Bridge
from hkswitch.daemon.tiles import TYPES
from hkswitch.hap.state_file import StateUnwritable
from hkswitch.model.group import AccessoryType, Group, aid_of
from hkswitch.model.switch_events import Tile
from tests.support.accessory_database import (
    CONTROLLER,
    bridge_of,
    database,
    meanings,
    pair,
    regroup,
    renamed,
    typed,
)
from tests.support.full_disk import filling

SWITCH, OUTLET, LIGHT, FAN = AccessoryType
FULL = "No space left on device"


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Return a function that fills the disk, or frees space again."""
    return filling(monkeypatch)


def types(bridge: Bridge) -> dict[int, AccessoryType]:
    """Return the served types by aid, without the bridge's own accessory."""
    return {aid: TYPES[what] for (aid, _), what in meanings(database(bridge)).items() if what in TYPES}


def named(bridge: Bridge, group_id: str) -> str:
    accessories = bridge._driver.accessory.accessories
    return str(accessories[aid_of(group_id)].display_name)


WEB, FILES = typed("web", SWITCH), typed("files", LIGHT)
A_START = {
    "the same": ([WEB, FILES], {"web": SWITCH, "files": LIGHT}, []),
    "another order": ([FILES, WEB], {"web": SWITCH, "files": LIGHT}, []),
    "another name": ([renamed(WEB, "Website"), FILES], {"web": SWITCH, "files": LIGHT}, []),
    "a group removed": ([WEB], {"web": SWITCH}, []),
    "another type": ([typed("web", FAN), FILES], {"web": SWITCH, "files": LIGHT}, ["old type: Web"]),
    "all of another type": (
        [typed("web", OUTLET), typed("files", SWITCH)],
        {"web": SWITCH, "files": LIGHT},
        ["old type: Files, Web"],
    ),
    "another type and name": (
        [renamed(typed("web", FAN), "Website")],
        {"web": SWITCH},
        ["old type: Website"],
    ),
    "a new group": ([WEB, typed("new", FAN)], {"web": SWITCH}, ["not in the Home app: New"]),
    "another id": ([typed("site", SWITCH)], {}, ["not in the Home app: Site"]),
    "both, and one removed": (
        [typed("web", FAN), typed("new", SWITCH)],
        {"web": SWITCH},
        ["not in the Home app: New", "old type: Web"],
    ),
    "a restart switch": (
        [typed("web", FAN, restart=True)],
        {"web": SWITCH},
        ["not in the Home app: Restart Web", "old type: Web"],
    ),
    "many new groups": (
        [typed(f"n{number}", SWITCH) for number in range(5)],
        {},
        ["not in the Home app: N0, N1, N2 and 2 more"],
    ),
}


@pytest.mark.parametrize("change", A_START)
async def test_a_start_on_a_full_disk_serves_what_phones_know_and_the_rest_when_there_is_room(
    tmp_path: Path, full: Callable[[bool], None], caplog: pytest.LogCaptureFixture, change: str
) -> None:
    groups, kept, said = A_START[change]
    before = bridge_of(tmp_path, WEB, FILES)
    pair(before)
    known, version = meanings(database(before)), before.config_version
    full(True)
    bridge = bridge_of(tmp_path, *groups)
    assert types(bridge) == {aid_of(group): kind for group, kind in kept.items()}
    assert meanings(database(bridge)).items() <= known.items()
    assert bridge.config_version == version
    assert FULL in bridge.storage_problem
    assert all(words in bridge.storage_problem for words in said)
    assert ("Home app:" in bridge.storage_problem) == any("Home app" in words for words in said)
    assert ("old type" in bridge.storage_problem) == any("old type" in words for words in said)
    assert [bridge.storage_problem] == caplog.messages
    bridge._driver.writer.try_again()
    assert types(bridge) == {aid_of(group): kind for group, kind in kept.items()}
    full(False)
    bridge._driver.writer.try_again()
    wanted = {group.aid: group.type for group in groups}
    wanted |= {group.restart_aid: SWITCH for group in groups if group.restart}
    assert types(bridge) == wanted
    assert bridge.config_version == version + (change not in {"the same", "another order"})
    assert bridge.storage_problem == ""
    assert not bridge._driver.writer.is_waiting
    assert types(bridge_of(tmp_path, *groups)) == wanted


@pytest.mark.parametrize("kind", [OUTLET, LIGHT, FAN])
async def test_a_type_that_was_served_long_ago_is_not_served_again_before_that_is_written(
    tmp_path: Path, full: Callable[[bool], None], kind: AccessoryType
) -> None:
    first = bridge_of(tmp_path, WEB)
    pair(first)
    for each in (kind, SWITCH):
        regroup(first, typed("web", each))
    full(True)
    bridge = bridge_of(tmp_path, typed("web", kind))
    assert types(bridge) == {aid_of("web"): SWITCH}
    with pytest.raises(StateUnwritable):
        regroup(first, typed("web", kind))
    assert types(first) == {aid_of("web"): SWITCH}
    for own in (first, bridge):
        own._driver.stop_writing()


A_RELOAD: dict[str, tuple[list[Group], bool]] = {
    "the same": ([typed("web", FAN)], True),
    "the old type again": ([WEB], True),
    "another name of the old type": ([renamed(WEB, "Website")], True),
    "nothing of it": ([], True),
    "a third type": ([typed("web", OUTLET)], False),
    "a new group beside it": ([typed("web", FAN), FILES], False),
    "another name": ([renamed(typed("web", FAN), "Website")], False),
    "a new group in its place": ([FILES], False),
}


@pytest.mark.parametrize("change", A_RELOAD)
async def test_a_reload_behind_such_a_start_needs_the_disk_or_changes_nothing(
    tmp_path: Path, full: Callable[[bool], None], change: str
) -> None:
    groups, works = A_RELOAD[change]
    pair(bridge_of(tmp_path, WEB))
    full(True)
    bridge = bridge_of(tmp_path, typed("web", FAN))
    before = database(bridge)
    if change == "the same" or not works:
        with pytest.raises(StateUnwritable):
            regroup(bridge, *groups)
        assert database(bridge) == before
    else:
        regroup(bridge, *groups)
        assert types(bridge) == {group.aid: group.type for group in groups}
        assert "old type" not in bridge.storage_problem
    full(False)
    regroup(bridge, *groups)
    assert types(bridge) == {group.aid: group.type for group in groups}
    assert bridge.storage_problem == ""
    bridge._driver.stop_writing()


async def test_the_old_type_shows_what_the_group_is_and_takes_writes(
    tmp_path: Path, full: Callable[[bool], None]
) -> None:
    pair(bridge_of(tmp_path, WEB))
    full(True)
    bridge = bridge_of(tmp_path, typed("web", OUTLET))
    accessory = bridge._driver.accessory.accessories[aid_of("web")]
    assert not accessory.available
    bridge.set_available("web", available=True)
    bridge.show("web", Tile.GROUP, None, on=True)
    assert accessory.available
    on = accessory.get_service("Switch").get_characteristic("On")
    assert on.value is True
    with pytest.raises(StateUnwritable):
        regroup(bridge, typed("web", OUTLET))
    bridge._take_writes(Nothing())
    assert bridge._driver.slow_write(on) is not None
    full(False)
    regroup(bridge, typed("web", OUTLET))
    outlet = bridge._driver.accessory.accessories[aid_of("web")].get_service("Outlet")
    assert [outlet.get_characteristic(name).value for name in ("On", "OutletInUse")] == [True, True]
    assert bridge._driver.slow_write(outlet.get_characteristic("On")) is not None
    bridge._driver.stop_writing()


class Nothing:
    """A write handler for bridges without writes."""

    def write(self, *_: object, **__: object) -> NoReturn:
        raise NotImplementedError


async def test_a_pairing_that_could_be_written_brings_the_new_type_with_it(
    tmp_path: Path, full: Callable[[bool], None]
) -> None:
    pair(bridge_of(tmp_path, WEB))
    full(True)
    bridge = bridge_of(tmp_path, typed("web", FAN))
    version = bridge.config_version
    told: list[str] = []
    bridge.tell_of_changes(lambda: told.append(bridge.storage_problem))
    other = CONTROLLER.replace("8", "9")
    with pytest.raises(Exception, match="could not be written"):
        pair(bridge, other)
    assert types(bridge) == {aid_of("web"): SWITCH}
    full(False)
    pair(bridge, other)
    await turn()
    assert (types(bridge), bridge.config_version) == ({aid_of("web"): FAN}, version + 1)
    assert told
    assert set(told) == {""}
    assert types(bridge_of(tmp_path, typed("web", FAN))) == {aid_of("web"): FAN}


async def test_a_kill_between_two_writes_leaves_the_type_that_phones_know(
    tmp_path: Path, full: Callable[[bool], None]
) -> None:
    pair(bridge_of(tmp_path, WEB))
    full(True)
    bridge = bridge_of(tmp_path, typed("web", FAN))
    version = bridge.config_version
    full(False)
    pair(bridge, CONTROLLER.replace("8", "9"))
    bridge._driver.stop_writing()  # it is killed before it can do more
    full(True)
    again = bridge_of(tmp_path, typed("web", FAN))
    assert (types(again), again.config_version) == ({aid_of("web"): SWITCH}, version)
    again._driver.stop_writing()


async def test_a_change_that_fails_is_a_problem_until_something_is_written(
    tmp_path: Path, full: Callable[[bool], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    bridge = bridge_of(tmp_path, WEB)
    pair(bridge)
    await turn()
    told: list[str] = []
    bridge.tell_of_changes(lambda: told.append(bridge.storage_problem))
    full(True)
    with pytest.raises(StateUnwritable):
        bridge.unpair(None)
    await turn()
    assert bridge.storage_problem.startswith("cannot write the bridge's state")
    assert told == [bridge.storage_problem]
    with pytest.raises(StateUnwritable):
        bridge.reset_attempts()
    await turn()
    assert len(told) == 1
    full(False)
    bridge._driver.writer.try_again()
    await turn()
    assert told[1:] == [""]
    assert caplog.messages[-1] == "the bridge's state can be written again"


async def turn() -> None:
    """Run the callbacks that are due."""
    for _ in range(3):
        await asyncio.sleep(0)
