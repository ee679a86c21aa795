"""Results of starts, from sequences of signals that systemd 252 and 257 send."""

from collections.abc import Iterable
from typing import Any, Final

import pytest

from hkswitch.model.unit_state import JobResult, UnitResult
from hkswitch.systemd.outcome import StartHistory, reason, result_of_start, snapshot_of

UNIT: Final = "a.service"
OURS, SYSTEMD_S_OWN, ANOTHER = "/job/1", "/job/2", "/job/3"
NO_JOB: Final = (0, "/")
RUNS: Final[dict[str, Any]] = {"Result": "success", "ExecMainCode": 0, "ExecMainStatus": 0}
FAILED: Final[dict[str, Any]] = {"Result": "exit-code", "ExecMainCode": 1, "ExecMainStatus": 1}
ENDED: Final[dict[str, Any]] = {"Result": "success", "ExecMainCode": 1, "ExecMainStatus": 0}
KILLED: Final[dict[str, Any]] = {"Result": "success", "ExecMainCode": 2, "ExecMainStatus": 15}

Signal = tuple[str, str, str, int, dict[str, Any]]
"""ActiveState, SubState, the job's path or nothing, which invocation it is, and what the service says."""


def unit(active: str, sub: str, job: str = "", invocation: int = 0) -> dict[str, Any]:
    return {
        "LoadState": "loaded",
        "ActiveState": active,
        "SubState": sub,
        "Job": (7, job) if job else NO_JOB,
        "InvocationID": bytes([invocation] * 16) if invocation else b"",
        "ConditionResult": bool(invocation),
    }


STARTED: Final[tuple[Signal | str, ...]] = (
    ("inactive", "dead", OURS, 1, RUNS),
    ("active", "running", OURS, 1, RUNS),
    OURS,
    ("active", "running", "", 1, RUNS),
)
AGAIN: Final[tuple[Signal | str, ...]] = (
    ("activating", "auto-restart", "", 1, FAILED),
    ("activating", "auto-restart", SYSTEMD_S_OWN, 1, FAILED),
    ("inactive", "dead", SYSTEMD_S_OWN, 2, RUNS),
    ("active", "running", SYSTEMD_S_OWN, 2, RUNS),
    SYSTEMD_S_OWN,
    ("active", "running", "", 2, RUNS),
)


def told(
    signals: Iterable[Signal | str], before: dict[str, Any] | None = None
) -> tuple[StartHistory, dict[str, Any], dict[str, Any]]:
    """The history, and what a read says after it. A text is the path of a job that ended."""
    left, service = before or unit("inactive", "dead"), RUNS
    history = StartHistory(UNIT, snapshot_of(left), job=OURS)
    for signal in signals:
        if isinstance(signal, str):
            history.job_removed(signal)
            continue
        active, sub, job, invocation, service = signal
        left = unit(active, sub, job, invocation)
        history.service_changed(service)
        history.changed(left)
    return history, left, service


@pytest.mark.parametrize(
    ("signals", "wanted"),
    [
        (STARTED, UnitResult(UNIT, JobResult.DONE)),
        ((*STARTED, ("failed", "failed", "", 1, FAILED)), "exited with status 1"),
        (
            (*STARTED, ("inactive", "dead", "", 1, ENDED)),
            UnitResult(UNIT, JobResult.DONE, "exited with status 0"),
        ),
        ((*STARTED, ("failed", "failed", "", 1, FAILED), *AGAIN), "exited with status 1"),
        ((*STARTED, ("failed", "failed-before-auto-restart", "", 1, FAILED), *AGAIN), "exited with status 1"),
        ((*STARTED, ("inactive", "dead", "", 1, ENDED), *AGAIN), "exited with status 0"),
        ((*STARTED, ("activating", "auto-restart", "", 1, FAILED)), "exited with status 1"),
        (
            (
                *STARTED,
                ("deactivating", "stop-sigterm", ANOTHER, 1, RUNS),
                ("inactive", "dead", ANOTHER, 1, KILLED),
                ANOTHER,
            ),
            UnitResult(UNIT, JobResult.CANCELED, "was stopped: it is inactive (dead)"),
        ),
        (
            (
                *STARTED,
                ("deactivating", "stop-sigterm", ANOTHER, 1, RUNS),
                ("failed", "failed", ANOTHER, 1, FAILED),
                ANOTHER,
            ),
            UnitResult(UNIT, JobResult.CANCELED, "exited with status 1"),
        ),
        (
            (
                *STARTED,
                ("deactivating", "stop-sigterm", ANOTHER, 1, RUNS),
                ("failed", "failed", ANOTHER, 1, FAILED),
                ("active", "running", ANOTHER, 2, RUNS),
                ANOTHER,
                ("active", "running", "", 2, RUNS),
            ),
            UnitResult(UNIT, JobResult.DONE),
        ),
        ((*STARTED, ("inactive", "dead", "", 1, KILLED)), "was killed by SIGTERM"),
        ((OURS,), "a condition was not met"),
    ],
    ids=[
        "up",
        "failed",
        "ended-well",
        "crash-loop-252",
        "crash-loop-257",
        "loop-of-clean-exits-252",
        "waits-to-restart",
        "stopped-by-another-job",
        "stopped-by-another-job-badly",
        "restarted-by-another-job",
        "killed",
        "unmet",
    ],
)
def test_what_signals_told_says_what_came_of_a_start(
    signals: tuple[Signal | str, ...], wanted: UnitResult | str
) -> None:
    result = wanted if isinstance(wanted, UnitResult) else UnitResult(UNIT, JobResult.FAILED, wanted)
    history, left, service = told(signals)
    assert result_of_start(UNIT, history, left, service) == result
    assert history.has_gone_down is (not result.job.success or bool(result.detail))


