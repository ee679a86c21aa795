"""Reads scripts that commands call, without running them. Pure: no I/O."""

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from hkswitch.homebridge import bash
from hkswitch.homebridge.bash import Compound
from hkswitch.homebridge.tokens import Unreadable

USUAL_PATH: Final = "/usr/local/bin/serviceswitch"
MOST_SCRIPT_BYTES: Final = 1 << 18

_SHEBANG = re.compile(r"#!\s*(?:/\S*/env\s+)?\S*\b(?P<shell>bash|sh|dash)(?:\s+(?P<options>-[eux]+))?\s*")


class Script(NamedTuple):
    """A shell script that commands call: its commands, or why they are not known, in a few words."""

    path: str
    commands: Compound | None
    why: str = ""
    options: str = ""
    is_bash: bool = False


def by_name(scripts: Iterable[Script]) -> Mapping[str, Script]:
    """Return scripts by their paths, and by the names by which a shell finds them."""
    found = {script.path: script for script in scripts}
    return {path.rpartition("/")[2]: script for path, script in found.items()} | found


def read(path: str, contents: bytes | None) -> Script:
    """Return the script with these contents; None means that it could not be read."""
    if contents is None:
        return Script(path, None, "it could not be read")
    if len(contents) > MOST_SCRIPT_BYTES:
        return Script(path, None, "it is too large")
    try:
        text = contents.decode()
    except UnicodeDecodeError:
        return Script(path, None, "it is not text")
    shebang = _SHEBANG.fullmatch(text.partition("\n")[0])
    if not shebang:
        return Script(path, None, "its first line names an unsupported shell")
    is_bash = shebang["shell"] == "bash"
    try:
        return Script(path, bash.read(text, is_bash=is_bash), "", shebang["options"] or "", is_bash)
    except Unreadable as error:
        return Script(path, None, f"it contains something unsupported: {error}")
