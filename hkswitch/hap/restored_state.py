"""A bridge's state after a restore: joins the state in a backup with the one on this machine. Pure: no I/O.

Restoring must not undo what happened since the backup where phones or security depend on it: a removed
controller stays removed, failed attempts stay counted, and no aid, iid or c# gets another meaning.
"""

from dataclasses import replace
from typing import Final, NamedTuple

from hkswitch.hap.iids import Record, merge_records
from hkswitch.hap.state_format import Stored

LARGEST_CONFIG_VERSION: Final = 65535
"""The largest c# (HAP specification, 6.4); 1 follows it."""

UNSEEN_CHANGES: Final = 1000
"""The growth of c# if the newest state is unknown. The bridge may have counted on after the backup was made,
and a number that phones have seen must not soon stand for other accessories."""


class RestoredState(NamedTuple):
    """The state to write, and how its controllers differ from those in the backup, by ID."""

    stored: Stored
    is_same_bridge: bool
    """Whether this machine already had the bridge of the backup."""
    removed: tuple[str, ...] = ()
    """Controllers in the backup that were removed since."""
    paired_since: tuple[str, ...] = ()
    """Controllers that are not in the backup."""


def next_config_version(*versions: int, by: int = 1) -> int:
    """Return a c# that follows all of these."""
    return (max(versions) + by - 1) % LARGEST_CONFIG_VERSION + 1


def restored_state(saved: Stored, today: Stored | None) -> RestoredState:
    """Return the state after a restore. `today` is this machine's, None without a readable one.

    If this machine has the same bridge, its state is the newer one and stays, with a new c#. Otherwise the
    backup's replaces it.
    """
    if today is None or not _are_same(saved, today):
        moved = replace(saved, was_restored=True)
        return RestoredState(_with_version(moved, _version(saved), by=UNSEEN_CHANGES), is_same_bridge=False)
    merged = replace(today, iids=_joined(saved.iids, today.iids))
    before, now = _controllers(saved), _controllers(today)
    return RestoredState(
        _with_version(merged, _version(saved), _version(today)),
        is_same_bridge=True,
        removed=tuple(each for each in before if each not in now),
        paired_since=tuple(each for each in now if each not in before),
    )


def _are_same(saved: Stored, today: Stored) -> bool:
    """Return whether phones would see one bridge: they know it by its ID and its key."""
    keys = ("mac", "public_key", "private_key")
    return all(saved.accessory[key] == today.accessory[key] for key in keys)


def _joined(saved: Record | None, today: Record | None) -> Record | None:
    """Join two records; without today's, the daemon still numbers by order, as the phones know it."""
    return today if saved is None or today is None else merge_records(saved, today)


def _controllers(stored: Stored) -> tuple[str, ...]:
    return tuple(each.id for each in stored.controllers)


def _version(stored: Stored) -> int:
    return int(stored.accessory["config_version"])


def _with_version(stored: Stored, *versions: int, by: int = 1) -> Stored:
    version = next_config_version(*versions, by=by)
    return replace(stored, accessory=stored.accessory | {"config_version": version})
