"""`hkswitch backup`, `restore` and `reset`: whole or not at all, and nothing that was removed comes back."""

import errno
import hashlib
import io
import json
import os
import random
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from hkswitch.backend.simulated import SimulatedHost
from hkswitch.backup import replacement
from hkswitch.backup.backup_file import read_backup
from hkswitch.backup.backup_format import (
    MOST_BACKUP_BYTES,
    Backup,
    SavedFile,
    encode_backup,
    parse_backup,
)
from hkswitch.cli import backup as backup_module
from hkswitch.cli import restore as restore_module
from hkswitch.cli import state_folder as state_folder_module
from hkswitch.cli.backup import ASSUMED_PART, CONFIG_PART, STATE_PART, backup
from hkswitch.cli.config_change import to_change
from hkswitch.cli.reset import reset
from hkswitch.cli.restore import restore
from hkswitch.daemon.kept_alerts import ALERTS_FILE_NAME
from hkswitch.editing.config_replacement import locked
from hkswitch.hap import state_file
from hkswitch.hap.restored_state import UNSEEN_CHANGES
from hkswitch.hap.state_file import BACKUP_NAME, FILE_NAME, LOCK_NAME, Stored
from hkswitch.hap.state_format import encode
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.group import Group
from tests.hap.conftest import Served
from tests.hap.test_state_file import ADMIN, OTHER_ADMIN, USER, stored
from tests.support.controller import Controller
from tests.support.pairings import folder_for_all_users

CONFIG: Final = b"groups: {web: {units: [httpd]}, tv: {momentary: true, commands: {start: [/bin/on]}}}\n"
NEW_CONFIG: Final = b"groups: {mail: {units: [postfix]}}\n"
NOBODY: Final = 65534
ASSUMED: Final = b'{"version": 1, "on": {"lamp": "0123456789abcdef"}}'