def test_a_unit_that_another_job_restarts_has_not_fallen_meanwhile() -> None:
    history, _, _ = told((*STARTED, ("deactivating", "stop-sigterm", ANOTHER, 1, RUNS)))
    assert not history.has_gone_down


@pytest.mark.parametrize(("ended", "fell"), [(OURS, True), (ANOTHER, False)])
def test_a_new_start_that_is_told_with_the_end_of_the_job_is_a_fall_unless_another_job_made_it(
    ended: str, fell: bool
) -> None:
    history = StartHistory(UNIT, snapshot_of(unit("inactive", "dead")))
    history.changed(unit("active", "running", ended, 1))
    history.job_removed(ended)
    history.changed(unit("active", "running", "", 2))
    assert not history.has_gone_down  # whose job it was is not known yet
    history.ended(OURS)
    assert history.has_gone_down is fell


def test_a_start_of_what_waits_to_restart_is_no_crash() -> None:
    hurried = (
        ("activating", "auto-restart", OURS, 1, FAILED),
        ("activating", "auto-restart-queued", OURS, 2, RUNS),
        ("active", "running", OURS, 2, RUNS),
        OURS,
        ("active", "running", "", 2, RUNS),
    )
    history, _, _ = told(hurried, unit("activating", "auto-restart", invocation=1))
    assert history.starts == 1
    assert not history.has_gone_down


def test_a_restart_that_joins_the_job_of_a_start_is_no_crash() -> None:
    history, _, _ = told(
        (
            ("inactive", "dead", OURS, 1, RUNS),
            ("activating", "start", OURS, 1, RUNS),
            ("deactivating", "stop-sigterm", OURS, 1, RUNS),
            ("inactive", "dead", OURS, 1, KILLED),
            ("inactive", "dead", OURS, 2, RUNS),
            ("active", "running", OURS, 2, RUNS),
            OURS,
            ("active", "running", "", 2, RUNS),
        )
    )
    assert not history.has_gone_down


@pytest.mark.parametrize(
    ("service", "wanted"),
    [
        (
            {"Result": "exit-code", "ExecMainCode": 1, "ExecMainStatus": 203},
            "could not execute its program (status 203)",
        ),
        ({"Result": "protocol", "ExecMainCode": 1, "ExecMainStatus": 0}, "ended before it was ready"),
        ({"Result": "signal", "ExecMainCode": 2, "ExecMainStatus": 9}, "was killed by SIGKILL"),
        (
            {"Result": "core-dump", "ExecMainCode": 3, "ExecMainStatus": 11},
            "was killed by SIGSEGV (core dumped)",
        ),
        ({"Result": "something-newer", "ExecMainCode": 1, "ExecMainStatus": 1}, "failed (something-newer)"),
        (
            {
                "Result": "exit-code",
                "ExecMainCode": 2,
                "ExecMainStatus": 15,
                "ExecStartPost": [
                    ("/bin/false", ["/bin/false"], True, 0, 0, 0, 0, 8, 1, 1),
                    ("/bin/false", ["/bin/false"], False, 0, 0, 0, 0, 9, 1, 4),
                ],
            },
            "ExecStartPost= exited with status 4",
        ),
        ({"Result": "success", "ExecMainCode": 0, "ExecMainStatus": 0}, ""),
    ],
)
def test_a_reason_is_systemd_s_in_a_few_words(service: dict[str, Any], wanted: str) -> None:
    assert reason(service) == wanted


@pytest.mark.parametrize(
    ("signals", "now", "pending"),
    [
        ((), "active", OURS),
        ((("deactivating", "stop", ANOTHER, 1, RUNS),), "deactivating", ANOTHER),
        (
            (("deactivating", "stop", ANOTHER, 1, RUNS), ANOTHER, ("inactive", "dead", "", 1, RUNS)),
            "inactive",
            "",
        ),
    ],
)
def test_a_story_begins_with_what_was_read_or_with_a_signal_that_came_meanwhile(
    signals: tuple[Signal | str, ...], now: str, pending: str
) -> None:
    history = StartHistory(UNIT)
    for signal in signals:
        if isinstance(signal, str):
            history.job_removed(signal)
        else:
            active, sub, job, invocation, service = signal
            history.service_changed(service)
            history.changed(unit(active, sub, job, invocation))
    history.begin(snapshot_of(unit("active", "running", "", 1)), OURS)
    assert (history.now.state.active, history.pending) == (now, pending)
    assert history.before == history.now
    assert (history.starts, history.went_down, history.other_jobs, history.service) == (0, None, set(), {})
