"""The meaning of an aid and iid that a phone has seen never changes while the bridge is paired."""

import asyncio
import json
import os
import random
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from hkswitch.daemon.bridge import Bridge
from hkswitch.hap import state_file
from hkswitch.hap.state_file import BACKUP_NAME, FILE_NAME, StateUnwritable
from hkswitch.hap.state_format import digest
from hkswitch.hap.stored_pairings import StoredPairings
from hkswitch.model.group import AccessoryType, AlertSensor, Group, aid_of
from tests.support.accessory_database import (
    CONTROLLER,
    RECORDED,
    RECORDED_GROUPS,
    Ids,
    bridge_of,
    database,
    meanings,
    pair,
    recorded_database,
    regroup,
    renamed,
    typed,
)
from tests.support.full_disk import filling

SWITCH, OUTLET, LIGHT, FAN = AccessoryType
ON = {SWITCH: "49.25", OUTLET: "47.25", LIGHT: "43.25", FAN: "40.25"}


@pytest.fixture(autouse=True)
def syncing_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip fsync: no test here cuts the power."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Return a function that fills the disk, or frees space again."""
    return filling(monkeypatch)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """The state folder of a paired bridge that format 1 had written."""
    for name in (FILE_NAME, BACKUP_NAME):
        shutil.copy(RECORDED / "format-1.json", tmp_path / name)
    return tmp_path


def on_of(bridge: Bridge, group_id: str) -> tuple[int, str]:
    """Return the iid of On, and its meaning."""
    found = meanings(database(bridge))
    (on,) = [
        (iid, what) for (aid, iid), what in found.items() if aid == aid_of(group_id) and what in ON.values()
    ]
    return on


def hidden(bridge: Bridge, group_id: str) -> bool:
    return aid_of(group_id) not in {accessory["aid"] for accessory in database(bridge)}


# A change of type


@pytest.mark.parametrize("kind", [OUTLET, LIGHT, FAN])
async def test_a_changed_type_has_iids_of_its_own_and_the_old_type_finds_its_own_again(
    tmp_path: Path, kind: AccessoryType
) -> None:
    bridge = bridge_of(tmp_path, typed("web", SWITCH))
    pair(bridge)
    first = meanings(database(bridge))
    regroup(bridge, typed("web", kind))
    second = meanings(database(bridge))
    assert all(first.get(ids, what) == what for ids, what in second.items())
    assert on_of(bridge, "web")[1] == ON[kind]
    regroup(bridge, typed("web", SWITCH))
    assert meanings(database(bridge)) == first


async def test_a_group_that_comes_back_as_another_type_reuses_nothing(tmp_path: Path) -> None:
    bridge = bridge_of(tmp_path, typed("web", SWITCH))
    pair(bridge)
    first = meanings(database(bridge))
    regroup(bridge)
    again = bridge_of(tmp_path, typed("web", FAN))
    assert all(first.get(ids, what) == what for ids, what in meanings(database(again)).items())


# What other versions wrote


async def test_a_paired_bridge_keeps_every_aid_and_iid_that_it_had_before_the_upgrade(recorded: Path) -> None:
    bridge = bridge_of(recorded, *RECORDED_GROUPS)
    assert meanings(database(bridge)) == meanings(recorded_database())
    assert meanings(database(bridge_of(recorded, *RECORDED_GROUPS))) == meanings(recorded_database())


async def test_sensors_that_are_added_with_the_upgrade_change_nothing_that_was_there(recorded: Path) -> None:
    groups = [replace(group, alert=AlertSensor.LEAK) for group in RECORDED_GROUPS]
    first = meanings(database(bridge_of(recorded, *groups)))
    assert meanings(recorded_database()).items() <= first.items()
    assert {iid for (_, iid), what in first.items() if what.startswith("83")} == {112, 113}
    assert meanings(database(bridge_of(recorded, *groups))) == first


