"""Groups with containers in the helper: their order, their states, and what holds up what."""

import asyncio
import math

import pytest

from hkswitch.model.group import Engine
from hkswitch.model.unit_state import Action
from tests.containers.both_engines import OF_EACH, STOPPING, in_virtual_time
from tests.containers.served_helper import DOWN, UP, ServedHelper, other_than
from tests.support.simulated_engine import EngineFault

CONTAINER_UP = "active (running)"


def config(engine: Engine) -> str:
    other = other_than(engine)
    return f"""\
groups:
  both: {{units: [smb, nmb], containers: [web, db], engine: {engine}, restart: true}}
  web: {{containers: [web], engine: {engine}}}
  immich: {{compose: immich, engine: {engine}}}
  files: {{units: [httpd]}}
  wiki: {{containers: [wiki], engine: {other}}}
"""


def helper_with(engine: Engine, status: str = "exited") -> ServedHelper:
    helper = ServedHelper(config(engine))
    simulated = helper.both.by_engine[engine]
    for name in ("web", "db"):
        simulated.add(name, status)
    simulated.add_service("immich", "server")
    helper.both.by_engine[other_than(engine)].add("wiki")
    is_up = status == "running"
    helper.units = dict.fromkeys(("smb.service", "nmb.service"), UP if is_up else DOWN) | {
        "httpd.service": UP
    }
    return helper


# The order of an action


UNITS_FIRST = ["smb.service", "nmb.service", "web", "db"]
ORDERS = [
    ("start", "exited", [f"start {name}" for name in UNITS_FIRST]),
    ("stop", "running", [f"stop {name}" for name in ("web", "db", "smb.service", "nmb.service")]),
    (
        "restart",
        "running",
        ["restart smb.service", "restart nmb.service", "stop web", "stop db", "start web", "start db"],
    ),
]


@pytest.mark.parametrize(("action", "before", "done"), ORDERS)
@OF_EACH
@in_virtual_time
async def test_units_start_before_containers_and_stop_after_them(
    engine: Engine, action: str, before: str, done: list[str]
) -> None:
    async with helper_with(engine, before).serving() as helper:
        results = await helper.act(action, "both")
        names = [f"{engine}/{each}" if each in {"web", "db"} else each for each in UNITS_FIRST]
        assert sorted(results) == sorted(f"{name} done" for name in names)
        assert helper.done == done
        expected = "inactive" if action == "stop" else "active"
        assert all(helper.last_states[name].startswith(expected) for name in names)
        assert helper.audit.failures == [""]


@OF_EACH
@in_virtual_time
async def test_without_its_units_no_container_starts_but_all_of_them_stop(engine: Engine) -> None:
    helper = helper_with(engine)
    helper.failing = {"nmb.service"}
    async with helper.serving():
        assert await helper.act("start", "both") == ["smb.service done", "nmb.service failed"]
        assert helper.done == ["start smb.service", "start nmb.service"]
        helper.done.clear()
        helper.both.by_engine[engine].faults = [EngineFault("web/stop", status=500)]
        assert await helper.act("stop", "both") == [
            f"{engine}/web failed failed: something broke",
            f"{engine}/db done",
            "smb.service done",
            "nmb.service failed",
        ]


@OF_EACH
@in_virtual_time
async def test_a_stop_overrules_a_start_before_its_containers_are_asked(engine: Engine) -> None:
    async with helper_with(engine).serving() as helper:
        helper.job_seconds = 2
        start = helper.request("start", "both")
        await asyncio.sleep(1)
        stop = helper.request("stop", "both")
        assert await helper.end_of(start) == ["both canceled"]
        assert "done" in (await helper.end_of(stop))[-1]
        assert not [act for act in helper.done if act in {"start web", "start db"}]
        superseded = {reply["id"]: reply["superseded"] for reply in helper.told("finished")}
        assert superseded == {start: True, stop: False}


@pytest.mark.parametrize(("first", "before"), [("start", "exited"), ("stop", "running")])
@OF_EACH
@in_virtual_time
async def test_the_opposite_of_an_action_need_not_wait_for_the_parts_that_it_overrules(
    engine: Engine, first: str, before: str
) -> None:
    second = "stop" if first == "start" else "start"
    async with helper_with(engine, before).serving() as helper:
        helper.job_seconds = 60
        helper.both.by_engine[engine].faults = [EngineFault(f"/{first}", delay_seconds=60)]
        helper.request(first, "both")
        await asyncio.sleep(1)
        begun = [*helper.done]
        helper.request(second, "both")
        await asyncio.sleep(1)
        assert helper.done[len(begun) :][:1] == [f"{second} {'web' if second == 'stop' else 'smb.service'}"]


