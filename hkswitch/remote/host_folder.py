"""The bridge's files for a host: its own key, and the host's. Root makes them, and the daemon reads them.

A folder appears whole or not at all: it is made under another name, which only root can enter.
"""

import grp
import os
import pwd
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from hkswitch.backend.ssh_command import (
    SETTINGS,
    host_folder,
    key_file,
    known_hosts_file,
    public_key_file,
)
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.installation import DAEMON_USER
from hkswitch.remote import programs
from hkswitch.remote.files import cannot_write, create, read_file, remove_file, sync_folder, write_file
from hkswitch.remote.keys import (
    PublicKey,
    is_bridge_name,
    known_hosts_line,
    parse_known_hosts,
    parse_public_key,
    public_part,
)

HOSTS_MODE: Final = 0o755
FOLDER_MODE: Final = 0o750
KEY_MODE: Final = 0o400
"""Of a file that belongs to the daemon's user: users may be members of its group."""
PUBLIC_MODE: Final = 0o644


class HostFiles(NamedTuple):
    """The files of a host."""

    key: PublicKey
    """The bridge's key for this host; its private part is in a file of its own."""
    bridge: str
    """The bridge's name there."""
    host_key: PublicKey | None
    """The host's own key; None if the file is damaged or missing."""


def read_host(name: str, settings: Path = SETTINGS) -> HostFiles | None:
    """Return the files of a host; None if there is no usable key. Raises `Failure` if that cannot be told."""
    private = read_file(key_file(name, settings))
    public = read_file(public_key_file(name, settings)) or b""
    try:
        key = public_part((private or b"").decode("ascii"))
        words = public.decode("ascii").split()
    except ValueError:
        return None
    bridge = words[2] if len(words) > 2 else ""
    if not is_bridge_name(bridge) or parse_or_none(public) != key:
        return None
    known = read_file(known_hosts_file(name, settings)) or b""
    with suppress(ValueError):
        return HostFiles(key, bridge, parse_known_hosts(known.decode("ascii"), name))
    return HostFiles(key, bridge, None)


def host_with_key(key: PublicKey, settings: Path = SETTINGS) -> str | None:
    """Return the host for which this machine has this key; None if it has it for none."""
    for folder in sorted(host_folder("x", settings).parent.glob("[!.]*")):
        with suppress(Failure):
            if (found := read_host(folder.name, settings)) and found.key == key:
                return folder.name
    return None


def parse_or_none(line: bytes) -> PublicKey | None:
    """Return the key in a line, None if there is none."""
    with suppress(ValueError):
        return parse_public_key(line.decode("ascii"))
    return None


def daemon_user() -> int:
    """Return the id of the daemon's user; raises `Failure`."""
    try:
        return pwd.getpwnam(DAEMON_USER).pw_uid
    except KeyError:
        raise Failure(f"there is no user {DAEMON_USER}; run `sudo hkswitch doctor`", Exit.CONFIG) from None


def daemon_group() -> int:
    """Return the id of the daemon's group; raises `Failure`."""
    try:
        return grp.getgrnam(DAEMON_USER).gr_gid
    except KeyError:
        raise Failure(f"there is no group {DAEMON_USER}; run `sudo hkswitch doctor`", Exit.CONFIG) from None


@contextmanager
def staging(name: str, settings: Path = SETTINGS) -> Iterator[Path]:
    """Make a folder that only root can enter, and that is gone after the block. Raises `Failure`.

    The caller keeps other commands out.
    """
    staged = host_folder(f".{name}.new", settings)
    try:
        if not staged.parent.exists():
            staged.parent.mkdir(parents=True)
            staged.parent.chmod(HOSTS_MODE)  # whatever the umask is, the daemon must reach its files
        shutil.rmtree(staged, ignore_errors=True)  # a command that was killed left it
        staged.mkdir(mode=0o700)
    except OSError as error:
        raise cannot_write(staged, error) from error
    try:
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        remove_if_empty(settings)


def remove_if_empty(settings: Path = SETTINGS) -> None:
    """Remove the folder of all hosts if there is none."""
    with suppress(OSError):
        host_folder("x", settings).parent.rmdir()


def make_key(staged: Path, bridge: str) -> PublicKey:
    """Make a key in a staged folder, which the daemon's user may read; raises `Failure`."""
    file = staged / key_file("").name
    programs.checked("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", bridge, "-f", str(file))
    private = read_file(file) or b""
    try:
        # Made anew, with its owner, its mode and nothing else: ssh-keygen leaves it to root alone.
        file.unlink()
        create(file, private, KEY_MODE, user_id=daemon_user())
        return public_part(private.decode("ascii"))
    except ValueError as error:
        raise Failure(f"ssh-keygen made a key that cannot be used: {error}") from None
    except OSError as error:
        raise cannot_write(file, error) from error


def place_new(staged: Path, name: str, files: HostFiles, settings: Path = SETTINGS) -> None:
    """Complete a staged folder with a key, and put it in place. Raises `Failure`."""
    final = host_folder(name, settings)
    try:
        (staged / public_key_file("").name).unlink(missing_ok=True)
        create(staged / public_key_file("").name, _public_line(files), PUBLIC_MODE)
        create(staged / known_hosts_file("").name, _known_line(name, files), PUBLIC_MODE)
        os.chown(staged, 0 if os.geteuid() == 0 else -1, daemon_group())
        sync_folder(staged)
        staged.chmod(FOLDER_MODE)
        if os.path.lexists(final):  # damaged, or of a command that was killed
            remove_host(name, settings)
        staged.rename(final)
        sync_folder(final.parent)
    except OSError as error:
        raise cannot_write(final, error) from error


def update(name: str, files: HostFiles, settings: Path = SETTINGS) -> bool:
    """Write what may change while the key stays; return whether it has changed. Raises `Failure`."""
    changed = write_file(public_key_file(name, settings), _public_line(files), PUBLIC_MODE)
    return write_file(known_hosts_file(name, settings), _known_line(name, files), PUBLIC_MODE) or changed


def remove_host(name: str, settings: Path = SETTINGS) -> bool:
    """Remove the files of a host, the private key first; return whether there were any. Raises `Failure`."""
    folder = host_folder(name, settings)
    if not os.path.lexists(folder):
        return False
    remove_file(key_file(name, settings))
    try:
        shutil.rmtree(folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise cannot_write(folder, error) from error
    remove_if_empty(settings)
    return True


def _public_line(files: HostFiles) -> bytes:
    return f"{files.key} {files.bridge}\n".encode()


def _known_line(name: str, files: HostFiles) -> bytes:
    assert files.host_key is not None  # noqa: S101 -- a new host has one, and another one is not written
    return known_hosts_line(name, files.host_key).encode()
