"""Adds a group to the text of a config, or removes one, and proves that nothing else changed. Pure: no I/O.

Each guess about where a group ends is parsed, and accepted only if it means what was intended: the old groups
and sections as they were, and the new group exactly as asked for.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from hkswitch.editing.additions import additions
from hkswitch.editing.config_text import GROUPS, ConfigText, Plain, plain
from hkswitch.editing.removals import removals
from hkswitch.editing.yaml_text import block_lines, group_entry
from hkswitch.model.config import Config, parse
from hkswitch.model.errors import ConfigError, Exit, Failure
from hkswitch.model.group import Group
from hkswitch.model.yaml_nodes import Mapping, Position, Scalar

_NOTHING: Final = plain(Scalar(Position(1, 1), "", is_text=False))


class CannotSplice(Failure):
    """A config whose layout hides where a group begins or ends."""

    exit_code = Exit.CONFIG


def with_group(data: bytes, file: str, group: Group, instead_of: Sequence[str] = ()) -> bytes:
    """Return the config with another group, and without some of its groups.

    Raises:
        ConfigError: If the config is invalid, for another reason than that it has no groups.
        CannotSplice: If the group cannot be written safely.
        Failure: If the config cannot have this group.
    """
    before = ConfigText(data)
    old = None if _has_no_groups(before) else parse(data, file)
    if old is not None and instead_of:
        for group_id in instead_of:
            before = ConfigText(_taken_out(before, file, group_id))
        left = tuple(each for each in old.groups if each.id not in instead_of)
        old = replace(old, groups=left)
    if old is not None and old.group(group.id):
        why = "there is one with this id; change it with `sudo hkswitch edit`, or choose another with `--id`"
        raise Failure(f"cannot add group {group.id!r}: {why}", Exit.USAGE)
    wanted = _plain_with(before, group)
    for text in additions(before, group_entry(group)):
        if plain(ConfigText(text).root) == wanted and _is_added(old, _parsed(text, file, group), group):
            return text
    lines = "\n".join(f"  {line}" for line in block_lines(group))
    reason = "its layout is too unusual to change safely"
    raise CannotSplice(
        f"cannot add group {group.id!r} to {file}: {reason}; "
        f"run `sudo hkswitch edit` and add these lines below `{GROUPS}:`\n{lines}"
    )


def without_group(data: bytes, file: str, group_id: str) -> bytes:
    """Return the config without a group that it has.

    Raises:
        ConfigError: If the config is invalid.
        CannotSplice: If the group cannot be removed safely.
        Failure: If it is the last group.
    """
    old = parse(data, file)
    left = tuple(group for group in old.groups if group.id != group_id)
    if not left:
        why = "a configuration has at least one group; add another one first"
        raise Failure(f"cannot remove group {group_id!r}, the last one: {why}", Exit.USAGE)
    text = _taken_out(ConfigText(data), file, group_id)
    if parse(text, file) != replace(old, groups=left):
        raise _cannot_remove(file, group_id)
    return text


def _taken_out(before: ConfigText, file: str, group_id: str) -> bytes:
    """Return the text without a group; the result may have no group at all."""
    wanted = _plain_without(before, group_id)
    for text in removals(before, group_id):
        if plain(ConfigText(text).root) == wanted:
            return text
    raise _cannot_remove(file, group_id)


def _cannot_remove(file: str, group_id: str) -> CannotSplice:
    reason = "its layout is too unusual to change safely; run `sudo hkswitch edit` and remove it there"
    return CannotSplice(f"cannot remove group {group_id!r} from {file}: {reason}")


def _has_no_groups(text: ConfigText) -> bool:
    """Whether only the first group is missing from a config."""
    is_sound = isinstance(text.root, Mapping) or (isinstance(text.root, Scalar) and text.root.empty)
    if text.section is None:
        return is_sound
    value = text.section.value
    return not text.entries and (isinstance(value, Mapping) or (isinstance(value, Scalar) and value.empty))


def _plain_with(text: ConfigText, group: Group) -> Plain:
    lines = "\n".join(f"  {line}" for line in block_lines(group))
    [new] = ConfigText(f"{GROUPS}:\n{lines}\n".encode()).entries
    old = [(each.key.text, plain(each.value)) for each in text.entries]
    groups = ("mapping", *old, (new.key.text, plain(new.value)))
    return _plain_of(text, groups)


def _plain_without(text: ConfigText, group_id: str) -> Plain:
    left = [(each.key.text, plain(each.value)) for each in text.entries if each.key.text != group_id]
    is_flow = text.section is not None and text.is_flow(text.section.value)
    return _plain_of(text, ("mapping", *left) if left or is_flow else _NOTHING)


def _plain_of(text: ConfigText, groups: Plain) -> Plain:
    """Return what the config means with these groups in place of its own."""
    sections: Iterable[tuple[str, Plain]] = (
        (key.text, groups if key.text == GROUPS else plain(value)) for key, value in text.sections
    )
    return ("mapping", *sections, *(() if text.section else ((GROUPS, groups),)))


def _parsed(text: bytes, file: str, group: Group) -> Config:
    """Parse a text whose tree is right; raises `Failure` if the config cannot have this group."""
    try:
        return parse(text, file)
    except ConfigError as error:
        first = error.problems[0]
        if first.path.split(".")[:2] in ([GROUPS], [GROUPS, group.id]):
            raise Failure(f"cannot add group {group.id!r}: {first.message}", Exit.CONFIG) from None
        raise


def _is_added(old: Config | None, new: Config, group: Group) -> bool:
    if old is None:
        return new.groups == (group,)
    return new == replace(old, groups=(*old.groups, group))
