"""Reads scripts that commands call, without running them. Pure: no I/O."""

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from hkswitch.homebridge import tokens
from hkswitch.homebridge.tokens import NotUnderstood, Token

USUAL_PATH: Final = "/usr/local/bin/serviceswitch"
MOST_SCRIPT_BYTES: Final = 1 << 18

_SHEBANG = re.compile(r"#!\s*(?:/\S*/env\s+)?\S*\b(?P<shell>bash|sh|dash)\s*")


class Script(NamedTuple):
    """A shell script that commands call: its tokens, or why they are not known, in a few words."""

    path: str
    tokens: tuple[Token, ...] = ()
    why: str = ""
    is_bash: bool = False


def by_name(scripts: Iterable[Script]) -> Mapping[str, Script]:
    """Return scripts by their paths, and by the names by which a shell finds them."""
    found = {script.path: script for script in scripts}
    return {path.rpartition("/")[2]: script for path, script in found.items()} | found


def read(path: str, contents: bytes | None) -> Script:
    """Return the script with these contents; None means that it could not be read."""
    if contents is None:
        return Script(path, why="it could not be read")
    if len(contents) > MOST_SCRIPT_BYTES:
        return Script(path, why="it is too large")
    try:
        text = contents.decode()
        if not (shebang := _SHEBANG.fullmatch(text.partition("\n")[0])):
            return Script(path, why="its first line names an unsupported shell")
        return Script(path, tokens.read(text), is_bash=shebang["shell"] == "bash")
    except UnicodeDecodeError:
        return Script(path, why="it is not text")
    except NotUnderstood as error:
        return Script(path, why=f"it contains something unsupported: {error}")
