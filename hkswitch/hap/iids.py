"""Assigns the iids of services and characteristics, and keeps a record of all that were ever served.

Phones store scenes and automations by aid and iid, so a pair of the two must never change its meaning while a
controller is paired (HAP specification, 2.6.1). The record therefore includes retired iids. This module does
not know accessories, and neither reads nor writes a file.
"""

import re
from collections.abc import Collection, Mapping
from itertools import count
from typing import Final

from hkswitch.protocol.json_lines import LARGEST_ID

HapType = str
"""The type of a service, like `49`, or of a characteristic of it, like `49.25`, in HomeKit's short form."""

Iids = Mapping[HapType, int]
"""The iids of one accessory. In a record, retired ones come first, so the last service is the current
type."""

Record = Mapping[int, Iids]
"""The iids of all accessories, by aid."""


def _from(first: int, service: str, *characteristics: str) -> Iids:
    """Number a service from `first`, followed by its characteristics."""
    types = (service, *(f"{service}.{each}" for each in characteristics))
    return {each: iid for iid, each in enumerate(types, first)}


COMMON_IIDS: Final = {
    **_from(1, "3E", "14", "20", "21", "23", "30", "52"),
    **_from(8, "A2", "37"),  # protocol information, of the bridge itself only
}
"""The iids that all versions share."""

IIDS_BY_TYPE: Final = {
    **COMMON_IIDS,
    **_from(16, "49", "25"),  # Switch
    **_from(32, "47", "25", "26"),  # Outlet
    **_from(48, "43", "25"),  # Lightbulb
    **_from(64, "40", "25"),  # Fan
    **_from(80, "80", "6A"),  # ContactSensor
    **_from(96, "86", "71"),  # OccupancySensor
    **_from(112, "83", "70"),  # LeakSensor
}
"""The fixed iids of each type. Add numbers, but never change or reuse one.

If the record is lost, for example when an old backup is restored, only this table keeps the meanings. So it
contains no number that `IIDS_BY_ORDER` uses for several types.
"""

IIDS_BY_ORDER: Final = {
    **COMMON_IIDS,
    **_from(8, "49", "25"),
    **_from(8, "47", "25", "26"),
    **_from(8, "43", "25"),
    **_from(8, "40", "25"),
}
"""The iids of versions without a record, which numbered by order, regardless of the type."""

FIRST_DYNAMIC_IID: Final = 1000
"""The first iid for types without a fixed number, or with one that is taken."""

MOST_RECORDED_ACCESSORIES: Final = 2000
"""Accessories in the record: about 500 kB, and more than ten times what a bridge may have."""

_AID: Final = re.compile(r"[1-9][0-9]{0,18}")
_HAP_TYPE: Final = re.compile(r"[0-9A-F]{1,8}(\.[0-9A-F]{1,8})?")


