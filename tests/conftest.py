"""Rules for every test: nothing stays behind, and in CI a test that is skipped has failed."""

import asyncio
import gc
import inspect
import logging
import os
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import suppress
from typing import Any

import pytest
import pytest_asyncio

from tests.support import no_systemd
from tests.support.waiting import eventually, wait_until

SLOW = (
    "test_helper_lives",
    "test_main",
    "test_commands",
    "test_regroup",
    "test_switching",
    "test_reload_under_way",
    "test_reload_interleavings",
    "test_helper_host",
    "test_seeds",
)
"""Modules that take long: they begin first, so that no worker is left with one of them at the end."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: SLOW.index(item.path.stem) if item.path.stem in SLOW else len(SLOW))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector away from what is collected: all of it lives until the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_configure() -> None:
    no_systemd.hide()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="fuzz and kill as often as CI does")


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    """Whether there is time for tests that gain from it."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(autouse=True)
def nothing_stays_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """A task or a process that a test leaves would run on in the next one."""
    if inspect.iscoroutinefunction(getattr(request.node, "obj", None)):  # others need no loop for this
        request.getfixturevalue("nothing_stays_in_the_loop")
        yield
        return
    children = child_processes()
    yield
    wait_until(lambda: not child_processes() - children)


@pytest.fixture(autouse=True)
def logging_stays_as_it_is() -> Iterator[None]:
    """What a test lets be logged would be seen by the next one that looks at the log."""
    before = loggers_that_inform()
    yield
    assert loggers_that_inform() <= before


def loggers_that_inform() -> set[str]:
    """The program's loggers whose INFO lines are not dropped, by what they remember of it, too."""
    ours = [name for name in logging.Logger.manager.loggerDict if name.startswith("hkswitch")]
    return {name for name in ours if logging.getLogger(name).isEnabledFor(logging.INFO)}


@pytest_asyncio.fixture(loop_scope="module")
async def nothing_stays_in_the_loop() -> AsyncIterator[None]:
    """The same of tests with tasks. A process is over when its loop has noticed, so that has to run."""
    tasks, children = asyncio.all_tasks(), child_processes()
    yield
    own = asyncio.current_task()
    await until_none_is_left(lambda: {task for task in asyncio.all_tasks() - tasks if task is not own})
    await until_none_is_left(lambda: child_processes() - children)


async def until_none_is_left(left: Callable[[], set[Any]]) -> None:
    """Wait until `left()` is empty; fail after the deadline and name what is left."""
    try:
        await eventually(lambda: not left())
    except AssertionError as error:
        raise AssertionError(f"left behind: {left()}") from error


def child_processes() -> set[str]:
    """The processes that this one has started."""
    found: set[str] = set()
    for thread in os.listdir("/proc/self/task"):  # noqa: PTH208 -- every test does this twice
        with suppress(FileNotFoundError), open(f"/proc/self/task/{thread}/children") as children:  # noqa: PTH123
            found.update(children.read().split())  # not found: a thread that ended meanwhile
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
