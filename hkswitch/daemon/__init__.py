"""The daemon, `hkswitch run`: one event loop for HomeKit, the helper and the control socket. Never root."""
