"""The methods of systemd's manager object that hkswitch calls, and no others."""

from typing import Any, Final

import sdbus
from sdbus import dbus_method_async, dbus_property_async

from hkswitch.systemd.connection import SYSTEMD

MANAGER_PATH: Final = "/org/freedesktop/systemd1"
UNIT_INTERFACE: Final = f"{SYSTEMD}.Unit"
SERVICE_INTERFACE: Final = f"{SYSTEMD}.Service"

TypedProperties = list[tuple[str, tuple[str, Any]]]
"""Values by name, with their D-Bus types."""


class Manager(sdbus.DbusInterfaceCommonAsync, interface_name=f"{SYSTEMD}.Manager"):
    """See org.freedesktop.systemd1(5)."""

    @dbus_method_async()
    async def subscribe(self) -> None:
        """Have systemd send signals on this connection."""
        raise NotImplementedError

    @dbus_method_async("ss", "o")
    async def start_unit(self, name: str, mode: str) -> str:
        """Queue a job; returns its object path."""
        raise NotImplementedError

    @dbus_method_async("ss", "o")
    async def stop_unit(self, name: str, mode: str) -> str:
        """Queue a job; returns its object path."""
        raise NotImplementedError

    @dbus_method_async("ss", "o")
    async def try_restart_unit(self, name: str, mode: str) -> str:
        """Queue a job; returns its object path."""
        raise NotImplementedError

    @dbus_method_async("s")
    async def ref_unit(self, name: str) -> None:
        """Keep a unit loaded until `unref_unit` or the end of this connection."""
        raise NotImplementedError

    @dbus_method_async("s")
    async def unref_unit(self, name: str) -> None:
        """Undo `ref_unit`."""
        raise NotImplementedError

    @dbus_method_async("ssa(sv)a(sa(sv))", "o")
    async def start_transient_unit(
        self, name: str, mode: str, properties: TypedProperties, aux: list[tuple[str, TypedProperties]]
    ) -> str:
        """Create a unit that is unloaded when it has ended, and queue a job that starts it."""
        raise NotImplementedError

    @dbus_property_async("as")
    def environment(self) -> list[str]:
        """The variables that every unit gets."""
        raise NotImplementedError

    @dbus_method_async("as", "a(ssssssouso)")
    async def list_units_by_names(self, names: list[str]) -> list[tuple[Any, ...]]:
        """Return a row for each name, in the same order."""
        raise NotImplementedError
