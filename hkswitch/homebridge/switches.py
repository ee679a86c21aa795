"""Reads the switches of a Homebridge config's cmdSwitch2 platforms, as that plugin does. Pure: no I/O."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from hkswitch.homebridge.wording import quoted
from hkswitch.model.errors import Exit, Failure

MOST_SWITCHES: Final = 1000

PLATFORMS: Final = frozenset({"cmdswitch2", "homebridge-cmdswitch2.cmdswitch2"})
"""The names of the plugin's platform, in lower case."""

_INHERITED: Final = ("polling", "interval", "timeout")
_LEADING_DIGITS = re.compile(r"\s*([0-9]{1,9})")
_LEAST_MILLISECONDS: Final = 1000


@dataclass(frozen=True, slots=True)
class CmdSwitch:
    """A switch; missing commands are empty. `broken`: why it cannot be a switch, or empty.

    `interval_seconds` and `timeout_seconds` are 0 if none was in effect.
    """

    name: str
    on: str = ""
    off: str = ""
    state: str = ""
    interval_seconds: int = 0
    timeout_seconds: int = 0
    broken: str = ""


def read(config: object, file: str) -> tuple[CmdSwitch, ...]:
    """Return all switches, in the file's order. Raises `Failure`."""
    platforms = list(_platforms(config))
    ours = [platform for platform in platforms if _kind(platform).casefold() in PLATFORMS]
    if not ours:
        others = ", ".join(
            dict.fromkeys(quoted(_kind(platform)) for platform in platforms if _kind(platform))
        )
        raise Failure(
            f"{file}: it has no cmdSwitch2 platform; found: {others or 'no platform'}",
            Exit.CONFIG,
        )
    switches = [switch for platform in ours for switch in _switches(platform)]
    if not switches:
        raise Failure(
            f"{file}: its cmdSwitch2 platform has no switches; there is nothing to import", Exit.CONFIG
        )
    if len(switches) > MOST_SWITCHES:
        raise Failure(f"{file}: it has {len(switches)} switches; the limit is {MOST_SWITCHES}", Exit.CONFIG)
    return tuple(switches)


def _platforms(config: object) -> Iterator[Mapping[str, object]]:
    """Yield the platforms of a config, which may itself be a platform, as READMEs show it."""
    if isinstance(config, dict):
        if "platform" in config:
            yield config
        platforms = config.get("platforms")
        for platform in platforms if isinstance(platforms, list) else ():
            if isinstance(platform, dict):
                yield platform


def _kind(platform: Mapping[str, object]) -> str:
    kind = platform.get("platform")
    return kind if isinstance(kind, str) else ""


def _switches(platform: Mapping[str, object]) -> Iterator[CmdSwitch]:
    """Yield a platform's switches: a list or an object, as the plugin goes over `switches` by its keys."""
    inherited = {key: platform[key] for key in _INHERITED if key in platform}
    match platform.get("switches"):
        case list() as items:
            for item in items:
                yield _switch(item, inherited, "")
        case dict() as items:
            for key, item in items.items():
                yield _switch(item, inherited, key)


def _switch(item: object, inherited: Mapping[str, object], key: str) -> CmdSwitch:
    if not isinstance(item, dict):
        return CmdSwitch(key, broken="it is not an object with a name and commands")
    values = {**inherited, **item}
    name = values.get("name", key)
    name = name if isinstance(name, str) else "" if name is None else str(name)
    commands = {kind: values.get(f"{kind}_cmd") or "" for kind in ("on", "off", "state")}
    for kind, command in commands.items():
        if not isinstance(command, str):
            return CmdSwitch(name, broken=f"its {kind}_cmd is not a string")
    on, off, state = (str(command).strip(" \t\n") for command in commands.values())
    dimmed = "it is a dimmable light, and hkswitch only has on and off" if values.get("dim_cmd") else ""
    return CmdSwitch(
        name,
        on,
        off,
        state,
        # Without polling, the plugin asks when the Home app does, and ignores the interval.
        interval_seconds=_whole(values.get("interval")) if values.get("polling") is True else 0,
        timeout_seconds=_timeout(values.get("timeout")),
        broken=dimmed,
    )


def _timeout(value: object) -> int:
    """Return the timeout in seconds; values from 1000 on are taken as milliseconds.

    The plugin multiplies by 1000, so it expects seconds; its README shows 2000, and means milliseconds.
    No user waits 1000 seconds for the Home app's answer.
    """
    timeout = _whole(value)
    return math.ceil(timeout / 1000) if timeout >= _LEAST_MILLISECONDS else timeout


def _whole(value: object) -> int:
    """Convert as JavaScript's parseInt does; 0 for values that have no meaning here."""
    match = None if isinstance(value, bool) else _LEADING_DIGITS.match(str(value)[:20])
    return int(match[1]) if match else 0
