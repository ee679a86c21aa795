"""Finds out what a bash wrapper does for given arguments, without running it. Pure: no I/O.

It traces the script as bash would run it, in the subset of bash that wrappers use, and assumes that every
call of systemctl succeeds. Anything unsupported raises `NotUnderstood`: it never guesses.
"""

import re
from dataclasses import dataclass
from typing import Final

from hkswitch.homebridge import bash
from hkswitch.homebridge.commands import Call
from hkswitch.homebridge.evaluation import Evaluation
from hkswitch.homebridge.expansion import NotUnderstood
from hkswitch.homebridge.script import Block
from hkswitch.homebridge.tokens import Unreadable

USUAL_PATH: Final = "/usr/local/bin/serviceswitch"
MOST_WRAPPER_BYTES: Final = 1 << 18

_SHEBANG = re.compile(r"#!\s*(?:/\S*/env\s+)?\S*\b(?P<shell>bash|sh|dash)(?:\s+(?P<options>-[eux]+))?\s*")


@dataclass(frozen=True, slots=True)
class Wrapper:
    """A wrapper: its path, and its commands, or why they are not known, in a few words."""

    path: str
    script: Block | None
    why: str = ""
    options: str = ""

    def call(self, arguments: tuple[str, ...]) -> Call:
        """Return its action on units when called with `arguments`. Raises `NotUnderstood`."""
        if self.script is None:
            raise NotUnderstood(self.why)
        try:
            calls = Evaluation(self.path, arguments, options=self.options).calls(self.script)
        except RecursionError:
            raise NotUnderstood("it calls itself") from None
        verbs = {call.verb for call in calls}
        if len(verbs) != 1:
            raise NotUnderstood("it does more than one thing" if verbs else "it does nothing with units")
        units = dict.fromkeys(unit for call in calls for unit in call.units)
        return Call(verbs.pop(), tuple(units))


def read(path: str, contents: bytes | None) -> Wrapper:
    """Return the wrapper with these contents; None means that it could not be read."""
    if contents is None:
        return Wrapper(path, None, "it could not be read")
    try:
        text = contents[: MOST_WRAPPER_BYTES + 1].decode()
    except UnicodeDecodeError:
        return Wrapper(path, None, "it is not text")
    shebang = _SHEBANG.fullmatch(text.partition("\n")[0])
    if len(contents) > MOST_WRAPPER_BYTES:
        return Wrapper(path, None, "it is too large")
    if not shebang:
        return Wrapper(path, None, "its first line names an unsupported shell")
    try:
        return Wrapper(path, bash.read(text), options=shebang["options"] or "")
    except Unreadable as error:
        return Wrapper(path, None, f"it contains something unsupported: {error}")
    except RecursionError:
        return Wrapper(path, None, "it is nested too deeply")