@OF_EACH
@in_virtual_time
async def test_requests_for_one_container_are_carried_out_in_order_in_any_group(engine: Engine) -> None:
    helper = helper_with(engine, "running")
    helper.both.by_engine[engine].named("web").ignores_term = True
    async with helper.serving():
        numbers = [helper.request("stop", "both"), helper.request("start", "web")]
        assert await helper.end_of(numbers[1]) == [f"{engine}/web done"]
        assert "done" in (await helper.end_of(numbers[0]))[0]
        assert helper.last_states[f"{engine}/web"] == CONTAINER_UP
        assert helper.both.by_engine[engine].overlaps == []


@OF_EACH
@in_virtual_time
async def test_a_slow_stop_holds_up_no_other_group(engine: Engine) -> None:
    helper = helper_with(engine, "running")
    helper.both.by_engine[engine].named("web").ignores_term = True
    async with helper.serving():
        slow = helper.request("stop", "web")
        began_at_seconds = asyncio.get_running_loop().time()
        assert await helper.act("stop", "immich") == [f"{engine}-compose/immich done"]
        assert await helper.act("stop", "files") == ["httpd.service done"]
        assert await helper.act("stop", "wiki") == [f"{other_than(engine)}/wiki done"]
        assert asyncio.get_running_loop().time() - began_at_seconds < 1
        assert await helper.end_of(slow) == [f"{engine}/web done"]


REFUSALS = [
    ("start", "nothing", "", "denied: there is no group 'nothing' in the configuration"),
    ("restart", "web", "", "denied: restart is not in this group's actions"),
    ("start", "docker/web", "", "denied: there is no group 'docker/web' in the configuration"),
    ("start", "web", "0" * 32, "denied: the configuration has changed; run `sudo hkswitch reload`"),
]


@pytest.mark.parametrize(("action", "group_id", "token", "why"), REFUSALS)
@in_virtual_time
async def test_a_request_that_is_denied_asks_no_engine(
    action: str, group_id: str, token: str, why: str
) -> None:
    async with helper_with(Engine.DOCKER).serving() as helper:
        helper.request(action, group_id, token)
        await asyncio.sleep(1)
        assert [reply["reason"] for reply in helper.told("refused")] == [why]
        assert helper.done == []


CHANGES = [
    ("containers: [web]", "containers: [web, db]"),
    ("containers: [web]", "containers: [db]"),
    ("containers: [web]", "compose: web"),
    ("containers: [web], engine: docker", "containers: [web], engine: podman"),
]


@pytest.mark.parametrize(("before", "after"), CHANGES)
@in_virtual_time
async def test_a_request_for_other_containers_than_the_daemon_knows_is_denied(
    before: str, after: str
) -> None:
    helper = helper_with(Engine.DOCKER)
    helper.config = "groups: {web: {containers: [web], engine: docker}}"
    async with helper.serving():
        [group] = helper.told("group")
        helper.config = helper.config.replace(before, after)
        helper.request("start", "web", group["token"])
        await asyncio.sleep(1)
        assert ["has changed" in reply["reason"] for reply in helper.told("refused")] == [True]
        assert helper.done == []


@OF_EACH
@in_virtual_time
async def test_a_daemon_that_has_hung_up_has_nothing_begun(engine: Engine) -> None:
    async with helper_with(engine).serving() as helper:
        helper.has_hung_up = True
        helper.request("start", "web")
        await asyncio.sleep(1)
        assert [reply["reason"] for reply in helper.told("refused")] == [
            "not carried out: the daemon closed the connection"
        ]
        assert helper.done == []


# The first states


@OF_EACH
@in_virtual_time
async def test_the_first_states_are_whole_with_those_of_containers(engine: Engine) -> None:
    async with helper_with(engine).serving() as helper:
        assert helper.told_at_seconds("complete") < 0.5
        assert helper.last_states == {
            "smb.service": "inactive (dead)",
            "nmb.service": "inactive (dead)",
            "httpd.service": CONTAINER_UP,
            f"{engine}/web": "inactive (exited with 0)",
            f"{engine}/db": "inactive (exited with 0)",
            f"{engine}-compose/immich": "active (1 running)",
            f"{other_than(engine)}/wiki": CONTAINER_UP,
        }
        kinds = [reply["type"] for reply in helper.replies]
        assert kinds[-1] == "complete"
        assert kinds.count("complete") == 1


