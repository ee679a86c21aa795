"""What several tests need: a HomeKit controller, a fake systemd, waiting for conditions."""
