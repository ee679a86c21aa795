"""A daemon with a real helper, for tests that need one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hkswitch.backend import helper_host
from tests.support.real_daemon import RealDaemon


@pytest.fixture
def daemon(tmp_path: Path) -> RealDaemon:
    return RealDaemon(tmp_path)


@pytest.fixture
def wait_for_told(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Have the daemon wait for so many seconds for what its helper tells."""
    return lambda seconds: monkeypatch.setattr(helper_host, "TOLD_WITHIN_SECONDS", seconds)
