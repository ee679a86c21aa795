"""What is kept of what a helper tells, and what it is taken for."""

import pytest

from hkswitch.backend.reported_state import MOST_UNITS, ReportedState
from hkswitch.model.switch_events import Observed
from hkswitch.model.unit_state import ProbeResult, UnitState
from hkswitch.protocol.helper import CONFIG_CHANGED, Complete, GroupUpdate, Lost, ProbeUpdate, StatesUpdate
from tests.support.host_with_helper import DOWN, UP

WEB = GroupUpdate(1, "web", "t1", ("httpd.service",))
FILES = GroupUpdate(1, "files", "t2", ("smb.service", "httpd.service"))
YES, NO, NOTHING = ProbeUpdate(ProbeResult.ON, "yes"), ProbeUpdate(ProbeResult.OFF, "no"), ProbeUpdate(None)


def states(units: dict[str, UnitState], **probes: ProbeUpdate) -> StatesUpdate:
    return StatesUpdate(1, units, probes)


@pytest.fixture
def known() -> ReportedState:
    """All of two groups that share a unit."""
    known = ReportedState({"web", "files"})
    for told in (
        WEB,
        FILES,
        states({"httpd.service": UP, "smb.service": DOWN}, web=YES),
        Complete(1),
    ):
        known.take(told)
    return known


def test_what_is_known_of_a_group_is_its_units_and_what_its_probe_says(known: ReportedState) -> None:
    assert known.observed("web", "t1") == Observed({"httpd.service": UP}, ProbeResult.ON, "yes")
    assert known.observed("files", "t2") == Observed({"smb.service": DOWN, "httpd.service": UP})
    assert known.is_complete


@pytest.mark.parametrize(("group", "token"), [("web", "t2"), ("web", ""), ("other", "t1"), ("files", "t1")])
def test_a_group_that_means_something_else_is_not_known(known: ReportedState, group: str, token: str) -> None:
    assert known.observed(group, token) == Observed(None, None, CONFIG_CHANGED)
    assert not known.has(group, token)


def test_a_group_that_the_config_has_no_more_is_not_known_whatever_is_asked_for(known: ReportedState) -> None:
    known.take(GroupUpdate(1, "web", ""))
    assert known.observed("web", "t1") == Observed(None, None, CONFIG_CHANGED)


@pytest.mark.parametrize(
    ("told", "concerned"),
    [
        (WEB, {"web"}),
        (GroupUpdate(1, "other", "t", ("httpd.service",)), set()),
        (states({"httpd.service": DOWN}), {"web", "files"}),
        (states({"smb.service": DOWN}), {"files"}),
        (states({"other.service": UP}), set()),
        (states({}, web=NO), {"web"}),
        (states({}, other=NO), set()),
        (Lost(1, "no bus"), {"web", "files"}),
        (Complete(1), {"web", "files"}),
    ],
)
def test_it_is_said_which_groups_something_is_about(
    known: ReportedState, told: GroupUpdate | StatesUpdate | Lost | Complete, concerned: set[str]
) -> None:
    assert set(known.take(told)) == concerned


@pytest.mark.parametrize("reason", ["no bus", ""])
def test_without_systemd_no_group_is_known_until_all_was_told(known: ReportedState, reason: str) -> None:
    known.take(Lost(1, reason))
    assert not known.is_complete
    assert known.observed("web", "t1") == Observed(None, None, reason or "systemd is unavailable")
    known.take(states({"httpd.service": UP}))
    assert known.observed("web", "t1").units is None
    known.take(Complete(1))
    assert known.observed("web", "t1") == Observed({"httpd.service": UP}, ProbeResult.ON, "yes")
    assert known.observed("files", "t2") == Observed({"httpd.service": UP})  # nobody told of the other unit


