"""The names of hkswitch's files, user and units on a host. Pure: no I/O."""

from typing import Final

CONFIG_FILE: Final = "/etc/hkswitch/config.yaml"

DAEMON_USER: Final = "hkswitch"
DAEMON_UNIT: Final = "hkswitch.service"

HELPER_SLICE: Final = "system-serviceswitch.slice"
"""systemd's default slice for serviceswitch@.service; the helper's scopes are in it, too, so that one query
finds all of them."""
