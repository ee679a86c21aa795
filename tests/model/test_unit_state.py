import pytest

from hkswitch.model.unit_state import (
    ActionResult,
    ActiveState,
    GroupState,
    JobResult,
    LoadState,
    UnitHealth,
    UnitResult,
    UnitState,
    failure_of,
    group_state,
    result_of,
)

UP = UnitState(LoadState.LOADED, ActiveState.ACTIVE, "running")
STARTING = UnitState(LoadState.LOADED, ActiveState.ACTIVATING, "start")
STOPPING = UnitState(LoadState.LOADED, ActiveState.DEACTIVATING, "stop")
DOWN = UnitState(LoadState.LOADED, ActiveState.INACTIVE, "dead")
FAILED = UnitState(LoadState.LOADED, ActiveState.FAILED, "failed")
MISSING = UnitState(LoadState.NOT_FOUND, ActiveState.INACTIVE, "dead")
PAUSED = UnitState(LoadState.LOADED, ActiveState.PARTIAL, "paused")

LOADABLE = ["loaded", "stub", "merged"]
NOT_LOADABLE = [
    "not-found",
    "masked",
    "bad-setting",
    "error",
    "unavailable",
    "unknown",
    "a word of tomorrow",
    "",
]


@pytest.mark.parametrize("load", LOADABLE)
@pytest.mark.parametrize(
    ("active", "sub", "health"),
    [
        ("active", "running", UnitHealth.UP),
        ("active", "exited", UnitHealth.UP),
        ("reloading", "reload", UnitHealth.UP),
        ("refreshing", "refresh", UnitHealth.UP),
        ("activating", "start", UnitHealth.STARTING),
        ("activating", "start-pre", UnitHealth.STARTING),
        ("activating", "", UnitHealth.STARTING),
        ("activating", "auto-restart", UnitHealth.FAILED),
        ("activating", "auto-restart-queued", UnitHealth.FAILED),
        ("inactive", "dead-before-auto-restart", UnitHealth.FAILED),
        ("failed", "failed-before-auto-restart", UnitHealth.FAILED),
        ("activating", "dead-before-auto-restart", UnitHealth.FAILED),
        ("active", "auto-restart", UnitHealth.FAILED),
        ("inactive", "dead-resources-pinned", UnitHealth.DOWN),
        ("activating", "autorestart", UnitHealth.STARTING),
        ("deactivating", "stop-sigterm", UnitHealth.STOPPING),
        ("inactive", "dead", UnitHealth.DOWN),
        ("maintenance", "dead", UnitHealth.DOWN),
        ("failed", "failed", UnitHealth.FAILED),
        ("partial", "paused", UnitHealth.PARTIAL),
        ("partial", "1 of 2 running: auto-restart exited with 1", UnitHealth.PARTIAL),
        ("failing", "unhealthy", UnitHealth.FAILED),
        ("unknown", "running", UnitHealth.MISSING),
        ("a word of tomorrow", "running", UnitHealth.MISSING),
        ("", "", UnitHealth.MISSING),
    ],
)
def test_a_unit_that_can_be_loaded_means_what_it_does(
    load: str, active: str, sub: str, health: UnitHealth
) -> None:
    assert UnitState(LoadState(load), ActiveState(active), sub).health is health


@pytest.mark.parametrize("load", NOT_LOADABLE)
def test_a_unit_that_cannot_be_loaded_is_missing(load: str) -> None:
    healths = {UnitState(LoadState(load), active, "running").health for active in ActiveState}
    assert healths == {UnitHealth.MISSING}


def test_every_load_state_is_in_these_tables() -> None:
    assert {LoadState(word) for word in LOADABLE + NOT_LOADABLE} == set(LoadState)


@pytest.mark.parametrize(
    ("state", "text"),
    [
        pytest.param(UP, "active (running)", id="loaded"),
        pytest.param(MISSING, "not-found", id="not loadable"),
        pytest.param(
            UnitState(LoadState.UNAVAILABLE, ActiveState.UNKNOWN, "docker.service is inactive"),
            "unavailable (docker.service is inactive)",
            id="a container without its engine",
        ),
    ],
)
def test_a_unit_state_is_shown_in_words_of_systemd(state: UnitState, text: str) -> None:
    assert str(state) == text


