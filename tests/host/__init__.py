"""Tests on real Debian hosts: booted, hkswitch installed, everything as on somebody's server."""
