"""Converts a switch of Homebridge to a group, or finds out why that is impossible. Pure: no I/O."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from hkswitch.homebridge import commands
from hkswitch.homebridge.commands import Resources, SwitchCommand
from hkswitch.homebridge.switches import CmdSwitch
from hkswitch.homebridge.systemctl import ROOT, Verb, plain_name
from hkswitch.homebridge.tokens import SHELLS
from hkswitch.homebridge.wording import quoted
from hkswitch.model.config_values import MOST_INTERVAL_SECONDS, MOST_TIMEOUT_SECONDS
from hkswitch.model.group import Argv, Engine

RUNUSER: Final = "/usr/sbin/runuser"
USUAL_INTERVAL_SECONDS: Final = 60

_PARTS: Final = {"start": "on_cmd", "stop": "off_cmd", "status": "state_cmd"}
"""The names of the commands in hkswitch and in Homebridge."""


class NewGroup(NamedTuple):
    """A group to write. `commands` are by their names in hkswitch; what is empty or 0 is not written."""

    units: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    engine: Engine = Engine.DOCKER
    commands: tuple[tuple[str, Argv], ...] = ()
    actions: tuple[str, ...] = ()
    user: str = ""
    directory: str = ""
    assume_state: bool = False
    momentary: bool = False
    interval_seconds: int = 0
    timeout_seconds: int = 0

    @property
    def is_off_only(self) -> bool:
        """Whether nothing turns it on."""
        starts = not self.commands or any(name == "start" for name, _ in self.commands)
        return "start" not in self.actions if self.actions else not starts


class Draft(NamedTuple):
    """A switch, and the group that it becomes, or why it becomes none."""

    switch: CmdSwitch
    group: NewGroup | None = None
    why: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def draft(switch: CmdSwitch, machine: Resources, folder: str) -> Draft:
    """Convert a switch; `folder` is the one that Homebridge ran in, or empty if that is unknown."""
    found = {
        name: commands.read(text, machine)
        for name, text in zip(_PARTS, (switch.on, switch.off, switch.state), strict=True)
        if text
    }
    why = [switch.broken] if switch.broken else []
    why += [f"its {_PARTS[name]} {command.why}" for name, command in found.items() if command.why]
    if not why and not switch.on and not switch.off:
        why = ["it switches nothing: it has neither an on_cmd nor an off_cmd"]
    if why:
        return Draft(switch, None, tuple(why), switch.notes)
    if group := _of_members(found):
        notes = _notes_of_members(found, group)
    else:
        group = _of_commands(found, switch, folder)
        notes = _notes_of_commands(found, switch, group, machine)
    return Draft(switch, group, (), tuple(dict.fromkeys([*switch.notes, *notes])))


def _of_members(found: dict[str, SwitchCommand]) -> NewGroup | None:
    """Return a group of the units or containers that the commands start, stop and ask, if that is all."""
    calls = {Verb(name): command.effect.call for name, command in found.items()}
    same = {frozenset(call.members) for verb, call in calls.items() if call and call.verb is verb}
    first = next(iter(calls.values()))
    if (
        first is None
        or len(same) != 1
        or any(call is None or call.verb is not verb for verb, call in calls.items())
    ):
        return None
    engine = first.members[0].rpartition("/")[0]
    if not engine:
        return NewGroup(units=first.members, actions=_only_action(found))
    names = tuple(member.rpartition("/")[2] for member in first.members)
    return NewGroup(containers=names, engine=Engine(engine), actions=_only_action(found))


def _notes_of_members(found: dict[str, SwitchCommand], group: NewGroup) -> Iterator[str]:
    status = found["status"].effect.call if "status" in found else None
    if _only_action(found):
        kind = "containers" if group.containers else "units"
        yield f"it had one command, and still does only that; it shows the state of the {kind}"
    if status and status.difference:
        yield status.difference
    if len(group.containers) > 1:
        yield "its containers now start and stop in parallel, not one after the other"


def _only_action(found: dict[str, SwitchCommand]) -> tuple[str, ...]:
    actions = tuple(name for name in found if name != "status")
    return actions if len(actions) == 1 else ()


def _of_commands(found: dict[str, SwitchCommand], switch: CmdSwitch, folder: str) -> NewGroup:
    users = {command.user for command in found.values()}
    user = users.pop() if len(users) == 1 else ROOT
    only, has_status = _only_action(found), "status" in found
    is_relative = any(command.is_relative for command in found.values())
    interval = min(switch.interval_seconds, MOST_INTERVAL_SECONDS) or USUAL_INTERVAL_SECONDS
    return NewGroup(
        commands=tuple((name, _as_user(command, user)) for name, command in found.items()),
        actions=only if has_status else (),
        user="" if user == ROOT else user,
        directory=folder if is_relative and user != ROOT else "",
        assume_state=not has_status and not only,
        momentary=not has_status and bool(only),
        interval_seconds=interval if has_status else 0,
        timeout_seconds=min(switch.timeout_seconds, MOST_TIMEOUT_SECONDS),
    )


def _notes_on_state(found: dict[str, SwitchCommand], switch: CmdSwitch, group: NewGroup) -> Iterator[str]:
    if group.assume_state:
        yield "it has no state_cmd: it shows the last action that succeeded (`assume_state`)"
    if group.momentary:
        yield f"it has one command, and no state_cmd: each tap runs {group.commands[0][0]} (`momentary`)"
    if group.actions:
        yield f"it has one command: only {group.actions[0]} is allowed (`actions`)"
    if "status" in found and not switch.interval_seconds:
        yield f"it has no polling: its status now runs every {group.interval_seconds} s"
    calls = [command.effect.call for command in found.values()]
    if all(calls) and len({frozenset(call.members) for call in calls if call}) > 1:
        yield "it keeps its commands: they do not all name the same units or containers"


def _unread_wrapper(found: dict[str, SwitchCommand], machine: Resources) -> str:
    """Return the program that root runs to start and to stop, if it may be an unread script."""
    called = [_script(found[name]) for name in ("start", "stop") if name in found]
    if len(called) == 2 and len({*called}) == 1 and called[0] not in machine.scripts:
        return called[0]
    return ""


def _script(command: SwitchCommand) -> str:
    """Return the program that root runs, unless it belongs to the system; empty if there is none."""
    words = command.argv[1:] if plain_name(command.argv[0]) in SHELLS else command.argv
    program = words[0] if words and command.user == ROOT else ""
    return program if program.startswith("/") and plain_name(program) == program else ""


def _as_user(command: SwitchCommand, user: str) -> Argv:
    """Return the command for a group that runs as `user`."""
    return command.argv if command.user == user else (RUNUSER, "-u", command.user, "--", *command.argv)


def _notes_of_commands(
    found: dict[str, SwitchCommand], switch: CmdSwitch, group: NewGroup, machine: Resources
) -> Iterator[str]:
    for command in found.values():
        yield from command.notes
    if program := _unread_wrapper(found, machine):
        remedy = f"if it starts and stops units or containers, add `--wrapper {program}`"
        yield f"{quoted(program)} was not read; {remedy}"
    yield from _notes_on_state(found, switch, group)
    if list(found) == ["stop"]:
        yield "it had only an off_cmd: it rests at On, and runs it at Off"
    if "status" in found and found["status"].effect.is_constant:
        yield (
            "its state_cmd always gives the same state; write a status that depends on the device, "
            "or use `momentary: true` with start alone"
        )
    if "status" in found and switch.by_output:
        yield "any output of its state_cmd meant On; hkswitch takes exit status 0 for On"
    for command in found.values():
        if command.is_relative:
            remedy = "see `directory`" if group.directory else "write the absolute one"
            why = f"has a relative path, from the folder that Homebridge ran in; {remedy}"
            yield f"{quoted(command.text)} {why}"
