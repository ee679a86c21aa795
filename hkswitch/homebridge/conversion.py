"""Converts a Homebridge config to an hkswitch config, and reports what cannot be imported. Pure: no I/O."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from hkswitch.homebridge import jsonc, switches, writer
from hkswitch.homebridge.commands import HomebridgeCommand, Which
from hkswitch.homebridge.groups import Draft, draft, joined
from hkswitch.homebridge.imported import Imported, Left, NothingImported, Origin, Script
from hkswitch.homebridge.names import Taken
from hkswitch.homebridge.wording import called
from hkswitch.homebridge.wrapper import Wrapper
from hkswitch.model.config import parse
from hkswitch.model.errors import ConfigError, Exit, Failure
from hkswitch.model.group import MOST_ACCESSORIES, Group

_NO_ROOM: Final = f"HomeKit allows at most {MOST_ACCESSORIES} accessories per bridge"
_AS_ROOT: Final = (
    "Commands ran as Homebridge's user and now run as root: make sure that only root can write the programs."
)
_ENDED: Final = "A command that runs longer than its timeout_seconds (default: 10) is killed."
_READ_IT: Final = "It will run as root: read it, and fix it where necessary, before you use it."
_AT_ONCE: Final = "The units of a group start in parallel; ordering comes from the units themselves (After=)."


@dataclass(frozen=True, slots=True)
class _Entry:
    """The result for a switch, with a unique id and name."""

    draft: Draft
    scripts: tuple[Script, ...] = ()

    @property
    def group(self) -> Group | None:
        return self.draft.group

    @property
    def taken(self) -> bool:
        return not self.draft.why


def convert(
    config: bytes, file: str, *, which: Which, wrapper: Wrapper, scripts: str | None = None
) -> Imported:
    """Convert the Homebridge config in `config`; `file` is its name in comments and failures.

    `scripts` is the absolute path of the folder for the scripts, which the caller writes, if it wants any.

    Raises:
        NothingImported: No switch could become a group.
        Failure: It cannot be read, has no cmdSwitch2 switches, or becomes too large for hkswitch.
    """
    found = switches.read(jsonc.read(config, file), file)
    drafts = joined([draft(switch, wrapper, which) for switch in found])
    entries = list(_entries(drafts, file, scripts))
    left = tuple(
        Left(each.draft.switch.name, "; ".join(each.draft.why)) for each in entries if not each.taken
    )
    made = tuple(script for each in entries for script in each.scripts)
    origins = {
        each.group.id: Origin(each.draft.switch.name, each.group.name)
        for each in entries
        if each.taken and each.group
    }
    imported = Imported("", len(entries) - len(left), left, made, origins)
    imported = replace(imported, text=_text(entries, imported, file))
    if not any(each.taken and each.group for each in entries):
        raise NothingImported(file, imported)
    try:
        parse(imported.text.encode(), file)
    except ConfigError as error:
        reason = f"the result is not a valid configuration: {error.problems[0].message}"
        raise Failure(f"{file}: {reason}", Exit.CONFIG) from None
    return imported


def _entries(drafts: list[Draft], file: str, scripts: str | None) -> Iterator[_Entry]:
    """Yield the drafts with unique ids and names; those for which there is no room are not imported."""
    taken = Taken()
    room = MOST_ACCESSORIES
    for each in drafts:
        if each.group is None:
            yield _Entry(each)
            continue
        group_id, name = taken.take(each.group.id, each.group.name, restart=each.group.restart)
        group = replace(each.group, id=group_id, name=name)
        why = each.why or _refused(group, room)
        if not why:
            room -= 1 + group.restart
        entry = _Entry(replace(each, group=group, why=why))
        yield _scripted(entry, file, scripts) if scripts and each.why else entry


def _refused(group: Group, room: int) -> tuple[str, ...]:
    """Return why hkswitch's own reader rejects the group, if it does."""
    if room < 1 + group.restart:
        return (_NO_ROOM,)
    try:
        parse("\n".join(["groups:", *writer.group(group)]).encode(), "")
    except ConfigError as error:
        problem = error.problems[0]
        return (f"hkswitch rejects it: {problem.path.rpartition('.')[2]}: {problem.message}",)
    return ()


def _scripted(entry: _Entry, file: str, folder: str) -> _Entry:
    """Return the entry with scripts for its commands that need a shell."""
    group, made = entry.group, []
    for action, kind, command in _commands(entry.draft):
        if group and group.commands and command.for_shell and _can_be_written(command.text):
            name = f"{group.id}-{action}"
            title = f"{called(entry.draft.switch.name)}, {kind}, of {file}"
            lines = ["#!/bin/sh", *writer.comment([title, _READ_IT]), command.text]
            made.append(Script(name, "\n".join(lines) + "\n"))
            argv = (f"{folder.rstrip('/')}/{name}",)
            group = replace(group, commands=replace(group.commands, **{action: argv}))
    return _Entry(replace(entry.draft, group=group), tuple(made))


def _can_be_written(text: str) -> bool:
    return all(char.isprintable() or char in "\n\t" for char in text)


def _commands(made: Draft) -> Iterator[tuple[str, str, HomebridgeCommand]]:
    """Yield the commands that exist, each with its name in hkswitch and its name in Homebridge."""
    triples = ("start", "on_cmd", made.on), ("stop", "off_cmd", made.off), ("status", "state_cmd", made.state)
    for action, kind, command in triples:
        if command:
            yield action, kind, command


def _text(entries: list[_Entry], imported: Imported, file: str) -> str:
    groups = [each.group for each in entries if each.taken and each.group]
    head = [
        f"Generated by `hkswitch import-homebridge` from {file}: {imported.count}",
        "Review every group before you use it.",
    ]
    head += [_AT_ONCE] if any(len(group.units) > 1 for group in groups) else []
    head += [_AS_ROOT, _ENDED] if any(group.commands for group in groups) else []
    head += (
        ["", "Not imported:", *(f"  {called(each.name)}" for each in imported.left)] if imported.left else []
    )
    return writer.config(head, (_lines(each) for each in entries))


def _lines(entry: _Entry) -> list[str]:
    """Return the comment about a switch, and the group that it became, or could become."""
    return [*writer.comment(_said(entry), "  "), *_written(entry)]


def _written(entry: _Entry) -> list[str]:
    return writer.group(entry.group, commented_out=not entry.taken) if entry.group else []


def _said(entry: _Entry) -> Iterator[str]:
    made, name = entry.draft, called(entry.draft.switch.name)
    if made.why:
        yield f"{name} is not imported:"
        yield from (f"  {why}" for why in made.why)
        yield from (f"  {kind}: {command.text}" for _, kind, command in _commands(made))
    elif entry.group and entry.group.commands:
        yield f"{name}: imported with its commands"
    elif entry.group:
        command = made.on or made.off
        yield f"{name}: units from: {command.text if command else ''}"
    else:
        yield f"{name} {made.notes[0]}"
        return
    yield from (f"  {note}" for note in made.notes)
