"""The accessory database: the accessories that the bridge serves, their iids, and its version number (c#).

It decides which accessories may be served. `StateWriter` writes the state and reports success and failure
here.
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
from hkswitch.model.printable import printable_line

Accessories = Mapping[int, Accessory]


class RememberedIids(IIDManager):
    """The iids of one accessory, from the record; HAP-python numbers them by order."""

    def __init__(self, allocator: IidAllocator, aid: int) -> None:
        super().__init__()
        self._allocator = allocator
        self._aid = aid

    def get_iid_for_obj(self, obj: Service | Characteristic) -> int:
        """Return the iid of a new service or characteristic; HAP-python asks once for each."""
        iid = self._allocator.iid(self._aid, _type_of(obj))
        if iid in self.objs:
            raise ValueError(f"an accessory cannot have two of {_type_of(obj)}: iids are assigned by type")
        return iid

    @property
    def by_type(self) -> Iids:
        """The iids by type."""
        return {_type_of(obj): iid for iid, obj in self.objs.items()}


class Retyped(Accessory):
    """An accessory that may have another type in the state on disk."""

    @property
    def former(self) -> Accessory | None:
        """The same accessory with that type, to serve until this one is written."""


class Database:
    """The wanted accessories, and those it serves: the ones whose iids a restart would restore."""

    def __init__(self, state: State, stored: Stored | None) -> None:
        self._state = state
        self._allocator = (
            IidAllocator(stored.iids, paired=stored.paired) if stored else IidAllocator({}, paired=False)
        )
        self._was_taken_over = stored is not None and stored.taken_over is not None
        self._bridge: Bridge | None = None
        self._wanted: Accessories = {}
        self._written_version = self._version

    def iids_of(self, aid: int) -> RememberedIids:
        """Return the iid manager for a new accessory."""
        return RememberedIids(self._allocator, aid)

    def open(self, bridge: Bridge) -> None:
        """Start with the accessories of a bridge, after the state was loaded."""
        self._bridge, self._wanted = bridge, dict(bridge.accessories)
        self._written_version = self._version
        self._allocator.assign_by_type_from_now()
        if self._was_taken_over and self._state.accessories_hash is None:
            self._state.accessories_hash = self._digest()  # c# is already a new one
        self.serve_wanted()

    def want(self, accessories: Accessories) -> Accessories:
        """Replace the wanted accessories, and return the previous ones."""
        before, self._wanted = self._wanted, dict(accessories)
        return before

    def serve_wanted(self) -> bool:
        """Serve all wanted accessories, and return whether c# grew; it must be written before it is sent."""
        if self._bridge is not None:
            self._bridge.accessories = dict(self._wanted)
        return bool(self._state.set_accessories_hash(self._digest()))

    def serve_written(self) -> None:
        """Serve only what is on disk, because writing failed."""
        self._version = self._written_version
        if self._bridge is not None:
            may = {aid: self._servable(each) for aid, each in self._wanted.items()}
            self._bridge.accessories = {aid: each for aid, each in may.items() if each is not None}

    def revert_to(self, before: Accessories) -> None:
        """Restore the previous accessories, and forget the iids of all others."""
        self._wanted = before
        self._allocator.discard_unwritten_except({aid: _iids(each) for aid, each in before.items()})
        self.serve_written()

    @property
    def must_be_written(self) -> bool:
        """Whether a wanted accessory must be written before it may be served."""
        return not all(map(self._may_serve, self._wanted.values()))

    @property
    def has_unannounced_changes(self) -> bool:
        """Whether controllers have read outdated accessories and have not been notified."""
        return bool(self._state.paired) and self._digest() != self._state.accessories_hash

    @property
    def left_out(self) -> tuple[str, ...]:
        """The names of the wanted accessories that are not served."""
        return self._names(lambda served, _: served is None)

    @property
    def of_old_type(self) -> tuple[str, ...]:
        """The names of the accessories that are served with their former type."""
        return tuple(_name(each) for each in self._wanted.values() if self._served(each) not in {None, each})

    def written_type(self, aid: int) -> HapType | None:
        """Return the type of an accessory on disk, or None if it is not there."""
        return self._allocator.written_type(aid)

    @property
    def record(self) -> Record:
        """The iids to write; the current ones of each accessory come last."""
        present = {each.aid: _iids(self._served(each) or each) for each in self._wanted.values()}
        if self._bridge is not None:
            present[STANDALONE_AID] = _iids(self._bridge)
        return self._allocator.to_write(present, paired=self._state.paired)

    def written(self, record: Record) -> None:
        """Note that this record and c# are on disk."""
        self._written_version = self._version
        self._allocator.written(record)

    @property
    def _version(self) -> tuple[int, str | None]:
        """The config number (c#), and the hash of the accessories that it stands for."""
        return self._state.config_version, self._state.accessories_hash

    @_version.setter
    def _version(self, version: tuple[int, str | None]) -> None:
        self._state.config_version, self._state.accessories_hash = version

    def _may_serve(self, accessory: Accessory) -> bool:
        # Controllers read nothing before they are paired, and pairing writes all iids.
        return not self._state.paired or self._allocator.are_written(accessory.aid, _iids(accessory))

    def _servable(self, accessory: Accessory) -> Accessory | None:
        """Return the accessory that may be served: this one, the one of its former type, or None."""
        former = accessory.former if isinstance(accessory, Retyped) else None
        return next((each for each in (accessory, former) if each and self._may_serve(each)), None)

    def _names(self, of: Callable[[Accessory | None, Accessory], bool]) -> tuple[str, ...]:
        """Return the names of the wanted accessories for which `of` (served, wanted) is true."""
        chosen = (each for each in self._wanted.values() if of(self._served(each), each))
        return tuple(sorted(map(_name, chosen)))

    def _served(self, accessory: Accessory) -> Accessory | None:
        """Return the accessory that is served for a wanted one, or None."""
        return None if self._bridge is None else self._bridge.accessories.get(accessory.aid)

    def _digest(self) -> str:
        """Return the hash of the database.

        It includes names and the program's version, unlike HAP-python's.
        """
        accessories = [] if self._bridge is None else [self._bridge, *self._wanted.values()]
        values = {str(each.aid): _fixed_values(each) for each in accessories}
        services = [] if self._bridge is None else self._bridge.to_HAP(include_value=False)
        return hashlib.sha512(to_sorted_hap_json([services, values])).hexdigest()


def _name(accessory: Accessory) -> str:
    """Return the name for a message: one that was taken over may have any characters."""
    return printable_line(str(accessory.display_name))


def _iids(accessory: Accessory) -> Mapping[str, int]:
    manager = accessory.iid_manager
    return manager.by_type if isinstance(manager, RememberedIids) else {}


def _fixed_values(accessory: Accessory) -> list[Any]:
    """Return the read-only values, such as names: they are part of the database."""
    characteristics = (each for service in accessory.services for each in service.characteristics)
    return [each.value for each in characteristics if each.properties["Permissions"] == ["pr"]]


def _type_of(obj: Service | Characteristic) -> HapType:
    if isinstance(obj, Service):
        return str(uuid_to_hap_type(obj.type_id))
    return f"{uuid_to_hap_type(obj.service.type_id)}.{uuid_to_hap_type(obj.type_id)}"
