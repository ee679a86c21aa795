"""The command line of the daemon's connection to another host, and the files that it reads. Pure: no I/O.

Options on the command line take precedence over root's /etc/hkswitch/ssh_config, which decides the rest, such
as Port and ProxyJump. No other configuration of ssh is read.
"""

from pathlib import Path
from typing import Final

from hkswitch.model.installation import REMOTE_USER

SSH: Final = "/usr/bin/ssh"

SETTINGS: Final = Path("/etc/hkswitch")
HOSTS_FOLDER: Final = SETTINGS / "hosts"
"""Root makes a folder in it for each host; the daemon can only read them."""

SSH_CONFIG: Final = SETTINGS / "ssh_config"
"""Root's own settings of the connections, if there are any."""

CONNECT_TIMEOUT_SECONDS: Final = 2
"""Of the connection and the handshake; short, so that a host that comes back is seen soon."""

ALIVE_INTERVAL_SECONDS: Final = 5
MOST_UNANSWERED: Final = 1
"""After so many intervals without a reply, ssh ends, within ten seconds of a cut. It sends nothing while the
daemon's own pings, which are more frequent, are answered."""

_OPTIONS: Final = {
    "BatchMode": "yes",
    "LogLevel": "INFO",  # at ERROR, ssh does not say that the connection was closed or timed out
    # Only the key that root has accepted is the host's.
    "StrictHostKeyChecking": "yes",
    "GlobalKnownHostsFile": "none",
    "KnownHostsCommand": "none",
    "VerifyHostKeyDNS": "no",
    "UpdateHostKeys": "no",
    "CheckHostIP": "no",
    "NoHostAuthenticationForLocalhost": "no",
    # Only the key that root has made is ours.
    "PubkeyAuthentication": "yes",
    "PreferredAuthentications": "publickey",
    "PasswordAuthentication": "no",
    "KbdInteractiveAuthentication": "no",
    "HostbasedAuthentication": "no",
    "IdentitiesOnly": "yes",
    "IdentityAgent": "none",
    "AddKeysToAgent": "no",
    # Only one session, which is this process, and nothing else is done on either side.
    "ControlMaster": "no",
    "ControlPath": "none",
    "ClearAllForwardings": "yes",
    "Tunnel": "no",
    "PermitLocalCommand": "no",
    "RemoteCommand": "none",
    "SessionType": "default",
    "StdinNull": "no",
    "ForkAfterAuthentication": "no",
    "ConnectionAttempts": "1",
    "ServerAliveInterval": str(ALIVE_INTERVAL_SECONDS),
    "ServerAliveCountMax": str(MOST_UNANSWERED),
}


def host_folder(name: str, settings: Path = SETTINGS) -> Path:
    """Return the folder with the files of a host's connection."""
    return settings / HOSTS_FOLDER.name / name


def key_file(name: str, settings: Path = SETTINGS) -> Path:
    """Return the private key for a host, which the daemon can read."""
    return host_folder(name, settings) / "id_ed25519"


def public_key_file(name: str, settings: Path = SETTINGS) -> Path:
    return host_folder(name, settings) / "id_ed25519.pub"


def known_hosts_file(name: str, settings: Path = SETTINGS) -> Path:
    """Return the file with the host's key, which stands there under the host's name in the config."""
    return host_folder(name, settings) / "known_hosts"


def user_of(destination: str) -> str | None:
    """Return the user that a valid destination names; None if it names none."""
    user, at, _ = destination.removeprefix("ssh://").rpartition("@")
    return user if at else None


def ssh_command(
    name: str,
    destination: str,
    *,
    has_config: bool,
    settings: Path = SETTINGS,
    connect_timeout_seconds: int = CONNECT_TIMEOUT_SECONDS,
) -> tuple[str, ...]:
    """Return the command that connects to a host, and has its helper on standard input and output.

    `name` and `destination` come from a valid config; `has_config`: whether there is a file `SSH_CONFIG`.
    """
    options = {
        **_OPTIONS,
        "ConnectTimeout": str(connect_timeout_seconds),
        "HostKeyAlias": name,
        "UserKnownHostsFile": str(known_hosts_file(name, settings)),
        "IdentityFile": str(key_file(name, settings)),
    }
    return (
        *base_command(has_config=has_config, settings=settings),
        *(word for key, value in options.items() for word in ("-o", f"{key}={value}")),
        *target_of(destination),
    )


def base_command(*, has_config: bool, settings: Path = SETTINGS) -> tuple[str, ...]:
    """Return the first words of every connection: no terminal, no X11, no agent, no escape character."""
    config = str(settings / SSH_CONFIG.name) if has_config else "none"
    return (SSH, "-F", config, "-T", "-x", "-a", "-e", "none")


def target_of(destination: str) -> tuple[str, ...]:
    """Return the last words of every connection: where to connect, as which user."""
    user = () if user_of(destination) else ("-l", REMOTE_USER)
    return (*user, "--", destination)
