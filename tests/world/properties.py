"""What the simulated systemd says of a unit: rows, properties and changes, in sdbus's types. Pure."""

from collections.abc import Iterator
from typing import Any, Final

import sdbus

from hkswitch.systemd.connection import SYSTEMD
from hkswitch.systemd.interface import MANAGER_PATH
from tests.world.jobs import Job
from tests.world.unit import Unit
from tests.world.unit_spec import UNMET

UNIT: Final = f"{SYSTEMD}.Unit"
SERVICE: Final = f"{SYSTEMD}.Service"

Variants = dict[str, tuple[str, Any]]


def path_of(name: str) -> str:
    """The object path of a unit."""
    if (path := _paths.get(name)) is None:
        path = _paths[name] = str(sdbus.encode_object_path(f"{MANAGER_PATH}/unit", name))
    return path


_paths: dict[str, str] = {}


def name_of(path: str) -> str:
    """The unit with an object path."""
    return str(sdbus.decode_object_path(f"{MANAGER_PATH}/unit", path))


def row(unit: Unit, job: Job | None) -> tuple[Any, ...]:
    """A row of ListUnitsByNames."""
    of_job = (0, "", "/") if job is None else (job.number, job.kind.value, job.path)
    return (unit.name, "", unit.load.value, unit.active, unit.sub, "", path_of(unit.name), *of_job)


def changes(unit: Unit, job: Job | None) -> Iterator[tuple[str, Variants]]:
    """What the signals about a change say, the first one first."""
    if not unit.is_target:
        yield SERVICE, _changing_of_service(unit)
    yield UNIT, _changing_of_unit(unit, job)


def of_unit(unit: Unit, job: Job | None) -> Variants:
    """All properties of a unit."""
    return _changing_of_unit(unit, job) | {
        "Id": ("s", unit.name),
        "LoadState": ("s", unit.load.value),
        "Conditions": ("a(sbbsi)", unit.conditions),
        "Asserts": ("a(sbbsi)", unit.asserts),
        "Triggers": ("as", [unit.spec.triggers] if unit.spec.triggers else []),
        "ActiveEnterTimestampMonotonic": ("t", _microseconds(unit.entered_active_seconds)),
        "ActiveExitTimestampMonotonic": ("t", _microseconds(unit.left_active_seconds)),
        "InactiveExitTimestampMonotonic": ("t", _microseconds(unit.left_inactive_seconds)),
    }


def of_service(unit: Unit, now_seconds: float) -> Variants:
    """All properties of a service, or of a scope."""
    return _changing_of_service(unit) | {
        "CPUUsageNSec": ("t", round(unit.cpu.used_seconds(now_seconds) * 1e9)),
        "ControlGroup": ("s", f"/system.slice/{unit.name}" if unit.has_processes else ""),
        "ExecMainStartTimestampMonotonic": ("t", _microseconds(unit.main_began_seconds)),
        "ExecMainExitTimestampMonotonic": ("t", _microseconds(unit.main_ended_seconds)),
        "Type": ("s", unit.spec.kind.value),
        "ExecStartPre": ("a(sasbttttuii)", _command(unit.pre)),
        "ExecStartPost": ("a(sasbttttuii)", _command(unit.post)),
    }


def _changing_of_unit(unit: Unit, job: Job | None) -> Variants:
    return {
        "ActiveState": ("s", unit.active),
        "SubState": ("s", unit.sub),
        "Job": ("(uo)", (0, "/") if job is None else (job.number, job.path)),
        "ConditionResult": ("b", unit.condition_result),
        "AssertResult": ("b", unit.assert_result),
        "InvocationID": ("ay", unit.invocation),
    }


def _changing_of_service(unit: Unit) -> Variants:
    code, status = unit.main
    return {
        "Result": ("s", unit.result),
        "NRestarts": ("u", unit.restarts),
        "ExecMainCode": ("i", code),
        "ExecMainStatus": ("i", status),
    }


def _microseconds(seconds: float) -> int:
    return int(seconds * 1_000_000)


def _command(end: tuple[int, int]) -> list[tuple[Any, ...]]:
    code, status = end
    return [] if code == 0 else [(UNMET, [UNMET], False, 0, 0, 0, 0, 0, code, status)]
