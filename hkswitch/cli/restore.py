"""`hkswitch restore`: puts a backup in the place of the config and the state, or changes nothing.

Everything that can fail is checked first. hap/restored_state.py decides what the bridge's state becomes, and
backup/replacement.py replaces the files.
"""

import grp
import os
import pwd
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import click

from hkswitch.backup.backup_file import read_backup
from hkswitch.backup.backup_format import Backup, BackupDamaged, BackupTooNew, SavedFile
from hkswitch.backup.replacement import (
    NewFile,
    NotPutBack,
    Replaced,
    remove_folder,
    remove_unfinished,
    replace_all,
)
from hkswitch.cli import saved_hosts
from hkswitch.cli.backup import ASSUMED_PART, CONFIG_PART, PARTS, STATE_PART, config_mode, refuse_stream
from hkswitch.cli.layout import say
from hkswitch.cli.options import config_option, examples, state_option
from hkswitch.cli.state_folder import REPLACED, give_to_daemon, held, only_root, refuse_paired, refused
from hkswitch.control import STATE_FOLDER
from hkswitch.control.words import command
from hkswitch.daemon import assumed_states
from hkswitch.doctor.finding import counted
from hkswitch.doctor.still_running import still_answers
from hkswitch.editing.config_replacement import locked
from hkswitch.hap import state_file
from hkswitch.hap.keys import is_key_pair
from hkswitch.hap.restored_state import RestoredState, restored_state
from hkswitch.hap.setup_code import some
from hkswitch.hap.state_format import StateDamaged, StateTooNew, Stored, encode, parse
from hkswitch.model.config import Config
from hkswitch.model.config import parse as parse_config
from hkswitch.model.config_file import read as read_config
from hkswitch.model.errors import ConfigError, Exit, Failure
from hkswitch.model.installation import DAEMON_USER

_DOING: Final = "restore the backup"


class Saved(NamedTuple):
    """The contents of a backup, checked."""

    backup: Backup
    config: Config
    stored: Stored
    assumed_groups: tuple[str, ...]
    left_out: tuple[str, ...]
    """Why something in it cannot be restored."""


class Today(NamedTuple):
    """The state on this machine. `unreadable` says why it is not known; then it is None."""

    stored: Stored | None
    unreadable: str = ""


@click.command(epilog=examples("sudo hkswitch restore /root/hkswitch.backup"))
@click.argument("file", type=click.Path(readable=False, path_type=Path))
@config_option
@state_option
def restore(file: Path, config_file: Path, state_folder: Path) -> None:
    """Restore the configuration, keys and pairings.

    FILE is from `hkswitch backup`, of this machine or of another one. Stop the service first, on both. Phones
    that were paired need not pair again, and those that you removed since the backup stay removed. The files
    that are replaced are kept in a folder beside the configuration.
    """
    only_root(_DOING, config_file, state_folder)
    refuse_stream(file)
    saved = read_saved(file)
    if state_folder == STATE_FOLDER:
        give_to_daemon(state_folder, _DOING)
    config_file = Path(os.path.realpath(config_file))  # unlike resolve(), it accepts a loop
    with locked(config_file), held(state_folder, _DOING):
        today = _today(state_folder)
        result = restored_state(saved.stored, today.stored)
        _check_bridges(result, today.stored, state_folder)
        before = _group_ids(config_file) if result.is_same_bridge and result.stored.paired else ()
        kept = _replace(saved, result, config_file, state_folder)
    for line in _report(file, saved, result, today, config_file):
        say(line)
    restored = {group.id for group in saved.config.groups}
    if gone := [group_id for group_id in before if group_id not in restored]:
        say(f"Not in the backup, so phones forget their rooms: {', '.join(gone)}.")
    is_service = state_folder == STATE_FOLDER
    for line in saved_hosts.after_restore(
        saved.backup, saved.config, config_file.parent, is_service=is_service
    ):
        say(line)
    for line in _next(result, kept, state_folder):
        say(line)


def read_saved(file: Path) -> Saved:
    """Read a backup and check everything in it. Raises `Failure`."""
    backup = read_backup(file)
    for part in (CONFIG_PART, STATE_PART):
        if part not in backup.files:
            raise BackupDamaged(str(file), f"it has no {part}")
    stored = _saved_state(file, backup.files[STATE_PART].contents)
    try:
        config = parse_config(backup.files[CONFIG_PART].contents, CONFIG_PART)
    except ConfigError as error:
        first = str(error).splitlines()[0]
        why = f"this version does not accept the configuration in {file} ({first})"
        raise refused(_DOING, f"{why}; install the version that made it, {backup.made_by}") from error
    saved_hosts.check_hosts(str(file), backup, config)
    known = PARTS | saved_hosts.parts_of(config)
    left_out = [
        f"{name}: this version of hkswitch does not know it" for name in backup.files if name not in known
    ]
    assumed: tuple[str, ...] = ()
    if ASSUMED_PART in backup.files:
        try:
            assumed = tuple(assumed_states.parse_assumed(backup.files[ASSUMED_PART].contents))
        except ValueError:
            raise BackupDamaged(str(file), f"its {ASSUMED_PART} is invalid") from None
    return Saved(backup, config, stored, assumed, tuple(left_out))


def _saved_state(file: Path, contents: bytes) -> Stored:
    try:
        stored = parse(file, contents)
    except StateTooNew:
        raise BackupTooNew(str(file), f"a newer format of {STATE_PART}") from None
    except StateDamaged as damage:
        raise BackupDamaged(str(file), f"its {STATE_PART} is invalid: {damage.why}") from None
    if not is_key_pair(stored.accessory["private_key"], stored.accessory["public_key"]):
        raise BackupDamaged(str(file), f"the keys in its {STATE_PART} do not belong together")
    return stored


