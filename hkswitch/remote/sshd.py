"""The SSH server of this host: what its settings mean for the account of other bridges. Runs as root."""

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from hkswitch.model.errors import Exit, Failure
from hkswitch.model.installation import REMOTE_USER
from hkswitch.remote import programs
from hkswitch.remote.granted import ENFORCED, SSHD_DROP_IN

SSHD_CONFIG: Final = Path("/etc/ssh/sshd_config")
INCLUDE: Final = f"Include {SSHD_DROP_IN.parent}/*.conf"
UNITS: Final = ("ssh.service", "sshd.service")
BOOTED: Final = Path("/run/systemd/system")
START: Final = "run `sudo systemctl enable --now ssh` (Fedora: sshd)"
NO_SERVER: Final = f"cannot find sshd; install openssh-server, and {START}"

_NO_KEYS: Final = "no hostkeys available"
_CONNECTION: Final = (
    f"user={REMOTE_USER},host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=22,rdomain=default"
)
_MISSING_FOLDER = re.compile(r"Missing privilege separation directory: (/run/[A-Za-z0-9._/-]+)")

Effective = Mapping[str, tuple[str, ...]]
"""sshd's keywords in lower case, with their values."""


def path() -> str:
    """Return the path of sshd; raises `Failure` if there is none."""
    found = programs.path_of("sshd")
    if found is None:
        raise Failure(NO_SERVER)
    return found


def check_staged(drop_in: str) -> None:
    """Check the settings before they are in place, with those of this host; raises `Failure`."""
    with tempfile.TemporaryDirectory(prefix="hkswitch-") as folder:
        staged, whole = Path(folder, "hkswitch.conf"), Path(folder, "sshd_config")
        staged.write_text(drop_in)
        whole.write_text(f"Include {staged}\nInclude {SSHD_CONFIG}\n")
        check_effective(_effective(whole), is_included=True)


def check_in_place() -> None:
    """Check that sshd accepts its settings, and that ours are in force; raises `Failure`."""
    _run("-t")
    effective = _effective(SSHD_CONFIG)
    has_ours = effective.get("authorizedkeysfile") == (ENFORCED["AuthorizedKeysFile"],)
    check_effective(effective, is_included=has_ours)


def check_effective(effective: Effective, *, is_included: bool) -> None:
    """Raise `Failure` if these are not our settings, or if they deny the account."""
    if not is_included:
        why = f"{SSHD_CONFIG} does not include {SSHD_DROP_IN}"
        raise Failure(f"cannot allow bridges: {why}; add `{INCLUDE}` as its first line", Exit.CONFIG)
    for keyword, value in ENFORCED.items():
        found = " ".join(effective.get(keyword.lower(), ()))
        if found.lower() != value.lower():
            why = f"{keyword} is {found or 'not set'} for {REMOTE_USER}, not {value}"
            raise Failure(
                f"cannot allow bridges: {why}; remove it from the other `Match` blocks of sshd", Exit.CONFIG
            )
    for why in refusals(effective, (REMOTE_USER,)):
        raise Failure(f"cannot allow bridges: {why} in sshd's settings", Exit.CONFIG)


def refusals(effective: Effective, groups: tuple[str, ...]) -> Iterator[str]:
    """Yield the lists of users and groups that deny the account, each with its remedy."""
    for keyword, names in (("Users", (REMOTE_USER,)), ("Groups", groups)):
        denied = [each for each in effective.get(f"deny{keyword.lower()}", ()) if "@" not in each]
        if by := next((pattern for pattern in denied if any(_fits(pattern, name) for name in names)), ""):
            yield f"Deny{keyword} {by} denies it; remove that"
        allowed = effective.get(f"allow{keyword.lower()}", ())
        # Whether an entry like `user@host` matches is known only when a bridge connects.
        patterns = [each.partition("@")[0] for each in allowed]
        if allowed and not any(_fits(pattern, name) for pattern in patterns for name in names):
            yield f"Allow{keyword} lacks {names[0]}; add it"


def _fits(pattern: str, name: str) -> bool:
    """Compare as sshd does: only `*` and `?` are special."""
    regular = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return bool(re.fullmatch(regular, name))


def _effective(config: Path) -> Effective:
    """Return what a file means for the account."""
    found: dict[str, tuple[str, ...]] = {}
    for line in _run("-T", "-f", str(config), "-C", _CONNECTION).splitlines():
        keyword, *values = line.split()
        found[keyword] = (*found.get(keyword, ()), *values)
    return found


def _run(*arguments: str) -> str:
    """Have sshd examine its settings; raises `Failure` with its message."""
    ran = programs.run(path(), *arguments)
    # The folder is made when sshd starts, and gone after it has stopped.
    if ran.code and (missing := _MISSING_FOLDER.search(ran.errors)):
        with _folder(Path(missing[1])):
            ran = programs.run(path(), *arguments)
    if _NO_KEYS in ran.errors:
        raise Failure(f"cannot allow bridges: sshd has no host keys yet, as it never ran; {START}")
    if ran.code:
        why = next((line for line in ran.errors.splitlines() if ": line " in line or " line " in line), "")
        raise Failure(f"sshd rejects its settings: {why or ran.reason}; fix them", Exit.CONFIG)
    return ran.output


@contextmanager
def _folder(path: Path) -> Iterator[None]:
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):
            path.rmdir()


def reload() -> bool:
    """Have a running sshd read its settings, and return whether one accepts connections. Raises `Failure`."""
    if not BOOTED.exists():
        return False
    for unit in filter(_is_active, UNITS):
        programs.checked("systemctl", "reload", unit)
        return True
    return is_listening()


def is_listening() -> bool:
    """Return whether an SSH server accepts connections, or systemd in its place. Raises `Failure`."""
    return any(map(_is_active, (*UNITS, *(unit.replace(".service", ".socket") for unit in UNITS))))


def _is_active(unit: str) -> bool:
    return programs.run("systemctl", "--quiet", "is-active", unit).code == 0
