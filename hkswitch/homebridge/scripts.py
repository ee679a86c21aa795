"""Reads scripts that commands call, without running them. Pure: no I/O."""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from hkswitch.homebridge import tokens
from hkswitch.homebridge.tokens import NotUnderstood, Token

if TYPE_CHECKING:
    from hkswitch.homebridge.systemctl import Call

USUAL_PATH: Final = "/usr/local/bin/serviceswitch"
MOST_SCRIPT_BYTES: Final = 1 << 18

MOST_READ: Final = 50_000
"""Commands and their words, those in branches that are not taken included."""

_SHEBANG = re.compile(r"#!\s*(?:/\S*/env\s+)?\S*\b(?P<shell>bash|sh|dash)\s*")


class Script(NamedTuple):
    """A shell script that commands call: its tokens, or why they are not known, in a few words."""

    path: str
    tokens: tuple[Token, ...] = ()
    why: str = ""
    is_bash: bool = False


class ScriptRun:
    """A run of a command, and of the scripts that it calls. `ran`: its programs, as `follow` returns them."""

    def __init__(self, scripts: Mapping[str, Script]) -> None:
        self.scripts = scripts
        self.ran: list[Call | None] = []
        self._read = 0

    def count(self, read: int) -> None:
        """Count what was read. Raises `NotUnderstood` if it is too much."""
        self._read += read
        if self._read > MOST_READ:
            raise NotUnderstood("it takes too long")


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
