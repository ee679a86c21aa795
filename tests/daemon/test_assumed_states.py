"""Assumed states: the last action that succeeded, kept over restarts; anything else changes nothing."""

import asyncio
import errno
import json
import os
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Final, NoReturn

import pytest

from hkswitch.backend import Observer
from hkswitch.daemon import assumed_states, kept_file
from hkswitch.daemon.assumed_states import FILE_NAME, AssumedStates, AssumingHost, meaning_of
from hkswitch.model.group import Commands, Group
from hkswitch.model.switch_events import Observed, RequestOrigin
from hkswitch.model.unit_state import Action, ActionResult, ProbeResult, Sample
from hkswitch.protocol.host_report import HostReport
from tests.support.waiting import eventually

TV: Final = Group("tv", "TV", commands=Commands(("/opt/on",), ("/opt/off",)), assume_state=True)
WEB: Final = Group("web", "Web", ("httpd.service",))
KNOWN, GONE = Observed({}), Observed(None, None, "no helper")


class Recorder:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Observed]] = []
        self.notices = 0
        self.samples: list[tuple[str, Sample]] = []

    def observed(self, group_id: str, observed: Observed) -> None:
        self.told.append((group_id, observed))

    def sampled(self, group_id: str, sample: Sample) -> None:
        self.samples.append((group_id, sample))

    def noticed(self) -> None:
        self.notices += 1


class ScriptedHost:
    """A host with one result for every action, which reports both groups when it opens."""

    def __init__(self) -> None:
        self.result = ActionResult()
        self.groups: tuple[Group, ...] = (TV, WEB)
        self.is_held: asyncio.Event | None = None
        self.observer: Observer | None = None

    async def open(self, observer: Observer) -> None:
        self.observer = observer
        await self.watch(self.groups)

    async def request(
        self, action: Action, group_id: str, accepted: Callable[[], None], origin: RequestOrigin
    ) -> ActionResult:
        del action, group_id, origin
        accepted()
        if self.is_held is not None:
            await self.is_held.wait()
        return self.result

    async def watch(self, groups: Collection[Group]) -> None:
        assert self.observer is not None
        for group in groups:
            self.observer.observed(group.id, KNOWN)

    async def alert(self, group_id: str, state: str, reason: str) -> ActionResult:
        return ActionResult(f"{group_id}: {state}: {reason}")

    def remote_hosts(self) -> tuple[HostReport, ...]:
        return (HostReport("nas", "nas.lan"),)

    def trouble(self) -> str:
        return "trouble"

    async def check_config(self) -> str:
        return "checked"

    def config_problem(self) -> str:
        return "problem"

    async def until_broken(self) -> NoReturn:
        raise RuntimeError("broken")

    async def close(self) -> None:
        self.observer = None


@pytest.fixture
def observer() -> Recorder:
    return Recorder()


@pytest.fixture
def scripted() -> ScriptedHost:
    return ScriptedHost()


def host(scripted: ScriptedHost, folder: Path) -> AssumingHost:
    return AssumingHost(scripted, (TV, WEB), AssumedStates(folder))


async def act(assuming: AssumingHost, action: Action, group_id: str = "tv") -> ActionResult:
    return await assuming.request(action, group_id, lambda: None, RequestOrigin.CONTROLLER)


async def test_a_group_is_off_until_an_action_has_succeeded(
    scripted: ScriptedHost, observer: Recorder, tmp_path: Path
) -> None:
    await host(scripted, tmp_path).open(observer)
    assert observer.told == [("tv", Observed({}, ProbeResult.OFF)), ("web", KNOWN)]


@pytest.mark.parametrize(
    ("results", "is_on"),
    [
        ([(Action.START, ActionResult())], True),
        ([(Action.START, ActionResult()), (Action.STOP, ActionResult())], False),
        ([(Action.START, ActionResult()), (Action.STOP, ActionResult("failed"))], True),
        ([(Action.START, ActionResult()), (Action.STOP, ActionResult(superseded=True))], True),
        ([(Action.START, ActionResult("failed"))], False),
        ([(Action.START, ActionResult(superseded=True))], False),
    ],
)
async def test_the_last_action_that_succeeded_counts_also_after_a_restart(
    scripted: ScriptedHost,
    observer: Recorder,
    tmp_path: Path,
    results: list[tuple[Action, ActionResult]],
    is_on: bool,
) -> None:
    assuming = host(scripted, tmp_path)
    await assuming.open(observer)
    for action, result in results:
        scripted.result = result
        assert await act(assuming, action) == result
    expected = ("tv", Observed({}, ProbeResult.ON if is_on else ProbeResult.OFF))
    assert [told for told in observer.told if told[0] == "tv"][-1] == expected
    observer.told.clear()
    await host(scripted, tmp_path).open(observer)
    assert observer.told[0] == expected