@pytest.mark.parametrize("at", ["events", "containers/json", "web/json"])
@OF_EACH
@in_virtual_time
async def test_a_hung_engine_holds_up_the_first_states_for_a_second_and_no_other_group(
    engine: Engine, at: str
) -> None:
    helper = helper_with(engine)
    helper.both.by_engine[engine].faults = [EngineFault(at, delay_seconds=math.inf)]
    async with helper.serving(settled_seconds=0.5):
        other = f"{other_than(engine)}/wiki"
        assert (helper.told("complete"), helper.last_states["httpd.service"]) == ([], CONTAINER_UP)
        assert helper.last_states[other] == CONTAINER_UP
        helper.set_unit("httpd.service", DOWN)
        helper.both.by_engine[other_than(engine)].kill(
            helper.both.by_engine[other_than(engine)].named("wiki")
        )
        await asyncio.sleep(0.1)
        assert helper.last_states["httpd.service"] == "inactive (dead)"
        assert helper.last_states[other] == "inactive (exited with 137)"
        await asyncio.sleep(1)
        assert 1 <= helper.told_at_seconds("complete") < 1.1
        assert helper.last_states[f"{engine}/web"] == f"unknown ({engine} has not answered yet)"


@OF_EACH
@in_virtual_time
async def test_an_engine_that_is_off_holds_up_nothing_and_is_not_started(engine: Engine) -> None:
    helper = helper_with(engine)
    helper.both.by_engine[engine].unit = DOWN
    async with helper.serving():
        assert helper.told_at_seconds("complete") < 0.2
        why = f"{engine.unit} is {DOWN}"
        assert helper.last_states[f"{engine}/web"] == f"unknown ({why})"
        assert await helper.act("start", "web") == [f"{engine}/web refused {why}"]
        assert helper.both.by_engine[engine].connects == []


# Changes


@OF_EACH
@in_virtual_time
async def test_a_change_of_a_container_is_told_once(engine: Engine) -> None:
    async with helper_with(engine, "running").serving() as helper:
        simulated = helper.both.by_engine[engine]
        for _ in range(3):
            simulated.tell("exec_start: true", simulated.named("web"))
        simulated.kill(simulated.named("web"))
        await asyncio.sleep(1)
        assert helper.told_of(f"{engine}/web") == [CONTAINER_UP, "inactive (exited with 137)"]
        assert helper.told_of(f"{engine}/db") == [CONTAINER_UP]


@OF_EACH
@in_virtual_time
async def test_an_engine_that_stops_makes_its_containers_unknown_until_it_is_back(engine: Engine) -> None:
    async with helper_with(engine, "running").serving() as helper:
        simulated = helper.both.by_engine[engine]
        helper.set_unit(engine.unit, STOPPING)
        simulated.stop_engine(STOPPING)
        await asyncio.sleep(1)
        helper.set_unit(engine.unit, DOWN)
        await asyncio.sleep(5)
        for name in ("web", "db"):
            simulated.named(name).status = "running"
        helper.set_unit(engine.unit, UP)
        await asyncio.sleep(1)
        assert helper.told_of(f"{engine}/web") == [
            CONTAINER_UP,
            f"unknown ({engine.unit} is {STOPPING})",
            f"unknown ({engine.unit} is {DOWN})",
            CONTAINER_UP,
        ]
        assert len(helper.told("complete")) == 1


@OF_EACH
@in_virtual_time
async def test_a_lost_bus_loses_all_states_and_a_new_one_tells_them_again(engine: Engine) -> None:
    async with helper_with(engine, "running").serving() as helper:
        helper.lose_bus()
        await asyncio.sleep(3)
        assert [reply["reason"] for reply in helper.told("lost")] == [
            "no connection to systemd over the system bus: the bus is gone"
        ]
        assert helper.both.by_engine[engine].connections == 0
        helper.request("start", "web")
        told = len(helper.replies)
        await helper.find_bus()
        await asyncio.sleep(1)
        news = [reply for reply in helper.replies[told:] if reply["type"] in {"states", "complete"}]
        told_again = {row[0] for reply in news[:-1] for row in reply["units"]}
        assert told_again - {each.unit for each in Engine} == {*helper.last_states}
        assert news[-1]["type"] == "complete"


