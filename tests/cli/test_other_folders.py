"""A command for the bridge of another state folder acts on that one, or on none: never on the service's."""

import os
from functools import partial
from pathlib import Path

import pytest

from hkswitch import control
from hkswitch.backend import sudo_reasons
from hkswitch.cli import actions, status
from hkswitch.control import SOCKET_NAME
from hkswitch.control.client import NoDaemon, Unreachable
from hkswitch.control.server import served
from hkswitch.daemon import launch
from hkswitch.hap import state_file
from hkswitch.hap.stored_pairings import StoredPairings
from hkswitch.model import config_file
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.unit_state import Action
from tests.cli.test_main import EXAMPLE
from tests.support.command import run
from tests.support.pairings import NotedPairings, folder_for_all_users, stored
from tests.support.waiting import wait_until

NOBODY = 65534
WORDS = ("start", "stop", "restart")


def written(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What root's helper was asked for; it is another program here, and this user is root for the command."""
    asked, program = tmp_path / "asked", tmp_path / "helper"
    written(program, f'echo "$@" >>{asked}')
    monkeypatch.setattr(sudo_reasons, "HELPER", (str(program),))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(control, "RUNTIME_FOLDER", tmp_path / "run")  # where no service listens
    return asked


@pytest.mark.parametrize("word", WORDS)
def test_without_the_daemon_of_another_folder_root_switches_nothing(
    tmp_path: Path, helper: Path, word: str
) -> None:
    with pytest.raises(NoDaemon) as caught:
        actions.act(Action(word), ["web"], tmp_path / "s2", wait=False)
    assert caught.value.exit_code is Exit.UNAVAILABLE
    assert str(caught.value) == (
        f"no daemon is listening on {tmp_path}/s2/{SOCKET_NAME}; start the daemon for this folder"
    )
    assert not helper.exists()


@pytest.mark.parametrize("word", WORDS)
def test_without_the_service_root_has_its_helper_do_it(tmp_path: Path, helper: Path, word: str) -> None:
    assert actions.act(Action(word), ["web", "mail"], control.STATE_FOLDER, wait=False) is Exit.OK
    assert sorted(helper.read_text().splitlines()) == [f"{word} mail", f"{word} web"]


@pytest.mark.parametrize("code", [1, Exit.UNAVAILABLE, Exit.OUTPUT, Exit.DENIED, Exit.CONFIG])
def test_without_the_service_a_failure_has_the_exit_code_that_it_has_through_the_daemon(
    helper: Path, code: int
) -> None:
    written(helper.with_name("helper"), f"exit {int(code)}")
    assert actions.act(Action.START, ["web"], control.STATE_FOLDER, wait=True) is Exit.UNAVAILABLE
    assert actions.act(Action.START, ["web"], control.STATE_FOLDER, wait=False) is Exit.UNAVAILABLE


@pytest.mark.parametrize(("groups", "code"), [(["nope"], 64), (["web", "nope", "mail"], 64), (["mail"], 0)])
def test_without_the_service_an_unknown_group_is_64_and_the_others_are_switched(
    helper: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    groups: list[str],
    code: int,
) -> None:
    config = helper.with_name("config.yaml")
    config.write_text("groups: {web: {units: [a]}, mail: {units: [b]}}")
    monkeypatch.setattr(config_file, "DEFAULT", config)
    assert actions.act(Action.STOP, groups, control.STATE_FOLDER, wait=True) == code
    asked = sorted(helper.read_text().splitlines()) if helper.exists() else []
    assert asked == sorted(f"stop {group}" for group in groups if group != "nope")
    unknown = "hkswitch: there is no group 'nope'; the groups are web, mail\n"
    assert capsys.readouterr().err == (unknown if code else "")


def test_without_the_service_no_wait_leaves_a_helper_that_goes_on(
    tmp_path: Path, helper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "REFUSED_WITHIN_SECONDS", 0.1)
    os.mkfifo(tmp_path / "end")
    written(tmp_path / "helper", f"echo $$ $(ps -o sid= $$) >{helper}; read end <{tmp_path}/end")
    assert actions.act(Action.START, ["web"], control.STATE_FOLDER, wait=False) is Exit.OK
    wait_until(lambda: helper.exists() and helper.read_text().strip())
    process, session = map(int, helper.read_text().split())
    assert session == process  # it has no terminal
    (tmp_path / "end").write_text("\n")
    os.waitpid(process, 0)


@pytest.mark.parametrize(
    "arguments", [["start", "web"], ["reload"], ["status"], ["status", "web"], ["status", "--watch"]]
)
def test_every_command_says_that_no_daemon_listens_in_that_folder(
    tmp_path: Path, arguments: list[str]
) -> None:
    config = ["--config", str(EXAMPLE)] if arguments[0] == "status" else []
    assert run(*arguments, *config, "--state-dir", tmp_path) == (
        69,
        "",
        f"hkswitch: no daemon is listening on {tmp_path / SOCKET_NAME}; start the daemon for this folder\n",
    )


def test_the_status_of_a_stopped_service_is_systemds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "RUNTIME_FOLDER", tmp_path / "run")
    assert status.from_daemon(control.STATE_FOLDER) is None


@pytest.mark.parametrize("owner", [os.geteuid(), 4242])
def test_only_the_owner_of_the_services_bridge_can_serve_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int
) -> None:
    monkeypatch.setattr(launch, "STATE_FOLDER", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: owner)
    with pytest.raises(Failure) as caught:
        launch.launch(tmp_path / "none.yaml", tmp_path)
    is_refused = owner == 4242
    assert caught.value.exit_code is (Exit.DENIED if is_refused else Exit.CONFIG)
    assert (f"; {control.START_SERVICE}, or pass another --state-dir" in str(caught.value)) is is_refused


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
def test_without_a_daemon_other_users_are_told_to_use_sudo() -> None:
    with folder_for_all_users() as folder:
        state_file.write(folder, stored())
        found = StoredPairings(folder)
        for do in (found.setup_info, found.controllers, partial(found.unpair, None)):
            with state_file.with_rights(NOBODY, NOBODY), pytest.raises(Failure) as caught:
                do()
            assert caught.value.exit_code is Exit.DENIED
            assert str(caught.value).endswith("only root and the daemon may read it; use sudo")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
async def test_a_user_who_may_not_enter_the_folder_is_told_so_and_nothing_of_the_service() -> None:
    with folder_for_all_users() as folder:
        async with served(folder / SOCKET_NAME, NotedPairings()):
            folder.chmod(0o700)  # as hkswitch makes it
            with state_file.with_rights(NOBODY, NOBODY), pytest.raises(Unreachable) as caught:
                status.from_daemon(folder)
    assert caught.value.exit_code is Exit.DENIED
    assert str(caught.value) == f"permission denied on {folder / SOCKET_NAME}; use sudo"