@pytest.fixture(autouse=True)
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """No bridge answers: asking takes three seconds."""
    monkeypatch.setattr(restore_module, "still_answers", lambda _id, _port: "")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A machine that was in use: its config, its state and its assumed states."""
    return machine(tmp_path / "old", stored(**{USER: 0}))


@pytest.fixture
def saved(old: Path) -> Path:
    """Its backup."""
    assert back_up(old)[0] == 0
    return old / "b"


def machine(folder: Path, state: Stored | None = None, config: bytes = CONFIG) -> Path:
    """Make the folder of a machine; without a state, it is a new one."""
    (folder / "etc").mkdir(parents=True)
    (folder / "etc" / "config.yaml").write_bytes(config)
    (folder / "etc" / "config.yaml").chmod(0o640)
    if state is not None:
        state_file.write(folder / "state", state)
        (folder / "state" / ASSUMED_PART).write_bytes(ASSUMED)
    return folder


def ran(command: click.Command, *words: Path | str, on: Path) -> tuple[int, str]:
    """Run a command on a machine, and return its exit code and what it said."""
    options = ["--state-dir", on / "state"]
    if command is not reset:
        options += ["--config", on / "etc" / "config.yaml"]
    try:
        done = CliRunner().invoke(
            command, [*map(str, (*words, *options))], standalone_mode=False, catch_exceptions=False
        )
    except Failure as failure:
        return int(failure.exit_code), str(failure)
    except click.UsageError as misuse:
        return int(Exit.USAGE), misuse.format_message()
    return done.exit_code, done.output


def back_up(on: Path) -> tuple[int, str]:
    return ran(backup, on / "b", on=on)


def read(on: Path) -> Stored:
    found = state_file.read(on / "state")
    assert found is not None
    return found


def everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    """The contents and modes of all files, except the lock and what a restore keeps."""
    return {
        str(file.relative_to(folder)): (file.read_bytes(), file.stat().st_mode)
        for file in folder.rglob("*")
        if file.is_file() and file.name != LOCK_NAME and "replaced-" not in file.parent.name
    }


def kept(on: Path) -> dict[str, bytes]:
    """What a restore has kept."""
    [folder] = (on / "etc").glob("replaced-*")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {each.stat().st_mode & 0o777 for each in folder.iterdir()} <= {0o600}
    return {each.name: each.read_bytes() for each in folder.iterdir()}


def packed(body: object) -> bytes:
    """A backup with this body and the right checksum."""
    encoded = json.dumps(body).encode()
    return b"hkswitch backup 1 sha256:%b\n" % hashlib.sha256(encoded).hexdigest().encode() + encoded


# Backup


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_a_backup_has_everything_and_only_its_owner_can_read_it(old: Path, umask: int) -> None:
    before, mask = everything(old), os.umask(umask)
    try:
        done = back_up(old)
    finally:
        os.umask(mask)
    what = f"2 groups, and the bridge {read(old).device_id} with 2 controllers"
    keep = "It contains the bridge's private keys: keep it where only you can read it."
    assert done == (0, f"Backed up {what}, to {old / 'b'}.\n{keep}\n")
    assert (old / "b").stat().st_mode & 0o777 == 0o600
    assert read_backup(old / "b").files == {
        CONFIG_PART: SavedFile(CONFIG, 0o640),
        STATE_PART: SavedFile(encode(read(old)), 0o600),
        ASSUMED_PART: SavedFile(ASSUMED, 0o600),
    }
    assert everything(old).keys() == before.keys() | {"b"}


def occupy(kind: str, file: Path) -> None:
    if kind == "a file":
        file.write_text("mine")
    elif kind == "a folder":
        file.mkdir()
    elif kind == "a pipe":
        os.mkfifo(file)
    else:
        file.symlink_to(file.parent / ("etc/config.yaml" if kind == "a link" else "none"))


@pytest.mark.parametrize("kind", ["a file", "a folder", "a pipe", "a link", "a dangling link"])
def test_nothing_is_ever_overwritten_and_no_link_is_followed(old: Path, kind: str) -> None:
    occupy(kind, old / "b")
    before, names = everything(old) if kind != "a pipe" else {}, {*old.iterdir()}
    code, said = back_up(old)
    assert (code, said) == (
        73,
        f"cannot write {old / 'b'}: it already exists; remove it, or name another file",
    )
    assert {*old.iterdir()} == names
    assert kind == "a pipe" or everything(old) == before
    assert not (old / "none").exists()


@pytest.mark.parametrize(("number", "code"), [(errno.EPERM, 0), (errno.ENOTSUP, 0), (errno.EIO, 73)])
@pytest.mark.parametrize("is_there", [False, True])
def test_a_file_system_without_links_is_good_enough_for_a_backup(
    old: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int, *, is_there: bool
) -> None:
    def link(*_: object, **__: object) -> None:
        if is_there:  # only now
            (old / "b").write_text("mine")
        raise OSError(number, "no links")

    monkeypatch.setattr(os, "link", link)
    assert back_up(old)[0] == (73 if is_there else code)
    if is_there:
        assert (old / "b").read_text() == "mine"
    assert is_there or (old / "b").exists() is (code == 0)
    assert not [*old.glob(".*")]


def mistaken_config(on: Path) -> None:
    (on / "etc" / "config.yaml").write_text("groups: {web: {unit: x}}")


def no_config(on: Path) -> None:
    (on / "etc" / "config.yaml").unlink()


def no_state(on: Path) -> None:
    state_file.remove(on / "state")


def damaged_state(on: Path) -> None:
    for name in (FILE_NAME, BACKUP_NAME):
        (on / "state" / name).write_text("{")


def newer_state(on: Path) -> None:
    (on / "state" / FILE_NAME).write_text('{"version": 99}')


NOT_BACKED_UP: Final[dict[str, tuple[Callable[[Path], None], int, str]]] = {
    "mistakes": (mistaken_config, 78, "has 1 mistake; run `sudo hkswitch check --config "),
    "no config": (no_config, 78, "No such file or directory"),
    "no bridge": (no_state, 69, "there is no bridge in "),
    "damaged": (damaged_state, 65, "bridge.json is damaged (not JSON)"),
    "newer": (newer_state, 65, "a newer version of hkswitch wrote it"),
}


@pytest.mark.parametrize("what", NOT_BACKED_UP)
def test_what_could_not_be_restored_is_not_backed_up(old: Path, what: str) -> None:
    prepare, code, why = NOT_BACKED_UP[what]
    prepare(old)
    names = {*old.iterdir()}
    said = back_up(old)
    assert (said[0], why in said[1]) == (code, True), said
    assert {*old.iterdir()} == names


@pytest.mark.parametrize("contents", [b"{", b"[" * 100_000, b'{"version": 2, "on": {}}'])
def test_damaged_assumed_states_are_left_out_and_named(old: Path, contents: bytes) -> None:
    (old / "state" / ASSUMED_PART).write_bytes(contents)
    code, said = back_up(old)
    assert code == 0
    assert f"Left out {ASSUMED_PART}: it is damaged; the groups in it are assumed to be off." in said
    assert ASSUMED_PART not in read_backup(old / "b").files


def test_a_backup_while_the_daemon_writes_has_one_of_its_states(old: Path, tmp_path: Path) -> None:
    first = read(old)
    second = replace(first, failed_attempts=first.failed_attempts + 1)
    written = {encode(first), encode(second)}
    is_over = threading.Event()

    def write() -> None:
        while not is_over.is_set():
            for state in (second, first):
                state_file.write(old / "state", state)

    with state_file.locked(old / "state"):  # as the daemon has it
        thread = threading.Thread(target=write)
        thread.start()
        try:
            for number in range(30):
                file = tmp_path / f"backup-{number}"
                assert ran(backup, file, on=old)[0] == 0
                assert read_backup(file).files[STATE_PART].contents in written
        finally:
            is_over.set()
            thread.join()


# Restore


def test_a_new_machine_gets_everything(saved: Path, tmp_path: Path) -> None:
    new = machine(tmp_path / "new", config=NEW_CONFIG)
    code, said = ran(restore, saved, on=new)
    before = read(saved.parent)
    made = read_backup(saved)
    folder = next((new / "etc").glob("replaced-*"))
    unpair = said.partition("remove it again: run ")[2].partition("\n")[0]
    assert (code, said.splitlines()) == (
        0,
        [
            f"Restored {saved}, of {made.made_at:%Y-%m-%d %H:%M} UTC, made by hkswitch {made.made_by}:",
            f"  configuration {new}/etc/config.yaml: 2 groups (web, tv)",
            f"  bridge {before.device_id}: 2 controllers ({ADMIN}, {USER})",
            "  assumed to be on: lamp",
            f"The files that were replaced are in {folder}: delete that folder when you no longer need it.",
            f"If you removed a controller after the backup was made, remove it again: run {unpair}",
            "Next, start the daemon for this folder.",
        ],
    )
    assert "unpair ID" in unpair
    assert kept(new) == {"config.yaml": NEW_CONFIG}
    version = before.accessory["config_version"] + UNSEEN_CHANGES
    accessory = before.accessory | {"config_version": version}
    assert read(new) == replace(before, accessory=accessory, was_restored=True)
    assert everything(new) == {
        "etc/config.yaml": (CONFIG, 0o100640),
        f"state/{FILE_NAME}": (encode(read(new)), 0o100600),
        f"state/{BACKUP_NAME}": (encode(read(new)), 0o100600),
        f"state/{ASSUMED_PART}": (ASSUMED, 0o100600),
    }


def test_a_removed_controller_stays_removed_and_a_later_one_stays(saved: Path) -> None:
    on = saved.parent
    today = stored(**{OTHER_ADMIN: 1}).accessory
    names = ("paired_clients", "client_properties", "client_uuid_to_bytes")
    accessory = read(on).accessory | {name: today[name] for name in names} | {"config_version": 40}
    state_file.write(on / "state", replace(read(on), accessory=accessory, failed_attempts=9))
    (on / "etc" / "config.yaml").write_bytes(NEW_CONFIG)
    (on / "state" / ASSUMED_PART).write_bytes(ASSUMED.replace(b"lamp", b"fan"))
    code, said = ran(restore, saved, on=on)
    assert code == 0
    assert said.splitlines()[2:-2] == [
        f"  bridge {read(on).device_id}: 2 controllers ({ADMIN}, {OTHER_ADMIN})",
        f"Left out {USER}: this controller was removed after the backup was made.",
        f"Kept {OTHER_ADMIN}: this controller was paired after the backup was made.",
        f"Left out {ASSUMED_PART}: the assumed states are newer here.",
        "Not in the backup, so phones forget their rooms: mail.",
    ]
    assert read(on).accessory == accessory | {"config_version": 41}
    assert read(on).failed_attempts == 9
    assert (on / "etc" / "config.yaml").read_bytes() == CONFIG
    assert b"fan" in (on / "state" / ASSUMED_PART).read_bytes()
    assert kept(on)["config.yaml"] == NEW_CONFIG


def test_what_is_kept_of_alerts_is_about_a_machine_and_stays_there(old: Path, tmp_path: Path) -> None:
    alerts, ours = old / "state" / ALERTS_FILE_NAME, b"of this machine"
    alerts.write_bytes(ours)
    assert back_up(old)[0] == 0
    assert ALERTS_FILE_NAME not in read_backup(old / "b").files
    new = machine(tmp_path / "new")
    for on in (old, new):
        assert ran(restore, old / "b", on=on)[0] == 0
    assert ran(reset, "--yes", on=old)[0] == 0
    assert alerts.read_bytes() == ours
    assert not (new / "state" / ALERTS_FILE_NAME).exists()


def test_a_machine_with_another_unpaired_bridge_gets_that_of_the_backup(saved: Path, tmp_path: Path) -> None:
    new = machine(tmp_path / "new", another_bridge().without(None))
    before = (new / "state" / FILE_NAME).read_bytes()
    assert ran(restore, saved, on=new)[0] == 0
    assert read(new).device_id == read(saved.parent).device_id
    assert kept(new)[FILE_NAME] == before


@pytest.mark.parametrize(
    ("damage", "why"),
    [(damaged_state, "is damaged"), (newer_state, "was written by a newer version of hkswitch")],
)
def test_a_state_that_cannot_be_read_is_replaced_and_kept(
    saved: Path, damage: Callable[[Path], None], why: str
) -> None:
    on = saved.parent
    damage(on)
    damaged = (on / "state" / FILE_NAME).read_bytes()
    code, said = ran(restore, saved, on=on)
    assert code == 0
    assert f"The state that was here {why}: it is replaced.\n" in said
    assert {each.id for each in read(on).controllers} == {ADMIN, USER}
    assert "remove it again: run " in said
    assert kept(on)[FILE_NAME] == damaged


@pytest.mark.parametrize(("mode", "restored"), [(0o666, 0o644), (0o777, 0o644), (0o400, 0o600), (0, 0o600)])
def test_a_restored_config_can_be_written_only_by_its_owner(
    saved: Path, tmp_path: Path, mode: int, restored: int
) -> None:
    saved.write_bytes(with_body(saved, lambda body: body["files"][CONFIG_PART].update(mode=mode)))
    new = machine(tmp_path / "new")
    assert ran(restore, saved, on=new)[0] == 0
    assert (new / "etc" / "config.yaml").stat().st_mode & 0o777 == restored


@pytest.mark.parametrize("suffix", ["old", "new", "bak"])
def test_hidden_files_beside_the_config_stay(saved: Path, tmp_path: Path, suffix: str) -> None:
    new = machine(tmp_path / "new")
    mine = new / "etc" / f".config.yaml.{suffix}"
    mine.write_text("mine")
    assert ran(restore, saved, on=new)[0] == 0
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("name", ["latches.json", "host-keys/nas.pub"])
def test_a_file_that_only_a_newer_version_knows_is_left_out_and_named(
    saved: Path, tmp_path: Path, name: str
) -> None:
    made = read_backup(saved)
    later = Backup({**made.files, name: SavedFile(b"{}")}, made.made_at, "9.0")
    saved.write_bytes(encode_backup(later))
    new = machine(tmp_path / "new")
    code, said = ran(restore, saved, on=new)
    assert code == 0
    assert f"Left out {name}: this version of hkswitch does not know it." in said.splitlines()
    assert not (new / "state" / name).exists()


def test_a_restore_again_changes_nothing_but_c(saved: Path, tmp_path: Path) -> None:
    new = machine(tmp_path / "new")
    assert ran(restore, saved, on=new)[0] == 0
    before = read(new)
    assert ran(restore, saved, on=new)[0] == 0
    assert read(new).accessory["config_version"] == before.accessory["config_version"] + 1
    assert read(new).controllers == before.controllers
    assert len([*(new / "etc").glob("replaced-*")]) == 2


def test_a_bridge_that_returns_keeps_what_changed_on_the_other_machine(saved: Path, tmp_path: Path) -> None:
    on, other = saved.parent, machine(tmp_path / "other")
    assert ran(restore, saved, on=other)[0] == 0
    today = stored(**{OTHER_ADMIN: 1}).accessory
    names = ("paired_clients", "client_properties", "client_uuid_to_bytes")
    accessory = read(other).accessory | {name: today[name] for name in names}
    state_file.write(other / "state", replace(read(other), accessory=accessory))
    assert back_up(other)[0] == 0
    code, said = ran(restore, other / "b", on=on)
    assert code == 0
    assert "The state that was here is older than the backup: it is replaced.\n" in said
    assert {each.id for each in read(on).controllers} == {ADMIN, OTHER_ADMIN}
    assert read(on).accessory["config_version"] == accessory["config_version"] + UNSEEN_CHANGES


async def test_a_paired_controller_goes_on_and_a_removed_one_does_not(tmp_path: Path) -> None:
    group = Group("web", "Web", ("httpd.service",))
    on = machine(tmp_path / "old")
    served = await Served.start(on / "state", SimulatedHost((group,)), (group,))
    controller = await served.pair()
    seen = await controller.accessories()
    pairing = dict(controller.pairing.pairing_data)
    await controller.close()
    assert back_up(on)[0] == 0
    await served.stop()
    new = machine(tmp_path / "new")
    assert ran(restore, on / "b", on=new)[0] == 0
    moved = await Served.start(new / "state", SimulatedHost((group,)), (group,))
    again = Controller.of_pairing(pairing, moved.address, moved.port)
    try:
        assert moved.bridge._driver.twins is not None, "the old machine may be started again"
        assert await again.accessories() == seen
        await again.look()
        assert await again.write("Web", on=True) == 0
        moved.bridge.unpair(moved.bridge.controllers()[0].id)
    finally:
        await again.close()
        await moved.stop()
    code, said = ran(restore, on / "b", on=new)
    assert (code, ": no controller\n" in said) == (0, True)
    assert read(new).controllers == ()


# Refusals, which change nothing


def another_bridge() -> Stored:
    other = stored()
    return replace(other, accessory=other.accessory | {"mac": "AA:BB:CC:DD:EE:FF"})


def of(saved: Path, **files: bytes | None) -> bytes:
    """The backup with other contents of its files."""
    made = read_backup(saved)
    names = {"config": CONFIG_PART, "state": STATE_PART, "assumed": ASSUMED_PART}
    changed = {names[each]: contents for each, contents in files.items()}
    kept_files = {name: each for name, each in made.files.items() if changed.get(name, b"") is not None}
    new = {
        name: SavedFile(changed[name] or b"", each.mode) if name in changed else each
        for name, each in kept_files.items()
    }
    return encode_backup(Backup(new, made.made_at, made.made_by))


def with_body(saved: Path, change: Callable[[Any], object]) -> bytes:
    """The backup with another body, and the right checksum."""
    body = json.loads(saved.read_bytes().partition(b"\n")[2])
    change(body)
    return packed(body)


def named(name: str) -> Callable[[Any], object]:
    return lambda body: body["files"].update({name: {"mode": 384, "base64": ""}})


def state_with(saved: Path, **accessory: object) -> bytes:
    found = read(saved.parent)
    return of(saved, state=encode(replace(found, accessory=found.accessory | accessory)))


def assuming(saved: Path, *ids: str) -> bytes:
    return of(saved, assumed=json.dumps({"version": 1, "on": dict.fromkeys(ids, "0" * 16)}).encode())


REFUSED: Final[dict[str, tuple[Callable[[Path], bytes], int, str]]] = {
    "empty": (lambda _: b"", 65, "it is not a backup of hkswitch"),
    "another file": (lambda _: CONFIG, 65, "it is not a backup of hkswitch"),
    "a newer format": (
        lambda saved: saved.read_bytes().replace(b"backup 1 ", b"backup 2 ", 1),
        65,
        "a newer version of hkswitch made it (format 2, this one reads 1); install that version or a newer",
    ),
    "format 0": (lambda saved: saved.read_bytes().replace(b"backup 1 ", b"backup 0 ", 1), 65, "not a backup"),
    "cut": (lambda saved: saved.read_bytes()[:-1], 65, "damaged or incomplete (wrong checksum)"),
    "longer": (lambda saved: saved.read_bytes() + b" ", 65, "damaged or incomplete (wrong checksum)"),
    "no object": (lambda _: packed([]), 65, "unexpected contents"),
    "deep": (lambda _: packed_raw(b"[" * 100_000), 65, "unexpected contents"),
    "no time": (lambda saved: with_body(saved, lambda b: b.update(made_at="today")), 65, "unexpected"),
    "version": (lambda saved: with_body(saved, lambda b: b.update(made_by="\x1b[2J")), 65, "unexpected"),
    "a path": (lambda saved: with_body(saved, named("../../etc/cron.d/x")), 65, "unexpected contents"),
    "an absolute path": (lambda saved: with_body(saved, named("/etc/x")), 65, "unexpected contents"),
    "a hidden file": (lambda saved: with_body(saved, named(".x")), 65, "unexpected contents"),
    "a folder's parent": (lambda saved: with_body(saved, named("a/../x")), 65, "unexpected contents"),
    "a mode": (lambda saved: with_body(saved, lambda b: b["files"][CONFIG_PART].update(mode=0o4755)), 65, ""),
    "a bool": (lambda saved: with_body(saved, lambda b: b["files"][CONFIG_PART].update(mode=True)), 65, ""),
    "no base64": (
        lambda saved: with_body(saved, lambda b: b["files"][CONFIG_PART].update(base64="%")),
        65,
        "",
    ),
    "no config": (lambda saved: of(saved, config=None), 65, "it has no config.yaml"),
    "no state": (lambda saved: of(saved, state=None), 65, "it has no bridge.json"),
    "a damaged state": (lambda saved: of(saved, state=b"{"), 65, "its bridge.json is invalid: not JSON"),
    "a newer state": (lambda saved: of(saved, state=b'{"version": 9}'), 65, "a newer format of bridge.json"),
    "other keys": (lambda saved: state_with(saved, public_key="11" * 32), 65, "do not belong together"),
    "assumed": (lambda saved: of(saved, assumed=b"{}"), 65, "its assumed.json is invalid"),
    "an escape sequence": (lambda saved: assuming(saved, "\x1b[2J"), 65, "its assumed.json is invalid"),
    "half a character": (lambda saved: assuming(saved, "\ud800"), 65, "its assumed.json is invalid"),
    "too many assumed": (
        lambda saved: assuming(saved, *(f"group-{number}" for number in range(4000))),
        65,
        "its assumed.json is invalid",
    ),
    "a bad config": (lambda saved: of(saved, config=b"groups: {w: {unit: x}}"), 78, "config.yaml:1:14: "),
}


def packed_raw(encoded: bytes) -> bytes:
    return b"hkswitch backup 1 sha256:%b\n" % hashlib.sha256(encoded).hexdigest().encode() + encoded


@pytest.mark.parametrize("what", REFUSED)
def test_a_backup_that_is_not_sound_is_refused_and_changes_nothing(saved: Path, what: str) -> None:
    make, code, why = REFUSED[what]
    saved.write_bytes(make(saved))
    before = everything(saved.parent)
    said = ran(restore, saved, on=saved.parent)
    assert said[0] == code, said
    assert why in said[1]
    assert "\n" not in said[1]
    assert everything(saved.parent) == before
    assert not [*(saved.parent / "etc").glob("replaced-*")]


def damaged(contents: bytes, chance: random.Random) -> bytes:
    """Contents with one to three changes, as of a bad disk or a bad cable."""
    data = bytearray(contents)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(data))
        if chance.random() < 0.3:  # most bytes are in the body
            at = chance.randrange(min(len(data), 100))
        match chance.randrange(6):
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                data[at] = chance.randrange(256)
            case 2:
                del data[at : at + chance.randint(1, 600)]
            case 3:
                data[at:at] = bytes(chance.randrange(256) for _ in range(chance.randint(1, 9)))
            case 4:
                data[at : at + 512] = bytes(512)
            case _:
                del data[max(at, 1) :]
        data = data or bytearray(b"\0")
    return bytes(data)


def test_a_damaged_backup_is_refused_and_changes_nothing(saved: Path, *, long: bool) -> None:
    whole, before, chance = saved.read_bytes(), everything(saved.parent), random.Random(1)
    cut = [whole[:size] for size in (*range(120), len(whole) - 1)]
    flipped = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(120)]
    mutated = [damaged(whole, chance) for _ in range(10_000 if long else 300)]
    del before["b"]
    for contents in (*cut, *flipped, *mutated):
        if contents == whole:
            continue
        saved.write_bytes(contents)
        with pytest.raises(Failure) as caught:
            restore.callback(saved, saved.parent / "etc" / "config.yaml", saved.parent / "state")  # type: ignore[misc]
        assert caught.value.exit_code is Exit.DAMAGED
    now = everything(saved.parent)
    del now["b"]
    assert now == before


def paired_bridge(saved: Path) -> Iterator[None]:
    state_file.write(saved.parent / "state", another_bridge())
    yield


def running_daemon(saved: Path) -> Iterator[None]:
    with state_file.locked(saved.parent / "state"):
        yield


def running_edit(saved: Path) -> Iterator[None]:
    with locked(saved.parent / "etc" / "config.yaml"):
        yield


def links_in_a_circle(saved: Path) -> Iterator[None]:
    file = saved.parent / "etc" / "config.yaml"
    file.unlink()
    file.symlink_to(file.name)
    yield


def folder_in_the_way(saved: Path) -> Iterator[None]:
    for name in (FILE_NAME, BACKUP_NAME):
        (saved.parent / "state" / name).unlink()
        (saved.parent / "state" / name).mkdir()
    yield


def writable_for_others(saved: Path) -> Iterator[None]:
    saved.chmod(0o620)
    yield


def huge(saved: Path) -> Iterator[None]:
    with saved.open("r+b") as file:
        file.truncate(MOST_BACKUP_BYTES * 100)  # without that many blocks
    yield


def no_file(saved: Path) -> Iterator[None]:
    saved.unlink()
    yield


def a_pipe(saved: Path) -> Iterator[None]:
    saved.unlink()
    os.mkfifo(saved)
    yield
    saved.unlink()


def a_device(saved: Path) -> Iterator[None]:
    saved.unlink()
    saved.symlink_to("/dev/zero")
    yield
    saved.unlink()


UNWANTED: Final[dict[str, tuple[Callable[[Path], Iterator[None]], int, str]]] = {
    "a paired bridge": (
        paired_bridge,
        78,
        "has paired controllers already; run `sudo hkswitch unpair --all`",
    ),
    "a daemon": (running_daemon, 69, f"process {os.getpid()} uses "),
    "an edit": (running_edit, 69, "another hkswitch command is changing it; wait until that has ended"),
    "a circle": (links_in_a_circle, 65, "config.yaml is not a regular file; move it away"),
    "folders": (folder_in_the_way, 65, f"{FILE_NAME} is not a regular file; move it away"),
    "writable": (
        writable_for_others,
        77,
        "other users may write it, and root runs the commands in it; if you",
    ),
    "huge": (huge, 65, f"it is larger than {MOST_BACKUP_BYTES} bytes"),
    "no file": (no_file, 64, "No such file or directory"),
    "a pipe": (a_pipe, 65, "it is not a regular file"),
    "a device": (a_device, 65, "it is not a regular file"),
}


@pytest.mark.parametrize("what", UNWANTED)
def test_what_cannot_be_done_safely_is_refused_and_changes_nothing(saved: Path, what: str) -> None:
    prepare, code, why = UNWANTED[what]
    prepared = prepare(saved)
    next(prepared)
    folders = [saved.parent / "etc", saved.parent / "state"]
    before = [everything(folder) for folder in folders]
    said = ran(restore, saved, on=saved.parent)
    assert (said[0], why in said[1]) == (code, True), said
    assert [everything(folder) for folder in folders] == before
    next(prepared, None)


def a_link_for_the_state(folder: Path, mine: Path) -> None:
    for name in (FILE_NAME, BACKUP_NAME):
        (folder / name).symlink_to(mine)


def a_link_for_the_assumed_states(folder: Path, mine: Path) -> None:
    (folder / ASSUMED_PART).symlink_to(mine)


def links_for_new_files(folder: Path, mine: Path) -> None:
    for name in (FILE_NAME, BACKUP_NAME, ASSUMED_PART):
        (folder / f".{name}.restore-new").symlink_to(mine)
        (folder / f".{name}.restore-old").symlink_to(mine)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
@pytest.mark.parametrize(
    ("plant", "code"),
    [(a_link_for_the_state, 65), (a_link_for_the_assumed_states, 65), (links_for_new_files, 0)],
)
def test_links_of_the_daemons_user_misdirect_no_restore(
    saved: Path, plant: Callable[[Path, Path], None], code: int
) -> None:
    with folder_for_all_users() as open_to_all:
        new = machine(open_to_all / "new", config=NEW_CONFIG)
        (new / "mine").write_text("root's")
        (new / "state").mkdir(mode=0o700)
        plant(new / "state", new / "mine")
        os.chown(new / "state", NOBODY, NOBODY)
        assert ran(restore, saved, on=new)[0] == code
        assert (new / "mine").read_text() == "root's"
        assert (new / "mine").stat().st_uid == 0
        found = {each.name: each.lstat() for each in (new / "state").iterdir() if not each.is_symlink()}
        assert {each.st_uid for each in found.values()} == {NOBODY}
        assert (FILE_NAME in found) is (code == 0)
        assert (new / "etc" / "config.yaml").read_bytes() == (NEW_CONFIG if code else CONFIG)
        assert (new / "etc" / "config.yaml").stat().st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_a_backup_that_another_user_could_have_written_is_refused_with_the_remedy(saved: Path) -> None:
    os.chown(saved, NOBODY, NOBODY)
    before = everything(saved.parent)
    why = f"it belongs to user {NOBODY}, and root runs the commands in it"
    remedy = f"run `sudo install -m 600 {saved} /root/hkswitch.backup` and restore /root/hkswitch.backup"
    said = f"cannot restore {saved}: {why}; if you trust it, {remedy}"
    assert ran(restore, saved, on=saved.parent) == (77, said)
    assert everything(saved.parent) == before


def test_a_bridge_that_still_answers_is_refused(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    def answers(device_id: str, port: int) -> str:
        asked.append((device_id, port))
        return "Homelab 3C7A answers mDNS with its identity"

    monkeypatch.setattr(restore_module, "still_answers", answers)
    new = machine(tmp_path / "new", config=NEW_CONFIG)
    before = everything(new)
    code, said = ran(restore, saved, on=new)
    device_id = read(saved.parent).device_id
    assert (code, asked) == (69, [(device_id, 0)])
    assert said.startswith(
        "cannot restore the backup: phones would confuse two bridges: "
        f"Homelab 3C7A answers mDNS with its identity ({device_id}); stop hkswitch on that machine; "
    )
    assert everything(new) == before


@pytest.mark.parametrize("command", [backup, restore])
def test_a_standard_stream_is_misuse(old: Path, command: click.Command) -> None:
    assert ran(command, "-", on=old) == (64, "a backup cannot be a standard stream; name a file")


@pytest.mark.parametrize(
    ("command", "doing"),
    [(backup, "back up hkswitch"), (restore, "restore the backup"), (reset, "reset the bridge")],
)
def test_the_services_files_are_only_for_root(
    old: Path, monkeypatch: pytest.MonkeyPatch, command: click.Command, doing: str
) -> None:
    monkeypatch.setattr(state_folder_module, "STATE_FOLDER", old / "state")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    before = everything(old)
    words = () if command is reset else (old / "b",)
    assert ran(command, *words, on=old) == (77, f"cannot {doing}: only root may; use sudo")
    assert everything(old) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may")
def test_the_service_has_to_be_stopped_with_systemctl(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_folder_module, "STATE_FOLDER", saved.parent / "state")
    with state_file.locked(saved.parent / "state"):
        _, said = ran(reset, "--yes", on=saved.parent)
    remedy = "run `sudo systemctl stop hkswitch`"
    folder = saved.parent / "state"
    assert said == f"cannot reset the bridge: process {os.getpid()} uses {folder}; {remedy}"


# Failures midway

CHANGES: Final = ("link", "rename", "unlink", "mkdir")
CALLS: Final = (*CHANGES, "fsync", "open", "write", "fchmod")


def interrupted(
    monkeypatch: pytest.MonkeyPatch, at: int, end: Callable[[], object], calls: tuple[str, ...] = CALLS
) -> Callable[[], bool]:
    """Call `end` instead of the operation with this number on a file; the result tells whether it came."""
    done = 0

    def counting(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 -- of os
            nonlocal done
            done += 1
            if done == at:
                end()
            return real(*arguments, **options)

        return call

    for name in calls:
        monkeypatch.setattr(os, name, counting(getattr(os, name)))
    return lambda: done >= at


def no_space() -> None:
    raise OSError(28, "No space left on device")


def killed(do: Callable[[], object]) -> int:
    """Run in a process that is killed, and return the signal, 0 if it came to its end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: xdist's workers have threads
        child = os.fork()
    if child == 0:
        with suppress(BaseException):
            do()
        os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_backup_that_fails_leaves_no_file(old: Path) -> None:
    before = everything(old)
    for at in range(1, 100):
        with pytest.MonkeyPatch.context() as patch:
            came = interrupted(patch, at, no_space)
            code, _ = back_up(old)
        if not came():
            break
        if code != 0:  # what comes after the backup is whole may fail
            assert everything(old) == before
        (old / "b").unlink(missing_ok=True)
        before = everything(old)
    assert 5 < at < 100


