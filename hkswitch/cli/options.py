"""Options that several commands share, and checks of their values."""

import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import click

from hkswitch.control import STATE_FOLDER
from hkswitch.model.config_file import DEFAULT as DEFAULT_CONFIG

_Command = TypeVar("_Command", bound=Callable[..., object])

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(readable=False, path_type=Path),
    default=DEFAULT_CONFIG,
    metavar="FILE",
    help=f"Configuration file [{DEFAULT_CONFIG}]",
)


def a_folder(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    """Check the value of an option that names a folder, which need not exist (a click callback)."""
    if path is not None:
        with suppress(FileNotFoundError, PermissionError):
            try:
                found = path.stat().st_mode
            except NotADirectoryError:
                found = stat.S_IFREG
            if not stat.S_ISDIR(found):
                raise click.BadParameter(f"{path} is not a folder", context, option)
    return path


state_option = click.option(
    "--state-dir",
    "state_folder",
    type=click.Path(readable=False, path_type=Path),
    callback=a_folder,
    default=STATE_FOLDER,
    metavar="DIR",
    help=f"Folder with the bridge's keys and pairings [{STATE_FOLDER}]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON")


def an_address(context: click.Context, option: click.Parameter, text: str | None) -> str | None:
    """Check the value of an option by the rules of `bridge.address` (a click callback)."""
    if text is not None:
        from hkswitch.model import config_values  # noqa: PLC0415 -- only the demo needs it
        from hkswitch.model.yaml_nodes import Position, Scalar  # noqa: PLC0415

        try:
            return config_values.address(Scalar(Position(1, 1), text, is_text=True))
        except ValueError as error:
            raise click.BadParameter(str(error), context, option) from None
    return text


def examples(*lines: str) -> str:
    """Return the examples for the end of a command's help; the first line keeps click from wrapping them."""
    return "\n  ".join(("\b\nExamples:", *lines))


def picture_option(kind: str) -> Callable[[_Command], _Command]:
    """Return the option that names a picture file."""
    return click.option(
        f"--{kind}",
        type=click.Path(readable=False, path_type=Path),
        metavar="FILE",
        help=f"Write the QR code as {kind.upper()}, readable only by its owner (-: standard output)",
    )


def allow_only_one(given: Mapping[str, object]) -> None:
    """Raise `UsageError` if more than one of these options was given; the keys are their names."""
    names = [name for name, value in given.items() if value]
    if len(names) > 1:
        raise click.UsageError(f"{' and '.join(names)} cannot be used together")
