"""The config is replaced as a whole, stays its owner's, and is neither a link nor somebody else's file."""

import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from hkswitch.editing import config_replacement
from hkswitch.editing.config_replacement import (
    CannotReplace,
    check_rights,
    is_of_service,
    locked,
    read_original,
)
from hkswitch.model.errors import ConfigUnreadable, Exit, Failure
from hkswitch.model.yaml_nodes import MOST_CONFIG_BYTES
from hkswitch.serviceswitch.trusted_files import NotThere, Untrusted


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"old")
    path.chmod(0o640)
    return path


def test_a_replaced_file_keeps_its_mode_and_owner_and_leaves_nothing_beside_it(file: Path) -> None:
    before = file.stat()
    file.with_name(".config.yaml.edit-new").write_text("of a command that was killed")
    if os.geteuid() == 0:
        os.chown(file, 0, 4242)
    with locked(file):
        read_original(file).replace(b"new")
    after = file.stat()
    assert file.read_bytes() == b"new"
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert (after.st_uid, after.st_ino != before.st_ino) == (before.st_uid, True)
    assert os.geteuid() != 0 or after.st_gid == 4242
    assert os.listdir(file.parent) == ["config.yaml"]  # noqa: PTH208


def test_extended_attributes_are_kept(file: Path) -> None:
    try:
        os.setxattr(file, "user.note", b"mine")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    read_original(file).replace(b"new")
    assert os.getxattr(file, "user.note") == b"mine"


def as_link(file: Path) -> None:
    file.rename(file.with_name("elsewhere"))
    file.symlink_to("elsewhere")


def as_hard_link(file: Path) -> None:
    file.with_name("other").hardlink_to(file)


def as_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def as_too_large_file(file: Path) -> None:
    file.write_bytes(b"#" * (MOST_CONFIG_BYTES + 1))


def as_fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (as_link, "it is not a regular file; name the file itself, not a link to it"),
        (as_hard_link, "it has 2 hard links"),
        (as_folder, "it is not a regular file"),
        (as_too_large_file, "it is larger than 1048576 bytes"),
        (as_fifo, "it is not a regular file"),
        (Path.unlink, "No such file or directory"),
    ],
)
def test_a_file_that_is_no_plain_file_is_refused(
    file: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    spoil(file)
    with pytest.raises((CannotReplace, ConfigUnreadable), match=reason):
        read_original(file)


def test_another_users_file_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    if file.stat().st_uid == 0:
        assert (
            read_original(file).data == b"old"
        )  # root's may be read; to replace it, the folder must allow it
        os.chown(file, 1234, -1)
    with pytest.raises(CannotReplace, match="its owner is uid") as caught:
        read_original(file)
    assert caught.value.exit_code is Exit.DENIED


def test_root_changes_the_services_config_only_if_the_helper_would_trust_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_replacement, "DEFAULT", file)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    file.chmod(0o666)
    monkeypatch.chdir(file.parent)
    for path in (file, Path(file.name), file.parent / ".." / file.parent.name / file.name):
        with pytest.raises(Untrusted, match="is not trusted"):
            read_original(path)
    assert not is_of_service(file.with_name("other.yaml"))
    missing = Path("/nonexistent-config.yaml")
    monkeypatch.setattr(config_replacement, "DEFAULT", missing)
    with pytest.raises(NotThere, match="does not exist"):
        read_original(missing)


@pytest.mark.parametrize("change", [lambda file: file.write_bytes(b"other"), as_link, Path.unlink])
def test_a_file_that_changed_since_it_was_read_is_left_alone(
    file: Path, change: Callable[[Path], object]
) -> None:
    original = read_original(file)
    change(file)
    after = file.read_bytes() if file.exists() else None
    with pytest.raises(Failure):
        original.replace(b"new")
    assert (file.read_bytes() if file.exists() else None) == after
    assert not [each for each in file.parent.iterdir() if each.name.startswith(".")]


def test_a_failed_write_changes_nothing_and_leaves_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    original = read_original(file)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CannotReplace, match="No space left on device") as caught:
        original.replace(b"new")
    assert caught.value.exit_code is Exit.CANNOT_WRITE
    assert [(each.name, each.read_bytes()) for each in file.parent.iterdir()] == [("config.yaml", b"old")]


def test_one_change_at_a_time(file: Path) -> None:
    with locked(file):
        with pytest.raises(CannotReplace, match="another hkswitch command is changing it"), locked(file):
            pass
        lock = file.with_name(".config.yaml.lock")
        assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    with locked(file):  # the lock of a command that was killed does not count
        pass
    lock.touch()
    with locked(file):
        pass
    assert not lock.exists()


def test_a_lock_that_was_removed_while_it_was_opened_does_not_count(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, flock, times = file.with_name(".config.yaml.lock"), fcntl.flock, 0

    def removing(descriptor: int, how: int) -> None:
        nonlocal times
        times += 1
        flock(descriptor, how)
        if times == 1:
            lock.unlink()

    monkeypatch.setattr(fcntl, "flock", removing)
    with locked(file):
        assert times == 2
        assert lock.exists()


def test_a_lock_that_is_a_link_is_not_followed(file: Path) -> None:
    file.with_name(".config.yaml.lock").symlink_to("target")
    with pytest.raises(CannotReplace), locked(file):
        pass
    assert not file.with_name("target").exists()


def test_without_rights_on_the_folder_nothing_is_begun(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_rights(file)
    with pytest.raises(CannotReplace, match=r"there is no folder .*/none"):
        check_rights(file.parent / "none" / "config.yaml")
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    for user_id, reason in ((1000, "permission denied; use sudo"), (0, f"{file.parent} is not writable")):
        monkeypatch.setattr(os, "geteuid", lambda user_id=user_id: user_id)
        with pytest.raises(CannotReplace, match=reason) as caught:
            check_rights(file)
        assert caught.value.exit_code is Exit.DENIED
