"""Rules for containers of the real Docker and the real Podman: what uses too much is restarted in time."""

import json
from typing import Final

import pytest

from tests.host.engines import ENGINES, Engine
from tests.host.machine import ADDRESS, Host, eventually
from tests.host.test_rules import LATE_SECONDS, WINDOW_SECONDS, group, rule

SCRIPT: Final = "while :; do :; done"
WAIT_SECONDS: Final = WINDOW_SECONDS + LATE_SECONDS + 10
CONFIG: Final = f"bridge: {{address: {ADDRESS}}}\ngroups:\n" + "".join(
    f"  {name}: {json.dumps({'containers': ['burner'], 'engine': name, 'restart_when': rule(20)})}\n"
    for name in ENGINES
)


@pytest.fixture(scope="session")
def host(engine_host: Host) -> Host:
    return engine_host


@pytest.fixture(scope="module")
def config() -> str:
    return CONFIG


def test_a_container_that_uses_too_much_is_restarted_in_time(daemon: Host, engine: Engine) -> None:
    engine.run("burner", script=SCRIPT)
    first, began_seconds = engine.process("burner"), uptime_seconds(daemon)
    eventually(lambda: engine.process("burner") not in {first, 0}, timeout_seconds=WAIT_SECONDS)
    lasted_seconds = uptime_seconds(daemon) - began_seconds
    assert WINDOW_SECONDS <= lasted_seconds <= WINDOW_SECONDS + LATE_SECONDS
    eventually(lambda: group(daemon, engine.name)["last_action"]["outcome"] == "done")
    assert group(daemon, engine.name)["last_action"]["by"] == "rule"


def uptime_seconds(host: Host) -> float:
    return float(host.read("/proc/uptime").split()[0])


def test_a_container_that_was_stopped_stays_stopped(daemon: Host, engine: Engine) -> None:
    engine.run("burner", script=SCRIPT)
    eventually(lambda: group(daemon, engine.name)["rule"], timeout_seconds=WAIT_SECONDS)
    engine.cli("stop", "burner")
    eventually(lambda: not group(daemon, engine.name)["rule"], timeout_seconds=WAIT_SECONDS)
    assert engine.status("burner") == "exited"
    assert group(daemon, engine.name)["last_action"] is None or engine.process("burner") == 0
