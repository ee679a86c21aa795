"""Writes groups and comments about them as a readable config. Pure: no I/O."""

from collections.abc import Iterable, Iterator

from hkswitch.editing.yaml_text import flow_list, member_keys, yaml_scalar
from hkswitch.homebridge.groups import NewGroup
from hkswitch.homebridge.wording import LONGEST_EXCERPT
from hkswitch.model.printable import escaped


def config(head: Iterable[str], groups: Iterable[Iterable[str]]) -> str:
    """Return the whole file: its first comment, and the lines of each group."""
    blocks = ["\n".join(comment(head)) + "\n\ngroups:", *("\n".join(lines) for lines in groups)]
    return "\n\n".join(blocks).replace("groups:\n\n", "groups:\n", 1) + "\n"


def comment(lines: Iterable[str], indent: str = "") -> list[str]:
    """Return the lines as comments."""
    return [f"{indent}# {escaped(line, LONGEST_EXCERPT)}".rstrip() for line in lines]


def group(group_id: str, name: str, value: NewGroup) -> list[str]:
    """Return the lines of a group."""
    return [
        f"  {line}" for line in (f"{yaml_scalar(group_id)}:", f"  name: {yaml_scalar(name)}", *_lines(value))
    ]


def _lines(value: NewGroup) -> Iterator[str]:
    for key, text in member_keys(value.units, value.containers, value.engine):
        yield f"  {key}: {text}"
    if value.commands:
        yield "  commands:"
        yield from (f"    {name}: {flow_list(argv)}" for name, argv in value.commands)
        yield "  detach: true"
    if value.actions:
        yield f"  actions: {flow_list(value.actions)}"
    for key in ("user", "directory"):
        if text := getattr(value, key):
            yield f"  {key}: {yaml_scalar(text)}"
    for key in ("assume_state", "momentary"):
        if getattr(value, key):
            yield f"  {key}: true"
    for key in ("interval_seconds", "timeout_seconds"):
        if number := getattr(value, key):
            yield f"  {key}: {number}"
