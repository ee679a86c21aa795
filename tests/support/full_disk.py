"""A disk that is full, for tests of what writes: os.fsync fails, and so does every write of the state."""

import errno
import os
from collections.abc import Callable

import pytest


def filling(monkeypatch: pytest.MonkeyPatch, why: str = os.strerror(errno.ENOSPC)) -> Callable[[bool], None]:
    """Return what fills the disk, or makes room again."""
    is_full, sync = [False], os.fsync

    def fsync(file: int) -> None:
        if is_full[0]:
            raise OSError(errno.ENOSPC, why)
        sync(file)

    monkeypatch.setattr(os, "fsync", fsync)
    return lambda value: is_full.__setitem__(0, value)
