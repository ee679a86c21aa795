"""`hkswitch backup`: writes the config, the bridge's state and its keys for other hosts into one file.

The daemon may run meanwhile: it replaces each of its files as a whole.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import click

from hkswitch import __version__
from hkswitch.backup.backup_file import write_backup
from hkswitch.backup.backup_format import Backup, SavedFile
from hkswitch.cli.layout import say
from hkswitch.cli.options import config_option, examples, state_option
from hkswitch.cli.saved_hosts import saved_hosts
from hkswitch.cli.state_folder import only_root
from hkswitch.control import START_SERVICE, STATE_FOLDER
from hkswitch.daemon import assumed_states
from hkswitch.doctor.finding import counted
from hkswitch.hap import state_file
from hkswitch.hap.state_format import Stored, encode
from hkswitch.hap.stored_pairings import NoBridgeYet
from hkswitch.model import config_file as configs
from hkswitch.model.config import Config, parse
from hkswitch.model.config_file import read_regular
from hkswitch.model.errors import ConfigError, Exit, Failure

CONFIG_PART: Final = "config.yaml"
STATE_PART: Final = state_file.FILE_NAME
ASSUMED_PART: Final = assumed_states.FILE_NAME
PARTS: Final = frozenset({CONFIG_PART, STATE_PART, ASSUMED_PART})
"""The names of the files in a backup that this version knows, besides those of other hosts."""

_DOING: Final = "back up hkswitch"


class Gathered(NamedTuple):
    """What a backup is made of. `notes` says what is left out, and why."""

    config: Config
    stored: Stored
    files: Mapping[str, SavedFile]
    notes: tuple[str, ...]


@click.command(epilog=examples("sudo hkswitch backup /root/hkswitch.backup"))
@click.argument("file", type=click.Path(readable=False, path_type=Path))
@config_option
@state_option
def backup(file: Path, config_file: Path, state_folder: Path) -> None:
    """Back up the configuration, keys and pairings.

    FILE is a new file that only root can read: it contains the bridge's private keys, also those for other
    hosts, and the commands of your groups. The service may keep running.
    """
    only_root(_DOING, config_file, state_folder)
    refuse_stream(file)
    found = gather(config_file, state_folder)
    write_backup(file, Backup(found.files, datetime.now(UTC).replace(microsecond=0), __version__))
    groups, paired = counted(len(found.config.groups), "group"), len(found.stored.controllers)
    what = f"{groups}, and the bridge {found.stored.device_id} with {counted(paired, 'controller')}"
    say(f"Backed up {what}, to {file}.")
    for note in found.notes:
        say(f"  {note}")
    say("It contains the bridge's private keys: keep it where only you can read it.")


def refuse_stream(file: Path) -> None:
    """Refuse `-`: the keys would be on a terminal, or in a file that the shell made readable for others."""
    if str(file) == "-":
        raise click.UsageError("a backup cannot be a standard stream; name a file")


def gather(config_file: Path, state_folder: Path) -> Gathered:
    """Read and check everything that belongs into a backup; raises `Failure`."""
    contents = configs.config_bytes(config_file)
    try:
        config = parse(contents, str(config_file))
        mode = config_mode(config_file.stat().st_mode)
    except ConfigError as error:
        words = "check" if config_file == configs.DEFAULT else f"check --config {config_file}"
        why = f"{config_file} has {counted(len(error.problems), 'mistake')}; run `sudo hkswitch {words}`"
        raise Failure(f"cannot {_DOING}: {why}", Exit.CONFIG) from error
    except OSError as error:
        raise Failure(f"cannot read {config_file}: {error.strerror or error}") from error
    with state_file.as_owner(state_folder):
        stored = state_file.read(state_folder)
        if stored is None:
            raise _no_bridge(state_folder)
        assumed, note = _assumed(state_folder)
    files = {CONFIG_PART: SavedFile(contents, mode), STATE_PART: SavedFile(encode(stored))}
    hosts, notes = saved_hosts(config, config_file.parent)
    return Gathered(config, stored, files | assumed | hosts, (*note, *notes))


def config_mode(mode: int) -> int:
    """Return the permissions of a restored config: its owner may write it, and others may at most read it."""
    return 0o600 | mode & 0o044


def _no_bridge(state_folder: Path) -> NoBridgeYet:
    if state_folder != STATE_FOLDER:
        return NoBridgeYet(state_folder)
    return NoBridgeYet(state_folder, f"{START_SERVICE} first, or pass the --state-dir of another bridge")


def _assumed(state_folder: Path) -> tuple[dict[str, SavedFile], tuple[str, ...]]:
    """Return the assumed states, or why they are left out."""
    try:
        contents = read_regular(state_folder / ASSUMED_PART, assumed_states.LARGEST_BYTES)
        assumed_states.parse_assumed(contents)
    except FileNotFoundError:
        return {}, ()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is damaged"
        return {}, (f"Left out {ASSUMED_PART}: {why}; the groups in it are assumed to be off.",)
    return {ASSUMED_PART: SavedFile(contents)}, ()
