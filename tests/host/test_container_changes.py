"""Changes of containers from outside: the phone is told at once, all views agree, and idleness costs nothing.

In CI, each engine's containers change a few times; `--long` changes them a hundred times.
"""

import asyncio
import os
import random
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import pytest

from hkswitch.hap.events import PACE
from hkswitch.protocol.helper import Observe, encode_message
from tests.host.engines import (
    ENGINES,
    NO_RESPONSE,
    Engine,
    EngineEvent,
    EngineEvents,
    Told,
    engine_events,
    members,
    until_read,
)
from tests.host.heard_failures import listening
from tests.host.machine import ADDRESS, Host, eventually, eventually_async
from tests.host.test_attacks import Session, by_sudo, session
from tests.support.controller import Controller
from tests.support.waiting import PATIENCE_SECONDS

SEED: Final = int(os.environ.get("CONTAINERS_SEED", "2026"))
CHANGES: Final = (8, 100)
TOLD_WITHIN_SECONDS: Final = 1
HAP_INTERVAL_SECONDS: Final = PACE.characteristic_seconds
IDLE_SECONDS: Final = (10, 60)

FAILS_ON_TERM: Final = "trap 'exit 1' TERM; touch ready; sleep 1000 & wait"
OBEYS_NO_TERM: Final = "trap '' TERM; touch ready; sleep 1000"
UNHEALTHY: Final = ("--health-cmd=false", "--health-interval=200ms", "--health-retries=1")


class End(NamedTuple):
    """A container's program, commands for its end, and the failure that is told."""

    script: str
    commands: str = ""
    """`$e` is the engine's program, `$c` the container."""
    by_itself: str = ""
    """The reason, if nobody requested it."""
    is_requested: bool = False
    options: tuple[str, ...] = ()


ENDS: Final = {
    "exits": End("sleep 0.3; exit 3", by_itself="exited with status 3"),
    "dies": End(FAILS_ON_TERM, 'kill -KILL "$(pid)"', by_itself="was killed by SIGKILL"),
    "loops": End("sleep 0.1; exit 3", by_itself="restarts again and again", options=("--restart=always",)),
    "ails": End(FAILS_ON_TERM, by_itself="is unhealthy", options=UNHEALTHY),
    "stop-1": End(FAILS_ON_TERM, "$e stop $c", is_requested=True),
    "stop-143": End("trap 'exit 143' TERM; touch ready; sleep 1000 & wait", "$e stop $c", is_requested=True),
    "stop-late": End(OBEYS_NO_TERM, "$e stop $c", is_requested=True),
    "kill": End(FAILS_ON_TERM, "$e kill $c", is_requested=True),
    "kill-term": End(FAILS_ON_TERM, "$e kill --signal=TERM $c", is_requested=True),
    "restart": End(FAILS_ON_TERM, "$e restart $c"),
    "remove": End(FAILS_ON_TERM, "$e rm --force $c"),
    "finish": End("sleep 0.3; exit 0"),
}
"""What can end a container, by the container's name."""

END_SCRIPT: Final = """
pid() { $e inspect --format '{{.State.Pid}}' $c; }
is_ready() { $e exec $c test -e ready; }
"""

NAMES: Final = ("web", "store")
"""No beginnings of an ID, for which engines would take them."""

CONFIG: Final = f"""\
bridge:
  address: {ADDRESS}
groups:
  docker: {{name: Docker, containers: [web, store]}}
  podman: {{name: Podman, containers: [web, store], engine: podman}}
  docker-ends: {{name: Docker Ends, containers: [{", ".join(ENDS)}]}}
  podman-ends: {{name: Podman Ends, containers: [{", ".join(ENDS)}], engine: podman}}
"""

HELPER: Final = "serviceswitch"
CONNECT: Final = """
import socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[1])
"""

REMOVED: Final = ("destroy", "remove")
"""Docker's word and Podman's."""


class Change(NamedTuple):
    """A change from outside, and the events that end it, by any of which it has happened."""

    make: Callable[[Engine, str], object]
    events: tuple[str, ...]


def by_cli(verb: str, *events: str) -> Change:
    """Return the change that a command of the engine makes."""
    return Change(lambda engine, name: engine.cli(*verb.split(), name), events)


def re_create(engine: Engine, name: str) -> None:
    engine.cli("rm", name)
    engine.run(name)


START: Final = by_cli("start", "start")
RM: Final = by_cli("rm", *REMOVED)
RM_FORCE: Final = by_cli("rm --force", *REMOVED)
CHANGES_BY_STATUS: Final[Mapping[str, Mapping[str, Change]]] = {
    "missing": {"create": Change(Engine.create, ("create",)), "run": Change(Engine.run, ("start",))},
    "created": {"start": START, "rm": RM},
    "running": {
        "stop": by_cli("stop", "die"),
        "kill": by_cli("kill", "die"),
        "pause": by_cli("pause", "pause"),
        "restart": by_cli("restart", "start"),
        "crash": Change(Engine.crash, ("die",)),
        "rm --force": RM_FORCE,
    },
    "paused": {"unpause": by_cli("unpause", "unpause"), "rm --force": RM_FORCE},
    "exited": {"start": START, "rm": RM, "re-create": Change(re_create, ("start",))},
}
"""What can be done to a container, by its status."""


