"""The keys for other hosts in a backup, for `backup` and `restore`: all files of a host, or none.

They are in the folder of the configuration, where the daemon reads them.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from hkswitch.backend.ssh_command import SSH_CONFIG, key_file, known_hosts_file, public_key_file
from hkswitch.backup.backup_format import Backup, BackupDamaged, SavedFile
from hkswitch.backup.replacement import NewFile
from hkswitch.model.config import Config
from hkswitch.model.elsewhere import RemoteHost
from hkswitch.model.errors import Failure
from hkswitch.remote import host_folder, limits
from hkswitch.remote.files import cannot_write, read_file
from hkswitch.remote.granted import AUTHORIZED_KEYS
from hkswitch.remote.host_folder import FOLDER_MODE, KEY_MODE, PUBLIC_MODE
from hkswitch.remote.keys import parse_known_hosts, parse_public_key, public_part

_ROOT: Final = 0


def parts_of(config: Config) -> frozenset[str]:
    """Return the names that files of the config's hosts have in a backup."""
    return frozenset(name for host in config.hosts for name in _paths(host.name, Path()))


def saved_hosts(config: Config, settings: Path) -> tuple[dict[str, SavedFile], tuple[str, ...]]:
    """Return the files of the config's hosts by their names in a backup, and notes on what is left out.

    Raises `Failure` if they cannot be read.
    """
    found: dict[str, SavedFile] = {}
    notes = []
    for host in config.hosts:
        if (files := host_folder.read_host(host.name, settings)) is None or files.host_key is None:
            notes.append(f"Left out the keys for the host {host.name}: there are none, or they are damaged.")
            continue
        for name, path in _paths(host.name, settings).items():
            found[name] = SavedFile(read_file(path) or b"", _mode(path))
    if config.hosts and (settings / SSH_CONFIG.name).exists():
        notes.append(f"Left out {settings / SSH_CONFIG.name}, and the files that it names: copy them, too.")
    if read_file(settings / AUTHORIZED_KEYS.name):
        notes.append(
            "Left out the bridges of other hosts that are allowed here; to allow them after a restore, run "
            "the command again that `sudo hkswitch host list` prints on their machines."
        )
    return found, tuple(notes)


def check_hosts(file: str, backup: Backup, config: Config) -> None:
    """Check the files of hosts in a backup; raises `BackupDamaged` for a key that cannot be used."""
    for host in config.hosts:
        texts = {
            name: backup.files[name].contents.decode("ascii", errors="replace")
            for name in _paths(host.name, Path())
            if name in backup.files
        }
        if not texts:
            continue
        try:
            key, public, known = (texts.get(name, "") for name in _paths(host.name, Path()))
            if public_part(key) != parse_public_key(public):
                raise ValueError("the two parts of the key do not belong together")
            parse_known_hosts(known, host.name)
        except ValueError as error:
            raise BackupDamaged(file, f"its keys for the host {host.name} are invalid: {error}") from None


def hosts_in(backup: Backup, config: Config) -> tuple[RemoteHost, ...]:
    """Return the hosts whose keys are in a checked backup."""
    return tuple(host for host in config.hosts if backup.files.keys() >= _paths(host.name, Path()).keys())


def new_files(backup: Backup, config: Config, settings: Path, user_id: int) -> list[NewFile]:
    """Return the files of hosts that are in a checked backup and are not on this machine."""
    return [
        NewFile(path, SavedFile(backup.files[name].contents, _mode(path)), _ROOT, _user(path, user_id))
        for host in hosts_in(backup, config)
        for name, path in _paths(host.name, settings).items()
        if read_file(path) != backup.files[name].contents
    ]


@contextmanager
def folders_for(files: Sequence[NewFile], settings: Path, group_id: int) -> Iterator[None]:
    """Make the folders of hosts that these files need; after a failure, those that are empty go again.

    Raises `Failure`.
    """
    needed = {file.path.parent for file in files}
    made = []
    try:
        for folder in sorted(needed):
            if not os.path.lexists(folder):
                made.append(folder)
            _make(folder, group_id)
        yield
    except BaseException:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        host_folder.remove_if_empty(settings)
        raise


def after_restore(backup: Backup, config: Config, settings: Path, *, is_service: bool) -> Iterator[str]:
    """Set the limits of the service for its hosts, and yield what is left to do about them."""
    if is_service:
        try:
            limits.set_for(len(config.hosts))
        except Failure as failure:
            yield f"The limits of the service are those of before: {failure}."
    restored = hosts_in(backup, config)
    for host in config.hosts:
        if host not in restored and not _has_key(host.name, settings):
            add = f"sudo hkswitch host add {host.name} {host.ssh}"
            yield f"The backup has no keys for the host {host.name}: run `{add}`."


def _has_key(name: str, settings: Path) -> bool:
    with suppress(Failure):
        return host_folder.read_host(name, settings) is not None
    return False


def _make(folder: Path, group_id: int) -> None:
    try:
        folder.parent.mkdir(mode=0o755, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == _ROOT:
            os.chown(folder, _ROOT, group_id)
        folder.chmod(FOLDER_MODE)
    except OSError as error:
        raise cannot_write(folder, error) from error


def _paths(name: str, settings: Path) -> Mapping[str, Path]:
    """Return the files of a host by their names in a backup: the private key, the public one, the host's."""
    paths = [of(name, settings) for of in (key_file, public_key_file, known_hosts_file)]
    return {str(path.relative_to(settings)): path for path in paths}


def _mode(path: Path) -> int:
    return KEY_MODE if path.name == key_file("").name else PUBLIC_MODE


def _user(path: Path, user_id: int) -> int:
    """Return the owner of a file: the daemon's user for a private key."""
    return user_id if path.name == key_file("").name else _ROOT
