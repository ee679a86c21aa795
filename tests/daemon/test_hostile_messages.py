"""Messages of another host that nobody would write: whatever comes, its own groups get a state, and no more.

A million of them with `--long`.
"""

import asyncio
import json
import logging
import random
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from hkswitch.backend.helper_host import HelperHost
from hkswitch.backend.helper_session import HelperSession
from hkswitch.backend.helper_stderr import HelperStderr
from hkswitch.backend.reported_state import MOST_UNITS
from hkswitch.backend.simulated import SimulatedHost
from hkswitch.backend.ssh_transport import SshTransport
from hkswitch.daemon.alerts import Alerts
from hkswitch.daemon.kept_alerts import KeptAlerts
from hkswitch.daemon.rules import Rules
from hkswitch.daemon.switchboard import Switchboard
from hkswitch.model.config import Config, parse
from hkswitch.model.elsewhere import RemoteHost
from hkswitch.model.printable import is_printable
from hkswitch.model.switch_events import Observed
from hkswitch.model.unit_state import Sample
from hkswitch.protocol.control import Status, encode_control_reply, parse_control_reply
from hkswitch.protocol.helper import HELPER_PROTOCOL
from hkswitch.protocol.report import Report
from tests.daemon.test_groups_of_other_hosts import Silent
from tests.daemon.test_rules import NotedGroups
from tests.daemon.test_switchboard import NotedDisplay

NAS: Final = RemoteHost("nas", "nas.lan")
CONFIG: Final = """
hosts: {nas: {ssh: nas.lan}}
groups:
  web: {units: [httpd]}
  a: {host: nas, alert: contact, restart_when: {cpu_percent: 50, memory_mib: 9, for_seconds: 30}}
  b: {host: nas}
  c: {host: nas, group: there, alert: leak}
"""
MESSAGES, MESSAGES_LONG = 6000, 1_000_000
LOOKS: Final = 500
"""Messages between two looks at everything."""

NASTY: Final = "\x1b[31m\x07\u202e\ud800\u2028\x9b2J\r\nEVIL"
NAMES: Final = ("a", "b", "there", "c", "web", "httpd.service", "u1", "u2", "docker/x", "", NASTY, "x" * 300)
TEXTS: Final = ("", "why", NASTY, "x" * 600, "\u20ac" * 400, "x" * 499)
NUMBERS: Final = (
    0,
    1,
    2,
    3,
    -1,
    7,
    15,
    30,
    45,
    60,
    10**6,
    2**53,
    2**53 + 1,
    2**63,
    2**64,
    10**400,
    1.5,
    1e300,
    -0.0,
)
ODD: Final[tuple[Any, ...]] = (
    *(None, True, False, [], {}, [[]], [{}], {"": 0}, [None] * 9, "true", "null"),
    *(NAMES + TEXTS + NUMBERS),
)
LOADS: Final = ("loaded", "masked", "not-found", "error", NASTY, "newer")
ACTIVES: Final = ("active", "failed", "inactive", "activating", "deactivating", "partial", "failing", NASTY)
SUBS: Final = ("running", "dead", "auto-restart", "failed-before-auto-restart", NASTY, "running (healthy)")
VERDICTS: Final = ("on", "off", "unavailable", None, None, "maybe")
KINDS: Final = (
    *("hello", "pong", "accepted", "finished", "refused", "config", "samples", "complete", "lost", "newer"),
    *("group", "states") * 4,
)


UP: Final = [[unit, "loaded", "active", "running"] for unit in ("u1", "u2")]
TOLD: Final = {"token": "t1", "units": ["u1", "u2"], "actions": ["start"], "traits": [], "timeout_seconds": 9}
FIRST: Final[list[dict[str, Any]]] = [
    *({"type": "group", "group": name, **TOLD} for name in ("a", "b", "there")),
    {"type": "states", "units": UP, "probes": []},
    {"type": "complete"},
]
GOOD: Final = b"".join(json.dumps({**message, "epoch": 1}).encode() + b"\n" for message in FIRST)
"""What an honest helper tells first."""


