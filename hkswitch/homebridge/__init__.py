"""Converts a Homebridge config to an hkswitch config. Pure: no I/O.

The command line needs only `convert`, and `read_wrapper` for the script that the commands call.
"""

from hkswitch.homebridge.conversion import convert
from hkswitch.homebridge.imported import Imported, NothingImported, Script
from hkswitch.homebridge.jsonc import MOST_CONFIG_BYTES
from hkswitch.homebridge.wrapper import MOST_WRAPPER_BYTES, USUAL_PATH
from hkswitch.homebridge.wrapper import read as read_wrapper

__all__ = [
    "MOST_CONFIG_BYTES",
    "MOST_WRAPPER_BYTES",
    "USUAL_PATH",
    "Imported",
    "NothingImported",
    "Script",
    "convert",
    "read_wrapper",
]
