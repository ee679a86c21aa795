"""A group of another host, as that host's helper tells what it is. Pure: no I/O. Root does not import it.

Names, types, sensors and rules stay those of this config.
"""

from dataclasses import replace
from typing import Final, NamedTuple

from hkswitch.model.elsewhere import Elsewhere, Trait
from hkswitch.model.group import Argv, Commands, Group
from hkswitch.model.unit_state import Action

UNTOLD: Final[Argv] = ("(untold)",)
"""Stands for a command of another host: that there is one is known, but not which."""

_OWN_KEYS: Final = ("id", "name", "type", "restart", "alert", "restart_when")


class Told(NamedTuple):
    """What a host says that one of its groups is. `token` stands for it; empty: there is no such group."""

    token: str
    members: tuple[str, ...]
    actions: tuple[Action, ...]
    traits: frozenset[Trait]
    timeout_seconds: int


def as_told(group: Group, told: Told) -> Group:
    """Return a group of another host with what that host says it is."""
    assert group.elsewhere is not None  # noqa: S101 -- no other group is told
    has_probe = Trait.PROBE in told.traits
    commands = None
    if Trait.COMMANDS in told.traits:
        of_actions = {action.value: UNTOLD for action in told.actions}
        commands = Commands(**of_actions, status=UNTOLD if has_probe else ())
    return replace(
        group,
        elsewhere=group.elsewhere._replace(token=told.token),
        units=told.members,
        actions=frozenset(told.actions),
        commands=commands,
        check=UNTOLD if has_probe and commands is None else (),
        timeout_seconds=told.timeout_seconds,
        assume_state=Trait.ASSUMED in told.traits,
        momentary=Trait.MOMENTARY in told.traits,
    )


def still_told(group: Group, before: Group | None) -> Group:
    """Return the group of a new config with what was told of it before, if it is still the same one."""
    if before is None or _place(group) is None or _place(group) != _place(before):
        return group
    return replace(before, **{key: getattr(group, key) for key in _OWN_KEYS})


def is_untold(group: Group) -> bool:
    """Tell whether the group is another host's that has not told what it is."""
    return group.elsewhere is not None and not group.elsewhere.token


def _place(group: Group) -> Elsewhere | None:
    return None if group.elsewhere is None else group.elsewhere._replace(token="")
