"""Failures of real units, as the helper tells them: each crash and failed start, and no requested stop."""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import pytest
import yaml

from tests.host.fake_daemon import fake_daemon
from tests.host.heard_failures import listening
from tests.host.machine import Boot, Host, eventually, install
from tests.support.waiting import PATIENCE_SECONDS

FILE: Final = "/etc/hkswitch/config.yaml"
FOLDER: Final = "/run/systemd/system"
SLEEPS: Final = "ExecStart=/bin/sleep infinity"
READY: Final = "/run/ready"
"""A folder in which each program that handles SIGTERM makes a file, as soon as it does."""
FIXED: Final = f"{READY}/fixed"


class Case(NamedTuple):
    """Units by suffixes, of which the first one is watched; `$u` is its name in the script."""

    units: Mapping[str, str]
    script: str
    reason: str = ""
    """Of a failure that nobody requested."""


def service(*lines: str, unit: str = "") -> str:
    return "\n".join(("[Unit]", "StartLimitIntervalSec=0", unit, "[Service]", *lines, ""))


def sh(script: str) -> str:
    return f"ExecStart=/bin/sh -c '{script}'"


def on_term(action: str) -> str:
    """A program that does this when it gets SIGTERM."""
    return sh(f'trap "{action}" TERM; touch {READY}/%n; while :; do sleep 0.05; done')


def one(script: str, *lines: str, reason: str = "") -> Case:
    """Return a case of a single service."""
    return Case({".service": service(*lines)}, script, reason)


def two(script: str, unit: str, other: str = "") -> Case:
    """Return a case of a service that exits with 1 after SIGTERM, and another one that it has to do with."""
    texts = {".service": service(on_term("exit 1"), unit=unit), "-other.service": service(SLEEPS, unit=other)}
    return Case(texts, script)


START: Final = f"systemctl start $u; until [ -e {READY}/$u ]; do sleep 0.02; done;"
KILL: Final = "systemctl start $u; systemctl kill --signal=KILL $u"
OTHER: Final = "${u%.service}-other"
STATUS_1, KILLED = "exited with status 1", "was killed by SIGKILL"

