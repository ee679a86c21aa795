"""The bridges that are measured: how to configure and reach each."""

import json
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import yaml

from bench.figures import OURS
from bench.switches import Switch
from hkswitch.model.installation import HELPER_SLICE
from tests.host.machine import ADDRESS, Host, eventually


class Bridge(Protocol):
    """A bridge that runs as a service on a host."""

    @property
    def who(self) -> str:
        """The name under which its figures are recorded."""

    @property
    def service(self) -> str:
        """The unit that starts and stops it."""

    @property
    def cgroups(self) -> tuple[str, ...]:
        """The units whose cgroups contain all its processes."""

    @property
    def port(self) -> int:
        """The TCP port."""

    def configure(self, host: Host, switches: Sequence[Switch]) -> None:
        """Configure these switches for the next start."""

    def setup_code(self, host: Host) -> str:
        """Return the setup code, once the bridge runs."""


class Hkswitch:
    """This project."""

    who: ClassVar[str] = OURS
    service: ClassVar[str] = "hkswitch.service"
    cgroups: ClassVar[tuple[str, ...]] = (service, HELPER_SLICE)
    port: ClassVar[int] = 51826

    def configure(self, host: Host, switches: Sequence[Switch]) -> None:
        """Write the configuration."""
        host.write("/etc/hkswitch/config.yaml", yaml.safe_dump(self.config(switches)))

    def config(self, switches: Sequence[Switch]) -> dict[str, Any]:
        """Return the configuration."""
        groups = {switch.id: {"name": switch.name, "units": list(switch.units)} for switch in switches}
        return {"bridge": {"address": ADDRESS, "port": self.port}, "groups": groups}

    def setup_code(self, host: Host) -> str:
        """Wait for the random setup code, which `hkswitch pair` shows to root."""

        def shown() -> str | None:
            asked = host.run("hkswitch", "pair", "--json", check=False)
            return str(json.loads(asked.stdout)["setup_code"]) if asked.returncode == 0 else None

        return eventually(shown)