async def test_after_the_upgrade_a_changed_type_reuses_nothing_that_was_served_before_it(
    recorded: Path,
) -> None:
    bridge = bridge_of(recorded, *RECORDED_GROUPS)
    changed = [typed(group.id, FAN if group.type is not FAN else LIGHT) for group in RECORDED_GROUPS]
    regroup(bridge, *changed)
    before = meanings(recorded_database())
    assert all(before.get(ids, what) == what for ids, what in meanings(database(bridge)).items())
    regroup(bridge, *RECORDED_GROUPS)
    assert meanings(database(bridge)) == before


async def test_a_group_from_before_the_upgrade_that_comes_back_later_reuses_nothing(recorded: Path) -> None:
    bridge_of(recorded)  # its type was not in the config of the upgrade, and so is not known
    bridge = bridge_of(recorded, typed("switch", FAN))
    before = meanings(recorded_database())
    assert all(before.get(ids, what) == what for ids, what in meanings(database(bridge)).items())


async def test_an_unpairing_of_one_before_the_first_start_forgets_nothing(recorded: Path) -> None:
    first = bridge_of(recorded, *RECORDED_GROUPS)
    other = CONTROLLER.replace("8", "9")
    pair(first, other)
    body = {
        key: value for key, value in json.loads((recorded / FILE_NAME).read_text()).items() if key != "iids"
    }
    written_as_format_1(recorded, body)
    StoredPairings(recorded).unpair(other)
    assert meanings(database(bridge_of(recorded, *RECORDED_GROUPS))) == meanings(recorded_database())


def written_as_format_1(folder: Path, body: dict[str, Any]) -> None:
    body = body | {"version": 1}
    body.pop("sha256")
    (folder / FILE_NAME).write_text(json.dumps(body | {"sha256": digest(body)}))


async def test_a_bridge_of_format_1_that_nobody_is_paired_with_has_the_iids_of_a_new_one(
    recorded: Path,
) -> None:
    StoredPairings(recorded).unpair(None)
    new = recorded / "new"
    both = [bridge_of(folder, *RECORDED_GROUPS) for folder in (recorded, new)]
    assert meanings(database(both[0])) == meanings(database(both[1]))


async def test_iids_that_format_1_cannot_have_had_are_not_read_from_it(recorded: Path) -> None:
    body = json.loads((recorded / FILE_NAME).read_text())
    (recorded / BACKUP_NAME).unlink()
    written_as_format_1(recorded, body | {"iids": {"garbage": None}})
    bridge = bridge_of(recorded, *RECORDED_GROUPS)
    assert meanings(database(bridge)) == meanings(recorded_database())


# The record


async def test_the_file_and_its_backup_have_every_iid_that_was_served(tmp_path: Path) -> None:
    bridge = bridge_of(tmp_path, typed("web", SWITCH), typed("files", LIGHT))
    pair(bridge)
    seen = meanings(database(bridge))
    regroup(bridge, typed("web", OUTLET))
    seen |= meanings(database(bridge))
    regroup(bridge)
    for name in (FILE_NAME, BACKUP_NAME):
        record = json.loads((tmp_path / name).read_text())["iids"]
        assert {(int(aid), iid): what for aid, iids in record.items() for what, iid in iids.items()} == seen


@pytest.mark.parametrize("running", [True, False])
async def test_a_bridge_without_controllers_forgets_what_is_retired(tmp_path: Path, running: bool) -> None:
    bridge = bridge_of(tmp_path, typed("web", SWITCH))
    pair(bridge)
    regroup(bridge, typed("files", SWITCH))
    if running:
        bridge.unpair(None)
    else:
        StoredPairings(tmp_path).unpair(None)
        left = state_file.read(tmp_path)
        assert left is not None
        assert left.iids == {}
    again = bridge_of(tmp_path, typed("files", SWITCH))
    stored = state_file.read(tmp_path)
    assert stored is not None
    assert stored.iids is not None
    assert stored.iids.keys() == {1, aid_of("files")}
    assert again.controllers() == ()


async def test_a_backup_in_the_files_place_has_the_record_too(tmp_path: Path) -> None:
    bridge = bridge_of(tmp_path, typed("web", SWITCH))
    pair(bridge)
    regroup(bridge, typed("web", OUTLET))
    before = meanings(database(bridge))
    (tmp_path / FILE_NAME).write_bytes(b"garbage")
    assert meanings(database(bridge_of(tmp_path, typed("web", OUTLET)))) == before


