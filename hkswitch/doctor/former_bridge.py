"""Finds out whether Homebridge would start a bridge again that hkswitch took over. Changes nothing.

The state does not tell where Homebridge's folder is, so this looks in the usual places.
"""

import pwd
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from hkswitch.doctor.finding import Check, Finding, todo
from hkswitch.doctor.still_running import units_that_start_homebridge
from hkswitch.homebridge import MOST_CONFIG_BYTES, jsonc
from hkswitch.homebridge.bridges import starts
from hkswitch.model.config_file import read_regular
from hkswitch.model.errors import Failure

SERVICES_FOLDER: Final = Path("/var/lib/homebridge")
FOLDER_IN_HOME: Final = ".homebridge"


def former_bridge(device_id: str) -> Finding | None:
    """Return the finding if Homebridge would start the bridge with this ID again, or None."""
    units = units_that_start_homebridge()
    return judged(device_id, units, tuple(_configs())) if units else None


def judged(device_id: str, units: tuple[str, ...], configs: tuple[object, ...]) -> Finding | None:
    """Judge Homebridge's units by its configs; without one, nobody knows which bridges they start."""
    if configs and not any(starts(config, device_id) for config in configs):
        return None
    are, may = "is" if len(units) == 1 else "are", "would" if configs else "may"
    what = f"{', '.join(units)} {are} enabled or active, and {may} start hkswitch's bridge {device_id} again"
    return todo(Check.STATE, what, f"run `sudo systemctl disable --now {' '.join(units)}`")


def _configs() -> Iterator[object]:
    homes = (Path(account.pw_dir) / FOLDER_IN_HOME for account in pwd.getpwall())
    for folder in dict.fromkeys((SERVICES_FOLDER, *homes)):
        file = folder / "config.json"
        with suppress(OSError, Failure):
            yield jsonc.read(read_regular(file, MOST_CONFIG_BYTES + 1), str(file))
