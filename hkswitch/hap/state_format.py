"""The state file's contents: setup code, keys, pairings and iids, to bytes and back. Does no I/O."""

import hashlib
import json
import logging
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from hkswitch.hap.iids import Record, encode_record, parse_record
from hkswitch.hap.setup_code import Setup
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.printable import printable
from hkswitch.protocol.control import MOST_FAILED_ATTEMPTS, SetupInfo
from hkswitch.protocol.json_lines import LARGEST_ID
from hkswitch.protocol.report import PairedController

FILE_NAME: Final = "bridge.json"
BACKUP_NAME: Final = "bridge.json.backup"
VERSION: Final = 2
"""The format. 1 had no iids; what reads only that would serve others, and so must refuse this one."""

LARGEST_VERSION: Final = 10**40
"""A number that can still be shown in a sentence."""
ADMIN_BIT: Final = 1

_KEYS: Final = {
    "": frozenset({"version", "setup", "failed_attempts", "accessory", "iids"}),
    "setup": frozenset({"code", "id"}),
    "accessory": frozenset(
        {
            "mac",
            "config_version",
            "paired_clients",
            "client_properties",
            "client_uuid_to_bytes",
            "accessories_hash",
            "private_key",
            "public_key",
        }
    ),
}
"""What this version writes: at the top, and in each part."""

_DEVICE_ID: Final = re.compile(r"([0-9A-F]{2}:){5}[0-9A-F]{2}")
_CONTROLLER_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_KEY: Final = re.compile(r"[0-9a-f]{64}")
_BYTES: Final = re.compile(r"([0-9a-f]{2})*")

_ANOTHER_FORM: Final = "it does not hold what this version of hkswitch writes"

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class StateDamaged(Failure):
    """The file is there, but it is not what was written, and neither is its backup."""

    path: Path
    why: str
    exit_code = Exit.DAMAGED

    def __str__(self) -> str:
        return (
            f"{self.path} is damaged ({self.why}): put a copy of yours in its place, "
            f"or remove {FILE_NAME} and {BACKUP_NAME} and pair the bridge anew"
        )


@dataclass(eq=False)
class StateTooNew(Failure):
    """The file, or its backup in its place, is of a newer format."""

    path: Path
    version: int
    exit_code = Exit.DAMAGED

    def __str__(self) -> str:
        return (
            f"cannot use {self.path}: it was written by a newer version of hkswitch "
            f"(format {self.version}, this one reads {VERSION}); install that version again, "
            f"or put back a copy of {FILE_NAME} and {BACKUP_NAME} from before the upgrade"
        )


@dataclass(frozen=True, slots=True)
class Stored:
    """What the file holds. `accessory` is HAP-python's part: keys, pairings, the bridge's ID.

    `iids` has those that were ever served to a controller, None if no daemon has written them yet.
    `others` has the keys that this version does not know, where they were; they are written back.
    """

    setup: Setup
    accessory: dict[str, Any]
    failed_attempts: int = 0
    others: dict[str, Any] = field(default_factory=dict)
    iids: Record | None = None

    @property
    def unknown_keys(self) -> tuple[str, ...]:
        """The paths of those keys, like `setup.flags`."""
        parts = (part for part in _KEYS if part)
        inner = (f"{part}.{key}" for part in parts for key in self.others.get(part, {}))
        return (*(key for key in self.others if key not in _KEYS), *inner)

    def warn_of_unknown_keys(self) -> None:
        """Log which keys this version does not know, if there are any."""
        if self.unknown_keys:
            names = printable(", ".join(map(repr, self.unknown_keys)))
            _log.warning("%s has keys that this version does not know, and keeps: %s", FILE_NAME, names)

    @property
    def device_id(self) -> str:
        """The bridge's ID as it is advertised, like `AA:BB:CC:DD:EE:FF`."""
        return str(self.accessory["mac"])

    @property
    def paired(self) -> bool:
        """Whether any controller is paired."""
        return bool(self.accessory["paired_clients"])

    @property
    def controllers(self) -> tuple[PairedController, ...]:
        """Who is paired; nobody is connected to a file."""
        properties = self.accessory["client_properties"]
        return tuple(
            PairedController(uuid.upper(), bool(properties[uuid]["permissions"] & ADMIN_BIT))
            for uuid in self.accessory["paired_clients"]
        )

    @property
    def setup_info(self) -> SetupInfo:
        """What is needed to pair."""
        return SetupInfo(
            code=self.setup.code,
            payload=self.setup.payload,
            device_id=self.device_id,
            paired=self.paired,
            failed_attempts=self.failed_attempts,
            pairing_refused=self.failed_attempts >= MOST_FAILED_ATTEMPTS,
        )

    def without(self, controller_id: str | None) -> "Stored":
        """The same without a controller, or without any (None); none are left without an admin."""
        left = {
            controller.id.lower(): controller.admin
            for controller in self.controllers
            if controller_id is not None and controller.id != controller_id
        }
        kept = left.keys() if any(left.values()) else ()
        pairings = {
            name: {uuid: value for uuid, value in self.accessory[name].items() if uuid in kept}
            for name in ("paired_clients", "client_properties", "client_uuid_to_bytes")
        }
        return replace(self, accessory=self.accessory | pairings, iids=self.iids if kept else {})


