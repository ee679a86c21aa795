"""The names that an installation of hkswitch has on a host. Pure: no I/O."""

from typing import Final

CONFIG_FILE: Final = "/etc/hkswitch/config.yaml"

DAEMON_USER: Final = "hkswitch"
DAEMON_UNIT: Final = "hkswitch.service"

HELPER_SLICE: Final = "system-serviceswitch.slice"
"""systemd's own choice for serviceswitch@.service; the helper's scopes are there too, so that one query
finds all."""