@OF_EACH
@in_virtual_time
async def test_another_config_adds_and_removes_containers(engine: Engine) -> None:
    async with helper_with(engine, "running").serving() as helper:
        simulated = helper.both.by_engine[engine]
        simulated.add("new", "exited")
        helper.replies.clear()
        helper.config = f"groups: {{web: {{containers: [web, new], engine: {engine}}}}}"
        helper.send(ping=7)
        await asyncio.sleep(1)
        assert {reply["group"] for reply in helper.told("group")} == {
            "both",
            "web",
            "immich",
            "files",
            "wiki",
        }
        assert helper.last_states == {
            f"{engine}/web": CONTAINER_UP,
            f"{engine}/new": "inactive (exited with 0)",
        }
        assert helper.both.by_engine[other_than(engine)].connections == 0
        helper.replies.clear()
        simulated.kill(simulated.named("db"))
        simulated.kill(simulated.named("web"))
        await asyncio.sleep(1)
        assert helper.last_states == {f"{engine}/web": "inactive (exited with 137)"}
        helper.config = "groups: {files: {units: [httpd]}}"
        helper.send(observe=2, sampled=[])
        await asyncio.sleep(1)
        assert simulated.connections == 0
        assert helper.replies[-1] == {"type": "complete", "epoch": 2}


@OF_EACH
@in_virtual_time
async def test_a_second_observe_tells_all_again_and_asks_nothing(engine: Engine) -> None:
    async with helper_with(engine, "running").serving() as helper:
        before, helper.replies = helper.last_states, []
        requests = len(helper.both.by_engine[engine].requests)
        helper.send(observe=2, sampled=[])
        await asyncio.sleep(1)
        assert (helper.last_states, helper.replies[-1]) == (before, {"type": "complete", "epoch": 2})
        assert len(helper.both.by_engine[engine].requests) == requests


# A check


@OF_EACH
@in_virtual_time
async def test_a_check_counts_while_all_containers_are_up_and_runs_again_after_a_change(
    engine: Engine,
) -> None:
    helper = helper_with(engine)
    rest = "check: [/bin/true], interval_seconds: 600"
    helper.config = f"groups: {{web: {{containers: [web, db], engine: {engine}, {rest}}}}}"
    async with helper.serving():
        assert helper.done == []
        assert await helper.act(Action.START, "web") == [f"{engine}/web done", f"{engine}/db done"]
        assert "ran /bin/true" in helper.done
        helper.check_exits_with = 1
        simulated = helper.both.by_engine[engine]
        simulated.kill(simulated.named("db"))
        await asyncio.sleep(1)
        helper.done.clear()
        simulated.begin(simulated.named("db"))
        await asyncio.sleep(1)
        assert helper.done == ["ran /bin/true"]
        results = [probe[1] for reply in helper.told("states") for probe in reply["probes"]]
        assert results == [None, "on", None, "off"]


@OF_EACH
@in_virtual_time
async def test_a_start_fails_if_the_check_does_not_confirm_it(engine: Engine) -> None:
    helper = helper_with(engine)
    rest = "check: [/bin/false], timeout_seconds: 2"
    helper.config = f"groups: {{web: {{containers: [web], engine: {engine}, {rest}}}}}"
    helper.check_exits_with = 1
    async with helper.serving():
        results = await helper.act("start", "web")
        assert results == [f"{engine}/web done", "check failed failed: /bin/false exited with status 1"]


# What is told before the end of a request


@pytest.mark.parametrize("lag_seconds", [0, 0.45])
@pytest.mark.parametrize("group_id", ["both", "web"])
@pytest.mark.parametrize(
    ("action", "before", "after"),
    [
        ("start", "exited", [CONTAINER_UP]),
        ("restart", "running", []),
        ("stop", "running", ["inactive (exited with 0)"]),
    ],
)
@OF_EACH
@in_virtual_time
async def test_the_states_that_a_request_led_to_are_told_before_its_end_and_once(
    *, engine: Engine, group_id: str, action: str, before: str, after: list[str], lag_seconds: float
) -> None:
    """Otherwise, a switch would turn back for a moment. Podman tells its events half a second late."""
    helper = helper_with(engine, before)
    helper.config = helper.config.replace("[web], engine", "[web], restart: true, engine")
    helper.both.by_engine[engine].event_lag_seconds = lag_seconds
    async with helper.serving():
        first = helper.told_of(f"{engine}/web")
        await helper.act(action, group_id)
        told = helper.told_of(f"{engine}/web")[len(first) :]
        assert told[-1:] == after or (not after and told[-1] == first[-1])
        await asyncio.sleep(3)
        assert helper.told_of(f"{engine}/web")[len(first) :] == told
