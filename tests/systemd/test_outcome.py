"""What came of a start, by what was seen of it. tests/host/test_start_outcomes.py asks the real systemd."""

from typing import Any

import pytest

from hkswitch.model.unit_state import ActiveState, JobResult, LoadState, UnitResult, UnitState
from hkswitch.systemd.outcome import (
    StartHistory,
    UnitSnapshot,
    reason,
    result_of_start,
    snapshot_of,
    unmet_asserts,
    was_stopped,
)

CANCELED, DONE, FAILED = JobResult.CANCELED, JobResult.DONE, JobResult.FAILED
BEFORE = UnitSnapshot(UnitState(LoadState.LOADED, ActiveState.INACTIVE, "dead"), "")


def unit(active: str, sub: str, starts: int = 1, *, condition: bool = True, **more: object) -> dict[str, Any]:
    """A unit's properties after so many starts."""
    return {
        "LoadState": "loaded",
        "ActiveState": active,
        "SubState": sub,
        "InvocationID": bytes([starts] * 16) if starts else b"",
        "ConditionResult": condition,
        **more,
    }


def service(result: str = "success", code: int = 1, status: int = 0) -> dict[str, Any]:
    return {"Result": result, "ExecMainCode": code, "ExecMainStatus": status}


def history(*changes: dict[str, Any], other_jobs: tuple[str, ...] = ()) -> StartHistory:
    told = StartHistory("a.service", BEFORE, job="/job/1", other_jobs={"/job/1", *other_jobs})
    for change in changes:
        told.changed(change)
    return told


UP = unit("active", "running")
DEAD = unit("inactive", "dead")
CRASHED = unit("failed", "failed")
UNMET = unit(
    "inactive",
    "dead",
    starts=0,
    condition=False,
    Conditions=[
        ("ConditionPathExists", False, True, "/x", -1),
        ("ConditionACPower", True, False, "true", -1),
        ("ConditionHost", False, False, "a", 1),
        ("ConditionUser", False, False, "b", 0),
    ],
)

TABLE: dict[str, tuple[StartHistory, dict[str, Any], dict[str, Any], JobResult, str]] = {
    "a service that is up": (history(UP), UP, service(), DONE, ""),
    "one that is reloading": (history(UP), unit("reloading", "reload"), service(), DONE, ""),
    "one that exited by itself with 0": (history(UP, DEAD), DEAD, service(), DONE, "exited with status 0"),
    "a oneshot that nobody saw": (history(), DEAD, service(), DONE, "exited with status 0"),
    "a timer that has elapsed": (history(UP, DEAD), DEAD, {}, DONE, ""),
    "one that exited with 3": (
        history(UP, CRASHED),
        CRASHED,
        service("exit-code", 1, 3),
        FAILED,
        "exited with status 3",
    ),
    "one without a program": (
        history(UP, CRASHED),
        CRASHED,
        service("exit-code", 1, 203),
        FAILED,
        "could not execute its program (status 203)",
    ),
    "one that was killed": (
        history(UP, CRASHED),
        CRASHED,
        service("signal", 2, 9),
        FAILED,
        "was killed by SIGKILL",
    ),
    "one that waits to be restarted": (
        history(UP, unit("activating", "auto-restart")),
        unit("activating", "auto-restart"),
        service("exit-code", 1, 1),
        FAILED,
        "exited with status 1",
    ),
    "one that runs for the second time": (
        history(UP, unit("active", "running", 2)),
        unit("active", "running", 2),
        service("success", 0, 0),
        FAILED,
        "failed",
    ),
    "one that another unit's job stopped": (
        history(UP, DEAD, other_jobs=("/job/2",)),
        DEAD,
        service(),
        CANCELED,
        "was stopped: it is inactive (dead)",
    ),
    "one that another unit's job stopped, and that ended badly": (
        history(UP, CRASHED, other_jobs=("/job/2",)),
        CRASHED,
        service("exit-code", 1, 1),
        CANCELED,
        "exited with status 1",
    ),
    "one that a signal ended well": (
        history(UP, DEAD),
        DEAD,
        service("success", 2, 15),
        FAILED,
        "was killed by SIGTERM",
    ),
    "one whose conditions were not met": (
        history(),
        UNMET,
        service(),
        FAILED,
        "ConditionPathExists=!/x was not met, ConditionACPower=|true was not met",
    ),
    "one whose ExecCondition= was not met": (
        history(DEAD),
        DEAD,
        service("exec-condition"),
        FAILED,
        "ExecCondition= was not met",
    ),
}


@pytest.mark.parametrize(
    ("told", "properties", "of_service", "job", "detail"),
    [pytest.param(*row, id=name) for name, row in TABLE.items()],
)
def test_a_start_is_judged_by_what_became_of_the_unit(
    told: StartHistory, properties: dict[str, Any], of_service: dict[str, Any], job: JobResult, detail: str
) -> None:
    assert result_of_start("alias.service", told, properties, of_service) == UnitResult(
        "alias.service", job, detail
    )


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({}, ""),
        (service("exit-code", 1, 1), "exited with status 1"),
        (service("exit-code", 1, 0), "failed (exit-code)"),
        (service("core-dump", 3, 11), "was killed by SIGSEGV (core dumped)"),
        (service("signal", 2, 99), "was killed by signal 99"),
        (service("timeout", 2, 15), "took too long to start"),
        (service("start-limit-hit"), "was started too often (start limit)"),
        (service("oom-kill", 2, 9), "ran out of memory"),
        (service("resources"), "could not be started: out of resources"),
        (service("a-word-of-tomorrow"), "failed (a-word-of-tomorrow)"),
    ],
)
def test_a_failure_has_its_reason_in_a_few_words(properties: dict[str, Any], words: str) -> None:
    assert reason(properties) == words


def past(began: int, up: int, left: int, ended: int, result: str = "exit-code") -> bool:
    states = {"InactiveExit": began, "ActiveEnter": up, "ActiveExit": left}
    unit = {f"{state}TimestampMonotonic": at for state, at in states.items()}
    return was_stopped(unit, {"ExecMainExitTimestampMonotonic": ended, "Result": result})


@pytest.mark.parametrize(
    "times",
    [
        pytest.param((1, 2, 5, 6), id="it ended when it was told to"),
        pytest.param((1, 1, 5, 9, "timeout"), id="it was killed in the end"),
    ],
)
def test_a_service_that_ended_after_systemd_began_to_stop_it_was_stopped(times: tuple[Any, ...]) -> None:
    assert past(*times)


@pytest.mark.parametrize(
    "times",
    [
        pytest.param((1, 2, 5, 4), id="it ended first"),
        pytest.param((1, 2, 5, 5), id="both at once"),
        pytest.param((1, 2, 5, 6, "watchdog"), id="systemd ended it for its watchdog"),
        pytest.param((7, 2, 5, 9), id="its next start failed"),
        pytest.param((7, 0, 0, 9), id="it was never up"),
        pytest.param((0, 0, 0, 9), id="nothing is known"),
        pytest.param((1, 2, 5, 0), id="it has no main process"),
    ],
)
def test_no_other_service_was_stopped(times: tuple[Any, ...]) -> None:
    assert not past(*times)


def test_what_is_not_there_was_not_stopped() -> None:
    assert not was_stopped({}, {})


def test_an_assertion_is_named() -> None:
    properties = {"Asserts": [("AssertPathExists", False, False, "/y", -1)]}
    assert unmet_asserts(properties) == "AssertPathExists=/y was not met"


def test_an_invocation_that_is_empty_or_zero_bytes_is_none() -> None:
    assert snapshot_of(unit("inactive", "dead", 0)).invocation == ""
