"""`hkswitch pair` and `hkswitch unpair`: on a state folder, and against a daemon that listens."""

import asyncio
import errno
import json
import os
import pwd
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from hkswitch.cli.pair import list_as_text, network_note
from hkswitch.cli.picture_file import sudo_caller, write_picture
from hkswitch.cli.qr import INVITATION, Form, qr_lines
from hkswitch.cli.unpair import removed, select_controller
from hkswitch.control import socket_of
from hkswitch.control.server import served
from hkswitch.hap import state_file
from hkswitch.hap.setup_code import picture, unknown_controller
from hkswitch.model.errors import Exit, Failure
from hkswitch.protocol.report import BridgeReport, PairedController, Report
from tests.support.command import HKSWITCH, run, typed
from tests.support.pairings import ADMIN, DEVICE_ID, OTHER_ADMIN, SETUP, USER, Broken, NotedPairings, stored

A = PairedController(ADMIN, admin=True, connections=2)
B = PairedController(OTHER_ADMIN, admin=True)
U = PairedController(USER, admin=False)
GONE = "If the bridge is no longer in the Home app, run {} to pair again.\n"
NO_DAEMON = (
    "No phone can find the bridge: no daemon is listening on {}/control.sock; "
    "start the daemon for this folder.\n"
)
LOCKED = "No controller can pair: pairing is locked after 100 wrong setup codes; run "
MANY = tuple(PairedController(f"8{number:02}", admin=True) for number in range(20))
AGAIN = "`sudo hkswitch pair`"
CODE_AGAIN = f"No controller is paired now; run {AGAIN} to show the setup code again."


def code_again(folder: Path) -> str:
    return CODE_AGAIN.replace(AGAIN, typed("pair", folder))


