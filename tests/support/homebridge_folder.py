"""Folders of a real Homebridge, with what its controllers saw and the keys by which they are known.

`python -m tests.peer.record_homebridge` makes the recorded ones.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.controller import Controller

RECORDED: Final = Path(__file__).parents[1] / "homebridge" / "recorded"
SEEN_NAME: Final = "seen.json"

TEXTS: Final = frozenset({"20", "21", "23", "30"})
"""Manufacturer, model, name and serial number: the texts that stay."""

Id = tuple[int, int]
"""AID and IID."""


def port_of(folder: Path) -> int:
    """Return the port of the bridge that has the switches."""
    config = json.loads((folder / "config.json").read_text())
    return int(config["platforms"][0].get("_bridge", config["bridge"])["port"])


@dataclass(frozen=True)
class Seen:
    """What the controllers of a bridge saw, and their pairings: an admin's and a user's."""

    accessories: list[dict[str, Any]]
    pairings: tuple[dict[str, Any], ...]

    @classmethod
    def read(cls, folder: Path) -> "Seen":
        body = json.loads((folder / SEEN_NAME).read_text())
        return cls(body["accessories"], tuple(body["pairings"]))

    def write(self, folder: Path) -> None:
        body = {"accessories": self.accessories, "pairings": list(self.pairings)}
        (folder / SEEN_NAME).write_text(json.dumps(body))

    def controllers(self, address: str, port: int) -> list[Controller]:
        """Return the same controllers for a bridge that is elsewhere now."""
        return [Controller.of_pairing(pairing, address, port) for pairing in self.pairings]


def described(accessories: list[dict[str, Any]]) -> dict[Id, tuple[Any, ...]]:
    """Return everything that a phone remembers of each service and characteristic, by aid and iid."""
    found: dict[Id, tuple[Any, ...]] = {}
    for accessory in accessories:
        for service in accessory["services"]:
            assert (accessory["aid"], service["iid"]) not in found
            found[accessory["aid"], service["iid"]] = (service["type"],)
            for each in service["characteristics"]:
                assert (accessory["aid"], each["iid"]) not in found
                found[accessory["aid"], each["iid"]] = (
                    service["type"],
                    each["type"],
                    tuple(sorted(each["perms"])),
                    each["format"],
                    each.get("value") if each["type"] in TEXTS else None,
                )
    return found
