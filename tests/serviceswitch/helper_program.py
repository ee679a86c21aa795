"""The helper as a program without root: the same code, with the facts that only root could have given.

Arguments: the config file, then the helper's own arguments. In the environment, JOURNAL is a journal's
socket, without which nothing is audited; DAEMON_UID is the user who may connect, by default the one that runs
this; BY_UID is the user for whom it works; READ_WITHIN_SECONDS is how long the daemon may leave its output
unread, and REMOTE_SILENCE_SECONDS how long the daemon of another host may be silent. Of the config file it
checks only whether all users can write it.
"""

import os
import stat
import sys
from pathlib import Path

from hkswitch.serviceswitch import requester, stdio
from hkswitch.serviceswitch.audit import Audit, Caller, Decision, Denial, Effect
from hkswitch.serviceswitch.journal import Journal
from hkswitch.serviceswitch.main import Facts, run
from hkswitch.serviceswitch.requester import Requester
from hkswitch.serviceswitch.trusted_files import NotThere, Untrusted


class Unaudited(Audit):
    """An audit that writes nothing."""

    async def decided(self, action: str, group: str, *, by_rule: bool = False) -> Decision:
        return Decision(action, group, 1, by_rule)

    def denied(self, denial: Denial) -> None:
        pass

    def ended(self, effect: Effect) -> None:
        pass


def read(path: str) -> bytes:
    """Read the config of the test in place of the helper's own."""
    file = Path(config_file)
    if not file.exists():
        raise NotThere(path)
    if file.stat().st_mode & stat.S_IWOTH:
        raise Untrusted(path, "others can write it")
    return file.read_bytes()


if __name__ == "__main__":
    config_file, *arguments = sys.argv[1:]
    if "READ_WITHIN_SECONDS" in os.environ:
        stdio.DAEMON_READS_WITHIN_SECONDS = float(os.environ["READ_WITHIN_SECONDS"])  # type: ignore[misc]
    if "REMOTE_SILENCE_SECONDS" in os.environ:
        requester.REMOTE_SILENCE_SECONDS = float(os.environ["REMOTE_SILENCE_SECONDS"])  # type: ignore[misc,assignment]
    bridge = requester.bridge_in(arguments)
    caller = Caller(uid=int(os.environ.get("BY_UID", "1234")), login_uid=1000, bridge=bridge)
    kind, path = (Audit, os.environ["JOURNAL"]) if "JOURNAL" in os.environ else (Unaudited, "")
    audit = kind(caller, Journal(path))
    facts = Facts(
        euid=0,
        requester=Requester.of_standard_input(),
        daemon_uid=int(os.environ.get("DAEMON_UID", os.getuid())),
        by_uid=caller.uid,
        bridge=bridge,
        is_in_own_unit=lambda: True,
        is_in_session=lambda: False,
    )
    sys.exit(run(arguments, facts, read=read, audit=audit))
