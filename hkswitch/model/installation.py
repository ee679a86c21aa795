"""The names of hkswitch's files, user and units on a host. Pure: no I/O."""

import re
from typing import Final

CONFIG_FILE: Final = "/etc/hkswitch/config.yaml"

DAEMON_USER: Final = "hkswitch"
DAEMON_UNIT: Final = "hkswitch.service"

REMOTE_USER: Final = "hkswitch-remote"
"""The account with which the bridges of other hosts reach this host's helper."""

HOST_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
"""The name of a host, and that of a bridge on the hosts that it reaches."""

HELPER_SLICE: Final = "system-serviceswitch.slice"
"""systemd's default slice for serviceswitch@.service; the helper's scopes are in it, too, so that one query
finds all of them."""
