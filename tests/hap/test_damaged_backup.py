"""A backup without its file: a sound one is used, and a damaged one is neither used nor replaced."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hkswitch.control import socket_of
from hkswitch.doctor import account
from hkswitch.doctor.finding import Verdict
from hkswitch.hap import state_file
from hkswitch.hap.state_file import BACKUP_NAME, FILE_NAME, LOCK_NAME
from hkswitch.hap.stored_pairings import NoBridgeYet, StoredPairings
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.group import Group
from tests.support.accessory_database import CONTROLLER, bridge_of, pair
from tests.support.command import run

WEB = Group("web", "Web", ("httpd.service",))


def altered(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"failed_attempts": 7}))


def of_a_newer_version(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 4}))


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("elsewhere")


REFUSED: dict[str, tuple[Callable[[Path], object], Exit, str]] = {
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:100]), Exit.DAMAGED, "not JSON, and bri"),
    "empty": (lambda path: path.write_bytes(b""), Exit.DAMAGED, "not JSON, and bridge.json is missing"),
    "of another form": (
        lambda path: path.write_text("{}"),
        Exit.DAMAGED,
        "wrong checksum, and bridge.json is missing",
    ),
    "altered": (altered, Exit.DAMAGED, "wrong checksum, and bridge.json is missing"),
    "newer": (of_a_newer_version, Exit.DAMAGED, "a newer version of hkswitch wrote it"),
    "a pipe": (a_pipe, Exit.DAMAGED, "not a regular file, and bridge.json is missing"),
    "a folder": (a_folder, Exit.DAMAGED, "Is a directory, and bridge.json is missing"),
    "a link": (a_link, Exit.DAMAGED, "Too many levels of symbolic links, and bridge.json is missing"),
}


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """The state folder of a paired bridge whose file is gone."""
    folder = tmp_path / "state"
    pair(bridge_of(folder, WEB))
    (folder / FILE_NAME).unlink()
    return folder


def everything_in(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.name: (path.lstat().st_ino, path.read_bytes() if path.is_file() else b"")
        for path in folder.iterdir()
        if path.name != LOCK_NAME
    }


@pytest.mark.parametrize("how", REFUSED)
async def test_a_backup_alone_that_cannot_be_used_stops_the_daemon_and_nothing_is_replaced(
    folder: Path, how: str
) -> None:
    spoil, code, why = REFUSED[how]
    spoil(folder / BACKUP_NAME)
    before = everything_in(folder)
    pairings = StoredPairings(folder)
    for start in (lambda: bridge_of(folder, WEB), pairings.controllers, lambda: pairings.unpair(None)):
        with pytest.raises(Failure, match=why) as caught:
            start()
        assert caught.value.exit_code is code
        assert str(folder / BACKUP_NAME) in str(caught.value)
    assert account.contents(folder, *account.stored(folder)).verdict is Verdict.FAIL
    assert everything_in(folder) == before


async def test_the_daemon_ends_with_65_and_one_sentence(folder: Path, tmp_path: Path) -> None:
    (folder / BACKUP_NAME).write_bytes(b"garbage")
    config = tmp_path / "config.yaml"
    config.write_text("bridge: {interface: lo}\ngroups: {web: {units: [httpd]}}\n")
    code, printed, said = run("run", "--config", config, "--state-dir", folder)
    assert (code, printed) == (Exit.DAMAGED, "")
    assert said == (
        f"hkswitch: {folder / BACKUP_NAME} is damaged (not JSON, and bridge.json is missing); "
        "restore a backup with `hkswitch restore`, "
        "or give the bridge a new identity with `hkswitch reset` and pair it again\n"
    )
    assert not socket_of(folder).exists()


async def test_a_sound_backup_alone_is_used_and_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    known = state_file.read(folder)
    bridge = bridge_of(folder, WEB)
    assert [each.id for each in bridge.controllers()] == [CONTROLLER]
    assert "bridge.json is missing; using its backup" in caplog.text
    assert (folder / FILE_NAME).read_bytes() == (folder / BACKUP_NAME).read_bytes()
    assert known is not None
    assert bridge.setup == known.setup


async def test_where_both_are_gone_there_is_a_new_bridge(folder: Path) -> None:
    before = state_file.read(folder)
    (folder / BACKUP_NAME).unlink()
    with pytest.raises(NoBridgeYet):
        StoredPairings(folder).controllers()
    assert before is not None
    assert bridge_of(folder, WEB).setup != before.setup


async def test_a_damaged_backup_beside_a_sound_file_is_written_anew(folder: Path) -> None:
    (folder / BACKUP_NAME).rename(folder / FILE_NAME)
    (folder / BACKUP_NAME).write_bytes(b"garbage")
    assert bridge_of(folder, WEB).paired
    assert (folder / FILE_NAME).read_bytes() == (folder / BACKUP_NAME).read_bytes()
