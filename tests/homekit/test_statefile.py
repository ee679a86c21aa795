"""The state file: whole or not at all, for nobody else, and never silently replaced."""

import errno
import json
import os
from pathlib import Path

import pytest
from pyhap.state import State

from hkswitch.homekit import statefile
from hkswitch.homekit.pairing import Setup
from hkswitch.homekit.statefile import StateDamaged, StateUnwritable

SETUP = Setup("314-15-926", "7OSX")
CLIENT = b"8DE3A2C0-5D7B-4E7C-9F52-3F1B7A2D9E10"


def new_state() -> State:
    return State(address="127.0.0.1", port=51826, pincode=SETUP.code.encode())


def test_what_was_saved_is_read_back(tmp_path: Path) -> None:
    file, state = tmp_path / "deep" / "folder" / "bridge.json", new_state()
    state.add_paired_client(CLIENT, b"k" * 32, b"\x01")
    statefile.save(file, state, SETUP)
    stored = statefile.read(file)
    assert stored is not None
    assert (stored.setup, stored.paired, stored.device_id) == (SETUP, True, state.mac)
    loaded = new_state()
    statefile.load_into(file, loaded)
    assert (loaded.mac, loaded.paired_clients) == (state.mac, state.paired_clients)
    assert loaded.private_key.private_bytes_raw() == state.private_key.private_bytes_raw()


def test_it_is_for_nobody_else(tmp_path: Path) -> None:
    file = tmp_path / "state" / "bridge.json"
    statefile.save(file, new_state(), SETUP)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_no_file_is_none(tmp_path: Path) -> None:
    assert statefile.read(tmp_path / "bridge.json") is None


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    file = tmp_path / "bridge.json"
    statefile.save(file, new_state(), SETUP)
    before = file.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*(os, "fsync", full) if call == "fsync" else (Path, "rename", full))
    with pytest.raises(StateUnwritable, match="No space left on device"):
        statefile.save(file, new_state(), SETUP)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mac", 1),
        ("paired_clients", []),
        ("paired_clients", {"x": "y"}),
        ("private_key", "zz"),
        ("private_key", None),
        ("public_key", "00"),
        ("config_version", None),
    ],
)
def test_a_damaged_key_is_said(tmp_path: Path, key: str, value: object) -> None:
    file = tmp_path / "bridge.json"
    statefile.save(file, new_state(), SETUP)
    contents = json.loads(file.read_text())
    if value is None:
        del contents["accessory"][key]
    else:
        contents["accessory"][key] = value
    file.write_text(json.dumps(contents))
    with pytest.raises(StateDamaged):
        statefile.load_into(file, new_state())
