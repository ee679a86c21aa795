"""What a new config changes at once, and what only a restart can change. Pure: no I/O."""

from dataclasses import replace

from hkswitch.model.config import Config


def after_restart(config: Config, running: Config, restart: str) -> str:
    """What of a new config takes effect only after a restart, and what restarts this bridge."""
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


def with_what_stays(config: Config, running: Config) -> Config:
    """The new config, but for what only a restart can change."""
    bridge = replace(config.bridge, name=running.bridge.name, port=running.bridge.port)
    return replace(config, bridge=bridge, helper=running.helper)
