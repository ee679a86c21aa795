"""Writes the keys of hkswitch/model/config_keys.py into the documentation: `make reference`.

All of config.example.yaml is generated. In the manual page hkswitch.yaml(5), only the beginning of each key's
item is, up to its default or "Required". The rest of the item is written by hand, and stays.
"""

import re
from collections.abc import Iterator, Sequence
from inspect import signature
from pathlib import Path
from typing import Final

from hkswitch.model.config_keys import CONFIG_KEYS, CONTAINED
from hkswitch.model.config_reader import CommandLine, Entries, Key, ListOf, Section

ROOT: Final = Path(__file__).parents[1]
EXAMPLE: Final = ROOT / "config.example.yaml"
MANUAL: Final = ROOT / "docs" / "man" / "hkswitch.yaml.5"

WIDTH: Final = 110
TOP_SECTION: Final = "DESCRIPTION"
"""The section of the manual page that has the keys at the top of the file."""

HEAD: Final = """\
# hkswitch: groups of systemd services and containers as switches in Apple Home.
# This file has every key with its default. After a change, run: sudo hkswitch reload
"""
GROUP_HEAD: Final = """\
  # The id, for the command line and HomeKit: a-z, 0-9 and '-'. If you change it, the group becomes a new
  # accessory, and loses its room and its automations.
  vm-guests:
"""
OTHER_GROUPS: Final = """\
  fileserver:
    name: File Server
    units: [smb, nmb, netatalk]

  web:
    name: Web Server
    units: [httpd]

  # A group of containers, which may also have units. Units start before containers, and stop after them.
  # photos:
  #   name: Photos
"""
COMMAND_GROUP: Final = """\
  # A group of commands, for services that are neither. They run as root and without a shell: a command is a
  # list of the program's absolute path and its arguments. A program that root runs, and the directories above
  # it, must be writable by root only.
  # gaming-vm:
  #   name: Gaming VM
"""
SLOW_COMMANDS: Final = """\
  #   # A virtual machine takes longer to shut down than the default of 10 seconds.
  #   timeout_seconds: 30
"""
"""The end of that group."""
REMOTE_GROUP: Final = """\
  # A group that another host runs: its own config says what the group is. This config decides on its name,
  # type, restart switch, sensor and restart_when.
  # nas-media:
  #   name: NAS Media
"""
IN_USE: Final = frozenset({"name", "units"})
"""Keys that are not commented out in the example file."""

OF_HOST: Final = ("host",)
OF_COMMANDS: Final = (("commands",), ("user",))
"""What a key of a group of commands applies only with."""

EXAMPLES: Final = {
    "bridge.interface": "eth0",
    "bridge.address": "192.168.1.10",
    "alert_command": "[/usr/local/bin/ntfy-alert]",
    "hosts.ssh": "nas.lan",
    "groups.host": "nas",
    "groups.group": "media",
    "groups.name": "VM Guests",
    "groups.units": "[libvirt-guests]",
    "groups.check": "[/usr/bin/ping, -c1, -W2, 192.168.122.1]",
    "groups.containers": "[photos, photos-db]",
    "groups.compose": "immich",
    "groups.actions": "[start, stop, restart]",
    "groups.restart": "true",
    "groups.alert": "contact",
    "groups.restart_when.cpu_percent": "65",
    "groups.restart_when.memory_mib": "900",
    "groups.user": "root",
    "groups.directory": "/root",
    "groups.commands.start": "[/usr/bin/virsh, start, win10]",
    "groups.commands.stop": "[/usr/bin/virsh, shutdown, win10]",
    "groups.commands.status": "[/usr/local/libexec/vm-is-running, win10]",
    "groups.commands.restart": "[/usr/bin/virsh, reboot, win10]",
}
"""Values for the example file that fit its groups. Other keys show their default."""


def default_of(key: Key) -> str:
    """Return the default in words."""
    if key.default_text:
        return key.default_text
    if key.default is None or key.default == ():
        return "none"
    return _yaml(key.default)


# The example file


def example(keys: Sequence[Key] = CONFIG_KEYS) -> str:
    """Return the text of config.example.yaml."""
    return f"{HEAD}\n" + "\n".join(_top(key, keys) for key in keys)


def _top(key: Key, keys: Sequence[Key]) -> str:
    match key.kind:
        case Section(inner):
            items = "\n".join(_entry(key.name, each, inner, "  ") for each in inner)
        case Entries(_, inner) if key.required:
            items = GROUP_HEAD + _groups(key.name, inner)
        case Entries(_, inner):
            items = "".join(_entry(key.name, each, inner, "#     ", is_commented=True) for each in inner)
            return f"{_remark(key, keys, '')}# {key.name}:\n#   nas:\n{items}"
        case _:
            return _entry("", key, keys, "")
    return f"{_remark(key, keys, '')}{key.name}:\n{items}"


