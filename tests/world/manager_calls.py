"""The calls that the simulated systemd answers: those that hkswitch makes, and no others."""

from collections.abc import Callable
from typing import Any, Final, Protocol

import sdbus

from hkswitch.model.unit_state import LoadState
from hkswitch.systemd.connection import SYSTEMD
from tests.world import properties
from tests.world.client import ClientBus
from tests.world.commands import Decide, spec_of
from tests.world.jobs import Jobs, Kind
from tests.world.messages import Message
from tests.world.unit import Unit
from tests.world.unit_spec import Spec

_MANAGER: Final = f"{SYSTEMD}.Manager"
_TYPES: Final = frozenset({"service", "target", "socket", "timer", "path", "mount", "slice", "scope"})

_BAD: Final = {
    LoadState.NOT_FOUND: ("NoSuchUnit", "Unit {} not found."),
    LoadState.MASKED: ("UnitMasked", "Unit {} is masked."),
    LoadState.BAD_SETTING: ("BadUnitSetting", "Unit {} has a bad unit file setting."),
}
"""Why no job starts a unit that was not loaded well."""


class Systemd(Protocol):
    """What is asked."""

    jobs: Jobs
    decide: Decide
    subscribers: set[str]

    def load(self, name: str) -> Unit:
        """A unit."""

    def make(self, name: str, spec: Callable[[], Spec]) -> Unit | None:
        """A transient unit."""

    def now(self) -> float:
        """The time, in seconds."""

    def unused(self, unit: Unit) -> None:
        """See whether a unit is still used."""


class Calls:
    """Answers calls."""

    def __init__(self, systemd: Systemd) -> None:
        self._systemd = systemd

    def called(self, client: ClientBus, serial: int, message: Message) -> None:
        """Answer a call."""
        try:
            body = self._answer(client.name, message)
        except sdbus.SdBusBaseError as error:
            client.answer(serial, error)
        else:
            client.answer(serial, Message("", "", "", body))

    def _answer(self, client: str, message: Message) -> tuple[Any, ...]:
        match message.interface:
            case "org.freedesktop.DBus.Properties":
                return (self._properties(message),)
            case "org.freedesktop.DBus.Peer":
                return ()
        match message.member, message.body:
            case "Subscribe", ():
                self._systemd.subscribers.add(client)
                return ()
            case "RefUnit", (name,):
                self._hold(self._loaded_well(name), client)
                return ()
            case "UnrefUnit", (name,):
                self._let_go(self._systemd.load(name), client)
                return ()
            case "ListUnitsByNames", (names,):
                return ([self._row(name) for name in names if _is_name(name)],)
            case "StartTransientUnit", (name, "fail", settings, []):
                return (self._make(name, lambda: spec_of(settings, self._systemd.decide)),)
            case (("StartUnit" | "StopUnit") as member, (name, "replace")) | (
                "TryRestartUnit" as member,
                (name, "fail"),
            ):
                return (self._queue(member, name),)
        raise AssertionError((message.interface, message.member, message.body))

    def _properties(self, message: Message) -> Any:  # noqa: ANN401 -- D-Bus has all types
        interface, *names = message.body
        if (interface, names) == (_MANAGER, ["Environment"]):
            return ("as", ["LANG=C.UTF-8"])
        unit = self._systemd.load(properties.name_of(message.path))
        job = self._systemd.jobs.of.get(unit.name)
        if interface == properties.UNIT:
            found = properties.of_unit(unit, job)
        else:
            found = properties.of_service(unit, self._systemd.now())
        return found[names[0]] if message.member == "Get" else found

    def _row(self, name: str) -> tuple[Any, ...]:
        unit = self._systemd.load(name)
        return properties.row(unit, self._systemd.jobs.of.get(name))

    def _queue(self, member: str, name: str) -> str:
        jobs = self._systemd.jobs
        if member == "StopUnit":
            unit = self._systemd.load(name)
            if unit.load in {LoadState.NOT_FOUND, LoadState.BAD_SETTING} and unit.is_down:
                raise _error("NoSuchUnit", f"Unit {name} not loaded.")
            return jobs.add(unit, Kind.STOP).path
        unit = self._loaded_well(name)
        if member == "StartUnit":
            return jobs.add(unit, Kind.START).path
        pending = jobs.of.get(unit.name)
        if (
            pending is not None
            and pending.kind is Kind.STOP
            and not (unit.is_down or unit.active == "deactivating")
        ):
            queued = f"{name} has 'stop' job queued, but 'restart' is included in transaction"
            raise _error(
                "TransactionIsDestructive", f"Transaction for {name}/restart is destructive ({queued})."
            )
        return jobs.try_restart(unit).path

    def _make(self, name: str, spec: Callable[[], Spec]) -> str:
        if (unit := self._systemd.make(name, spec)) is None:
            raise _error("UnitExists", f"Unit {name} was already loaded or has a fragment file.")
        return self._systemd.jobs.add(unit, Kind.START).path

    def _loaded_well(self, name: str) -> Unit:
        unit = self._systemd.load(name)
        if unit.load in _BAD:
            error, text = _BAD[unit.load]
            raise _error(error, text.format(name))
        return unit

    def _hold(self, unit: Unit, client: str) -> None:
        unit.holders[client] += 1

    def _let_go(self, unit: Unit, client: str) -> None:
        if client not in unit.holders:
            raise _error("NotReferenced", f"Unit {unit.name} has not been referenced yet.")
        unit.holders[client] -= 1
        unit.holders += type(unit.holders)()  # forgets who holds it no more
        self._systemd.unused(unit)


def _is_name(name: str) -> bool:
    return name.rpartition(".")[2] in _TYPES


def _error(name: str, text: str) -> sdbus.SdBusUnmappedMessageError:
    """An error of systemd's own: sdbus has no classes for these."""
    return sdbus.SdBusUnmappedMessageError(f"{SYSTEMD}.{name}", text)
