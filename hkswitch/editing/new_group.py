"""Makes a group from what was typed: its members or its host, perhaps a name, perhaps an id. Pure: no I/O."""

import re
from collections.abc import Sequence
from typing import Final
from unicodedata import normalize

from hkswitch.model import config_values
from hkswitch.model.elsewhere import Elsewhere
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.group import AccessoryType, AlertSensor, Engine, Group
from hkswitch.model.unit_state import Action
from hkswitch.model.yaml_nodes import Position, Scalar

_LONGEST_ID: Final = 64


def new_group(  # noqa: PLR0913 -- one for each option
    units: Sequence[str],
    name: str | None,
    group_id: str | None,
    kind: AccessoryType,
    *,
    restart: bool,
    alert: AlertSensor | None = None,
    containers: Sequence[str] = (),
    compose: str = "",
    engine: Engine = Engine.DOCKER,
    elsewhere: Elsewhere | None = None,
) -> Group:
    """Return the group with these members, or of another host; units have their full names.

    Raises `Failure` for what the config would refuse, but for names that are too short for the engine.
    """
    stems = [*(unit.rpartition(".")[0] for unit in units), *containers, *([compose] if compose else [])]
    if name is None and group_id is None and len(stems) > 1:
        what = "units" if len(stems) == len(units) else "members"
        raise Failure(f'cannot name a group of several {what}; use `--name "A Name"`', Exit.USAGE)
    found_id = group_id or (id_of(name) if name else "") or id_of(stems[0])
    if not found_id:
        raise Failure("cannot make an id; use `--id`", Exit.USAGE)
    found_id = converted(found_id, config_values.group_id)
    shown = converted(name or _words(found_id), config_values.name)
    actions = {Action.START, Action.STOP, *([Action.RESTART] if restart else [])}
    return Group(
        *(found_id, shown, tuple(units), kind, frozenset(actions), restart, alert),
        containers=tuple(converted(each, config_values.container) for each in containers),
        engine=engine,
        compose=converted(compose, config_values.project) if compose else "",
        elsewhere=elsewhere,
    )


def unit_of(typed: str) -> str:
    """Return the full name of a unit. Raises `Failure` if it is none."""
    return converted(typed, config_values.unit)


def id_of(text: str) -> str:
    """Return an id like `file-server` for `File Server`; empty if no letter or digit is left."""
    plain = normalize("NFKD", text.replace("'", "")).encode("ascii", "ignore").decode().lower()
    return re.sub("[^a-z0-9]+", "-", plain).strip("-")[:_LONGEST_ID].rstrip("-")


def _words(group_id: str) -> str:
    return " ".join(word.capitalize() for word in group_id.split("-") if word)


def converted(text: str, convert: config_values.Convert[str]) -> str:
    """Return what the config would make of a text; raises `Failure` for what it would refuse."""
    try:
        return convert(Scalar(Position(1, 1), text, is_text=True))
    except ValueError as error:
        raise Failure(f"cannot add the group: {error}", Exit.USAGE) from None
