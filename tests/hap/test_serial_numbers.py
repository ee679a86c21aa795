"""The serial numbers of accessories: HomeKit wants them unique, stable, and two characters or longer."""

from dataclasses import replace
from pathlib import Path

import pytest

from hkswitch.hap.announcement import serial_number
from hkswitch.model.group import AccessoryType, AlertSensor, aid_of
from tests.support.accessory_database import bridge_of, database, recorded_database, typed, value_of

SERIAL_NUMBER = "30"
LONG = "l" * 64

SERIALS = [
    ("web", "web"),
    ("ab", "ab"),
    ("a", f"a:{aid_of('a'):08x}"),
    ("1", f"1:{aid_of('1'):08x}"),
    (LONG, LONG),
    ("web:restart", "web:restart"),
    ("a:restart", "a:restart"),
    ("web:alert", "web:alert"),
    (f"{'l' * 56}:restart", f"{'l' * 56}:restart"),
    (f"{'l' * 57}:restart", f"{'l' * 55}:{aid_of('l' * 57 + ':restart'):08x}"),
    (f"{LONG}:restart", f"{'l' * 55}:{aid_of(LONG + ':restart'):08x}"),
]


@pytest.mark.parametrize(("identity", "serial"), SERIALS)
def test_a_serial_number_is_the_identity_where_homekit_takes_it(identity: str, serial: str) -> None:
    found = serial_number(identity, aid_of(identity))
    assert found == serial
    assert 2 <= len(found) <= 64


async def test_every_accessory_has_its_own_as_controllers_read_it(tmp_path: Path) -> None:
    ids = ["a", "b", "ab", "a-b", LONG, "l" * 63, "l" * 57, "l" * 56, "l" * 55]
    groups = [
        replace(typed(each, AccessoryType.SWITCH, restart=True), alert=AlertSensor.CONTACT) for each in ids
    ]
    served = database(bridge_of(tmp_path, *groups))
    serials = [value_of(accessory, SERIAL_NUMBER) for accessory in served]
    assert len(serials) == len(set(serials)) == 1 + sum(len(group.names) for group in groups)
    assert all(2 <= len(serial) <= 64 for serial in serials)
    again = database(bridge_of(tmp_path, *groups))
    assert [value_of(accessory, SERIAL_NUMBER) for accessory in again] == serials


async def test_a_valid_one_is_what_it_was_in_the_first_version(tmp_path: Path) -> None:
    served = {each["aid"]: value_of(each, SERIAL_NUMBER) for each in recorded_database() if each["aid"] != 1}
    groups = [typed(kind, AccessoryType(kind)) for kind in AccessoryType]
    kick = typed("kick", AccessoryType.SWITCH, restart=True)
    now = database(bridge_of(tmp_path, *groups, kick))
    assert {each["aid"]: value_of(each, SERIAL_NUMBER) for each in now if each["aid"] != 1} == served
