"""Gives a bridge access to other hosts, by the commands that a user types."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tests.host.virtual_lan import HOST_KEY, Machine

_ALLOW: Final = re.compile(r"^ +sudo (hkswitch host allow .*)$", re.MULTILINE)


def introduce(central: Machine, *remotes: Machine) -> None:
    """Let the bridge of one host act on the groups of others, under their names here."""
    commands = [_add(central, remote) for remote in remotes]  # one at a time may change the config
    with ThreadPoolExecutor(len(remotes)) as threads:
        list(threads.map(lambda remote, command: remote.shell(f"{command} --yes"), remotes, commands))


def _add(central: Machine, remote: Machine) -> str:
    """Add a host, and return the command to run there."""
    fingerprint = remote.shell(f"ssh-keygen -lf {HOST_KEY}.pub").split()[1]
    options = ("--fingerprint", fingerprint, "--as", central.name)
    added = central.host.run("hkswitch", "host", "add", remote.name, remote.address, *options).stdout
    (allow,) = _ALLOW.findall(added)
    return str(allow)


def withdraw(central: Machine, remote: Machine) -> None:
    """Take everything back on both hosts."""
    central.host.run("hkswitch", "host", "remove", remote.name)
    remote.host.run("hkswitch", "host", "disallow", central.name, "--yes")
