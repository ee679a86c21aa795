"""`hkswitch import-homebridge`: converts a Homebridge config to an hkswitch config."""

import errno
import os
import pwd
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

import click

from hkswitch.cli.layout import say
from hkswitch.cli.options import examples, state_option
from hkswitch.homebridge import (
    MOST_CONFIG_BYTES,
    MOST_SCRIPT_BYTES,
    USUAL_PATH,
    Imported,
    Resources,
    by_name,
    convert,
    is_user,
    read_script,
)
from hkswitch.model.config_file import read_regular
from hkswitch.model.environment import SEARCH_PATH
from hkswitch.model.errors import Exit, Failure, exit_of

_USUAL_USER: Final = "homebridge"
_WORKING_FOLDER: Final = Path("/var/lib/homebridge")
"""The folder in which Homebridge's own service (hb-service) runs and has its config."""

if TYPE_CHECKING:
    from hkswitch.cli.take_over import Prepared


@click.command(
    "import-homebridge", epilog=examples("hkswitch import-homebridge ~/.homebridge/config.json -o new.yaml")
)
@click.argument("config", type=click.Path(readable=False, path_type=Path), metavar="CONFIG.JSON")
@click.option(
    "--wrapper",
    "wrappers",
    multiple=True,
    metavar="OLD=COPY",
    help="Script that the switches call, and a copy to read; repeatable [/usr/local/bin/serviceswitch]",
)
@click.option(
    "--user",
    metavar="NAME",
    help="User that Homebridge ran as [the owner of its folder 'persist', or homebridge]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="New file to write to [standard output]",
)
@click.option(
    "--take-over",
    "homebridge",
    type=click.Path(readable=False, path_type=Path),
    metavar="DIR",
    help="Homebridge's folder: keep its bridge's pairings, so that phones need not pair again",
)
@state_option
def import_homebridge(  # noqa: PLR0913 -- one for each option
    config: Path,
    *,
    wrappers: tuple[str, ...],
    user: str | None,
    output: Path | None,
    homebridge: Path | None,
    state_folder: Path,
) -> None:
    """Import switches from a Homebridge config.

    Converts the switches of the plugins cmdSwitch2, cmdSwitch and Script2, with a comment on each: to units
    or containers where that is certain, and to commands otherwise. It runs none of the commands.

    With --take-over, which needs root, hkswitch also becomes the bridge that phones know: their rooms, names
    and automations stay. Stop Homebridge before that. Nothing is ever written into its folder.
    """
    imported = read(config, wrappers, user, homebridge)
    prepared = None if homebridge is None else _prepared(config, imported, homebridge, state_folder)
    if prepared is not None:
        imported = imported.on_port(prepared.found.bridge.port)
    if output is None:
        click.echo(imported.text, nl=False)
    else:
        write_new(output, imported.text)
    if prepared is None:
        say(imported.summary, err=output is None)
        return
    with nullcontext() if output is None else _removed_on_failure(output):
        done = prepared.carry_out()
    say(f"{imported.summary}\n{done}", err=output is None)


def _prepared(config: Path, imported: Imported, homebridge: Path, state_folder: Path) -> "Prepared":
    """Check that the bridge can be taken over. Raises `Failure`."""
    from hkswitch.cli import take_over  # noqa: PLC0415 -- it is slow to import

    return take_over.prepare(_contents(config, MOST_CONFIG_BYTES), config, imported, homebridge, state_folder)


def read(
    config: Path,
    wrappers: tuple[str, ...] = (),
    user: str | None = None,
    homebridge: Path | None = None,
) -> Imported:
    """Convert a Homebridge config. Raises `Failure`.

    `homebridge` is Homebridge's folder, if `config` is not in it.
    """
    contents = _contents(config, MOST_CONFIG_BYTES)
    folder = (homebridge or config.parent).absolute()
    known = user or _owner(folder)
    user = known or _USUAL_USER
    if not is_user(user):
        raise Failure(f"cannot run commands as {user!r}: invalid user name; use `--user NAME`", Exit.USAGE)
    machine = Resources(
        which=lambda name: shutil.which(name, path=SEARCH_PATH),
        scripts=by_name(read_script(path, data) for path, data in _scripts(wrappers).items()),
        user=user,
        is_assumed=not known,
    )
    return convert(contents, str(config), machine, str(folder) if folder == _WORKING_FOLDER else "")


def write_new(file: Path, text: str) -> None:
    """Write a new file, whole or not at all; never overwrite one. Raises `Failure`.

    Only its owner may read it, as Homebridge's: commands can contain passwords.
    """
    try:
        with _created(file) as opened, _removed_on_failure(file):
            os.fchmod(opened.fileno(), 0o600)  # whatever the umask is
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())  # the state of a take-over, which comes next, outlasts a power cut
    except FileExistsError:
        raise _cannot_write(file, "it already exists; remove it, or name another file") from None
    except OSError as error:
        raise _cannot_write(file, error.strerror or str(error)) from error


def _created(file: Path) -> TextIO:
    created = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    return os.fdopen(created, "w", encoding="utf-8")


@contextmanager
def _removed_on_failure(file: Path) -> Iterator[None]:
    """Remove a file unless the block succeeds: it would be in the way of the next attempt."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            file.unlink()
        raise


def _cannot_write(path: Path, reason: str) -> Failure:
    return Failure(f"cannot write {path}: {reason}", Exit.CANNOT_WRITE)


def _contents(file: Path, most_bytes: int) -> bytes:
    """Return a file's contents, cut one byte above the limit."""
    try:
        return read_regular(file, most_bytes + 1)
    except OSError as error:
        reason = f"cannot read {file}: {error.strerror or error}{_remedy(file, error)}"
        raise Failure(reason, exit_of(error, Exit.CONFIG)) from error


def _remedy(file: Path, error: OSError) -> str:
    if isinstance(error, PermissionError) and os.geteuid() != 0:
        return "; use sudo"
    is_folder = error.errno == errno.EINVAL and file.is_dir()
    return "; name its config.json" if is_folder else ""


def _scripts(wrappers: tuple[str, ...]) -> dict[str, bytes | None]:
    """Return the contents of the scripts that switches call, by their paths in the config."""
    found: dict[str, bytes | None] = {USUAL_PATH: None}
    with suppress(Failure):  # most machines have none
        found[USUAL_PATH] = _contents(Path(USUAL_PATH), MOST_SCRIPT_BYTES)
    for wrapper in wrappers:
        old, _, copy = wrapper.partition("=")
        found[str(Path(old).absolute())] = _contents(Path(copy or old), MOST_SCRIPT_BYTES)
    return found


def _owner(folder: Path) -> str:
    """Return the user that Homebridge ran as, or "" if that is unknown: the owner of its pairings.

    Root is never assumed: a link of another user's may lead to root's folder, and so may a copy by root.
    """
    try:
        found = (folder / "persist").lstat()
        is_telling = stat.S_ISDIR(found.st_mode) and found.st_uid != 0
        return pwd.getpwuid(found.st_uid).pw_name if is_telling else ""
    except (OSError, KeyError):
        return ""
