"""State files with a valid checksum and invalid contents, which the daemon's user could write for root."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hkswitch.hap import state_file
from hkswitch.hap.state_file import FILE_NAME, StateDamaged
from hkswitch.hap.state_format import digest, encode
from hkswitch.model.errors import Exit, Failure
from tests.support.pairings import ADMIN, USER, folder_for_all_users, stored

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ID = ADMIN.lower()
Body = dict[str, Any]


def written(folder: Path, change: Callable[[Body], object]) -> None:
    body = json.loads(encode(stored(ADMIN, users=(USER,))))
    change(body)
    body.pop("sha256")
    (folder / FILE_NAME).write_text(json.dumps({**body, "sha256": digest(body)}))


def put(*path: str, value: object) -> Callable[[Body], object]:
    def change(body: Body) -> None:
        for key in path[:-1]:
            body = body[key]
        body[path[-1]] = value

    return change


def renamed(old: str, new: str) -> Callable[[Body], object]:
    def change(body: Body) -> None:
        for name in ("paired_clients", "client_properties"):
            part = body["accessory"][name]
            part[new] = part.pop(old)

    return change


def without(*path: str) -> Callable[[Body], object]:
    def change(body: Body) -> None:
        for key in path[:-1]:
            body = body[key]
        del body[path[-1]]

    return change


GOOD: dict[str, Callable[[Body], object]] = {
    "as it was written": lambda _: None,
    "keys of a later version": put("accessory", "later", value={"a": ["\x1b"]}),
    "no iids yet": without("iids"),
    "from a backup": put("restored", value=True),
    "format 1": put("version", value=1),
    "iids": put("iids", value={"1": {"3E": 1, "3E.14": 2}, str(2**32): {}}),
    "iids that format 1 does not know": lambda body: body.update(version=1, iids=None),
    "no hash yet": put("accessory", "accessories_hash", value=None),
    "permissions of a later version": put(
        "accessory", "client_properties", ID, value={"permissions": 3, "b": 1}
    ),
    "an older one without every controller's bytes": put("accessory", "client_uuid_to_bytes", value={}),
}

BAD: dict[str, Callable[[Body], object]] = {
    "an ID with an escape sequence": renamed(ID, "\x1b[2J"),
    "an ID that is none": renamed(ID, "admin"),
    "an ID in capitals": renamed(ID, ADMIN),
    "a key that is a number": put("accessory", "paired_clients", ID, value=1),
    "a key that is too short": put("accessory", "paired_clients", ID, value="33"),
    "a key that is no hexadecimal number": put("accessory", "paired_clients", ID, value="zz" * 32),
    "properties that are a list": put("accessory", "client_properties", ID, value=[]),
    "no permissions": put("accessory", "client_properties", ID, value={}),
    "permissions that are text": put("accessory", "client_properties", ID, value={"permissions": "1"}),
    "permissions that are null": put("accessory", "client_properties", ID, value={"permissions": None}),
    "permissions below zero": put("accessory", "client_properties", ID, value={"permissions": -1}),
    "bytes that are none": put("accessory", "client_uuid_to_bytes", ID, value="3"),
    "bytes of no controller": put("accessory", "client_uuid_to_bytes", "\x1b", value="33"),
    "bytes that are a list": put("accessory", "client_uuid_to_bytes", ID, value=[]),
    "a controller without properties": without("accessory", "client_properties", ID),
    "pairings that are a list": put("accessory", "paired_clients", value=[]),
    "a bridge without a private key": without("accessory", "private_key"),
    "a private key that is null": put("accessory", "private_key", value=None),
    "a public key with an escape sequence": put("accessory", "public_key", value="\x1b" * 64),
    "a bridge's ID with a newline": put("accessory", "mac", value="AA:BB:CC:DD:EE:FF\n"),
    "a config version that is text": put("accessory", "config_version", value="3"),
    "a config version that is huge": put("accessory", "config_version", value=10**100),
    "a hash that is a number": put("accessory", "accessories_hash", value=1),
    "attempts that are text": put("failed_attempts", value="3"),
    "attempts below zero": put("failed_attempts", value=-1),
    "attempts without end": put("failed_attempts", value=10**100),
    "iids that are null": put("iids", value=None),
    "iids in a list": put("iids", value=[]),
    "iids of an aid with an escape sequence": put("iids", value={"\x1b": {}}),
    "iids of a type with an escape sequence": put("iids", value={"1": {"\x1b": 1}}),
    "an iid that is text": put("iids", value={"1": {"3E": "1"}}),
    "an iid that is true": put("iids", value={"1": {"3E": True}}),
    "an iid that is huge": put("iids", value={"1": {"3E": 10**100}}),
    "an iid with two meanings": put("iids", value={"1": {"3E": 1, "49": 1}}),
    "a setup that is null": put("setup", value=None),
    "a setup code of other digits": put("setup", "code", value="314-15-\u0669\u0662\u0666"),
    "a setup ID with a newline": put("setup", "id", value="7OS\n"),
    "restored, but that is text": put("restored", value="yes"),
    "a version that is huge": put("version", value=10**50),
    "a version that is a list": put("version", value=[1]),
}


@pytest.mark.parametrize("good", GOOD)
def test_what_this_or_another_version_writes_is_read(tmp_path: Path, good: str) -> None:
    written(tmp_path, GOOD[good])
    found = state_file.read(tmp_path)
    assert found is not None
    assert [each.id for each in found.controllers] == [ADMIN, USER]


@pytest.mark.parametrize("bad", BAD)
def test_what_no_version_writes_is_damage_whatever_its_checksum_says(tmp_path: Path, bad: str) -> None:
    written(tmp_path, BAD[bad])
    with pytest.raises(StateDamaged) as caught:
        state_file.read(tmp_path)
    assert str(caught.value).isprintable()


def test_what_is_nested_too_deeply_is_damage(tmp_path: Path) -> None:
    for depth in (500, 900, 980, 990, 995, 1000, 5000, 100_000):
        (tmp_path / FILE_NAME).write_text('{"sha256": "", "a": ' + "[" * depth + "]" * depth + "}")
        with pytest.raises(StateDamaged):
            state_file.read(tmp_path)


@needs_root
def test_a_file_of_another_user_is_not_read_by_root(tmp_path: Path) -> None:
    written(tmp_path, GOOD["as it was written"])
    os.chown(tmp_path / FILE_NAME, 4242, 4242)
    with pytest.raises(Failure, match="it belongs to user 4242, not to root or user 0") as caught:
        state_file.read(tmp_path)
    assert caught.value.exit_code is Exit.DENIED


@needs_root
def test_roots_file_and_the_daemons_own_are_read_with_the_daemons_rights() -> None:
    with folder_for_all_users() as folder:
        written(folder, GOOD["as it was written"])
        os.chown(folder, 4242, 4242)
        for owner in (0, 4242):
            os.chown(folder / FILE_NAME, owner, owner)
            (folder / FILE_NAME).chmod(0o644)
            with state_file.as_owner(folder):
                assert os.geteuid() == 4242
                assert state_file.read(folder) is not None
            assert os.getresuid() == (0, 0, 0)


@needs_root
def test_what_has_a_users_rights_for_a_moment_stays_out_of_that_users_reach(tmp_path: Path) -> None:
    """The user may neither signal it nor read its environment."""
    before = os.getresuid(), os.getresgid(), os.getgroups()
    with state_file.with_rights(4242, 4242, [4343]):
        assert (os.geteuid(), os.getegid(), os.getgroups()) == (4242, 4242, [4343])
        process = os.getpid()
        reader, writer = os.pipe()
        if (child := os.fork()) == 0:  # pragma: no cover -- another process
            os.seteuid(0)
            os.setgroups([])
            os.setresgid(4242, 4242, 4242)
            os.setresuid(4242, 4242, 4242)
            os.write(writer, bytes([reaches(process)]))
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reader, 1) == b"\0"
        os.close(reader)
        os.close(writer)
    assert before == (os.getresuid(), os.getresgid(), os.getgroups())


def reaches(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:
        pass
    else:
        return True
    try:
        Path(f"/proc/{process}/environ").read_bytes()
    except PermissionError:
        return False
    return True