def test_a_backup_that_is_killed_is_whole_or_not_there(old: Path) -> None:
    for at in range(1, 100):
        with pytest.MonkeyPatch.context() as patch:
            interrupted(patch, at, kill_itself)
            number = killed(lambda: back_up(old))
        if (old / "b").exists():
            assert parse_backup((old / "b").read_bytes(), "b").files[CONFIG_PART].contents == CONFIG
            (old / "b").unlink()
        if number == 0:
            break
    assert 5 < at < 100


def put_back(on: Path, files: dict[str, tuple[bytes, int]]) -> None:
    """Put back what `everything` has returned."""
    for file in everything(on).keys() - files.keys():
        (on / file).unlink()
    for file, (contents, mode) in files.items():
        (on / file).write_bytes(contents)
        (on / file).chmod(mode & 0o777)


@pytest.fixture(params=["the same bridge", "another bridge"])
def target(request: pytest.FixtureRequest, saved: Path, tmp_path: Path) -> Path:
    """A machine to restore the backup on, with another config."""
    state = read(saved.parent) if request.param == "the same bridge" else another_bridge().without(None)
    return machine(tmp_path / "new", state, NEW_CONFIG)


def test_a_restore_that_fails_midway_leaves_everything_as_it_was(
    saved: Path, target: Path, *, long: bool
) -> None:
    before = everything(target)
    failed = 0
    for at in range(1, 300):
        with pytest.MonkeyPatch.context() as patch:
            came = interrupted(patch, at, no_space, CALLS if long else (*CHANGES, "fsync"))
            code, said = ran(restore, saved, on=target)
        if not came():
            break
        if code == 0:  # what failed was not needed, as an owner's note in the lock is not
            assert (target / "etc" / "config.yaml").read_bytes() == CONFIG
            put_back(target, before)
            shutil.rmtree(next((target / "etc").glob("replaced-*")))
            continue
        failed += 1
        assert everything(target) == before, (at, said)
        assert not [*(target / "etc").glob("replaced-*")], "copies of what was not replaced"
    assert failed > 20


