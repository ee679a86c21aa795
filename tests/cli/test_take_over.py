"""`import-homebridge --take-over`: old controllers go on, and a refusal leaves everything as it was."""

import asyncio
import errno
import json
import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner

from hkswitch.backend.simulated import ACTIVE, SimulatedHost
from hkswitch.cli import import_homebridge as import_homebridge_module
from hkswitch.cli import state_folder, take_over
from hkswitch.cli.import_homebridge import import_homebridge, read, write_new
from hkswitch.daemon import assumed_states
from hkswitch.daemon.assumed_states import AssumedStates, meaning_of
from hkswitch.doctor import still_running
from hkswitch.doctor.still_running import still_answers, units_that_start_homebridge
from hkswitch.hap import state_file
from hkswitch.hap.setup_code import FORBIDDEN_CODES
from hkswitch.hap.state_file import BACKUP_NAME, FILE_NAME, LOCK_NAME
from hkswitch.homebridge.identifiers import uuid_of
from hkswitch.model.config import parse
from hkswitch.model.errors import Failure
from hkswitch.model.group import AccessoryType, Group
from tests.hap.conftest import Served
from tests.hap.test_state_file import stored
from tests.support.command import run
from tests.support.homebridge_folder import RECORDED, Seen, described, port_of
from tests.support.pairings import folder_for_all_users
from tests.support.ports import free_port

