"""Commands as simulated transient units: the world says what becomes of each, by its argv. Pure."""

from collections.abc import Callable, Iterable
from typing import Any

from tests.world.unit_spec import Kind, Life, Spec

Decide = Callable[[tuple[str, ...]], Life]
"""How long a program runs and how it ends; status 203 is for one that is not there."""


def succeeds(argv: tuple[str, ...]) -> Life:
    """Any command runs well, and at once."""
    return Life(0)


def spec_of(settings: Iterable[tuple[str, tuple[str, Any]]], decide: Decide) -> Spec:
    """The unit that StartTransientUnit is to make of these properties."""
    values = {name: value for name, (_, value) in settings}
    [[_, argv, _]] = values["ExecStartEx"]
    statuses, _ = values.get("SuccessExitStatus", ((), ()))
    return Spec(
        Kind(values["Type"]),
        (decide(tuple(argv)),),
        start_timeout_seconds=values["TimeoutStartUSec"] / 1_000_000,
        success_statuses=tuple(statuses),
        collects=values["CollectMode"] == "inactive-or-failed",
    )
