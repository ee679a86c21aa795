"""Accessories that were taken over are served as they were, and nothing else ever gets their ids."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hkswitch.hap import state_file
from hkswitch.hap.iids import Record
from hkswitch.hap.state_file import FILE_NAME, StateDamaged, Stored
from hkswitch.hap.state_format import digest
from hkswitch.hap.stored_pairings import StoredPairings
from hkswitch.hap.taken_over import TakenAccessory, TakenOver, Texts, encode_taken_over, parse_taken_over
from hkswitch.model.group import AccessoryType, AlertSensor, Group, aid_of
from tests.hap.test_state_file import stored
from tests.support.accessory_database import bridge_of, database, meanings, regroup, renamed, typed

SWITCH, OUTLET, LIGHT, FAN = AccessoryType

INFORMATION = {"3E": 1, "3E.14": 2, "3E.20": 3, "3E.21": 4, "3E.23": 5, "3E.30": 6, "3E.52": 7}
SWITCH_IIDS = {**INFORMATION, "49": 8, "49.23": 9, "49.25": 10}
RECORD: Record = {
    1: {**INFORMATION, "A2": 2_000_000_008, "A2.37": 9},
    5: SWITCH_IIDS,  # of a switch that is gone
    2: SWITCH_IIDS,
    7: {"0.B": 11, **INFORMATION, "49": 12, "49.23": 14, "49.25": 13},
}
BRIDGE = Texts("Homebridge CAD8", "homebridge.io", "homebridge", "CC:22:3D:E3:CE:30")
WEB = Texts("Web & more", "Default-Manufacturer", "Default-Model", "Default-SerialNumber")
FILES = Texts("Files", "Acme", "Model 1", "A1")
TAKEN = TakenOver(
    8, BRIDGE, {"web": TakenAccessory(2, WEB, "Web"), "files": TakenAccessory(7, FILES, "Files")}
)
GROUPS = (typed("web", SWITCH), typed("files", SWITCH))


def taken_over() -> Stored:
    """The state after a take-over from a bridge with c# 4."""
    before = stored()
    accessory = before.accessory | {"accessories_hash": None, "config_version": 5}
    return replace(before, accessory=accessory, iids=RECORD, taken_over=TAKEN)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    state_file.write(tmp_path, taken_over())
    return tmp_path


def texts(accessories: list[dict[str, Any]]) -> dict[int, tuple[str, ...]]:
    """Return name, manufacturer, model and serial number, and the Name of the switch, by aid."""
    found = {}
    for accessory in accessories:
        values = {
            f"{service['type']}.{each['type']}": each.get("value")
            for service in accessory["services"]
            for each in service["characteristics"]
        }
        keys = ("3E.23", "3E.20", "3E.21", "3E.30", "49.23")
        found[accessory["aid"]] = tuple(values[key] for key in keys if key in values)
    return found


def served(aid: int, record: Record) -> dict[tuple[int, int], str]:
    return {(aid, iid): what for what, iid in record[aid].items() if not what.startswith("0.")}


async def test_every_id_and_every_text_is_as_it_was(folder: Path) -> None:
    found = database(bridge_of(folder, *GROUPS))
    assert meanings(found) == served(1, RECORD) | served(2, RECORD) | served(7, RECORD)
    assert texts(found) == {1: tuple(BRIDGE), 2: (*WEB, WEB.name), 7: (*FILES, FILES.name)}


async def test_the_first_start_announces_the_c_number_of_the_take_over_and_the_second_the_same(
    folder: Path,
) -> None:
    assert bridge_of(folder, *GROUPS).config_version == 5
    assert bridge_of(folder, *GROUPS).config_version == 5
    assert bridge_of(folder, *GROUPS, typed("new", FAN)).config_version == 6


