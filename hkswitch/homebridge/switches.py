"""Reads the switches of a Homebridge config, as their plugins do. Pure: no I/O.

The plugins are homebridge-cmdswitch2, the older homebridge-cmdswitch, and homebridge-script2 with fileState.
"""

import math
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from hkswitch.homebridge.wording import quoted
from hkswitch.model.errors import Exit, Failure

MOST_SWITCHES: Final = 1000

PLATFORMS: Final = frozenset({"cmdswitch2", "homebridge-cmdswitch2.cmdswitch2"})
"""The names of the plugin's platform, in lower case."""

WITHOUT_ACCESSORIES: Final = frozenset({"config", "homebridge-config-ui-x.config"})
"""The platform of Homebridge's own user interface."""

_OLDER: Final = frozenset({"cmdswitch", "homebridge-cmdswitch.cmdswitch"})
_SCRIPT2: Final = frozenset({"script2", "homebridge-script2.script2"})
_PLUGINS: Final = ("homebridge-cmdswitch2", "homebridge-cmdswitch", "homebridge-script2")
_COMMANDS: Final = ("on_cmd", "off_cmd", "state_cmd")
_COMMANDS_OF_SCRIPT2: Final = ("on", "off", "fileState")
_OF_HOMEBRIDGE: Final = ("platform", "accessory", "_bridge", "name")
_PACE: Final = ("polling", "interval", "timeout")
_WITHOUT_COUNTERPART: Final = frozenset(
    {
        *("dim_cmd", "manufacturer", "model", "serial", "synchronous"),
        *("keyword", "state", "on_value", "unique_serial"),
    }
)
_LEADING_DIGITS = re.compile(r"\s*([0-9]{1,9})")
_LEAST_MILLISECONDS: Final = 1000
_PRINTS_STATE: Final = (
    "its state command prints a word; write a group with a status that exits with 0 for On, such as"
    ' [/bin/sh, -c, "COMMAND | grep -qix true"]'
)
_ADVICE: Final = {
    "cmd4": "write a group of commands for each of its switches; its state_cmd prints the state",
    "ssh": "write a group of commands like [/usr/bin/ssh, USER@HOST, COMMAND] with a user that has the key",
    "cmd": "write a group of commands with its on_cmd and off_cmd, and `assume_state: true`",
}


class CmdSwitch(NamedTuple):
    """A switch; missing commands are empty. `broken`: why it cannot be a switch, or empty.

    `interval_seconds` and `timeout_seconds` are 0 if none is in effect.
    `by_output`: it is on if its state command prints anything.
    `block`: the number of its platform or accessory, each of which is an instance of the plugin.
    """

    name: str
    on: str = ""
    off: str = ""
    state: str = ""
    interval_seconds: int = 0
    timeout_seconds: int = 0
    broken: str = ""
    notes: tuple[str, ...] = ()
    by_output: bool = False
    block: int = 0


class Found(NamedTuple):
    """All switches of a config, and notes about everything else in it."""

    switches: tuple[CmdSwitch, ...]
    notes: tuple[str, ...]


def read(config: object, file: str) -> Found:
    """Return all switches, in the file's order. Raises `Failure`."""
    switches: list[CmdSwitch] = []
    notes = [*_disabled(config)]
    for number, block in enumerate(_blocks(config)):
        kind = _kind(block)
        if kind in PLATFORMS | _OLDER and "platform" in block:
            notes += (f"the platform's {note}" for note in _notes_on_keys(block, ("switches",)))
            found = [each._replace(block=number) for each in _switches(block.get("switches"), kind)]
            switches += found
            notes += [] if found else ["a cmdSwitch platform has no switches"]
        elif kind in PLATFORMS | _OLDER | _SCRIPT2:
            switches.append(_switch(block, "", kind)._replace(block=number))
        elif kind not in WITHOUT_ACCESSORIES:
            notes.append(_not_imported(block))
    if len(switches) > MOST_SWITCHES:
        raise Failure(f"{file}: it has {len(switches)} switches; the limit is {MOST_SWITCHES}", Exit.CONFIG)
    if not switches and not notes:
        notes = ["it has no platforms and no accessories"]
    return Found(tuple(switches), tuple(dict.fromkeys(notes)))


