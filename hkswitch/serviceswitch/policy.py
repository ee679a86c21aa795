"""Who may do what: every fact is an argument, the last line is a refusal. Pure: no I/O. Used as root."""

from dataclasses import dataclass

from hkswitch.model.config import Config
from hkswitch.model.group import Group
from hkswitch.model.unit_state import Action

CHANGED = "the configuration has changed: `systemctl reload hkswitch`"


@dataclass(frozen=True, slots=True)
class Allowed:
    """The action may be done: on exactly the units of this group, or by its commands."""

    group: Group


@dataclass(frozen=True, slots=True)
class Denied:
    """Nothing may be done, and why."""

    reason: str


def permit(action: Action, group_id: str, token: str | None, config: Config) -> Allowed | Denied:
    """Whether the config lets `action` be done on the group called `group_id`.

    `token` stands for what the caller takes the group for; None for who takes it as it is.
    """
    group = config.group(group_id)
    if group is None:
        return Denied(f"there is no group {group_id!r} in the configuration")
    if token is not None and token != group.token:
        return Denied(CHANGED)
    if action in group.actions:
        return Allowed(group)
    return Denied(f"{action} is not in this group's actions")