@pytest.fixture(scope="session")
def host(engine_host: Host) -> Host:
    return engine_host


@pytest.fixture(scope="module")
def config() -> str:
    return CONFIG


@dataclass
class Outside:
    """Random changes of one engine's containers, and the disagreements that they led to."""

    engine: Engine
    controller: Controller
    told: Told
    events: EngineEvents
    chance: random.Random
    lags_seconds: list[float] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.engine.name.capitalize()

    def statuses(self) -> dict[str, str]:
        return {name: self.engine.status(name) for name in NAMES}

    async def change(self) -> None:
        """Make a change that is possible, and compare all views afterwards."""
        before = self.statuses()
        # mostly the one that is not running, so that the group is on now and then
        stopped = [name for name in NAMES if before[name] != "running"]
        name = self.chance.choice(stopped if stopped and self.chance.random() < 0.7 else NAMES)
        what, change = self.chance.choice([*CHANGES_BY_STATUS[before[name]].items()])
        self.log.append(f"{what} {name} ({before[name]})")
        since_seconds = time.time()
        await asyncio.to_thread(change.make, self.engine, name)
        after = await asyncio.to_thread(self.statuses)
        expected = value_of(after)
        event = await self.events.first(since_seconds, change.events)
        if expected != NO_RESPONSE and expected is not value_of(before):
            await self.measure(event, since_seconds, on=bool(expected))
        await self.agree(after, expected)

    async def measure(self, event: EngineEvent, since_seconds: float, *, on: bool) -> None:
        """Note how long after an event the phone was told this value, and no other one since."""
        before = [at for at, _ in self.told.of(self.name) if at < since_seconds]
        may_be_told = max(event.at_seconds, before[-1] + HAP_INTERVAL_SECONDS if before else 0)

        def told_at() -> float | None:
            told = self.told.of(self.name)
            return told[-1][0] if told and told[-1][1] is on and told[-1][0] >= since_seconds else None

        try:
            lag_seconds = await eventually_async(told_at) - may_be_told
        except AssertionError:
            pytest.fail(f"the phone was not told: {self.log}, {self.told.of(self.name)[-3:]}")
        self.lags_seconds.append(lag_seconds)
        self.log[-1] += f": told of {event.action} after {lag_seconds:.3f} s"

    async def agree(self, statuses: Mapping[str, str], expected: bool | int) -> None:
        """Wait until the report and the phone show what the engine shows."""
        engine, deadline_seconds = self.engine, time.monotonic() + PATIENCE_SECONDS
        states = {f"{engine.name}/{name}": state_of(status) for name, status in statuses.items()}
        while True:
            reported = await asyncio.to_thread(members, engine.host, engine.name)
            found = {name: state.rpartition("/")[0] for name, state in reported.items()}
            told = [on for _, on in self.told.of(self.name)][-1:]
            # read later: the phone is not told what it has read
            if found == states and (expected == NO_RESPONSE or told in ([], [expected])):
                break
            assert time.monotonic() < deadline_seconds, (
                f"{found}, {told}; not {states}, {expected}: {self.log}"
            )
            await asyncio.sleep(0.05)
        await until_read(self.controller, self.name, expected)


def value_of(statuses: Mapping[str, str]) -> bool | int:
    """Return what a phone must show for containers of these statuses."""
    if "missing" in statuses.values():
        return NO_RESPONSE
    return {*statuses.values()} == {"running"}


def state_of(status: str) -> str:
    """Return load and active state of a member, from the status of its container."""
    states = {"running": "loaded/active", "paused": "loaded/partial", "missing": "not-found/unknown"}
    return states.get(status, "loaded/inactive")


