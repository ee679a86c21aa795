"""The format of the state file: setup code, keys, pairings, iids and what was taken over, to bytes and back.

Pure: no I/O except log lines.
"""

import hashlib
import json
import logging
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from hkswitch.hap.iids import Record, encode_record, parse_record
from hkswitch.hap.setup_code import Setup
from hkswitch.hap.taken_over import TakenOver, encode_taken_over, parse_taken_over
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.printable import printable
from hkswitch.protocol.control import MOST_FAILED_ATTEMPTS, SetupInfo
from hkswitch.protocol.json_lines import LARGEST_ID
from hkswitch.protocol.report import PairedController

FILE_NAME: Final = "bridge.json"
BACKUP_NAME: Final = "bridge.json.backup"
FORMAT_VERSION: Final = 3
"""The newest format. Format 1 had no iids, and format 2 no accessories that were taken over: a program that
knows only that one would serve different iids or aids, so it must reject this one."""

USUAL_FORMAT_VERSION: Final = 2
"""The format of a bridge that has taken over nothing: older versions can read it."""

LARGEST_FORMAT_VERSION: Final = 10**40
"""The largest format version to show in a message."""
ADMIN_BIT: Final = 1

_KNOWN_KEYS: Final = {
    "": frozenset({"version", "setup", "failed_attempts", "accessory", "iids", "taken_over", "restored"}),
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
"""The keys that this version writes: at the top level, and in each part."""

_DEVICE_ID: Final = re.compile(r"([0-9A-F]{2}:){5}[0-9A-F]{2}")
_CONTROLLER_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_KEY: Final = re.compile(r"[0-9a-f]{64}")
_BYTES: Final = re.compile(r"([0-9a-f]{2})*")

_UNEXPECTED: Final = "unexpected contents"

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class StateDamaged(Failure):
    """A damaged state file without a sound backup."""

    path: Path
    why: str
    exit_code = Exit.DAMAGED

    def __str__(self) -> str:
        return (
            f"{self.path} is damaged ({self.why}); restore a backup with `hkswitch restore`, "
            "or give the bridge a new identity with `hkswitch reset` and pair it again"
        )


class StateTooNew(Failure):
    """A state file, or a backup that replaces it, in a newer format."""

    exit_code = Exit.DAMAGED

    def __init__(self, path: Path, version: int) -> None:
        super().__init__(
            f"cannot use {path}: a newer version of hkswitch wrote it "
            f"(format {version}, this one reads {FORMAT_VERSION}); install that version again, "
            "or restore a backup from before the upgrade with `hkswitch restore`"
        )


@dataclass(frozen=True, slots=True)
class Stored:
    """The contents of the state file. `accessory` is HAP-python's part: keys, pairings and the bridge's ID.

    `iids` has all that were ever served to a controller, None if no daemon has written them yet.
    `taken_over` is None unless the bridge was another program's, and `was_restored` is set if it came from a
    backup: then another machine may still have the same bridge.
    `others` has the unknown keys at their positions; they are written back.
    """

    setup: Setup
    accessory: dict[str, Any]
    failed_attempts: int = 0
    others: dict[str, Any] = field(default_factory=dict)
    iids: Record | None = None
    taken_over: TakenOver | None = None
    was_restored: bool = False

    @property
    def unknown_keys(self) -> tuple[str, ...]:
        """The paths of the unknown keys, like `setup.flags`."""
        parts = (part for part in _KNOWN_KEYS if part)
        inner = (f"{part}.{key}" for part in parts for key in self.others.get(part, {}))
        return (*(key for key in self.others if key not in _KNOWN_KEYS), *inner)

    def warn_of_unknown_keys(self) -> None:
        """Log the unknown keys, if there are any."""
        if self.unknown_keys:
            names = printable(", ".join(map(repr, self.unknown_keys)))
            _log.warning("%s has keys that this version does not know; keeping them: %s", FILE_NAME, names)

    @property
    def device_id(self) -> str:
        """The bridge's ID in mDNS, like `AA:BB:CC:DD:EE:FF`."""
        return str(self.accessory["mac"])

    @property
    def paired(self) -> bool:
        """Whether any controller is paired."""
        return bool(self.accessory["paired_clients"])

    @property
    def controllers(self) -> tuple[PairedController, ...]:
        """The paired controllers, without connections."""
        properties = self.accessory["client_properties"]
        return tuple(
            PairedController(uuid.upper(), bool(properties[uuid]["permissions"] & ADMIN_BIT))
            for uuid in self.accessory["paired_clients"]
        )

    @property
    def setup_info(self) -> SetupInfo:
        """The setup code, and whether pairing is possible."""
        return SetupInfo(
            code=self.setup.code,
            payload=self.setup.payload,
            device_id=self.device_id,
            paired=self.paired,
            failed_attempts=self.failed_attempts,
            pairing_refused=self.failed_attempts >= MOST_FAILED_ATTEMPTS,
        )

    def without(self, controller_id: str | None) -> "Stored":
        """Return the state without a controller, or without any (None).

        If no admin is left, the others go too.
        """
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
        changed = replace(self, accessory=self.accessory | pairings)
        return changed if kept else replace(changed, iids={}, taken_over=None, was_restored=False)


def encode(stored: Stored) -> bytes:
    """Return the contents of the state file."""
    others = stored.others
    contents = others | {
        "version": FORMAT_VERSION if stored.taken_over else USUAL_FORMAT_VERSION,
        "setup": others.get("setup", {}) | {"code": stored.setup.code, "id": stored.setup.id},
        "failed_attempts": stored.failed_attempts,
        "accessory": others.get("accessory", {}) | stored.accessory,
    }
    if stored.iids is not None:
        contents["iids"] = encode_record(stored.iids)
    if stored.taken_over is not None:
        contents["taken_over"] = encode_taken_over(stored.taken_over)
    if stored.was_restored:
        contents["restored"] = True
    return json.dumps(contents | {"sha256": digest(contents)}, indent=1).encode()


def parse(path: Path, contents: bytes) -> Stored:
    """Parse the contents of the file at `path`; raises `StateDamaged` or `StateTooNew`."""
    try:
        body = json.loads(contents.decode())
    except (ValueError, RecursionError) as error:
        raise StateDamaged(path, "not JSON") from error
    # Before the checksum, which a newer version may compute differently.
    match body:
        case {"version": int(version)} if FORMAT_VERSION < version <= LARGEST_FORMAT_VERSION:
            raise StateTooNew(path, version)
    if not isinstance(body, dict) or body.pop("sha256", None) != _digest(path, body):
        raise StateDamaged(path, "wrong checksum")
    # TRUST: the checksum only detects disk errors. The daemon's user can forge it, and root parses the rest.
    match body:
        case {
            "version": 1 | 2 | 3 as version,
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
            and isinstance(body.get("restored", False), bool)
            and _are_pairings(accessory)
        ):
            known = {key: accessory[key] for key in accessory if key in _KNOWN_KEYS["accessory"]}
            iids = _iids(path, body) if version > 1 else None
            taken_over = _taken_over(path, body) if version > USUAL_FORMAT_VERSION else None
            setup, others = Setup(code, setup_id), _others(body)
            restored = body.get("restored", False)
            return Stored(setup, known, failed_attempts, others, iids, taken_over, restored)
    raise StateDamaged(path, _UNEXPECTED)


def _iids(path: Path, body: dict[str, Any]) -> Record | None:
    try:
        return parse_record(body["iids"]) if "iids" in body else None
    except ValueError as error:
        raise StateDamaged(path, _UNEXPECTED) from error


def _taken_over(path: Path, body: dict[str, Any]) -> TakenOver | None:
    try:
        return parse_taken_over(body["taken_over"]) if "taken_over" in body else None
    except ValueError as error:
        raise StateDamaged(path, _UNEXPECTED) from error


def _are_pairings(accessory: dict[str, Any]) -> bool:
    """Return whether the pairings have the form that HAP-python writes."""
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
    """Return the unknown keys at their positions."""
    unknown = {
        part: {key: body[part][key] for key in body[part] if key not in _KNOWN_KEYS[part]}
        for part in _KNOWN_KEYS
        if part
    }
    return {key: body[key] for key in body if key not in _KNOWN_KEYS[""]} | {
        part: keys for part, keys in unknown.items() if keys
    }


def _digest(path: Path, body: dict[str, Any]) -> str:
    try:
        return digest(body)
    except RecursionError as error:  # Python parses deeper nesting than it writes
        raise StateDamaged(path, "not JSON") from error


def digest(body: dict[str, Any]) -> str:
    """Return the checksum of everything but itself."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