def test_a_group_whose_units_change_is_judged_by_no_state_of_before(known: ReportedState) -> None:
    known.take(GroupUpdate(1, "files", "t3", ("nmb.service", "httpd.service")))
    assert known.observed("files", "t3") == Observed({"httpd.service": UP})
    known.take(FILES)
    assert known.observed("files", "t2") == Observed({"httpd.service": UP})  # smb's may be long ago
    known.take(states({"smb.service": UP}))
    assert known.observed("files", "t2").units == {"smb.service": UP, "httpd.service": UP}


# What is not asked for


@pytest.mark.parametrize(
    ("told", "probe_result"), [(GroupUpdate(1, "web", "t3", ("httpd.service",)), None), (WEB, ProbeResult.ON)]
)
def test_what_a_probe_said_is_not_taken_for_what_that_of_a_changed_group_says(
    known: ReportedState, told: GroupUpdate, probe_result: ProbeResult | None
) -> None:
    known.take(told)
    assert known.observed("web", told.token).probe_result is probe_result
    known.take(states({}, web=NO))
    assert known.observed("web", told.token).probe_result is ProbeResult.OFF


def test_groups_and_units_that_were_not_asked_for_are_not_kept(known: ReportedState) -> None:
    known.take(GroupUpdate(1, "other", "t", ("other.service",)))
    known.take(states({"other.service": UP}, other=YES))
    assert known.groups.keys() == {"web", "files"}
    assert known.units.keys() == {"httpd.service", "smb.service"}
    assert known.probes.keys() == {"web"}


def test_of_a_group_no_more_units_are_kept_than_a_group_can_have(known: ReportedState) -> None:
    units = tuple(f"unit-{number}.service" for number in range(5000))
    known.take(GroupUpdate(1, "web", "t1", units))
    known.take(states(dict.fromkeys(units, UP)))
    assert known.groups["web"].units == units[:MOST_UNITS]
    assert len(known.units) <= MOST_UNITS + 2


def test_whatever_is_told_what_is_kept_stays_bounded(known: ReportedState) -> None:
    """100,000 groups that nobody asked for, and one group that has other units each time."""
    for number in range(100_000):
        unit = f"unit-{number}.service"
        known.take(GroupUpdate(1, f"group-{number}", "t", (unit,)))
        known.take(states({unit: UP}, **{f"group-{number}": YES}))
        if number % 10 == 0:
            known.take(GroupUpdate(1, "web", "t1", (unit, "httpd.service")))
            known.take(states({unit: UP}))
    kept = (known.groups, known.units, known.probes, known._groups_of)
    assert [len(each) for each in kept] == [2, 3, 1, 3]


# Another helper


def replaced(*told: GroupUpdate | StatesUpdate) -> ReportedState:
    """What the next helper tells."""
    known = ReportedState({"web", "files"})
    for each in (*told, Complete(1)):
        known.take(each)
    return known


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ((WEB, states({"httpd.service": UP}, web=NOTHING)), {"web": YES}),
        ((WEB, states({"httpd.service": UP})), {"web": YES}),
        ((WEB, FILES, states({"httpd.service": UP, "smb.service": UP})), {"web": YES}),
        ((WEB, states({"httpd.service": UP}, web=NO)), {}),  # it has answered
        ((WEB, states({"httpd.service": DOWN}, web=NOTHING)), {}),  # its units are not as they were
        ((WEB._replace(token="t9"), states({"httpd.service": UP})), {}),  # it means something else
        ((FILES, states({"httpd.service": UP})), {}),  # there is no such group
    ],
)
def test_of_a_probe_that_has_not_answered_what_it_said_before_is_kept_if_nothing_else_changed(
    known: ReportedState, told: tuple[GroupUpdate | StatesUpdate, ...], kept: dict[str, ProbeUpdate]
) -> None:
    assert replaced(*told).unanswered_of(known) == kept


def test_a_probe_that_could_not_answer_before_is_kept_as_that(known: ReportedState) -> None:
    unavailable = ProbeUpdate(ProbeResult.UNAVAILABLE, "not found")
    known.take(states({}, web=unavailable))
    now = replaced(WEB, states({"httpd.service": UP}))
    assert now.unanswered_of(known) == {"web": unavailable}
