"""Alerts on a real host: two controllers hear of each trouble at once and once, and of no requested stop.

In CI, everything happens a few times; `make test-host-all` has it happen as often as the constants say.
"""

import json
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hkswitch.model.trouble import WELL_SECONDS
from tests.host.machine import ADDRESS, Boot, Host, eventually, eventually_async, install
from tests.support.controller import Controller
from tests.support.waiting import PATIENCE_SECONDS

DAEMON: Final = "hkswitch.service"
FOLDER: Final = "/etc/systemd/system"
READY: Final = "/run/alerts"
"""A folder in which each program that handles SIGTERM makes a file, as soon as it does."""

VICTIMS: Final = 20
KILLINGS: Final = (1, 5)
"""Of each victim."""
LOOP_STARTS: Final = (100, 1000)
STOPS: Final = (1, 4)
"""Of each kind. The first number is CI's."""

TOLD_WITHIN_SECONDS: Final = 1.5
LATE_SHARE: Final = 0.05

SLEEPS: Final = "ExecStart=/bin/sleep infinity"


def service(*lines: str, unit: str = "") -> str:
    return "\n".join(("[Unit]", "StartLimitIntervalSec=0", unit, "[Service]", *lines, ""))


def on_term(action: str) -> str:
    """A program that does this when it gets SIGTERM."""
    return f"ExecStart=/bin/sh -c 'trap \"{action}\" TERM; touch {READY}/%p; while :; do sleep 0.05; done'"


UNITS: Final[Mapping[str, str]] = {
    "victim@.service": service(SLEEPS),
    "loop.service": service(
        "Restart=always", "RestartSec=0", f"ExecStart=/bin/sh -c 'echo >>{READY}/starts; exit 1'"
    ),
    "nightly.timer": "[Timer]\nOnActiveSec=0\nAccuracySec=1ms\n",
    "nightly.service": service("Type=oneshot", "ExecStart=/bin/sh -c 'exit 3'"),
    "base.service": service(on_term("exit 0")),
    "ends-143.service": service(on_term("exit 143")),
    "ends-1.service": service(on_term("exit 1")),
    "ignores.service": service(on_term(":"), "TimeoutStopSec=0.3"),
    "part.service": service(on_term("exit 1"), unit="PartOf=base.service\nAfter=base.service"),
    "needs.service": service(on_term("exit 143"), unit="Requires=base.service\nAfter=base.service"),
}

ASKED: Final = ("ends-143", "ends-1", "ignores", "part", "needs")
"""Units that are stopped in every way there is, and end badly."""

GROUPS: Final[Mapping[str, Mapping[str, Any]]] = {
    **{f"victim-{number}": {"units": [f"victim@{number}"]} for number in range(VICTIMS)},
    **{name: {"units": [name], "restart": True} for name in ASKED},
    "loop": {"units": ["loop"]},
    "nightly": {"units": ["nightly.timer"]},
}
TELL: Final = "/usr/local/bin/tell-of-trouble"
CONFIG: Final = f"bridge: {{address: {ADDRESS}}}\nalert_command: [{TELL}]\ngroups:\n" + "".join(
    f"  {group_id}: {json.dumps({**group, 'alert': 'contact'})}\n" for group_id, group in GROUPS.items()
)


def name_of(group_id: str) -> str:
    """Return the name of a group's switch."""
    return " ".join(word.capitalize() for word in group_id.split("-"))


def sensor_of(group_id: str) -> str:
    return f"{name_of(group_id)} Alert"


@pytest.fixture(scope="module")
def config() -> str:
    return CONFIG


@contextmanager
def running_units(host: Host) -> Iterator[None]:
    """The units' files, and the alert command."""
    for name, text in UNITS.items():
        host.write(f"{FOLDER}/{name}", text)
    host.write(TELL, '#!/bin/sh\necho "told: $HKSWITCH_GROUP $HKSWITCH_STATE: $HKSWITCH_REASON"\n', 0o755)
    host.run("mkdir", READY)
    host.run("systemctl", "daemon-reload")
    yield
    host.run("rm", "-r", READY, TELL, *(f"{FOLDER}/{name}" for name in UNITS))
    host.run("systemctl", "daemon-reload")


@pytest.fixture(scope="module", autouse=True)
def unit_files(host: Host) -> Iterator[None]:
    with running_units(host):
        yield


@pytest.fixture(autouse=True)
def stopped(host: Host, unit_files: None) -> Iterator[None]:
    """No unit runs after a test, and none has failed."""
    yield
    host.run("systemctl", "stop", *(name for name in UNITS if "@" not in name), "victim@*")
    host.run("systemctl", "reset-failed")
    host.run("sh", "-c", f"rm -f {READY}/*")


