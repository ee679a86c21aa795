"""Groups of other hosts in the daemon: what they are is learned from each report, and survives a reload."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from hkswitch.backend.simulated import ACTIVE, INACTIVE, SimulatedHost
from hkswitch.daemon.alerts import Alerts
from hkswitch.daemon.assumed_states import AssumedStates, AssumingHost
from hkswitch.daemon.kept_alerts import ALERTS_FILE_NAME, LARGEST_ALERTS_BYTES, alerts_file
from hkswitch.daemon.rules import Rules
from hkswitch.daemon.switchboard import Switchboard
from hkswitch.model.config import BridgeConfig, Config
from hkswitch.model.elsewhere import Elsewhere, RemoteHost, Trait
from hkswitch.model.group import AlertSensor, Group, RestartWhen
from hkswitch.model.switch_events import Observed, RequestOrigin
from hkswitch.model.told_group import Told, as_told
from hkswitch.model.trouble import MOST_RUNS
from hkswitch.model.unit_state import Action, GroupState, ProbeResult, Sample, UnitFailure, UnitState, Usage
from tests.daemon.test_assumed_states import Recorder, ScriptedHost
from tests.daemon.test_rules import NotedAlerts, NotedGroups
from tests.daemon.test_switchboard import NotedDisplay
from tests.support.waiting import eventually

NAS: Final = RemoteHost("nas", "nas.lan")
RULE: Final = RestartWhen(cpu_percent=50, for_seconds=30)
MEDIA: Final = Group(
    "nas-media", "NAS Media", alert=AlertSensor.CONTACT, restart_when=RULE, elsewhere=Elsewhere(NAS, "media")
)
BOTH: Final = (Action.START, Action.STOP)
GONE: Final = Observed(None, None, "the host nas is not connected")
KILLED: Final = UnitFailure("r1", is_requested=False, reason="plex.service was killed by SIGKILL")
FAILED: Final = UnitState(ACTIVE.load, type(ACTIVE.active)("failed"), "failed")


def told(*members: str, token: str = "t1", traits: tuple[Trait, ...] = ()) -> Group:
    return as_told(MEDIA, Told(token, members, BOTH, frozenset(traits), 10))


PLEX: Final = told("plex.service")
CHECKED: Final = told("plex.service", traits=(Trait.PROBE,))
TV: Final = told(traits=(Trait.COMMANDS, Trait.ASSUMED))
OTHER_TV: Final = told(token="t2", traits=(Trait.COMMANDS, Trait.ASSUMED))


def board(*groups: Group) -> Switchboard:
    return Switchboard(groups, SimulatedHost(groups), NotedDisplay())


def state_of(switches: Switchboard) -> GroupState | None:
    [report] = switches.report()
    return report.state


@pytest.mark.parametrize(
    ("observed", "state"),
    [
        (Observed({"plex.service": ACTIVE}, group=PLEX), GroupState.ON),
        (Observed({"plex.service": INACTIVE}, group=PLEX), GroupState.OFF),
        (Observed({}, ProbeResult.ON, group=told(traits=(Trait.COMMANDS, Trait.PROBE))), GroupState.ON),
        (
            Observed(
                {"plex.service": ACTIVE}, ProbeResult.OFF, group=told("plex.service", traits=(Trait.PROBE,))
            ),
            GroupState.PARTIAL,
        ),
        (Observed({}, group=told(traits=(Trait.COMMANDS, Trait.MOMENTARY))), GroupState.OFF),
        (Observed({"plex.service": ACTIVE}, group=told("plex.service", "db.service")), None),
        (Observed({"plex.service": ACTIVE}, group=CHECKED), None),
        (Observed({}, group=told(traits=(Trait.COMMANDS, Trait.PROBE))), None),
        (GONE, None),
    ],
)
def test_the_state_follows_from_what_the_host_says_that_the_group_is(
    observed: Observed, state: GroupState | None
) -> None:
    switches = board(MEDIA)
    switches.observed("nas-media", observed)
    assert state_of(switches) is state


def test_the_report_has_the_place_and_the_members_of_the_group() -> None:
    switches = board(MEDIA)
    switches.observed("nas-media", Observed({"plex.service": ACTIVE}, group=PLEX))
    [report] = switches.report()
    assert (report.host, report.group, {*report.units}) == ("nas", "media", {"plex.service"})


RENAMED: Final = replace(MEDIA, name="Films", alert=None)
MOVED: Final = replace(MEDIA, elsewhere=Elsewhere(RemoteHost("pi", "pi.lan"), "media"))
OTHER_THERE: Final = replace(MEDIA, elsewhere=Elsewhere(NAS, "films"))
LOCAL: Final = replace(MEDIA, units=("plex.service",), elsewhere=None)


@pytest.mark.parametrize(
    ("after", "state"),
    [(RENAMED, GroupState.ON), (MOVED, None), (OTHER_THERE, None), (LOCAL, None)],
    ids=["renamed", "another host", "another group there", "this machine"],
)
def test_a_reload_keeps_the_state_of_the_same_group_of_the_same_host(
    after: Group, state: GroupState | None
) -> None:
    switches = board(MEDIA)
    switches.observed("nas-media", Observed({"plex.service": ACTIVE}, group=PLEX))
    switches.regroup([after])
    assert state_of(switches) is state
    [group] = switches.groups
    assert (group.name, group.members == ("plex.service",)) == (after.name, after in {RENAMED, LOCAL})


class Silent:
    """A display of sensors that nobody looks at."""

    def show_alert(self, group_id: str, *, detected: bool) -> None:
        del group_id, detected


def alerts(folder: Path) -> Alerts:
    return Alerts(Config(BridgeConfig(), (MEDIA,)), SimulatedHost(()), Silent(), alerts_file(folder))


FAILURE: Final = Observed({"plex.service": FAILED}, failures={"plex.service": KILLED}, group=PLEX)


async def test_a_failure_that_was_judged_alerts_nobody_anew_after_a_restart_and_a_lost_connection(
    tmp_path: Path,
) -> None:
    first = alerts(tmp_path)
    first.observed("nas-media", FAILURE)
    assert len(first.last()) == 1
    await first.close()
    second = alerts(tmp_path)
    for observed in (GONE, Observed({}), FAILURE, GONE, FAILURE):
        second.observed("nas-media", observed)
    assert len(second.last()) == 1
    await second.close()


async def test_what_hosts_say_of_failures_never_fills_the_file(tmp_path: Path) -> None:
    groups = tuple(
        replace(MEDIA, id=f"g{number}", elsewhere=Elsewhere(NAS, f"g{number}")) for number in range(74)
    )
    kept = Alerts(Config(BridgeConfig(), groups), SimulatedHost(()), Silent(), alerts_file(tmp_path))
    members = tuple(f"{number:03}{'m' * 253}" for number in range(128))
    for group in groups:
        what = as_told(group, Told("t1", members, BOTH, frozenset(), 10))
        for run in range(MOST_RUNS):
            failures = {each: KILLED._replace(run=f"{run}{'r' * 255}") for each in members}
            kept.observed(group.id, Observed(dict.fromkeys(members, FAILED), failures=failures, group=what))
    await kept.close()
    size = (tmp_path / ALERTS_FILE_NAME).stat().st_size
    assert size < LARGEST_ALERTS_BYTES
    assert len(alerts_file(tmp_path).read().judged) == len(groups)


async def test_a_host_that_is_away_neither_opens_nor_closes_a_sensor(tmp_path: Path) -> None:
    kept = alerts(tmp_path)
    kept.observed("nas-media", GONE)
    assert kept.trouble_of("nas-media") is None
    kept.observed("nas-media", FAILURE)
    kept.observed("nas-media", GONE)
    assert kept.trouble_of("nas-media") is not None
    await kept.close()


def sample(at_seconds: float) -> Sample:
    cpu_ns = int(at_seconds * 10**9)
    return Sample(at_seconds, (Usage("plex.service", "r1", 0.0, cpu_ns, None),))


@pytest.mark.parametrize("is_told", [True, False])
async def test_a_rule_measures_the_members_that_the_host_has_told(*, is_told: bool) -> None:
    groups = NotedGroups()
    rules = Rules([MEDIA], groups, NotedAlerts())
    if is_told:
        rules.observed("nas-media", Observed({"plex.service": ACTIVE}, group=PLEX))
    for step in range(6):
        rules.sampled("nas-media", sample(1000.0 + 15 * step))
    if is_told:
        await eventually(lambda: groups.restarted)
    await rules.close()
    assert groups.restarted == (["nas-media"] if is_told else [])


def assuming(folder: Path) -> tuple[AssumingHost, ScriptedHost, Recorder]:
    scripted = ScriptedHost()
    scripted.groups = ()
    return AssumingHost(scripted, (MEDIA,), AssumedStates(folder)), scripted, Recorder()


def last(recorder: Recorder) -> ProbeResult | None:
    return recorder.told[-1][1].probe_result


@pytest.mark.parametrize(
    ("after", "result"),
    [(TV, ProbeResult.ON), (OTHER_TV, ProbeResult.OFF)],
    ids=["the same group", "another token"],
)
async def test_an_assumed_state_of_another_host_is_kept_until_the_group_there_changes(
    tmp_path: Path, after: Group, result: ProbeResult
) -> None:
    host, _, recorder = assuming(tmp_path)
    await host.open(recorder)
    host.observed("nas-media", Observed({}, group=TV))
    assert last(recorder) is ProbeResult.OFF
    await host.request(Action.START, "nas-media", lambda: None, RequestOrigin.USER)
    assert last(recorder) is ProbeResult.ON

    host, _, recorder = assuming(tmp_path)  # the daemon has been restarted, and that host is away
    await host.open(recorder)
    host.observed("nas-media", GONE)
    await host.watch((MEDIA,))
    host.observed("nas-media", Observed({}, group=after))
    assert last(recorder) is result


async def test_a_group_of_units_there_has_no_assumed_state(tmp_path: Path) -> None:
    host, _, recorder = assuming(tmp_path)
    await host.open(recorder)
    host.observed("nas-media", Observed({}, group=TV))
    host.observed("nas-media", Observed({"plex.service": ACTIVE}, group=PLEX))
    assert last(recorder) is None
