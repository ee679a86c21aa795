"""A whole installation for its idle time: a hundred switches, some of containers, and rules."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from bench.bridges import Hkswitch
from bench.switches import Switch, many
from tests.host import engines
from tests.host.machine import Host, eventually

CONTAINERS: Final = tuple(f"c{number}" for number in range(1, 11))
_UNITS: Final = many(90)
_OF_CONTAINERS: Final = tuple(Switch(name, f"Container {name[1:]}", ()) for name in CONTAINERS)
SWITCHES: Final = (*_UNITS, *_OF_CONTAINERS)
RULED: Final = (*_UNITS[:2], _OF_CONTAINERS[0])
"""The groups with a rule, whose members all run: nothing is checked for a group that is off."""

RULE: Final = {"cpu_percent": 50}
"""A limit that nothing here reaches. None of memory: the host has no memory controller."""

ENGINE: Final = "docker"


class WholeInstallation(Hkswitch):
    """This project, with switches of units and of containers, and with rules."""

    def config(self, switches: Sequence[Switch]) -> dict[str, Any]:
        """Return the configuration."""
        return super().config(()) | {"groups": {switch.id: _group(switch) for switch in switches}}


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
    """Wait until hkswitch knows that all containers and ruled units run; each rule must be checked."""
    eventually(lambda: _is_known(host))
    assert "cannot measure" not in host.journal(Hkswitch.service)


def _is_known(host: Host) -> bool:
    report = json.loads(host.run("hkswitch", "status", "--json").stdout)
    states = {group["id"]: group["state"] for group in report["groups"]}
    return {states[switch.id] for switch in (*RULED, *_OF_CONTAINERS)} == {"on"}


def _group(switch: Switch) -> dict[str, Any]:
    members = {"units": list(switch.units)} if switch.units else {"containers": [switch.id], "engine": ENGINE}
    # a copy, as YAML would refer to the same object by an alias, which hkswitch refuses
    return {"name": switch.name, **members, **({"restart_when": dict(RULE)} if switch in RULED else {})}
