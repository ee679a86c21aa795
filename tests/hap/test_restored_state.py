"""What a bridge's state becomes by a restore: nothing that phones rely on gets another meaning."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hkswitch.hap import state_file
from hkswitch.hap.iids import MOST_RECORDED_ACCESSORIES, Record, merge_records
from hkswitch.hap.restored_state import UNSEEN_CHANGES, next_config_version, restored_state
from hkswitch.hap.state_format import Stored
from hkswitch.hap.taken_over import TakenOver, Texts
from tests.hap.test_state_file import ADMIN, OTHER_ADMIN, USER, stored
from tests.support.accessory_database import bridge_of

FIRST = stored(**{USER: 0})


def changed(state: Stored, **accessory: Any) -> Stored:  # noqa: ANN401 -- JSON
    return replace(state, accessory=state.accessory | accessory)


def paired_with(*controllers: str, version: int = 7) -> Stored:
    """The same bridge with these controllers, all admins."""
    own = stored(**dict.fromkeys(controllers, 1)).accessory
    names = ("paired_clients", "client_properties", "client_uuid_to_bytes")
    pairings = {
        name: {uuid: value for uuid, value in own[name].items() if uuid.upper() in controllers}
        for name in names
    }
    return changed(FIRST, config_version=version, **pairings)


def ids(state: Stored) -> set[str]:
    return {each.id for each in state.controllers}


@pytest.mark.parametrize(
    ("today", "removed", "since"),
    [
        ((ADMIN, USER), (), ()),
        ((ADMIN,), (USER,), ()),
        ((), (ADMIN, USER), ()),
        ((ADMIN, USER, OTHER_ADMIN), (), (OTHER_ADMIN,)),
        ((OTHER_ADMIN,), (ADMIN, USER), (OTHER_ADMIN,)),
    ],
)
def test_a_bridge_keeps_todays_controllers(
    today: tuple[str, ...], removed: tuple[str, ...], since: tuple[str, ...]
) -> None:
    result = restored_state(FIRST, paired_with(*today))
    assert result.is_same_bridge
    assert ids(result.stored) == {*today}
    assert (result.removed, result.paired_since) == (removed, since)


def test_a_controller_that_was_removed_and_paired_again_keeps_its_new_key_and_permissions() -> None:
    uuid = USER.lower()
    keys, permissions = FIRST.accessory["paired_clients"], FIRST.accessory["client_properties"]
    today = changed(
        FIRST,
        paired_clients=keys | {uuid: "22" * 32},
        client_properties=permissions | {uuid: {"permissions": 1}},
    )
    result = restored_state(FIRST, today).stored.accessory
    assert result["paired_clients"] == today.accessory["paired_clients"]
    assert result["client_properties"] == today.accessory["client_properties"]


@pytest.mark.parametrize(
    "today",
    [
        None,
        changed(paired_with(ADMIN), mac="AA:BB:CC:DD:EE:FF"),
        changed(paired_with(ADMIN), private_key="11" * 32, public_key="22" * 32),
    ],
    ids=["none", "another ID", "another key"],
)
def test_on_another_bridge_all_controllers_are_restored(today: Stored | None) -> None:
    result = restored_state(FIRST, today)
    assert not result.is_same_bridge
    assert ids(result.stored) == {ADMIN, USER}
    version = FIRST.accessory["config_version"] + UNSEEN_CHANGES
    assert result.stored == replace(changed(FIRST, config_version=version), was_restored=True)


@pytest.mark.parametrize(
    ("saved", "today", "is_newer_here", "result"),
    [
        (7, 7, True, 8),
        (7, 9, True, 10),
        (9, 7, False, 1009),
        (65535, 2, True, 3),
        (2, 65535, False, 1002),
        (65534, 65535, True, 1),
        (64000, 1, True, 2),
        (1, 40000, False, 1001),
    ],
)
def test_c_grows_above_both_and_tells_which_state_is_the_newer_one(
    saved: int, today: int, is_newer_here: bool, result: int
) -> None:
    before = changed(FIRST, config_version=saved)
    now = replace(paired_with(ADMIN, version=today), failed_attempts=9)
    restored = restored_state(before, now)
    assert restored.stored.accessory["config_version"] == result
    assert (restored.is_same_bridge, restored.is_newer_here) == (True, is_newer_here)
    assert ids(restored.stored) == ({ADMIN} if is_newer_here else {ADMIN, USER})
    assert restored.stored.failed_attempts == 9
    assert restored.stored.was_restored is not is_newer_here


@pytest.mark.parametrize(("last", "by", "result"), [(0, 1, 1), (64535, 1000, 65535), (65000, 1000, 465)])
def test_c_wraps_to_one_and_is_never_zero(last: int, by: int, result: int) -> None:
    assert next_config_version(last, by) == result


def test_attempts_that_failed_since_the_backup_stay_counted() -> None:
    today = replace(paired_with(ADMIN), failed_attempts=99)
    assert restored_state(FIRST, today).stored.failed_attempts == 99


def test_what_was_taken_over_stays_as_phones_know_it_now() -> None:
    taken = TakenOver(9, Texts("Homebridge", "m", "m", "s"), {})
    assert restored_state(replace(FIRST, taken_over=taken), FIRST).stored.taken_over is None
    assert restored_state(FIRST, replace(FIRST, taken_over=taken)).stored.taken_over == taken


OLD: Record = {1: {"3E": 1}, 5: {"49": 8, "49.25": 9}, 6: {"43": 8}}


@pytest.mark.parametrize(
    ("newer", "merged"),
    [
        (OLD, OLD),
        ({}, OLD),
        ({5: {"47": 8}}, {1: {"3E": 1}, 6: {"43": 8}, 5: {"49.25": 9, "47": 8}}),
        ({5: {"49": 16, "49.25": 17}}, {1: {"3E": 1}, 6: {"43": 8}, 5: {"49": 16, "49.25": 17}}),
        ({7: {"49": 16}}, {**OLD, 7: {"49": 16}}),
    ],
)
def test_no_iid_gets_another_meaning_and_the_current_ones_stay_last(newer: Record, merged: Record) -> None:
    result = merge_records(OLD, newer)
    assert result == merged
    assert all(list(result[aid])[-len(iids) :] == list(iids) for aid, iids in newer.items())
    assert list(result)[len(result) - len(newer) :] == list(newer)


def test_a_full_record_drops_what_only_the_backup_has() -> None:
    newer = {aid: {"49": 16} for aid in range(100, 99 + MOST_RECORDED_ACCESSORIES)}
    assert merge_records(OLD, newer) == {6: OLD[6], **newer}


@pytest.mark.parametrize("lacks", ["saved", "today"])
def test_a_state_without_a_record_stays_what_the_daemon_takes_it_for(lacks: str) -> None:
    without = replace(FIRST, iids=None)
    saved, today = (without, FIRST) if lacks == "saved" else (FIRST, without)
    assert restored_state(saved, today).stored.iids == today.iids
    later = changed(saved, config_version=30)
    assert restored_state(later, today).stored.iids == saved.iids


async def test_a_restored_bridge_looks_for_the_old_one_until_it_has_no_controller(tmp_path: Path) -> None:
    state_file.write(tmp_path, stored())
    assert bridge_of(tmp_path)._driver.twins is None
    state_file.write(tmp_path, restored_state(stored(), None).stored)
    bridge = bridge_of(tmp_path)
    assert bridge._driver.twins is not None
    found = state_file.read(tmp_path)
    assert found is not None
    assert (found.was_restored, found.without(None).was_restored) == (True, False)
    bridge.unpair(None)
    assert bridge_of(tmp_path)._driver.twins is None
    found = state_file.read(tmp_path)
    assert found is not None
    assert not found.was_restored
