"""The samples that the helper tells: of what, how often, and when not."""

import asyncio
from typing import Any

import pytest

from hkswitch.model.errors import BusUnavailable
from hkswitch.model.group import Engine
from hkswitch.model.unit_state import Usage
from hkswitch.protocol.helper import (
    LONGEST_REPLY_BYTES,
    Complete,
    Lost,
    SamplesUpdate,
    StatesUpdate,
    encode_message,
)
from hkswitch.serviceswitch.samples import INTERVAL_SECONDS, MOST_MEASURED, Measured, Samples
from hkswitch.serviceswitch.states import UnsentStates
from tests.containers.both_engines import in_virtual_time
from tests.containers.served_helper import UP, ServedHelper
from tests.support.simulated_engine import EngineFault

CONFIG = """\
groups:
  web: {units: [httpd, web.socket, cache]}
  db: {units: [httpd, my-db.slice]}
  photos: {compose: immich}
  shop: {units: [shop], containers: [immich-server-1], engine: docker}
  wiki: {containers: [wiki], engine: podman}
  lamp: {commands: {start: [/bin/true], stop: [/bin/true], status: [/bin/true]}}
"""

RUN = "5e" * 16


def samples_of(helper: ServedHelper) -> list[dict[str, Any]]:
    return [reply for reply in helper.replies if reply["type"] == "samples"]


def members_of(sample: dict[str, Any]) -> list[str]:
    return [member for member, *_ in sample["usages"]]


def helper_with(*units: str) -> ServedHelper:
    """A helper, and units that run."""
    helper = ServedHelper(CONFIG)
    helper.runs = dict.fromkeys(units, RUN)
    helper.units = dict.fromkeys(units, UP)
    return helper


# What is measured


@pytest.mark.parametrize(
    ("groups", "measured", "told"),
    [
        (["web"], {"httpd.service", "cache.service"}, ["httpd.service"]),  # a socket has no processes
        (["web", "db"], {"httpd.service", "cache.service", "my-db.slice"}, ["httpd.service", "my-db.slice"]),
        (["db", "none", "../web", ""], {"httpd.service", "my-db.slice"}, ["httpd.service", "my-db.slice"]),
        (["none"], None, []),
        (["httpd.service"], None, []),
        (["lamp"], None, []),
    ],
)
@in_virtual_time
async def test_only_what_runs_of_the_groups_of_roots_config_is_measured(
    groups: list[str], measured: set[str] | None, told: list[str]
) -> None:
    helper = helper_with("httpd.service", "my-db.slice", "sshd.service")
    async with helper.serving():
        helper.send(observe=2, sampled=groups)
        await asyncio.sleep(1)
        [sample] = samples_of(helper)
        assert sorted(members_of(sample)) == told
        assert all(usage == [usage[0], RUN, 1.0, 10**9, None] for usage in sample["usages"])
    assert helper.measured == ([measured] if measured else [])


@in_virtual_time
async def test_each_container_is_a_row_of_each_member_that_it_belongs_to() -> None:
    helper = helper_with("shop.service")
    docker, podman = (helper.both.by_engine[each] for each in Engine)
    server = docker.add_service("immich", "server").id
    db = docker.add_service("immich", "db").id
    other = docker.add("other").id
    wiki = podman.add("wiki").id
    helper.runs |= {
        f"docker-{server}.scope": "a" * 32,
        f"docker-{db}.scope": "b" * 32,
        f"libpod-{wiki}.scope": "c" * 32,
        f"docker-{wiki}.scope": "d" * 32,
        f"docker-{other}.scope": "e" * 32,
    }
    async with helper.serving():
        helper.send(observe=2, sampled=["photos", "shop", "wiki"])
        await asyncio.sleep(1)
        [sample] = samples_of(helper)
        assert sorted((member, run) for member, run, *_ in sample["usages"]) == [
            ("docker-compose/immich", min(server + "a" * 32, db + "b" * 32)),
            ("docker-compose/immich", max(server + "a" * 32, db + "b" * 32)),
            ("docker/immich-server-1", server + "a" * 32),
            ("podman/wiki", wiki + "c" * 32),
            ("shop.service", RUN),
        ]
        del helper.runs[f"docker-{db}.scope"]  # it has ended
        await asyncio.sleep(INTERVAL_SECONDS)
        assert members_of(samples_of(helper)[-1]).count("docker-compose/immich") == 1


