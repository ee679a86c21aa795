"""Converts a Homebridge config to an hkswitch config. Pure: no I/O.

The command line needs only `convert`, `read_wrapper` for the script that the commands call, and `take_over`
for what phones know about the bridge.
"""

from hkswitch.homebridge.bridges import starts
from hkswitch.homebridge.conversion import convert
from hkswitch.homebridge.damage import MOST_FILE_BYTES, Damaged
from hkswitch.homebridge.imported import Imported, NothingImported, Origin, Script
from hkswitch.homebridge.jsonc import MOST_CONFIG_BYTES
from hkswitch.homebridge.jsonc import read as read_config
from hkswitch.homebridge.take_over import TakeOver, take_over
from hkswitch.homebridge.wrapper import MOST_WRAPPER_BYTES, USUAL_PATH
from hkswitch.homebridge.wrapper import read as read_wrapper

__all__ = [
    "MOST_CONFIG_BYTES",
    "MOST_FILE_BYTES",
    "MOST_WRAPPER_BYTES",
    "USUAL_PATH",
    "Damaged",
    "Imported",
    "NothingImported",
    "Origin",
    "Script",
    "TakeOver",
    "convert",
    "read_config",
    "read_wrapper",
    "starts",
    "take_over",
]
