"""The helper without root, like helper_program.py, with other constants and trust that a test can revoke.

Arguments: the config file, then `module__NAME=value` for constants. It rejects a config that all users can
write.
"""

import ast
import os
import stat
import sys
from importlib import import_module
from pathlib import Path
from typing import Final

from hkswitch.serviceswitch.audit import Audit, Caller, Decision, Denial, Effect
from hkswitch.serviceswitch.journal import Journal
from hkswitch.serviceswitch.main import Facts, run
from hkswitch.serviceswitch.requester import Requester
from hkswitch.serviceswitch.trusted_files import NotThere, Untrusted

MODULES: Final = {
    "engines": "hkswitch.containers.connection",
    "link": "hkswitch.systemd.link",
    "stdio": "hkswitch.serviceswitch.stdio",
}
"""The modules, by the names used in arguments."""


class Unaudited(Audit):
    """An audit that writes nothing."""

    async def decided(self, action: str, group: str, *, by_rule: bool = False) -> Decision:
        return Decision(action, group, 1, by_rule)

    def denied(self, denial: Denial) -> None:
        pass

    def ended(self, effect: Effect) -> None:
        pass


def trusted_contents(file: Path) -> bytes:
    """Read the file, or reject it."""
    if not file.exists():
        raise NotThere(str(file))
    if file.stat().st_mode & stat.S_IWOTH:
        raise Untrusted(str(file), "others may write it")
    return file.read_bytes()


if __name__ == "__main__":
    config_file, *words = sys.argv[1:]
    for word in words:
        name, _, value = word.partition("=")
        module, _, constant = name.partition("__")
        setattr(import_module(MODULES[module]), constant, ast.literal_eval(value))
    caller = Caller(uid=1234, login_uid=1000)
    facts = Facts(
        euid=0,
        requester=Requester.of_standard_input(),
        daemon_uid=os.getuid(),
        by_uid=caller.uid,
        is_in_own_unit=lambda: True,
        is_in_session=lambda: False,
    )
    sys.exit(
        run(["serve"], facts, lambda _: trusted_contents(Path(config_file)), Unaudited(caller, Journal("")))
    )
