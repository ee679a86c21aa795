"""`hkswitch import-homebridge`: converts a Homebridge config to an hkswitch config."""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hkswitch.cli.options import examples, state_option
from hkswitch.homebridge import (
    MOST_CONFIG_BYTES,
    MOST_WRAPPER_BYTES,
    USUAL_PATH,
    Imported,
    NothingImported,
    Script,
    convert,
    read_wrapper,
)
from hkswitch.model.config_file import read_regular
from hkswitch.model.environment import SEARCH_PATH
from hkswitch.model.errors import Exit, Failure

if TYPE_CHECKING:
    from hkswitch.cli.take_over import Prepared


@click.command(
    "import-homebridge", epilog=examples("hkswitch import-homebridge ~/.homebridge/config.json -o new.yaml")
)
@click.argument("config", type=click.Path(readable=False, path_type=Path), metavar="CONFIG.JSON")
@click.option(
    "--wrapper",
    type=click.Path(readable=False, path_type=Path),
    metavar="FILE",
    help="Script that the switches call [/usr/local/bin/serviceswitch, if it exists]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="New file to write to [standard output]",
)
@click.option(
    "--scripts",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for scripts: one for each command that needs a shell",
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
    wrapper: Path | None,
    output: Path | None,
    scripts: Path | None,
    homebridge: Path | None,
    state_folder: Path,
) -> None:
    """Import switches from a Homebridge config.

    Converts the switches of the cmdSwitch2 plugin, with a comment on each. Commands that need a shell become
    comments, or scripts with --scripts. It runs none of the commands.

    With --take-over, which needs root, hkswitch also becomes the bridge that phones know: their rooms, names
    and automations stay. Stop Homebridge before that. Nothing is ever written into its folder.
    """
    imported = read(config, wrapper, scripts)
    prepared = None if homebridge is None else _prepared(config, imported, homebridge, state_folder)
    if output is None:
        click.echo(imported.text, nl=False)
    else:
        write_new(output, imported.text)
    click.echo(imported.summary, err=output is None)
    if prepared is not None:
        click.echo(prepared.carry_out(), err=output is None)


def _prepared(config: Path, imported: Imported, homebridge: Path, state_folder: Path) -> "Prepared":
    """Check that the bridge can be taken over. Raises `Failure`."""
    from hkswitch.cli import take_over  # noqa: PLC0415 -- it is slow to import

    return take_over.prepare(_contents(config, MOST_CONFIG_BYTES), config, imported, homebridge, state_folder)


def read(config: Path, wrapper: Path | None, scripts: Path | None) -> Imported:
    """Convert a Homebridge config, and write its scripts. Raises `Failure`."""
    contents = _contents(config, MOST_CONFIG_BYTES)
    try:
        imported = convert(
            contents,
            str(config),
            which=lambda name: shutil.which(name, path=SEARCH_PATH),
            wrapper=read_wrapper(str((wrapper or Path(USUAL_PATH)).absolute()), _wrapper(wrapper)),
            scripts=None if scripts is None else str(scripts.absolute()),
        )
    except NothingImported as nothing:
        _write_all(nothing.imported.scripts, scripts)
        raise
    _write_all(imported.scripts, scripts)
    return imported


def write_new(file: Path, text: str, mode: int = 0o644) -> None:
    """Write a new file; never overwrite one. Raises `Failure`."""
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
        file.chmod(mode)
    except FileExistsError:
        raise _cannot_write(file, "it already exists; remove it, or name another file") from None
    except OSError as error:
        raise _cannot_write(file, error.strerror or str(error)) from error


def _cannot_write(path: Path, reason: str) -> Failure:
    return Failure(f"cannot write {path}: {reason}", Exit.CANNOT_WRITE)


def _contents(file: Path, most_bytes: int) -> bytes:
    """Return a file's contents, cut one byte above the limit."""
    try:
        return read_regular(file, most_bytes + 1)
    except OSError as error:
        raise Failure(f"cannot read {file}: {error.strerror or error}", Exit.CONFIG) from error


def _wrapper(named: Path | None) -> bytes | None:
    if named is not None:
        return _contents(named, MOST_WRAPPER_BYTES)
    with suppress(Failure):  # most machines have none
        return _contents(Path(USUAL_PATH), MOST_WRAPPER_BYTES)
    return None


def _write_all(scripts: tuple[Script, ...], folder: Path | None) -> None:
    if folder is None or not scripts:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(folder, error.strerror or str(error)) from error
    for script in scripts:
        write_new(folder / script.name, script.text, mode=0o755)
