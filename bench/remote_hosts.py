"""Many other hosts, simulated on a single one: one sshd, and a real root helper for each.

All helpers read one path. So each runs in a mount namespace in which its own configuration is there. They
have a low priority, because real hosts would take no time of this machine's processors.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.bridges import Hkswitch
from bench.progress import Progress
from bench.switches import LOADED_TARGET, ONE, UNITS, Switch, loaded_target
from hkswitch.remote import limits
from tests.host.machine import ADDRESS, INTERFACE, STAGING, Host, booted, connected, install
from tests.host.rootfs import CHECKOUT, RELEASES, WITH_SERVICES, root_folder, wheels_folder

HOSTS: Final = 50
THERE: Final = "10.77.0.2"
FIRST: Final = "10.77.0.11"
"""The address of the first of the other hosts."""
AWAY: Final = "10.77.0.101"
"""The first of as many addresses that no host has."""

_GROUP: Final = "one"
_DROP_IN: Final = str(limits.DROP_IN)

_CONFIGS: Final = "/etc/bench"
_HELPER: Final = "/usr/local/sbin/bench-helper"
_HELPER_SCRIPT: Final = f"""\
#!/bin/sh
echo 10 2>/dev/null >/proc/self/autogroup
exec nice -n 10 unshare --mount -- sh -ec '
mount --bind {_CONFIGS}/"$0".yaml /etc/hkswitch/config.yaml
exec /usr/sbin/serviceswitch serve --for "$0"' "$1"
"""
_SSHD: Final = """\
# One sshd stands for many: it must not limit the connections of all its hosts together.
MaxStartups 500
PerSourcePenalties no
Match User hkswitch-remote
    AuthorizedKeysFile /etc/hkswitch/authorized_keys
    DisableForwarding yes
    PermitTTY no
"""
_MAKE_KEYS: Final = """
umask 022
for number in $(seq 1 "$1"); do
    folder=/etc/hkswitch/hosts/h$number
    mkdir -p $folder
    ssh-keygen -q -t ed25519 -N '' -C h$number -f $folder/id_ed25519
    chown root:hkswitch $folder/id_ed25519
    chmod 0640 $folder/id_ed25519
    echo "h$number $2" >$folder/known_hosts
    cat $folder/id_ed25519.pub
done
"""
_ALLOW: Final = f"""
id --user hkswitch-remote >/dev/null 2>&1 || useradd --system --user-group --no-create-home \\
    --home-dir /nonexistent --shell /bin/sh --password '*' hkswitch-remote
mkdir -p {_CONFIGS}
umask 022
while read -r type key name; do
    echo "restrict,command=\\"sudo -n {_HELPER} $name\\" $type $key $name" >>/etc/hkswitch/authorized_keys
    echo "hkswitch-remote ALL=(root) NOPASSWD: {_HELPER} $name" >>/etc/sudoers.d/bench
    group="{{units: [bench@s${{name#h}}.service], actions: [start, stop]}}"
    echo "groups: {{{_GROUP}: $group}}" >{_CONFIGS}/$name.yaml
done
systemctl restart ssh
"""


def versions(host: Host) -> dict[str, str]:
    """Return the version of OpenSSH."""
    return {"OpenSSH": host.run("ssh", "-V").stderr.removeprefix("OpenSSH_").split()[0]}


def switches_of(count: int) -> tuple[Switch, ...]:
    """Return a local switch, and one of each of the first hosts."""
    return (ONE, *(Switch(f"r{n}", f"Remote {n}", (f"bench@s{n}.service",)) for n in range(1, count + 1)))


@dataclass(frozen=True)
class HkswitchWithHosts(Hkswitch):
    """This project, with a local switch, and one on each of many hosts."""

    first_address: str = FIRST
    """Of the other hosts, which have consecutive addresses."""

    def config(self, switches: Sequence[Switch]) -> dict[str, Any]:
        """Return the configuration: the first switch is local."""
        config = super().config(switches[:1])
        groups = config["groups"]
        first, last = self.first_address.rsplit(".", 1)
        hosts = {}
        for number, switch in enumerate(switches[1:], 1):
            hosts[f"h{number}"] = {"ssh": f"{first}.{int(last) + number - 1}"}
            groups[switch.id] = {"name": switch.name, "host": f"h{number}", "group": _GROUP}
        return config | ({"hosts": hosts} if hosts else {})


@contextmanager
def booted_hosts(progress: Progress) -> Iterator[Host]:
    """Boot the host that is measured, and the one that stands for all others; install and prepare both."""
    release = RELEASES["trixie"]
    read_only = {"/src": CHECKOUT, "/wheels": wheels_folder(release, progress.note)}
    root = root_folder(WITH_SERVICES[release.name], progress.note)
    with tempfile.TemporaryDirectory() as folder:
        staging = Path(folder, "staged")
        staging.mkdir()
        options = (f"--bind={staging}:{STAGING}",)
        with (
            booted(release.name, root, read_only, Path(folder, "host.log"), options) as host,
            booted(release.name, root, read_only, Path(folder, "others.log"), options) as others,
            connected(host, others, {INTERFACE: (ADDRESS, THERE)}),
        ):
            for each in (host, others):
                install(each)
                for name, text in UNITS.items():
                    each.unit(name, text)
                each.unit(LOADED_TARGET, loaded_target())
                each.run("systemctl", "start", LOADED_TARGET)
            _prepare(host, others)
            yield host


def _prepare(host: Host, others: Host) -> None:
    """Make keys on the one host; on the other, let each of them reach its helper."""
    first, last = FIRST.rsplit(".", 1)
    for number in range(int(last), int(last) + HOSTS):
        others.run("ip", "address", "add", f"{first}.{number}/24", "dev", INTERFACE)
    others.write(_HELPER, _HELPER_SCRIPT, 0o755)
    others.write("/etc/ssh/sshd_config.d/bench.conf", _SSHD)
    host_key = " ".join(others.read("/etc/ssh/ssh_host_ed25519_key.pub").split()[:2])
    keys = host.run("sh", "-ec", _MAKE_KEYS, "sh", str(HOSTS), host_key, timeout_seconds=60).stdout
    others.run("sh", "-ec", _ALLOW, input=keys)
    host.write(_DROP_IN, limits.text_for(HOSTS))
    host.run("systemctl", "daemon-reload")
