"""A pytest plugin that distributes host tests among processes; `-p tests.host.scheduling` loads it."""

import re
from pathlib import Path
from typing import Final

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from tests.host.rootfs import RELEASES

OWN_HOSTS: Final = (
    *("test_fresh.py", "test_deb.py", "test_upgrades.py", "test_recipes.py", "test_exits.py"),
    "test_host_setup.py",
    *("test_firewalls.py", "test_vpn_recipe.py"),
)
"""Files whose tests boot their own hosts."""

ENGINE_HOST: Final = (
    *("test_containers.py", "test_container_changes.py", "test_compose.py", "test_engines_away.py"),
    "test_container_rules.py",
)
"""Files that share a host with Docker and Podman."""

OTHER_HOSTS: Final = {
    "test_attacks.py": "second host",
    "test_audit.py": "second host",
    "test_sandbox.py": "second host",
    "test_start_outcomes.py": "second host",
    "test_states.py": "second host",
    "test_trust.py": "second host",
    "test_hostile_input.py": "third host",
    "test_sudo_reasons.py": "third host",
    "test_alerts.py": "fourth host",
    "test_rules.py": "fourth host",
    "test_host_key.py": "other hosts",
    "test_hosts.py": "other hosts",
}
"""Files that run on an additional host of each release: host tests mostly wait, so four hosts are faster.
The last ones have a network of several hosts."""


SLOWEST_FIRST: Final = (
    *("trixie, second host", "trixie", "bookworm", "test_fresh.py", "trixie, fourth host"),
    *("trixie, third host", "engines", "trixie, other hosts"),
    *("test_recipes.py", "bookworm, second host", "test_deb.py", "test_upgrades.py", "test_vpn_recipe.py"),
    *("test_host_setup.py", "test_exits.py", "test_firewalls.py"),
)
"""The groups of tests that CI distributes: in this order, five processes end at about the same time."""


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Replace the scheduler that --dist selects by `ByHost`."""
    return ByHost(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slowest groups first, so that none starts last."""
    items.sort(key=lambda item: position(item.nodeid))


def position(nodeid: str) -> int:
    """Return the place of a test's group in SLOWEST_FIRST; groups that CI does not have are behind it."""
    group = scope(nodeid).rpartition("/")[2].partition(":")[0]
    return SLOWEST_FIRST.index(group) if group in SLOWEST_FIRST else len(SLOWEST_FIRST)


class ByHost(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Assigns all tests on a release's host to one process, which boots it once, and other tests by file."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)

    def _reschedule(self, node: WorkerController) -> None:
        """Assign another group when one test is left: a process begins a test when it knows the next one.

        xdist would do so when two are left: the first of them may take minutes, as in test_fresh.py, and the
        assigned group would wait for it, while other processes have nothing to do.
        """
        if self._pending_of(self.assigned_work[node]) <= 1:
            super()._reschedule(node)


def scope(nodeid: str) -> str:
    """Return the name of the group of tests that runs in one process."""
    file, _, test = nodeid.partition("::")
    parameters = re.split(r"[\[\]-]", test)
    release = next((release for release in RELEASES if release in parameters), "")
    if Path(file).name in OWN_HOSTS:
        return f"{file}:{release}"
    if Path(file).name in ENGINE_HOST:
        return "engines"
    if release and Path(file).name in OTHER_HOSTS:
        return f"{release}, {OTHER_HOSTS[Path(file).name]}"
    return release or file
