"""A bridge's accessory database as a controller reads it, without a network."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NoReturn

from hkswitch.daemon.bridge import Bridge
from hkswitch.model.group import AccessoryType, Group
from hkswitch.model.unit_state import Action

Ids = tuple[int, int]
"""AID and IID."""

CONTROLLER: Final = "8DE3A2C0-5D7B-4E7C-9F52-3F1B7A2D9E10"
RECORDED: Final = Path(__file__).parents[1] / "hap" / "recorded"
"""States that other versions wrote, with their accessories. Version 0.1.0 at 3f8f62a made format 1."""

RECORDED_GROUPS: Final = (
    *(Group(kind.value, f"Some {kind.title()}", (f"{kind}.service",), kind) for kind in AccessoryType),
    Group("kick", "Kick", ("kick.service",), actions=frozenset(Action), restart=True),
)
"""Of those states."""


class NoTaps:
    """A write handler for bridges without writes."""

    def write(self, *_: object, **__: object) -> NoReturn:
        raise NotImplementedError


def typed(group_id: str, kind: AccessoryType, *, restart: bool = False) -> Group:
    """Return a group of the given type."""
    actions = frozenset(Action) if restart else frozenset({Action.START, Action.STOP})
    return Group(group_id, group_id.title(), (f"{group_id}.service",), kind, actions, restart)


def renamed(group: Group, name: str) -> Group:
    return replace(group, name=name)


def bridge_of(folder: Path, *groups: Group) -> Bridge:
    """Return an offline bridge with its state in `folder`; needs a running event loop."""
    return Bridge("Test", groups, folder, 51826)


def pair(bridge: Bridge, controller: str = CONTROLLER) -> None:
    """Pair a controller as the last step of pair-setup does."""
    bridge._driver.pair(controller.encode(), bytes(range(32)), b"\1")
    assert controller in {each.id for each in bridge.controllers()}


def regroup(bridge: Bridge, *groups: Group) -> None:
    bridge.regroup(groups, NoTaps())


def database(bridge: Bridge) -> list[dict[str, Any]]:
    """Return the response to GET /accessories."""
    served: list[dict[str, Any]] = bridge._driver.get_accessories()["accessories"]
    return served


def recorded_database() -> list[dict[str, Any]]:
    """Return the accessories that a bridge of format 1 served."""
    served: list[dict[str, Any]] = json.loads((RECORDED / "format-1-accessories.json").read_text())[
        "accessories"
    ]
    return served


def meanings(accessories: list[dict[str, Any]]) -> dict[Ids, str]:
    """Return the meaning of each aid and iid; fails if two share one."""
    found: dict[Ids, str] = {}
    for accessory in accessories:
        for service in accessory["services"]:
            entries = [(service["iid"], service["type"])]
            entries += [
                (each["iid"], f"{service['type']}.{each['type']}") for each in service["characteristics"]
            ]
            for iid, meaning in entries:
                assert (accessory["aid"], iid) not in found, "two share an aid and iid"
                found[accessory["aid"], iid] = meaning
    return found


def value_of(accessory: dict[str, Any], kind: str) -> Any:  # noqa: ANN401 -- a characteristic's value
    """Return the value of the first characteristic of a type."""
    found = [each for service in accessory["services"] for each in service["characteristics"]]
    return next(each["value"] for each in found if each["type"] == kind)
