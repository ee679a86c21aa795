"""Fetches the key of another host, through ssh: ProxyJump, Port and names apply as they do to the daemon."""

from pathlib import Path
from typing import Final

from hkswitch.backend import ssh_reasons
from hkswitch.backend.ssh_command import SETTINGS, SSH_CONFIG, base_command, target_of
from hkswitch.model.errors import Failure
from hkswitch.remote import programs
from hkswitch.remote.keys import HOST_KEY_ALGORITHMS, HOST_KEY_KINDS, PublicKey, parse_public_key
from hkswitch.serviceswitch import trusted_files

CONNECT_SECONDS: Final = 10
FETCH_SECONDS: Final = 20

_OPTIONS: Final = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "accept-new",
    "GlobalKnownHostsFile": "none",
    "KnownHostsCommand": "none",
    "VerifyHostKeyDNS": "no",
    "UpdateHostKeys": "no",
    "CheckHostIP": "no",
    "HashKnownHosts": "no",
    "NoHostAuthenticationForLocalhost": "no",
    "HostKeyAlgorithms": ",".join(HOST_KEY_ALGORITHMS),
    "PreferredAuthentications": "none",
    "PubkeyAuthentication": "no",
    "PasswordAuthentication": "no",
    "KbdInteractiveAuthentication": "no",
    "IdentitiesOnly": "yes",
    "IdentityAgent": "none",
    "ControlMaster": "no",
    "ControlPath": "none",
    "ClearAllForwardings": "yes",
    "PermitLocalCommand": "no",
    "RemoteCommand": "none",
    "ConnectTimeout": str(CONNECT_SECONDS),
    "ConnectionAttempts": "1",
}


def fetch(name: str, destination: str, file: Path, settings: Path = SETTINGS) -> PublicKey:
    """Return the key that the host shows now; raises `Failure`. Whether it is the host's is not checked here.

    `file` does not exist, in a folder that only root can enter. ssh does not authenticate: it has no key.
    """
    options = {**_OPTIONS, "HostKeyAlias": name, "UserKnownHostsFile": str(file)}
    config = settings / SSH_CONFIG.name
    if (has_config := config.exists()) and config == SSH_CONFIG:
        # TRUST: this ssh runs as root, and runs programs that the file names (ProxyCommand, Match exec).
        trusted_files.read(str(config))
    command = (
        *base_command(has_config=has_config, settings=settings),
        *(word for key, value in options.items() for word in ("-o", f"{key}={value}")),
        *target_of(destination),
        "true",  # a server that needs no authentication, such as Tailscale's, must end the session
    )
    ran = programs.run(*command, timeout_seconds=FETCH_SECONDS)
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    finally:
        file.unlink(missing_ok=True)
    keys = [line.partition(" ")[2] for line in lines if line.partition(" ")[0] == name]
    if not keys:
        why = ssh_reasons.telling_line(ran.errors.splitlines()) or ran.reason
        hint = ssh_reasons.hint(why, name)
        raise Failure(f"cannot fetch the key of {name}: {why}" + (f"; {hint}" if hint else ""))
    try:
        return parse_public_key(keys[0], HOST_KEY_KINDS)
    except ValueError as error:
        raise Failure(f"cannot use the key of {name}: {error}") from None
