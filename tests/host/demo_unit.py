"""A lamp: a program for groups of commands on a real host, whose behaviour a test can override."""

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.host.machine import ADDRESS, Host

LAMP: Final = "/usr/local/libexec/lamp"
UNIT: Final = "hkswitch-command-lamp.service"
STATE: Final = "/run/lamp"
"""The lamp's folder: `on` exists while the lamp is on; a file named after a command overrides it."""

PROGRAM: Final = f"""\
#!/bin/sh
echo "$1" >>{STATE}/log
[ -e "{STATE}/$1" ] && . "{STATE}/$1"
case $1 in
start) : >{STATE}/on ;;
stop) rm -f {STATE}/on ;;
status) [ -e {STATE}/on ] ;;
esac
"""

CONFIG: Final = f"""\
bridge:
  address: {ADDRESS}
groups:
  lamp:
    commands:
      start: [{LAMP}, start]
      stop: [{LAMP}, stop]
      status: [{LAMP}, status]
    interval_seconds: 1
    timeout_seconds: 2
  tunnel:
    units: [smb]
    check: [{LAMP}, status]
    interval_seconds: 1
    timeout_seconds: 2
"""


@pytest.fixture(scope="module", autouse=True)
def program(host: Host) -> Iterator[None]:
    host.write(LAMP, PROGRAM, mode=0o755)
    host.run("mkdir", STATE)
    yield
    host.run("rm", "-r", STATE, LAMP)


@pytest.fixture(autouse=True)
def reset_lamp(host: Host, program: None) -> Iterator[None]:
    yield
    host.write(LAMP, PROGRAM, mode=0o755)
    host.run("sh", "-c", f"rm -rf {STATE}/*; systemctl stop smb || true")  # there may be no such unit


def override(host: Host, command: str, text: str) -> None:
    """Have a command run this script instead."""
    host.write(f"{STATE}/{command}", text)


def run_count(host: Host, command: str) -> int:
    """Return how often a command was run."""
    return host.run("sh", "-c", f"cat {STATE}/log || true").stdout.split().count(command)


def run_helper(host: Host, action: str, group: str = "lamp") -> tuple[int, str]:
    """Run the helper as root on the command line; return its exit code and output."""
    done = host.run("/usr/sbin/serviceswitch", action, group, check=False)
    return done.returncode, done.stdout + done.stderr


def audit(host: Host) -> list[dict[str, Any]]:
    lines = host.journalctl("SYSLOG_IDENTIFIER=serviceswitch", "_UID=0", "--output=json")
    return [json.loads(line) for line in lines.splitlines()]