@in_virtual_time
async def test_the_first_sample_has_the_containers_that_an_engine_takes_long_to_tell() -> None:
    helper = helper_with("shop.service")
    docker = helper.both.by_engine[Engine.DOCKER]
    server = docker.add_service("immich", "server").id
    helper.runs[f"docker-{server}.scope"] = RUN
    docker.faults = [EngineFault("containers/json", delay_seconds=0.5)]
    async with helper.serving(settled_seconds=0):
        helper.send(observe=2, sampled=["photos", "shop"])
        await asyncio.sleep(3)
        [sample] = samples_of(helper)
    assert members_of(sample) == ["shop.service", "docker-compose/immich", "docker/immich-server-1"]
    kinds = [reply["type"] for reply in helper.replies if reply["type"] in {"complete", "samples"}]
    assert kinds == ["complete", "samples"]


@in_virtual_time
async def test_a_change_of_the_config_counts_from_the_next_sample_on() -> None:
    helper = helper_with("httpd.service", "my-db.slice")
    async with helper.serving():
        helper.send(observe=2, sampled=["db"])
        await asyncio.sleep(1)
        helper.config = CONFIG.replace("[httpd, my-db.slice]", "[my-db.slice]")
        helper.send(ping=1)
        await asyncio.sleep(INTERVAL_SECONDS)
        helper.config = CONFIG.replace("  db:", "  files:")
        helper.send(ping=2)
        await asyncio.sleep(INTERVAL_SECONDS)
    assert helper.measured == [{"httpd.service", "my-db.slice"}, {"my-db.slice"}]
    assert [members_of(sample) for sample in samples_of(helper)][2:] == [[]]


@in_virtual_time
async def test_no_more_is_measured_than_is_a_line_that_the_daemon_reads() -> None:
    longest = ["x" * 247 + f"{number:04}.slice" for number in range(MOST_MEASURED + 100)]
    told: list[tuple[Usage, ...]] = []

    async def measure(units: object) -> list[Usage]:
        assert isinstance(units, set)
        return [Usage(unit, "f" * 32, 1e9 + 1 / 3, 2**64 - 2, 2**64) for unit in units]

    def find(_: object) -> list[Measured]:
        return [Measured(unit, unit, "f" * 64) for unit in longest]

    samples = Samples(measure, find, lambda _, usages: told.append(usages), asyncio.ensure_future)
    samples.observe(["all"])
    await asyncio.sleep(1)
    assert [usage.member for usage in told[0]] == longest[:MOST_MEASURED]
    assert len(encode_message(SamplesUpdate(2**53, 1e9 + 1 / 3, told[0]))) < LONGEST_REPLY_BYTES
    samples.observe([])


# When


@in_virtual_time
async def test_the_first_sample_comes_at_once_and_others_every_15_seconds_without_drift() -> None:
    helper = helper_with("httpd.service")
    async with helper.serving():
        began_seconds = asyncio.get_running_loop().time()
        helper.send(observe=2, sampled=["db"])
        for number in range(100):
            helper.measure_seconds = 0.01 * number
            await asyncio.sleep(INTERVAL_SECONDS)
        at_seconds = [sample["at_seconds"] - began_seconds for sample in samples_of(helper)]
    assert len(at_seconds) == 100
    late_seconds = [at - number * INTERVAL_SECONDS for number, at in enumerate(at_seconds)]
    assert all(0 <= late < 1.1 for late in late_seconds), late_seconds


@pytest.mark.parametrize(("took_seconds", "at_seconds"), [(20, [20, 21, 30, 45]), (40, [40, 41, 56, 71])])
@in_virtual_time
async def test_a_late_sample_moves_the_next_ones_only_if_one_was_missed(
    took_seconds: int, at_seconds: list[int]
) -> None:
    helper = helper_with("httpd.service")
    async with helper.serving():
        began_seconds = asyncio.get_running_loop().time()
        helper.measure_seconds = took_seconds
        helper.send(observe=2, sampled=["db"])
        await asyncio.sleep(1)
        helper.measure_seconds = 0
        await asyncio.sleep(at_seconds[-1])
        assert [round(each["at_seconds"] - began_seconds) for each in samples_of(helper)] == at_seconds


