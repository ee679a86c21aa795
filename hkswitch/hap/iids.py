"""The iids of services and characteristics: which each one has, and which were ever served.

Phones keep scenes and automations by aid and iid, so a pair of the two never changes its meaning while a
controller is paired (HAP specification, 2.6.1). This module assigns iids and remembers them, retired ones
included; it must not know what an accessory is, and it neither reads nor writes a file.
"""

import re
from collections.abc import Collection, Mapping
from itertools import count
from typing import Final

from hkswitch.protocol.json_lines import LARGEST_ID

HapType = str
"""The type of a service, like `49`, or of a characteristic of it, like `49.25`, in HomeKit's short form."""

Iids = Mapping[HapType, int]
"""The iids of one accessory. In a record, what is retired comes first, so the last service is its type."""

Record = Mapping[int, Iids]
"""The iids of all accessories, by aid."""


def _from(first: int, service: str, *characteristics: str) -> Iids:
    """A service at an iid, and its characteristics behind it."""
    meanings = (service, *(f"{service}.{each}" for each in characteristics))
    return {meaning: iid for iid, meaning in enumerate(meanings, first)}


COMMON_IIDS: Final = {
    **_from(1, "3E", "14", "20", "21", "23", "30", "52"),
    **_from(8, "A2", "37"),  # protocol information, which only the bridge itself has
}
"""What every version had in the same places."""

IIDS_BY_TYPE: Final = {
    **COMMON_IIDS,
    **_from(16, "49", "25"),  # Switch
    **_from(32, "47", "25", "26"),  # Outlet
    **_from(48, "43", "25"),  # Lightbulb
    **_from(64, "40", "25"),  # Fan
}
"""What an accessory gets. Add numbers, but never change one or give it to something else.

Where the record is lost, as after the restore of an old backup, this alone keeps the meanings. So no type has
a number that `IIDS_BY_ORDER` has for several.
"""

IIDS_BY_ORDER: Final = {
    **COMMON_IIDS,
    **_from(8, "49", "25"),
    **_from(8, "47", "25", "26"),
    **_from(8, "43", "25"),
    **_from(8, "40", "25"),
}
"""What versions without a record served: they numbered by order, whatever the type."""

FIRST_DYNAMIC_IID: Final = 1000
"""From here on are the iids of what has no number above, or whose number is taken."""

MOST_RECORDED_ACCESSORIES: Final = 2000
"""Accessories in the record: some 500 kB, and more than ten times what a bridge may have."""

_AID: Final = re.compile(r"[1-9][0-9]{0,18}")
_MEANING: Final = re.compile(r"[0-9A-F]{1,8}(\.[0-9A-F]{1,8})?")


class IidAllocator:
    """The iids of a bridge: those on disk, and those that were assigned since."""

    def __init__(self, record: Record | None, *, paired: bool) -> None:
        """`record` is the one on disk, None if a version without one wrote the state.

        Without a controller, no phone remembers what an iid meant, and nothing is kept.
        """
        self._all = _copy(record) if record is not None and paired else {}
        self._safe = _copy(self._all)
        self._by_order = record is None and paired

    def iid(self, aid: int, meaning: HapType) -> int:
        """The iid that this always had, or a new one."""
        iids = self._all.setdefault(aid, {})
        if meaning not in iids:
            preferred = (IIDS_BY_ORDER if self._by_order else IIDS_BY_TYPE).get(meaning)
            iids[meaning] = _free(preferred, iids.values())
            if self._by_order:
                self._safe.setdefault(aid, {})[meaning] = iids[meaning]
        return iids[meaning]

    def end_of_past(self) -> None:
        """Give types iids of their own from now on: what served before there was a record has its own."""
        self._by_order = False

    def are_written(self, aid: int, iids: Iids) -> bool:
        """Whether a restart would find an accessory of this type again, with these iids."""
        written = self._safe.get(aid, {})
        return iids.items() <= written.items() and _type_of(iids) == _type_of(written)

    def written_type(self, aid: int) -> HapType | None:
        """The type that an accessory has on disk, None if it is not there."""
        return _type_of(self._safe.get(aid, {}))

    def to_write(self, present: Record, *, paired: bool) -> Record:
        """The record for the disk, without what may be forgotten; `present` is what is served.

        Of more accessories than fit, those that were recorded first and are not served are forgotten. Each
        gets the iids of its type if it comes back, so even then none gets another meaning.
        """
        retired = [aid for aid in self._all if aid not in present] if paired else []
        kept = {*present, *retired[max(0, len(retired) + len(present) - MOST_RECORDED_ACCESSORIES) :]}
        return {
            aid: _ending_with(present.get(aid, {}), iids) for aid, iids in self._all.items() if aid in kept
        }

    def written(self, record: Record) -> None:
        """Take the record that is on disk now for what there is."""
        self._all, self._safe = _copy(record), _copy(record)

    def only(self, served: Record) -> None:
        """Forget what was assigned to accessories that were never served; these are."""
        self._all = _copy(self._safe)
        for aid, iids in served.items():
            self._all.setdefault(aid, {}).update(iids)


def encode_record(record: Record) -> dict[str, dict[HapType, int]]:
    """The record as JSON has it."""
    return {str(aid): dict(iids) for aid, iids in record.items()}


def parse_record(body: object) -> Record:
    """The record of a JSON object; raises `ValueError`, and trusts nothing that it holds."""
    if not isinstance(body, dict):
        raise ValueError("not an object")
    return {_aid(aid): _iids(iids) for aid, iids in body.items()}


def _aid(text: str) -> int:
    if not _AID.fullmatch(text):
        raise ValueError("not an aid")
    return int(text)


def _iids(body: object) -> Iids:
    if not isinstance(body, dict) or not all(map(_MEANING.fullmatch, body)):
        raise ValueError("not the types of services and characteristics")
    # A bool is an int too.
    if not all(type(iid) is int and 1 <= iid <= LARGEST_ID for iid in body.values()):
        raise ValueError("not iids")
    if len(set(body.values())) < len(body):
        raise ValueError("one iid with two meanings")
    return body


def _type_of(iids: Iids) -> HapType | None:
    """The last service; those before it say what an accessory is called, or what it was."""
    return next((meaning for meaning in reversed([*iids]) if "." not in meaning), None)


def _ending_with(present: Iids, iids: Iids) -> dict[HapType, int]:
    return {meaning: iid for meaning, iid in iids.items() if meaning not in present} | dict(present)


def _free(preferred: int | None, taken: Collection[int]) -> int:
    if preferred is not None and preferred not in taken:
        return preferred
    return next(iid for iid in count(FIRST_DYNAMIC_IID) if iid not in taken)


def _copy(record: Record) -> dict[int, dict[HapType, int]]:
    return {aid: dict(iids) for aid, iids in record.items()}
