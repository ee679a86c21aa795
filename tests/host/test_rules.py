"""Rules on a real host: what uses too much is restarted in time, and nothing that was stopped is started.

In CI, few units do it; `make test-host-all` has fifty of them, and one that uses a whole core.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import pytest

from tests.host.demo_unit import audit
from tests.host.machine import ADDRESS, Host, eventually

DAEMON: Final = "hkswitch.service"
FOLDER: Final = "/etc/systemd/system"
WINDOW_SECONDS: Final = 15
SAMPLE_SECONDS: Final = 15
LATE_SECONDS: Final = 20
SIPPERS: Final = (8, 50)
"""Units that use a little, and are stopped at the last moment. The first number is CI's."""

HEARD_LATE_SECONDS: Final = 0.5
BATCHES: Final = 8
"""Units that are stopped at the same moment are a batch: a command for each would take too long."""

PAUSES: Final = "i=0; while [ $i -lt 4000 ]; do i=$((i+1)); done; sleep 0.05"
"""Some work, and a pause that leaves most of the core to others."""


def service(script: str) -> str:
    return f"[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/sh -c '{script}'\n"


UNITS: Final[Mapping[str, str]] = {
    "hungry.service": service(f"while :; do {PAUSES}; done"),
    "burner.service": service("while :; do :; done"),
    "sipper@.service": service(
        "while :; do i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; sleep 0.3; done"
    ),
}


def rule(percent: int, most: int = 3) -> dict[str, int]:
    return {"cpu_percent": percent, "for_seconds": WINDOW_SECONDS, "at_most_per_hour": most}


GROUPS: Final[Mapping[str, Mapping[str, Any]]] = {
    "hungry": {"units": ["hungry"], "restart_when": rule(2, most=1), "alert": "contact"},
    "burner": {"units": ["burner"], "restart_when": rule(50)},
    **{f"sipper-{n}": {"units": [f"sipper@{n}"], "restart_when": rule(1)} for n in range(max(SIPPERS))},
}
CONFIG: Final = f"bridge: {{address: {ADDRESS}}}\ngroups:\n" + "".join(
    f"  {group_id}: {json.dumps(group)}\n" for group_id, group in GROUPS.items()
)


@pytest.fixture(scope="module")
def config() -> str:
    return CONFIG


@pytest.fixture(scope="module", autouse=True)
def unit_files(host: Host) -> Iterator[None]:
    for name, text in UNITS.items():
        host.write(f"{FOLDER}/{name}", text)
    host.run("systemctl", "daemon-reload")
    yield
    host.run("rm", *(f"{FOLDER}/{name}" for name in UNITS))
    host.run("systemctl", "daemon-reload")


@pytest.fixture(autouse=True)
def stopped(host: Host, unit_files: None) -> Iterator[None]:
    """No unit runs after a test."""
    yield
    host.run("systemctl", "stop", "hungry", "burner", "sipper@*")


def group(host: Host, group_id: str) -> dict[str, Any]:
    report = json.loads(host.run("hkswitch", "status", "--json").stdout)
    return dict(next(each for each in report["groups"] if each["id"] == group_id))


def until_rule(host: Host, group_id: str, is_met: Callable[[str], bool]) -> None:
    """Wait until the report says this of a rule. One program that watches costs less than many that ask."""
    wait_seconds = WINDOW_SECONDS + LATE_SECONDS + 10
    limited = ("timeout", "--foreground", str(wait_seconds))  # in this process group, which is killed
    with host.popen(*limited, "hkswitch", "status", "--watch", "--json") as watch:
        assert watch.stdout is not None
        for line in watch.stdout:
            if any(each["id"] == group_id and is_met(each["rule"]) for each in json.loads(line)["groups"]):
                return
    pytest.fail(f"not within {wait_seconds} s: the rule of {group_id}")


def started_seconds(host: Host, unit: str) -> float:
    """Return when the main process of a unit was started, by the monotonic clock of both."""
    return int(host.show(unit, "ExecMainStartTimestampMonotonic")) / 1e6