@pytest.mark.parametrize(
    ("units", "state", "on"),
    [
        pytest.param([], GroupState.MISSING, False, id="no unit"),
        pytest.param([MISSING], GroupState.MISSING, False, id="missing"),
        pytest.param([UP, MISSING], GroupState.MISSING, False, id="missing before up"),
        pytest.param([FAILED, MISSING], GroupState.MISSING, False, id="missing before failed"),
        pytest.param([STARTING, STOPPING, DOWN, MISSING], GroupState.MISSING, False, id="missing before all"),
        pytest.param([UP], GroupState.ON, True, id="up"),
        pytest.param([UP, UP], GroupState.ON, True, id="all up"),
        pytest.param([FAILED], GroupState.FAILED, False, id="failed"),
        pytest.param([UP, FAILED], GroupState.FAILED, False, id="failed before up"),
        pytest.param([STARTING, FAILED], GroupState.FAILED, False, id="failed before starting"),
        pytest.param([STOPPING, FAILED], GroupState.FAILED, False, id="failed before stopping"),
        pytest.param([DOWN, FAILED], GroupState.FAILED, False, id="failed before down"),
        pytest.param([STARTING], GroupState.STARTING, True, id="starting"),
        pytest.param([UP, STARTING], GroupState.STARTING, True, id="starting, the rest up"),
        pytest.param([STARTING, STARTING], GroupState.STARTING, True, id="all starting"),
        pytest.param([STOPPING], GroupState.STOPPING, False, id="stopping"),
        pytest.param([UP, STOPPING], GroupState.STOPPING, False, id="stopping before up"),
        pytest.param([DOWN, STOPPING], GroupState.STOPPING, False, id="stopping before down"),
        pytest.param([STARTING, STOPPING], GroupState.STOPPING, False, id="stopping before starting"),
        pytest.param([UP, DOWN], GroupState.PARTIAL, False, id="some up"),
        pytest.param([PAUSED], GroupState.PARTIAL, False, id="paused"),
        pytest.param([UP, PAUSED, DOWN], GroupState.PARTIAL, False, id="some paused"),
        pytest.param([STARTING, PAUSED], GroupState.PARTIAL, False, id="some starting, some paused"),
        pytest.param([STOPPING, PAUSED], GroupState.STOPPING, False, id="some stopping, some paused"),
        pytest.param([FAILED, PAUSED], GroupState.FAILED, False, id="some failed, some paused"),
        pytest.param([UP, STARTING, DOWN], GroupState.PARTIAL, False, id="some up, some starting, some down"),
        pytest.param([DOWN], GroupState.OFF, False, id="down"),
        pytest.param([DOWN, DOWN], GroupState.OFF, False, id="all down"),
        pytest.param([STARTING, DOWN], GroupState.OFF, False, id="none up, some starting"),
    ],
)
def test_a_group_is_what_its_units_are_together(units: list[UnitState], state: GroupState, on: bool) -> None:
    assert group_state(units) is state
    assert group_state(units[::-1]) is state
    assert state.on is on


@pytest.mark.parametrize("result", JobResult)
def test_only_a_done_job_is_a_success(result: JobResult) -> None:
    assert result.success is (result.value == "done")


def test_an_unknown_job_result_is_no_success() -> None:
    assert JobResult("a word of tomorrow") is JobResult.UNKNOWN


@pytest.mark.parametrize(
    ("result", "text"),
    [
        pytest.param(UnitResult("smb.service", JobResult.FAILED), "smb.service failed", id="a job"),
        pytest.param(
            UnitResult("smb.service", JobResult.FAILED, "exited with status 1"),
            "smb.service exited with status 1",
            id="a reason",
        ),
        pytest.param(
            UnitResult("smb.service", JobResult.REFUSED, "Unit is masked."),
            "smb.service refused (Unit is masked.)",
            id="no job",
        ),
    ],
)
def test_a_result_is_shown_with_what_systemd_says(result: UnitResult, text: str) -> None:
    assert str(result) == text


@pytest.mark.parametrize(
    ("results", "failure"),
    [
        ((), None),
        ((UnitResult("a", JobResult.DONE), UnitResult("b", JobResult.DONE)), None),
        ((UnitResult("a", JobResult.DONE), UnitResult("b", JobResult.FAILED)), "b failed"),
        (
            (UnitResult("a", JobResult.REFUSED, "Unit a not found"), UnitResult("b", JobResult.TIMEOUT)),
            "a refused (Unit a not found), b timeout",
        ),
    ],
)
def test_failure_names_the_units_that_failed_and_how(
    results: tuple[UnitResult, ...], failure: str | None
) -> None:
    assert failure_of(results) == failure


DONE = UnitResult("a.service", JobResult.DONE)
ENDED = UnitResult("b.service", JobResult.DONE, "exited with status 0")
BROKEN = UnitResult("c.service", JobResult.FAILED, "exited with status 1")
LATE = UnitResult("d.service", JobResult.TIMEOUT)
CANCELED = UnitResult("e.service", JobResult.CANCELED)
STOPPED = UnitResult("g.service", JobResult.CANCELED, "was stopped")
DEPENDENT = UnitResult("f.service", JobResult.DEPENDENCY)


@pytest.mark.parametrize(
    ("results", "result"),
    [
        ((), ActionResult()),
        ((DONE,), ActionResult()),
        ((DONE, ENDED), ActionResult(None, "b.service exited with status 0 and is not running")),
        (
            (ENDED, ENDED._replace(unit="e.service")),
            ActionResult(
                None,
                "b.service exited with status 0 and is not running, "
                "e.service exited with status 0 and is not running",
            ),
        ),
        ((BROKEN,), ActionResult("c.service exited with status 1", went_wrong=True)),
        ((DONE, LATE), ActionResult("d.service timeout", went_wrong=True)),
        ((BROKEN, LATE), ActionResult("c.service exited with status 1, d.service timeout", went_wrong=True)),
        (
            (ENDED, BROKEN),
            ActionResult(
                "c.service exited with status 1",
                "b.service exited with status 0 and is not running",
                went_wrong=True,
            ),
        ),
        ((DEPENDENT,), ActionResult("f.service dependency", went_wrong=True)),
        ((DONE, CANCELED), ActionResult("e.service canceled")),
        ((STOPPED,), ActionResult("g.service was stopped")),
        ((CANCELED, DEPENDENT), ActionResult("e.service canceled, f.service dependency")),
        ((CANCELED, LATE), ActionResult("e.service canceled, d.service timeout", went_wrong=True)),
    ],
    ids=[
        *("nothing", "done", "one ended", "two ended", "failed", "timeout", "two failed", "ended and failed"),
        *("dependency", "canceled", "stopped", "canceled with a dependent", "canceled and timeout"),
    ],
)
def test_a_result_says_what_failed_and_notes_what_ended_well(
    results: tuple[UnitResult, ...], result: ActionResult
) -> None:
    assert result_of(results) == result
