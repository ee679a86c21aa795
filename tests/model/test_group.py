import hashlib
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from hkswitch.model.group import RESERVED_AIDS, AccessoryType, Commands, Engine, Group, aid_of
from hkswitch.model.unit_state import Action, ActiveState, GroupState, LoadState, ProbeResult, UnitState
from hkswitch.protocol.helper import LONGEST_TOKEN


@pytest.mark.parametrize(
    ("identity", "aid"),
    [
        ("vm-guests", 713421307),
        ("fileserver", 2444361350),
        ("web", 1264474102),
        ("web:restart", 692055487),
    ],
)
def test_an_aid_never_changes(identity: str, aid: int) -> None:
    assert aid_of(identity) == aid


def test_a_group_has_two_aids() -> None:
    group = Group("web", "Web Server", ("httpd.service",), AccessoryType.OUTLET)
    assert (group.aid, group.restart_aid) == (1264474102, 692055487)


@pytest.mark.parametrize("reserved", sorted(RESERVED_AIDS))
def test_a_reserved_aid_is_never_given(reserved: int, monkeypatch: pytest.MonkeyPatch) -> None:
    first = reserved.to_bytes(4, "big") + bytes(28)

    sha256 = hashlib.sha256

    def rigged(data: bytes) -> SimpleNamespace:
        digest = first if data == b"web" else sha256(data).digest()
        return SimpleNamespace(digest=lambda: digest)

    monkeypatch.setattr(hashlib, "sha256", rigged)
    assert {0, 1, 7} == RESERVED_AIDS
    assert aid_of("web") == int.from_bytes(sha256(first).digest()[:4], "big")


UNITS = Group("web", "Web", ("a.service", "b.service"), check=("/opt/check", "web"))
CONTAINED = Group("web", "Web", containers=("web", "db"))
LAMP = Group("lamp", "Lamp", commands=Commands(("/opt/on",), ("/opt/off",), ("/opt/status",)))


@pytest.mark.parametrize(
    ("group", "changes"),
    [
        (UNITS, {"name": "Website"}),
        (UNITS, {"type": AccessoryType.FAN}),
        (UNITS, {"interval_seconds": 5}),
        (UNITS, {"id": "site"}),
        (UNITS, {"actions": frozenset([Action.STOP, Action.START])}),
        (replace(UNITS, actions=frozenset(Action)), {"restart": True}),
        (LAMP, {"name": "Light"}),
        (UNITS, {"engine": Engine.PODMAN}),
    ],
    ids=lambda value: value.id if isinstance(value, Group) else " ".join(value),
)
def test_the_token_stays_where_root_would_do_the_same(group: Group, changes: dict[str, Any]) -> None:
    assert replace(group, **changes).token == group.token


@pytest.mark.parametrize(
    ("group", "changes"),
    [
        (UNITS, {"units": ("a.service",)}),
        (UNITS, {"units": ("a.service", "c.service")}),
        (UNITS, {"units": ("b.service", "a.service")}),
        (UNITS, {"units": ("a.service,b.service",)}),
        (UNITS, {"check": ()}),
        (UNITS, {"check": ("/opt/check",)}),
        (UNITS, {"check": ("/opt/check web",)}),
        (UNITS, {"actions": frozenset([Action.START])}),
        (UNITS, {"actions": frozenset(Action)}),
        (UNITS, {"timeout_seconds": 11}),
        (UNITS, {"units": (), "commands": LAMP.commands}),
        (UNITS, {"containers": ("web",)}),
        (UNITS, {"compose": "web"}),
        (CONTAINED, {"containers": ("web",)}),
        (CONTAINED, {"containers": ("db", "web")}),
        (CONTAINED, {"engine": Engine.PODMAN}),
        (CONTAINED, {"containers": (), "compose": "web"}),
        (LAMP, {"commands": Commands(("/opt/on", ""), ("/opt/off",), ("/opt/status",))}),
        (LAMP, {"commands": Commands(("/opt/off",), ("/opt/on",), ("/opt/status",))}),
        (LAMP, {"commands": Commands(("/opt/on",), ("/opt/off",), ("/opt/other",))}),
        (LAMP, {"commands": Commands(("/opt/on",), ("/opt/off",), ("/opt/status",), ("/opt/on",))}),
    ],
    ids=lambda value: value.id if isinstance(value, Group) else " ".join(value),
)
def test_the_token_is_another_one_where_root_would_do_something_else(
    group: Group, changes: dict[str, Any]
) -> None:
    assert replace(group, **changes).token != group.token


def test_a_token_is_the_same_in_every_process_and_fits_into_a_message() -> None:
    assert UNITS.token == "128c460ba37b52bfe34de6258c730408"
    assert LAMP.token == "88f2ada453bb394a09167351b3a7d803"
    assert len(UNITS.token) <= LONGEST_TOKEN


UP = UnitState(LoadState.LOADED, ActiveState.ACTIVE, "running")
DOWN = UnitState(LoadState.LOADED, ActiveState.INACTIVE, "dead")


@pytest.mark.parametrize(
    ("units", "probe_result", "state"),
    [
        ((UP, UP), ProbeResult.ON, GroupState.ON),
        ((UP, UP), ProbeResult.OFF, GroupState.PARTIAL),
        ((UP, UP), ProbeResult.UNAVAILABLE, None),
        ((UP, UP), None, None),
        ((DOWN, DOWN), None, GroupState.OFF),
        ((DOWN, DOWN), ProbeResult.ON, GroupState.OFF),
        ((UP, DOWN), ProbeResult.ON, GroupState.PARTIAL),
        ((UP, DOWN), ProbeResult.UNAVAILABLE, GroupState.PARTIAL),
        ((UP,), ProbeResult.ON, None),
        ((), None, None),
    ],
)
def test_a_check_has_a_say_about_units_that_are_all_up(
    units: tuple[UnitState, ...], probe_result: ProbeResult | None, state: GroupState | None
) -> None:
    assert UNITS.state(dict(zip(UNITS.units, units, strict=False)), probe_result) is state


@pytest.mark.parametrize(
    ("probe_result", "state"),
    [
        (ProbeResult.ON, GroupState.ON),
        (ProbeResult.OFF, GroupState.OFF),
        (ProbeResult.UNAVAILABLE, None),
        (None, None),
    ],
)
def test_a_group_of_commands_is_what_its_status_says(
    probe_result: ProbeResult | None, state: GroupState | None
) -> None:
    assert LAMP.state({}, probe_result) is state
    assert LAMP.state({"a.service": DOWN}, probe_result) is state