MAIN, CHILD = "CC:22:3D:E3:CE:30", "0E:8A:11:22:33:44"
IDENTITY: Final = "persist/AccessoryInfo.CC223DE3CE30.json"


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """No bridge answers: asking takes three seconds."""
    monkeypatch.setattr(take_over, "still_answers", lambda _id, _port: "")
    monkeypatch.setattr(take_over, "units_that_start_homebridge", lambda: ())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the recorded folder of a main bridge."""
    return Path(shutil.copytree(RECORDED / "main", tmp_path / "homebridge"))


def edit(file: Path, change: Callable[[Any], object]) -> None:
    body = json.loads(file.read_text())
    change(body)
    file.write_text(json.dumps(body))


def take(folder: Path, work: Path) -> tuple[int, str]:
    """Take over the bridge of a folder, and return the exit code and the output."""
    arguments = [folder / "config.json", "-o", work / "new.yaml", "--take-over", folder]
    try:
        ran = CliRunner().invoke(
            import_homebridge,
            [*map(str, arguments), "--state-dir", str(work / "state")],
            standalone_mode=False,
            catch_exceptions=False,
        )
    except Failure as failure:
        return int(failure.exit_code), str(failure)
    return ran.exit_code, ran.output


def everything(folder: Path) -> dict[Path, tuple[bytes, int, int]]:
    return {
        file: (file.read_bytes(), file.stat().st_mode, file.stat().st_mtime_ns)
        for file in folder.rglob("*")
        if file.is_file() and file.name != LOCK_NAME
    }


def groups(work: Path) -> tuple[Group, ...]:
    return parse((work / "new.yaml").read_bytes(), "new.yaml").groups


@asynccontextmanager
async def serving(work: Path, of: tuple[Group, ...]) -> AsyncIterator[Served]:
    served = await Served.start(work / "state", SimulatedHost(of), of)
    try:
        yield served
    finally:
        await served.stop()


# The old controllers


@pytest.mark.parametrize("name", ["main", "child"])
async def test_both_controllers_find_everything_as_it_was_and_switch(
    silent: None, tmp_path: Path, name: str
) -> None:
    code, output = await asyncio.to_thread(take, RECORDED / name, tmp_path)
    username = MAIN if name == "main" else CHILD
    what = f"Took over the bridge {username} with 3 switches and 2 controllers into {tmp_path / 'state'}."
    assert (code, output.splitlines()[2]) == (0, what)
    written = parse((tmp_path / "new.yaml").read_bytes(), "new.yaml")
    assert written.bridge.port == port_of(RECORDED / name)
    seen = Seen.read(RECORDED / name)
    async with serving(tmp_path, groups(tmp_path)) as served:
        admin, user = seen.controllers(served.address, served.port)
        for controller in (admin, user):
            assert described(await controller.accessories()) == described(seen.accessories)
            await controller.look()
            await controller.subscribe()
        assert await admin.write("web & more", on=True) == 0
        assert await user.event("web & more") is True
        served.host.change({"printer.service": ACTIVE})
        assert [await each.event("Printer") for each in (admin, user)] == [True, True]
        listed = {controller.id: controller.admin for controller in served.bridge.controllers()}
        assert listed == {each["iOSPairingId"].upper(): each is seen.pairings[0] for each in seen.pairings}
        for controller in (admin, user):
            await controller.close()


@pytest.mark.parametrize("name", ["main", "child"])
async def test_groups_that_come_later_change_nothing_that_was_there(
    silent: None, tmp_path: Path, name: str
) -> None:
    await asyncio.to_thread(take, RECORDED / name, tmp_path)
    seen = described(Seen.read(RECORDED / name).accessories)
    first, *others = groups(tmp_path)
    new = Group("new", "New", ("new.service",), type=AccessoryType.LIGHT)
    changed = (replace(first, restart=True, type=AccessoryType.FAN), *others, new)
    async with serving(tmp_path, changed) as served:
        (admin, _) = Seen.read(RECORDED / name).controllers(served.address, served.port)
        now = described(await admin.accessories())
        assert seen.items() <= now.items()
        assert len({aid for aid, _ in now}) == len({aid for aid, _ in seen}) + 2
        assert not {aid for aid, _ in now.keys() - seen.keys()} & set(range(9))
        await admin.close()


async def test_a_dimmable_light_becomes_a_new_accessory_beside_the_others(
    silent: None, folder: Path, tmp_path: Path
) -> None:
    switch, light = (f"{uuid_of('Printer')}|{kind:0>8}-0000-1000-8000-0026BB765291" for kind in (49, 43))

    def as_light(body: dict[str, Any]) -> None:
        body["cache"] = {key.replace(switch, light): number for key, number in body["cache"].items()}

    def with_dim_cmd(body: dict[str, Any]) -> None:
        found = {block["name"]: block for block in body["platforms"][0]["switches"]}
        found["Printer"]["dim_cmd"] = "lamp %s"

    edit(folder / "persist/IdentifierCache.CC223DE3CE30.json", as_light)
    edit(folder / "config.json", with_dim_cmd)
    code, output = await asyncio.to_thread(take, folder, tmp_path)
    assert code == 0
    assert "'Printer' is new in the Home app: its dim_cmd made it a light" in output
    recorded = Seen.read(RECORDED / "main")
    seen = {key: what for key, what in described(recorded.accessories).items() if key[0] != 8}
    async with serving(tmp_path, groups(tmp_path)) as served:
        (admin, _) = recorded.controllers(served.address, served.port)
        now = described(await admin.accessories())
        assert seen.items() <= now.items()
        assert len({aid for aid, _ in now.keys() - seen.keys()} - set(range(9))) == 1
        assert 8 not in {aid for aid, _ in now}
        await admin.close()


# The state


def test_the_state_is_whole_and_only_for_its_owner(silent: None, folder: Path, tmp_path: Path) -> None:
    before = everything(folder)
    assert take(folder, tmp_path)[0] == 0
    assert everything(folder) == before
    state = tmp_path / "state"
    assert state.stat().st_mode & 0o777 == 0o700
    modes = {file.name: file.stat().st_mode & 0o777 for file in state.iterdir()}
    assert modes == dict.fromkeys([FILE_NAME, BACKUP_NAME, LOCK_NAME], 0o600)
    found, old = state_file.read(state), json.loads((folder / IDENTITY).read_text())
    assert found is not None
    assert (found.setup.code, found.setup.id) == ("031-45-154", old["setupID"])
    assert found.accessory["config_version"] == old["configVersion"] + 1
    assert (state / FILE_NAME).read_bytes() == (state / BACKUP_NAME).read_bytes()


@pytest.mark.parametrize(("old", "new"), [(1, 2), (65534, 65535), (65535, 1)])
def test_the_c_number_grows_and_wraps(silent: None, folder: Path, tmp_path: Path, old: int, new: int) -> None:
    edit(folder / IDENTITY, lambda body: body.update(configVersion=old))
    assert take(folder, tmp_path)[0] == 0
    found = state_file.read(tmp_path / "state")
    assert found is not None
    assert found.accessory["config_version"] == new


def test_a_code_that_apple_forbids_is_replaced_and_a_missing_setup_id_is_drawn(
    silent: None, folder: Path, tmp_path: Path
) -> None:
    edit(folder / IDENTITY, lambda body: body.update(pincode="111-11-111", setupID=""))
    assert take(folder, tmp_path)[0] == 0
    found = state_file.read(tmp_path / "state")
    assert found is not None
    assert found.setup.is_allowed
    assert "11111111" in FORBIDDEN_CODES


def test_a_controller_with_an_id_of_its_own_kind_is_kept(silent: None, folder: Path, tmp_path: Path) -> None:
    edit(folder / IDENTITY, lambda body: body["pairedClients"].update({"my-bridge": "ab" * 32}))
    assert take(folder, tmp_path)[0] == 0
    found = state_file.read(tmp_path / "state")
    assert found is not None
    assert b"my-bridge".hex() in found.accessory["client_uuid_to_bytes"].values()
    assert len(found.controllers) == 3


def test_a_state_without_controllers_is_replaced(silent: None, folder: Path, tmp_path: Path) -> None:
    fresh = stored()
    state_file.write(tmp_path / "state", fresh.without(None))
    assert take(folder, tmp_path)[0] == 0
    found = state_file.read(tmp_path / "state")
    assert found is not None
    assert found.device_id == MAIN


def with_remote(folder: Path, *, state: bool, **more: str) -> None:
    """Make the printer a switch without a state_cmd, in this state."""
    commands = {"on_cmd": "/bin/echo on", "off_cmd": "/bin/echo off"}

    def in_config(body: dict[str, Any]) -> None:
        found = {block["name"]: block for block in body["platforms"][0]["switches"]}
        del found["Printer"]["state_cmd"]
        found["Printer"].update(commands | more)

    def in_cache(body: list[dict[str, Any]]) -> None:
        [context] = [each["context"] for each in body if each["displayName"] == "Printer"]
        context.update(commands, state=state)

    edit(folder / "config.json", in_config)
    edit(folder / "accessories/cachedAccessories", in_cache)


@pytest.mark.parametrize(
    ("state", "more", "is_on"),
    [(True, {}, True), (False, {}, False), (True, {"state_cmd": "/bin/true"}, False)],
)
def test_a_switch_without_a_status_stays_as_homebridge_last_turned_it(  # noqa: PLR0917
    silent: None, folder: Path, tmp_path: Path, state: bool, more: dict[str, str], is_on: bool
) -> None:
    with_remote(folder, state=state, **more)
    code, output = take(folder, tmp_path)
    assert code == 0
    told = "on, as Homebridge last turned them, without a command to tell: printer"
    assert (told in output) is is_on
    assert (tmp_path / "state" / assumed_states.FILE_NAME).exists() is is_on
    assumed = AssumedStates(tmp_path / "state")
    assumed.keep({group.id: meaning_of(group) for group in groups(tmp_path) if group.assume_state})
    assert assumed.is_on("printer") is is_on


def test_a_state_that_cannot_be_written_is_told_and_the_bridge_is_taken_over(
    silent: None, monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with_remote(folder, state=True)
    monkeypatch.setattr(assumed_states, "carry_over", fail)
    code, output = take(folder, tmp_path)
    assert code == 0
    why = "cannot write which switches were on (printer): No space left on device"
    assert why in output
    assert state_file.read(tmp_path / "state") is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_root_writes_as_the_owner_of_the_state_folder(silent: None, folder: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    os.chown(state, 65534, 65534)
    assert take(folder, tmp_path)[0] == 0
    assert {file.stat().st_uid for file in state.iterdir()} == {65534}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs other users")
@pytest.mark.parametrize(("owner", "is_refused"), [(0, False), (1, False), (65534, True)])
def test_the_services_state_folder_becomes_the_daemons_and_never_another_users(
    silent: None, monkeypatch: pytest.MonkeyPatch, folder: Path, owner: int, is_refused: bool
) -> None:
    monkeypatch.setattr(state_folder, "DAEMON_USER", "daemon")
    with folder_for_all_users() as work:
        state = work / "state"
        monkeypatch.setattr(take_over, "STATE_FOLDER", state)
        state.mkdir(mode=0o700)
        os.chown(state, owner, -1)
        code, said = take(folder, work)
        assert code == (77 if is_refused else 0)
        remedy = f"run `sudo chown -R daemon:daemon {state}`"
        refusal = f"cannot take over the bridge: {state} belongs to uid {owner}, not to daemon; {remedy}"
        assert (said == refusal) is is_refused
        assert {each.stat().st_uid for each in (state, *state.iterdir())} == {owner if is_refused else 1}
        assert (work / "new.yaml").exists() is not is_refused


def lamp_of_a_copy(folder: Path, work: Path) -> Path:
    """Copy the config elsewhere, with a switch of a script by its relative path."""
    copy = work / "elsewhere" / "old.json"
    copy.parent.mkdir()
    shutil.copy(folder / "config.json", copy)
    lamp = {"name": "Lamp", "on_cmd": "bash lamp.sh on", "off_cmd": "bash lamp.sh off"}
    edit(copy, lambda body: body["platforms"][0]["switches"].append(lamp))
    return copy


def test_a_copy_of_the_config_is_read_as_if_it_were_in_homebridges_folder(
    monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    copy = lamp_of_a_copy(folder, tmp_path)
    monkeypatch.setattr(import_homebridge_module, "_WORKING_FOLDER", folder)
    monkeypatch.setattr(import_homebridge_module, "_owner", lambda of: "pi" if of == folder else "")
    lamp = parse(read(copy, homebridge=folder).text.encode(), "new.yaml").groups[-1]
    assert (lamp.user, lamp.directory) == ("pi", str(folder))
    assert "run as 'pi', as before" in read(copy, homebridge=folder).text
    text = read(copy).text
    lamp = parse(text.encode(), "new.yaml").groups[-1]
    assert (lamp.user, lamp.directory) == ("homebridge", "")
    assert "Homebridge's user is not known: commands without sudo run as 'homebridge'" in text
    assert "as before" not in text
    assert "run as 'jo', as before" in read(copy, user="jo").text


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_only_the_owner_can_read_the_new_config_whatever_the_umask_is(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_new(tmp_path / "new.yaml", "secret")
    finally:
        os.umask(before)
    assert (tmp_path / "new.yaml").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new.yaml").read_text() == "secret"


def test_a_config_that_may_not_last_is_no_config_and_nothing_is_taken_over(
    silent: None, monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    assert take(folder, tmp_path) == (73, f"cannot write {tmp_path / 'new.yaml'}: Input/output error")
    assert not (tmp_path / "new.yaml").exists()
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("error", "user", "remedy"),
    [
        (PermissionError(13, "Permission denied"), 1000, "Permission denied; use sudo"),
        (PermissionError(13, "Permission denied"), 0, "Permission denied"),
        (FileNotFoundError(2, "No such file or directory"), 1000, "No such file or directory"),
    ],
)
def test_a_config_that_only_root_can_read_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, error: OSError, user: int, remedy: str
) -> None:
    def fail(_file: Path, _most_bytes: int) -> bytes:
        raise error

    monkeypatch.setattr(import_homebridge_module, "read_regular", fail)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    with pytest.raises(Failure) as caught:
        read(Path("/x/config.json"))
    assert str(caught.value) == f"cannot read /x/config.json: {remedy}"


def test_a_folder_in_place_of_the_config_is_refused_with_the_remedy(folder: Path) -> None:
    with pytest.raises(Failure) as caught:
        read(folder)
    assert str(caught.value).startswith(f"cannot read {folder}: ")
    assert str(caught.value).endswith("; name its config.json")


# Refusals


def paired_state(folder: Path, work: Path) -> Iterator[None]:
    state_file.write(work / "state", stored())
    yield


def test_a_second_time_it_says_that_the_bridge_was_taken_over_already(
    silent: None, monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    assert take(folder, tmp_path)[0] == 0
    before = everything(tmp_path)
    (tmp_path / "new.yaml").rename(tmp_path / "first.yaml")
    monkeypatch.setattr(take_over, "still_answers", lambda _id, _port: "hkswitch")
    told = (
        f"cannot take over the bridge: hkswitch took over {MAIN} already; "
        "to convert the configuration again, leave out --take-over"
    )
    assert take(folder, tmp_path) == (78, told)
    with state_file.locked(tmp_path / "state"):
        assert take(folder, tmp_path) == (78, told)
    (tmp_path / "first.yaml").rename(tmp_path / "new.yaml")
    assert everything(tmp_path) == before


def test_a_running_daemon_is_named_with_the_command_that_stops_it(
    silent: None, monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(state_folder, "STATE_FOLDER", tmp_path / "state")
    with state_file.locked(tmp_path / "state"):
        _, said = take(folder, tmp_path)
    state = tmp_path / "state"
    remedy = "run `sudo systemctl stop hkswitch`"
    assert said == f"cannot take over the bridge: process {os.getpid()} uses {state}; {remedy}"


def daemon_runs(folder: Path, work: Path) -> Iterator[None]:
    with state_file.locked(work / "state"):
        yield


def a_switch_that_cannot_be_imported(folder: Path, work: Path) -> Iterator[None]:
    edit(folder / "config.json", lambda body: body["platforms"][0]["switches"][0].update(on_cmd="http://x"))
    yield


def damaged_state(folder: Path, work: Path) -> Iterator[None]:
    (work / "state").mkdir()
    (work / "state" / FILE_NAME).write_text("{")
    yield


def damaged_folder(folder: Path, work: Path) -> Iterator[None]:
    (folder / IDENTITY).write_text("{")
    yield


def swapped_keys(folder: Path, work: Path) -> Iterator[None]:
    edit(folder / IDENTITY, lambda body: body.update(signSk="11" * 32 + body["signPk"]))
    yield


def no_folder(folder: Path, work: Path) -> Iterator[None]:
    (folder / "persist").rename(work / "elsewhere")
    yield


def a_pipe(folder: Path, work: Path) -> Iterator[None]:
    (folder / IDENTITY).unlink()
    os.mkfifo(folder / IDENTITY)
    yield


def output_exists(folder: Path, work: Path) -> Iterator[None]:
    (work / "new.yaml").touch()
    yield


REFUSED: Final[dict[str, tuple[Callable[[Path, Path], Iterator[None]], int, str]]] = {
    "controllers": (paired_state, 78, "state has paired controllers already; run `sudo hkswitch unpair"),
    "a daemon": (daemon_runs, 69, f"process {os.getpid()} uses "),
    "a switch": (a_switch_that_cannot_be_imported, 78, "('File Server': its on_cmd is no program, but an "),
    "a damaged state": (damaged_state, 65, "bridge.json is damaged (not JSON)"),
    "a damaged folder": (damaged_folder, 65, f"{IDENTITY} is damaged (not JSON)"),
    "keys": (swapped_keys, 65, "is damaged (its keys do not belong together)"),
    "another folder": (no_folder, 78, f"{IDENTITY} does not exist"),
    "a pipe": (a_pipe, 78, "it is not a regular file"),
    "an existing config": (output_exists, 73, "new.yaml: it already exists"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_refusal_writes_nothing(silent: None, folder: Path, tmp_path: Path, what: str) -> None:
    prepare, exit_code, why = REFUSED[what]
    prepared = prepare(folder, tmp_path)
    next(prepared)
    before = everything(tmp_path) if what != "a pipe" else everything(tmp_path / "state")
    code, said = take(folder, tmp_path)
    assert code == exit_code
    assert why in said
    assert "\n" not in said
    assert (everything(tmp_path) if what != "a pipe" else everything(tmp_path / "state")) == before
    next(prepared, None)


def test_a_bridge_that_still_runs_is_refused(
    monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(take_over, "units_that_start_homebridge", lambda: ())
    monkeypatch.setattr(take_over, "still_answers", lambda device_id, port: f"{device_id} on {port}")
    port = json.loads((folder / "config.json").read_text())["bridge"]["port"]
    assert take(folder, tmp_path) == (
        78,
        f"cannot take over the bridge: {MAIN} still runs: {MAIN} on {port}; stop it first",
    )
    assert not (tmp_path / "state").exists()


def test_a_bridge_that_a_unit_would_start_is_refused_while_it_stands_in_the_config(
    silent: None, monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(take_over, "units_that_start_homebridge", lambda: ("homebridge.service",))
    code, said = take(folder, tmp_path)
    remedy = "run `sudo systemctl disable --now homebridge.service`"
    assert code == 78
    assert said == (
        f"cannot take over the bridge: homebridge.service is enabled or active "
        f"and would start {MAIN} again; {remedy}, "
        f"or import a copy of {folder}/config.json, and remove that bridge from the original"
    )
    copy = tmp_path / "copy.json"
    shutil.copy(folder / "config.json", copy)
    edit(folder / "config.json", lambda body: body["bridge"].update(username="CC:22:3D:E3:CE:31"))
    arguments = [str(copy), "--take-over", str(folder), "--state-dir", str(tmp_path / "state")]
    assert CliRunner().invoke(import_homebridge, arguments).exit_code == 0


@pytest.mark.parametrize(
    ("contents", "refused"), [(None, True), ("{", False), ("[]", True), ('{"bridge": []}', True)]
)
def test_without_a_config_homebridge_starts_its_default_bridge_and_with_a_broken_one_none(
    silent: None,
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    *,
    contents: str | None,
    refused: bool,
) -> None:
    monkeypatch.setattr(take_over, "units_that_start_homebridge", lambda: ("homebridge.service",))
    copy = (folder / "config.json").rename(folder / "copy.json")
    if contents is not None:
        (folder / "config.json").write_text(contents)
    arguments = [str(copy), "--take-over", str(folder), "--state-dir", str(folder / "state")]
    assert (CliRunner().invoke(import_homebridge, arguments).exit_code != 0) is refused


def test_a_whole_run_asks_the_network_and_ends_with_one_sentence(tmp_path: Path) -> None:
    config, persist = RECORDED / "main" / "config.json", RECORDED / "main" / "persist"
    code, output, errors = run(
        "import-homebridge", config, "--take-over", persist, "--state-dir", tmp_path / "state"
    )
    assert (code, output) == (78, "")
    assert errors.startswith(f"hkswitch: cannot take over the bridge: {IDENTITY} does not exist")
    assert list(tmp_path.iterdir()) == []


# What is found out about the machine


def test_a_port_that_is_open_is_named_with_its_program() -> None:
    with closing(socket.create_server(("127.0.0.1", free_port()))) as listening:
        port = listening.getsockname()[1]
        assert f"process {os.getpid()} " in still_answers(MAIN, port)


def test_a_bridge_on_the_network_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def find(device_id: str) -> str:
        return "Homebridge CAD8" if device_id == MAIN else ""

    monkeypatch.setattr(still_running, "find_device", find)
    assert still_answers(MAIN, 0) == "Homebridge CAD8 answers mDNS with its identity"
    assert still_answers(CHILD, 0) == ""


ETC, LIB = "etc/systemd/system", "usr/lib/systemd/system"
HB: Final = "[Service]\nUser=homebridge\nExecStart=/usr/bin/hb-service run\n"
OTHER: Final = "[Service]\n# ExecStart=/usr/bin/homebridge\nExecStart=/usr/bin/true homebrew\n"

Tree = dict[str, str]
"""Files of a machine by path; a text that begins with -> is a link."""

GROUPS: Final = "sys/fs/cgroup/system.slice"


def enabled(name: str, settings: str) -> Tree:
    return {
        f"{ETC}/multi-user.target.wants/{name}": f"->/{LIB}/{name}",
        f"{LIB}/{name}": f"[Service]\n{settings}\n",
    }


STARTS: Final[dict[str, tuple[Tree, tuple[str, ...]]]] = {
    "enabled": (
        {
            f"{LIB}/homebridge.service": HB,
            f"{ETC}/multi-user.target.wants/homebridge.service": f"->/{LIB}/homebridge.service",
        },
        ("homebridge.service",),
    ),
    "required by another": (
        {f"{ETC}/a.service.requires/hb.service": "->/x", f"{ETC}/hb.service": HB},
        ("hb.service",),
    ),
    "an instance": (
        {f"{ETC}/multi-user.target.wants/hb@pi.service": "->/x", f"{LIB}/hb@.service": HB},
        ("hb@pi.service",),
    ),
    "by a drop-in": (
        {
            f"{ETC}/multi-user.target.wants/node.service": "->/x",
            f"{LIB}/node.service": "[Service]\n",
            f"{ETC}/node.service.d/run.conf": HB,
        },
        ("node.service",),
    ),
    "disabled": ({f"{LIB}/homebridge.service": HB}, ()),
    "masked": (
        {
            f"{ETC}/multi-user.target.wants/homebridge.service": "->/x",
            f"{LIB}/homebridge.service": HB,
            f"{ETC}/homebridge.service": "->/dev/null",
        },
        (),
    ),
    "another program": (
        {f"{ETC}/multi-user.target.wants/a.service": "->/x", f"{LIB}/a.service": OTHER},
        (),
    ),
    "replaced by another program": (
        {
            f"{ETC}/multi-user.target.wants/homebridge.service": "->/x",
            f"{LIB}/homebridge.service": HB,
            f"{ETC}/homebridge.service": OTHER,
        },
        ("homebridge.service",),
    ),
    "by a script": (enabled("hb.service", "ExecStart=/opt/start\nUser=homebridge"), ("hb.service",)),
    "in its folder": (
        enabled("a.service", "WorkingDirectory=/var/lib/homebridge\nExecStart=/opt/a"),
        ("a.service",),
    ),
    "on a second line": (enabled("a.service", "ExecStart=/bin/sh -c \\\n homebridge"), ("a.service",)),
    "by its name": (enabled("homebridge-pi.service", "ExecStart=/opt/start"), ("homebridge-pi.service",)),
    "an instance by its name": (
        {f"{ETC}/multi-user.target.wants/hb-service@pi.service": "->/x", f"{LIB}/hb-service@.service": OTHER},
        ("hb-service@pi.service",),
    ),
    "active": (
        {f"{LIB}/homebridge.service": OTHER, f"{GROUPS}/homebridge.service/cgroup.procs": "1"},
        ("homebridge.service",),
    ),
    "an active instance": (
        {f"{LIB}/hb@.service": HB, f"{GROUPS}/system-hb.slice/hb@pi.service/cgroup.procs": "1"},
        ("hb@pi.service",),
    ),
    "active without a lasting unit": (
        {
            "run/systemd/transient/run-1.service": HB,
            "sys/fs/cgroup/systemd/system.slice/run-1.service/tasks": "1",
        },
        ("run-1.service",),
    ),
    "another active program": ({f"{LIB}/a.service": OTHER, f"{GROUPS}/a.service/cgroup.procs": "1"}, ()),
    "ordered after it": (enabled("a.service", "After=homebridge.service\nExecStart=/opt/a"), ()),
    "a timer that copies it": (enabled("homebridge-copy.timer", "OnCalendar=daily"), ()),
    "by a timer": (
        {
            f"{ETC}/timers.target.wants/hb.timer": "->/x",
            f"{LIB}/hb.timer": "[Timer]\nOnBootSec=1min\n",
            f"{LIB}/hb.service": HB,
        },
        ("hb.service",),
    ),
    "by a timer that names it": (
        {
            f"{ETC}/timers.target.wants/start.timer": "->/x",
            f"{LIB}/start.timer": "[Timer]\nUnit=hb.service\n",
            f"{LIB}/hb.service": HB,
        },
        ("hb.service",),
    ),
    "from init.d": (
        {
            "run/systemd/generator.late/multi-user.target.wants/homebridge.service": "->/x",
            "run/systemd/generator.late/homebridge.service": OTHER,
        },
        ("homebridge.service",),
    ),
    "upheld": ({f"{ETC}/a.target.upholds/hb.service": "->/x", f"{LIB}/hb.service": HB}, ("hb.service",)),
    "gone": ({f"{ETC}/multi-user.target.wants/homebridge.service": "->/x"}, ()),
    "no systemd": ({}, ()),
}


@pytest.mark.parametrize("what", STARTS)
def test_enabled_units_that_run_homebridge_are_found(tmp_path: Path, what: str) -> None:
    tree, names = STARTS[what]
    for path, text in tree.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("->"):
            (tmp_path / path).symlink_to(text[2:])
        else:
            (tmp_path / path).write_text(text)
    assert units_that_start_homebridge(tmp_path) == names
