"""What `hkswitch check` says of other hosts: what keeps this machine from connecting to them."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress

from hkswitch.backend.ssh_command import SSH, host_folder
from hkswitch.backend.ssh_reasons import INSTALL_SSH
from hkswitch.model.config import Config
from hkswitch.model.dangerous_units import entries_of
from hkswitch.model.errors import Failure, Problem
from hkswitch.model.yaml_nodes import Node


def host_warnings(top: Mapping[str, Node], config: Config) -> Iterator[Problem]:
    """Yield what is missing for the connection to a host, as far as this user can tell."""
    if not config.hosts:
        return
    if not os.access(SSH, os.X_OK):
        yield top["hosts"].position.problem(f"{SSH} does not exist; {INSTALL_SSH}")
    entries = entries_of(top["hosts"])
    for host in config.hosts:
        place = entries[host.name].position
        if not host_folder(host.name).exists():
            remedy = f"run `sudo hkswitch host add {host.name} {host.ssh}`"
            yield place.problem(f"this machine has no key for it; {remedy}")
        elif os.geteuid() == 0:
            from hkswitch.doctor.hosts import files_fault  # noqa: PLC0415 -- most users have no hosts

            with suppress(Failure):
                if found := files_fault(host):
                    yield place.problem(str(found).removeprefix(f"{host.name}: "))


def unused_hosts(top: Mapping[str, Node], config: Config) -> Iterator[Problem]:
    """Yield the hosts on which no group is."""
    used = {group.elsewhere.host.name for group in config.groups if group.elsewhere is not None}
    for host in config.hosts:
        if host.name not in used:
            place = entries_of(top["hosts"])[host.name].position
            add, remove = f"hkswitch add ID --host {host.name}", f"hkswitch host remove {host.name}"
            yield place.problem(f"no group is on it; run `sudo {add}` or `sudo {remove}`")
