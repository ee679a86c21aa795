"""A whole installation for its idle time: a hundred switches, some of containers, and rules."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Final

import yaml

from bench.bridges import Hkswitch
from bench.figures import OURS
from bench.switches import Switch, many
from tests.host import engines
from tests.host.machine import ADDRESS, Host, eventually

CONTAINERS: Final = tuple(f"c{number}" for number in range(1, 11))
_UNITS: Final = many(90)
_OF_CONTAINERS: Final = tuple(Switch(name, f"Container {name[1:]}", ()) for name in CONTAINERS)
SWITCHES: Final = (*_UNITS, *_OF_CONTAINERS)
RULED: Final = (*_UNITS[:2], _OF_CONTAINERS[0])
"""The groups with a rule, whose members all run: nothing is checked for a group that is off."""

RULE: Final = {"cpu_percent": 50, "memory_mib": 500}
"""Limits that nothing here reaches."""

ENGINE: Final = "docker"


class WholeInstallation:
    """This project, with switches of units and of containers, and with rules."""

    who: ClassVar[str] = OURS
    service: ClassVar[str] = Hkswitch.service
    cgroups: ClassVar[tuple[str, ...]] = Hkswitch.cgroups
    port: ClassVar[int] = Hkswitch.port
    setup_code = Hkswitch.setup_code

    def configure(self, host: Host, switches: Sequence[Switch]) -> None:
        """Write the configuration."""
        config = {
            "bridge": {"address": ADDRESS, "port": self.port},
            "groups": {switch.id: _group(switch) for switch in switches},
        }
        host.write("/etc/hkswitch/config.yaml", yaml.safe_dump(config))


@contextmanager
def running(host: Host) -> Iterator[None]:
    """Run ten containers, and the units that have a rule; stop them and the engine in the end."""
    engines.prepare(host)
    engine = engines.Engine(host, ENGINE)
    units = [unit for switch in RULED for unit in switch.units]
    try:
        with engine.emptied():
            for name in CONTAINERS:
                engine.run(name)
            host.run("systemctl", "start", *units)
            yield
    finally:
        host.run("systemctl", "stop", *units, "docker.service", "docker.socket", "podman.socket")


def until_known(host: Host) -> None:
    """Wait until hkswitch knows that all containers run, and checks all rules."""
    eventually(lambda: _is_known(host))


def _is_known(host: Host) -> bool:
    groups = {
        each["id"]: each for each in json.loads(host.run("hkswitch", "status", "--json").stdout)["groups"]
    }
    is_on = all(groups[each.id]["state"] == "on" for each in (*RULED, *_OF_CONTAINERS))
    return is_on and all(groups[each.id]["rule"] for each in RULED)


def _group(switch: Switch) -> dict[str, Any]:
    members = {"units": list(switch.units)} if switch.units else {"containers": [switch.id], "engine": ENGINE}
    return {"name": switch.name, **members, **({"restart_when": RULE} if switch in RULED else {})}