def test_a_restore_that_is_killed_leaves_each_file_whole_and_can_be_repeated(
    saved: Path, target: Path, *, long: bool
) -> None:
    before = everything(target)
    names: set[tuple[bool, bool]] = set()
    state = f"state/{FILE_NAME}"
    for at in range(1, 300):
        with pytest.MonkeyPatch.context() as patch:
            interrupted(patch, at, kill_itself, CALLS if long else CHANGES)
            number = killed(lambda: ran(restore, saved, on=target))
        if number == 0:
            break
        now = everything(target)
        assert now["etc/config.yaml"][0] in {NEW_CONFIG, CONFIG}
        read(target)
        with to_change(target / "etc" / "config.yaml") as original:  # as `add` and `edit` do
            assert original.data == now["etc/config.yaml"][0]
        is_new = now["etc/config.yaml"][0] == CONFIG, now[state] != before[state]
        assert is_new != (False, True), "a new state with the old config makes phones forget accessories"
        if long or is_new not in names:
            assert ran(restore, saved, on=target)[0] == 0
            assert (target / "etc" / "config.yaml").read_bytes() == CONFIG
            assert not [*(target / "etc").glob(".*"), *(target / "state").glob(".*")]
        names.add(is_new)
        put_back(target, before)
    assert names == {(False, False), (True, False), (True, True)}