def _blocks(config: object) -> Iterator[Mapping[str, object]]:
    """Yield accessories and platforms of a config, which may itself be one, as READMEs show it."""
    if isinstance(config, dict):
        if "platform" in config or "accessory" in config:
            yield config
        for kind in ("accessories", "platforms"):
            blocks = config.get(kind)
            for block in blocks if isinstance(blocks, list) else ():
                yield block if isinstance(block, dict) else {}


def _disabled(config: object) -> Iterator[str]:
    """Yield a note for each of the plugins that Homebridge does not load."""
    names = config.get("disabledPlugins") if isinstance(config, dict) else None
    for name in names if isinstance(names, list) else ():
        if name in _PLUGINS:
            yield f"{name} is disabled in Homebridge (disabledPlugins); its switches are imported"


def _kind(block: Mapping[str, object]) -> str:
    kind = block.get("platform", block.get("accessory"))
    return kind.casefold() if isinstance(kind, str) else ""


def _not_imported(block: Mapping[str, object]) -> str:
    what = "platform" if "platform" in block else "accessory"
    name = block.get(what)
    advice = _ADVICE.get(_kind(block).rpartition(".")[2], "")
    named = quoted(name) if isinstance(name, str) and name else "without a type"
    return f"not imported: the {what} {named}{advice and '; '}{advice}"


def _switches(items: object, kind: str) -> Iterator[CmdSwitch]:
    """Yield the switches of a list or an object, as the plugin goes over them by their keys."""
    if isinstance(items, list):
        yield from (_switch(item, "", kind) for item in items)
    elif isinstance(items, dict):
        yield from (_switch(item, key, kind) for key, item in items.items())


def _switch(item: object, key: str, kind: str) -> CmdSwitch:
    if not isinstance(item, dict):
        return CmdSwitch(key, broken="it is not an object with a name and commands")
    name = item.get("name", key)
    name = str(name) if isinstance(name, str | int | float) else ""
    keys = _COMMANDS_OF_SCRIPT2 if kind in _SCRIPT2 else _COMMANDS
    texts = [item.get(each) or "" for each in keys]
    if not all(isinstance(text, str) for text in texts):
        return CmdSwitch(name, broken="its {}, {} or {} is not a string".format(*keys))
    on, off, state = (str(text).strip(" \t\n") for text in texts)
    if kind in _SCRIPT2 and not state:
        return CmdSwitch(name, broken=f"it has no fileState, and {_PRINTS_STATE}")
    return CmdSwitch(
        name,
        on,
        off,
        f"test -f {shlex.quote(state)}" if kind in _SCRIPT2 else state,
        # Without polling, the plugin asks when the Home app does, and ignores the interval.
        interval_seconds=(_whole(item.get("interval")) or 1) if item.get("polling") is True else 0,
        timeout_seconds=_timeout(item.get("timeout")),
        notes=tuple(_notes_on_keys(item, (*keys, *_PACE))),
        by_output=kind in _OLDER,
    )


def _notes_on_keys(item: Mapping[str, object], known: tuple[str, ...]) -> Iterator[str]:
    """Yield a note for each key that has no effect in hkswitch."""
    for key, value in item.items():
        if key not in _OF_HOMEBRIDGE and key not in known and value not in ("", None):
            what = "has no counterpart" if key in _WITHOUT_COUNTERPART else "is unknown, and ignored"
            yield f"key {quoted(key)} {what}"


def _timeout(value: object) -> int:
    """Return the timeout in seconds; values from 1000 on are taken as milliseconds.

    The plugin multiplies by 1000, so it expects seconds; its README shows 2000, and means milliseconds.
    No user waits 1000 seconds for the Home app's answer.
    """
    timeout = _whole(value)
    return math.ceil(timeout / 1000) if timeout >= _LEAST_MILLISECONDS else timeout


def _whole(value: object) -> int:
    """Convert as JavaScript's parseInt does; 0 for values that have no meaning here."""
    is_text = isinstance(value, str | int | float) and not isinstance(value, bool)
    match = _LEADING_DIGITS.match(str(value)[:20]) if is_text else None
    return int(match[1]) if match else 0
