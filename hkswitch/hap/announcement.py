"""The bridge's mDNS service as phones find it (HAP specification, 6.4). Sends nothing."""

import base64
import hashlib
from typing import Final, Protocol

from zeroconf import ServiceInfo

from hkswitch.hap.labels import MODEL, host_name, instance_name
from hkswitch.hap.setup_code import CATEGORY_BRIDGE

SERVICE_TYPE: Final = "_hap._tcp.local."
PROTOCOL: Final = "1.1"


class State(Protocol):
    """What is announced of HAP-python's state."""

    mac: str
    setup_id: str
    config_version: int
    addresses: list[str]
    port: int

    @property
    def paired(self) -> bool:
        """Whether any controller is paired."""


def announcement(name: str, state: State) -> ServiceInfo:
    """What is true now. HAP-python's has no other script than ASCII in its names, and a name as the model."""
    return ServiceInfo(
        SERVICE_TYPE,
        name=f"{instance_name(name, state.mac)}.{SERVICE_TYPE}",
        server=f"{host_name(name, state.mac)}.local.",
        port=state.port,
        properties={
            "md": MODEL,
            "pv": PROTOCOL,
            "id": state.mac,
            "c#": str(state.config_version),
            "s#": "1",  # IP accessories have no other state number
            "ff": "0",  # not certified
            "ci": str(CATEGORY_BRIDGE),
            "sf": "0" if state.paired else "1",
            "sh": _setup_hash(state.setup_id, state.mac),
        },
        parsed_addresses=list(state.addresses),
    )


def _setup_hash(setup_id: str, device_id: str) -> str:
    """What tells a phone that scanned the QR code which bridge it is of."""
    return base64.b64encode(hashlib.sha512(f"{setup_id}{device_id}".encode()).digest()[:4]).decode()
