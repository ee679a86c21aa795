"""Services whose name ends like the suffix of a unit, misspelt. Only a warning. Pure: no I/O."""

from typing import Final

from hkswitch.model.config_values import closest

_SUFFIXES: Final = ("service", "socket", "target", "timer", "mount", "automount", "swap", "path", "slice")
_LEAST_SIMILARITY: Final = 0.8
"""The least ratio of difflib: servic is similar to service (0.92), but server is not (0.77)."""


def unit_meant(unit: str) -> str:
    """Return the unit that was probably meant instead of a service like nginx.servic.service; or empty."""
    name, dot, suffix = unit.removesuffix(".service").rpartition(".")
    if not (dot and unit.endswith(".service")):
        return ""
    close = closest(suffix, _SUFFIXES, _LEAST_SIMILARITY)
    return f"{name}.{close}" if close else ""