# A disk that is full


async def test_a_reload_whose_iids_cannot_be_written_fails_and_changes_nothing(
    tmp_path: Path, full: Callable[[bool], None]
) -> None:
    bridge = bridge_of(tmp_path, typed("web", SWITCH))
    pair(bridge)
    before, version = database(bridge), bridge.config_version
    full(True)
    for groups in ([typed("web", OUTLET)], [typed("web", SWITCH), typed("files", SWITCH)]):
        with pytest.raises(StateUnwritable, match="No space left on device"):
            regroup(bridge, *groups)
        assert (database(bridge), bridge.config_version) == (before, version)
    full(False)
    regroup(bridge, typed("web", OUTLET))
    assert (on_of(bridge, "web"), bridge.config_version) == ((33, ON[OUTLET]), version + 1)
    stored = state_file.read(tmp_path)
    assert stored is not None
    assert stored.iids == bridge._driver.stored.iids
    assert aid_of("files") not in (stored.iids or {})


async def test_a_reload_without_new_iids_needs_no_disk(tmp_path: Path, full: Callable[[bool], None]) -> None:
    bridge = bridge_of(tmp_path, typed("web", SWITCH), typed("files", SWITCH))
    pair(bridge)
    full(True)
    regroup(bridge, renamed(typed("web", SWITCH), "Website"))
    assert hidden(bridge, "files")
    regroup(bridge, typed("web", SWITCH), typed("files", SWITCH))
    assert not hidden(bridge, "files")
    bridge._driver.stop_writing()


async def test_a_start_whose_iids_cannot_be_written_serves_the_others_and_these_when_there_is_room(
    tmp_path: Path, full: Callable[[bool], None], caplog: pytest.LogCaptureFixture
) -> None:
    pair(bridge_of(tmp_path, typed("web", SWITCH)))
    full(True)
    bridge = bridge_of(tmp_path, typed("web", SWITCH), typed("files", SWITCH))
    version = bridge.config_version
    (said,) = caplog.messages
    assert "No space left on device" in said
    assert said.endswith("; not in the Home app: Files")
    assert (hidden(bridge, "web"), hidden(bridge, "files")) == (False, True)
    bridge._driver.writer.try_again()
    assert hidden(bridge, "files")
    full(False)
    bridge._driver.writer.try_again()
    assert not hidden(bridge, "files")
    assert bridge.config_version == version + 1
    bridge._driver.stop_writing()


async def test_an_upgrade_on_a_full_disk_serves_all_that_was_served_before(
    recorded: Path, full: Callable[[bool], None]
) -> None:
    full(True)
    bridge = bridge_of(recorded, *RECORDED_GROUPS)
    assert meanings(database(bridge)) == meanings(recorded_database())
    bridge._driver.stop_writing()


async def test_without_controllers_nothing_waits_for_the_disk(
    tmp_path: Path, full: Callable[[bool], None]
) -> None:
    bridge = bridge_of(tmp_path, typed("web", SWITCH))
    full(True)
    regroup(bridge, typed("files", SWITCH))
    assert not hidden(bridge, "files")
    with suppress(Exception):
        pair(bridge)  # which writes all, or nothing
    assert not bridge.paired
    full(False)
    pair(bridge)
    assert not hidden(bridge_of(tmp_path, typed("files", SWITCH)), "files")
    bridge._driver.stop_writing()


# Any history