class Kept:
    """A file of alerts that nobody reads again."""

    def read(self) -> KeptAlerts:
        return KeptAlerts()

    def keep(self, value: KeptAlerts) -> None:
        assert all(map(is_printable, [trouble.reason for trouble in value.troubles]))

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class Invented:
    """What is sent, by chance."""

    chance: random.Random
    epoch: int = 1

    def line(self) -> bytes:
        """Return a line that is right, or not quite, or not at all."""
        body = self.message()
        for _ in range(self.chance.choice((0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2))):
            self._spoil(body)
        line = json.dumps(body).encode()
        if self.chance.random() < 0.05:
            line = self._garbled(line)
        return line + b"\n"

    def message(self) -> dict[str, Any]:
        one, chance = self._one, self.chance
        kind, number = one(KINDS), chance.randrange(1, 5)
        bodies: dict[str, dict[str, Any]] = {
            "hello": {"version": one(TEXTS), "protocol": one((2, HELPER_PROTOCOL, 4, 9))},
            "finished": {
                "id": number,
                "units": self._some(self._result),
                "superseded": chance.random() < 0.5,
            },
            "refused": {"id": one((None, number)), "reason": one(TEXTS)},
            "config": {"problem": one(TEXTS)},
            "group": self._group(),
            "states": {
                "units": self._some(lambda: [one(NAMES[:9]), one(LOADS), one(ACTIVES), one(SUBS)]),
                "probes": self._some(lambda: [one(NAMES[:5]), one(VERDICTS), one(TEXTS)]),
                "failures": self._some(
                    lambda: [one(NAMES[5:8]), one(("", "r1", "r2")), chance.random() < 0.5, one(TEXTS)]
                ),
            },
            "samples": {"at_seconds": one(NUMBERS), "usages": self._some(self._usage)},
            "lost": {"reason": one(TEXTS)},
        }
        epoch = self.epoch if chance.random() < 0.9 else number
        return {"type": kind, "id": number, "epoch": epoch, **bodies.get(kind, {})}

    def _group(self) -> dict[str, Any]:
        traits = [
            trait for trait in ("commands", "probe", "assumed", "momentary") if self.chance.random() < 0.3
        ]
        older = self.chance.random() < 0.1
        return {
            "group": self._one(NAMES[:5]),
            "token": self._one(("t1", "t2", "")),
            "units": self._some(lambda: self._one(NAMES[5:9])),
            "actions": [action for action in ("start", "stop", "restart") if self.chance.random() < 0.6],
            "traits": None if older else traits,
            "timeout_seconds": self._one((1, 10, 2**53)),
        }

    def _result(self) -> dict[str, Any]:
        return {
            "unit": self._one(NAMES),
            "job": self._one(("done", "failed", NASTY)),
            "detail": self._one(TEXTS),
        }

    def _usage(self) -> list[Any]:
        one = self._one
        return [
            one(NAMES[5:8]),
            one(("r1", "r2")),
            one(NUMBERS),
            one((None, *NUMBERS)),
            one((None, *NUMBERS)),
        ]

    def _spoil(self, body: dict[str, Any]) -> None:
        key = self._one(sorted(body))
        match self.chance.randrange(4):
            case 0:
                body[key] = self._one(ODD)
            case 1:
                del body[key]
            case 2:
                body[self._one(sorted(body))] = body[key]
            case _:
                if isinstance(found := body[key], list) and found:
                    found[self.chance.randrange(len(found))] = self._one(ODD)

    def _garbled(self, line: bytes) -> bytes:
        at = self.chance.randrange(len(line))
        return (
            line[:at]
            + self.chance.randbytes(self.chance.randrange(4))
            + line[at + self.chance.randrange(3) :]
        )

    def _one(self, some: Any) -> Any:  # noqa: ANN401 -- anything
        return self.chance.choice(some)

    def _some(self, make: Any) -> list[Any]:  # noqa: ANN401
        return [make() for _ in range(self.chance.choice((0, 1, 1, 2, 3)))]


@dataclass
class Followed:
    """All that follows the states of groups, behind a host that says anything."""

    config: Config
    host: HelperHost = field(init=False)
    observed_ids: set[str] = field(default_factory=set)
    known: int = 0
    """Observations of a known state."""
    lives: int = 0

    def __post_init__(self) -> None:
        groups = self.config.groups
        self.host = HelperHost(groups, SshTransport(NAS), NAS)
        self.host._observer = self
        self.board = Switchboard(groups, SimulatedHost(groups), NotedDisplay())
        self.alerts = Alerts(self.config, SimulatedHost(groups), Silent(), Kept())
        self.restarts = NotedGroups()
        self.rules = Rules(self.board.groups, self.restarts, self.alerts)

    def observed(self, group_id: str, observed: Observed) -> None:
        self.observed_ids.add(group_id)
        self.known += observed.units is not None
        texts = [
            observed.why,
            *(state.sub for state in (observed.units or {}).values()),
            *(observed.units or ()),
        ]
        texts += [failure.reason for failure in observed.failures.values()]
        assert all(map(is_printable, texts))
        assert len(observed.units or {}) <= MOST_UNITS
        self.alerts.observed(group_id, observed)
        self.board.observed(group_id, observed)
        self.rules.observed(group_id, observed)

    def sampled(self, group_id: str, sample: Sample) -> None:
        assert group_id == "a", "no other group has a rule"
        self.rules.sampled(group_id, sample)

    def noticed(self) -> None:
        self.board.noticed()

    def connect(self) -> HelperSession:
        """Begin another life of the host's helper."""
        self.lives += 1
        terms = SshTransport(NAS).terms._replace(sample_interval_seconds=0)
        session = HelperSession(self.host.reported, self.host.config_checked, HelperStderr("nas"), terms)
        session.begin(lambda _: None)
        session.receive(
            json.dumps({"type": "hello", "version": "1", "protocol": HELPER_PROTOCOL}).encode() + b"\n"
        )
        self.host.started(session)
        session.receive(GOOD)
        return session

    def check(self) -> None:
        """Look at everything."""
        report = Report(None, self.board.report(), self.host.remote_hosts())
        line = encode_control_reply(Status(report))
        assert line.isascii()
        assert parse_control_reply(line) == Status(report)
        web, *others = report.groups
        assert web.state is None
        assert {group.id for group in others} == {"a", "b", "c"}

    async def close(self) -> None:
        await self.host.close()
        await self.board.close()
        await self.rules.close()
        await self.alerts.close()


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_a_host_sends_is_about_its_own_groups_and_can_be_shown(
    seed: int, caplog: pytest.LogCaptureFixture, *, long: bool
) -> None:
    caplog.set_level(logging.CRITICAL, "hkswitch")  # what would be logged is in the reports, too
    followed = Followed(parse(CONFIG.encode(), "config.yaml"))
    invented = Invented(random.Random(seed))
    session = followed.connect()
    for number in range((MESSAGES_LONG if long else MESSAGES) // 4):
        session.receive(invented.line())
        if session.ended.done():
            followed.host.gone(session.ended.result())
            session = followed.connect()
        if number % LOOKS == 0:
            followed.check()
            await asyncio.sleep(0)
    followed.check()
    assert followed.observed_ids == {"a", "b", "c"}
    assert followed.known > 100
    assert followed.lives > 100
    await followed.close()
