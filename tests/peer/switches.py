"""The switches that both bridges serve, by the names that scenarios call them."""

from typing import Any, Final, NamedTuple

from hkswitch.model.group import AccessoryType, Group
from hkswitch.model.switch_events import WRITE_TIMEOUT_SECONDS

JOB_SECONDS: Final = 0.02
SLOW_SECONDS: Final = 1.5
"""Longer than hkswitch lets a phone wait for the answer to a tap."""

SERVICES: Final = {
    AccessoryType.SWITCH: "Switch",
    AccessoryType.OUTLET: "Outlet",
    AccessoryType.LIGHT: "Lightbulb",
    AccessoryType.FAN: "Fan",
}
SHORT_TYPES: Final = {
    "14": "Identify",
    "20": "Manufacturer",
    "21": "Model",
    "23": "Name",
    "25": "On",
    "26": "OutletInUse",
    "30": "SerialNumber",
    "37": "Version",
    "52": "FirmwareRevision",
}
"""The characteristics that scenarios name."""

LONG_TYPE: Final = "-0000-1000-8000-0026BB765291"


class Simulated(NamedTuple):
    """A switch of one unit, and what becomes of its starts."""

    id: str
    name: str
    type: AccessoryType = AccessoryType.SWITCH
    seconds: float = JOB_SECONDS
    fails: bool = False
    missing: bool = False

    @property
    def unit(self) -> str:
        return f"{self.id}.service"

    @property
    def group(self) -> Group:
        return Group(self.id, self.name, (self.unit,), type=self.type)

    @property
    def for_reference(self) -> dict[str, Any]:
        """The same for reference.js."""
        return {**self._asdict(), "answered": WRITE_TIMEOUT_SECONDS, "service": SERVICES[self.type]}


SWITCHES: Final = (
    Simulated("web", "Web Server"),
    Simulated("mail", "Mail Server"),
    Simulated("slow", "Slow Server", seconds=SLOW_SECONDS),
    Simulated("broken", "Broken Server", fails=True),
    Simulated("doomed", "Doomed Server", seconds=SLOW_SECONDS, fails=True),
    Simulated("gone", "Gone Server", fails=True, missing=True),
    Simulated("outlet", "Some Outlet", AccessoryType.OUTLET),
    Simulated("lamp", "Some Lamp", AccessoryType.LIGHT),
    Simulated("fan", "Some Fan", AccessoryType.FAN),
)


def short_type(uuid: str) -> str:
    """A type as Apple's short form, whichever way a bridge writes it."""
    return uuid.upper().removesuffix(LONG_TYPE).lstrip("0")
