"""How `hkswitch doctor` judges a disk that cannot be written: by the daemon's report, and by its own look."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hkswitch.control import client
from hkswitch.doctor import account
from hkswitch.doctor.context import Account, Context
from hkswitch.doctor.finding import Check, Verdict
from hkswitch.model.config_file import ConfigReadTimedOut
from hkswitch.protocol.report import BridgeReport

OK, FAIL, WARN, TODO, SKIP = Verdict
FOLDER = Path("/var/lib/hkswitch")
BRIDGE = BridgeReport("H", "1", 0, (), 1, ())
WHY = "cannot write the bridge's state /var/lib/hkswitch/bridge.json: No space left on device"
NOTHING = ConfigReadTimedOut("config.yaml", "none")


def disk(**changes: int) -> Any:  # noqa: ANN401 -- a structure of os
    """What statvfs(3) says of a disk."""
    found = os.statvfs("/proc")
    fields = {name: getattr(found, name) for name in dir(found) if name.startswith("f_")}
    healthy = {"f_flag": 0, "f_frsize": 4096, "f_bavail": 10_000, "f_files": 1000, "f_favail": 10}
    return type("Disk", (), fields | healthy | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"f_files": 0, "f_favail": 0}, ""),  # as on btrfs
        ({"f_flag": os.ST_NOSUID | os.ST_NOEXEC}, ""),
        ({"f_bavail": 512}, ""),
        ({"f_bavail": 511}, f"is full; free some space: `df -h {FOLDER}`"),
        ({"f_bavail": 0}, "is full"),
        ({"f_favail": 0}, f"has no free inodes; delete some files: `df -i {FOLDER}`"),
        ({"f_flag": os.ST_RDONLY}, f"is read-only; make it writable: `findmnt -T {FOLDER}`"),
        ({"f_flag": os.ST_RDONLY | os.ST_NOSUID, "f_bavail": 0}, "is read-only"),
    ],
)
def test_a_disk_that_cannot_be_written_fails_without_a_daemon_too(
    changes: dict[str, int], words: str
) -> None:
    found = account.disk_fault(FOLDER, disk(**changes))
    if not words:
        assert found is None
    else:
        assert found is not None
        assert (found.check, found.verdict) == (Check.STATE, FAIL)
        assert words in str(found)


def context_of(folder: Path, **changes: object) -> Context:
    known = Context(FOLDER, folder, os.geteuid(), None, NOTHING, NOTHING, {}, client.NoDaemon(FOLDER))
    return replace(known, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mode", "storage", "words"),
    [
        (0o500, WHY, "has mode 0500, but contains keys; run `sudo chmod 0700"),  # this is why
        (0o700, WHY, WHY),
        (0o500, "", "has mode 0500"),
        (0o700, "", ""),
    ],
)
async def test_a_fault_of_the_folder_comes_before_its_effect(
    tmp_path: Path, mode: int, storage: str, words: str
) -> None:
    tmp_path.chmod(mode)
    own = Account("hkswitch", os.geteuid(), os.getegid())
    bridge = BRIDGE._replace(storage=storage)
    (found,) = await account.state(context_of(tmp_path, account=own, bridge=bridge))
    tmp_path.chmod(0o700)
    assert found.verdict is (FAIL if words else OK)
    assert words in str(found)


async def test_a_folder_that_was_removed_fails_while_a_daemon_writes_there(tmp_path: Path) -> None:
    own, gone = Account("hkswitch", os.geteuid(), os.getegid()), tmp_path / "gone"
    (found,) = await account.state(context_of(gone, account=own, bridge=BRIDGE))
    assert found.verdict is OK
    (found,) = await account.state(context_of(gone, account=own, bridge=BRIDGE._replace(storage=WHY)))
    assert (found.verdict, found.what) == (FAIL, WHY)


@pytest.mark.parametrize("with_account", [True, False])
async def test_a_daemon_that_cannot_write_fails_for_every_user(tmp_path: Path, with_account: bool) -> None:
    tmp_path.chmod(0o700)
    own = Account("hkswitch", os.geteuid(), os.getegid()) if with_account else None
    asked = context_of(tmp_path, account=own, bridge=BRIDGE._replace(storage=WHY))
    (found,) = await account.state(asked)
    assert (found.check, found.verdict) == (Check.STATE, FAIL)
    assert str(found).startswith(f"{WHY}; check the disk with `df -h {tmp_path}`")


@pytest.mark.parametrize(("with_account", "verdict"), [(True, OK), (False, SKIP)])
async def test_a_daemon_that_can_write_leaves_it_to_the_folder(
    tmp_path: Path, with_account: bool, verdict: Verdict
) -> None:
    tmp_path.chmod(0o700)
    own = Account("hkswitch", os.geteuid(), os.getegid()) if with_account else None
    (found,) = await account.state(context_of(tmp_path, account=own, bridge=BRIDGE))
    assert found.verdict is verdict
