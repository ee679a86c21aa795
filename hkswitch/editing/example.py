"""The groups in config.example.yaml, which the package installs as the first configuration. Pure: no I/O."""

from collections.abc import Mapping
from typing import Final

EXAMPLE: Final = {
    "vm-guests": ("libvirt-guests.service",),
    "fileserver": ("smb.service", "nmb.service", "netatalk.service"),
    "web": ("httpd.service",),
}
"""Their units, by id."""

ON_DEBIAN: Final = {
    **EXAMPLE,
    "fileserver": ("smbd.service", "nmbd.service", "netatalk.service"),
    "web": ("apache2.service",),
}
"""The same, as packaging/deb changes them."""


def is_example(units: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether these groups, with their units by id, are those of the example."""
    return units in (EXAMPLE, ON_DEBIAN)
