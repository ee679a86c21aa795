"""Homebridge configs, and what becomes of them."""

import json
from collections.abc import Iterable

from hkswitch.homebridge import USUAL_PATH, Imported, convert, read_wrapper
from hkswitch.model.config import parse
from hkswitch.model.group import Commands, Group
from hkswitch.model.unit_state import Action

FILE = "config.json"
SCRIPTS = "/usr/local/libexec/hkswitch"

PROGRAMS = frozenset(
    {
        *(
            "bash",
            "curl",
            "docker",
            "killall",
            "pgrep",
            "ping",
            "ps",
            "python3",
            "service",
            "sispmctl",
            "ssh",
        ),
        *("sudo", "systemctl", "test", "true", "virsh", "wakeonlan"),
    }
)

WRAPPER = b"""#!/bin/bash
case "$2" in
  fileserver) SERVICES="smb nmb netatalk" ;;
  web) SERVICES="httpd" ;;
  *) exit 1 ;;
esac
case "$1" in
  start) systemctl start $SERVICES ;;
  stop) systemctl stop $SERVICES ;;
  status) for s in $SERVICES; do systemctl is-active --quiet $s || exit 1; done ;;
esac
"""


def which(program: str) -> str | None:
    return f"/usr/bin/{program}" if program in PROGRAMS else None


def imported(config: str | bytes, wrapper: bytes | None = WRAPPER, scripts: str | None = None) -> Imported:
    """What becomes of the config; whatever does must be one that hkswitch reads."""
    data = config if isinstance(config, bytes) else config.encode()
    found = convert(data, FILE, which=which, wrapper=read_wrapper(USUAL_PATH, wrapper), scripts=scripts)
    assert len(parse(found.text.encode(), "config.yaml").groups) >= 1
    return found


def groups(found: Imported) -> tuple[Group, ...]:
    return parse(found.text.encode(), "config.yaml").groups


def left(found: Imported) -> dict[str, str]:
    """Why switches were not taken over."""
    return {each.name: each.why for each in found.left}


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


def systemd(name: str, unit: str) -> object:
    """A switch of a unit."""
    return switch(name, f"systemctl start {unit}", f"systemctl stop {unit}", f"systemctl is-active {unit}")


SPARE = systemd("Spare", "spare")
"""A switch that can be taken over, so that there is one beside those that cannot."""


def of_units(
    group_id: str, name: str, units: str, actions: Iterable[str] = (), *, restart: bool = False
) -> Group:
    names = tuple(unit if "." in unit else f"{unit}.service" for unit in units.split())
    usual = ("start", "stop", "restart") if restart else ("start", "stop")
    return Group(
        group_id, name, names, actions=frozenset(Action(word) for word in actions or usual), restart=restart
    )


def of_commands(
    group_id: str, name: str, commands: tuple[str, str, str], interval: int = 5, timeout: int = 10
) -> Group:
    """A group of commands; a | is what separates words if there is one, and a space if not."""
    argvs = (tuple(text.split("|" if "|" in text else " ")) for text in commands)
    return Group(
        group_id, name, commands=Commands(*argvs), interval_seconds=interval, timeout_seconds=timeout
    )


SPARE_GROUP = of_units("spare", "Spare", "spare")
