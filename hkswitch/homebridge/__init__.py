"""What Homebridge was configured to do, as a config of hkswitch. Pure: no I/O.

`convert` is all that the command line needs, with `read_wrapper` for the script that the commands call.
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