def _today(state_folder: Path) -> Today:
    with state_file.as_owner(state_folder):
        try:
            return Today(state_file.read(state_folder))
        except StateDamaged:
            return Today(None, "is damaged")
        except StateTooNew:
            return Today(None, "was written by a newer version of hkswitch")


def _check_bridges(result: RestoredState, today: Stored | None, state_folder: Path) -> None:
    """Raise `Failure` if phones would lose a bridge, or see two with one identity."""
    if today is not None and today.paired and not result.is_same_bridge:
        raise refuse_paired(state_folder, _DOING)
    device_id = result.stored.device_id
    if how := still_answers(device_id, 0):
        why = f"phones would confuse two bridges: {how} ({device_id})"
        remedy = (
            "stop hkswitch on that machine; if it is off already, a router may answer for a few more minutes"
        )
        raise refused(_DOING, f"{why}; {remedy}", Exit.UNAVAILABLE)


def _replace(saved: Saved, result: RestoredState, config_file: Path, state_folder: Path) -> Path | None:
    """Replace the files, and return the folder with those that were there, None if there were none."""
    state = SavedFile(encode(result.stored))
    if len(state.contents) > state_file.LARGEST_BYTES:
        raise refused(_DOING, "the bridge's state would become too large")
    # The config is before the state: with another's config, phones would forget the bridge's accessories.
    contents, mode = saved.backup.files[CONFIG_PART]
    group_id, settings = _group_id(), config_file.parent
    config = NewFile(config_file, SavedFile(contents, config_mode(mode)), group_id)
    hosts = saved_hosts.new_files(saved.backup, saved.config, settings, _user_id())
    new = [
        *hosts,
        config,
        NewFile(state_folder / state_file.FILE_NAME, state),
        NewFile(state_folder / state_file.BACKUP_NAME, state),
    ]
    if not result.is_newer_here:  # otherwise what is on, is on now, and not as when the backup was made
        assumed = saved.backup.files.get(ASSUMED_PART)
        assumed = None if assumed is None else SavedFile(assumed.contents)
        new.insert(len(hosts) + 1, NewFile(state_folder / ASSUMED_PART, assumed))
    remove_unfinished([state_folder / ASSUMED_PART, *(each.path for each in new)])
    old = Replaced.read([each.path for each in new], _DOING)
    kept = _new_folder(config_file.parent) if old.files else None
    if kept is not None:
        old.keep(kept)
    try:
        with saved_hosts.folders_for(hosts, settings, group_id):
            replace_all(new, kept)
    except NotPutBack:
        raise
    except BaseException:
        if kept is not None:
            remove_folder(kept)
        raise
    return kept


def _group_id() -> int:
    """Return the group whose members may read a config that is not public."""
    try:
        return grp.getgrnam(DAEMON_USER).gr_gid
    except KeyError:
        return -1


def _user_id() -> int:
    """Return the daemon's user, who alone may read the keys for other hosts."""
    try:
        return pwd.getpwnam(DAEMON_USER).pw_uid
    except KeyError:
        return -1


def _new_folder(parent: Path) -> Path:
    name = f"{REPLACED}{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    return next(
        path
        for number in range(1, 1000)
        if not (path := parent / (name if number == 1 else f"{name}-{number}")).exists()
    )


def _group_ids(config_file: Path) -> tuple[str, ...]:
    """Return the groups of the config on this machine, if it can be read."""
    with suppress(Failure):
        return tuple(group.id for group in read_config(config_file).groups)
    return ()


def _report(
    file: Path, saved: Saved, result: RestoredState, today: Today, config_file: Path
) -> Iterator[str]:
    backup, groups = saved.backup, saved.config.groups
    made = f"of {backup.made_at:%Y-%m-%d %H:%M} UTC, made by hkswitch {backup.made_by}"
    yield f"Restored {file}, {made}:"
    names = ", ".join(group.id for group in groups)
    yield f"  configuration {config_file}: {counted(len(groups), 'group')} ({names})"
    ids = [each.id for each in result.stored.controllers]
    paired = f"{counted(len(ids), 'controller')} ({some(ids)})" if ids else "no controller"
    yield f"  bridge {result.stored.device_id}: {paired}"
    if hosts := saved_hosts.hosts_in(backup, saved.config):
        yield f"  keys for other hosts: {', '.join(host.name for host in hosts)}"
    if saved.assumed_groups and not result.is_newer_here:
        yield f"  assumed to be on: {', '.join(saved.assumed_groups)}"
    for controller in result.removed:
        yield f"Left out {controller}: this controller was removed after the backup was made."
    for controller in result.paired_since:
        yield f"Kept {controller}: this controller was paired after the backup was made."
    for each in saved.left_out:
        yield f"Left out {each}."
    if saved.assumed_groups and result.is_newer_here:
        yield f"Left out {ASSUMED_PART}: the assumed states are newer here."
    unreadable = today.unreadable
    if result.is_same_bridge and not result.is_newer_here:
        unreadable = "is older than the backup"
    if unreadable:
        yield f"The state that was here {unreadable}: it is replaced."


def _next(result: RestoredState, kept: Path | None, state_folder: Path) -> Iterator[str]:
    if kept is not None:
        yield f"The files that were replaced are in {kept}: delete that folder when you no longer need it."
    if result.stored.paired and not result.is_newer_here:
        unpair = command(state_folder, "unpair ID")
        yield f"If you removed a controller after the backup was made, remove it again: run {unpair}."
    if state_folder == STATE_FOLDER:
        yield "Next, run `sudo systemctl enable --now hkswitch`, and then `sudo hkswitch doctor`."
    else:
        yield "Next, start the daemon for this folder."
