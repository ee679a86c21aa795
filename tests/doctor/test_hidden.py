"""What the doctor says of programs that the helper does not see, and by whose rights it looks."""

import errno
import os
import pwd
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from hkswitch.backend.sudo_reasons import HELPER
from hkswitch.control.client import NoDaemon
from hkswitch.doctor import configuration, refused_programs, service, sudoers
from hkswitch.doctor.configuration import folders_hidden_by, why_hidden
from hkswitch.doctor.context import Account, Context
from hkswitch.doctor.finding import Check, Verdict, ok
from hkswitch.doctor.programs import CannotRun, Completed
from hkswitch.model import machine
from hkswitch.model.config import BridgeConfig, Config
from hkswitch.model.errors import ConfigUnreadable
from hkswitch.model.group import Commands, Group
from hkswitch.model.installation import DAEMON_USER
from hkswitch.model.unit_state import HelperTransport
from tests.support.pairings import folder_for_all_users

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

HOMES = dict.fromkeys(("/home", "/root", "/run/user"), "ProtectHome")


@pytest.mark.parametrize(
    ("settings", "folders"),
    [
        ({}, {}),
        ({"ProtectHome": "no", "PrivateTmp": "no", "InaccessiblePaths": "", "TemporaryFileSystem": ""}, {}),
        ({"ProtectHome": "read-only"}, {}),
        ({"ProtectHome": "yes"}, HOMES),
        ({"ProtectHome": "tmpfs"}, HOMES),
        ({"PrivateTmp": "yes"}, {"/tmp": "PrivateTmp", "/var/tmp": "PrivateTmp"}),
        ({"PrivateTmp": "disconnected"}, {"/tmp": "PrivateTmp", "/var/tmp": "PrivateTmp"}),
        ({"InaccessiblePaths": "-/dev/shm /srv"}, dict.fromkeys(("/dev/shm", "/srv"), "InaccessiblePaths")),
        ({"TemporaryFileSystem": "/opt:ro"}, {"/opt": "TemporaryFileSystem"}),
    ],
    ids=str,
)
def test_the_settings_of_a_unit_hide_folders(settings: Mapping[str, str], folders: Mapping[str, str]) -> None:
    assert dict(folders_hidden_by(settings)) == folders


@pytest.mark.parametrize(
    ("transport", "unit"), [(HelperTransport.SUDO, "hkswitch"), (HelperTransport.SOCKET, "serviceswitch@")]
)
async def test_the_unit_that_the_helper_runs_in_is_asked(
    monkeypatch: pytest.MonkeyPatch, transport: HelperTransport, unit: str
) -> None:
    async def shows(*command: str) -> Completed:
        assert command[-1] == {"hkswitch": "hkswitch.service"}.get(unit, "serviceswitch@doctor.service")
        return Completed(0, "ProtectHome=yes\nPrivateTmp=no\n")

    monkeypatch.setattr(configuration, "run", shows)
    assert await configuration.hidden_folders(transport) == dict.fromkeys(
        ("/home", "/root", "/run/user"), f"ProtectHome= of {unit}.service"
    )


async def test_without_systemd_no_folder_is_known_to_be_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuses(*_: str) -> Completed:
        raise CannotRun("systemctl: no")

    monkeypatch.setattr(configuration, "run", refuses)
    assert await configuration.hidden_folders(HelperTransport.SUDO) == {}


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """A program, a link to it, a script that it interprets, and a link out of another folder."""
    shutil.copy("/bin/sh", tmp_path / "sh")
    (tmp_path / "script").write_text(f"#!{tmp_path}/sh\n")
    (tmp_path / "usual").write_text("#!/bin/sh\n")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link").symlink_to("../usual")
    return tmp_path


@pytest.mark.parametrize(
    ("program", "folder", "seen"),
    [
        ("usual", "", False),
        ("usual", "usual", False),
        ("usual", "usua", True),
        ("usual", "inside", True),
        ("script", "sh", False),
        ("script", "usual", True),
        ("inside/link", "inside", False),
        ("inside/link", "usual", False),
        ("inside/link", "script", True),
    ],
)
def test_a_program_is_seen_with_its_links_and_its_interpreter(
    scripts: Path, program: str, folder: str, seen: bool
) -> None:
    hidden_by = {str(scripts / folder): "ProtectHome= of hkswitch.service"}
    why = why_hidden(str(scripts / program), hidden_by)
    assert (why == "") is seen
    if not seen:
        assert why.startswith("the helper cannot see /")
        assert why.endswith(f": ProtectHome= of hkswitch.service hides {scripts / folder}")


def test_a_hidden_program_fails_with_the_remedy(scripts: Path) -> None:
    fine = ok(Check.TRUST, "only root")
    programs = [str(scripts / name) for name in ("usual", "script")]
    assert configuration.visible(fine, programs, {}) is fine
    found = configuration.visible(fine, programs, {str(scripts): "PrivateTmp= of hkswitch.service"})
    assert (found.check, found.verdict) == (Check.TRUST, Verdict.FAIL)
    assert found.what == ", ".join(
        f"the helper cannot see {program}: PrivateTmp= of hkswitch.service hides {scripts}"
        for program in programs
    )
    assert found.advice == "move them to /usr/local/bin, and change the configuration"
    [first, *_] = programs
    alone = configuration.visible(fine, [first], {str(scripts): "PrivateTmp= of hkswitch.service"})
    assert alone.advice == "move it to /usr/local/bin, and change the configuration"


