"""Keys, the files that allow bridges, and those of a bridge: only what is exactly right is accepted."""

import base64
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from hkswitch.backend.ssh_command import host_folder, key_file, known_hosts_file
from hkswitch.model.errors import Failure
from hkswitch.remote import files, limits, sshd
from hkswitch.remote import host_folder as folders
from hkswitch.remote.granted import (
    ENFORCED,
    authorized_keys_text,
    files_for,
    parse_granted,
    sshd_text,
    sudoers_text,
)
from hkswitch.remote.host_folder import HostFiles
from hkswitch.remote.keys import (
    HOST_KEY_KINDS,
    bridge_name_of,
    is_bridge_name,
    is_fingerprint,
    known_hosts_line,
    parse_known_hosts,
    parse_public_key,
    public_part,
)
from hkswitch.remote.undo import all_or_nothing

NAME: Final = "nas"
KEY: Final = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG2+jxqazT1hFB+B8yaPqFHtGXn1xLP4XXIZpyYNdlwV"
OTHER: Final = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGcghl1YLcE0knc4qT/zit4j4+GduYwReYspdRWiGrq8"

needs_ssh_keygen = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs openssh-client")


def blob(*parts: bytes) -> str:
    return base64.b64encode(b"".join(len(part).to_bytes(4) + part for part in parts)).decode()


# Keys


@pytest.mark.parametrize("text", [KEY, f"{KEY} homelab", f"  {KEY} a b \n"])
def test_a_key_is_read_without_its_comment(text: str) -> None:
    assert str(parse_public_key(text)) == KEY


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "begins with ssh-ed25519"),
        (f'command="id" {KEY}', "begins with ssh-ed25519"),
        (f"restrict {KEY}", "begins with ssh-ed25519"),
        (f"{KEY}\n{OTHER}", "one line"),
        (f"{KEY} \x1b[2J", "one line"),
        (f"{KEY} ü", "one line"),
        (KEY[:-1], "base64"),
        (f"{KEY}=", "base64"),
        (KEY.replace("+", "-"), "base64"),
        (KEY[:-4], "cut off"),
        ("ssh-ed25519 ", "cut off"),
        (f"ssh-ed25519 {blob(b'ssh-rsa', b'x' * 32)}", "not a key of the kind"),
        (f"ssh-ed25519 {blob(b'ssh-ed25519', b'x' * 31)}", "not a key of the kind"),
        (f"ssh-ed25519 {blob(b'ssh-ed25519', b'x' * 32, b'')}", "not a key of the kind"),
        (f"ssh-rsa {blob(b'ssh-rsa', b'x')}", "begins with ssh-ed25519"),
        (f"{KEY} {'a' * 9000}", "one line"),
    ],
)
def test_anything_else_is_no_key(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_public_key(text)


@needs_ssh_keygen
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_fingerprint_is_the_one_that_ssh_keygen_prints(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "key"
    bits = ("-b", "1024") if kind == "rsa" else ()
    subprocess.run(("ssh-keygen", "-q", "-t", kind, *bits, "-N", "", "-f", file), check=True)
    printed = subprocess.run(("ssh-keygen", "-lf", file), capture_output=True, text=True, check=True).stdout
    key = parse_public_key(file.with_suffix(".pub").read_text(), HOST_KEY_KINDS)
    assert printed.split()[1] == key.fingerprint
    assert f"({key.short_kind})" in printed
    assert is_fingerprint(key.fingerprint)
    if kind == "ed25519":
        assert public_part(file.read_text()) == key
        subprocess.run(("ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", file), check=True)
        with pytest.raises(ValueError, match="encrypted"):
            public_part(file.read_text())
        with pytest.raises(ValueError, match="not a private key"):
            public_part(file.read_text()[:-10])


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        (f"SHA256:{'a' * 43}", True),
        (f"SHA256:{'a' * 42}=", False),
        (f"MD5:{':'.join(['aa'] * 16)}", False),
        ("a" * 43, False),
        (f"SHA256:{'a' * 44}", False),
    ],
)
def test_a_fingerprint_is_complete(text: str, *, valid: bool) -> None:
    assert is_fingerprint(text) is valid


@pytest.mark.parametrize(
    ("hostname", "name"),
    [
        ("homelab", "homelab"),
        ("Raspberry_Pi.local", "raspberry-pi"),
        ("Büro", "buro"),
        ("-", "bridge"),
        ("", "bridge"),
        ("a" * 31 + "-bc", "a" * 31),
    ],
)
def test_a_bridge_is_named_after_its_machine(hostname: str, name: str) -> None:
    assert bridge_name_of(hostname) == name
    assert is_bridge_name(name)


