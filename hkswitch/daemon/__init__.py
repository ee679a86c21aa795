"""The daemon, `hkswitch run`: one event loop joins HomeKit, the helper and the control socket. Never root."""
