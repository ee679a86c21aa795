"""The pairings on disk, when no daemon runs."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from hkswitch.daemon.bridge import Bridge
from hkswitch.hap import state_file
from hkswitch.hap.stored_pairings import NoBridgeYet, StoredPairings
from hkswitch.model.errors import Exit, Failure
from hkswitch.protocol.report import PairedController
from tests.support.pairings import ADMIN, DEVICE_ID, OTHER_ADMIN, SETUP, USER, folder_for_all_users, stored


def folder_with(tmp_path: Path, contents: state_file.Stored) -> StoredPairings:
    state_file.write(tmp_path, contents)
    return StoredPairings(tmp_path)


def test_the_setup_is_that_of_the_file(tmp_path: Path) -> None:
    setup = folder_with(tmp_path, stored()).setup_info()
    assert (setup.code, setup.payload, setup.device_id) == (SETUP.code, SETUP.payload, DEVICE_ID)
    assert (setup.paired, setup.failed_attempts, setup.pairing_refused) == (False, 0, False)
    assert folder_with(tmp_path, stored(ADMIN)).setup_info().paired


@pytest.mark.parametrize(("attempts", "refused"), [(0, False), (99, False), (100, True), (101, True)])
def test_pairing_is_refused_after_a_hundred_failed_attempts(
    tmp_path: Path, attempts: int, refused: bool
) -> None:
    pairings = folder_with(tmp_path, stored(failed_attempts=attempts))
    assert pairings.setup_info().pairing_refused is refused
    pairings.reset_attempts()
    assert (pairings.setup_info().failed_attempts, pairings.setup_info().pairing_refused) == (0, False)


def test_nobody_is_connected_to_a_file(tmp_path: Path) -> None:
    assert folder_with(tmp_path, stored(ADMIN, users=(USER,))).controllers() == (
        PairedController(ADMIN, admin=True, connections=0),
        PairedController(USER, admin=False, connections=0),
    )


@pytest.mark.parametrize(
    ("removed", "left"),
    [
        (USER, [ADMIN, OTHER_ADMIN]),
        (ADMIN, [OTHER_ADMIN, USER]),
        (None, []),
    ],
)
def test_unpair_removes_one_or_all(tmp_path: Path, removed: str | None, left: list[str]) -> None:
    pairings = folder_with(tmp_path, stored(ADMIN, OTHER_ADMIN, users=(USER,)))
    pairings.unpair(removed)
    assert [controller.id for controller in pairings.controllers()] == left
    assert pairings.setup_info().device_id == DEVICE_ID


def test_the_last_admin_takes_all_others_along(tmp_path: Path) -> None:
    pairings = folder_with(tmp_path, stored(ADMIN, users=(USER,)))
    pairings.unpair(ADMIN)
    assert pairings.controllers() == ()


def test_a_controller_that_is_not_paired_changes_nothing(tmp_path: Path) -> None:
    pairings = folder_with(tmp_path, stored(ADMIN))
    before = (tmp_path / state_file.FILE_NAME).read_bytes()
    with pytest.raises(Failure, match=f"no paired controller has the ID '{USER}'") as caught:
        pairings.unpair(USER)
    assert caught.value.exit_code is Exit.USAGE
    assert (tmp_path / state_file.FILE_NAME).read_bytes() == before


def test_where_there_is_no_bridge_nothing_is_made(tmp_path: Path) -> None:
    pairings = StoredPairings(tmp_path / "none")
    for action in (
        pairings.setup_info,
        pairings.controllers,
        pairings.reset_attempts,
        lambda: pairings.unpair(None),
    ):
        with pytest.raises(NoBridgeYet):
            action()
    assert list(tmp_path.iterdir()) == []


def test_changes_need_the_lock_and_looks_do_not(tmp_path: Path) -> None:
    pairings = folder_with(tmp_path, stored(ADMIN))
    with state_file.locked(tmp_path):
        assert pairings.setup_info().paired
        assert len(pairings.controllers()) == 1
        for change in (pairings.reset_attempts, lambda: pairings.unpair(None)):
            with pytest.raises(state_file.StateInUse, match=f"process {os.getpid()}"):
                change()
    pairings.unpair(None)
    assert pairings.controllers() == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_root_writes_belongs_to_the_owner_of_the_folder() -> None:
    with folder_for_all_users() as folder:
        pairings = folder_with(folder, stored(ADMIN))
        for path in (folder, *folder.iterdir()):
            os.chown(path, 65534, 65534)
        pairings.unpair(None)
        owners = {path.name: path.stat().st_uid for path in folder.iterdir()}
    names = (state_file.FILE_NAME, state_file.BACKUP_NAME, state_file.LOCK_NAME)
    assert owners == dict.fromkeys(names, 65534)
    assert os.geteuid() == 0


def test_a_change_keeps_unknown_keys_and_warns_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pairings = folder_with(tmp_path, replace(stored(ADMIN), others={"moon": 1, "accessory": {"sun": 2}}))
    pairings.setup_info()
    assert caplog.messages == []
    pairings.unpair(ADMIN)
    assert caplog.messages == [
        "bridge.json has keys that this version does not know; keeping them: 'moon', 'accessory.sun'"
    ]
    found = state_file.read(tmp_path)
    assert found is not None
    assert (found.others, found.controllers) == ({"moon": 1, "accessory": {"sun": 2}}, ())


async def test_the_bridge_keeps_unknown_keys_and_warns_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Bridge("Test", (), tmp_path, 51827)
    made = state_file.read(tmp_path)
    assert made is not None
    caplog.clear()
    state_file.write(tmp_path, replace(made, others={"setup": {"flags": 2}, "accessory": {"sun": 2}}))
    bridge = Bridge("Test", (), tmp_path, 51827)
    bridge.reset_attempts()
    found = state_file.read(tmp_path)
    assert found is not None
    assert found.others == {"setup": {"flags": 2}, "accessory": {"sun": 2}}
    assert found.accessory == made.accessory
    assert caplog.messages == [
        "bridge.json has keys that this version does not know; keeping them: 'setup.flags', 'accessory.sun'"
    ]