CHANGES: dict[str, Callable[[], tuple[Group, ...]]] = {
    "a group added": lambda: (*GROUPS, typed("new", LIGHT)),
    "a sensor added": lambda: (replace(GROUPS[0], alert=AlertSensor.CONTACT), GROUPS[1]),
    "a restart switch added": lambda: (typed("web", SWITCH, restart=True), GROUPS[1]),
    "another order": lambda: GROUPS[::-1],
    "another type, which it does not get": lambda: (typed("web", FAN), GROUPS[1]),
    "a group removed": lambda: GROUPS[:1],
    "all replaced": lambda: (typed("other", OUTLET),),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_of_the_config_changes_no_id_that_was_there(folder: Path, change: str) -> None:
    bridge = bridge_of(folder, *GROUPS)
    first = meanings(database(bridge))
    regroup(bridge, *CHANGES[change]())
    changed = meanings(database(bridge))
    assert {ids: what for ids, what in changed.items() if ids in first}.items() <= first.items()
    assert {aid for aid, _ in changed} & {3, 4, 5, 6} == set()
    regroup(bridge, *GROUPS)
    assert meanings(database(bridge)) == first
    assert meanings(database(bridge_of(folder, *GROUPS))) == first


async def test_a_type_that_it_does_not_get_is_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    bridge = bridge_of(folder, typed("web", FAN), GROUPS[1])
    assert caplog.messages == ["web: stays a switch, because it was taken over from Homebridge"]
    assert bridge.type_note == caplog.messages[0]
    regroup(bridge, typed("web", FAN), typed("files", LIGHT), typed("new", LIGHT))
    assert bridge.type_note == "web, files: stay switches, because they were taken over from Homebridge"
    regroup(bridge, *GROUPS)
    assert bridge.type_note == ""


async def test_a_new_name_in_the_config_reaches_phones_and_the_bridge_keeps_its_own(folder: Path) -> None:
    bridge = bridge_of(folder, *GROUPS)
    regroup(bridge, renamed(GROUPS[0], "Website"), GROUPS[1])
    found = texts(database(bridge))
    assert found[2] == ("Website", *WEB[1:], "Website")
    assert found[1][0] == BRIDGE.name


async def test_a_restart_switch_can_be_one_that_was_taken_over(tmp_path: Path) -> None:
    again = TAKEN._replace(accessories={"web:restart": TakenAccessory(2, WEB, "Restart Web")})
    state_file.write(tmp_path, replace(taken_over(), taken_over=again))
    found = meanings(database(bridge_of(tmp_path, typed("web", LIGHT, restart=True))))
    assert {aid for aid, _ in found} == {1, 2, aid_of("web")}
    assert served(2, RECORD).items() <= found.items()


def test_an_aid_below_the_first_free_one_is_never_a_new_groups() -> None:
    assert aid_of("web", aid_of("web")) == aid_of("web")
    assert aid_of("web", aid_of("web") + 1) > aid_of("web")


async def test_without_a_controller_nothing_is_taken_over_any_more(folder: Path) -> None:
    StoredPairings(folder).unpair(None)
    contents = json.loads((folder / FILE_NAME).read_text())
    assert (contents["version"], "taken_over" in contents) == (2, False)
    assert {accessory["aid"] for accessory in database(bridge_of(folder, *GROUPS))} == {
        1,
        aid_of("web"),
        aid_of("files"),
    }


async def test_removing_the_last_controller_while_it_serves_ends_the_take_over_at_the_next_start(
    folder: Path,
) -> None:
    bridge = bridge_of(folder, *GROUPS)
    before = meanings(database(bridge))
    bridge.unpair(None)
    assert meanings(database(bridge)) == before
    assert {aid for aid, _ in meanings(database(bridge_of(folder, *GROUPS)))} & {2, 7} == set()
    assert json.loads((folder / FILE_NAME).read_text())["version"] == 2


# The file


def test_only_a_state_with_something_taken_over_has_the_newest_format(folder: Path) -> None:
    found = state_file.read(folder)
    assert found is not None
    assert (found.taken_over, found.iids) == (TAKEN, RECORD)
    assert json.loads((folder / FILE_NAME).read_text())["version"] == 3
    state_file.write(folder, stored())
    assert json.loads((folder / FILE_NAME).read_text())["version"] == 2


GOOD = encode_taken_over(TAKEN)
ACCESSORY = GOOD["accessories"]["web"]


def accessory(**changed: object) -> dict[str, object]:
    return GOOD | {"accessories": {"web": ACCESSORY | changed}}


DAMAGED: dict[str, object] = {
    "no object": [],
    "no bridge": {key: value for key, value in GOOD.items() if key != "bridge"},
    "a bridge without a name": GOOD | {"bridge": {**BRIDGE._asdict(), "name": None}},
    "no accessories": GOOD | {"accessories": []},
    "an accessory that is none": GOOD | {"accessories": {"web": 2}},
    "an empty identity": GOOD | {"accessories": {"": ACCESSORY}},
    "a long identity": GOOD | {"accessories": {"w" * 129: ACCESSORY}},
    "one aid twice": GOOD | {"accessories": {"web": ACCESSORY, "files": ACCESSORY}},
    "the bridge's aid": accessory(aid=1),
    "an aid that is true": accessory(aid=True),
    "an aid that is free": accessory(aid=8),
    "a long text": accessory(model="m" * 257),
    "half of a pair": accessory(model="\ud800"),
    "a number as a text": accessory(serial_number=1),
    "no configured name": accessory(configured_name=None),
    "a first aid that is true": GOOD | {"first_free_aid": True},
    "a first aid that is too large": GOOD | {"first_free_aid": 2**53 + 1},
}
SOUND: dict[str, object] = {
    "as written": GOOD,
    "nothing but the bridge": GOOD | {"accessories": {}},
    "a key of a newer version": GOOD | {"moon": 1},
    "an empty text": accessory(model=""),
    "the largest aid": accessory(aid=2**53 - 1) | {"first_free_aid": 2**53},
}


@pytest.mark.parametrize("what", SOUND)
def test_sound_contents_are_read(what: str) -> None:
    assert parse_taken_over(SOUND[what]).bridge == BRIDGE


@pytest.mark.parametrize("what", DAMAGED)
def test_damaged_contents_are_refused(folder: Path, what: str) -> None:
    contents = json.loads((folder / FILE_NAME).read_text())
    del contents["sha256"]
    contents["taken_over"] = DAMAGED[what]
    for name in (FILE_NAME, state_file.BACKUP_NAME):
        (folder / name).write_text(json.dumps(contents | {"sha256": digest(contents)}))
    with pytest.raises(StateDamaged, match="unexpected contents"):
        state_file.read(folder)
