"""Runs a scenario with one bridge, and records its messages without values that differ between bridges.

A line is a message, or its absence. In scenarios that take time by design, late messages are marked.
"""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import InvalidTag

from tests.peer import tlv
from tests.peer.compare import Transcript
from tests.peer.identity import PairSetup, PairVerify
from tests.peer.peers import CharacteristicId, Peer, ReachableBridge
from tests.peer.raw_connection import Closed, InvalidMessage, Message
from tests.peer.raw_controller import RawController
from tests.peer.scenario import (
    AwaitEvents,
    ExternalChange,
    Request,
    Scenario,
    Send,
    SendBytes,
    Setup,
    Step,
    Verify,
    post,
)
from tests.peer.switches import SHORT_TYPES, short_type
from tests.peer.tlv import Kind

SOON_SECONDS: Final = 0.8
"""A later message is late: a bridge responds to a tap of a slow switch after a second."""

SILENT_SECONDS: Final = 4.0
MOST_SHOWN: Final = 600
PROBE: Final = Request("GET", "/probe")
KEPT_PARTS: Final = frozenset({Kind.STATE, Kind.ERROR, Kind.PERMISSIONS, Kind.METHOD, Kind.FLAGS})
"""Parts to record with their values; others only have their lengths recorded."""

UNCOMPARED: Final = frozenset({"type", "iid", "value", "description"})
DEFAULT_MAX_LEN: Final = 64
"""The default if it is missing (HAP specification, table 6-3)."""

BRIDGE, SWITCH = "the bridge", "a switch"
CONTENT: Final = {"application/hap+json": "json", "application/pairing+tlv8": "tlv"}