def test_a_file_that_cannot_be_put_back_is_named_with_the_copies(
    saved: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.rename

    def rename(source: Path, destination: Path, **options: Any) -> None:  # noqa: ANN401 -- of os
        if str(source).endswith((f"{FILE_NAME}.restore-new", "config.yaml.restore-old")):
            no_space()
        real(source, destination, **options)

    monkeypatch.setattr(os, "rename", rename)
    code, said = ran(restore, saved, on=target)
    assert code == 73
    [folder] = (target / "etc").glob("replaced-*")
    assert said == (
        f"cannot put back {target}/etc/config.yaml: No space left on device; "
        f"copies of the old files are in {folder}"
    )
    assert kept(target)["config.yaml"] == NEW_CONFIG


def test_a_signal_ends_it_only_when_all_files_are_replaced(saved: Path, target: Path) -> None:
    staged = replacement._stage

    def interrupting(file: Any, cleaning: Any) -> Any:  # noqa: ANN401 -- of the module
        os.kill(os.getpid(), signal.SIGTERM)
        return staged(file, cleaning)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replacement, "_stage", interrupting)
        assert killed(lambda: ran(restore, saved, on=target)) == signal.SIGTERM
    assert (target / "etc" / "config.yaml").read_bytes() == CONFIG
    assert read(target).device_id == read(saved.parent).device_id
    assert (target / "state" / FILE_NAME).read_bytes() == (target / "state" / BACKUP_NAME).read_bytes()
    left = [*(target / "etc").glob(".*"), *(target / "state").glob(".*")]
    assert left == [target / "etc" / ".config.yaml.lock"]