BY_THEMSELVES: Final = {
    "killed": one(KILL, SLEEPS, reason=KILLED),
    "exits": one("systemctl start $u", sh("sleep 0.2; exit 1"), reason=STATUS_1),
    "hangs": one(
        "systemctl start $u",
        "Type=notify",
        "NotifyAccess=all",
        "WatchdogSec=0.2",
        sh("systemd-notify --ready; exec sleep 1000"),
        reason="was killed by its watchdog",
    ),
    "lasts": one("systemctl start $u", "RuntimeMaxSec=0.3", SLEEPS, reason="exceeded its time limit"),
    "loops": one(
        "systemctl start $u; until [ $(systemctl show -P NRestarts $u) -ge 3 ]; do sleep 0.1; done;"
        " systemctl stop $u",
        *("Restart=always", "RestartSec=0.2"),
        sh("exit 3"),
        reason="exited with status 3",
    ),
    "oneshot": one("systemctl start $u || true", "Type=oneshot", sh("exit 1"), reason=STATUS_1),
    "no-program": one(
        "systemctl start $u || true",
        *("Type=exec", "ExecStart=/nonexistent"),
        reason="could not execute its program (status 203)",
    ),
    "starts-long": one(
        "systemctl start $u || true",
        *("Type=oneshot", "TimeoutStartSec=0.2"),
        SLEEPS,
        reason="took too long to start",
    ),
    "ends-slowly": one(
        f"{KILL}; sleep 0.1; systemctl stop $u", SLEEPS, "ExecStopPost=/bin/sleep 0.5", reason=KILLED
    ),
    "reloads": one(
        "systemctl start $u; systemctl reload --no-block $u;"
        " until systemctl is-active $u | grep -q reloading; do sleep 0.02; done;"
        " systemctl kill --signal=KILL $u",
        *(SLEEPS, "ExecReload=/bin/sleep 5"),
        reason=KILLED,
    ),
    "restarts-badly": one(
        f"{START} systemctl restart $u || true",
        f'ExecStartPre=/bin/sh -c "! test -e {READY}/%n"',
        on_term("exit 1"),
        reason="ExecStartPre= exited with status 1",
    ),
    "kill-is-no-stop": one(f"{START} systemctl kill $u", on_term("exit 1"), reason=STATUS_1),
    "bound-to": Case(
        {
            ".service": service(SLEEPS),
            "-other.service": service(
                on_term("exit 1"), unit="BindsTo=bound-to.service\nAfter=bound-to.service"
            ),
        },
        f"systemctl start {OTHER}; {KILL}",
        KILLED,
    ),
    "fails.timer": Case(
        {
            ".timer": "[Timer]\nOnActiveSec=0\nAccuracySec=1ms\n",
            ".service": service("Type=oneshot", sh(f"test -e {FIXED}")),
        },
        "systemctl start $u",
        STATUS_1,
    ),
    "run-unmounted.mount": Case(
        {".mount": "[Mount]\nWhat=/nonexistent\nType=ext4\nWhere=/run/unmounted\n"},
        "systemctl start $u || true",
        "failed",
    ),
}
STOP: Final = f"{START} systemctl stop $u"
REQUESTED: Final = {
    "stop-143": one(STOP, on_term("exit 143")),
    "stop-1": one(STOP, on_term("exit 1")),
    "stop-restarting": one(STOP, "Restart=always", on_term("exit 1")),
    "stop-late": one(STOP, "TimeoutStopSec=0.2", on_term("true")),
    "stop-abort": one(STOP, "TimeoutStopSec=0.2", "TimeoutStopFailureMode=abort", on_term("true")),
    "stop-mixed": one(STOP, "KillMode=mixed", on_term("exit 1")),
    "stop-process": one(STOP, "KillMode=process", on_term("exit 1")),
    "stop-none": one(
        f"{STOP}; systemctl kill --signal=KILL $u",
        "KillMode=none",
        "ExecStop=/bin/false",
        on_term("true"),
    ),
    "stop-kill": one("systemctl start $u; systemctl stop $u", "KillSignal=SIGKILL", SLEEPS),
    "stop-fails": one("systemctl start $u; systemctl stop $u", "ExecStop=/bin/false", SLEEPS),
    "stop-post-fails": one("systemctl start $u; systemctl stop $u", "ExecStopPost=/bin/false", SLEEPS),
    "stop-post-slow": one(STOP, "ExecStopPost=/bin/sleep 0.3", on_term("exit 1")),
    "stop-oneshot": one(
        "systemctl start $u; systemctl stop $u",
        *("Type=oneshot", "RemainAfterExit=yes", "ExecStart=/bin/true", "ExecStop=/bin/false"),
    ),
    "stop-start": one(
        f"systemctl start --no-block $u; until [ -e {READY}/$u ]; do sleep 0.02; done; systemctl stop $u",
        *("Type=notify", on_term("exit 1")),
    ),
    "restart": one(f"{START} systemctl restart $u", on_term("exit 1")),
    "try-restart": one(f"{START} systemctl try-restart $u", "Restart=always", on_term("exit 1")),
    "restart-start": one(
        f"systemctl start --no-block $u; until [ -e {READY}/$u ]; do sleep 0.02; done;"
        " systemctl restart --no-block $u; sleep 0.3; systemctl stop $u",
        *("Type=notify", on_term("exit 1")),
    ),
    "requires": two(f"{START} systemctl stop {OTHER}", "Requires=requires-other.service"),
    "part-of": two(
        f"systemctl start {OTHER}; {START} systemctl restart {OTHER}; systemctl stop {OTHER}",
        "PartOf=part-of-other.service",
    ),
    "binds-to": two(
        f"{START} systemctl stop {OTHER}", "BindsTo=binds-to-other.service\nAfter=binds-to-other.service"
    ),
    "bound-dies": two(
        f"{START} systemctl kill --signal=KILL {OTHER}",
        "BindsTo=bound-dies-other.service\nAfter=bound-dies-other.service",
    ),
    "conflicts": two(f"{START} systemctl start {OTHER}", "", "Conflicts=conflicts.service"),
}
RESTARTED: Final = {"restart", "try-restart"}

INTERRUPTED: Final = {
    "reload": "systemctl daemon-reload",
    "reexec": "systemctl daemon-reexec",
    "bus": "systemctl restart dbus",
}
ENDS_LATE: Final = service(on_term("sleep 1.5; exit 1"))


def unit_of(case: str) -> str:
    return case if "." in case else f"{case}.service"


def files_of(case: str, units: Mapping[str, str]) -> dict[str, str]:
    return {case.partition(".")[0] + suffix: text for suffix, text in units.items()}


CASES: Final = BY_THEMSELVES | REQUESTED
FILES: Final = {
    name: text for case, (units, *_) in CASES.items() for name, text in files_of(case, units).items()
}
INTERRUPTED_FILES: Final = {
    f"{name}-{what}.service": ENDS_LATE for name in INTERRUPTED for what in ("one", "two")
}
WATCHED: Final = [*map(unit_of, CASES), *INTERRUPTED_FILES]


def write_units(host: Host, files: Mapping[str, str]) -> None:
    parts = [f"cat >{FOLDER}/{name} <<'END'\n{text}\nEND\n" for name, text in files.items()]
    host.run("sh", "-ec", f"mkdir -p {FOLDER} {READY}\n{''.join(parts)}systemctl daemon-reload")


