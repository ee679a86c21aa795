"""The assignment of iids to services and characteristics, and their record."""

from collections.abc import Mapping

import pytest

from hkswitch.hap.iids import (
    COMMON_IIDS,
    IIDS_BY_ORDER,
    IIDS_BY_TYPE,
    MOST_RECORDED_ACCESSORIES,
    IidAllocator,
    encode_record,
    parse_record,
)

SWITCH, ON_OF_SWITCH, OUTLET, UNKNOWN = "49", "49.25", "47", "AB"


def fresh() -> IidAllocator:
    return IidAllocator({}, paired=True)


def test_a_type_has_iids_that_no_other_type_has_or_ever_had() -> None:
    assert len(set(IIDS_BY_TYPE.values())) == len(IIDS_BY_TYPE)
    own = IIDS_BY_TYPE.items() - COMMON_IIDS.items()
    before = IIDS_BY_ORDER.items() - COMMON_IIDS.items()
    assert not {iid for _, iid in own} & {iid for _, iid in before}


GIVEN_OUT = """
    3E=1 3E.14=2 3E.20=3 3E.21=4 3E.23=5 3E.30=6 3E.52=7
    A2=8 A2.37=9
    49=16 49.25=17
    47=32 47.25=33 47.26=34
    43=48 43.25=49
    40=64 40.25=65
    80=80 80.6A=81
    86=96 86.71=97
    83=112 83.70=113
"""
"""Phones remember these: add to them, and change none."""


def test_the_numbers_are_those_that_were_given_out() -> None:
    assert [f"{meaning}={iid}" for meaning, iid in IIDS_BY_TYPE.items()] == GIVEN_OUT.split()


RECORDS: list[tuple[Mapping[int, Mapping[str, int]] | None, bool, int]] = [
    ({}, True, 16),
    ({5: {SWITCH: 8}}, True, 8),  # what it had counts
    ({5: {SWITCH: 8}}, False, 16),  # no phone knows of it
    ({6: {SWITCH: 8}}, True, 16),  # another accessory's
    ({5: {OUTLET: 16}}, True, 1000),  # retired, and so taken
    ({5: {OUTLET: 16, UNKNOWN: 1000}}, True, 1001),
    ({5: {OUTLET: 16, UNKNOWN: 2**53}}, True, 1000),
    (None, True, 8),  # a version without a record served it
    (None, False, 16),
]


@pytest.mark.parametrize(("record", "paired", "iid"), RECORDS)
def test_a_service_has_the_iid_that_it_had_or_else_one_that_nothing_had(
    record: Mapping[int, Mapping[str, int]] | None, paired: bool, iid: int
) -> None:
    numbers = IidAllocator(record, paired=paired)
    assert numbers.iid(5, SWITCH) == iid
    assert numbers.iid(5, SWITCH) == iid


@pytest.mark.parametrize("record", [{}, None])
def test_a_sensor_has_its_own_numbers_also_where_there_was_no_record(
    record: dict[int, dict[str, int]] | None,
) -> None:
    numbers = IidAllocator(record, paired=True)
    assert [numbers.iid(5, what) for what in ("80", "80.6A", "86", "83.70")] == [80, 81, 96, 113]


def test_what_has_no_number_of_its_own_gets_a_free_one() -> None:
    numbers = fresh()
    assert [numbers.iid(5, meaning) for meaning in (UNKNOWN, f"{UNKNOWN}.25", SWITCH)] == [1000, 1001, 16]


def test_after_the_start_a_type_gets_its_own_iids_also_where_there_was_no_record() -> None:
    numbers = IidAllocator(None, paired=True)
    assert (numbers.iid(5, SWITCH), numbers.iid(5, ON_OF_SWITCH)) == (8, 9)
    numbers.assign_by_type_from_now()
    assert (numbers.iid(5, OUTLET), numbers.iid(6, SWITCH), numbers.iid(5, SWITCH)) == (32, 16, 8)


def test_an_iid_is_written_when_it_is_on_disk_or_was_served_before_there_was_a_record() -> None:
    old = IidAllocator(None, paired=True)
    old.iid(5, SWITCH)
    old.assign_by_type_from_now()
    old.iid(5, OUTLET)
    assert old.are_written(5, {SWITCH: 8})
    assert not old.are_written(5, {OUTLET: 32})
    old.written(old.to_write({5: {OUTLET: 32}}, paired=True))
    assert old.are_written(5, {SWITCH: 8, OUTLET: 32})
    assert not old.are_written(5, {SWITCH: 8})  # it is on disk as what this was
    assert not old.are_written(5, {SWITCH: 9})
    assert not old.are_written(6, {SWITCH: 8})