@dataclass
class ScenarioRun:
    """One run of a scenario."""

    scenario: Scenario
    peer: Peer
    bridge: ReachableBridge
    lines: dict[str, list[str]] = field(default_factory=dict)
    """The lines of each connection."""
    raws: dict[str, RawController] = field(default_factory=dict)
    setup: PairSetup | None = None
    verify: dict[str, PairVerify] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    """Connections that are closed or did not respond: they get no more requests."""

    async def run(self) -> Transcript:
        try:
            for name in self.scenario.connections:
                identity = self.scenario.who[name]
                opening = self.bridge.connect() if identity is None else self.bridge.verified(identity)
                self.raws[name], self.lines[name] = await opening, []
            for step in self.scenario.steps:
                await self._take(step)
            for name in self.raws:
                await self._probe(name)
        finally:
            for raw in self.raws.values():
                raw.close()
        return self.lines

    async def _take(self, step: Step) -> None:
        match step:
            case Send():
                await self._send(step)
            case SendBytes():
                await self._send_bytes(step)
            case ExternalChange(switch, is_on):
                await self.peer.change_externally(switch, on=is_on)
            case AwaitEvents():
                await self._await_events(step)
            case Setup():
                await self._setup(step)
            case Verify():
                await self._verify(step)

    async def _send(self, step: Send) -> None:
        if step.on in self.silent:
            return
        sent = b"".join(each.render(self.bridge.ids) for each in step.requests)
        await self.raws[step.on].wire.send(sent, frames=step.frames, pieces=step.pieces)
        for switch, on in step.meanwhile:
            await self.peer.change_externally(switch, on=on)
        for each in step.requests:
            if await self._answer(step.on, to_head=each.method == "HEAD") is None:
                return

    async def _send_bytes(self, step: SendBytes) -> None:
        wire = self.raws[step.on].wire
        await wire.send_raw(step.make(wire.frames))
        if not step.half_close:
            await self._answer(step.on)
            return
        wire.half_close()
        while step.on not in self.silent:
            await self._answer(step.on)

    async def _await_events(self, step: AwaitEvents) -> None:
        told: dict[str, Any] = {}
        started = time.monotonic()
        while any(told.get(at) != value for at, value in step.values.items()):
            message = await self._next(step.on)
            if not isinstance(message, Message) or not message.is_event:
                self._write(step.on, f"heard {_text(told)}, then {self._words(message)}", started)
                self.silent.add(step.on)
                return
            items = self._readable(message.json)["characteristics"]
            told |= {each["at"]: each["value"] for each in items}
        self._write(step.on, f"heard {_text(dict(sorted(told.items())))}", started)

    async def _setup(self, step: Setup) -> None:
        code = self.bridge.code if step.code is None else step.code
        if self.setup is None or step.message == "M1":
            self.setup = PairSetup(self.scenario.identity, code)
        match step.message:
            case "M1":
                parts = self.setup.m1()
            case "M3":
                parts = self.setup.m3()
            case _:
                parts = self.setup.m5(step.inner(self.setup.m5_inner()))
        answer = await self._exchange(step.on, "/pair-setup", step.change(parts))
        if step.message == "M1" and answer:
            self.setup.heard_m2(answer)
        if step.message == "M5" and Kind.ENCRYPTED_DATA in answer:
            self.setup.opened_m6(answer[Kind.ENCRYPTED_DATA])
            self.lines[step.on].append("the bridge proved its identity")

    async def _verify(self, step: Verify) -> None:
        if step.message == "M1" or step.on not in self.verify:
            self.verify[step.on] = PairVerify(self.scenario.identity)
        verify = self.verify[step.on]
        parts = verify.m1() if step.message == "M1" else verify.m3(step.inner(verify.m3_inner()))
        answer = await self._exchange(step.on, "/pair-verify", step.change(parts), step.behind)
        if step.message == "M1" and answer:
            verify.heard_m2(answer)
        elif answer.get(Kind.STATE) == b"\4" and Kind.ERROR not in answer:
            self.raws[step.on].wire.encrypt(*verify.session_keys)

    async def _exchange(self, on: str, path: str, body: bytes, behind: bytes = b"") -> dict[int, bytes]:
        if on in self.silent:
            return {}
        await self.raws[on].wire.send(post(path, body).render({}) + behind)
        message = await self._answer(on)
        try:
            return {} if message is None else dict(tlv.decode(message.body))
        except tlv.Truncated:
            return {}

    async def _answer(self, on: str, *, to_head: bool = False) -> Message | None:
        """Record all messages up to the next response."""
        started = time.monotonic()
        while True:
            message = await self._next(on, to_head=to_head)
            self._write(on, self._words(message), started)
            if not isinstance(message, Message):
                self.silent.add(on)
                return None
            if not message.is_event and message.status >= 200:
                self.lines[on] += services_of(message)
                return message

    async def _next(self, on: str, *, to_head: bool = False) -> Message | str:
        try:
            async with asyncio.timeout(SILENT_SECONDS):
                return await self.raws[on].wire.message(to_head=to_head)
        except TimeoutError:
            return "silence"
        except Closed:
            return "closed"
        except InvalidTag:
            return "invalid encryption"
        except InvalidMessage as garbled:
            return f"invalid message: {garbled}"

    async def _probe(self, on: str) -> None:
        """Record whether the connection still responds."""
        if on in self.silent:
            return
        await self.raws[on].wire.send(PROBE.render({}))
        while isinstance(message := await self._next(on), Message):
            if not message.is_event:
                self.lines[on].append("still open")
                return
        self.lines[on].append(f"{message} afterwards")

    def _write(self, on: str, words: str, started: float) -> None:
        took_seconds = time.monotonic() - started
        is_late = self.scenario.is_timed and took_seconds > SOON_SECONDS and "silence" not in words
        self.lines[on].append(f"{words} late" if is_late else words)

    # Words

    def _words(self, message: Message | str) -> str:
        if isinstance(message, str):
            return message
        kind = message.headers.get("content-type", "")
        first = "event" if message.is_event else str(message.status)
        words = f"{first} {CONTENT.get(kind, kind)}".strip()
        return f"{words} {self._body(kind, message.body)}".strip()[:MOST_SHOWN]

    def _body(self, kind: str, body: bytes) -> str:
        if not body:
            return ""
        if CONTENT.get(kind) == "tlv":
            return _tlv_words(body)
        try:
            found = json.loads(body)
        except ValueError:
            return "text"  # error texts differ between libraries
        if isinstance(found, dict) and "accessories" in found:
            return "accessories"
        readable = self._readable(found)
        if isinstance(readable, dict) and isinstance(readable.get("characteristics"), list):
            # HAP-NodeJS lists them in the order of completion.
            readable["characteristics"].sort(key=_text)
        return _text(readable)

    def _readable(self, found: Any) -> Any:  # noqa: ANN401 -- any JSON
        """Replace AIDs and IIDs in JSON by names."""
        if isinstance(found, list):
            return [self._readable(each) for each in found]
        if not isinstance(found, dict):
            return found
        rest = {
            key: self._readable(value) for key, value in sorted(found.items()) if key not in {"aid", "iid"}
        }
        if not {"aid", "iid"} <= found.keys():
            return {key: self._readable(value) for key, value in sorted(found.items())}
        name = self._name((found["aid"], found["iid"]))
        if name.endswith((".On", ".OutletInUse")) and rest.get("value") in (0, 1):
            rest["value"] = bool(rest["value"])  # 0 and 1 are valid booleans (HAP specification, 2.3.3.1)
        if "type" in rest:
            rest["type"] = SHORT_TYPES.get(short_type(rest["type"]), rest["type"])
        if "perms" in rest:
            rest["perms"] = sorted(rest["perms"])  # a set
        return {"at": name, **rest}

    def _name(self, path: CharacteristicId) -> str:
        return next((name for name, its in self.bridge.ids.items() if its == path), f"{path[0]}.{path[1]}")


