"""The helper as a program without root: the same code, with the facts that only root could have given.

Arguments: the config file, then the helper's own arguments. JOURNAL in the environment is a journal's socket;
without it nothing is audited.
"""

import os
import sys
from pathlib import Path

from hkswitch.serviceswitch.audit import Audit, Caller, Decision
from hkswitch.serviceswitch.main import run


class Unaudited(Audit):
    """Writes nothing."""

    def write(self, decision: Decision) -> None:
        pass


if __name__ == "__main__":
    config_file, *arguments = sys.argv[1:]
    caller = Caller(uid=1234, login_uid=1000)
    audit = Audit(caller, os.environ["JOURNAL"]) if "JOURNAL" in os.environ else Unaudited(caller)
    sys.exit(run(arguments, euid=0, read=lambda _: Path(config_file).read_bytes(), audit=audit))
