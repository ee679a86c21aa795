"""The accessory database: what the bridge serves, under which iids, and the number (c#) that stands for it.

It decides what may be served; the driver writes the state, and tells here when that succeeded or failed.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from pyhap.accessory import Accessory, Bridge
from pyhap.characteristic import Characteristic
from pyhap.const import STANDALONE_AID
from pyhap.iid_manager import IIDManager
from pyhap.service import Service
from pyhap.state import State
from pyhap.util import to_sorted_hap_json, uuid_to_hap_type

from hkswitch.hap.iids import HapType, IidAllocator, Iids, Record
from hkswitch.hap.state_format import Stored

Accessories = Mapping[int, Accessory]


class RememberedIids(IIDManager):
    """The iids of one accessory."""

    def __init__(self, numbers: IidAllocator, aid: int) -> None:
        super().__init__()
        self._iids_by_aid = numbers
        self._aid = aid

    def get_iid_for_obj(self, obj: Service | Characteristic) -> int:
        """The iid of a service or characteristic that the accessory gets; HAP-python asks once for each."""
        iid = self._iids_by_aid.iid(self._aid, _meaning(obj))
        if iid in self.objs:
            raise ValueError(f"two of {_meaning(obj)} in an accessory: iids are by type")
        return iid

    @property
    def by_meaning(self) -> Iids:
        """What the accessory has."""
        return {_meaning(obj): iid for iid, obj in self.objs.items()}


class Retyped(Accessory):
    """An accessory that may have had another type when the state was written last."""

    @property
    def former(self) -> Accessory | None:
        """The same of that type, to be served as long as this one cannot be written."""


class Database:
    """The accessories that are wanted, of which those are served whose iids a restart would find again."""

    def __init__(self, state: State, stored: Stored | None) -> None:
        self._state = state
        self._iids_by_aid = (
            IidAllocator(stored.iids, paired=stored.paired) if stored else IidAllocator({}, paired=False)
        )
        self._bridge: Bridge | None = None
        self._wanted: Accessories = {}
        self._written_version = self._version

    def iids_of(self, aid: int) -> RememberedIids:
        """What numbers the services and characteristics of a new accessory."""
        return RememberedIids(self._iids_by_aid, aid)

    def open(self, bridge: Bridge) -> None:
        """Begin with the accessories of a bridge, when the state has been read."""
        self._bridge, self._wanted = bridge, dict(bridge.accessories)
        self._written_version = self._version
        self._iids_by_aid.end_of_past()
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
            may = {aid: self._servable(each) for aid, each in self._wanted.items()}
            self._bridge.accessories = {aid: each for aid, each in may.items() if each is not None}

    def go_back(self, before: Accessories) -> None:
        """Serve what was wanted before, as if nothing else ever had been."""
        self._wanted = before
        self._iids_by_aid.only({aid: _iids(each) for aid, each in before.items()})
        self.serve_written()

    @property
    def must_be_written(self) -> bool:
        """Whether something that is wanted may not be served before it is written."""
        return not all(map(self._may_serve, self._wanted.values()))

    @property
    def is_untold(self) -> bool:
        """Whether controllers have read other accessories than those that are wanted, and are not told so."""
        return bool(self._state.paired) and self._digest() != self._state.accessories_hash

    @property
    def left_out(self) -> tuple[str, ...]:
        """The names of the accessories that are wanted and not served."""
        return self._names(lambda served, _: served is None)

    @property
    def of_old_type(self) -> tuple[str, ...]:
        """The names of those that are served as what they were before."""
        return tuple(
            str(each.display_name) for each in self._wanted.values() if self._served(each) not in {None, each}
        )

    def written_type(self, aid: int) -> HapType | None:
        """The type that an accessory had when it was written last, None if it never was."""
        return self._iids_by_aid.written_type(aid)

    @property
    def record(self) -> Record:
        """The iids to write: what each accessory is now comes last."""
        present = {each.aid: _iids(self._served(each) or each) for each in self._wanted.values()}
        if self._bridge is not None:
            present[STANDALONE_AID] = _iids(self._bridge)
        return self._iids_by_aid.to_write(present, paired=self._state.paired)

    def written(self, record: Record) -> None:
        """The record and c# are on disk."""
        self._written_version = self._version
        self._iids_by_aid.written(record)

    @property
    def _version(self) -> tuple[int, str | None]:
        """The config version (c#), and the accessories that it stands for."""
        return self._state.config_version, self._state.accessories_hash

    @_version.setter
    def _version(self, version: tuple[int, str | None]) -> None:
        self._state.config_version, self._state.accessories_hash = version

    def _may_serve(self, accessory: Accessory) -> bool:
        # A controller reads nothing before it is paired, and with its pairing all iids are written.
        return not self._state.paired or self._iids_by_aid.are_written(accessory.aid, _iids(accessory))

    def _servable(self, accessory: Accessory) -> Accessory | None:
        """What may be served of an accessory: itself, or what it was."""
        former = accessory.former if isinstance(accessory, Retyped) else None
        return next((each for each in (accessory, former) if each and self._may_serve(each)), None)

    def _names(self, of: Callable[[Accessory | None, Accessory], bool]) -> tuple[str, ...]:
        """The names of what is wanted, by what is served of it."""
        return tuple(sorted(str(e.display_name) for e in self._wanted.values() if of(self._served(e), e)))

    def _served(self, accessory: Accessory) -> Accessory | None:
        """What is served of an accessory now."""
        return None if self._bridge is None else self._bridge.accessories.get(accessory.aid)

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


def _meaning(obj: Service | Characteristic) -> HapType:
    if isinstance(obj, Service):
        return str(uuid_to_hap_type(obj.type_id))
    return f"{uuid_to_hap_type(obj.service.type_id)}.{uuid_to_hap_type(obj.type_id)}"