async def test_the_phone_is_told_of_each_change_from_outside_and_all_views_agree(
    request: pytest.FixtureRequest,
    engine: Engine,
    controller: Controller,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in NAMES:
        engine.create(name)
    await until_read(controller, engine.name.capitalize(), False)
    async with engine_events(engine) as events:
        outside = Outside(engine, controller, Told(controller), events, random.Random(SEED))
        for _ in range(CHANGES[request.config.getoption("--long")]):
            await outside.change()
    lags = outside.lags_seconds
    with capsys.disabled():
        sys.stdout.write(f"\n{engine.name}: told {len(lags)} times, at most after {max(lags):.3f} s\n")
    assert max(lags) <= TOLD_WITHIN_SECONDS, outside.log


async def test_an_idle_host_costs_no_request_to_an_engine_and_no_process(
    request: pytest.FixtureRequest, daemon: Host, controller: Controller
) -> None:
    docker, podman = engines = [Engine(daemon, name) for name in ENGINES]
    with docker.emptied(), podman.emptied():
        for engine in engines:
            for name in NAMES:
                engine.run(name)
            await until_read(controller, engine.name.capitalize(), True)
        await asyncio.sleep(1)  # the last clean-ups after the start
        since_seconds, before = time.time(), helper_processes(daemon)
        await asyncio.sleep(IDLE_SECONDS[request.config.getoption("--long")])
        assert [engine.requests(since_seconds) for engine in engines] == [[], []]
        assert helper_processes(daemon) == before
        for engine in engines:
            engine.crash("web")
            await until_read(controller, engine.name.capitalize(), False)
            assert engine.requests(since_seconds)  # proves that they are logged


def helper_processes(host: Host) -> list[str]:
    """Return each process of the helper, with the page faults of all processes that it has started."""
    script = f"for process in $(pgrep -x {HELPER}); do cat /proc/$process/stat; done"
    # proc_pid_stat(5): after the name, from the state on, which is the third field
    fields = [line.rpartition(")")[2].split() for line in host.run("sh", "-ec", script).stdout.splitlines()]
    assert fields
    return [f"children's faults: {each[8]}, {each[10]}" for each in fields]


def test_only_ends_that_nobody_requested_are_told_as_failures_of_their_own(engine: Engine) -> None:
    commands = {name: end.commands for name, end in ENDS.items() if end.commands}
    acts = [
        f"(c={name}; until is_ready; do sleep 0.05; done; {command}) &\n"
        for name, command in commands.items()
    ]
    with listening(engine.host) as heard:
        for name, end in ENDS.items():
            engine.run(name, *end.options, script=end.script)
        engine.host.run("bash", "-c", f"e={engine.name}\n{END_SCRIPT}{''.join(acts)}wait")
        for name, end in ENDS.items():
            member = f"{engine.name}/{name}"
            if end.by_itself:
                heard.until_by_itself(member, f"{member} {end.by_itself}")
                continue
            if end.is_requested:
                heard.until_told(member)
            assert heard.by_itself(member) == [], heard.all[member]
        assert heard.last(f"{engine.name}/finish") is None


@pytest.mark.parametrize("user", ["hkswitch", "nobody"])
def test_only_root_and_the_engines_own_group_can_connect_to_an_engine(engine: Engine, user: str) -> None:
    connect = ("python3", "-c", CONNECT, engine.socket)
    assert engine.host.run(*connect, check=False).returncode == 0
    refused = engine.host.run(*connect, user=user, check=False)
    assert refused.returncode == 1
    assert "PermissionError" in refused.stderr


async def test_only_the_helper_is_connected_to_an_engine_and_only_once(
    engine: Engine, controller: Controller
) -> None:
    for name in NAMES:
        engine.run(name)
    await until_read(controller, engine.name.capitalize(), True)
    await eventually_async(lambda: clients(engine) == [HELPER])


def clients(engine: Engine) -> list[str]:
    """Return the names of the programs that are connected to an engine, one for each connection."""
    shown = engine.host.run("ss", "--unix", "--processes", "--no-header", "state", "established").stdout
    # type, and two queues; local name and number; the peer's; processes
    sockets = [line.split() for line in shown.splitlines() if line.startswith("u_str")]
    numbers = {peer for *_, local, _, _, peer, users in sockets if local == engine.socket}
    of_clients = [fields for fields in sockets if fields[-4] in numbers]
    return [fields[-1].split('"')[1] for fields in of_clients]


# Resources


def test_a_container_has_the_cpu_time_of_its_run_and_a_stopped_one_has_none(
    engine: Engine, daemon: Host
) -> None:
    """As a second helper tells it, beside that of the daemon."""
    busy = engine.run("web", script="trap 'exit 0' TERM; while :; do :; done")
    engine.create("store")
    scope = f"{'docker' if engine.name == 'docker' else 'libpod'}-{busy}.scope"
    with session(daemon, *by_sudo("sudo")) as helper:
        [first] = sampled(helper, 1, engine.name)
        run = daemon.show(scope, "InvocationID")
        assert first[:2] == [f"{engine.name}/web", busy + run]
        [second] = sampled(helper, 2, engine.name)
        assert second[:3] == first[:3]
        spent_seconds = (second[3] - first[3]) / 1e9
        assert 0.1 < spent_seconds < 5
        began_seconds = time.monotonic()
        engine.cli("restart", "web")
        [third] = eventually(lambda: sampled(helper, 3, engine.name))
        assert third[0] == f"{engine.name}/web"
        assert third[1].startswith(busy)
        assert third[1] != first[1]
        assert third[2] > began_seconds  # the host's clock is the test machine's
        engine.cli("stop", "web")
        eventually(lambda: sampled(helper, 4, engine.name) == [])


def sampled(helper: Session, epoch: int, group: str) -> list[list[Any]]:
    """Ask a helper for a sample of a group, which takes a second after the last one."""
    helper.send(encode_message(Observe(epoch, (group,))).decode())
    while (reply := helper.reply())["type"] != "samples" or reply["epoch"] != epoch:
        pass
    return list(reply["usages"])
