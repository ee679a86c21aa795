"""A full disk, for tests of writers: os.fsync fails, and so does every write of the state."""

import errno
import os
from collections.abc import Callable

import pytest


def filling(monkeypatch: pytest.MonkeyPatch, why: str = os.strerror(errno.ENOSPC)) -> Callable[[bool], None]:
    """Return a function that fills the disk, or frees space again."""
    is_full, sync = [False], os.fsync

    def fsync(file: int) -> None:
        if is_full[0]:
            raise OSError(errno.ENOSPC, why)
        sync(file)

    monkeypatch.setattr(os, "fsync", fsync)
    return lambda value: is_full.__setitem__(0, value)