@in_virtual_time
async def test_without_groups_to_measure_nothing_wakes() -> None:
    helper = helper_with("httpd.service")
    async with helper.serving():
        await asyncio.sleep(1000)
        assert helper.measured == []
        helper.send(observe=2, sampled=["db"])
        await asyncio.sleep(20)
        assert len(helper.measured) == 2
        helper.send(observe=3, sampled=[])
        await asyncio.sleep(20)
        before = {*asyncio.all_tasks()}
        await asyncio.sleep(1000)
        assert len(helper.measured) == 2
        helper.send(observe=4, sampled=["db"])
        await asyncio.sleep(1)
        assert len(asyncio.all_tasks()) == len(before) + 1
    assert len(helper.measured) == 3


def test_without_groups_nothing_is_even_begun() -> None:
    def refuse(*_: object) -> Any:  # noqa: ANN401 -- it is no one's
        raise AssertionError

    Samples(refuse, refuse, refuse, refuse).observe([])


@in_virtual_time
async def test_while_systemd_is_unavailable_samples_are_left_out() -> None:
    helper = helper_with("httpd.service")
    async with helper.serving():
        helper.send(observe=2, sampled=["db"])
        await asyncio.sleep(1)
        helper.lose_bus()
        await asyncio.sleep(40)
        assert len(samples_of(helper)) == 1
        await helper.find_bus()
        await asyncio.sleep(INTERVAL_SECONDS + 1)
        first, second, third = samples_of(helper)
    assert second["at_seconds"] - first["at_seconds"] == pytest.approx(41, abs=0.2)  # at once
    assert third["at_seconds"] - second["at_seconds"] == pytest.approx(INTERVAL_SECONDS)


@in_virtual_time
async def test_who_asks_without_end_makes_one_sample_a_second() -> None:
    helper = helper_with("httpd.service")
    async with helper.serving():
        for number in range(2000):
            helper.send(observe=2 + number, sampled=["db"] if number % 2 == 0 else [])
            await asyncio.sleep(0.01)
        helper.send(observe=5000, sampled=["db"])
        await asyncio.sleep(2)
        assert len(helper.measured) <= 24
        assert samples_of(helper)[-1]["epoch"] == 5000


@in_virtual_time
async def test_a_sample_of_groups_that_are_no_longer_wanted_is_not_told() -> None:
    helper = helper_with("httpd.service", "shop.service")
    async with helper.serving():
        helper.measure_seconds = 5
        helper.send(observe=2, sampled=["db"])
        await asyncio.sleep(1)
        helper.send(observe=3, sampled=["shop"])
        await asyncio.sleep(14)
        told = [(sample["epoch"], members_of(sample)) for sample in samples_of(helper)]
    assert told == [(3, ["shop.service"])]


# Not sent yet


def usage(run: str) -> tuple[Usage, ...]:
    return (Usage("httpd.service", run, 1.0, 2, 3),)


def test_a_sample_that_was_not_sent_yet_is_replaced_by_the_newest() -> None:
    states = UnsentStates()
    states.begin(7)
    states.complete()
    assert states.next() == Complete(7)
    states.sampled(1.0, usage("a"))
    states.sampled(2.0, usage("b"))
    assert states.next() == SamplesUpdate(7, 2.0, usage("b"))
    assert states.next() is None


def test_a_sample_comes_after_all_states_and_belongs_to_its_epoch() -> None:
    states = UnsentStates()
    states.sampled(1.0, usage("a"))
    assert states.next() is None
    states.begin(1)
    states.complete()
    states.sampled(2.0, usage("b"))
    states.seen({"httpd.service": UP})
    assert isinstance(states.next(), StatesUpdate)
    assert states.next() == Complete(1)
    assert states.next() == SamplesUpdate(1, 2.0, usage("b"))
    states.sampled(3.0, usage("c"))
    states.begin(2)
    states.complete()
    assert [states.next(), states.next(), states.next()][1:] == [Complete(2), None]
    states.sampled(4.0, usage("d"))
    states.lose(BusUnavailable("gone"))
    assert isinstance(states.next(), Lost)
    assert states.next() is None
