"""What another host says that one of its groups is: it counts there, and this config's own keys here."""

from dataclasses import replace
from typing import Any, Final

import pytest

from hkswitch.model.elsewhere import Elsewhere, RemoteHost, Trait
from hkswitch.model.group import AccessoryType, AlertSensor, Group, RestartWhen
from hkswitch.model.told_group import UNTOLD, Told, as_told, is_untold, still_told
from hkswitch.model.unit_state import Action, ActiveState, GroupState, LoadState, ProbeResult, UnitState

NAS: Final = RemoteHost("nas", "nas.lan")
MEDIA: Final = Group("nas-media", "NAS Media", elsewhere=Elsewhere(NAS, "media"))
ALL: Final = (Action.START, Action.STOP, Action.RESTART)
BOTH: Final = (Action.START, Action.STOP)
UP: Final = UnitState(LoadState.LOADED, ActiveState.ACTIVE, "running")


def told(*traits: Trait, actions: tuple[Action, ...] = BOTH, members: tuple[str, ...] = ()) -> Group:
    return as_told(MEDIA, Told("t1", members, actions, frozenset(traits), 7))


def test_a_group_of_units_there_is_one_here() -> None:
    group = told(members=("plex.service", "docker/web"), actions=ALL)
    assert group.members == ("plex.service", "docker/web")
    assert group.actions == {*ALL}
    assert (group.commands, group.check, group.timeout_seconds) == (None, (), 7)
    assert group.elsewhere == Elsewhere(NAS, "media", "t1")
    assert not is_untold(group)


@pytest.mark.parametrize(
    ("traits", "probe_result", "state"),
    [
        ((), None, GroupState.ON),
        ((Trait.PROBE,), None, None),
        ((Trait.PROBE,), ProbeResult.ON, GroupState.ON),
        ((Trait.PROBE,), ProbeResult.OFF, GroupState.PARTIAL),
        ((Trait.PROBE,), ProbeResult.UNAVAILABLE, None),
        ((Trait.COMMANDS,), None, None),
        ((Trait.COMMANDS, Trait.PROBE), ProbeResult.ON, GroupState.ON),
        ((Trait.COMMANDS, Trait.PROBE), ProbeResult.OFF, GroupState.OFF),
        ((Trait.COMMANDS, Trait.ASSUMED), ProbeResult.ON, GroupState.ON),
        ((Trait.COMMANDS, Trait.MOMENTARY), None, GroupState.OFF),
        (tuple(Trait), None, GroupState.OFF),
    ],
)
def test_the_state_follows_from_the_traits(
    traits: tuple[Trait, ...], probe_result: ProbeResult | None, state: GroupState | None
) -> None:
    assert told(*traits, members=("a.service",)).state({"a.service": UP}, probe_result) is state


@pytest.mark.parametrize(
    ("traits", "each_time"),
    [
        ((), False),
        ((Trait.PROBE,), False),
        ((Trait.COMMANDS, Trait.PROBE), False),
        ((Trait.COMMANDS,), True),
        ((Trait.COMMANDS, Trait.ASSUMED), True),
        ((Trait.COMMANDS, Trait.MOMENTARY), True),
    ],
)
def test_every_tap_runs_a_command_whose_result_nothing_tells(
    traits: tuple[Trait, ...], *, each_time: bool
) -> None:
    assert told(*traits).runs_each_time is each_time


@pytest.mark.parametrize("actions", [(), (Action.STOP,), ALL])
def test_only_the_commands_of_its_actions_are_known_and_none_can_be_run(actions: tuple[Action, ...]) -> None:
    commands = told(Trait.COMMANDS, actions=actions).commands
    assert commands is not None
    assert [action for action in ALL if commands.of(action)] == [each for each in ALL if each in actions]
    assert {commands.of(action) for action in actions} <= {UNTOLD}
    assert not UNTOLD[0].startswith("/")


@pytest.mark.parametrize(("token", "untold"), [("", True), ("t1", False)])
def test_a_group_without_a_token_is_not_there(token: str, *, untold: bool) -> None:
    assert is_untold(as_told(MEDIA, Told(token, (), BOTH, frozenset(), 7))) is untold


def test_a_group_of_this_machine_is_never_untold() -> None:
    assert not is_untold(Group("web", "Web", ("httpd.service",)))
    with pytest.raises(AssertionError):
        as_told(Group("web", "Web"), Told("t1", (), BOTH, frozenset(), 7))


OWN: Final[dict[str, Any]] = {
    "name": "Films",
    "type": AccessoryType.FAN,
    "restart": True,
    "alert": AlertSensor.LEAK,
    "restart_when": RestartWhen(cpu_percent=1),
}


@pytest.mark.parametrize("key", OWN)
def test_a_reload_keeps_what_was_told_and_takes_what_is_this_configs_own(key: str) -> None:
    before, after = told(Trait.PROBE, members=("plex.service",)), replace(MEDIA, **{key: OWN[key]})
    kept = still_told(after, before)
    assert kept == replace(before, **{key: OWN[key]})
    assert kept.token == before.token, "it means the same"


@pytest.mark.parametrize(
    "after",
    [
        replace(MEDIA, elsewhere=Elsewhere(RemoteHost("pi", "nas.lan"), "media")),
        replace(MEDIA, elsewhere=Elsewhere(RemoteHost("nas", "pi.lan"), "media")),
        replace(MEDIA, elsewhere=Elsewhere(NAS, "films")),
        replace(MEDIA, elsewhere=None, units=("plex.service",)),
    ],
    ids=["another host", "another address", "another group there", "this machine"],
)
def test_a_group_in_another_place_is_another_group(after: Group) -> None:
    assert still_told(after, told(members=("plex.service",))) == after


@pytest.mark.parametrize(
    "before", [None, MEDIA, Group("nas-media", "x", ("a.service",))], ids=["new", "untold", "local"]
)
def test_a_group_that_was_never_told_is_as_in_the_config(before: Group | None) -> None:
    assert still_told(MEDIA, before) == MEDIA
