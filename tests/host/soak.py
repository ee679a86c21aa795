"""Random operations on a real host, and a check that all views agree whenever the host is quiet.

A seed fixes the order of operations but not their timing, so a disagreement lists the operations before it.
"""

import asyncio
import json
import random
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from aiohomekit.exceptions import HomeKitException

from tests.host.machine import Host
from tests.support.controller import Controller

DAEMON: Final = "hkswitch.service"
CONFIG_FILE: Final = "/etc/hkswitch/config.yaml"
CHECK_FILE: Final = "/run/soak-check"
LAMP_FILE: Final = "/run/soak-lamp"

SLEEPER: Final = "[Service]\nType={kind}\nExecStart=/bin/sleep infinity\n{more}"
UNITS: Final = {
    "soak-one.service": SLEEPER.format(kind="simple", more=""),
    "soak-a.service": SLEEPER.format(kind="exec", more=""),
    "soak-b.service": SLEEPER.format(kind="exec", more=""),
    "soak-c.service": SLEEPER.format(kind="exec", more="ExecStartPre=/bin/sleep 0.3\n"),
    "soak-slow.service": SLEEPER.format(kind="exec", more="ExecStartPre=/bin/sleep 1.5\n"),
    "soak-stubborn.service": SLEEPER.format(kind="exec", more="ExecStopPost=/bin/sleep 1.2\n"),
    "soak-once.service": "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n",
    "soak-checked.service": SLEEPER.format(kind="simple", more=""),
}
PROGRAMS: Final = {
    "/usr/local/bin/soak-check": f"#!/bin/sh\ntest -e {CHECK_FILE}\n",
    "/usr/local/bin/soak-lamp": (
        f"#!/bin/sh\ncase $1 in\nstart) touch {LAMP_FILE};;\nstop) rm -f {LAMP_FILE};;\n"
        f"status) test -e {LAMP_FILE};;\nesac\n"
    ),
}
CONFIG: Final = """\
bridge:
  address: 10.77.0.1
groups:
  one: {name: One, units: [soak-one], restart: true}
  three: {name: Three, units: [soak-a, soak-b, soak-c]}
  slow: {name: Slow, units: [soak-slow]}
  stubborn: {name: Stubborn, units: [soak-stubborn]}
  once: {name: Once, units: [soak-once, soak-a]}
  checked:
    name: Checked
    units: [soak-checked]
    check: [/usr/local/bin/soak-check]
    interval_seconds: 1
    timeout_seconds: 5
  lamp:
    name: Lamp
    commands:
      start: [/usr/local/bin/soak-lamp, start]
      stop: [/usr/local/bin/soak-lamp, stop]
      status: [/usr/local/bin/soak-lamp, status]
    interval_seconds: 1
"""
EXTRA: Final = "  extra: {name: Extra, units: [soak-b]}\n"

TRACEBACK: Final = re.compile(r"^.*Traceback.*(?:\n[ \t].*)*(?:\n.*)?", re.MULTILINE)
"""A traceback: its indented lines, and the error in the line after them."""

QUIET_WITHIN_SECONDS: Final = 60
QUIET_FOR_SECONDS: Final = 2.5
"""Longer than a probe's interval, and than the time in which a failed group is not trusted."""

OPERATIONS_BETWEEN_CHECKS: Final = 12


@dataclass
class Phone:
    """A controller, and the state that it shows for each switch from its reads, writes and events."""

    name: str
    paired: Controller
    connection: Controller | None = None
    shown: dict[str, bool | int] = field(default_factory=dict)
    _protocol: Any = None
    _events_while_writing: set[str] = field(default_factory=set)

    async def connect(self) -> Controller:
        """Return the connection, or a new one if it broke."""
        current = self.connection
        if current is not None and current.pairing.connection.protocol is self._protocol:
            return current
        # aiohomekit reconnects by itself, but does not subscribe again.
        if current is not None:
            await current.close()
        fresh = self.paired.again()
        await fresh.look()
        await fresh.subscribe()
        fresh.pairing.dispatcher_connect(self._on_event)
        self.connection, self._protocol = fresh, fresh.pairing.connection.protocol
        self.shown = dict(await fresh.read_all(fresh.switches))
        return fresh

    async def look(self) -> None:
        """Read the accessories again, as a phone does when the configuration number changes."""
        connection = await self.connect()
        before = {*connection.switches}
        await connection.look()
        if new := {*connection.switches} - before:
            await connection.subscribe()
            self.shown |= await connection.read_all(new)

    async def tap(self, name: str, *, on: bool) -> None:
        """Write, and ignore an error, as a user would."""
        connection = await self.connect()
        if name not in connection.switches:
            return
        self._events_while_writing.discard(name)
        status = await connection.write(name, on=on)
        if status != 0:
            return
        if name in self._events_while_writing:
            self.shown.pop(name, None)  # unknown whether the event or the response came first
        else:
            self.shown[name] = on

    def _on_event(self, changes: dict[tuple[int, int], dict[str, Any]]) -> None:
        connection = self.connection
        if connection is None:
            return
        names = {switch.on: name for name, switch in connection.switches.items()}
        for path, change in changes.items():
            if (name := names.get(path)) is not None and "value" in change:
                self.shown[name] = bool(change["value"])
                self._events_while_writing.add(name)

    async def close(self) -> None:
        """Disconnect."""
        if self.connection is not None:
            await self.connection.close()