OTHER_TV: Final = replace(TV, commands=Commands(("/opt/other",), ("/opt/off",)))
WITH_STATUS: Final = replace(
    TV, commands=Commands(("/opt/on",), ("/opt/off",), ("/opt/ask",)), assume_state=False
)


@pytest.mark.parametrize(
    "meanwhile", [(WEB,), (OTHER_TV, WEB), (WITH_STATUS, WEB)], ids=["removed", "changed", "with a status"]
)
async def test_a_group_that_was_another_one_meanwhile_is_off(
    scripted: ScriptedHost, observer: Recorder, tmp_path: Path, meanwhile: tuple[Group, ...]
) -> None:
    assuming = host(scripted, tmp_path)
    await assuming.open(observer)
    await act(assuming, Action.START)
    await assuming.watch(meanwhile)
    await assuming.watch((TV, WEB))
    assert observer.told[-2] == ("tv", Observed({}, ProbeResult.OFF))


async def test_a_group_that_changed_while_the_daemon_was_stopped_is_off(
    scripted: ScriptedHost, observer: Recorder, tmp_path: Path
) -> None:
    assuming = host(scripted, tmp_path)
    await assuming.open(observer)
    await act(assuming, Action.START)
    scripted.groups = (OTHER_TV, WEB)
    await AssumingHost(scripted, scripted.groups, AssumedStates(tmp_path)).open(observer)
    assert observer.told[-2] == ("tv", Observed({}, ProbeResult.OFF))


async def test_the_end_of_an_action_is_not_the_state_of_what_a_reload_put_in_its_place(
    scripted: ScriptedHost, observer: Recorder, tmp_path: Path
) -> None:
    assuming = host(scripted, tmp_path)
    await assuming.open(observer)
    scripted.is_held = asyncio.Event()
    running = asyncio.ensure_future(act(assuming, Action.START))
    await asyncio.sleep(0)
    await assuming.watch((OTHER_TV, WEB))
    scripted.is_held.set()
    assert await running == ActionResult()
    assert [told for told in observer.told if told[0] == "tv"][-1] == ("tv", Observed({}, ProbeResult.OFF))


async def test_an_action_on_another_group_is_not_kept(
    scripted: ScriptedHost, observer: Recorder, tmp_path: Path
) -> None:
    assuming = host(scripted, tmp_path)
    await assuming.open(observer)
    observer.told.clear()
    await act(assuming, Action.START, "web")
    assert (observer.told, list(tmp_path.iterdir())) == ([], [])


async def test_an_unknown_group_stays_unknown_and_its_state_comes_back_with_it(
    scripted: ScriptedHost, observer: Recorder, tmp_path: Path
) -> None:
    assuming = host(scripted, tmp_path)
    await assuming.open(observer)
    await act(assuming, Action.START)
    for observed, expected in ((GONE, GONE), (KNOWN, Observed({}, ProbeResult.ON))):
        assuming.observed("tv", observed)
        assert observer.told[-1] == ("tv", expected)


async def test_a_reload_takes_effect_on_the_groups_that_it_names(
    scripted: ScriptedHost, observer: Recorder, tmp_path: Path
) -> None:
    assuming = host(scripted, tmp_path)
    await assuming.open(observer)
    await act(assuming, Action.START)
    await assuming.watch((TV, WEB))
    assert ("tv", Observed({}, ProbeResult.ON)) == observer.told[-2]
    await assuming.watch((WEB,))
    assuming.observed("tv", KNOWN)
    assert observer.told[-1] == ("tv", KNOWN)


