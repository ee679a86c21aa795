"""Tests on real Debian hosts, which boot with hkswitch installed like a user's server."""
