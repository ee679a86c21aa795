"""What `hkswitch status` shows: each group's state and its units', read from systemd."""

import json
from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from hkswitch.core.config import Config
from hkswitch.core.model import Group, GroupState, UnitState, Verdict
from hkswitch.systemd import Systemd

VERSION: Final = 1
NOT_KNOWN: Final = "not known"
STYLES: Final[Mapping[str, str]] = {
    GroupState.ON: "green",
    GroupState.STARTING: "yellow",
    GroupState.STOPPING: "yellow",
    GroupState.PARTIAL: "yellow",
    GroupState.OFF: "dim",
    GroupState.FAILED: "red",
    GroupState.MISSING: "red",
    NOT_KNOWN: "dim",
}

States = Mapping[str, UnitState]


async def read(config: Config) -> States:
    """The states of all units of all groups; raises `BusUnavailable`."""
    with await Systemd.connect() as systemd:
        return await systemd.states(unit for group in config.groups for unit in group.units)


def as_json(config: Config, states: States) -> str:
    """For programs: the keys that are there stay there as long as `version` is the same."""
    groups = [_group(group, states) for group in config.groups]
    return json.dumps({"version": VERSION, "groups": groups}, indent=2)


def show(config: Config, states: States, console: Console) -> None:
    """For people: a table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("group", "name", "state", "units"):
        table.add_column(heading, overflow="fold")
    for group in config.groups:
        state = _state(group, states)
        units = "\n".join(f"{unit} {states[unit]}" for unit in group.units) or "(commands)"
        table.add_row(group.id, group.name, f"[{STYLES[state]}]{state}[/]", units)
    console.print(table)


def _group(group: Group, states: States) -> dict[str, Any]:
    units = [
        {"unit": unit, "load": states[unit].load, "active": states[unit].active, "sub": states[unit].sub}
        for unit in group.units
    ]
    return {"id": group.id, "name": group.name, "state": _state(group, states), "units": units}


def _state(group: Group, states: States) -> str:
    """The state in a word. What commands and checks say is known to the daemon and to root only."""
    state = group.state(states, None if group.commands else Verdict.ON)
    return NOT_KNOWN if state is None else state
