"""`hkswitch import-homebridge`: converts a Homebridge config to an hkswitch config."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from hkswitch.cli.options import examples
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
from hkswitch.model.errors import Exit, Failure, exit_of


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
def import_homebridge(config: Path, wrapper: Path | None, output: Path | None, scripts: Path | None) -> None:
    """Import switches from a Homebridge config.

    Converts the switches of the cmdSwitch2 plugin, with a comment on each. Commands that need a shell become
    comments, or scripts with --scripts. It runs none of the commands.
    """
    imported = read(config, wrapper, scripts)
    if output is None:
        click.echo(imported.text, nl=False)
    else:
        write_new(output, imported.text)
    click.echo(imported.summary, err=output is None)


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
    """Write a new file, whole or not at all; never overwrite one. Raises `Failure`."""
    try:
        with file.open("x", encoding="utf-8") as opened, _removed_on_failure(file):
            opened.write(text)
            opened.flush()
            file.chmod(mode)
    except FileExistsError:
        raise _cannot_write(file, "it already exists; remove it, or name another file") from None
    except OSError as error:
        raise _cannot_write(file, error.strerror or str(error)) from error


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
        raise Failure(
            f"cannot read {file}: {error.strerror or error}", exit_of(error, Exit.CONFIG)
        ) from error


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
