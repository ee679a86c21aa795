"""The files of an installation, by whatever package, and faults to inject while it is installed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import hkswitch
from hkswitch.protocol.helper import Hello
from hkswitch.protocol.helper_replies import parse_reply
from hkswitch.protocol.json_lines import MalformedMessage
from tests.host.machine import Host


def is_hello(printed: str) -> bool:
    """Whether this is the helper's first line, in this version, and nothing else."""
    try:
        reply = parse_reply(printed.encode())
    except MalformedMessage:
        return False
    return isinstance(reply, Hello) and reply.version == hkswitch.__version__ and printed.count("\n") == 1


STATE: Final = "/var/lib/hkswitch"

CONFIG: Final = {
    "/etc/hkswitch": "root:root 755",
    "/etc/hkswitch/config.yaml": "root:root 644",
}

PROGRAMS: Final = {
    "/etc/sudoers.d/hkswitch": "root:root 440",
    "/usr/bin/hkswitch": "root:root 755",
    "/usr/lib/hkswitch": "root:root 755",
    "/usr/lib/hkswitch/systemd/helper-socket.conf": "root:root 644",
    "/usr/lib/systemd/system/hkswitch.service": "root:root 644",
    "/usr/lib/systemd/system/multi-user.target.wants/var-lib-hkswitch.mount": "root:root 777",
    "/usr/lib/systemd/system/serviceswitch.socket": "root:root 644",
    "/usr/lib/systemd/system/serviceswitch@.service": "root:root 644",
    "/usr/lib/systemd/system/var-lib-hkswitch.mount": "root:root 644",
    "/usr/lib/sysusers.d/hkswitch.conf": "root:root 644",
    "/usr/sbin/serviceswitch": "root:root 755",
    "/usr/share/bash-completion/completions/hkswitch": "root:root 644",
    "/usr/share/doc/hkswitch/README.md": "root:root 644",
    "/usr/share/doc/hkswitch/config.example.yaml": "root:root 644",
    "/usr/share/doc/hkswitch/docs/sandbox.md": "root:root 644",
    "/usr/share/dbus-1/system.d/hkswitch.conf": "root:root 644",
    "/usr/share/fish/vendor_completions.d/hkswitch.fish": "root:root 644",
    "/usr/share/man/man1/hkswitch.1.gz": "root:root 644",
    "/usr/share/man/man5/hkswitch.yaml.5.gz": "root:root 644",
    "/usr/share/man/man8/serviceswitch.8.gz": "root:root 644",
    "/usr/share/zsh/vendor-completions/_hkswitch": "root:root 644",
    "/var/lib/serviceswitch/sudoers": "root:root 644",
}

DROP_IN: Final = "/usr/lib/systemd/system/hkswitch.service.d/50-systemd-257.conf"


def expected_files(host: Host) -> dict[str, str]:
    """Return every file of an installation on this host's release, with owner and mode."""
    return CONFIG | PROGRAMS | ({} if host.release == "bookworm" else {DROP_IN: "root:root 644"})


def installed_files(host: Host) -> dict[str, str]:
    """Return the files of an installation that exist, with owner and mode."""
    paths = (*CONFIG, *PROGRAMS, DROP_IN)
    listed = host.run("stat", "--format=%n %U:%G %a", *paths, check=False).stdout.splitlines()
    return dict(line.split(" ", 1) for line in listed)


def leftovers(host: Host) -> str:
    """List files that are named after hkswitch or its helper."""
    names = ("-iname", "*hkswitch*", "-o", "-iname", "*serviceswitch*")
    return host.run("find", "/etc", "/usr", "/var/lib", "-xdev", *names).stdout


def empty_state(host: Host) -> None:
    """Delete the bridge's identity and pairings. The folder itself is a mount point, so it stays."""
    host.run("find", STATE, "-mindepth", "1", "-delete")


@contextmanager
def full_disk(host: Host, folder: str) -> Iterator[None]:
    """Mount a full file system over the folder."""
    host.run("mount", "--types=tmpfs", "--options=size=4k", "tmpfs", folder)
    try:
        host.run("dd", "if=/dev/zero", f"of={folder}/filling", "bs=4k", "count=1")
        yield
    finally:
        host.run("umount", folder)


@contextmanager
def broken_program(host: Host, program: str, by: str = "#!/bin/sh\nexit 1\n") -> Iterator[None]:
    """Replace a program with a script, which fails by default."""
    path = host.run("sh", "-c", f"realpath $(command -v {program})").stdout.strip()
    host.write(f"{path}.failing", by, 0o755)
    host.run("mount", "--bind", f"{path}.failing", path)
    try:
        yield
    finally:
        host.run("umount", path)
        host.run("rm", f"{path}.failing")