@pytest.fixture(autouse=True)
def not_by_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SUDO_UID", "SUDO_GID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The state folder of a bridge with two admins and a user."""
    state_file.write(tmp_path, stored(ADMIN, OTHER_ADMIN, users=(USER,)))
    return tmp_path


def paired(folder: Path) -> list[str]:
    found = state_file.read(folder)
    assert found is not None
    return [controller.id for controller in found.controllers]


# What was typed


@pytest.mark.parametrize(
    ("among", "typed", "expected"),
    [
        ((A,), None, A),
        ((A, B, U), ADMIN, A),
        ((A, B, U), ADMIN.lower(), A),
        ((A, B, U), "1", U),
        ((A, B, U), "8de3a", A),
        ((PairedController("8DE3", admin=True), A), "8de3", PairedController("8DE3", admin=True)),
    ],
)
def test_the_controller_that_was_meant(
    among: tuple[PairedController, ...], typed: str | None, expected: PairedController
) -> None:
    assert select_controller(among, typed) == expected


@pytest.mark.parametrize(
    ("among", "typed", "sentence"),
    [
        (
            (A, B),
            None,
            (
                f"cannot choose a controller: 2 controllers are paired: {ADMIN}, {OTHER_ADMIN}; "
                "name one of them, or use --all"
            ),
        ),
        (
            (A, B, U),
            "8DE3",
            (
                f"cannot choose a controller: 2 IDs begin with '8DE3': {ADMIN}, {OTHER_ADMIN}; "
                "type more of the ID"
            ),
        ),
        ((A,), "", f"no paired controller has the ID ''; paired: {ADMIN}"),
        ((A, B), "5D7B", f"no paired controller has the ID '5D7B'; paired: {ADMIN}, {OTHER_ADMIN}"),
        ((A,), ADMIN + "0", f"no paired controller has the ID '{ADMIN}0'; paired: {ADMIN}"),
        ((A,), "*", f"no paired controller has the ID '*'; paired: {ADMIN}"),
        ((), "8", "no paired controller has the ID '8'; paired: none"),
        (
            MANY,
            "8",
            "cannot choose a controller: 20 IDs begin with '8': "
            + ", ".join(f"8{n:02}" for n in range(8))
            + " and 12 more; "
            "type more of the ID",
        ),
    ],
)
def test_what_means_no_controller_or_several_is_misuse(
    among: tuple[PairedController, ...], typed: str | None, sentence: str
) -> None:
    with pytest.raises(Failure) as caught:
        select_controller(among, typed)
    assert (caught.value.exit_code, str(caught.value)) == (Exit.USAGE, sentence)


@pytest.mark.parametrize(
    ("one", "before", "after", "words"),
    [
        (A, (A, B, U), (B, U), f"Removed {ADMIN}."),
        (A, (A,), (), f"Removed {ADMIN}. {CODE_AGAIN}"),
        (
            A,
            (A, U),
            (),
            f"Removed {ADMIN}, the last admin, and with it all others: {USER}. {CODE_AGAIN}",
        ),
        (None, (A, U), (), f"Removed all controllers: {ADMIN}, {USER}. {CODE_AGAIN}"),
    ],
)
def test_what_was_done_is_said(
    one: PairedController | None,
    before: tuple[PairedController, ...],
    after: tuple[PairedController, ...],
    words: str,
) -> None:
    assert removed(one, before, after, AGAIN) == words


def test_the_list_has_a_line_for_each_controller() -> None:
    assert list_as_text((A, U)).splitlines() == [
        f"{ADMIN}  admin  connected",
        f"{USER}  user   not connected",
    ]
    assert list_as_text(()) == "No controller is paired."


# Without a daemon


def test_an_unpaired_bridge_shows_its_code(tmp_path: Path) -> None:
    state_file.write(tmp_path, stored())
    note = NO_DAEMON.format(tmp_path)
    shown = "\n".join((*qr_lines(SETUP.payload, Form.BLOCKS), "", INVITATION.format(code=SETUP.code), note))
    assert run("pair", "--state-dir", tmp_path) == (0, shown, "")


@pytest.mark.parametrize("options", [["--json"], ["--png", "-"], ["--svg", "-"]], ids=" ".join)
def test_no_form_of_a_code_goes_without_the_warning_that_no_phone_can_use_it(
    tmp_path: Path, options: list[str]
) -> None:
    state_file.write(tmp_path, stored())
    shown = subprocess.run(
        [HKSWITCH, "pair", *options, "--state-dir", tmp_path], capture_output=True, check=True
    )
    assert shown.stderr.decode() == NO_DAEMON.format(tmp_path)
    if options == ["--json"]:
        assert json.loads(shown.stdout)["note"] == NO_DAEMON.format(tmp_path).rstrip("\n")


def test_a_paired_bridge_says_so(folder: Path) -> None:
    words = (
        "Already paired. To give other people access, share the home in the Home app. Code: 314-15-926\n"
        f"{GONE.format(typed('unpair --all', folder))}{NO_DAEMON.format(folder)}"
    )
    assert run("pair", "--state-dir", folder) == (0, words, "")


def test_too_many_failed_attempts_are_said_and_can_be_forgotten(tmp_path: Path) -> None:
    state_file.write(tmp_path, stored(failed_attempts=100))
    assert run("pair", "--state-dir", tmp_path) == (
        0,
        f"{LOCKED}{typed('pair --reset-attempts', tmp_path)} to unlock it.\n{NO_DAEMON.format(tmp_path)}",
        "",
    )
    assert run("pair", "--reset-attempts", "--state-dir", tmp_path) == (
        0,
        "Failed pairing attempts were reset; pairing is allowed again.\n",
        "",
    )
    assert "Setup code: 314-15-926" in run("pair", "--state-dir", tmp_path)[1]


def test_programs_read_the_setup(tmp_path: Path) -> None:
    state_file.write(tmp_path, stored(failed_attempts=100))
    code, output, _ = run("pair", "--json", "--state-dir", tmp_path)
    assert (code, json.loads(output)) == (
        0,
        {
            "paired": False,
            "device_id": DEVICE_ID,
            "setup_code": SETUP.code,
            "setup_payload": SETUP.payload,
            "failed_attempts": 100,
            "pairing_refused": True,
            "note": NO_DAEMON.format(tmp_path).rstrip("\n"),
        },
    )


def test_programs_read_the_controllers(folder: Path) -> None:
    code, output, _ = run("pair", "--list", "--json", "--state-dir", folder)
    assert (code, json.loads(output)) == (
        0,
        [
            {"id": ADMIN, "admin": True, "connections": 0},
            {"id": OTHER_ADMIN, "admin": True, "connections": 0},
            {"id": USER, "admin": False, "connections": 0},
        ],
    )


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        ([ADMIN], [OTHER_ADMIN, USER]),
        (["8de3a"], [OTHER_ADMIN, USER]),
        (["--all"], []),
    ],
)
def test_unpair_removes_what_was_named(folder: Path, arguments: list[str], left: list[str]) -> None:
    code, output, errors = run("unpair", *arguments, "--state-dir", folder)
    assert (code, output.split()[0], errors) == (0, "Removed", "")
    assert paired(folder) == left


def test_after_the_last_removal_the_code_is_shown_again(tmp_path: Path) -> None:
    state_file.write(tmp_path, stored(ADMIN))
    assert run("unpair", "--state-dir", tmp_path) == (0, f"Removed {ADMIN}. {code_again(tmp_path)}\n", "")
    assert "Setup code: 314-15-926" in run("pair", "--state-dir", tmp_path)[1]
    for arguments in (["unpair"], ["unpair", "--all"], ["pair", "--list"]):
        assert run(*arguments, "--state-dir", tmp_path) == (0, "No controller is paired.\n", "")


@pytest.mark.parametrize("named", ["zz", "", ADMIN, ADMIN[:4], "\x1b[2J"])
def test_who_is_named_must_be_paired_also_where_nobody_is(tmp_path: Path, named: str) -> None:
    state_file.write(tmp_path, stored())
    words = f"hkswitch: no paired controller has the ID {named!r}; paired: none\n"
    assert run("unpair", named, "--state-dir", tmp_path) == (64, "", words)


@pytest.mark.parametrize("arguments", [[], ["8DE3"], ["FFFF"], [""]])
def test_unpair_that_names_no_single_controller_changes_nothing(folder: Path, arguments: list[str]) -> None:
    code, output, errors = run("unpair", *arguments, "--state-dir", folder)
    assert (code, output, errors.count("\n")) == (64, "", 1)
    assert paired(folder) == [ADMIN, OTHER_ADMIN, USER]


def test_a_damaged_state_file_is_65_and_left_alone(tmp_path: Path) -> None:
    for name in (state_file.FILE_NAME, state_file.BACKUP_NAME):
        (tmp_path / name).write_bytes(b"{}")
    for arguments in (["unpair", "--all"], ["pair", "--reset-attempts"]):
        code, output, errors = run(*arguments, "--state-dir", tmp_path)
        assert (code, output, errors.count("\n")) == (65, "", 1)
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"{}"}


def test_a_state_folder_in_use_without_a_socket_is_69(folder: Path) -> None:
    holder = f"another hkswitch (process {os.getpid()}) uses it, but does not listen on {folder}/control.sock"
    words = f"cannot use {folder}: {holder}; try again in a moment, or stop it"
    with state_file.locked(folder):
        assert run("unpair", "--all", "--state-dir", folder) == (69, "", f"hkswitch: {words}\n")
        assert run("pair", "--state-dir", folder)[0] == 0
    assert paired(folder) == [ADMIN, OTHER_ADMIN, USER]


# With a daemon


async def ran(folder: Path, *arguments: str | Path) -> tuple[int, str, str]:
    return await asyncio.to_thread(run, *arguments, "--state-dir", folder)


async def test_a_daemon_is_asked_and_its_files_are_left_alone(folder: Path) -> None:
    pairings = NotedPairings((A, U))
    async with served(socket_of(folder), pairings):
        assert await ran(folder, "pair", "--list") == (0, list_as_text((A, U)) + "\n", "")
        assert await ran(folder, "unpair", "1f") == (0, f"Removed {USER}.\n", "")
        assert await ran(folder, "unpair") == (0, f"Removed {ADMIN}. {code_again(folder)}\n", "")
        assert "Setup code: 314-15-926" in (await ran(folder, "pair"))[1]
        assert (await ran(folder, "pair", "--reset-attempts"))[0] == 0
        assert await ran(folder, "unpair", ADMIN) == (64, "", f"hkswitch: {unknown_controller(ADMIN, ())}\n")
    assert pairings.done == [USER, ADMIN, "reset"]
    assert paired(folder) == [ADMIN, OTHER_ADMIN, USER]


@pytest.mark.parametrize(
    ("attempts", "words"),
    [
        (0, "There were no failed pairing attempts.\n"),
        (7, "Failed pairing attempts were reset; pairing was not locked.\n"),
        (100, "Failed pairing attempts were reset; pairing is allowed again.\n"),
    ],
)
def test_a_reset_says_what_it_changed(tmp_path: Path, attempts: int, words: str) -> None:
    state_file.write(tmp_path, stored(failed_attempts=attempts))
    assert run("pair", "--reset-attempts", "--state-dir", tmp_path) == (0, words, "")


async def test_a_daemon_that_refuses_pairing_says_so(folder: Path) -> None:
    async with served(socket_of(folder), NotedPairings(failed_attempts=123)):
        assert "locked after 100 wrong setup codes" in (await ran(folder, "pair"))[1]
        assert json.loads((await ran(folder, "pair", "--json"))[1])["pairing_refused"] is True


async def test_what_the_daemon_could_not_do_is_one_sentence_with_its_exit_code(folder: Path) -> None:
    async with served(socket_of(folder), NotedPairings((A,), error=Broken())):
        for arguments in (["unpair"], ["pair", "--reset-attempts"]):
            assert await ran(folder, *arguments) == (
                73,
                "",
                "hkswitch: cannot write /ä; : No space left on device\n",
            )


@pytest.mark.parametrize(
    ("addresses", "network", "storage", "note"),
    [
        (("192.168.1.10",), "", "", ""),
        (("192.168.1.10",), "waiting for eth9: it is down", "", ""),
        (("192.168.1.10",), "", "the disk is full", "No phone can pair yet: the disk is full.\n"),
        (
            (),
            "waiting for eth9: it is down",
            "",
            "No phone can find the bridge yet: waiting for eth9: it is down.\n",
        ),
        ((), "", "the disk is full", "No phone can find the bridge yet: it has no network.\n"),
    ],
)
async def test_a_bridge_that_no_phone_can_pair_with_says_so(
    folder: Path, addresses: tuple[str, ...], network: str, storage: str, note: str
) -> None:
    bridge = BridgeReport("H", "1", 0, addresses, 51826, (), network=network, storage=storage)
    report = Report(bridge, ())
    async with served(socket_of(folder), NotedPairings(shown=report)):
        code, output, errors = await ran(folder, "pair")
        assert (code, errors) == (0, "")
        assert output.rpartition("choose Add Anyway.\n")[2] == note
        assert (await ran(folder, "pair", "--png", folder / "code.png"))[2] == note
        code, output, errors = await ran(folder, "pair", "--json")
        assert (json.loads(output)["note"], errors) == (note.rstrip("\n"), note)


def test_without_the_service_the_note_has_the_command_that_starts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hkswitch.control.STATE_FOLDER", tmp_path)
    monkeypatch.setattr("hkswitch.control.RUNTIME_FOLDER", tmp_path / "run")
    assert network_note(tmp_path).endswith("; run `sudo systemctl start hkswitch`.")


async def test_a_daemon_that_was_killed_is_no_daemon(folder: Path) -> None:
    async with served(socket_of(folder), NotedPairings()):
        os.link(socket_of(folder), folder / "kept")
    (folder / "kept").rename(socket_of(folder))
    assert (await ran(folder, "unpair", "--all"))[0] == 0
    assert paired(folder) == []


# Pictures


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_picture_is_for_its_owner_alone(folder: Path, kind: str) -> None:
    file = folder / "code"
    file.touch(0o644)
    assert run("pair", f"--{kind}", file, "--state-dir", folder) == (
        0,
        f"{file} contains the setup code; only {'root' if os.geteuid() == 0 else 'you'} can read it.\n",
        f"Already paired. {GONE.format(typed('unpair --all', folder))}{NO_DAEMON.format(folder)}",
    )
    assert file.read_bytes() == picture(SETUP.payload, "png" if kind == "png" else "svg")
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_picture_goes_to_standard_output(folder: Path, kind: str) -> None:
    command = [str(HKSWITCH), "pair", f"--{kind}", "-", "--state-dir", str(folder)]
    shown = subprocess.run(command, capture_output=True, check=True)
    assert shown.stdout == picture(SETUP.payload, "png" if kind == "png" else "svg")


def test_a_picture_that_cannot_be_written_is_73(folder: Path) -> None:
    file = folder / "none" / "code.png"
    words = (
        f"cannot write the picture {file}: No such file or directory; use - to write it to standard output"
    )
    assert run("pair", "--png", file, "--state-dir", folder) == (73, "", f"hkswitch: {words}\n")


@pytest.mark.parametrize(
    ("before", "is_replaced"),
    [
        (picture("X-HM://", "png"), True),
        (picture("X-HM://", "svg"), True),
        (b"", True),
        (b"groups: {}\n", False),
        (b'<?xml version="1.0"?>\n<domain/>\n', False),
        (b"PNG", False),
    ],
    ids=["png", "svg", "empty", "config", "xml", "text"],
)
def test_a_picture_replaces_only_an_earlier_picture(tmp_path: Path, before: bytes, is_replaced: bool) -> None:
    file = tmp_path / "place"
    file.write_bytes(before)
    words = "it already exists, and is not a picture; name another file$"
    with nullcontext() if is_replaced else pytest.raises(Failure, match=words):
        write_picture(file, b"picture")
    assert file.read_bytes() == (b"picture" if is_replaced else before)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root acts for the user of sudo")
def test_a_picture_of_the_user_of_sudo_replaces_no_file_of_root(tmp_path: Path, by_sudo: Path) -> None:
    for folder, mode in ((tmp_path, 0o600), (by_sudo, 0o644)):
        file = folder / "config.yaml"
        file.write_bytes(b"groups: {}\n")
        file.chmod(mode)
        with pytest.raises(Failure, match="it already exists"):
            write_picture(file, b"picture")
        assert file.read_bytes() == b"groups: {}\n"


def make_link(path: Path) -> None:
    path.symlink_to("/dev/null")


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, make_link], ids=["pipe", "folder", "link"])
def test_a_picture_replaces_nothing_but_files(tmp_path: Path, make: Callable[[Path], None]) -> None:
    place = tmp_path / "place"
    make(place)
    before = place.lstat().st_ino
    with pytest.raises(Failure, match="it is not a regular file"):
        write_picture(place, b"picture")
    assert place.lstat().st_ino == before
    assert list(tmp_path.iterdir()) == [place]


ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root acts for the user of sudo")
NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def by_sudo(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the user nobody, who ran sudo."""
    monkeypatch.setenv("SUDO_UID", str(NOBODY.pw_uid))
    monkeypatch.setenv("SUDO_GID", str(NOBODY.pw_gid))
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, NOBODY.pw_uid, NOBODY.pw_gid)
        yield Path(folder)


