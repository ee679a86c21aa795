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
    is_same_bridge: bool = False
    """Whether this machine already had the bridge of the backup."""
    is_newer_here: bool = False
    """Whether its state is the newer one, and stays."""
    removed: tuple[str, ...] = ()
    """Controllers in the backup that were removed since."""
    paired_since: tuple[str, ...] = ()
    """Controllers that are not in the backup."""


def next_config_version(version: int, by: int = 1) -> int:
    """Return a c# that follows this one."""
    return (version + by - 1) % LARGEST_CONFIG_VERSION + 1


def restored_state(saved: Stored, today: Stored | None) -> RestoredState:
    """Return the state after a restore. `today` is this machine's, None without a readable one.

    If this machine has the same bridge, the newer of the two states stays, with a new c#. The backup's is the
    newer one if the bridge has moved away from here, and now returns. Of another bridge, nothing stays.
    """
    if today is None or not _are_same(saved, today):
        return RestoredState(_moved(saved))
    if _is_later(_version(saved), _version(today)):
        failed = max(saved.failed_attempts, today.failed_attempts)
        joined = replace(saved, iids=_joined(today.iids, saved.iids), failed_attempts=failed)
        return RestoredState(_moved(joined), is_same_bridge=True)
    before, now = _controllers(saved), _controllers(today)
    return RestoredState(
        _grown(replace(today, iids=_joined(saved.iids, today.iids))),
        is_same_bridge=True,
        is_newer_here=True,
        removed=tuple(each for each in before if each not in now),
        paired_since=tuple(each for each in now if each not in before),
    )


def _is_later(version: int, other: int) -> bool:
    """Return whether a c# comes after another one: it grows with each move, and wraps."""
    return 0 < (version - other) % LARGEST_CONFIG_VERSION <= LARGEST_CONFIG_VERSION // 2


def _moved(saved: Stored) -> Stored:
    """Return the state of a bridge that may still be on another machine."""
    return _grown(replace(saved, was_restored=True), by=UNSEEN_CHANGES)


def _are_same(saved: Stored, today: Stored) -> bool:
    """Return whether phones would see one bridge: they know it by its ID and its key."""
    keys = ("mac", "public_key", "private_key")
    return all(saved.accessory[key] == today.accessory[key] for key in keys)


def _joined(older: Record | None, newer: Record | None) -> Record | None:
    """Join two records; without the newer one, the daemon still numbers by order, as the phones know it."""
    return newer if older is None or newer is None else merge_records(older, newer)


def _controllers(stored: Stored) -> tuple[str, ...]:
    return tuple(each.id for each in stored.controllers)


def _version(stored: Stored) -> int:
    return int(stored.accessory["config_version"])


def _grown(stored: Stored, by: int = 1) -> Stored:
    version = next_config_version(_version(stored), by)
    return replace(stored, accessory=stored.accessory | {"config_version": version})
