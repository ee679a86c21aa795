"""A plugin for pytest that shares host tests out among processes; `-p tests.host.scheduling` loads it."""

import re
from pathlib import Path
from typing import Final

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.host.root import RELEASES

OWN_HOSTS: Final = (
    *("test_fresh.py", "test_deb.py", "test_upgrades.py", "test_recipes.py", "test_exits.py"),
    "test_firewalls.py",
)
"""Files whose tests have hosts of their own, the longest first."""

OTHER_HOSTS: Final = {
    "test_attacks.py": "second host",
    "test_audit.py": "second host",
    "test_sandbox.py": "second host",
    "test_start_outcomes.py": "second host",
    "test_trust.py": "second host",
    "test_hostile_input.py": "third host",
    "test_sudo_reasons.py": "third host",
}
"""Files that have another host of each release: host tests mostly wait, so three of them take less time."""


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Have `ByHost` in place of the scheduler that --dist names."""
    return ByHost(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest first, so that no process is left with one at the end: the releases, then OWN_HOSTS."""
    items.sort(key=lambda item: OWN_HOSTS.index(item.path.name) if item.path.name in OWN_HOSTS else -1)


class ByHost(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """All tests on the host of a release go to one process, which boots it once; others go file by file."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)


def scope(nodeid: str) -> str:
    """The name of what goes to one process as a whole."""
    file, _, test = nodeid.partition("::")
    parameters = re.split(r"[\[\]-]", test)
    release = next((release for release in RELEASES if release in parameters), "")
    if Path(file).name in OWN_HOSTS:
        return f"{file}:{release}"
    if release and Path(file).name in OTHER_HOSTS:
        return f"{release}, {OTHER_HOSTS[Path(file).name]}"
    return release or file
