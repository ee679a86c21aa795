"""`hkswitch remove`: takes groups out of the configuration."""

from pathlib import Path
from typing import Final

import click

from hkswitch.cli.config_change import apply_change, dry_run_option, make_change, show_change, to_change
from hkswitch.cli.layout import say
from hkswitch.cli.options import config_option, examples
from hkswitch.editing.splice import without_group
from hkswitch.model.config import parse
from hkswitch.protocol.report import unknown_group

FORGOTTEN_ONE: Final = (
    "After the reload, the Home app forgets the accessory, with its room, scenes and automations; adding the "
    "group again does not restore them."
)
FORGOTTEN: Final = (
    "After the reload, the Home app forgets the accessories, with their rooms, scenes and automations; "
    "adding the groups again does not restore them."
)


@click.command(epilog=examples("sudo hkswitch remove fileserver", "hkswitch remove --dry-run web"))
@click.argument("groups", nargs=-1, required=True, metavar="GROUP...")
@dry_run_option
@config_option
def remove(groups: tuple[str, ...], config_file: Path, *, dry_run: bool) -> None:
    """Remove groups from the configuration.

    Removes the lines of the groups and their comments, shows the change, and reloads the daemon. The Home app
    then forgets the accessories, with their rooms and automations.
    """
    group_ids = tuple(dict.fromkeys(groups))
    with to_change(config_file, dry_run=dry_run) as original:
        data = without_groups(original.data, str(config_file), group_ids)
        show_change(original, data)
        say(FORGOTTEN_ONE if len(group_ids) == 1 else FORGOTTEN)
        if dry_run:
            return
        make_change(original, data)
    say(f"Removed {', '.join(group_ids)}.")
    apply_change(config_file)


def without_groups(data: bytes, file: str, group_ids: tuple[str, ...]) -> bytes:
    """Return the config without these groups. Raises `Failure`."""
    known = [group.id for group in parse(data, file).groups]
    for group_id in group_ids:
        if group_id not in known:
            raise unknown_group(group_id, known)
    for group_id in group_ids:
        data = without_group(data, file, group_id)
    return data
