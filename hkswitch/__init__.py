"""hkswitch: Apple Home switches for systemd services and containers."""

__version__ = "0.2.0"
