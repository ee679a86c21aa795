"""The files that allow bridges of other hosts to reach the helper, and nothing else. Pure: no I/O."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from hkswitch.model.installation import REMOTE_USER
from hkswitch.remote.keys import PublicKey, is_bridge_name, parse_public_key

AUTHORIZED_KEYS: Final = Path("/etc/hkswitch/authorized_keys")
SSHD_DROP_IN: Final = Path("/etc/ssh/sshd_config.d/hkswitch.conf")
SUDOERS: Final = Path("/etc/sudoers.d/hkswitch-remote")

HELPER: Final = "/usr/sbin/serviceswitch"

NOTE: Final = "`hkswitch host allow` and `hkswitch host disallow` write this file."

ENFORCED: Final = {
    # Only the keys in root's file, and only with the commands there.
    "AuthorizedKeysFile": str(AUTHORIZED_KEYS),
    "AuthorizedKeysCommand": "none",
    "AuthorizedPrincipalsFile": "none",
    "TrustedUserCAKeys": "none",
    "AuthenticationMethods": "publickey",
    "PubkeyAuthentication": "yes",
    "PasswordAuthentication": "no",
    "KbdInteractiveAuthentication": "no",
    "HostbasedAuthentication": "no",
    "PermitEmptyPasswords": "no",
    "ForceCommand": "none",
    "ChrootDirectory": "none",
    "DisableForwarding": "yes",
    "AllowTcpForwarding": "no",
    "AllowStreamLocalForwarding": "no",
    "AllowAgentForwarding": "no",
    "X11Forwarding": "no",
    "PermitTunnel": "no",
    "PermitTTY": "no",
    "PermitUserRC": "no",
    "SetEnv": "LC_ALL=C.UTF-8",  # Debian accepts LC_* of clients, and sudo passes it on to root's program
    "MaxSessions": "1",
    "Banner": "none",
    # A bridge whose connection was cut does not hold its session.
    "ClientAliveInterval": "5",
    "ClientAliveCountMax": "3",
}
"""Keywords of sshd, and their values for the account."""

_LINE = re.compile(
    rf'restrict,command="sudo -n {HELPER} serve --for (?P<bridge>[a-z0-9-]+)" (?P<key>\S+ \S+) (?P=bridge)'
)

Granted = Mapping[str, PublicKey]
"""The keys of bridges by their names."""


def serve_command(bridge: str) -> str:
    """Return the only command that sudo lets the account run for a bridge."""
    return f"{HELPER} serve --for {bridge}"


def parse_granted(text: str) -> dict[str, PublicKey]:
    """Return the bridges in the file of keys; raises `ValueError` for a line that is not one of ours."""
    found: dict[str, PublicKey] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = _LINE.fullmatch(line)
        if parts is None or not is_bridge_name(parts["bridge"]) or parts["bridge"] in found:
            raise ValueError(f"line {number} is not the key of a bridge; remove it")
        try:
            found[parts["bridge"]] = parse_public_key(parts["key"])
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    return found


def authorized_keys_text(granted: Granted) -> str:
    """Return the file with the keys, sorted by bridge."""
    # TRUST: a key admits its owner from the network, to run this one command, whatever else it requests.
    lines = (
        f'restrict,command="sudo -n {serve_command(bridge)}" {key} {bridge}'
        for bridge, key in sorted(granted.items())
    )
    return "".join(f"{line}\n" for line in (f"# The keys of bridges. {NOTE}", *lines))


def sudoers_text(granted: Granted) -> str:
    """Return the file with a rule for each bridge, sorted."""
    # TRUST: crosses to root. Each rule is literal; only requests in protocol/helper.py follow.
    rules = (f"{REMOTE_USER} ALL=(root) NOPASSWD: {serve_command(bridge)}" for bridge in sorted(granted))
    return "".join(f"{line}\n" for line in (f"# The bridges of other hosts. {NOTE}", *rules))


def sshd_text() -> str:
    """Return sshd's settings for the account."""
    settings = (f"    {keyword} {value}" for keyword, value in ENFORCED.items())
    lines = (f"# The bridges of other hosts. {NOTE}", f"Match User {REMOTE_USER}", *settings, "Match all")
    return "".join(f"{line}\n" for line in lines)


def files_for(granted: Granted) -> dict[Path, tuple[str, int]]:
    """Return all files for these bridges with their modes, in the order in which to write them."""
    if not granted:
        return {}
    return {
        SUDOERS: (sudoers_text(granted), 0o440),
        AUTHORIZED_KEYS: (authorized_keys_text(granted), 0o644),
        SSHD_DROP_IN: (sshd_text(), 0o644),
    }
