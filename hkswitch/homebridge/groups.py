"""Converts a switch of Homebridge to a group, or finds out why that is impossible. Pure: no I/O."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from hkswitch.homebridge import commands
from hkswitch.homebridge.commands import Call, HomebridgeCommand, Verb, Which
from hkswitch.homebridge.expansion import NotUnderstood
from hkswitch.homebridge.names import id_of, name_of, without_restart
from hkswitch.homebridge.switches import CmdSwitch
from hkswitch.homebridge.wording import quoted
from hkswitch.homebridge.wrapper import Wrapper
from hkswitch.model.config_values import MOST_INTERVAL_SECONDS, MOST_TIMEOUT_SECONDS
from hkswitch.model.group import STATUS_INTERVAL_SECONDS, TIMEOUT_SECONDS, Commands, Group
from hkswitch.model.unit_state import Action

_WRITE_STATUS: Final = "add a 'status' command that exits with 0 for on and with 1 to 125 for off"
_ONLY_RUNNING: Final = "it does not start stopped units"
_NO_MOMENTARY_SWITCH: Final = "a group of commands needs both, because hkswitch has no momentary switches"


@dataclass(frozen=True, slots=True)
class Draft:
    """A switch and the group that it becomes, whose id and name need not be unique yet.

    If it cannot be imported, `why` gives the reasons, and `group` is incomplete, or None.
    """

    switch: CmdSwitch
    group: Group | None
    on: HomebridgeCommand | None = None
    off: HomebridgeCommand | None = None
    state: HomebridgeCommand | None = None
    why: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def restarts(self) -> bool:
        """Whether it only restarts units."""
        return self.group is not None and not self.why and self.group.actions == frozenset({Action.RESTART})


def draft(switch: CmdSwitch, wrapper: Wrapper, which: Which) -> Draft:
    """Convert a switch."""
    if switch.broken and not (switch.on or switch.off):
        return Draft(switch, None, why=(switch.broken,))
    on, off, state = (
        _command(text, wrapper, which) if text else None for text in (switch.on, switch.off, switch.state)
    )
    group = Group(_wanted_id(switch, wrapper, on, off), name_of(switch.name))
    begun = Draft(switch, group, on, off, state)
    if switch.broken:
        return _as_commands(begun, (switch.broken,))
    return _as_units(begun) or _as_commands(begun, ())


def joined(drafts: list[Draft]) -> list[Draft]:
    """Return the drafts, with each restart switch merged into the group with the same units, if any."""
    owners = {
        frozenset(each.group.units): index
        for index, each in reversed(list(enumerate(drafts)))
        if each.group and each.group.units and not each.why and not each.restarts
    }
    result = list(drafts)
    for index, each in enumerate(drafts):
        owner = owners.get(frozenset(each.group.units)) if each.group and each.restarts else None
        if owner is not None and (group := result[owner].group):
            with_restart = replace(group, restart=True, actions=group.actions | {Action.RESTART})
            note = f"{quoted(each.switch.name)} is now its restart switch, but {_ONLY_RUNNING}"
            result[owner] = replace(result[owner], group=with_restart, notes=(*result[owner].notes, note))
            joins = f"is now the restart switch of {quoted(result[owner].switch.name)}"
            result[index] = replace(each, group=None, notes=(joins,))
    return result


def _command(text: str, wrapper: Wrapper, which: Which) -> HomebridgeCommand:
    """Find out what a command does; if it calls the wrapper, what that does."""
    command = commands.read(text, which)
    arguments = _arguments(command, wrapper)
    if arguments is None:
        return command
    called = replace(command, argv=(wrapper.path, *arguments), why="")
    try:
        return replace(called, call=wrapper.call(arguments))
    except NotUnderstood as why:
        return replace(called, call=None, notes=(f"{quoted(wrapper.path)} is called as before: {why}",))


def _arguments(command: HomebridgeCommand | None, wrapper: Wrapper) -> tuple[str, ...] | None:
    """Return the arguments with which a command calls the wrapper; None if it does not call it."""
    match command.words if command else ():
        case (program, *arguments) if program in {wrapper.path, wrapper.path.rpartition("/")[2]}:
            return tuple(arguments)
        case ("bash" | "/bin/bash" | "/usr/bin/bash", wrapper.path, *arguments):
            return tuple(arguments)
    return None


def _wanted_id(
    switch: CmdSwitch, wrapper: Wrapper, on: HomebridgeCommand | None, off: HomebridgeCommand | None
) -> str:
    """Return the wrapper's name of the group, as in `serviceswitch start NAME`, or one like the switch's."""
    calls = [set(found) for command in (on, off) if (found := _arguments(command, wrapper))]
    shared = set.intersection(*calls) if len(calls) > 1 else set()
    return id_of(shared.pop() if len(shared) == 1 else switch.name)


def _as_units(begun: Draft) -> Draft | None:
    """Return a group of the units that the commands start, stop or restart, if they do nothing else."""
    on, off = (command.call if command else None for command in (begun.on, begun.off))
    group = begun.group
    if group is None or (begun.on and not on) or (begun.off and not off):
        return None
    match on, off:
        case Call(Verb.START, units), Call(Verb.STOP, others) if set(units) == set(others):
            group = replace(group, units=units)
        case Call(Verb.START, units), None:
            group = replace(group, units=units, actions=frozenset({Action.START}))
        case None, Call(Verb.STOP, units):
            group = replace(group, units=units, actions=frozenset({Action.STOP}))
        case Call(Verb.RESTART, units), None:
            name = name_of(without_restart(begun.switch.name))
            actions = frozenset({Action.RESTART})
            group = replace(group, name=name, units=units, actions=actions, restart=True)
        case _:
            return None
    return replace(begun, group=group, notes=tuple(_notes_of_units(begun, group)))


def _notes_of_units(begun: Draft, group: Group) -> Iterator[str]:
    if group.restart:
        yield f"its restart switch does the same, but {_ONLY_RUNNING}; the other one shows the state"
    elif len(group.actions) == 1:
        yield "it had one command, and still does only that; it shows the state of the units"
    if begun.state and not _asks_for(begun.state.call, group.units):
        yield f"its state_cmd is not needed, because systemd knows the state: {begun.state.text}"


def _asks_for(call: Call | None, units: tuple[str, ...]) -> bool:
    return call is not None and call.verb is Verb.STATUS and set(call.units) == set(units)


def _as_commands(begun: Draft, broken: tuple[str, ...]) -> Draft:
    """Return a group of commands, with the reasons why it is incomplete, if it is."""
    switch = begun.switch
    parts = (begun.on, begun.off, begun.state)
    start, stop, status = (command.argv if command else () for command in parts)
    timeout = min(max(switch.timeout_seconds, TIMEOUT_SECONDS), MOST_TIMEOUT_SECONDS)
    interval = min(switch.interval_seconds, MOST_INTERVAL_SECONDS) or STATUS_INTERVAL_SECONDS
    group = begun.group and replace(
        begun.group,
        commands=Commands(start, stop, status),
        interval_seconds=interval,
        timeout_seconds=timeout,
    )
    notes = dict.fromkeys(note for command in parts if command for note in command.notes)
    return replace(begun, group=group, why=broken or tuple(_missing(begun)), notes=tuple(notes))


def _missing(begun: Draft) -> Iterator[str]:
    """Yield what a group of commands needs and this switch lacks."""
    for kind, command in (("on_cmd", begun.on), ("off_cmd", begun.off), ("state_cmd", begun.state)):
        if command and not command.argv:
            yield f"its {kind} {command.why}"
    if not begun.on and not begun.off:
        yield "it switches nothing: it has neither an on_cmd nor an off_cmd"
    elif not begun.on or not begun.off:
        yield f"it has no {'off_cmd' if begun.on else 'on_cmd'}; {_NO_MOMENTARY_SWITCH}"
    if not begun.state:
        yield f"it has no state_cmd; {_WRITE_STATUS}"
