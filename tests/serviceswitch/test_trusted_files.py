"""Which files root believes; what needs root to be tried is in tests/host."""

import asyncio
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import pytest

from hkswitch.model.errors import Exit
from hkswitch.serviceswitch.trusted_files import (
    LARGEST_FILE_BYTES,
    NotThere,
    SharedRead,
    Untrusted,
    _contents,
    read,
    why_not,
)

PATH = PurePosixPath("/a/b")


def facts(uid: int, mode: int) -> os.stat_result:
    return os.stat_result((mode, 0, 0, 1, uid, 0, 0, 0, 0, 0))


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o444, 0o755])
def test_what_only_root_can_write_is_trusted(mode: int) -> None:
    assert why_not(PATH, facts(0, stat.S_IFREG | mode)) is None


@pytest.mark.parametrize(
    ("uid", "mode", "why"),
    [
        (1000, 0o644, "its owner is uid 1000, not root; run `sudo chown root /a/b`"),
        (1000, 0o600, "its owner is uid 1000, not root; run `sudo chown root /a/b`"),
        (65534, 0o444, "its owner is uid 65534, not root; run `sudo chown root /a/b`"),
        (0, 0o664, "other users can write it (mode 0664); run `sudo chmod go-w /a/b`"),
        (0, 0o646, "other users can write it (mode 0646); run `sudo chmod go-w /a/b`"),
    ],
)
def test_what_others_can_write_is_not_trusted(uid: int, mode: int, why: str) -> None:
    assert why_not(PATH, facts(uid, stat.S_IFREG | mode)) == why


ELSEWHERE = "keep the file in a folder that only root can write"
OR_ROOTS = f"{ELSEWHERE}; if this folder should be root's, run `sudo chown root /a/b`"


@pytest.mark.parametrize(
    ("uid", "mode", "why"),
    [
        (0, 0o755, None),
        (0, 0o1755, None),
        (0, 0o700, None),
        (
            0,
            0o2775,
            "other users can write it (mode 2775); run `sudo chmod go-w /a/b`",
        ),  # as /usr/local/bin was
        (0, 0o777, "other users can write it (mode 0777); run `sudo chmod go-w /a/b`"),
        (0, 0o1777, f"other users can write it (mode 1777); {ELSEWHERE}"),  # as /tmp
        (0, 0o3775, f"other users can write it (mode 3775); {ELSEWHERE}"),
        (1000, 0o755, f"its owner is uid 1000, not root; {OR_ROOTS}"),  # as a home
        (1000, 0o1777, f"its owner is uid 1000, not root; {OR_ROOTS}"),
    ],
)
def test_a_folder_that_others_need_is_not_to_be_taken_from_them(uid: int, mode: int, why: str | None) -> None:
    assert why_not(PATH, facts(uid, stat.S_IFDIR | mode)) == why


@pytest.mark.parametrize("path", ["/home/jo", "/home/jo/bin"])
def test_no_folder_of_a_home_is_to_be_taken_from_its_user(path: str) -> None:
    assert why_not(PurePosixPath(path), facts(1000, stat.S_IFDIR | 0o755)) == (
        f"its owner is uid 1000, not root; {ELSEWHERE}"
    )


def test_a_file_below_a_folder_that_others_can_write_is_not_trusted(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("groups: {}")
    with pytest.raises(Untrusted, match=r"(/tmp|pytest).* is not trusted: (other users|its owner)"):
        read(str(file))


def test_a_missing_file_is_said() -> None:
    with pytest.raises(NotThere, match=r"^/nonexistent does not exist"):
        read("/nonexistent/config.yaml")


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.EACCES, Exit.DENIED), (errno.ELOOP, Exit.DENIED), (errno.EMFILE, Exit.UNAVAILABLE)],
)
def test_the_exit_code_says_whether_another_attempt_can_help(
    monkeypatch: pytest.MonkeyPatch, number: int, code: Exit
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("hkswitch.serviceswitch.trusted_files.os.open", fail)
    with pytest.raises(Untrusted, match=os.strerror(number)) as raised:
        read("/etc/hkswitch/config.yaml")
    assert raised.value.exit_code is code


@contextmanager
def opened(path: Path) -> Iterator[int]:
    with path.open("rb") as file:
        yield file.fileno()


@pytest.mark.parametrize("mode", ["a", "w", "r+"])
def test_a_file_that_is_written_while_it_is_read_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    path, really_read = tmp_path / "config.yaml", os.read

    def reading(file: int, size: int) -> bytes:
        contents = really_read(file, size)
        with path.open(mode) as changing:
            changing.write("groups: {}")
        return contents

    path.write_text("groups: {web: {units: [httpd]}}")
    os.utime(path, (1, 1))
    monkeypatch.setattr(os, "read", reading)
    with opened(path) as file, pytest.raises(Untrusted, match="changed while it was being read"):
        _contents(str(path), file)


@pytest.mark.parametrize("size", [0, 1, LARGEST_FILE_BYTES])
def test_a_file_that_is_not_too_large_is_read_whole(tmp_path: Path, size: int) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"x" * size)
    with opened(path) as file:
        assert len(_contents(str(path), file)) == size


@pytest.mark.parametrize(
    ("path", "why"),
    [(None, "larger than 1048576 bytes"), (Path("/dev/zero"), "changed while it was being read")],
)
def test_a_file_that_is_too_large_or_endless_is_not_trusted(
    tmp_path: Path, path: Path | None, why: str
) -> None:
    if path is None:
        path = tmp_path / "config.yaml"
        path.write_bytes(b"x" * (LARGEST_FILE_BYTES + 1))
    with opened(path) as file, pytest.raises(Untrusted, match=why):
        _contents(str(path), file)


async def test_a_read_is_shared_by_what_was_scheduled_before_it_and_by_nothing_later() -> None:
    contents, seen = [b"old"], list[bytes]()
    shared, loop = SharedRead(lambda _: contents[0]), asyncio.get_running_loop()

    def request() -> None:
        seen.append(shared("config"))

    def change() -> None:
        contents[0] = b"new"
        loop.call_soon(request)  # it arrives after the change

    loop.call_soon(request)
    loop.call_soon(change)
    loop.call_soon(request)  # it arrived before the change
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert seen == [b"old", b"old", b"new"]


async def test_a_refused_read_is_not_shared(tmp_path: Path) -> None:
    shared, file = SharedRead(lambda path: Path(path).read_bytes()), tmp_path / "config.yaml"
    with pytest.raises(FileNotFoundError):
        shared(str(file))
    file.write_bytes(b"there")
    assert shared(str(file)) == b"there"
