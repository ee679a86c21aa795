"""Benchmarks of hkswitch, beside its peer and systemd alone: `make bench` and `make bench-quick`."""
