"""hkswitch: Apple Home switches for groups of systemd services."""

__version__ = "0.2.0"
