"""What may be wrong with another host, what ssh says of it, and how long its end may pass unnoticed. Pure."""

from enum import Enum
from typing import Final

USER: Final = "hkswitch-remote@nas"


class Ill(Enum):
    """What may be wrong with a host."""

    CUT = "is cut off"
    OFF = "is off"
    FROZEN = "is frozen"
    SLOW = "is slow"
    LIES = "lies"
    NO_SSHD = "has no sshd"
    DEAF = "takes connections and says nothing"
    REFUSES = "refuses the key"
    CHANGED = "has another host key"
    NO_SUDO = "has no sudo rule"
    CONFIG = "has an invalid config"


UNREACHABLE: Final = {Ill.CUT, Ill.OFF, Ill.FROZEN}
"""Nothing comes from such a host."""

LINES: Final = {
    Ill.NO_SSHD: "ssh: connect to host nas port 22: Connection refused",
    Ill.REFUSES: f"{USER}: Permission denied (publickey).",
    Ill.CHANGED: "Host key for nas has changed and you have requested strict checking.",
    Ill.NO_SUDO: "sudo: a password is required",
}
"""What ssh prints at such a host."""

AWAY_SECONDS: Final = 0.5
PAUSES_SECONDS: Final = {
    Ill.REFUSES: 600.0,
    Ill.CHANGED: 2.0,
    Ill.NO_SUDO: 30.0,
    Ill.SLOW: 4.0,
    Ill.CONFIG: 5.0,
}
"""How long the daemon may not notice the end of it, by design; where it is not here, `AWAY_SECONDS`."""

LONG_AWAY_SECONDS: Final = 100.0
LONG_PAUSE_SECONDS: Final = 5.0
"""Of a host that is not there for so long, the daemon does not ask that often any more."""
