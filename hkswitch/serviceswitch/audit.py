"""The audit: root's decisions, denials and results are lines in the journal. Runs as root.

A decision is in the journal before it is acted on, and a second line has the result. Denials share one limit,
because whoever may ask can make any number of them. It decides nothing itself.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple, Self

from hkswitch.model.printable import escaped
from hkswitch.model.unit_state import UnitResult
from hkswitch.serviceswitch.journal import Fields, Journal, Unwritten
from hkswitch.serviceswitch.trusted_files import ROOT

IDENTIFIER: Final = "serviceswitch"

DONE, DENIED, FAILED = 6, 4, 3  # syslog(3): info, warning, err

LONGEST_TEXT: Final = 512
LONGEST_RESULT: Final = 16 * 1024
"""Characters; 128 units with usual names fit."""

DENIED_EVERY_SECONDS: Final = 1

MOST_DECISIONS: Final = 1000
DECISIONS_WITHIN_SECONDS: Final = 30
"""Far below journald's own limit of 10,000 lines in that time, beyond which it drops lines."""

_LOGIN_UID: Final = Path("/proc/self/loginuid")
_NOBODY_LOGGED_IN: Final = 2**32 - 1

Later = Callable[[float, Callable[[], None]], object]


class Caller(NamedTuple):
    """Whom root decides for: the user who called sudo, and who had logged in, if any user had."""

    uid: int
    login_uid: int | None = None


class Decision(NamedTuple):
    """An action that was allowed; `number` is its own in this process."""

    action: str
    group: str
    number: int


class Denial(NamedTuple):
    """What was not allowed, and why; a malformed line has no action and no group.

    `left_out` denials before it are not in the journal.
    """

    reason: str
    action: str = ""
    group: str = ""
    left_out: int = 0


class Effect(NamedTuple):
    """What came of a decision: `failed` is why it failed, if it did."""

    decision: Decision
    failed: str
    results: tuple[UnitResult, ...]
    duration_ms: int


class Audit:
    """Writes to the journal, while it is entered."""

    def __init__(
        self,
        caller: Caller,
        journal: Journal,
        clock: Callable[[], float] = time.monotonic,
        later: Later = lambda seconds, do: asyncio.get_running_loop().call_later(seconds, do),
    ) -> None:
        """`later` calls a function after some seconds."""
        self.journal = journal
        self._caller = caller
        self._clock = clock
        self._later = later
        self._numbers = count(1)
        self._left_out: Denial | None = None
        """The newest one that was not written."""
        self._left_out_count = 0
        self._quiet_until_seconds = self._window_ends_seconds = -float("inf")
        self._decisions = 0

    def __enter__(self) -> Self:
        self.journal.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._write_left_out()
        self.journal.__exit__()

    async def decided(self, action: str, group: str) -> Decision:
        """Record that an action is allowed; raises `Unwritten`, and then it must not be done."""
        decision = Decision(action, group, next(self._numbers))
        if self._clock() >= self._window_ends_seconds:
            self._window_ends_seconds, self._decisions = self._clock() + DECISIONS_WITHIN_SECONDS, 0
        self._decisions += 1
        if self._decisions > MOST_DECISIONS:
            raise Unwritten(f"more than {MOST_DECISIONS} requests within {DECISIONS_WITHIN_SECONDS} s")
        await self.journal.record(self._fields(decision))
        return decision

    def denied(self, denial: Denial) -> None:
        """Write a denial. Of a flood, one a second is written, with the number of those before it."""
        if self._left_out is None and self._clock() >= self._quiet_until_seconds:
            self._write_denial(denial)
            return
        if self._left_out is None:
            self._later(self._quiet_until_seconds - self._clock(), self._write_left_out)
        self._left_out = denial
        self._left_out_count += 1

    def ended(self, effect: Effect) -> None:
        """Write what came of a decision."""
        self.journal.send(self._fields(effect))

    def _write_left_out(self) -> None:
        if self._left_out is not None:
            self._write_denial(self._left_out._replace(left_out=self._left_out_count - 1))
        self._left_out, self._left_out_count = None, 0

    def _write_denial(self, denial: Denial) -> None:
        self.journal.send(self._fields(denial))
        self._quiet_until_seconds = self._clock() + DENIED_EVERY_SECONDS

    def _fields(self, what: Decision | Denial | Effect) -> Fields:
        return fields_of(what, self._caller)


