"""A compromised daemon: the real hkswitch.service, which runs a program for attacks instead of the daemon.

The program's scripts have the unit's sandbox, cgroup and user, like an attacker in the daemon.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from tests.host.installation import empty_state
from tests.host.machine import Host

UNIT: Final = "hkswitch.service"
DROP_INS: Final = f"/etc/systemd/system/{UNIT}.d"
FOLDER: Final = "/opt/compromised"

PROGRAM: Final = """\
import os, socket, subprocess, threading
from contextlib import suppress

listener = socket.socket(socket.AF_UNIX)
listener.bind("/run/hkswitch/compromised")
listener.listen()
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.connect(os.environ["NOTIFY_SOCKET"])
notify.send(b"READY=1")

def live():
    while not threading.Event().wait(5):
        notify.send(b"WATCHDOG=1")

threading.Thread(target=live, daemon=True).start()
while True:
    asked, _ = listener.accept()
    with asked, suppress(OSError):  # a client may connect without sending anything
        script = asked.makefile("rb").read()
        ended = subprocess.run(["sh", "-c", script], stdin=subprocess.DEVNULL, stdout=asked, stderr=asked)
        asked.sendall(f"\\n{ended.returncode}".encode())
"""

ASK: Final = """\
import socket, sys

asking = socket.socket(socket.AF_UNIX)
asking.connect("/run/hkswitch/compromised")
asking.sendall(sys.stdin.buffer.read())
asking.shutdown(socket.SHUT_WR)
sys.stdout.buffer.write(asking.makefile("rb").read())
"""


class ScriptResult(NamedTuple):
    """The exit code of a script, and its output, errors included."""

    code: int
    said: str


def run_inside(host: Host, script: str) -> ScriptResult:
    """Have the compromised daemon run a shell script."""
    answer = host.run("python3", f"{FOLDER}/ask.py", input=script, timeout_seconds=60).stdout
    said, _, code = answer.rpartition("\n")
    return ScriptResult(int(code), said)


@contextmanager
def compromised(host: Host, *, by_socket: bool) -> Iterator[None]:
    """Run a compromised daemon, with the sandbox for the helper by sudo or by the socket."""
    host.write(f"{FOLDER}/program.py", PROGRAM)
    host.write(f"{FOLDER}/ask.py", ASK)
    host.write(
        f"{DROP_INS}/program.conf",
        f"[Service]\nExecStart=\nExecStart=/usr/bin/python3 {FOLDER}/program.py\n",
    )
    if by_socket:
        host.run("ln", "-s", "/usr/lib/hkswitch/systemd/helper-socket.conf", DROP_INS)
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", UNIT)
    try:
        yield
    finally:
        host.run("systemctl", "stop", UNIT, "serviceswitch.socket")
        host.run("rm", "-r", DROP_INS, FOLDER)
        host.run("systemctl", "daemon-reload")
        empty_state(host)
