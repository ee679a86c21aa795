"""A stand-in for the daemon: hkswitch.service as it is, with a main process that connects for others.

The helper serves nobody else. What starts it by sudo needs only that this runs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.host.installed import empty_state
from tests.host.machine import Host

UNIT: Final = "hkswitch.service"
PROGRAM: Final = "/usr/local/lib/stand-in.py"
DROP_INS: Final = f"/run/systemd/system/{UNIT}.d"

CONNECTS: Final = """\
import socket

listening = socket.socket(socket.AF_UNIX)
listening.bind("\\0stand-in")
listening.listen()
while True:
    asked, _ = listening.accept()
    with asked, socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect("/run/serviceswitch.sock")
            socket.send_fds(asked, [b"x"], [connection.fileno()])
        except OSError as error:
            print(error, flush=True)
"""

CONNECTED: Final = """\
import socket

asking = socket.socket(socket.AF_UNIX)
asking.connect("\\0stand-in")
connection = socket.socket(fileno=socket.recv_fds(asking, 1, 1)[1][0])
"""
"""How a program gets a connection to the helper."""


def in_its_place(program: str) -> str:
    """A drop-in of hkswitch.service by which it runs a Python program in place of the daemon."""
    return f"""\
[Service]
Type=exec
ExecStart=
ExecStart=/usr/bin/python3 -I {program}
WatchdogSec=0
Restart=no
"""


@contextmanager
def standing_in(host: Host) -> Iterator[None]:
    """Meanwhile, hkswitch.service runs."""
    host.write(PROGRAM, CONNECTS)
    host.write(f"{DROP_INS}/stand-in.conf", in_its_place(PROGRAM))
    host.run("sh", "-ec", f"systemctl daemon-reload; systemctl start {UNIT}")
    try:
        yield
    finally:
        removed = f"rm {PROGRAM} {DROP_INS}/stand-in.conf; rmdir --ignore-fail-on-non-empty {DROP_INS}"
        host.run("sh", "-ec", f"systemctl stop {UNIT}; {removed}; systemctl daemon-reload")
        empty_state(host)