@pytest.mark.parametrize("text", ["", "-a", "A", "a b", 'a"', "a\n", "a" * 33, "ä"])
def test_other_names_are_refused(text: str) -> None:
    assert not is_bridge_name(text)


# What a host grants


def test_the_files_name_each_bridge_once_and_are_sorted() -> None:
    granted = {"pi": parse_public_key(OTHER), "homelab": parse_public_key(KEY)}
    keys = authorized_keys_text(granted)
    assert parse_granted(keys) == granted
    assert [line for line in keys.splitlines() if not line.startswith("#")] == [
        f'restrict,command="sudo -n /usr/sbin/serviceswitch serve --for {name}" {key} {name}'
        for name, key in (("homelab", KEY), ("pi", OTHER))
    ]
    assert [line for line in sudoers_text(granted).splitlines() if not line.startswith("#")] == [
        f"hkswitch-remote ALL=(root) NOPASSWD: /usr/sbin/serviceswitch serve --for {name}"
        for name in ("homelab", "pi")
    ]
    assert files_for({}) == {}


LINE: Final = authorized_keys_text({"pi": parse_public_key(KEY)}).splitlines()[1]


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        LINE.replace("restrict,", ""),
        LINE.replace("restrict", "restrict,pty"),
        LINE.replace("for pi", "for other"),
        LINE.replace("serve", "start"),
        f"{LINE} more",
        f"{LINE}\n{LINE}",
        LINE.replace("AAAA", "AAAB"),
        LINE.replace("pi", "-pi"),
    ],
)
def test_a_line_that_grants_something_else_is_refused(text: str) -> None:
    assert list(parse_granted(f"# comment\n\n{LINE}\n")) == ["pi"]
    with pytest.raises(ValueError, match=r"^line \d"):
        parse_granted(text)


def test_no_setting_for_the_account_reaches_other_users() -> None:
    first, *settings, last = (line for line in sshd_text().splitlines() if not line.startswith("#"))
    assert (first, last) == ("Match User hkswitch-remote", "Match all")
    assert [tuple(line.split(maxsplit=1)) for line in settings] == list(ENFORCED.items())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, ""),
        ({"allowusers": ("admin", "hkswitch-*")}, ""),
        ({"allowusers": ("hkswitch-remote@10.0.0.*",)}, ""),
        ({"allowgroups": ("hkswitch-remote",), "denyusers": ("admin", "*@10.0.0.1")}, ""),
        ({"allowusers": ("admin",)}, "AllowUsers lacks hkswitch-remote"),
        ({"allowusers": ("hkswitch-[a-z]*",)}, "AllowUsers lacks hkswitch-remote"),
        ({"allowgroups": ("ssh-users",)}, "AllowGroups lacks hkswitch-remote"),
        ({"denyusers": ("hk?witch*",)}, r"DenyUsers hk\?witch\* denies it"),
        ({"denygroups": ("*",)}, r"DenyGroups \* denies it"),
    ],
)
def test_lists_that_deny_the_account_are_noticed(settings: dict[str, tuple[str, ...]], says: str) -> None:
    ours = {keyword.lower(): (value,) for keyword, value in ENFORCED.items()}
    if not says:
        sshd.check_effective(ours | settings, is_included=True)
        return
    with pytest.raises(Failure, match=says):
        sshd.check_effective(ours | settings, is_included=True)


@pytest.mark.parametrize("keyword", ENFORCED)
def test_every_setting_must_be_in_force(keyword: str) -> None:
    ours = {each.lower(): (value,) for each, value in ENFORCED.items()}
    with pytest.raises(Failure, match=f"{keyword} is other for hkswitch-remote"):
        sshd.check_effective(ours | {keyword.lower(): ("other",)}, is_included=True)
    with pytest.raises(Failure, match="does not include"):
        sshd.check_effective(ours, is_included=False)


# What a bridge keeps


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(folders, "daemon_group", os.getegid)
    monkeypatch.setattr(folders, "daemon_user", os.geteuid)
    return tmp_path


