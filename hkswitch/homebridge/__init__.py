"""Converts a Homebridge config to an hkswitch config. Pure: no I/O.

The command line needs only `convert`, and `read_script` for the scripts that the commands call.
"""

from hkswitch.homebridge.commands import Resources
from hkswitch.homebridge.conversion import convert
from hkswitch.homebridge.imported import Imported, NothingImported
from hkswitch.homebridge.jsonc import MOST_CONFIG_BYTES
from hkswitch.homebridge.scripts import MOST_SCRIPT_BYTES, USUAL_PATH, by_name
from hkswitch.homebridge.scripts import read as read_script
from hkswitch.homebridge.systemctl import is_user

__all__ = [
    "MOST_CONFIG_BYTES",
    "MOST_SCRIPT_BYTES",
    "USUAL_PATH",
    "Imported",
    "NothingImported",
    "Resources",
    "by_name",
    "convert",
    "is_user",
    "read_script",
]
