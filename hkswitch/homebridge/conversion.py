"""Converts a Homebridge config to an hkswitch config, and reports what cannot be imported. Pure: no I/O."""

import unicodedata
from collections.abc import Iterator
from typing import Final, NamedTuple

from hkswitch.homebridge import jsonc, switches, writer
from hkswitch.homebridge.commands import Resources
from hkswitch.homebridge.groups import Draft, NewGroup, draft
from hkswitch.homebridge.imported import Imported, Left, NothingImported, Origin, count
from hkswitch.homebridge.names import Taken, name_of
from hkswitch.homebridge.switches import CmdSwitch
from hkswitch.homebridge.wording import called, quoted
from hkswitch.model.config import parse
from hkswitch.model.errors import ConfigError, Exit, Failure
from hkswitch.model.group import MOST_ACCESSORIES

_NO_ROOM: Final = f"HomeKit allows at most {MOST_ACCESSORIES} accessories per bridge"
_SAME_NAME: Final = "a later switch has the same name, and the plugin keeps only that one"
_KEPT: Final = "an earlier switch has the same name, and is not imported"
_OF_A_NAME: Final = "a name has letters, digits, spaces and apostrophes"
_ABOUT_CONTAINERS: Final = (
    "Containers belong to the Docker or Podman that runs as root; hkswitch cannot see rootless ones.",
    "A container that is paused, unhealthy or restarting counts as off.",
)
_TO_TRY: Final = (
    "Validate it with `hkswitch check --config FILE`, install it, and try each with `sudo hkswitch start ID`,"
)


class _Entry(NamedTuple):
    """The result for a switch: if it was imported, with a unique id and name."""

    draft: Draft
    group_id: str = ""
    name: str = ""

    @property
    def group(self) -> NewGroup | None:
        return self.draft.group


def convert(config: bytes, file: str, machine: Resources, folder: str = "") -> Imported:
    """Convert the Homebridge config in `config`; `file` is its name in comments and failures.

    `folder` is the absolute path of the folder that Homebridge ran in, or empty if it is unknown.

    Raises:
        NothingImported: No switch could become a group.
        Failure: It cannot be read, has no switches, or becomes too large for hkswitch.
    """
    found = switches.read(jsonc.read(config, file), file)
    entries = list(_entries(found.switches, machine, folder))
    left = tuple(
        Left(each.draft.switch.name, "; ".join(each.draft.why)) for each in entries if not each.group
    )
    origins = {each.group_id: Origin(each.draft.switch.name, each.name) for each in entries if each.group}
    of_units = sum(1 for each in entries if each.group and each.group.units)
    text = _text(entries, left, found.notes, machine, file)
    of_containers = sum(1 for each in entries if each.group and each.group.containers)
    imported = Imported(text, left, found.notes, origins, of_units, of_containers)
    if not origins:
        raise NothingImported(file, imported)
    try:
        parse(imported.text.encode(), file)
    except ConfigError as error:
        reason = f"the result is not a valid configuration: {error.problems[0].message}"
        raise Failure(f"{file}: {reason}", Exit.CONFIG) from None
    return imported


def _entries(found: tuple[CmdSwitch, ...], machine: Resources, folder: str) -> Iterator[_Entry]:
    """Yield the switches with unique ids and names; those for which there is no room are not imported."""
    taken, room = Taken(), MOST_ACCESSORIES
    last = {(switch.block, switch.name): index for index, switch in enumerate(found)}
    seen: set[tuple[int, str]] = set()
    for index, switch in enumerate(found):
        key = switch.block, switch.name
        if switch.name and last[key] > index:
            made = Draft(switch, None, (_SAME_NAME,))
        elif not room:
            made = Draft(switch, None, (_NO_ROOM,))
        else:
            made = draft(switch, machine, folder)
        if switch.name and key in seen and made.group:
            made = made._replace(notes=(_KEPT, *made.notes))
        seen.add(key)
        if made.group and (why := _refused(made.group)):
            made = made._replace(group=None, why=why)
        room -= made.group is not None
        yield _named(made, *taken.take(switch.name)) if made.group else _Entry(made)


def _named(made: Draft, group_id: str, name: str) -> _Entry:
    if not made.switch.name:
        made = made._replace(notes=("it had no name; choose one", *made.notes))
    elif unicodedata.normalize("NFC", made.switch.name) != name:
        is_taken = name_of(made.switch.name) != name
        why = "an earlier switch has that name" if is_taken else _OF_A_NAME
        note = f"renamed from {called(made.switch.name)}: {why}"
        made = made._replace(notes=(note, *made.notes))
    return _Entry(made, group_id, name)


def _refused(group: NewGroup) -> tuple[str, ...]:
    """Return why hkswitch's own reader rejects the group, if it does."""
    try:
        parse("\n".join(["groups:", *writer.group("a", "A", group)]).encode(), "")
    except ConfigError as error:
        problem = error.problems[0]
        return (f"hkswitch rejects it: {problem.path.rpartition('.')[2]}: {problem.message}",)
    return ()


def _text(
    entries: list[_Entry], left: tuple[Left, ...], notes: tuple[str, ...], machine: Resources, file: str
) -> str:
    groups = [each for each in entries if each.group]
    head = [f"Generated by `hkswitch import-homebridge` from {file}: {count(len(groups), left)}", _TO_TRY]
    with_notes = [each.group_id for each in groups if each.draft.notes]
    first = ", ".join(with_notes or [each.group_id for each in groups[:1]])
    head += [f"first {first}{' (see the notes below)' if with_notes else ''}."]
    if any(each.group and each.group.commands for each in groups):
        head += [_about_user(machine)]
    if any(each.group and each.group.containers for each in groups):
        head += _ABOUT_CONTAINERS
    if off_only := [each.group_id for each in groups if each.group and each.group.is_off_only]:
        head += [f"Without an on_cmd, these can only be turned off: {', '.join(off_only)}."]
    head += ["", *(f"{note[0].upper()}{note[1:]}." for note in notes)] if notes else []
    head += ["", "Not imported:", *(f"  {called(each.name)}" for each in left)] if left else []
    return writer.config(head, (_lines(each) for each in entries))


def _about_user(machine: Resources) -> str:
    run = f"ommands without sudo run as {quoted(machine.user)}"
    if machine.is_assumed:
        return f"Homebridge's user is not known: c{run}, an assumption; `--user` names another user."
    return f"C{run}, as before; `--user` names another user."


def _lines(entry: _Entry) -> list[str]:
    """Return the comment about a switch, and the group that it became."""
    switch = entry.draft.switch
    what = "" if entry.group else " is not imported:"
    lines = [f"{called(switch.name)}{what}"]
    lines += (f"  {each}" for each in (*entry.draft.why, *entry.draft.notes))
    commands = ("on_cmd", switch.on), ("off_cmd", switch.off), ("state_cmd", switch.state)
    if not entry.group or not entry.group.commands:
        lines += [f"  {kind}: {text}" for kind, text in commands if text]
    group = writer.group(entry.group_id, entry.name, entry.group) if entry.group else []
    return [*writer.comment(lines, "  "), *group]
