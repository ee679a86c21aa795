"""Freed memory is returned to the kernel, once for many aborted connections."""

import asyncio
import gc
from collections.abc import Iterator
from weakref import ref

import pytest

from hkswitch.hap import server
from hkswitch.hap.server import MemoryTrimmer
from tests.support.waiting import eventually


class Circle:
    """A reference cycle, like a connection."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture(autouse=True)
def late(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep Python from collecting cycles by itself."""
    monkeypatch.setattr(server, "TRIM_AFTER_SECONDS", 0.02)
    gc.disable()
    yield
    gc.enable()


async def test_what_was_cut_is_free_soon() -> None:
    free, gone = MemoryTrimmer(asyncio.get_running_loop()), ref(Circle())
    free.trim_soon()
    assert gone() is not None
    await eventually(lambda: gone() is None)


async def test_many_at_once_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    free, given = MemoryTrimmer(asyncio.get_running_loop()), list[int]()
    monkeypatch.setattr(free, "_trim", given.append)
    for _ in range(100):
        free.trim_soon()
    await eventually(lambda: given)
    free.trim_soon()
    await eventually(lambda: given == [0, 0])


async def test_after_the_end_nothing_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    free, given = MemoryTrimmer(asyncio.get_running_loop()), list[int]()
    monkeypatch.setattr(free, "_trim", given.append)
    free.trim_soon()
    free.close()
    await asyncio.sleep(0.05)
    assert given == []