def services_of(message: Message) -> list[str]:
    """Return a line for each service of /accessories, without values that each bridge chooses."""
    if b'"accessories"' not in message.body:
        return []
    found = message.json["accessories"]
    return sorted(
        f"{short_type(service['type'])} of {SWITCH if accessory['aid'] != 1 else BRIDGE}: "
        + ", ".join(sorted(map(_described, service["characteristics"])))
        for accessory in found
        for service in accessory["services"]
    )


def _described(characteristic: dict[str, Any]) -> str:
    name = SHORT_TYPES.get(short_type(characteristic["type"]), characteristic["type"])
    value = characteristic.get("value")
    if name in {"On", "OutletInUse"} and value in (0, 1):
        value = bool(value)
    if name in {"Name", "SerialNumber"} and value is not None:
        value = "..."  # differs between bridges
    kept = {key: value for key, value in sorted(characteristic.items()) if key not in UNCOMPARED}
    kept["perms"] = sorted(kept["perms"])
    if kept.get("maxLen") == DEFAULT_MAX_LEN:
        del kept["maxLen"]
    return f"{name} {value!r} {_text(kept)}"


def _tlv_words(body: bytes) -> str:
    try:
        parts = tlv.decode(body)
    except tlv.Truncated:
        return "truncated"
    said = []
    for kind, value in parts:
        name = Kind(kind).name.lower() if kind in set(Kind) else str(kind)
        said.append(f"{name}={int.from_bytes(value)}" if kind in KEPT_PARTS else f"{name}[{len(value)}]")
    return " ".join(said)


def _text(found: object) -> str:
    return json.dumps(found, separators=(",", ":"), ensure_ascii=False)


async def run_scenario(scenario: Scenario, peer: Peer) -> Transcript:
    """Run a scenario from a fixed state, and return its transcript."""
    await peer.reset()
    run_scenario = ScenarioRun(scenario, peer, peer.bridges[scenario.bridge_kind])
    lines = await run_scenario.run()
    if scenario.pairings_change:
        await peer.restore(scenario.bridge_kind)
    return lines
