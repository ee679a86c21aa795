"""The bridges that are measured: how each gets its switches, and how it is reached."""

import json
from collections.abc import Sequence
from typing import ClassVar, Protocol

import yaml

from bench.figures import OURS
from bench.switches import Switch
from tests.host.machine import ADDRESS, Host, eventually


class Bridge(Protocol):
    """A bridge that is a service of a host."""

    @property
    def who(self) -> str:
        """Whose figures these are."""

    @property
    def service(self) -> str:
        """Its unit, in whose cgroup all its processes are."""

    @property
    def port(self) -> int:
        """Where it serves."""

    def configure(self, host: Host, switches: Sequence[Switch]) -> None:
        """Have these switches at its next start."""

    def setup_code(self, host: Host) -> str:
        """What a controller pairs with, once it runs."""


class Hkswitch:
    """This project."""

    who: ClassVar[str] = OURS
    service: ClassVar[str] = "hkswitch.service"
    port: ClassVar[int] = 51826

    def configure(self, host: Host, switches: Sequence[Switch]) -> None:
        """Write its configuration."""
        groups = {switch.id: {"name": switch.name, "units": list(switch.units)} for switch in switches}
        config = {"bridge": {"address": ADDRESS, "port": self.port}, "groups": groups}
        host.write("/etc/hkswitch/config.yaml", yaml.safe_dump(config))

    def setup_code(self, host: Host) -> str:
        """It is random, and told to root."""

        def told() -> str | None:
            asked = host.run("hkswitch", "pair", "--json", check=False)
            return str(json.loads(asked.stdout)["setup_code"]) if asked.returncode == 0 else None

        return eventually(told)
