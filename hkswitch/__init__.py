"""hkswitch: Apple Home switches for groups of systemd services."""

__version__ = "0.1.0"