async def test_everything_else_is_the_hosts(
    scripted: ScriptedHost, observer: Recorder, tmp_path: Path
) -> None:
    assuming = host(scripted, tmp_path)
    await assuming.open(observer)
    assuming.noticed()
    assert (assuming.trouble(), await assuming.check_config(), assuming.config_problem()) == (
        "trouble",
        "checked",
        "problem",
    )
    assert observer.notices == 1
    with pytest.raises(RuntimeError, match="broken"):
        await assuming.until_broken()
    await assuming.close()
    assert scripted.observer is None


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"{",
        b"[]",
        b'{"version": 2, "on": {}}',
        b'{"version": 1, "on": {"tv": 1}}',
        b"\xff",
        b"[" * 60_000,
    ],
    ids=["empty", "cut off", "a list", "a later version", "no meanings", "not UTF-8", "nested"],
)
def test_a_damaged_file_assumes_all_groups_off_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, contents: bytes
) -> None:
    (tmp_path / FILE_NAME).write_bytes(contents)
    assumed = AssumedStates(tmp_path)
    assert not assumed.is_on("tv")
    assert [record.message for record in caplog.records] == [
        f"{tmp_path / FILE_NAME} is damaged; its groups are assumed to be off"
    ]
    assumed.set("tv", meaning_of(TV), on=True)
    written = {"version": 1, "on": {"tv": meaning_of(TV)}}
    assert json.loads((tmp_path / FILE_NAME).read_bytes()) == written
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (os.mkfifo, "it is not a regular file"),
        (Path.mkdir, "it is not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "it is not a regular file"),
        (lambda path: path.symlink_to(path), os.strerror(errno.ELOOP)),
    ],
    ids=["FIFO", "folder", "device", "loop"],
)
def test_what_is_no_file_delays_no_start_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make: Callable[[Path], object], why: str
) -> None:
    make(tmp_path / FILE_NAME)
    assert not AssumedStates(tmp_path).is_on("tv")
    assert [record.message for record in caplog.records] == [f"cannot read {tmp_path / FILE_NAME}: {why}"]


async def test_a_state_that_cannot_be_written_is_written_later_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_file, "WRITE_AGAIN_SECONDS", 0.01)
    folder = tmp_path / "state"
    assumed = AssumedStates(folder)  # which does not exist
    assumed.set("tv", "its meaning", on=True)
    assert assumed.is_on("tv")
    assert [record.message for record in caplog.records] == [
        f"cannot write {folder / FILE_NAME}: No such file or directory"
    ]
    folder.mkdir()
    await eventually(lambda: AssumedStates(folder).is_on("tv"))


async def test_however_often_writing_fails_one_retry_is_pending(tmp_path: Path) -> None:
    assumed = AssumedStates(tmp_path / "state")  # which does not exist
    retries = []
    for on in (True, False, True):
        assumed.set("tv", "its meaning", on=on)
        retries.append(assumed._file._again)
    assert [retry is not None and retry.cancelled() for retry in retries] == [True, True, False]
    (tmp_path / "state").mkdir()
    assumed.set("tv", "its meaning", on=True)
    assert assumed._file._again is None


async def test_a_state_that_cannot_be_replaced_is_off_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assumed = AssumedStates(tmp_path)
    assumed.set("tv", "its meaning", on=True)
    with monkeypatch.context() as full:
        full.setattr("hkswitch.hap.state_file.write_whole", fail)
        assumed.set("tv", "its meaning", on=False)
    assert not AssumedStates(tmp_path).is_on("tv")
    assumed.set("tv", "its meaning", on=True)
    assert AssumedStates(tmp_path).is_on("tv")


@pytest.mark.parametrize(
    ("before", "groups", "on", "after"),
    [
        ({}, ["tv"], {"tv": "new"}, {"tv": "new"}),
        ({}, ["tv"], {}, None),
        ({"tv": "old"}, ["tv"], {"tv": "new"}, {"tv": "new"}),
        ({"tv": "old"}, ["tv"], {}, {}),
        ({"tv": "old"}, ["fan"], {}, {"tv": "old"}),
        ({"tv": "old"}, ["fan", "lamp"], {"fan": "new"}, {"tv": "old", "fan": "new"}),
    ],
)
def test_states_that_are_carried_over_replace_those_of_the_same_groups_only(
    tmp_path: Path,
    before: dict[str, str],
    groups: list[str],
    on: dict[str, str],
    after: dict[str, str] | None,
) -> None:
    file = tmp_path / FILE_NAME
    if before:
        file.write_text(json.dumps({"version": 1, "on": before}))
    assumed_states.carry_over(tmp_path, groups, on)
    found = json.loads(file.read_text()) if file.exists() else None
    assert found == (None if after is None else {"version": 1, "on": after})


def test_a_state_that_did_not_change_is_not_written_again(tmp_path: Path) -> None:
    assumed = AssumedStates(tmp_path)
    assumed.set("tv", "its meaning", on=True)
    (tmp_path / FILE_NAME).unlink()
    assumed.set("tv", "its meaning", on=True)
    assert list(tmp_path.iterdir()) == []