def encode(stored: Stored) -> bytes:
    """The file of a state."""
    others = stored.others
    contents = others | {
        "version": VERSION,
        "setup": others.get("setup", {}) | {"code": stored.setup.code, "id": stored.setup.id},
        "failed_attempts": stored.failed_attempts,
        "accessory": others.get("accessory", {}) | stored.accessory,
    }
    if stored.iids is not None:
        contents["iids"] = encode_record(stored.iids)
    return json.dumps(contents | {"sha256": digest(contents)}, indent=1).encode()


def parse(path: Path, contents: bytes) -> Stored:
    """The state in the file at `path`; raises `StateDamaged` or `StateTooNew`."""
    try:
        body = json.loads(contents.decode())
    except (ValueError, RecursionError) as error:
        raise StateDamaged(path, "it is not JSON") from error
    # Before the checksum, which a newer version may make in another way.
    match body:
        case {"version": int(version)} if VERSION < version <= LARGEST_VERSION:
            raise StateTooNew(path, version)
    if not isinstance(body, dict) or body.pop("sha256", None) != _digest(path, body):
        raise StateDamaged(path, "its checksum is wrong")
    # TRUST: the checksum is for the disk. The daemon's user can make one, and root reads what follows.
    match body:
        case {
            "version": 1 | 2 as version,
            "setup": {"code": str(code), "id": str(setup_id)},
            "failed_attempts": int(failed_attempts),
            "accessory": {
                "mac": str(device_id),
                "paired_clients": dict(),
                "client_properties": dict(),
                "client_uuid_to_bytes": dict(),
                "config_version": int(config_version),
                "private_key": str(private_key),
                "public_key": str(public_key),
            } as accessory,
        } if (
            Setup(code, setup_id).is_allowed
            and _DEVICE_ID.fullmatch(device_id)
            and 0 <= failed_attempts <= LARGEST_ID
            and 0 <= config_version <= LARGEST_ID
            and _KEY.fullmatch(private_key)
            and _KEY.fullmatch(public_key)
            and isinstance(accessory.get("accessories_hash"), str | None)
            and _are_pairings(accessory)
        ):
            known = {key: accessory[key] for key in accessory if key in _KEYS["accessory"]}
            iids = _iids(path, body) if version > 1 else None
            return Stored(Setup(code, setup_id), known, failed_attempts, _others(body), iids)
    raise StateDamaged(path, _ANOTHER_FORM)


def _iids(path: Path, body: dict[str, Any]) -> Record | None:
    try:
        return parse_record(body["iids"]) if "iids" in body else None
    except ValueError as error:
        raise StateDamaged(path, _ANOTHER_FORM) from error


def _are_pairings(accessory: dict[str, Any]) -> bool:
    """Whether what is said of the controllers is what HAP-python writes."""
    paired, properties = accessory["paired_clients"], accessory["client_properties"]
    return (
        paired.keys() == properties.keys()
        and all(map(_CONTROLLER_ID.fullmatch, paired))
        and all(isinstance(key, str) and _KEY.fullmatch(key) for key in paired.values())
        and all(map(_are_permissions, properties.values()))
        and all(
            _CONTROLLER_ID.fullmatch(uuid) and isinstance(raw, str) and _BYTES.fullmatch(raw)
            for uuid, raw in accessory["client_uuid_to_bytes"].items()
        )
    )


def _are_permissions(properties: object) -> bool:
    match properties:
        case {"permissions": int(bits)}:
            return 0 <= bits <= LARGEST_ID
    return False


def _others(body: dict[str, Any]) -> dict[str, Any]:
    """The keys that this version does not know, where they are."""
    unknown = {
        part: {key: body[part][key] for key in body[part] if key not in _KEYS[part]} for part in _KEYS if part
    }
    return {key: body[key] for key in body if key not in _KEYS[""]} | {
        part: keys for part, keys in unknown.items() if keys
    }


def _digest(path: Path, body: dict[str, Any]) -> str:
    try:
        return digest(body)
    except RecursionError as error:  # Python reads what is nested more deeply than it writes
        raise StateDamaged(path, "it is not JSON") from error


def digest(body: dict[str, Any]) -> str:
    """The checksum over all but itself."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