@pytest.mark.parametrize(
    ("iids", "type_"),
    [
        ({"3E": 1, SWITCH: 16, ON_OF_SWITCH: 17}, SWITCH),
        ({"3E": 1, OUTLET: 32, SWITCH: 16}, SWITCH),
        ({"3E": 1, SWITCH: 16, OUTLET: 32}, OUTLET),
        ({"3E": 1, "3E.14": 2}, "3E"),
        ({ON_OF_SWITCH: 17}, None),
        ({}, None),
    ],
)
def test_the_type_that_an_accessory_has_on_disk_is_its_last_service(
    iids: Mapping[str, int], type_: str | None
) -> None:
    assert IidAllocator({5: iids}, paired=True).written_type(5) == type_
    assert IidAllocator({5: iids}, paired=True).written_type(6) is None
    assert IidAllocator({5: iids}, paired=False).written_type(5) is None


def test_what_an_accessory_is_now_is_written_last_and_nothing_is_lost() -> None:
    numbers = IidAllocator({5: {"3E": 1, SWITCH: 16, OUTLET: 32}}, paired=True)
    written = numbers.to_write({5: {"3E": 1, SWITCH: 16}}, paired=True)
    assert [*written[5].items()] == [(OUTLET, 32), ("3E", 1), (SWITCH, 16)]


def test_what_was_never_served_is_forgotten_and_the_rest_is_not() -> None:
    numbers = IidAllocator({5: {SWITCH: 8}}, paired=True)
    numbers.iid(5, OUTLET)
    numbers.iid(6, SWITCH)
    numbers.discard_unwritten_except({6: {SWITCH: 16}})
    assert numbers.to_write({}, paired=True) == {5: {SWITCH: 8}, 6: {SWITCH: 16}}


@pytest.mark.parametrize(("paired", "kept"), [(True, {5, 6, 7}), (False, {6, 7})])
def test_a_bridge_without_controllers_forgets_what_it_does_not_serve(paired: bool, kept: set[int]) -> None:
    numbers = IidAllocator({5: {SWITCH: 8}, 6: {SWITCH: 8}}, paired=True)
    numbers.iid(7, SWITCH)
    assert numbers.to_write({6: {}, 7: {}}, paired=paired).keys() == kept


def test_of_more_than_fit_the_oldest_that_are_not_served_are_forgotten() -> None:
    numbers = IidAllocator({aid: {SWITCH: 8} for aid in range(2, MOST_RECORDED_ACCESSORIES + 2)}, paired=True)
    for aid in (10_000, 10_001, 10_002):
        numbers.iid(aid, SWITCH)
    kept = numbers.to_write({aid: {} for aid in (2, 10_000, 10_001, 10_002)}, paired=True).keys()
    assert len(kept) == MOST_RECORDED_ACCESSORIES
    assert {3, 4, 5} == set(range(2, MOST_RECORDED_ACCESSORIES + 2)) - kept


def test_the_record_is_read_as_it_was_written() -> None:
    record = {1: {"3E": 1, "3E.14": 2}, 2**32 - 1: {SWITCH: 8}, 3: {}}
    assert parse_record(encode_record(record)) == record


BAD: dict[str, object] = {
    "null": None,
    "a list": [],
    "an aid that is no number": {"x": {}},
    "the aid 0": {"0": {}},
    "an aid with a sign": {"+1": {}},
    "an aid with a zero first": {"01": {}},
    "an aid in other digits": {"\u0661": {}},
    "an aid without end": {"1" * 20: {}},
    "an aid with a newline": {"1\n": {}},
    "iids in a list": {"1": [1]},
    "iids that are null": {"1": None},
    "a type with an escape sequence": {"1": {"\x1b[2J": 1}},
    "a type in small letters": {"1": {"3e": 1}},
    "a type that is too long": {"1": {"3" * 9: 1}},
    "a type of nothing": {"1": {"": 1}},
    "three types": {"1": {"3E.14.14": 1}},
    "the iid 0": {"1": {"3E": 0}},
    "an iid below zero": {"1": {"3E": -1}},
    "an iid that is huge": {"1": {"3E": 2**53 + 1}},
    "an iid that is true": {"1": {"3E": True}},
    "an iid that is a fraction": {"1": {"3E": 1.0}},
    "an iid that is text": {"1": {"3E": "1"}},
    "an iid that is null": {"1": {"3E": None}},
    "an iid with two meanings": {"1": {"3E": 1, "49": 1}},
}


@pytest.mark.parametrize("bad", BAD)
def test_a_record_that_no_version_writes_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match=r"not |invalid |one iid"):
        parse_record(BAD[bad])