def caller(environment: Mapping[str, str], real_uid: int, peer_uid: int | None) -> Caller:
    """Whom this process works for. `peer_uid`: who connected to its standard input, if anybody did."""
    said = environment.get("SUDO_UID", "")
    # TRUST: sudo sets SUDO_UID, whatever its own caller says; and nobody but root starts us without sudo.
    sudo = real_uid == ROOT and said.isascii() and said.isdigit() and len(said) <= len(str(_NOBODY_LOGGED_IN))
    works_for = real_uid if peer_uid is None else peer_uid
    return Caller(int(said) if sudo else works_for, _login_uid())


def _login_uid() -> int | None:
    try:
        uid = int(_LOGIN_UID.read_text())
    except (OSError, ValueError):
        return None  # a kernel without it
    return None if uid == _NOBODY_LOGGED_IN else uid


def fields_of(what: Decision | Denial | Effect, caller: Caller) -> dict[str, str]:
    """Return the fields of a line of the journal."""
    every = {
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        **_facts(what, f"for uid {caller.uid}"),
        "HKSWITCH_BY_UID": str(caller.uid),
        "HKSWITCH_LOGINUID": "" if caller.login_uid is None else str(caller.login_uid),
    }
    return {name: value for name, value in every.items() if value}


def _facts(what: Decision | Denial | Effect, for_whom: str) -> Mapping[str, str]:
    match what:
        case Decision():
            return _asked(what) | {
                "MESSAGE": f"allowed {for_whom}: {_request(what)}",
                "PRIORITY": str(DONE),
                "HKSWITCH_DECISION": "allowed",
                "HKSWITCH_REQUEST": str(what.number),
            }
        case Denial():
            asked = _request(what) if what.action else "malformed request"
            more = f" (and {what.left_out} denied before it)" if what.left_out else ""
            return _asked(what) | {
                "MESSAGE": f"denied {for_whom}: {asked}: {_in_one_line(what.reason)}{more}",
                "PRIORITY": str(DENIED),
                "HKSWITCH_DECISION": "denied",
                "HKSWITCH_REASON": _in_lines(what.reason),
                "HKSWITCH_LEFT_OUT": str(what.left_out or ""),
            }
        case Effect(decision, failed, results, duration_ms):
            result = escaped(", ".join(map(str, results)), LONGEST_RESULT)
            said = f"failed {for_whom}: " if failed else f"done {for_whom}: "
            return _asked(decision) | {
                "MESSAGE": f"{said}{_request(decision)}: {_in_one_line(failed) if failed else result}",
                "PRIORITY": str(FAILED if failed else DONE),
                "HKSWITCH_OUTCOME": "failed" if failed else "done",
                "HKSWITCH_REASON": _in_lines(failed),
                "HKSWITCH_RESULT": result,
                "HKSWITCH_DURATION_MS": str(duration_ms),
                "HKSWITCH_REQUEST": str(decision.number),
            }


def _asked(what: Decision | Denial) -> dict[str, str]:
    return {"HKSWITCH_ACTION": _shown(what.action), "HKSWITCH_GROUP": _shown(what.group)}


def _request(what: Decision | Denial) -> str:
    return f"{_shown(what.action)} {_shown(what.group)}".rstrip()


def _in_one_line(reason: str) -> str:
    return _shown("; ".join(reason.split("\n")))


def _in_lines(reason: str) -> str:
    return "\n".join(_shown(line) for line in reason.split("\n")[:20])


def _shown(text: str) -> str:
    return escaped(text, LONGEST_TEXT)