@dataclass(eq=False)
class History:
    """A bridge, and what a phone that is paired with it has seen."""

    folder: Path
    chance: random.Random
    full: Callable[[bool], None]
    be_version: Callable[[str], None]
    groups: tuple[Group, ...]
    seen: dict[Ids, str] = field(default_factory=dict)
    versions: dict[int, str] = field(default_factory=dict)
    is_full: bool = False

    def __post_init__(self) -> None:
        self.bridge = bridge_of(self.folder, *self.groups)
        self.look()

    def look(self) -> None:
        accessories = database(self.bridge)
        for ids, what in meanings(accessories).items():
            assert not self.bridge.paired or self.seen.setdefault(ids, what) == what, (
                f"{ids} changed its meaning"
            )
        if not self.is_full:
            last, now = max(self.versions, default=0), self.bridge.config_version
            assert now >= last, "c# fell"
            what = json.dumps(accessories)
            assert self.versions.setdefault(now, what) == what, "c# stands for two databases"

    def happen(self) -> None:
        happenings = [
            self.reload,
            self.reload,
            self.reload,
            self.restart,
            self.restart,
            self.unpair,
            self.fill,
        ]
        self.chance.choice(happenings)()
        if not self.bridge.paired and not self.is_full and self.chance.random() < 0.7:
            pair(self.bridge)
        self.look()

    def edit(self) -> None:
        ids = self.chance.sample([group.id for group in RECORDED_GROUPS], self.chance.randrange(6))
        kinds = list(AccessoryType)
        groups = [typed(each, self.chance.choice(kinds), restart=self.chance.random() < 0.3) for each in ids]
        self.groups = tuple(groups)

    def reload(self) -> None:
        before, known = self.groups, database(self.bridge)
        self.edit()
        try:
            regroup(self.bridge, *self.groups)
        except StateUnwritable:
            assert self.is_full
            assert database(self.bridge) == known
            self.groups = before if self.chance.random() < 0.5 else self.groups

    def restart(self) -> None:
        """As after a kill; sometimes of another version, or with another config."""
        self.bridge._driver.stop_writing()
        if self.chance.random() < 0.5:
            self.edit()
        self.be_version(self.chance.choice(["0.1.0", "0.2.0", "0.10.0"]))
        self.bridge = bridge_of(self.folder, *self.groups)

    def unpair(self) -> None:
        if self.chance.random() < 0.5:
            with suppress(StateUnwritable):
                self.bridge.unpair(None)
                self.seen = {}
        else:
            self.bridge._driver.stop_writing()
            with suppress(StateUnwritable):
                StoredPairings(self.folder).unpair(None)
                self.seen = {}
            self.bridge = bridge_of(self.folder, *self.groups)

    def fill(self) -> None:
        self.is_full = not self.is_full
        self.full(self.is_full)
        if not self.is_full:
            self.bridge._driver.stop_writing()
            self.bridge._driver.writer.try_again()


@pytest.mark.parametrize("seed", range(12))
async def test_no_aid_and_iid_ever_changes_its_meaning_while_paired(
    tmp_path: Path, recorded: Path, full: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    def be_version(version: str) -> None:
        monkeypatch.setattr("hkswitch.daemon.identities.__version__", version)

    chance = random.Random(seed)
    seen = meanings(recorded_database()) if seed % 2 else {}
    folder = recorded if seed % 2 else tmp_path / "new"
    history = History(folder, chance, full, be_version, RECORDED_GROUPS, seen)
    for _ in range(60):
        history.happen()
    history.bridge._driver.stop_writing()


SERVE = """
import asyncio, json, sys
from pathlib import Path
from hkswitch.model.group import AccessoryType
from tests.support.accessory_database import bridge_of, database, typed
async def main():
    groups = [typed(name, AccessoryType(kind)) for name, kind in json.loads(sys.argv[2]).items()]
    print(json.dumps(database(bridge_of(Path(sys.argv[1]), *groups))))
asyncio.run(main())
"""


async def serve_in_a_process(folder: Path, **kinds: str) -> dict[Ids, str]:
    command = [sys.executable, "-c", SERVE, str(folder), json.dumps(kinds)]
    served = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    said, _ = await served.communicate()
    return meanings(json.loads(said))


async def test_processes_one_after_the_other_agree_on_what_an_iid_means(recorded: Path) -> None:
    seen = meanings(recorded_database())
    for kinds in (
        {"switch": "switch"},
        {"switch": "light", "new": "fan"},
        {"new": "outlet"},
        {"switch": "fan"},
    ):
        for ids, what in (await serve_in_a_process(recorded, **kinds)).items():
            assert seen.setdefault(ids, what) == what
