"""Gives the parts of an accessory the iids that the bridge remembers; HAP-python numbers them by order."""

from pyhap.characteristic import Characteristic
from pyhap.iid_manager import IIDManager
from pyhap.service import Service
from pyhap.util import uuid_to_hap_type

from hkswitch.hap.iids import Iids, Meaning, Numbers


class RememberedIids(IIDManager):
    """The iids of one accessory."""

    def __init__(self, numbers: Numbers, aid: int) -> None:
        super().__init__()
        self._numbers = numbers
        self._aid = aid

    def get_iid_for_obj(self, obj: Service | Characteristic) -> int:
        """The iid of a service or characteristic that the accessory gets; HAP-python asks once for each."""
        iid = self._numbers.iid(self._aid, _meaning(obj))
        if iid in self.objs:
            raise ValueError(f"two of {_meaning(obj)} in an accessory: iids are by type")
        return iid

    @property
    def by_meaning(self) -> Iids:
        """What the accessory has."""
        return {_meaning(obj): iid for iid, obj in self.objs.items()}


def _meaning(obj: Service | Characteristic) -> Meaning:
    if isinstance(obj, Service):
        return str(uuid_to_hap_type(obj.type_id))
    return f"{uuid_to_hap_type(obj.service.type_id)}.{uuid_to_hap_type(obj.type_id)}"
