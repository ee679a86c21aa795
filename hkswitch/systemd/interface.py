"""The methods of systemd's manager object that hkswitch calls: no others exist for it."""

from typing import Any, Final

import sdbus
from sdbus import dbus_method_async, dbus_property_async

from hkswitch.systemd.connection import SYSTEMD

PATH: Final = "/org/freedesktop/systemd1"

Properties = list[tuple[str, tuple[str, Any]]]


class Manager(sdbus.DbusInterfaceCommonAsync, interface_name=f"{SYSTEMD}.Manager"):
    """See org.freedesktop.systemd1(5)."""

    @dbus_method_async()
    async def subscribe(self) -> None:
        """Let systemd send signals on this connection."""
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
        """Keep systemd from forgetting a unit, until `unref_unit` or the end of this connection."""
        raise NotImplementedError

    @dbus_method_async("s")
    async def unref_unit(self, name: str) -> None:
        """Undo `ref_unit`."""
        raise NotImplementedError

    @dbus_method_async("ssa(sv)a(sa(sv))", "o")
    async def start_transient_unit(
        self, name: str, mode: str, properties: Properties, aux: list[tuple[str, Properties]]
    ) -> str:
        """Make a unit that is forgotten when it has ended, and queue a job that starts it."""
        raise NotImplementedError

    @dbus_property_async("as")
    def environment(self) -> list[str]:
        """The variables that every unit is given."""
        raise NotImplementedError

    @dbus_method_async("as", "a(ssssssouso)")
    async def list_units_by_names(self, names: list[str]) -> list[tuple[Any, ...]]:
        """One row for each name, in the same order."""
        raise NotImplementedError
