"""Options that several commands have, and what their values must be."""

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
    help=f"The configuration [{DEFAULT_CONFIG}]",
)


def a_folder(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    """The value of an option that is a folder, or becomes one, as click's callbacks give it back."""
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
    help=f"The folder with the bridge's keys and pairings [{STATE_FOLDER}]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="For programs, not for people")


def an_address(context: click.Context, option: click.Parameter, text: str | None) -> str | None:
    """The value of an option that may be what `bridge.address` may be, as click's callbacks give it back."""
    if text is not None:
        from hkswitch.model import config_values  # noqa: PLC0415 -- only the demo needs it
        from hkswitch.model.yaml_nodes import Position, Scalar  # noqa: PLC0415

        try:
            return config_values.address(Scalar(Position(1, 1), text, is_text=True))
        except ValueError as error:
            raise click.BadParameter(str(error), context, option) from None
    return text


def examples(*lines: str) -> str:
    """The end of a command's help; its first line keeps click from wrapping it."""
    return "\n  ".join(("\b\nExamples:", *lines))


def picture_option(kind: str) -> Callable[[_Command], _Command]:
    """An option that names a picture's file."""
    return click.option(
        f"--{kind}",
        type=click.Path(readable=False, path_type=Path),
        metavar="FILE",
        help="Write the QR code as a picture, readable by its owner alone [-: standard output]",
    )


def exclude_one_another(given: Mapping[str, object]) -> None:
    """Refuse more than one of these, which are options by their names."""
    names = [name for name, value in given.items() if value]
    if len(names) > 1:
        raise click.UsageError(f"{' and '.join(names)} exclude one another")
