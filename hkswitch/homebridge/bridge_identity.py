"""Reads a bridge's keys, setup code and pairings: AccessoryInfo.MAC.json of HAP-NodeJS. Pure: no I/O."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from hkswitch.homebridge.damage import Damaged, is_text, read_json, shown, whole

MOST_CLIENTS: Final = 128
MOST_NAME: Final = 64
_KEY: Final = re.compile(r"[0-9a-f]{64}")
_KEY_PAIR: Final = re.compile(r"[0-9a-f]{128}")
_CLIENT_ID: Final = re.compile(r"[\x21-\x7e]{1,36}")
_SETUP_CODE: Final = re.compile(r"[0-9]{3}-[0-9]{2}-[0-9]{3}")
_SETUP_ID: Final = re.compile(r"[0-9A-Z]{4}")
_ADMIN, _USER = 1, 0


class Client(NamedTuple):
    """A paired controller."""

    id: str
    public_key: str
    is_admin: bool


class BridgeIdentity(NamedTuple):
    """A bridge as its controllers know it. Keys are in hexadecimal digits."""

    username: str
    display_name: str
    setup_code: str
    setup_id: str
    """Empty if it has none, as in old versions."""
    private_key: str
    public_key: str
    clients: tuple[Client, ...]
    config_version: int


def read_identity(data: bytes, file: str, username: str) -> BridgeIdentity:
    """Return the identity in the file of the bridge `username`; raises `Damaged`."""
    match read_json(data, file):
        case {
            "displayName": str(name),
            "pincode": str(code),
            "signSk": str(key_pair),
            "signPk": str(public_key),
            "pairedClients": dict(clients),
            "configVersion": config_version,
            **rest,
        }:
            pass
        case _:
            raise Damaged(file, "a part of the identity is missing")
    if not _KEY_PAIR.fullmatch(key_pair) or not _KEY.fullmatch(public_key) or key_pair[64:] != public_key:
        raise Damaged(file, "its keys are invalid")
    if not _SETUP_CODE.fullmatch(code):
        raise Damaged(file, "its setup code is invalid")
    if not is_text(name) or not 0 < len(name) <= MOST_NAME:
        raise Damaged(file, "its name is invalid")
    permissions = rest.get("pairedClientsPermission", {})
    if not isinstance(permissions, dict) or len(clients) > MOST_CLIENTS:
        raise Damaged(file, "its pairings are invalid")
    return BridgeIdentity(
        username,
        name,
        code,
        _setup_id(rest.get("setupID", ""), file),
        key_pair[:64],
        public_key,
        tuple(_clients(clients, permissions, file)),
        whole(config_version, 1, file, "the config version"),
    )


def _setup_id(found: object, file: str) -> str:
    if found == "" or (isinstance(found, str) and _SETUP_ID.fullmatch(found)):
        return str(found)
    raise Damaged(file, "its setup ID is invalid")


def _clients(clients: Mapping[str, Any], permissions: Mapping[str, Any], file: str) -> Iterator[Client]:
    """Yield the controllers. HAP-NodeJS takes one without a permission as an admin."""
    for client_id, key in clients.items():
        permission = permissions.get(client_id, _ADMIN)
        is_known = type(permission) is int and permission in {_ADMIN, _USER}
        if not (
            _CLIENT_ID.fullmatch(client_id) and isinstance(key, str) and _KEY.fullmatch(key) and is_known
        ):
            raise Damaged(file, f"the pairing {shown(client_id)} is invalid")
        yield Client(client_id, key, permission == _ADMIN)
    if len({client_id.lower() for client_id in clients}) < len(clients):
        raise Damaged(file, "one controller is paired twice")
