"""Which files root believes; what needs root to be tried is in tests/host."""

import io
import os
import stat
from pathlib import Path

import pytest

from hkswitch.serviceswitch.trusted import LARGEST_FILE_BYTES, NotThere, Untrusted, _contents, read, why_not


def facts(uid: int, mode: int) -> os.stat_result:
    return os.stat_result((mode, 0, 0, 1, uid, 0, 0, 0, 0, 0))


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o444, 0o755])
def test_what_only_root_can_write_is_trusted(mode: int) -> None:
    assert why_not(facts(0, stat.S_IFREG | mode)) is None


@pytest.mark.parametrize(
    ("uid", "mode", "why"),
    [
        (1000, 0o644, "its owner is uid 1000, not root; try: chown root"),
        (1000, 0o600, "its owner is uid 1000, not root; try: chown root"),
        (65534, 0o444, "its owner is uid 65534, not root; try: chown root"),
        (0, 0o664, "others than root can write it (mode 0664); try: chmod go-w"),
        (0, 0o646, "others than root can write it (mode 0646); try: chmod go-w"),
        (0, 0o1777, "others than root can write it (mode 1777); try: chmod go-w"),
    ],
)
def test_what_others_can_write_is_not_trusted(uid: int, mode: int, why: str) -> None:
    assert why_not(facts(uid, stat.S_IFREG | mode)) == why


def test_a_file_below_a_folder_that_others_can_write_is_not_trusted(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("groups: {}")
    with pytest.raises(Untrusted, match=r"(/tmp|pytest).* is not trusted: (others|its owner)"):
        read(str(file))


def test_a_missing_file_is_said() -> None:
    with pytest.raises(NotThere, match=r"^/nonexistent does not exist"):
        read("/nonexistent/config.yaml")


class Changing(io.FileIO):
    """A file that somebody writes to whenever it is read."""

    def __init__(self, file: Path, mode: str) -> None:
        super().__init__(file)
        self._file, self._mode = file, mode

    def read(self, size: int | None = -1, /) -> bytes:
        contents = super().read(size)
        with self._file.open(self._mode) as changing:
            changing.write("groups: {}")
        return contents


@pytest.mark.parametrize("mode", ["a", "w", "r+"])
def test_a_file_that_is_written_while_it_is_read_is_not_trusted(tmp_path: Path, mode: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("groups: {web: {units: [httpd]}}")
    os.utime(file, (1, 1))
    with Changing(file, mode) as opened, pytest.raises(Untrusted, match="written while it was read"):
        _contents(str(file), opened)


@pytest.mark.parametrize("size", [0, 1, LARGEST_FILE_BYTES])
def test_a_file_that_is_not_too_large_is_read_whole(tmp_path: Path, size: int) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(b"x" * size)
    with file.open("rb") as opened:
        assert len(_contents(str(file), opened)) == size


def test_a_file_that_is_too_large_or_endless_is_not_trusted(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(b"x" * (LARGEST_FILE_BYTES + 1))
    for path in (file, Path("/dev/zero")):
        with path.open("rb") as opened, pytest.raises(Untrusted, match="larger than 1048576 bytes"):
            _contents(str(path), opened)