def _groups(path: str, keys: Sequence[Key]) -> str:
    of_commands = [key for key in keys if key.name == "commands" or key.only_with in OF_COMMANDS]
    of_containers = [key for key in keys if key.name in CONTAINED or key.only_with == CONTAINED]
    of_hosts = [key for key in keys if key.name in OF_HOST or key.only_with == OF_HOST]
    of_units = [key for key in keys if key not in (*of_commands, *of_containers, *of_hosts)]
    full = "\n".join(_entry(path, key, keys, "    ") for key in of_units)
    contained, commanded, remote = (
        "".join(_entry(path, key, keys, "  #   ", is_commented=True) for key in of_others)
        for of_others in (of_containers, of_commands, of_hosts)
    )
    parts = full, f"{OTHER_GROUPS}{contained}", f"{COMMAND_GROUP}{commanded}{SLOW_COMMANDS}"
    return "\n".join((*parts, f"{REMOTE_GROUP}{remote}"))


def _entry(path: str, key: Key, keys: Sequence[Key], indent: str, *, is_commented: bool = False) -> str:
    """The lines of a key; in what `is_commented` anyway, the key gets no comment sign of its own."""
    sign = "" if is_commented or key.name in IN_USE else "# "
    head = f"{_remark(key, keys, indent)}{indent}{sign}{key.name}:"
    path = f"{path}.{key.name}" if path else key.name
    if not isinstance(key.kind, Section):
        return f"{head} {_value(path, key)}\n"
    inner = key.kind.keys
    items = (_entry(path, each, inner, f"{indent}{sign}  ", is_commented=True) for each in inner)
    return f"{head}\n{''.join(items)}"


def _value(path: str, key: Key) -> str:
    if value := EXAMPLES.get(path):
        return value
    return "[/usr/local/bin/program]" if isinstance(key.kind, CommandLine) else _yaml(key.default)


def _remark(key: Key, keys: Sequence[Key], indent: str) -> str:
    ending = f"Default: {default_of(key)}"
    if key.required:
        *some, last = ("", *_others(key, keys))
        others = " or ".join(filter(None, (", ".join(filter(None, some)), last)))
        ending = f"Required, or {others} in its place" if others else "Required"
    whole = f"{indent}# {key.text} {ending}"
    lines = (whole,) if len(whole) <= WIDTH else (f"{indent}# {key.text}", f"{indent}# {ending}")
    return "".join(f"{line}\n" for line in lines)


def _others(key: Key, keys: Sequence[Key]) -> list[str]:
    """Return the keys that may stand in place of this one."""
    return [other.name for other in keys if key.name in {other.instead_of, other.beside}]


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# The manual page


def manual(page: str, keys: Sequence[Key] = CONFIG_KEYS) -> str:
    """Return `page` with the generated lines of these keys; new keys get an item, new sections a list."""
    for title, section in sections(TOP_SECTION, keys):
        if f".Sh {title}\n" not in page:
            page = page.replace(".Sh FILES\n", f".Sh {title}\n.Bl -tag -width Ds\n\n.El\n.Sh FILES\n")
        head, mark, rest = page.partition(f".Sh {title}\n")
        before, begin, items = rest.partition(".Bl -tag -width Ds\n")
        items, end, after = items.partition("\n.El\n")
        written = "".join(_item(key, section, _details(items, key)) for key in section)
        page = f"{head}{mark}{before}{begin}{written.rstrip()}{end}{after}"
    return page


def sections(title: str, keys: Sequence[Key]) -> Iterator[tuple[str, Sequence[Key]]]:
    """The sections of the manual page, each with its keys."""
    yield title, keys
    for key in keys:
        if isinstance(key.kind, Section | Entries):
            yield from sections(key.name.upper(), key.kind.keys)


def _details(items: str, key: Key) -> str:
    """What is written by hand in the item of a key, if it has one."""
    found = re.search(
        rf"^\.It Ic {key.name} : .*?\n(?:Default: .*?\.|Required\.|in its place\.)\n(.*?)(?=^\.It |\Z)",
        f"{items}\n",
        re.MULTILINE | re.DOTALL,
    )
    return found[1] if found else ""


def _item(key: Key, section: Sequence[Key], details: str) -> str:
    return "\n".join((f".It Ic {key.name} : Ar {_word(key)}", *_lines(key, section), details))


def _lines(key: Key, section: Sequence[Key]) -> Iterator[str]:
    """One sentence a line: what the key is for, where it applies and its default."""
    yield from re.split(r"(?<=\.) (?=[A-Z])", key.text)
    if key.only_with:
        yield f"Only with\n{_either(key.only_with)} ."
    others = _others(key, section)
    if key.required and others:
        yield f"Required, or\n{_either(others)}\nin its place."
    else:
        yield "Required." if key.required else f"Default: {default_of(key)}."


def _either(names: Sequence[str]) -> str:
    return "\nor\n".join(f".Ic {name}" for name in names)


def _word(key: Key) -> str:
    """The kind of a value in one word."""
    match key.kind:
        case Section() | Entries():
            return "mapping"
        case CommandLine():
            return "command"
        case ListOf(or_one=or_one):
            return "text No or Ar list" if or_one else "list"
    words = {bool: "boolean", int: "number", str: "text"}
    return words.get(signature(key.kind).return_annotation, "word")


def main() -> None:
    """Write both files."""
    EXAMPLE.write_text(example())
    MANUAL.write_text(manual(MANUAL.read_text()))


if __name__ == "__main__":
    main()
