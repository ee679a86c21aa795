"""Rules for every test: nothing stays behind, and in CI a test that is skipped has failed."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Generator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.host.root import RELEASES
from tests.support.waiting import eventually

OWN_HOSTS: Final = ("test_fresh.py", "test_recipes.py", "test_deb.py")
"""Files whose tests have hosts of their own, the longest first."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="fuzz and kill as often as CI does")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    """`--dist loadgroup` is ours: xdist 3.8 gives tests their groups where pytest 9.2 does not look."""
    return ByHost(config, log) if config.getoption("dist") == "loadgroup" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that no process is left with one at the end: the releases, then these."""
    items.sort(key=lambda item: OWN_HOSTS.index(item.path.name) if item.path.name in OWN_HOSTS else -1)


class ByHost(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """All tests on the host of a release go to one process, which boots it once; others go file by file."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        parameters = re.split(r"[\[\]-]", test)
        release = next((release for release in RELEASES if release in parameters), "")
        return f"{file}:{release}" if Path(file).name in OWN_HOSTS else release or file


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    """Whether there is time for tests that gain from it."""
    return bool(request.config.getoption("--long"))


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def nothing_stays_behind() -> AsyncIterator[None]:
    """A task or a process that a test leaves would run on in the next one."""
    tasks, children = asyncio.all_tasks(), child_processes()
    yield
    own = asyncio.current_task()
    await eventually(lambda: not {task for task in asyncio.all_tasks() - tasks if task is not own})
    await eventually(lambda: not child_processes() - children)


def child_processes() -> set[str]:
    """The processes that this one has started."""
    found: set[str] = set()
    for thread in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that ended meanwhile
            found.update((thread / "children").read_text().split())
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if not hasattr(report, "wasxfail"):
        _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report)
    return report


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and "CI" in os.environ:
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI takes for a failure: {report.longrepr}"