@ROOT
def test_a_picture_belongs_to_the_user_who_ran_sudo(by_sudo: Path) -> None:
    before = os.geteuid(), os.getegid(), os.getgroups()
    assert write_picture(by_sudo / "code.png", b"picture") == "nobody"
    seen = (by_sudo / "code.png").stat()
    assert (seen.st_uid, seen.st_gid, seen.st_mode & 0o777) == (NOBODY.pw_uid, NOBODY.pw_gid, 0o600)
    assert (os.geteuid(), os.getegid(), os.getgroups()) == before


@ROOT
@pytest.mark.parametrize("place", ["folder", "file in a sticky folder", "way through a link"])
def test_no_file_of_another_user_is_given_to_the_user_of_sudo(
    tmp_path: Path, by_sudo: Path, place: str
) -> None:
    file = tmp_path / "roots" / "code.png"
    file.parent.mkdir(mode=0o755)
    if place == "file in a sticky folder":
        file.write_bytes(picture("X-HM://", "png"))
        file.parent.chmod(0o1777)
    elif place == "way through a link":
        (by_sudo / "link").symlink_to(file.parent)
        file = by_sudo / "link" / "code.png"
    assert write_picture(file, b"picture") == "root"
    assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (0, 0o600)


@ROOT
@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, make_link], ids=["pipe", "folder", "link"])
def test_a_picture_of_the_user_of_sudo_replaces_nothing_but_files(
    by_sudo: Path, make: Callable[[Path], None]
) -> None:
    make(by_sudo / "place")
    with pytest.raises(Failure, match="it is not a regular file"):
        write_picture(by_sudo / "place", b"picture")
    assert [path.name for path in by_sudo.iterdir()] == ["place"]


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"SUDO_UID": str(NOBODY.pw_uid), "SUDO_GID": str(NOBODY.pw_gid)}, "nobody"),
        ({"SUDO_UID": "0", "SUDO_GID": "0"}, None),
        ({"SUDO_UID": str(NOBODY.pw_uid)}, None),
        ({"SUDO_UID": "x", "SUDO_GID": "1"}, None),
        *(
            ({"SUDO_UID": str(NOBODY.pw_uid), "SUDO_GID": group}, None)
            for group in ("-1", "4294967295", "9" * 40)
        ),
        ({"SUDO_UID": "4242424", "SUDO_GID": "1"}, None),
        ({"SUDO_UID": "9" * 40, "SUDO_GID": "1"}, None),
        ({}, None),
    ],
)
def test_who_ran_sudo(environment: dict[str, str], name: str | None) -> None:
    caller = sudo_caller(environment)
    assert (caller and caller.name) == name


def test_a_picture_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = tmp_path / "code.png"
    before = picture("X-HM://", "png")
    file.write_bytes(before)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Failure, match="No space left on device") as caught:
        write_picture(file, b"picture")
    assert caught.value.exit_code is Exit.CANNOT_WRITE
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
