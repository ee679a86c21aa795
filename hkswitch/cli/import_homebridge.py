"""`hkswitch import-homebridge`: reads what Homebridge had and writes what hkswitch gets; no other file."""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hkswitch.homebridge import (
    MOST_CONFIG_BYTES,
    MOST_WRAPPER_BYTES,
    USUAL_PATH,
    Imported,
    NothingTakenOver,
    Script,
    convert,
    read_wrapper,
)
from hkswitch.model.config_file import read_regular
from hkswitch.model.environment import SEARCH_PATH
from hkswitch.model.errors import Exit, Failure


@dataclass(eq=False)
class Unreadable(Failure):
    """A file that was named cannot be read."""

    file: Path
    why: str
    exit_code = Exit.CONFIG

    def __str__(self) -> str:
        return f"cannot read {self.file}: {self.why}"


@dataclass(eq=False)
class Unwritable(Failure):
    """A file cannot be written, or is there already."""

    file: Path
    why: str
    exit_code = Exit.CANNOT_WRITE

    def __str__(self) -> str:
        return f"cannot write {self.file}: {self.why}"


def read(config: Path, wrapper: Path | None, scripts: Path | None) -> Imported:
    """What becomes of a Homebridge config; the scripts of it are written. Raises `Failure`."""
    contents = _contents(config, MOST_CONFIG_BYTES)
    try:
        imported = convert(
            contents,
            str(config),
            which=lambda name: shutil.which(name, path=SEARCH_PATH),
            wrapper=read_wrapper(str((wrapper or Path(USUAL_PATH)).absolute()), _wrapper(wrapper)),
            scripts=None if scripts is None else str(scripts.absolute()),
        )
    except NothingTakenOver as nothing:
        _write_all(nothing.imported.scripts, scripts)
        raise
    _write_all(imported.scripts, scripts)
    return imported


def write(file: Path, text: str, mode: int = 0o644) -> None:
    """Write a new file; one that is there is left alone. Raises `Unwritable`."""
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
        file.chmod(mode)
    except FileExistsError:
        raise Unwritable(file, "it is there already; remove it, or name another one") from None
    except OSError as error:
        raise Unwritable(file, error.strerror or str(error)) from error


def _contents(file: Path, most_bytes: int) -> bytes:
    """All of a file, or one byte too many."""
    try:
        return read_regular(file, most_bytes + 1)
    except OSError as error:
        raise Unreadable(file, error.strerror or str(error)) from error


def _wrapper(named: Path | None) -> bytes | None:
    if named is not None:
        return _contents(named, MOST_WRAPPER_BYTES)
    with suppress(Unreadable):  # most people have none
        return _contents(Path(USUAL_PATH), MOST_WRAPPER_BYTES)
    return None


def _write_all(scripts: tuple[Script, ...], folder: Path | None) -> None:
    if folder is None or not scripts:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unwritable(folder, error.strerror or str(error)) from error
    for script in scripts:
        write(folder / script.name, script.text, mode=0o755)