class IidAllocator:
    """The iids of a bridge: those on disk, and those assigned since."""

    def __init__(self, record: Record | None, *, paired: bool) -> None:
        """`record` is the one on disk, or None if a version without one wrote the state.

        Without a paired controller, no phone remembers any iid, so the record is dropped.
        """
        # The iids of an accessory are replaced and never changed, so both share them.
        self._assigned = dict(record) if record is not None and paired else {}
        self._on_disk = dict(self._assigned)
        self._by_order = record is None and paired

    def iid(self, aid: int, hap_type: HapType) -> int:
        """Return the recorded iid of a type, or assign one."""
        iids = self._assigned.get(aid, {})
        if hap_type not in iids:
            preferred = IIDS_BY_TYPE.get(hap_type)
            if self._by_order:  # the versions without a record knew no sensors
                preferred = IIDS_BY_ORDER.get(hap_type, preferred)
            added = {hap_type: _free(preferred, iids.values())}
            self._assigned[aid] = iids = {**iids, **added}
            if self._by_order:
                self._on_disk[aid] = {**self._on_disk.get(aid, {}), **added}
        return iids[hap_type]

    def assign_by_type_from_now(self) -> None:
        """Assign by type from now on: the accessories from before the record existed already have iids."""
        self._by_order = False

    def are_written(self, aid: int, iids: Iids) -> bool:
        """Return whether a restart would restore an accessory of this type with these iids."""
        written = self._on_disk.get(aid, {})
        return iids.items() <= written.items() and _type_of(iids) == _type_of(written)

    def written_type(self, aid: int) -> HapType | None:
        """Return the type of an accessory on disk, or None if it is not there."""
        return _type_of(self._on_disk.get(aid, {}))

    def to_write(self, present: Record, *, paired: bool) -> Record:
        """Return the record to write; `present` contains the accessories that are served.

        If there are too many accessories, the oldest ones that are not served are dropped. One that comes
        back gets the fixed iids of its type, so even then no iid changes its meaning.
        """
        retired = [aid for aid in self._assigned if aid not in present] if paired else []
        kept = {*present, *retired[max(0, len(retired) + len(present) - MOST_RECORDED_ACCESSORIES) :]}
        return {
            aid: _ending_with(present.get(aid, {}), iids)
            for aid, iids in self._assigned.items()
            if aid in kept
        }

    def written(self, record: Record) -> None:
        """Replace everything with the record that is now on disk."""
        self._assigned, self._on_disk = dict(record), dict(record)

    def discard_unwritten_except(self, served: Record) -> None:
        """Forget the iids that were assigned but not written, except those of `served`."""
        self._assigned = dict(self._on_disk)
        for aid, iids in served.items():
            self._assigned[aid] = {**self._assigned.get(aid, {}), **iids}


def encode_record(record: Record) -> dict[str, dict[HapType, int]]:
    """Convert a record for JSON."""
    return {str(aid): dict(iids) for aid, iids in record.items()}


def parse_record(body: object) -> Record:
    """Parse a record from untrusted JSON; raises `ValueError`."""
    if not isinstance(body, dict):
        raise ValueError("not an object")
    return {_aid(aid): _iids(iids) for aid, iids in body.items()}


def merge_records(older: Record, newer: Record) -> Record:
    """Return the newer record with what only the older one has; no iid and no aid gets another meaning.

    What is added comes first, as the oldest, and is left out if there would be too many accessories.
    """
    merged = {aid: _merged(older.get(aid, {}), newer.get(aid, {})) for aid in {**older, **newer}}
    added = [aid for aid in older if aid not in newer]
    room = max(0, MOST_RECORDED_ACCESSORIES - len(newer))
    kept = added[max(0, len(added) - room) :]
    return {aid: merged[aid] for aid in (*kept, *newer)}


def _merged(older: Iids, newer: Iids) -> dict[HapType, int]:
    taken = {*newer.values()}
    added = {each: iid for each, iid in older.items() if each not in newer and iid not in taken}
    return added | dict(newer)


def _aid(text: str) -> int:
    if not _AID.fullmatch(text):
        raise ValueError("not an aid")
    return int(text)


def _iids(body: object) -> Iids:
    if not isinstance(body, dict) or not all(map(_HAP_TYPE.fullmatch, body)):
        raise ValueError("invalid types of services or characteristics")
    # A bool is an int in Python.
    if not all(type(iid) is int and 1 <= iid <= LARGEST_ID for iid in body.values()):
        raise ValueError("invalid iids")
    if len(set(body.values())) < len(body):
        raise ValueError("one iid for two types")
    return body


def _type_of(iids: Iids) -> HapType | None:
    """Return the last service: those before it are the accessory information and retired types."""
    return next((hap_type for hap_type in reversed([*iids]) if "." not in hap_type), None)


def _ending_with(present: Iids, iids: Iids) -> dict[HapType, int]:
    return {hap_type: iid for hap_type, iid in iids.items() if hap_type not in present} | dict(present)


def _free(preferred: int | None, taken: Collection[int]) -> int:
    if preferred is not None and preferred not in taken:
        return preferred
    return next(iid for iid in count(FIRST_DYNAMIC_IID) if iid not in taken)
