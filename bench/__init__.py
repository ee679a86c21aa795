"""What hkswitch costs, beside its peer and beside systemd alone: `make bench` and `make bench-quick`."""