@dataclass
class Figures:
    """The results of a run."""

    seed: int
    operations: int = 0
    checks: int = 0
    disagreements: list[str] = field(default_factory=list)
    lost_pairings: int = 0
    tracebacks: list[str] = field(default_factory=list)
    rss_kib: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        ends = [f"{kind} {values[0]} -> {values[-1]}" for kind, values in self._levels() if values]
        return (
            f"seed {self.seed}: {self.operations} operations, {self.checks} checks, "
            f"{len(self.disagreements)} disagreements, {self.lost_pairings} lost pairings, "
            f"{len(self.tracebacks)} tracebacks, {', '.join(ends)}"
        )

    def _levels(self) -> tuple[tuple[str, list[int]], ...]:
        return (("daemon RSS KiB", self.rss_kib), ("daemon descriptors", self.descriptors))


@dataclass
class Soak:
    """A run on one host."""

    host: Host
    phones: tuple[Phone, ...]
    helper: str
    chance: random.Random
    figures: Figures
    log: list[str] = field(default_factory=list)
    _has_extra: bool = False

    async def run(self, seconds: float) -> Figures:
        """Run random operations for that long, and check whenever the host is quiet."""
        deadline_seconds = time.monotonic() + seconds
        while time.monotonic() < deadline_seconds:
            for _ in range(self.chance.randint(1, OPERATIONS_BETWEEN_CHECKS)):
                await self._random_operation()
            await self._check()
        self.figures.tracebacks = TRACEBACK.findall(self.host.journalctl("--output=cat"))
        return self.figures

    # Operations

    async def _random_operation(self) -> None:
        kinds: list[tuple[int, Callable[[], Any]]] = [
            (40, self._tap),
            (12, self._systemctl),
            (6, self._kill_unit),
            (6, self._toggle_check),
            (6, self._reload),
            (5, self._kill_helper),
            (2, self._kill_daemon),
            (2, self._restart_bus),
            (2, self._reexecute),
            (8, self._command_line),
        ]
        [do] = self.chance.choices([kind for _, kind in kinds], [weight for weight, _ in kinds])
        self.figures.operations += 1
        with suppress(HomeKitException, TimeoutError, OSError):  # the bridge may be restarting
            async with asyncio.timeout(20):
                await do()
        await asyncio.sleep(self.chance.uniform(0, 0.3))

    def _note(self, what: str) -> None:
        self.log.append(f"{time.strftime('%H:%M:%S')} {what}")

    async def _tap(self) -> None:
        phone, on = self.chance.choice(self.phones), self.chance.random() < 0.6
        names = ["One", "Three", "Slow", "Stubborn", "Once", "Checked", "Lamp", "Restart One", "Extra"]
        name = self.chance.choice(names)
        self._note(f"{phone.name} writes {name} {'on' if on else 'off'}")
        await phone.tap(name, on=on)

    async def _systemctl(self) -> None:
        verb = self.chance.choice(["start", "stop", "restart"])
        await self._run("systemctl", "--no-block", verb, self.chance.choice([*UNITS]))

    async def _kill_unit(self) -> None:
        await self._run("systemctl", "kill", "--signal=KILL", self.chance.choice([*UNITS]))

    async def _toggle_check(self) -> None:
        await self._run("sh", "-c", f"rm {CHECK_FILE} 2>/dev/null || touch {CHECK_FILE}")

    async def _command_line(self) -> None:
        verb = self.chance.choice(["start", "stop", "status"])
        await self._run("hkswitch", verb, self.chance.choice(["one", "three", "checked", "lamp"]))

    async def _reload(self) -> None:
        self._has_extra = self.chance.random() < 0.5
        self.host.write(CONFIG_FILE, self._config())
        await self._run("systemctl", "reload", DAEMON)

    async def _kill_helper(self) -> None:
        await self._run("pkill", "-KILL", "-f", "serviceswitch serve")

    async def _kill_daemon(self) -> None:
        await self._run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", DAEMON)

    async def _restart_bus(self) -> None:
        await self._run("systemctl", "restart", "dbus.service")

    async def _reexecute(self) -> None:
        await self._run("systemctl", self.chance.choice(["daemon-reexec", "daemon-reload"]))

    async def _run(self, *argv: str) -> str:
        self._note(" ".join(argv))
        done = await asyncio.to_thread(self.host.run, *argv, check=False)
        return done.stdout

    def _config(self) -> str:
        return f"helper: {self.helper}\n{CONFIG}{EXTRA if self._has_extra else ''}"

    # Checks

    async def _check(self) -> None:
        """Wait until the host is quiet, and compare all views with systemd's."""
        report = await self._quiet()
        expected = self._expected()
        views: dict[str, dict[str, bool | int]] = {"status": _on_of(report)}
        for phone in self.phones:
            views |= await self._views_of(phone)
        for name, on in expected.items():
            for view, values in views.items():
                if view.endswith("events") and name not in values:
                    continue
                self.figures.checks += 1
                if values.get(name) is not on:
                    self._record_disagreement(f"{name} is {on}, but {view} says {values.get(name)}")
        self._measure()

    async def _views_of(self, phone: Phone) -> dict[str, dict[str, bool | int]]:
        for _ in range(3):
            with suppress(HomeKitException, TimeoutError, OSError):
                async with asyncio.timeout(20):
                    connection = await phone.connect()
                    await phone.look()
                    names = [name for name in connection.switches if not name.startswith("Restart")]
                    read = await connection.read_all(names)
                    return {f"{phone.name} reads": dict(read), f"{phone.name} events": dict(phone.shown)}
        self.figures.lost_pairings += 1
        self._record_disagreement(f"{phone.name} cannot connect")
        return {}

    def _record_disagreement(self, what: str) -> None:
        recent = "\n    ".join(self.log[-40:])
        self.figures.disagreements.append(f"{time.strftime('%H:%M:%S')} {what}; before it:\n    {recent}")

    async def _quiet(self) -> dict[str, Any]:
        """Return the report once it has been stable for a while; it is a disagreement if it never is."""
        deadline_seconds, since_seconds, before = time.monotonic() + QUIET_WITHIN_SECONDS, 0.0, ""
        report: dict[str, Any] = {"groups": []}
        while time.monotonic() < deadline_seconds:
            text = await asyncio.to_thread(self._status)
            jobs = (await asyncio.to_thread(self.host.run, "systemctl", "list-jobs", check=False)).stdout
            still = text == before and "soak-" not in jobs and _is_settled(text)
            if not still:
                before, since_seconds = text, time.monotonic()
            elif time.monotonic() - since_seconds >= QUIET_FOR_SECONDS:
                return dict(json.loads(text))
            await asyncio.sleep(0.2)
        self._record_disagreement(f"the host did not become quiet: {before}")
        return report

    def _status(self) -> str:
        """Return the report without values that change by themselves."""
        printed = self.host.run("hkswitch", "status", "--json", check=False).stdout
        if not printed:
            return ""
        report = json.loads(printed)
        if report["bridge"] is not None:
            report["bridge"] = {name: report["bridge"][name] for name in ("helper", "config")}
        for group in report["groups"]:
            last = group.pop("last_action")
            group["runs"] = last is not None and last["outcome"] == "running"
        return json.dumps(report)

    def _expected(self) -> dict[str, bool]:
        """Return whether each group must be on, according to systemd and the programs."""
        shown = self.host.run("systemctl", "show", "--property=Id,ActiveState", *UNITS).stdout
        blocks = (dict(line.split("=", 1) for line in block.splitlines()) for block in shown.split("\n\n"))
        active = {
            block["Id"].removesuffix(".service"): block["ActiveState"] == "active"
            for block in blocks
            if block
        }
        passes = self.host.run("/usr/local/bin/soak-check", check=False).returncode == 0
        lit = self.host.run("/usr/local/bin/soak-lamp", "status", check=False).returncode == 0
        expected = {
            "One": active["soak-one"],
            "Three": active["soak-a"] and active["soak-b"] and active["soak-c"],
            "Slow": active["soak-slow"],
            "Stubborn": active["soak-stubborn"],
            "Once": active["soak-once"] and active["soak-a"],
            "Checked": active["soak-checked"] and passes,
            "Lamp": lit,
        }
        return expected | ({"Extra": active["soak-b"]} if self._has_extra else {})

    def _measure(self) -> None:
        process = self.host.show(DAEMON, "MainPID")
        status = self.host.run("cat", f"/proc/{process}/status", check=False).stdout
        rss = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
        descriptors = self.host.run("ls", f"/proc/{process}/fd", check=False).stdout.split()
        if rss:
            self.figures.rss_kib.append(int(rss[0]))
            self.figures.descriptors.append(len(descriptors))


def _on_of(report: dict[str, Any]) -> dict[str, bool | int]:
    return {group["name"]: group["state"] == "on" for group in report["groups"]}


def _is_settled(text: str) -> bool:
    if not text:
        return False
    report = json.loads(text)
    passing = {"starting", "stopping", "unknown"}
    return (
        report["bridge"] is not None
        and not report["bridge"]["helper"]
        and not any(group["runs"] or group["state"] in passing for group in report["groups"])
    )


@asynccontextmanager
async def phones_of(first: Controller, second: Controller) -> AsyncIterator[tuple[Phone, ...]]:
    """Two phones, disconnected in the end."""
    phones = (Phone("first phone", first), Phone("second phone", second))
    try:
        yield phones
    finally:
        for phone in phones:
            await phone.close()
