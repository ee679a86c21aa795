"""The changes of a new config that take effect at once, and those that need a restart. Pure: no I/O."""

from dataclasses import replace

from hkswitch.model.config import Config


def after_restart(config: Config, running: Config, restart: str) -> str:
    """Return a note on the changes that take effect only after `restart`; empty if there are none."""
    changed = [
        name
        for name, new, old in (
            ("bridge.name", config.bridge.name, running.bridge.name),
            ("bridge.port", config.bridge.port, running.bridge.port),
            ("helper", config.helper, running.helper),
        )
        if new != old
    ]
    return f"changes to {', '.join(changed)} take effect after {restart}" if changed else ""


def without_restart(config: Config, running: Config) -> Config:
    """Return the new config, with the old values of the keys that need a restart."""
    bridge = replace(config.bridge, name=running.bridge.name, port=running.bridge.port)
    return replace(config, bridge=bridge, helper=running.helper)
