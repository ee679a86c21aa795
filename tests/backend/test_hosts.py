"""Several hosts as one: each has its own groups, and none waits for another."""

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from typing import Any

import pytest

from hkswitch.backend import helper_host
from hkswitch.backend import hosts as hosts_module
from hkswitch.backend.helper_host import HelperHost
from hkswitch.backend.helper_session import HelperGone, HelperSession, Terms, local_terms
from hkswitch.backend.hosts import Hosts
from hkswitch.backend.known_groups import KnownGroups
from hkswitch.backend.reported_state import ReportedState
from hkswitch.backend.ssh_transport import SshTransport
from hkswitch.model.elsewhere import RemoteHost, Trait
from hkswitch.model.group import Group
from hkswitch.model.switch_events import RequestOrigin
from hkswitch.model.unit_state import Action, ActionResult, ActiveState, GroupState, Usage
from hkswitch.protocol.helper import HELPER_PROTOCOL, GroupUpdate, SamplesUpdate
from tests.support.host_with_helper import Recorder, groups_of, ignore
from tests.support.waiting import eventually

NAS, PI = RemoteHost("nas", "nas.lan"), RemoteHost("pi", "pi.lan")
HOSTS = "hosts: {nas: {ssh: nas.lan}, pi: {ssh: pi.lan}}\n"
CONFIG = HOSTS + "groups: {web: {units: [web]}, media: {host: nas, group: films}, tv: {host: pi}}"
EXCHANGED = (
    HOSTS + "groups: {web: {units: [web]}, media: {host: pi, group: tv}, tv: {host: nas, group: films}}"
)
TOKEN = "of-that-host"