# The directories in which commands run


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("{}", ""),
        ("{}/link", ""),
        ("{}/none", "there is no directory {}/none on this machine"),
        ("{}/file/none", "there is no directory {}/file/none on this machine"),
        ("{}/file", "{}/file is not a directory"),
    ],
)
def test_a_directory_that_does_not_exist_fails_with_the_remedy(tmp_path: Path, path: str, why: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    group = Group(
        "tv", "TV", commands=Commands(start=("/opt/tv",)), user="pi", directory=path.format(tmp_path)
    )
    fine = ok(Check.TRUST, "only root")
    found = configuration.with_directories(
        fine, Config(BridgeConfig(), (group, Group("web", "Web", ("a.service",))))
    )
    if why:
        assert (found.check, found.verdict, found.what) == (
            Check.TRUST,
            Verdict.FAIL,
            why.format(tmp_path),
        )
        assert found.advice == "create the directory, or change `directory` of the group"
    else:
        assert found is fine


def test_a_directory_that_only_root_can_look_for_is_not_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> os.stat_result:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(Path, "stat", denied)
    assert machine.why_no_directory("/home/jo/scripts") == ""


# Users under other names


@pytest.mark.parametrize(
    ("user", "refusal", "programs"),
    [
        ("", None, ("/opt/tv",)),
        ("root", None, ("/opt/tv",)),
        ("toor", None, ("/opt/tv",)),
        ("pi", None, ()),
        ("gone", "there is no user 'gone'", ()),
        ("daemon2", "the user daemon2 is not trusted: the daemon runs as this user", ()),
    ],
)
def test_another_name_of_root_or_of_the_daemon_is_taken_for_that(
    monkeypatch: pytest.MonkeyPatch, user: str, refusal: str | None, programs: tuple[str, ...]
) -> None:
    ids = {"root": 0, "toor": 0, "pi": 1000, "daemon2": 990, DAEMON_USER: 990}

    def found(name: str) -> pwd.struct_passwd:
        return pwd.struct_passwd((name, "x", ids[name], 1000, "", "/", "/bin/sh"))

    monkeypatch.setattr(pwd, "getpwnam", found)
    group = Group("tv", "TV", commands=Commands(start=("/opt/tv",)), user=user)
    refused = refused_programs.why_no_user(group)
    assert str(refused or "").startswith(refusal or "")
    assert (refused is None) is (refusal is None)
    assert refused_programs.programs_of_root(group) == programs
    of_group = replace(context_of(0), config=Config(BridgeConfig(), (group,)))
    said = [str(each) for each in configuration._refusals(of_group)]
    assert any(each.startswith(refusal) for each in said) if refusal else len(said) == 1 + len(programs)


# Whose rights it looks with

OTHER = Account("nobody", 65534, 65534)


@pytest.fixture
def folder() -> Iterator[Path]:
    with folder_for_all_users() as found:
        yield found


@needs_root
@pytest.mark.parametrize(
    ("mode", "folder_mode", "owner", "group", "readable"),
    [
        (0o644, 0o755, 0, 0, True),
        (0o640, 0o755, 0, 0, False),
        (0o640, 0o755, 0, 65534, True),
        (0o600, 0o755, 65534, 0, True),
        (0o644, 0o700, 0, 0, False),
        (0o644, 0o711, 0, 0, True),
    ],
)
def test_root_tells_what_the_daemon_can_read_and_stays_root(
    folder: Path, *, mode: int, folder_mode: int, owner: int, group: int, readable: bool
) -> None:
    file = folder / "config.yaml"
    file.touch()
    os.chown(file, owner, group)
    file.chmod(mode)
    folder.chmod(folder_mode)
    before = (os.getresuid(), os.getresgid(), os.getgroups())
    assert configuration._readable_by(OTHER, file) is readable
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before


@pytest.mark.parametrize(
    ("asker", "expected"),
    [
        (
            0,
            [
                ("-n", "-l", "-u", "root", "-U", "hkswitch", "/usr/sbin/serviceswitch", "serve"),
                ("-n", "-l", "-U", "hkswitch"),
            ],
        ),
        (990, [("-n", "-l", "-u", "root", "/usr/sbin/serviceswitch", "serve"), ("-n", "-l")]),
    ],
)
async def test_root_asks_sudo_about_the_daemons_user_and_never_as_that_user(
    monkeypatch: pytest.MonkeyPatch, asker: int, expected: list[tuple[str, ...]]
) -> None:
    asked = []

    async def answers(program: str, *arguments: str) -> Completed:
        if program != "visudo":
            asked.append(arguments)
        return Completed(0, "")

    monkeypatch.setattr(sudoers, "run", answers)
    await sudoers.sudoers(context_of(asker))
    assert asked == expected


@pytest.mark.parametrize(("asker", "first"), [(0, "/usr/sbin/serviceswitch"), (990, "sudo")])
async def test_root_starts_a_helper_as_root_and_the_daemons_user_by_sudo(
    monkeypatch: pytest.MonkeyPatch, asker: int, first: str
) -> None:
    started = []

    async def answers(*command: str) -> Completed:
        started.append(command)
        return Completed(0, "")

    monkeypatch.setattr(service, "run", answers)
    await service.helper(context_of(asker))
    [command] = started
    assert command[0].endswith(first)
    assert command[-2:] == HELPER


def context_of(asker: int) -> Context:
    return Context(
        config_file=Path("/nowhere/config.yaml"),
        state_folder=Path("/nowhere"),
        user_id=asker,
        account=Account("hkswitch", 990, 990),
        config=ConfigUnreadable("/nowhere/config.yaml", "no"),
        endpoint=ConfigUnreadable("/nowhere/config.yaml", "no"),
        unit={},
        bridge=NoDaemon(Path("/nowhere/control.sock")),
    )
