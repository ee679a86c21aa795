"""A fake daemon: the real hkswitch.service, whose main process connects to the helper on behalf of a test.

The helper's socket serves only that main process; a helper started by sudo only requires the unit to run.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.host.installation import empty_state
from tests.host.machine import Host

UNIT: Final = "hkswitch.service"
PROGRAM: Final = "/usr/local/lib/fake-daemon.py"
DROP_INS: Final = f"/run/systemd/system/{UNIT}.d"

PROXY: Final = """\
import socket

listening = socket.socket(socket.AF_UNIX)
listening.bind("\\0fake-daemon")
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

CONNECT: Final = """\
import socket

asking = socket.socket(socket.AF_UNIX)
asking.connect("\\0fake-daemon")
connection = socket.socket(fileno=socket.recv_fds(asking, 1, 1)[1][0])
"""
"""Prelude of a program that needs `connection`, a connection to the helper made by the fake daemon."""


def drop_in_to_run(program: str) -> str:
    """Return a drop-in that has hkswitch.service run a Python program instead of the daemon."""
    return f"""\
[Service]
Type=exec
ExecStart=
ExecStart=/usr/bin/python3 -I {program}
WatchdogSec=0
Restart=no
"""


@contextmanager
def fake_daemon(host: Host) -> Iterator[None]:
    """Run the fake daemon."""
    host.write(PROGRAM, PROXY)
    host.write(f"{DROP_INS}/fake-daemon.conf", drop_in_to_run(PROGRAM))
    host.run("sh", "-ec", f"systemctl daemon-reload; systemctl start {UNIT}")
    try:
        yield
    finally:
        removed = f"rm {PROGRAM} {DROP_INS}/fake-daemon.conf; rmdir --ignore-fail-on-non-empty {DROP_INS}"
        host.run("sh", "-ec", f"systemctl stop {UNIT}; {removed}; systemctl daemon-reload")
        empty_state(host)
