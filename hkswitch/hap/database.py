"""The accessory database: what the bridge serves, under which iids, and the number (c#) that stands for it.

It decides what may be served; the driver writes the state, and tells here when that succeeded or failed.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from pyhap.accessory import Accessory, Bridge
from pyhap.const import STANDALONE_AID
from pyhap.state import State
from pyhap.util import to_sorted_hap_json

from hkswitch.hap.iid_manager import RememberedIids
from hkswitch.hap.iids import Numbers, Record
from hkswitch.hap.state_format import Stored

Accessories = Mapping[int, Accessory]


class Database:
    """The accessories that are wanted, of which those are served whose iids a restart would find again."""

    def __init__(self, state: State, stored: Stored | None) -> None:
        self._state = state
        self._numbers = Numbers(stored.iids, paired=stored.paired) if stored else Numbers({}, paired=False)
        self._bridge: Bridge | None = None
        self._wanted: Accessories = {}
        self._written_version = self._version

    def iids_of(self, aid: int) -> RememberedIids:
        """What numbers the services and characteristics of a new accessory."""
        return RememberedIids(self._numbers, aid)

    def open(self, bridge: Bridge) -> None:
        """Begin with the accessories of a bridge, when the state has been read."""
        self._bridge, self._wanted = bridge, dict(bridge.accessories)
        self._written_version = self._version
        self._numbers.end_of_past()
        self.serve_wanted()

    def want(self, accessories: Accessories) -> Accessories:
        """Want these instead; those that were wanted before are returned."""
        before, self._wanted = self._wanted, dict(accessories)
        return before

    def serve_wanted(self) -> bool:
        """Serve all that is wanted; whether c# has grown by it, which must be written before it is sent."""
        if self._bridge is not None:
            self._bridge.accessories = dict(self._wanted)
        return bool(self._state.set_accessories_hash(self._digest()))

    def serve_written(self) -> None:
        """Serve what needs not be written first: writing failed."""
        self._version = self._written_version
        if self._bridge is not None:
            may = {aid: each for aid, each in self._wanted.items() if self._may_serve(each)}
            self._bridge.accessories = may

    def go_back(self, before: Accessories) -> None:
        """Serve what was wanted before, as if nothing else ever had been."""
        self._wanted = before
        self._numbers.only({aid: _iids(each) for aid, each in before.items()})
        self.serve_written()

    @property
    def unwritten(self) -> tuple[str, ...]:
        """The names of the accessories that may not be served before they are written."""
        return tuple(str(each.display_name) for each in self._wanted.values() if not self._may_serve(each))

    @property
    def record(self) -> Record:
        """The iids to write."""
        return self._numbers.to_write((STANDALONE_AID, *self._wanted), paired=self._state.paired)

    def written(self, record: Record) -> None:
        """The record and c# are on disk."""
        self._written_version = self._version
        self._numbers.written(record)

    @property
    def _version(self) -> tuple[int, str | None]:
        """The config version (c#), and the accessories that it stands for."""
        return self._state.config_version, self._state.accessories_hash

    @_version.setter
    def _version(self, version: tuple[int, str | None]) -> None:
        self._state.config_version, self._state.accessories_hash = version

    def _may_serve(self, accessory: Accessory) -> bool:
        # A controller reads nothing before it is paired, and with its pairing all iids are written.
        return not self._state.paired or self._numbers.are_written(accessory.aid, _iids(accessory))

    def _digest(self) -> str:
        """Another one for each database; with names and the version, which HAP-python leaves out."""
        accessories = [] if self._bridge is None else [self._bridge, *self._wanted.values()]
        values = {str(each.aid): _fixed_values(each) for each in accessories}
        services = [] if self._bridge is None else self._bridge.to_HAP(include_value=False)
        return hashlib.sha512(to_sorted_hap_json([services, values])).hexdigest()


def _iids(accessory: Accessory) -> Mapping[str, int]:
    manager = accessory.iid_manager
    return manager.by_meaning if isinstance(manager, RememberedIids) else {}


def _fixed_values(accessory: Accessory) -> list[Any]:
    """The values of what can only be read: they are part of what the accessory is."""
    characteristics = (each for service in accessory.services for each in service.characteristics)
    return [each.value for each in characteristics if each.properties["Permissions"] == ["pr"]]