# Reset


class Terminal(io.StringIO):
    """A terminal on which this is typed."""

    def isatty(self) -> bool:
        return True


def answered(
    on: Path, typed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    reset.callback(on / "state", yes=False)  # type: ignore[misc]
    return capsys.readouterr().out


@pytest.mark.parametrize(("typed", "is_reset"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_a_reset_asks_and_then_only_the_config_is_left(
    old: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    typed: str,
    is_reset: bool,
) -> None:
    before, device_id = everything(old), read(old).device_id
    said = answered(old, typed, monkeypatch, capsys)
    assert said.startswith(
        f"The bridge {device_id} has 2 controllers, which must pair again, and lose rooms and automations. "
    )
    assert ("Nothing has changed." in said, "Remove the old bridge from the Home app." in said) == (
        not is_reset,
        is_reset,
    )
    gone = {f"state/{FILE_NAME}", f"state/{BACKUP_NAME}"} if is_reset else set()
    assert everything(old) == {name: each for name, each in before.items() if name not in gone}


@pytest.mark.parametrize(
    "damage", [damaged_state, newer_state, lambda on: (on / "state" / FILE_NAME).unlink()]
)
def test_a_state_that_cannot_be_used_is_reset(old: Path, damage: Callable[[Path], None]) -> None:
    damage(old)
    assert ran(reset, "--yes", on=old)[0] == 0
    assert state_file.read(old / "state") is None
    assert ran(reset, "--yes", on=old) == (0, f"There is no bridge in {old / 'state'}.\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may")
@pytest.mark.parametrize(
    ("kept", "is_service", "is_named"), [(2, True, True), (0, True, False), (1, False, False)]
)
def test_a_reset_names_the_folders_in_which_restores_left_earlier_keys(
    old: Path, monkeypatch: pytest.MonkeyPatch, kept: int, *, is_service: bool, is_named: bool
) -> None:
    folders = [old / "etc" / f"replaced-2026112{day}-120000" for day in range(kept)]
    for folder in folders:
        folder.mkdir(parents=True)
    module = sys.modules[reset.callback.__module__]
    monkeypatch.setattr(module, "DEFAULT", old / "etc" / "config.yaml")
    if is_service:
        monkeypatch.setattr(module, "STATE_FOLDER", old / "state")
    named = f"earlier keys in {', '.join(map(str, folders))}: delete what you no longer need.\n"
    code, said = ran(reset, "--yes", on=old)
    assert (code, named in said) == (0, is_named)


def test_without_a_terminal_a_reset_needs_yes(old: Path) -> None:
    before = everything(old)
    assert ran(reset, on=old) == (64, "standard input is no terminal to ask on; use --yes")
    assert everything(old) == before


def test_a_reset_that_is_killed_leaves_the_old_identity_or_none(old: Path) -> None:
    before = read(old)
    for at in range(1, 100):
        with pytest.MonkeyPatch.context() as patch:
            interrupted(patch, at, kill_itself)
            number = killed(lambda: ran(reset, "--yes", on=old))
        assert state_file.read(old / "state") in (None, before)
        if number == 0:
            break
        state_file.write(old / "state", before)
    assert 1 < at < 100


def test_it_refuses_while_the_daemon_runs(old: Path) -> None:
    before = everything(old)
    with state_file.locked(old / "state"):
        code, said = ran(reset, "--yes", on=old)
    assert (code, f"process {os.getpid()} uses {old / 'state'}; stop it" in said) == (69, True)
    assert everything(old) == before


def test_the_parts_of_a_backup_are_those_of_the_daemon() -> None:
    assert {CONFIG_PART, STATE_PART, ASSUMED_PART} == backup_module.PARTS


# Keys for other hosts

WITH_HOSTS: Final = b"hosts: {nas: {ssh: nas.lan}, pi: {ssh: pi.lan}}\n" + CONFIG


def key_files(name: str, bridge: str = "homelab") -> dict[str, tuple[bytes, int]]:
    """New files for a host, with their modes."""
    key, theirs = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public, known = (
        each.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) for each in (key, theirs)
    )
    return {
        f"hosts/{name}/id_ed25519": (private, 0o400),
        f"hosts/{name}/id_ed25519.pub": (public + f" {bridge}\n".encode(), 0o644),
        f"hosts/{name}/known_hosts": (f"{name} ".encode() + known + b"\n", 0o644),
    }


def with_keys(on: Path, *names: str) -> dict[str, tuple[bytes, int]]:
    """Give a machine keys for hosts; returns its files of hosts as `everything` does."""
    for name in names:
        (on / "etc/hosts" / name).mkdir(parents=True)
        for file, (contents, mode) in key_files(name).items():
            (on / "etc" / file).write_bytes(contents)
            (on / "etc" / file).chmod(mode)
    return keys_on(on)


def keys_on(on: Path) -> dict[str, tuple[bytes, int]]:
    return {file: found for file, found in everything(on).items() if file.startswith("etc/hosts/")}


def test_a_new_machine_gets_the_keys_for_other_hosts_with_their_modes(old: Path, tmp_path: Path) -> None:
    (old / "etc/config.yaml").write_bytes(WITH_HOSTS)
    before = with_keys(old, "nas", "pi")
    assert len(before) == 6
    code, said = back_up(old)
    assert (code, "Left out" in said) == (0, False)
    new = machine(tmp_path / "new", config=NEW_CONFIG)
    code, said = ran(restore, old / "b", on=new)
    assert (code, keys_on(new)) == (0, before)
    assert "  keys for other hosts: nas, pi\n" in said
    assert "host add" not in said
    folders = [new / "etc/hosts/nas", new / "etc/hosts/pi"]
    assert [each.stat().st_mode & 0o7777 for each in folders] == [0o750, 0o750]
    assert (new / "etc/hosts").stat().st_mode & 0o7777 == 0o755


def test_keys_that_are_replaced_are_kept_and_the_same_ones_stay(old: Path, tmp_path: Path) -> None:
    (old / "etc/config.yaml").write_bytes(WITH_HOSTS)
    before = with_keys(old, "nas", "pi")
    assert back_up(old)[0] == 0
    new = machine(tmp_path / "new", config=NEW_CONFIG)
    replaced = with_keys(new, "nas", "pi")
    for file in key_files("pi"):  # as in the backup
        (new / "etc" / file).unlink()  # only root writes to a file that is read-only
        shutil.copy2(old / "etc" / file, new / "etc" / file)
    assert ran(restore, old / "b", on=new)[0] == 0
    assert keys_on(new) == before
    copies = kept(new)
    assert copies["id_ed25519"] == replaced["etc/hosts/nas/id_ed25519"][0]
    assert copies.keys() == {"config.yaml", "id_ed25519", "id_ed25519.pub", "known_hosts"}


def test_copies_of_keys_for_two_hosts_have_two_names(old: Path, tmp_path: Path) -> None:
    (old / "etc/config.yaml").write_bytes(WITH_HOSTS)
    with_keys(old, "nas", "pi")
    assert back_up(old)[0] == 0
    new = machine(tmp_path / "new", config=NEW_CONFIG)
    replaced = with_keys(new, "nas", "pi")
    assert ran(restore, old / "b", on=new)[0] == 0
    for name in ("nas", "pi"):
        assert kept(new)[f"{name}.id_ed25519"] == replaced[f"etc/hosts/{name}/id_ed25519"][0]


@pytest.mark.parametrize(
    ("file", "contents"),
    [
        ("id_ed25519", None),
        ("id_ed25519", b"damaged"),
        ("id_ed25519.pub", b"ssh-ed25519 AAAA homelab\n"),
        ("known_hosts", b"pi ssh-ed25519 AAAA\n"),
    ],
)
def test_damaged_keys_are_left_out_and_the_host_is_to_be_added_again(
    old: Path, tmp_path: Path, file: str, contents: bytes | None
) -> None:
    (old / "etc/config.yaml").write_bytes(WITH_HOSTS)
    with_keys(old, "nas", "pi")
    (old / "etc/hosts/nas" / file).unlink()
    if contents is not None:
        (old / "etc/hosts/nas" / file).write_bytes(contents)
    code, said = back_up(old)
    assert (code, said.count("Left out the keys for the host nas: there are none, or they are damaged.")) == (
        0,
        1,
    )
    new = machine(tmp_path / "new", config=NEW_CONFIG)
    code, said = ran(restore, old / "b", on=new)
    assert code == 0
    assert {file.split("/")[2] for file in keys_on(new)} == {"pi"}
    assert "The backup has no keys for the host nas: run `sudo hkswitch host add nas nas.lan`." in said
    assert "host add pi" not in said
    with_keys(new, "nas")
    assert "host add" not in ran(restore, old / "b", on=new)[1]  # this machine has one


@pytest.mark.parametrize("spoilt", ["another key", "no key", "another name", "text"])
def test_a_backup_with_keys_that_cannot_be_used_is_refused(old: Path, tmp_path: Path, spoilt: str) -> None:
    (old / "etc/config.yaml").write_bytes(WITH_HOSTS)
    with_keys(old, "nas")
    assert back_up(old)[0] == 0
    others = {name: contents for name, (contents, _) in key_files("nas").items()}
    private, public, known = others
    change: dict[str, dict[str, bytes | None]] = {
        "another key": {private: others[private]},
        "no key": {private: None},
        "another name": {known: others[known].replace(b"nas", b"pi")},
        "text": {public: "schlüssel".encode()},
    }
    found = read_backup(old / "b")
    files = dict(found.files)
    for name, contents in change[spoilt].items():
        if contents is None:
            del files[name]
        else:
            files[name] = SavedFile(contents)
    (old / "b").write_bytes(encode_backup(found._replace(files=files)))
    new = machine(tmp_path / "new", config=NEW_CONFIG)
    before = everything(new)
    code, said = ran(restore, old / "b", on=new)
    assert (code, everything(new)) == (65, before)
    assert "its keys for the host nas are invalid" in said


def test_a_restore_that_fails_leaves_no_key_and_no_folder(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (old / "etc/config.yaml").write_bytes(WITH_HOSTS)
    with_keys(old, "nas", "pi")
    assert back_up(old)[0] == 0
    new = machine(tmp_path / "new", config=NEW_CONFIG)
    before = everything(new)
    real = os.rename

    def rename(source: Path, destination: Path, **options: Any) -> None:  # noqa: ANN401 -- of os
        if str(source).endswith(f"{FILE_NAME}.restore-new"):
            no_space()
        real(source, destination, **options)

    monkeypatch.setattr(os, "rename", rename)
    assert ran(restore, old / "b", on=new)[0] == 73
    assert everything(new) == before
    assert not (new / "etc/hosts").exists()


def test_roots_ssh_config_is_not_in_a_backup_as_a_note_says(old: Path) -> None:
    (old / "etc/ssh_config").write_text("Host nas.lan\n    ProxyJump gateway\n")
    assert "Left out" not in back_up(old)[1]  # nothing uses it
    (old / "b").unlink()
    (old / "etc/config.yaml").write_bytes(WITH_HOSTS)
    assert f"Left out {old}/etc/ssh_config, and the files that it names: copy them, too." in back_up(old)[1]
    assert not any("ssh_config" in name for name in read_backup(old / "b").files)


def test_bridges_that_are_allowed_here_are_not_in_a_backup_as_a_note_says(old: Path) -> None:
    assert "allowed here" not in back_up(old)[1]
    (old / "b").unlink()
    (old / "etc/authorized_keys").write_text("# keys\n")
    assert "Left out the bridges of other hosts that are allowed here" in back_up(old)[1]
    assert not any("authorized_keys" in name for name in read_backup(old / "b").files)