@dataclass
class Ears:
    """Connections of two controllers, and what each was told of sensors."""

    controllers: tuple[Controller, Controller]

    def forget(self) -> None:
        """Forget the events that nothing has waited for; they still count."""
        for controller in self.controllers:
            while not controller.events.empty():
                controller.events.get_nowait()

    async def hear(self, group_id: str, *, detected: bool, within_seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until both are told."""
        for controller in self.controllers:
            heard = await controller.event(sensor_of(group_id), within_seconds=within_seconds)
            assert heard is detected

    async def read(self, group_id: str) -> list[bool]:
        """Return what each reads: whether the contact is open."""
        return [bool(await each.read(sensor_of(group_id))) for each in self.controllers]

    async def read_all(self) -> list[bool | int]:
        """Return what they read of all victims' sensors."""
        names = [sensor_of(f"victim-{number}") for number in range(VICTIMS)]
        return [value for each in self.controllers for value in (await each.read_all(names)).values()]

    async def until_counts(self, wanted: Mapping[str, int]) -> None:
        """Wait until each was told as often of each sensor."""
        await eventually_async(
            lambda: self.counts() == [wanted, wanted], timeout_seconds=WELL_SECONDS + PATIENCE_SECONDS
        )

    def counts(self) -> list[dict[str, int]]:
        """Return how often each was told of each sensor."""
        return [
            {name: count for name, count in each.told.items() if name.endswith(" Alert")}
            for each in self.controllers
        ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def other(paired: Controller) -> AsyncIterator[Controller]:
    """A second paired controller."""
    key, identity = Ed25519PrivateKey.generate(), "5A7E0000-0000-4000-8000-000000000002"
    await paired.add(identity, key.public_key().public_bytes_raw(), "User")
    other = paired.again()
    other.pairing.pairing_data |= {"iOSPairingId": identity, "iOSDeviceLTSK": key.private_bytes_raw().hex()}
    other.pairing._pairing_data = other.pairing.pairing_data
    yield other
    await other.close()


async def listening(*controllers: Controller) -> Ears:
    """Return new connections of both controllers, which are subscribed to everything."""
    one, two = (each.again() for each in controllers)
    for controller in (one, two):
        await controller.look()
        await controller.subscribe()
    return Ears((one, two))


@pytest_asyncio.fixture(loop_scope="module")
async def ears(daemon: Host, paired: Controller, other: Controller) -> AsyncIterator[Ears]:
    """Both controllers, subscribed to everything."""
    ears = await listening(paired, other)
    yield ears
    for controller in ears.controllers:
        await controller.close()


def alerts(host: Host) -> list[dict[str, Any]]:
    """Return the last alerts, newest first."""
    return list(json.loads(host.run("hkswitch", "alerts", "--json").stdout)["alerts"])


def state_of(host: Host, group_id: str) -> str:
    report = json.loads(host.run("hkswitch", "status", "--json").stdout)
    return str(next(group["state"] for group in report["groups"] if group["id"] == group_id))


def troubles(host: Host) -> dict[str, str]:
    """Return the trouble of each group, empty for none."""
    report = json.loads(host.run("hkswitch", "status", "--json").stdout)
    return {group["id"]: group["trouble"] for group in report["groups"]}


def kill(host: Host, unit: str) -> None:
    host.run("systemctl", "kill", "--signal=KILL", unit)


async def test_both_controllers_hear_of_each_killed_process_at_once_and_once(
    daemon: Host, ears: Ears, exhaustive: bool
) -> None:
    lags_seconds: list[float] = []
    units = [f"victim@{number}" for number in range(VICTIMS)]
    for killing in range(KILLINGS[exhaustive]):
        daemon.run("systemctl", "start", *units)
        await eventually_async(lambda: set(states(daemon, units)) == {"active"})
        for number, unit in enumerate(units):
            ears.forget()
            began_seconds = time.monotonic()
            kill(daemon, unit)
            await ears.hear(f"victim-{number}", detected=True)
            lags_seconds.append(time.monotonic() - began_seconds)
        assert troubles(daemon)["victim-0"] == "victim@0.service was killed by SIGKILL"
        began_seconds = time.monotonic()
        daemon.run("systemctl", "start", *units)
        await ears.until_counts({sensor_of(f"victim-{n}"): 2 * (killing + 1) for n in range(VICTIMS)})
        assert time.monotonic() - began_seconds > WELL_SECONDS - 1
        assert not any(await ears.read_all())
    lags_ms = sorted(round(1000 * each) for each in lags_seconds)
    sys.stdout.write(f"\ntold {len(lags_ms)} times: {lags_ms[len(lags_ms) // 2]} ms, ")
    sys.stdout.write(f"{lags_ms[len(lags_ms) * 95 // 100]} ms for 95 %, at most {lags_ms[-1]} ms\n")
    late = [lag_seconds for lag_seconds in lags_seconds if lag_seconds > TOLD_WITHIN_SECONDS]
    assert len(late) <= LATE_SHARE * len(lags_seconds), late


def states(host: Host, units: list[str]) -> list[str]:
    return host.run("systemctl", "is-active", *units, check=False).stdout.split()


async def test_a_crash_loop_is_one_alert_however_often_it_starts(
    daemon: Host, ears: Ears, exhaustive: bool
) -> None:
    def starts() -> int:
        return len(daemon.run("sh", "-c", f"cat {READY}/starts || true").stdout)

    before = len(alerts(daemon))
    daemon.run("systemctl", "start", "loop")
    await ears.hear("loop", detected=True)
    await eventually_async(lambda: starts() > LOOP_STARTS[exhaustive], timeout_seconds=240)
    assert await ears.read("loop") == [True, True]
    daemon.run("systemctl", "stop", "loop")
    later = await canary(daemon, ears)
    assert ears.counts() == [{sensor_of("loop"): 1, later: 1}] * 2
    assert len(alerts(daemon)) == min(100, before + 2)


async def canary(host: Host, ears: Ears) -> str:
    """Kill a unit, and hear of it: what happened before that has been told. Returns the sensor's name."""
    group_id = await running_victim(host)
    ears.forget()
    kill(host, unit_of(group_id))
    await ears.hear(group_id, detected=True)
    return sensor_of(group_id)


async def running_victim(host: Host) -> str:
    """Start the unit of a victim's group that is not in trouble, and return the group."""
    group_id = next(
        each for each, trouble in troubles(host).items() if each.startswith("victim") and not trouble
    )
    host.run("systemctl", "start", unit_of(group_id))
    await eventually_async(lambda: state_of(host, group_id) == "on")
    return group_id


def unit_of(group_id: str) -> str:
    """Return the unit of a victim's group."""
    return f"victim@{group_id.rpartition('-')[2]}"


WAYS: Final[Mapping[str, str]] = {
    "systemctl": "systemctl stop $1",
    "no-block": "systemctl stop --no-block $1; until ! systemctl is-active --quiet $1; do sleep 0.02; done",
    "restart": "systemctl restart $1; systemctl stop $1",
    "try-restart": "systemctl try-restart $1; systemctl stop $1",
    "command-line": "hkswitch stop $1",
    "command-line-restart": "hkswitch restart $1; systemctl stop $1",
    "root": "serviceswitch stop $1",
    "upgrade": "systemctl stop $1; systemctl daemon-reload; systemctl start $1; systemctl stop $1",
    "isolate-like": "systemctl stop $1 base",
}


async def test_no_requested_stop_is_an_alert_however_badly_a_unit_ends(
    daemon: Host, ears: Ears, exhaustive: bool
) -> None:
    before, stops = len(alerts(daemon)), 0

    def start(*units: str) -> None:
        script = f'systemctl start "$@"; for u; do until [ -e {READY}/$u ]; do sleep 0.02; done; done'
        daemon.run("sh", "-ec", script, "sh", *units)

    def all_stopped() -> None:
        daemon.run("systemctl", "stop", *ASKED, "base")
        daemon.run("systemctl", "reset-failed", check=False)
        daemon.run("sh", "-c", f"rm -f {READY}/*")

    for _ in range(STOPS[exhaustive]):
        for way in WAYS.values():
            start(*ASKED)
            for unit in ASKED:
                daemon.run("sh", "-c", way, "sh", unit)
                stops += 1
            all_stopped()
        start(*ASKED)
        daemon.run("sh", "-c", 'systemctl daemon-reexec; systemctl stop "$@"', "sh", *ASKED)
        stops += len(ASKED)
        await eventually_async(lambda: answers(daemon))  # before that, the helper cannot have seen them
        all_stopped()
        start("base", "part", "needs")
        daemon.run("systemctl", "restart", "base")  # PartOf= and Requires= stop the others
        daemon.run("systemctl", "stop", "base")
        stops += 4
        all_stopped()
        start("ends-143", "ends-1")
        for group_id in ("ends-143", "ends-1"):
            assert await ears.controllers[0].write(name_of(group_id), on=False) == 0
            stops += 1
        await eventually_async(lambda: "active" not in states(daemon, ["ends-143", "ends-1"]))
        all_stopped()
    later = await canary(daemon, ears)
    found = [each["reason"] for each in alerts(daemon)]
    assert len(found) == min(100, before + 1), found[: 1 - before]
    assert stops >= (200 if exhaustive else 50)
    assert ears.counts() == [{later: 1}] * 2


async def test_a_timers_group_alerts_when_the_service_it_starts_fails(daemon: Host, ears: Ears) -> None:
    daemon.run("systemctl", "start", "nightly.timer")
    await ears.hear("nightly", detected=True)
    assert troubles(daemon)["nightly"] == "nightly.service exited with status 3"
    later = await canary(daemon, ears)
    assert ears.counts() == [{sensor_of("nightly"): 1, later: 1}] * 2


def told(host: Host, group_id: str) -> list[str]:
    """Return what the alert command was told of a group."""
    lines = host.journal(f"hkswitch-alert-{group_id}.service").splitlines()
    return [line for line in lines if line.startswith("told: ")]


async def test_the_alert_command_is_told_of_each_trouble_once(daemon: Host) -> None:
    group_id = await running_victim(daemon)
    before = len(told(daemon, group_id))
    kill(daemon, unit_of(group_id))
    (line,) = await eventually_async(lambda: told(daemon, group_id)[before:])
    assert line == f"told: {group_id} failed: {unit_of(group_id)}.service was killed by SIGKILL"
    daemon.run("systemctl", "start", unit_of(group_id))
    await eventually_async(lambda: state_of(daemon, group_id) == "on")
    kill(daemon, unit_of(group_id))
    await eventually_async(lambda: state_of(daemon, group_id) == "failed")
    assert told(daemon, group_id)[before:] == [line]


RESTARTS: Final[Mapping[str, str]] = {
    "the daemon": f"systemctl restart {DAEMON}",
    "a killed daemon": f"systemctl kill --signal=KILL {DAEMON}",
    "the helper": "pkill -KILL -x serviceswitch",
    "the bus": "systemctl restart dbus",
    "systemd": "systemctl daemon-reexec",
}


@pytest.mark.parametrize("restarted", RESTARTS)
async def test_an_alert_stays_open_and_is_not_repeated_when_a_program_restarts(
    daemon: Host, paired: Controller, other: Controller, restarted: str
) -> None:
    group_id = await running_victim(daemon)
    kill(daemon, unit_of(group_id))
    await eventually_async(lambda: troubles(daemon)[group_id])
    before = alerts(daemon)[0]
    process = daemon.show(DAEMON, "MainPID")
    daemon.run("sh", "-c", RESTARTS[restarted])
    if "daemon" in restarted:
        await eventually_async(
            lambda: (
                daemon.show(DAEMON, "MainPID") not in {process, "0"}
                and daemon.show(DAEMON, "ActiveState") == "active"
            )
        )
    ears = await listening(paired, other)
    assert await ears.read(group_id) == [True, True]
    await eventually_async(lambda: answers(daemon))
    later = await canary(daemon, ears)
    assert ears.counts() == [{later: 1}] * 2
    assert next(each for each in alerts(daemon) if each["group"] == group_id) == before
    for controller in ears.controllers:
        await controller.close()


@pytest.mark.any_release
def test_a_reboot_is_no_alert_and_an_open_one_stays_open(boot: Boot) -> None:
    """In a soft reboot, which only Debian 13 has, files and kernel stay, and all processes end.

    systemd-nspawn has no /sys/class/net afterwards: so the host is another one, and its bridge is not on the
    network.
    """
    with boot("trixie") as host:
        install(host)
        with running_units(host):
            host.write("/etc/hkswitch/config.yaml", CONFIG)
            host.run("systemctl", "enable", "--now", DAEMON)
            eventually(lambda: answers(host))
            before, boots = trouble(host), soft_reboots(host)
            host.run("systemctl", "start", *ASKED, "base")
            host.run("systemctl", "soft-reboot", check=False)
            eventually(lambda: soft_reboots(host) not in {boots, ""})
            eventually(lambda: "active" in states(host, [DAEMON]) and answers(host))
            assert alerts(host) == before
            assert trouble(host)[1:] == before


def trouble(host: Host) -> list[dict[str, Any]]:
    """Kill the unit of another group, and return all alerts."""
    number = len(alerts(host))
    host.run("systemctl", "start", f"victim@{number}")
    eventually(lambda: state_of(host, f"victim-{number}") == "on")
    kill(host, f"victim@{number}")
    eventually(lambda: len(alerts(host)) > number)
    return alerts(host)


def soft_reboots(host: Host) -> str:
    """Return how often the host was rebooted softly; empty while systemd does not answer."""
    shown = host.run("systemctl", "show", "--property=SoftRebootsCount", "--value", check=False)
    return shown.stdout.strip()


def answers(host: Host) -> bool:
    """Return whether the daemon knows the states of units again."""
    report = json.loads(host.run("hkswitch", "status", "--json", check=False).stdout or "{}")
    groups = report.get("groups", [])
    return bool(groups) and all(group["state"] != "unknown" for group in groups)