@pytest.fixture(scope="module")
def watched(host: Host) -> Iterator[Host]:
    """A host with the units of all cases, and a fake daemon."""
    before = host.read(FILE)
    write_units(host, FILES | INTERRUPTED_FILES)
    host.write(FILE, yaml.safe_dump({"groups": {"watched": {"name": "Watched", "units": WATCHED}}}))
    with fake_daemon(host):
        yield host
    host.write(FILE, before)
    files = FILES | INTERRUPTED_FILES
    host.run("systemctl", "kill", "--signal=KILL", *files, check=False)
    host.run("systemctl", "stop", *files, check=False)
    host.run("systemctl", "reset-failed")
    host.run("rm", "-rf", READY, *(f"{FOLDER}/{name}" for name in files))
    host.run("systemctl", "daemon-reload")


@pytest.fixture(autouse=True)
def no_failed_units(watched: Host) -> Iterator[None]:
    yield
    watched.run("systemctl", "reset-failed")


def test_only_what_failed_by_itself_is_told_as_a_failure_that_nobody_requested(watched: Host) -> None:
    scripts = [f"(u={unit_of(case)}; {script}) &\n" for case, (_, script, _) in CASES.items()]
    wrong: dict[str, object] = {}
    with listening(watched) as heard:
        watched.run("sh", "-c", f"{''.join(scripts)}wait")
        for case, (_, _, reason) in BY_THEMSELVES.items():
            unit, named = unit_of(case), unit_of(case).replace(".timer", ".service")
            try:
                heard.until_by_itself(unit, f"{named} {reason}")
            except AssertionError:
                wrong[case] = heard.all.get(unit)
        for case in REQUESTED:
            unit = unit_of(case)
            heard.until_told(unit)
            told = [each for each in heard.all[unit] if each is not None]
            if not told or not all(each.is_requested for each in told):
                wrong[case] = heard.all[unit]
        assert wrong == {}
        eventually(lambda: all(heard.last(unit_of(case)) is None for case in RESTARTED))
        loops = {each.run for each in heard.all["loops.service"] if each is not None}
        assert len(loops) > 1, heard.all["loops.service"]
        watched.run("sh", "-ec", f"touch {FIXED}; systemctl start fails.service")
        eventually(lambda: heard.last("fails.timer") is None)
        assert not {"fails.service", "requires-other.service"} & {*heard.all, *heard.states}
        before = {unit_of(case): heard.last(unit_of(case)) for case in CASES}
    with listening(watched) as heard:  # a new helper knows no verdict, but tells the same runs
        failed = {unit: failure for unit, failure in before.items() if failure is not None}
        eventually(lambda: heard.all.keys() >= failed.keys())
        again = {unit: heard.last(unit) for unit in failed}
        assert {unit: each and each.run for unit, each in again.items()} == {
            unit: each.run for unit, each in failed.items()
        }


def test_a_stop_is_requested_whatever_interrupts_the_signals_about_it(
    watched: Host, exhaustive: bool
) -> None:
    for name in INTERRUPTED if exhaustive else ("reexec",):
        units = [unit for unit in INTERRUPTED_FILES if unit.startswith(name)]
        ready = [f"{READY}/{unit}" for unit in units]
        with listening(watched) as heard:
            watched.run("systemctl", "start", *units)
            eventually(lambda: watched.run("ls", *ready, check=False).returncode == 0)  # noqa: B023
            eventually(lambda: {heard.states[unit] for unit in units} == {"active/running"})  # noqa: B023
            watched.run("systemctl", "stop", "--no-block", *units)
            watched.run("sh", "-c", INTERRUPTED[name])
            for unit in units:
                heard.until_told(unit)
                assert heard.by_itself(unit) == []


def test_a_shutdown_fails_no_unit_that_nobody_requested(boot: Boot, watched: Host) -> None:
    after, exits = "After=hkswitch.service", on_term("exit 1")  # they stop while the helper still runs
    files = {
        "plain.service": service(exits, unit=after),
        "143.service": service(on_term("exit 143"), unit=after),
        "early.service": service(exits, unit=f"DefaultDependencies=no\nConflicts=shutdown.target\n{after}"),
        "part.service": service(exits, unit=f"DefaultDependencies=no\nPartOf=plain.service\n{after}"),
        "beside.service": service(exits),
        "never.service": service(exits, unit="DefaultDependencies=no"),
    }
    with boot(watched.release) as host:
        install(host)
        write_units(host, files)
        host.write(FILE, yaml.safe_dump({"groups": {"watched": {"name": "Watched", "units": [*files]}}}))
        host.run("systemctl", "start", "hkswitch.service", *files)
        eventually(lambda: len(host.run("ls", READY).stdout.split()) == len(files))
        with listening(host) as heard:
            host.run("systemctl", "poweroff", check=False)  # which may kill it
            heard.process.wait(PATIENCE_SECONDS)
            heard.reading.join(PATIENCE_SECONDS)
    assert {unit: heard.by_itself(unit) for unit in files} == {unit: [] for unit in files}
    stopped = ("plain.service", "143.service", "early.service", "part.service")
    assert [unit for unit in stopped if heard.last(unit) is None] == []
