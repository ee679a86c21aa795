"""Support for several test folders: a HomeKit controller, a fake systemd, waiting for conditions."""
