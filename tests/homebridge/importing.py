"""Homebridge configs for the tests, and what becomes of them."""

import json
from collections.abc import Iterable, Mapping

from hkswitch.homebridge import USUAL_PATH, Imported, Resources, by_name, convert, read_script
from hkswitch.model.config import parse
from hkswitch.model.group import Group

FILE = "config.json"
USER = "homebridge"
MISSING = "ps4-waker"
"""A program that is not on the machine; every other is."""

WRAPPER = b"""#!/bin/bash
case "$2" in
  fileserver) SERVICES="smb nmb netatalk" ;;
  web) SERVICES="httpd" ;;
  *) exit 1 ;;
esac
case "$1" in
  start) systemctl start $SERVICES ;;
  stop) systemctl stop $SERVICES ;;
  status) systemctl status $SERVICES ;;
esac
"""


def which(program: str) -> str | None:
    return None if program == MISSING or not program.isprintable() else f"/usr/bin/{program}"


def machine(scripts: Mapping[str, bytes | None], user: str = USER) -> Resources:
    found = (read_script(path, contents) for path, contents in scripts.items())
    return Resources(which, by_name(found), user)


def imported(
    config: str | bytes, wrapper: bytes | None = WRAPPER, user: str = USER, folder: str = ""
) -> Imported:
    """What becomes of the config; whatever does must be one that hkswitch reads."""
    data = config if isinstance(config, bytes) else config.encode()
    found = convert(data, FILE, machine({USUAL_PATH: wrapper}, user), folder)
    assert len(parse(found.text.encode(), "config.yaml").groups) == len(found.origins) >= 1
    return found


def groups(found: Imported) -> tuple[Group, ...]:
    return parse(found.text.encode(), "config.yaml").groups


def group(config: str, user: str = USER, folder: str = "") -> Group:
    """The only group of a config."""
    (only,) = groups(imported(config, user=user, folder=folder))
    return only


def argvs(group: Group) -> dict[str, list[str]]:
    """The commands of a group; a program in /usr/bin stands without its folder."""
    commands = group.commands
    found = {name: getattr(commands, name) for name in ("start", "stop", "status")}
    return {name: [word.removeprefix("/usr/bin/") for word in argv] for name, argv in found.items() if argv}


def left(found: Imported) -> dict[str, str]:
    """Why switches were not imported."""
    return {each.name: each.why for each in found.left}


def notes(found: Imported) -> dict[str, list[str]]:
    """The comments on each switch, by the line that names it."""
    said: dict[str, list[str]] = {}
    name = ""
    for line in found.text.splitlines():
        if line.startswith(("  # '", "  # a switch without a name")):
            name = line[4:]
            said[name] = []
        elif line.startswith("  #   ") and name:
            said[name].append(line[6:])
    return said


def switches(*items: object) -> str:
    """A whole config with these switches."""
    bridge = {"name": "Homebridge", "username": "CC:22:3D:E3:CE:30", "port": 51826, "pin": "031-45-154"}
    platforms = [{"platform": "cmdSwitch2", "name": "CMD Switch", "switches": list(items)}]
    return json.dumps({"bridge": bridge, "accessories": [], "platforms": platforms}, indent=2)


def switch(
    name: object, on: object = None, off: object = None, state: object = None, **more: object
) -> object:
    """A switch, without the commands that are None."""
    commands = {"on_cmd": on, "off_cmd": off, "state_cmd": state}
    return {"name": name} | {key: value for key, value in commands.items() if value is not None} | more


def systemd(name: object, unit: str) -> object:
    """A switch of a unit."""
    return switch(name, f"systemctl start {unit}", f"systemctl stop {unit}", f"systemctl is-active {unit}")


SPARE = systemd("Spare", "spare")
"""A switch that can be imported, so that there is one beside those that cannot."""


def services(units: Iterable[str]) -> tuple[str, ...]:
    return tuple(unit if "." in unit else f"{unit}.service" for unit in units)