def restarted(host: Host, unit: str) -> float:
    """Start a unit, wait for its restart, and return how long it ran."""
    host.run("systemctl", "start", unit)
    began_seconds = started_seconds(host, unit)
    eventually(
        lambda: started_seconds(host, unit) > began_seconds,
        timeout_seconds=WINDOW_SECONDS + LATE_SECONDS + 10,
    )
    lasted_seconds = started_seconds(host, unit) - began_seconds
    sys.stdout.write(f"\n{unit} was restarted after {lasted_seconds:.1f} s\n")
    return lasted_seconds


def test_a_unit_that_uses_too_much_is_restarted_in_time_and_given_up_at_last(daemon: Host) -> None:
    lasted_seconds = restarted(daemon, "hungry")
    assert WINDOW_SECONDS <= lasted_seconds <= WINDOW_SECONDS + LATE_SECONDS
    last = eventually(
        lambda: (found := group(daemon, "hungry")["last_action"])["outcome"] == "done" and found
    )
    assert (last["action"], last["by"]) == ("restart", "rule")
    decision, effect = [
        line
        for line in audit(daemon)
        if line.get("HKSWITCH_CALLER") == "rule" and line["HKSWITCH_GROUP"] == "hungry"
    ][-2:]
    assert "(rule): restart hungry" in decision["MESSAGE"]
    assert effect["HKSWITCH_OUTCOME"] == "done"
    assert "hungry: restarting: cpu " in daemon.journal(DAEMON)
    given_up = "gave up after 1 restart within an hour"
    until_rule(daemon, "hungry", lambda said: said == given_up)
    assert group(daemon, "hungry")["trouble"].startswith(given_up)
    began_seconds = started_seconds(daemon, "hungry")
    daemon.run("systemctl", "restart", "hungry")
    until_rule(daemon, "hungry", lambda said: said != given_up)
    assert started_seconds(daemon, "hungry") > began_seconds
    assert "hungry: restart_when is active again: hungry.service was started" in daemon.journal(DAEMON)


def test_a_unit_that_burns_a_core_is_restarted_in_time(daemon: Host) -> None:
    lasted_seconds = restarted(daemon, "burner")
    assert WINDOW_SECONDS <= lasted_seconds <= WINDOW_SECONDS + LATE_SECONDS


def test_what_is_stopped_up_to_a_second_before_the_deadline_stays_stopped(
    daemon: Host, exhaustive: bool
) -> None:
    numbers = range(SIPPERS[exhaustive])
    units = [f"sipper@{number}" for number in numbers]
    before = len(restarts(daemon))
    daemon.run("systemctl", "start", *units)
    # For this sample they are too young, so the next one is the deadline. It was heard of a moment later.
    deadline_seconds = next_sample(daemon) + SAMPLE_SECONDS - HEARD_LATE_SECONDS
    script = "".join(
        f"sleep {pause_seconds:.3f}; systemctl stop --no-block {' '.join(batch)};"
        for batch, pause_seconds in stops(units)
    )
    time.sleep(max(0, deadline_seconds - 1.05 - time.monotonic()))
    daemon.run("sh", "-c", script)
    eventually(lambda: time.monotonic() > deadline_seconds + 1.5)
    states = daemon.run("systemctl", "is-active", *units, check=False).stdout.split()
    assert states == ["inactive"] * len(units)
    # On a slow machine, the last of them are stopped just after the deadline, and stay stopped, too.
    late = [line for line in restarts(daemon)[before:] if line.get("HKSWITCH_DECISION") == "allowed"]
    assert len(late) < len(units) // 2


def stops(units: Sequence[str]) -> list[tuple[Sequence[str], float]]:
    """Return which units to stop, and how long to wait before, for a second in all."""
    batches = [units[at::BATCHES] for at in range(BATCHES)]
    # Each command takes some milliseconds itself.
    return [(batch, 0.9 / BATCHES - 0.03) for batch in batches]


def restarts(host: Host) -> list[dict[str, Any]]:
    """Return what rules had restarted."""
    return [line for line in audit(host) if line.get("HKSWITCH_CALLER") == "rule"]


def next_sample(host: Host) -> float:
    """Wait until a sample shows that the first of them uses something, and return when that was."""
    until_rule(host, "sipper-0", bool)
    return time.monotonic()