@needs_ssh_keygen
def test_the_files_of_a_host_appear_at_once_and_closed(settings: Path) -> None:
    with folders.staging(NAME, settings) as staged:
        assert staged.stat().st_mode & 0o777 == 0o700
        key = folders.make_key(staged, "homelab")
        assert (staged / "id_ed25519").stat().st_mode & 0o777 == 0o400
        made = HostFiles(key, "homelab", parse_public_key(KEY))
        assert folders.read_host(NAME, settings) is None
        folders.place_new(staged, NAME, made, settings)
    assert folders.read_host(NAME, settings) == made
    assert {each.name for each in host_folder(NAME, settings).iterdir()} == {
        *("id_ed25519", "id_ed25519.pub", "known_hosts")
    }
    assert host_folder(NAME, settings).stat().st_mode & 0o777 == 0o750
    changed = made._replace(bridge="pi", host_key=parse_public_key(OTHER))
    assert folders.update(NAME, changed, settings)
    assert not folders.update(NAME, changed, settings)
    assert folders.read_host(NAME, settings) == changed
    assert folders.remove_host(NAME, settings)
    assert not folders.remove_host(NAME, settings)
    assert [*settings.iterdir()] == []


@needs_ssh_keygen
def test_an_interrupted_command_leaves_no_files(settings: Path) -> None:
    def interrupted() -> None:
        with folders.staging(NAME, settings) as staged:
            folders.make_key(staged, "homelab")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [*settings.iterdir()] == []


@needs_ssh_keygen
@pytest.mark.parametrize(
    ("file", "contents", "has_key"),
    [
        ("known_hosts", "", True),
        ("known_hosts", f"other {KEY}\n", True),
        ("known_hosts", f"{NAME} {KEY}\n{NAME} {OTHER}\n", True),
        ("id_ed25519.pub", f"{OTHER} homelab\n", False),
        ("id_ed25519.pub", "", False),
        ("id_ed25519", "damaged", False),
    ],
)
def test_damaged_files_are_no_files(settings: Path, file: str, contents: str, *, has_key: bool) -> None:
    with folders.staging(NAME, settings) as staged:
        made = HostFiles(folders.make_key(staged, "homelab"), "homelab", parse_public_key(KEY))
        folders.place_new(staged, NAME, made, settings)
    (host_folder(NAME, settings) / file).write_text(contents)
    found = folders.read_host(NAME, settings)
    assert found == (made._replace(host_key=None) if has_key else None)
    with folders.staging(NAME, settings) as staged:
        again = HostFiles(folders.make_key(staged, "homelab"), "homelab", parse_public_key(KEY))
        folders.place_new(staged, NAME, again, settings)
    assert folders.read_host(NAME, settings) == again


def test_a_known_hosts_line_is_under_the_name_of_the_host() -> None:
    assert parse_known_hosts(known_hosts_line(NAME, parse_public_key(KEY)), NAME) == parse_public_key(KEY)
    assert key_file(NAME).parent == known_hosts_file(NAME).parent == Path("/etc/hkswitch/hosts/nas")


def test_steps_are_taken_back_in_reverse_and_only_after_a_failure() -> None:
    taken: list[int] = []
    with all_or_nothing() as done:
        done.callback(taken.append, 0)
    assert taken == []

    def failing() -> None:
        with all_or_nothing() as done:
            done.callback(taken.append, 1)
            done.callback(taken.append, 2)
            raise Failure("no")

    with pytest.raises(Failure, match="no"):
        failing()
    assert taken == [2, 1]


def test_limits_grow_with_the_hosts_and_go_with_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BOOTED", tmp_path / "none")
    file = tmp_path / "hkswitch.service.d" / "60-hosts.conf"
    limits.set_for(6, file)
    assert file.read_text().endswith("[Service]\nMemoryMax=352M\nTasksMax=88\nLimitNOFILE=1120\n")
    unit = (Path(__file__).parents[2] / "packaging" / "hkswitch.service").read_text()
    usual = f"MemoryMax={limits.MEMORY_MIB}M\nTasksMax={limits.TASKS}\nLimitNOFILE={limits.FILES}\n"
    assert usual in unit
    limits.set_for(0, file)
    assert [*tmp_path.iterdir()] == []


def test_a_file_that_cannot_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "file"
    assert files.write_file(file, b"old", 0o644)
    assert not files.write_file(file, b"old", 0o644)
    (tmp_path / ".file.new").mkdir()
    with pytest.raises(Failure, match=f"cannot write {file}"):
        files.write_file(file, b"new", 0o644)
    assert file.read_bytes() == b"old"