@dataclass
class FakeHelper:
    """The transport to a helper in memory, which reports one unit for each group."""

    host: RemoteHost | None
    tokens: dict[str, str]
    is_away: bool = False
    is_slow: bool = False
    """Whether a connection never comes about, and never fails."""
    is_broken: bool = False
    """Whether to connect shows a bug."""
    holds: bool = False
    """Whether it accepts requests, and never finishes them."""
    active: str = "inactive"
    opened: int = 0
    """How often it was tried."""
    connected: int = 0
    closed: int = 0
    pause: float = 3600
    """In seconds, before the next attempt."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    session: HelperSession | None = None
    epoch: int = 0

    @property
    def terms(self) -> Terms:
        return local_terms() if self.host is None else SshTransport(self.host).terms

    async def open(self, session: HelperSession) -> "FakeHelper":
        self.opened += 1
        if self.is_broken:
            raise ZeroDivisionError
        if self.is_away:
            raise HelperGone("it is away")
        if self.is_slow:
            await asyncio.get_running_loop().create_future()
        self.session = session
        self.connected += 1
        session.begin(self.take)
        self.say(type="hello", version="1", protocol=HELPER_PROTOCOL)
        return self

    async def close(self) -> None:
        self.closed += 1

    def pause_seconds(self, why_gone: str, attempt: int) -> float:
        del why_gone, attempt
        return self.pause

    def explain(self, why_gone: str) -> str:
        return why_gone

    hint = explain

    def say(self, **message: object) -> None:
        assert self.session is not None
        self.session.receive(json.dumps(message).encode() + b"\n")

    def take(self, line: bytes) -> None:
        message = json.loads(line)
        if "observe" in message:
            self.epoch = message["observe"]
            asyncio.get_running_loop().call_soon(self.report)
        elif "action" in message:
            self.requests.append(message)
            if message["group"] not in self.tokens:
                self.say(type="refused", id=message["id"], reason="denied: no such group")
                return
            self.say(type="accepted", id=message["id"])
            if not self.holds:
                self.say(type="finished", id=message["id"], units=[], superseded=False)

    def report(self) -> None:
        for group_id, token in self.tokens.items():
            more = {"actions": ["start", "stop"], "traits": [], "timeout_seconds": 10}
            units = [f"{group_id}.service"]
            self.say(type="group", epoch=self.epoch, group=group_id, token=token, units=units, **more)
            self.change(group_id, self.active)
        self.say(type="complete", epoch=self.epoch)

    def change(self, group_id: str, active: str) -> None:
        self.active = active
        rows = [[f"{group_id}.service", "loaded", active, "x"]]
        self.say(type="states", epoch=self.epoch, units=rows, probes=[])


@dataclass
class Several:
    """Hosts whose helpers are in memory."""

    helpers: dict[str, FakeHelper] = field(default_factory=dict)
    """By the names of hosts, "" for this machine; that of the newest connection."""
    away: set[str] = field(default_factory=set)
    slow: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    told: Recorder = field(default_factory=lambda: Recorder({}))
    before: list[FakeHelper] = field(default_factory=list)
    """Those of hosts that were replaced."""
    hosts: Hosts = field(init=False)

    def begin(self, config: str = CONFIG) -> Hosts:
        groups = self._groups(config)
        self.hosts = Hosts(self._local(groups), groups, self._remote)
        return self.hosts

    async def reload(self, config: str) -> None:
        groups = self._groups(config)
        self.helpers[""].tokens = {group.id: group.token for group in groups if group.elsewhere is None}
        await self.hosts.watch(groups)

    def _groups(self, config: str) -> Collection[Group]:
        self.told.groups = groups_of(config)
        return self.told.groups.values()

    def _local(self, groups: Collection[Group]) -> HelperHost:
        tokens = {group.id: group.token for group in groups if group.elsewhere is None}
        self.helpers[""] = FakeHelper(None, tokens)
        return HelperHost(groups, self.helpers[""])

    def _remote(self, host: RemoteHost, groups: Collection[Group]) -> HelperHost:
        there = [each.elsewhere.group for each in groups if each.elsewhere and each.elsewhere.host == host]
        if host.name in self.helpers:
            self.before.append(self.helpers[host.name])
        helper = self.helpers[host.name] = FakeHelper(
            host,
            dict.fromkeys(there, TOKEN),
            is_away=host.name in self.away,
            is_slow=host.name in self.slow,
            is_broken=host.name in self.broken,
        )
        return HelperHost(groups, helper, host)

    def state(self, group_id: str) -> GroupState | None:
        observed = self.told.last[group_id]
        group = observed.group or self.told.groups[group_id]
        return None if observed.units is None else group.state(observed.units, observed.probe_result)

    async def start(self, group_id: str) -> ActionResult:
        return await self.hosts.request(Action.START, group_id, ignore, RequestOrigin.CONTROLLER)


@pytest.fixture
async def several(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Several]:
    monkeypatch.setattr(hosts_module, "REMOTE_WITHIN_SECONDS", 0.05)
    several = Several()
    several.begin()
    yield several
    await several.hosts.close()
    helpers = (*several.helpers.values(), *several.before)
    assert [helper.host for helper in helpers if helper.connected != helper.closed] == []


async def test_each_host_reports_its_groups_and_gets_the_requests_for_them(several: Several) -> None:
    await several.hosts.open(several.told)
    assert several.state("web") is GroupState.OFF
    await eventually(lambda: several.state("media") is several.state("tv") is GroupState.OFF)
    for group_id in ("web", "media", "tv"):
        assert await several.start(group_id) == ActionResult()
    asked = {
        name: [(each["group"], each["token"]) for each in helper.requests]
        for name, helper in several.helpers.items()
    }
    assert asked == {
        "": [("web", several.told.groups["web"].token)],
        "nas": [("films", TOKEN)],
        "pi": [("tv", TOKEN)],
    }


async def test_groups_that_exchange_their_places_get_their_own_requests(several: Several) -> None:
    await several.hosts.open(several.told)
    await several.reload(EXCHANGED)
    for group_id in ("media", "tv"):
        assert await several.start(group_id) == ActionResult()
    asked = {name: [each["group"] for each in several.helpers[name].requests] for name in ("nas", "pi")}
    assert asked == {"pi": ["tv"], "nas": ["films"]}


@pytest.mark.parametrize("trouble", ["away", "slow"])
async def test_a_host_that_does_not_answer_holds_up_neither_the_start_nor_other_hosts(
    several: Several, trouble: str
) -> None:
    getattr(several, trouble).add("nas")
    await asyncio.wait_for(several.hosts.open(several.told), 2)
    assert several.state("web") is GroupState.OFF
    await eventually(lambda: several.state("tv") is GroupState.OFF)
    assert several.state("media") is None
    assert await several.start("tv") == ActionResult()
    assert "the host nas is not connected" in str((await several.start("media")).failure)
    [nas, pi] = several.hosts.remote_hosts()
    assert (nas.name, bool(nas.problem), pi.name, pi.problem) == ("nas", True, "pi", "")


@pytest.mark.parametrize("group_id", ["media", "web"])
async def test_a_request_that_is_accepted_and_never_finished_holds_up_no_other_group(
    several: Several, group_id: str
) -> None:
    await several.hosts.open(several.told)
    several.helpers["nas" if group_id == "media" else ""].holds = True
    held = asyncio.create_task(several.start(group_id))
    assert await several.start("tv") == ActionResult()
    assert not held.done()
    held.cancel()
    await asyncio.gather(held, return_exceptions=True)


@pytest.mark.parametrize(
    ("group_id", "why"), [("media", "the host nas is not connected"), ("web", "not running")]
)
async def test_a_request_before_the_first_connection_gets_a_reason(
    several: Several, group_id: str, why: str
) -> None:
    assert why in str((await several.start(group_id)).failure)


async def test_a_request_for_a_group_that_a_reload_removed_gets_a_reason(several: Several) -> None:
    await several.hosts.open(several.told)
    await several.reload(HOSTS + "groups: {web: {units: [web]}, tv: {host: pi}}")
    assert (await several.start("media")).failure == "denied: no such group"
    assert several.helpers["nas"].requests == []
    await eventually(lambda: several.helpers["nas"].closed == 1)


WITHOUT_NAS = HOSTS + "groups: {web: {units: [web]}, tv: {host: pi}}"
MOVED_HERE = CONFIG.replace("{host: nas, group: films}", "{units: [media]}")
MOVED_TO_PI = CONFIG.replace("host: nas", "host: pi")
OTHER_ADDRESS = CONFIG.replace("nas.lan", "nas2.lan")


async def test_a_config_that_is_rejected_there_is_not_mistaken_for_the_one_here(several: Several) -> None:
    await several.hosts.open(several.told)
    several.helpers["nas"].say(type="config", problem="/etc/hkswitch/config.yaml:1:1: wrong")
    (nas,) = (each for each in several.hosts.remote_hosts() if each.name == "nas")
    assert nas.problem == "the host nas rejects its configuration: /etc/hkswitch/config.yaml:1:1: wrong"
    assert several.hosts.config_problem() == ""
    several.helpers["nas"].say(type="config", problem="")
    assert [each.problem for each in several.hosts.remote_hosts() if each.name == "nas"] == [""]


@pytest.mark.parametrize("config", [WITHOUT_NAS, MOVED_HERE, MOVED_TO_PI, OTHER_ADDRESS])
async def test_a_host_that_has_no_group_any_longer_is_closed_and_what_it_still_reports_is_dropped(
    several: Several, config: str
) -> None:
    await several.hosts.open(several.told)
    old = several.helpers["nas"]
    reloading = asyncio.create_task(several.reload(config))
    await asyncio.sleep(0)
    several.told.forget()
    old.change("films", "failed")  # it is still connected
    await reloading
    await eventually(lambda: old.closed == 1)
    told = [state.active for _, each in several.told.changes for state in (each.units or {}).values()]
    assert ActiveState.FAILED not in told
    assert several.state("web") is several.state("tv") is GroupState.OFF
    assert several.helpers["pi"].opened == several.helpers[""].opened == 1


@pytest.mark.parametrize("trouble", ["away", "slow", "none"])
async def test_a_host_that_is_removed_and_added_again_at_once_has_one_connection(
    several: Several, trouble: str
) -> None:
    troubled = {"away": several.away, "slow": several.slow}.get(trouble, set[str]())
    troubled.add("nas")
    await several.hosts.open(several.told)
    for _ in range(3):
        await several.reload(WITHOUT_NAS)
        await several.reload(CONFIG)
    troubled.clear()
    await several.reload(WITHOUT_NAS)
    await several.reload(CONFIG)
    await eventually(lambda: several.state("media") is GroupState.OFF)
    assert len(several.before) == 4
    await eventually(lambda: all(old.closed == 1 for old in several.before if old.session))
    several.helpers["nas"].change("films", "active")
    await eventually(lambda: several.state("media") is GroupState.ON)


async def test_a_reload_while_a_host_opens_has_its_new_groups(several: Several) -> None:
    several.slow.add("nas")
    opening = asyncio.create_task(several.hosts.open(several.told))
    await asyncio.sleep(0)
    await several.reload(CONFIG.replace("tv: {host: pi}", "tv: {host: pi}, music: {host: nas}"))
    await opening
    assert several.state("music") is several.state("media") is None
    assert several.helpers["nas"].opened == 1


async def test_a_tap_on_a_host_that_is_away_fails_at_once(
    several: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    several.away.add("nas")
    await several.hosts.open(several.told)
    await eventually(lambda: several.helpers["nas"].opened)
    monkeypatch.setattr(several.hosts._remote[RemoteHost("nas", "nas.lan")]._turns, "turn_of", None)
    assert "is away" in str((await several.start("media")).failure)


async def test_a_reload_connects_at_once_to_a_host_that_is_tried_again_later(several: Several) -> None:
    several.away.add("nas")
    await several.hosts.open(several.told)
    nas = several.helpers["nas"]
    assert nas.opened == 1
    nas.is_away = False
    await several.reload(CONFIG)
    await eventually(lambda: several.state("media") is GroupState.OFF)
    assert nas.opened == 2


@pytest.mark.parametrize("pause_seconds", [50, 3600])
async def test_when_a_host_is_back_the_others_are_tried_at_once_but_for_those_that_wait_for_long(
    several: Several, pause_seconds: float
) -> None:
    several.away |= {"nas", "pi"}
    await several.hosts.open(several.told)
    nas, pi = several.helpers["nas"], several.helpers["pi"]
    nas.pause, pi.pause = 0.01, pause_seconds
    await several.reload(CONFIG)
    await eventually(lambda: nas.opened > 2 <= pi.opened)
    nas.is_away = pi.is_away = False
    await eventually(lambda: several.state("media") is GroupState.OFF)
    if pause_seconds == 50:
        await eventually(lambda: several.state("tv") is GroupState.OFF)
    assert (several.state("tv"), pi.opened) == ((GroupState.OFF, 3) if pause_seconds == 50 else (None, 2))


async def test_two_names_of_one_destination_are_two_hosts(several: Several) -> None:
    await several.hosts.open(several.told)
    await several.reload(CONFIG.replace("pi.lan", "nas.lan"))
    await eventually(lambda: several.state("tv") is GroupState.OFF)
    assert several.helpers["nas"] is not several.helpers["pi"]
    assert [report.name for report in several.hosts.remote_hosts()] == ["nas", "pi"]


@pytest.mark.parametrize("name", ["nas", ""])
async def test_a_bug_in_a_task_of_a_host_is_not_lost(
    several: Several, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(helper_host, "TOLD_WITHIN_SECONDS", 0.05)
    several.broken |= {name}
    several.helpers[""].is_broken = not name
    await several.hosts.open(several.told)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(several.hosts.until_broken(), 10)


@pytest.mark.parametrize("turns", range(4))
async def test_hosts_that_are_closed_while_they_connect_leave_nothing(several: Several, turns: int) -> None:
    """The rule that nothing stays behind is in tests/conftest.py."""
    several.slow |= {"nas"}
    opening = asyncio.create_task(several.hosts.open(several.told))
    for _ in range(turns):
        await asyncio.sleep(0)
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)


# The groups of one host


def known() -> KnownGroups:
    return KnownGroups(groups_of(CONFIG).values(), NAS)


def test_a_host_has_its_own_groups_only_by_their_ids_there() -> None:
    groups = groups_of(CONFIG).values()
    assert [*KnownGroups(groups)] == ["web"]
    assert [*KnownGroups(groups, NAS)] == ["films"]
    assert [*KnownGroups(groups, PI)] == ["tv"]
    assert [*KnownGroups(groups, RemoteHost("nas", "other.lan"))] == []


@pytest.mark.parametrize(
    ("there", "is_known"), [("films", True), ("media", False), ("web", False), ("tv", False), ("", False)]
)
def test_what_a_host_tells_of_a_group_counts_only_if_it_has_that_group(there: str, *, is_known: bool) -> None:
    groups = known()
    groups.learn(GroupUpdate(1, there, "t", ("a.service",), (Action.START,), (Trait.PROBE,), 7))
    assert (there in groups) is is_known
    [group] = groups.groups
    assert (group.units == ("a.service",)) is is_known
    assert (groups.untold() == ()) is is_known


@pytest.mark.parametrize(("told", "taken"), [(1, 1), (3600, 3600), (3601, 3600), (2**53, 3600)])
def test_no_group_takes_longer_than_a_config_allows(told: int, taken: int) -> None:
    groups = known()
    groups.learn(GroupUpdate(1, "films", "t", (), (), (), told))
    assert [group.timeout_seconds for group in groups.groups] == [taken]


def test_what_this_machines_helper_tells_changes_no_group() -> None:
    groups = KnownGroups(groups_of(CONFIG).values())
    before = groups.get("web")
    groups.learn(GroupUpdate(1, "web", "t", ("a.service",), (), (Trait.COMMANDS,), 7))
    assert groups.get("web") == before


@pytest.mark.parametrize(
    ("update", "has_commands", "probe"),
    [
        (GroupUpdate(1, "films", "t", ("a.service",)), False, False),
        (GroupUpdate(1, "films", "t"), True, True),
    ],
    ids=["units", "commands"],
)
def test_what_an_older_helper_does_not_tell_is_guessed(
    update: GroupUpdate, *, has_commands: bool, probe: bool
) -> None:
    groups = known()
    groups.learn(update)
    group = groups.get("films")
    assert group is not None
    assert (group.commands is not None, bool(group.probe)) == (has_commands, probe)
    assert group.actions == {Action.START, Action.STOP}


@pytest.mark.parametrize(
    ("traits", "ids", "has_check"),
    [(None, ["films"], True), (None, ["web", "tv", "other"], False), ((), ["films"], False)],
    ids=["older", "of other groups", "not older"],
)
def test_an_older_helper_shows_by_a_result_that_a_group_has_a_check(
    traits: tuple[Trait, ...] | None, ids: list[str], *, has_check: bool
) -> None:
    groups = known()
    groups.learn(GroupUpdate(1, "films", "t", ("a.service",), (), traits))
    groups.learn_probes(ids)
    assert [bool(group.check) for group in groups.groups] == [has_check]


@pytest.mark.parametrize(
    ("config", "stays"),
    [
        (CONFIG.replace("group: films", "group: films, name: Films, alert: contact"), True),
        (CONFIG.replace("nas.lan", "other.lan"), False),
        (CONFIG.replace("group: films", "group: shows"), False),
        (CONFIG.replace("host: nas", "host: pi"), False),
        (MOVED_HERE, False),
        (WITHOUT_NAS, False),
    ],
)
def test_what_was_told_survives_a_reload_if_the_group_is_the_same(config: str, *, stays: bool) -> None:
    groups = known()
    groups.learn(GroupUpdate(1, "films", "t", ("a.service",), (Action.START,), (), 7))
    groups.regroup(groups_of(config).values())
    group = groups.get("films")
    assert (group is not None and groups.token(group) == "t" and group.units == ("a.service",)) is stays


def test_samples_are_those_of_groups_with_a_rule_and_of_their_members() -> None:
    rule = "restart_when: {memory_mib: 9}"
    groups = KnownGroups(groups_of(CONFIG.replace("group: films", f"group: films, {rule}")).values(), NAS)
    assert groups.sampled == ("films",)
    reported = ReportedState(groups)
    usages = tuple(Usage(name, "r", 0.0, 1, 1) for name in ("a.service", "web.service", ""))
    sample = SamplesUpdate(1, 9.0, usages)
    assert [*groups.samples(reported, sample)] == []
    update = GroupUpdate(1, "films", "t", ("a.service",), (), (), 7)
    groups.learn(update)
    reported.take(update)
    assert [(name, found.usages) for name, found in groups.samples(reported, sample)] == [
        ("media", usages[:1])
    ]
