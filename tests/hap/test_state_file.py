"""The state folder: written atomically, private, and never silently replaced."""

import errno
import fcntl
import io
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyhap.encoder import AccessoryEncoder
from pyhap.state import State

from hkswitch.hap import state_file
from hkswitch.hap.driver import MOST_PAIRINGS
from hkswitch.hap.iids import IIDS_BY_TYPE, MOST_RECORDED_ACCESSORIES
from hkswitch.hap.setup_code import Setup
from hkswitch.hap.state_file import (
    BACKUP_NAME,
    FILE_NAME,
    LARGEST_BYTES,
    LOCK_NAME,
    StateDamaged,
    StateInUse,
    StateTooNew,
    StateUnwritable,
    Stored,
)
from hkswitch.hap.state_format import digest
from hkswitch.model.errors import Exit, Failure

ADMIN, USER = "8DE3A2C0-5D7B-4E7C-9F52-3F1B7A2D9E10", "11111111-2222-4333-8444-555555555555"
OTHER_ADMIN = "AAAAAAAA-BBBB-4CCC-8DDD-EEEEEEEEEEEE"


def stored(**permissions: int) -> Stored:
    """A state as the driver has it, with these controllers."""
    state = State(address="127.0.0.1", port=51826, pincode=b"314-15-926")
    for client, permission in {ADMIN: 1, **permissions}.items():
        state.add_paired_client(client.encode(), b"k" * 32, bytes([permission]))
    written = io.StringIO()
    AccessoryEncoder.persist(written, state)
    accessory = json.loads(written.getvalue())
    del accessory["accessory_states"]
    iids = {1: {"3E": 1, "3E.14": 2}, 5: {"49": 8}}
    return Stored(Setup("314-15-926", "7OSX"), accessory, failed_attempts=3, iids=iids)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A state folder with a state in it."""
    state_file.write(tmp_path, stored())
    return tmp_path


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    before = stored()
    state_file.write(tmp_path / "deep" / "folder", before)
    assert state_file.read(tmp_path / "deep" / "folder") == before


def test_it_is_for_nobody_else(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with state_file.locked(folder):
        state_file.write(folder, stored())
    assert folder.stat().st_mode & 0o777 == 0o700
    modes = {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()}
    assert modes == dict.fromkeys([FILE_NAME, BACKUP_NAME, LOCK_NAME], 0o600)


def test_no_file_is_none(tmp_path: Path) -> None:
    assert state_file.read(tmp_path) is None


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_folder(path: Path, *arguments: Any) -> int:  # noqa: ANN401 -- those of os.open
    if path.is_dir():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return OPEN(path, *arguments)


OPEN = os.open
CALLS = {"fsync": (os, "fsync", full), "rename": (Path, "rename", full), "open": (os, "open", no_folder)}


@pytest.mark.parametrize("call", CALLS)
def test_a_write_that_fails_leaves_the_old_files_and_no_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    before = {file: file.read_bytes() for file in folder.iterdir()}
    monkeypatch.setattr(*CALLS[call])
    with pytest.raises(StateUnwritable, match="No space left on device"):
        state_file.write(folder, stored())
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


def fails_once(failing: Callable[[int], bool]) -> Callable[[int], None]:
    """An `os.fsync` that fails at the first descriptor that is meant."""
    sync, left = os.fsync, [True]

    def fsync(file: int) -> None:
        if left and failing(file):
            left.clear()
            full()
        sync(file)

    return fsync


def test_a_rename_that_may_not_last_is_taken_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {file: file.read_bytes() for file in folder.iterdir()}
    monkeypatch.setattr(os, "fsync", fails_once(lambda file: stat.S_ISDIR(os.fstat(file).st_mode)))
    with pytest.raises(StateUnwritable, match="No space left on device"):
        state_file.write(folder, stored())
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


def test_a_backup_that_cannot_be_written_is_removed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    of_backup = fails_once(lambda file: BACKUP_NAME in Path(f"/proc/self/fd/{file}").readlink().name)
    monkeypatch.setattr(os, "fsync", of_backup)
    now = stored()
    state_file.write(folder, now)
    assert "bridge.json.backup: No space left on device" in caplog.text
    assert not (folder / BACKUP_NAME).exists()  # it would bring back controllers that were removed
    assert state_file.read(folder) == now


def replaced(folder: Path, *path: str, value: object) -> None:
    """Change one value in the file, with a valid checksum."""
    contents = json.loads((folder / FILE_NAME).read_text())
    del contents["sha256"]
    place: dict[str, Any] = contents
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    contents["sha256"] = digest(contents)
    (folder / FILE_NAME).write_text(json.dumps(contents))


DAMAGE = [
    b"",
    b"{}",
    b"[]",
    b"\xff\xfe",
    b"null",
    b"[" * 100_000,
    b'{"version": 1, "sha256": "0"}',
]


@pytest.mark.parametrize("contents", DAMAGE, ids=lambda contents: repr(contents[:20]))
def test_a_damaged_file_is_said_and_its_backup_used(
    folder: Path, caplog: pytest.LogCaptureFixture, contents: bytes
) -> None:
    before = state_file.read(folder)
    (folder / FILE_NAME).write_bytes(contents)
    assert state_file.read(folder) == before
    assert "bridge.json is damaged" in caplog.text
    assert "using its backup" in caplog.text


def test_one_bit_is_damage(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = state_file.read(folder)
    contents = bytearray((folder / FILE_NAME).read_bytes())
    contents[contents.index(b"6b6b6b") + 3] ^= 1  # in a controller's key
    (folder / FILE_NAME).write_bytes(contents)
    assert state_file.read(folder) == before
    assert "wrong checksum" in caplog.text


def test_a_file_that_is_gone_is_said_and_its_backup_used(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = state_file.read(folder)
    (folder / FILE_NAME).unlink()
    assert state_file.read(folder) == before
    assert "bridge.json is missing; using its backup" in caplog.text


def test_a_damaged_backup_is_no_matter(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / BACKUP_NAME).write_bytes(b"")
    assert state_file.read(folder) is not None
    assert not caplog.text


@pytest.mark.parametrize("backup", [None, b"", b"{}"])
def test_damage_without_a_sound_backup_is_an_error_and_nothing_is_touched(
    folder: Path, backup: bytes | None
) -> None:
    (folder / FILE_NAME).write_bytes(b"garbage")
    (folder / BACKUP_NAME).unlink()
    if backup is not None:
        (folder / BACKUP_NAME).write_bytes(backup)
    with pytest.raises(StateDamaged, match=r"bridge\.json is damaged \(not JSON\); restore a backup"):
        state_file.read(folder)
    assert (folder / FILE_NAME).read_bytes() == b"garbage"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), 0),
        (("version",), -2),
        (("version",), "2"),
        (("version",), None),
        (("setup", "code"), "123-45-678"),
        (("setup", "id"), "too long"),
        (("failed_attempts",), "3"),
        (("accessory", "mac"), 1),
        (("accessory", "mac"), "AA:BB"),
        (("accessory", "paired_clients"), []),
        (("accessory", "paired_clients"), {"x": "y"}),
        (("accessory", "client_properties"), {}),
        (("accessory", "config_version"), None),
    ],
)
def test_what_this_version_does_not_write_is_damage(
    folder: Path, path: tuple[str, ...], value: object
) -> None:
    (folder / BACKUP_NAME).unlink()
    replaced(folder, *path, value=value)
    with pytest.raises(StateDamaged, match="unexpected contents"):
        state_file.read(folder)


@pytest.mark.parametrize("version", [4, 5, 10**30])
@pytest.mark.parametrize("gone", [None, b"garbage"], ids=["file", "backup"])
def test_what_a_newer_version_wrote_is_said_and_neither_used_nor_replaced(
    folder: Path, version: int, gone: bytes | None
) -> None:
    replaced(folder, "version", value=version)
    path = folder / FILE_NAME
    if gone is not None:  # the newer one's backup is all that is left
        path.rename(folder / BACKUP_NAME)
        path.write_bytes(gone)
        path = folder / BACKUP_NAME
    before = {file: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(StateTooNew) as caught:
        state_file.read(folder)
    assert str(caught.value) == (
        f"cannot use {path}: a newer version of hkswitch wrote it "
        f"(format {version}, this one reads 3); install that version again, "
        "or restore a backup from before the upgrade with `hkswitch restore`"
    )
    assert caught.value.exit_code is Exit.DAMAGED
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


def test_a_newer_backup_of_a_file_that_is_gone_is_no_reason_for_a_new_identity(folder: Path) -> None:
    replaced(folder, "version", value=4)
    (folder / FILE_NAME).rename(folder / BACKUP_NAME)
    with pytest.raises(StateTooNew):
        state_file.read(folder)


def test_a_newer_version_may_make_its_checksum_in_another_way(folder: Path) -> None:
    (folder / FILE_NAME).write_text('{"version": 4, "blake2": "0"}')
    with pytest.raises(StateTooNew):
        state_file.read(folder)


UNKNOWN = [
    (("moon",), {"phase": [1, None]}),
    (("setup", "flags"), 2),
    (("accessory", "sunsets"), {}),
]


@pytest.mark.parametrize(("path", "value"), UNKNOWN, ids=str)
def test_keys_that_this_version_does_not_know_are_written_back(
    folder: Path, caplog: pytest.LogCaptureFixture, path: tuple[str, ...], value: object
) -> None:
    replaced(folder, *path, value=value)
    found = state_file.read(folder)
    assert found is not None
    assert found.unknown_keys == (".".join(path),)
    assert (found.accessory, found.setup) == (stored().accessory | found.accessory, stored().setup)
    state_file.write(folder, replace(found.without(ADMIN), failed_attempts=7))
    for name in (FILE_NAME, BACKUP_NAME):
        written: Any = json.loads((folder / name).read_text())
        for key in path:
            written = written[key]
        assert written == value
    again = state_file.read(folder)
    assert again is not None
    assert (again.controllers, again.failed_attempts, again.others) == ((), 7, found.others)
    assert not caplog.text
    again.warn_of_unknown_keys()
    assert caplog.messages == [
        f"bridge.json has keys that this version does not know; keeping them: '{'.'.join(path)}'"
    ]


def test_a_file_of_this_version_has_no_unknown_keys(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = state_file.read(folder)
    assert found is not None
    found.warn_of_unknown_keys()
    assert (found.unknown_keys, found.others, caplog.messages) == ((), {}, [])


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (Path.mkdir, "Is a directory"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    ],
    ids=["folder", "link"],
)
def test_what_is_no_file_in_the_files_place_is_damage(
    folder: Path, caplog: pytest.LogCaptureFixture, make: Callable[[Path], None], why: str
) -> None:
    (folder / FILE_NAME).unlink()
    make(folder / FILE_NAME)
    assert state_file.read(folder) is not None
    assert caplog.messages == [f"{folder / FILE_NAME} is damaged ({why}); using its backup"]
    (folder / BACKUP_NAME).unlink()
    with pytest.raises(StateDamaged, match=f"is damaged .{why}"):
        state_file.read(folder)


def test_a_link_in_the_files_place_is_not_followed(folder: Path) -> None:
    (folder / FILE_NAME).rename(folder / "target")
    (folder / FILE_NAME).symlink_to("target")
    (folder / BACKUP_NAME).unlink()
    with pytest.raises(StateDamaged, match="symbolic links"):
        state_file.read(folder)


@pytest.mark.parametrize(
    ("number", "denial", "code"),
    [
        (errno.EACCES, "permission denied: only root and the daemon may read it; use sudo", Exit.DENIED),
        (errno.EPERM, "permission denied: only root and the daemon may read it; use sudo", Exit.DENIED),
        *((number, "", Exit.UNAVAILABLE) for number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO)),
    ],
)
def test_only_a_missing_permission_is_called_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, denial: str, code: Exit
) -> None:
    reason = os.strerror(number)

    def fail(*_: object, **__: object) -> int:
        raise OSError(number, reason)

    monkeypatch.setattr("hkswitch.hap.state_file.os.open", fail)
    with pytest.raises(Failure) as caught:
        state_file.read(folder)
    expected = f"cannot read the bridge's state {folder / FILE_NAME}: {denial or reason}"
    assert (str(caught.value), caught.value.exit_code) == (expected, code)


def test_a_pipe_in_the_files_place_holds_nobody_up(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / FILE_NAME).unlink()
    os.mkfifo(folder / FILE_NAME)
    assert state_file.read(folder) is not None
    assert "not a regular file" in caplog.text


HOLD = "import sys; from pathlib import Path; from hkswitch.hap import state_file\n\
with state_file.locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"


def test_a_pipe_in_the_locks_place_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / LOCK_NAME)
    holder = os.open(tmp_path / LOCK_NAME, os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)  # a process without the lock reads which one holds it
    with pytest.raises(StateUnwritable, match=f"{LOCK_NAME}: not a regular file"):
        state_file.locked(tmp_path).__enter__()
    os.close(holder)


def test_who_has_the_folder_removes_what_a_killed_process_left_and_nothing_else(folder: Path) -> None:
    kept = {FILE_NAME, BACKUP_NAME, "assumed.json", ".hidden"}
    for name in (*kept, f".{FILE_NAME}.0a1b2c3d", f".{BACKUP_NAME}.0a1b2c3d", ".assumed.json.0a1b2c3d"):
        (folder / name).touch()
    with state_file.locked(folder):
        assert {file.name for file in folder.iterdir()} == kept | {state_file.LOCK_NAME}


def test_two_cannot_have_the_folder(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        said = rf"another hkswitch \(process {other.pid}\)"
        with pytest.raises(StateInUse, match=said), state_file.locked(tmp_path):
            pytest.fail("both have it")
        other.kill()
    with state_file.locked(tmp_path):
        pass  # a killed process releases it


@pytest.mark.parametrize(
    ("permissions", "removed", "left"),
    [
        ({USER: 0}, USER, [ADMIN]),
        ({USER: 0, OTHER_ADMIN: 1}, ADMIN, [USER, OTHER_ADMIN]),
        ({USER: 0}, ADMIN, []),  # no admin is left, so the user is removed too
        ({}, ADMIN, []),
        ({USER: 0, OTHER_ADMIN: 1}, None, []),
        ({USER: 0}, "no such", [ADMIN, USER]),
    ],
)
def test_a_controller_is_taken_out_and_the_last_admin_takes_the_others_along(
    permissions: dict[str, int], removed: str | None, left: list[str]
) -> None:
    after = stored(**permissions).without(removed)
    assert [controller.id for controller in after.controllers] == left
    for name in ("paired_clients", "client_properties", "client_uuid_to_bytes"):
        assert list(after.accessory[name]) == [client.lower() for client in left]
    assert after.paired == bool(left)


def test_taking_one_out_keeps_keys_and_attempts() -> None:
    before = stored()
    after = before.without(ADMIN)
    assert (after.setup, after.device_id, after.failed_attempts) == (before.setup, before.device_id, 3)
    assert after.accessory["private_key"] == before.accessory["private_key"]
    assert after.iids == {}  # no phone remembers any
    assert replace(after, accessory=before.accessory, iids=before.iids) == before


def test_while_a_controller_is_left_all_iids_are_kept() -> None:
    before = stored(**{USER: 0})
    assert before.without(USER).iids == before.iids


def test_what_would_be_too_large_to_be_read_again_is_not_written(folder: Path) -> None:
    before = state_file.read(folder)
    iids = {aid: {"49": 16} for aid in range(1, 50_000)}
    with pytest.raises(StateUnwritable, match=r"too large \([0-9]+ bytes; the limit is 1048576\)"):
        state_file.write(folder, replace(stored(), iids=iids))
    assert state_file.read(folder) == before


def test_the_fullest_record_and_all_pairings_can_be_read_again(tmp_path: Path) -> None:
    """The largest possible record does not make the file too large."""
    users = {f"{number:08X}-2222-4333-8444-555555555555": 0 for number in range(MOST_PAIRINGS - 1)}
    record = {2**32 - number: dict(IIDS_BY_TYPE) for number in range(1, MOST_RECORDED_ACCESSORIES + 1)}
    fullest = replace(stored(**users), iids=record)
    state_file.write(tmp_path, fullest)
    assert state_file.read(tmp_path) == fullest
    assert (tmp_path / FILE_NAME).stat().st_size < 0.8 * LARGEST_BYTES
