"""The audit log: root's decisions, denials and results as lines in the journal. Runs as root.

A decision is in the journal before root acts on it, and a second line records the result. Denials share a
rate limit, because a requester can cause any number of them. The audit decides nothing itself.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple, Self

from hkswitch.model.printable import escaped
from hkswitch.model.unit_state import UnitResult
from hkswitch.serviceswitch.journal import Fields, Journal, NotRecorded
from hkswitch.serviceswitch.trusted_files import ROOT

IDENTIFIER: Final = "serviceswitch"

PRIORITY_DONE, PRIORITY_DENIED, PRIORITY_FAILED = 6, 4, 3  # syslog(3): info, warning, err

LONGEST_FIELD: Final = 512
LONGEST_RESULT: Final = 16 * 1024
"""Characters; enough for 128 units with typical names."""

SECONDS_BETWEEN_DENIALS: Final = 1

MOST_DECISIONS: Final = 1000
DECISIONS_WITHIN_SECONDS: Final = 30
"""Far below journald's own limit of 10,000 lines in this time, beyond which it drops lines."""

_LOGIN_UID: Final = Path("/proc/self/loginuid")
_NO_LOGIN: Final = 2**32 - 1

Later = Callable[[float, Callable[[], None]], object]


class Caller(NamedTuple):
    """The user who ran sudo or connected, the login user, and the bridge of another host, if there is one."""

    uid: int
    login_uid: int | None = None
    bridge: str = ""

    def __str__(self) -> str:
        """Return it as the messages have it."""
        return f"bridge {self.bridge}" if self.bridge else f"uid {self.uid}"


class Decision(NamedTuple):
    """An action that was allowed; `number` is unique in this process.

    `by_rule`: the daemon says that no person asked for it, but the group's `restart_when`.
    """

    action: str
    group: str
    number: int
    by_rule: bool = False


class Denial(NamedTuple):
    """A denied request and the reason; a malformed one has no action and no group.

    `left_out` counts the denials before it that are not in the journal.
    """

    reason: str
    action: str = ""
    group: str = ""
    left_out: int = 0
    by_rule: bool = False


class Effect(NamedTuple):
    """The outcome of a decision: `failed` is the reason for a failure, empty after a success."""

    decision: Decision
    failed: str
    results: tuple[UnitResult, ...]
    duration_ms: int


class Audit:
    """The audit log in the journal, as a context manager."""

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
        """The newest denial that is not written yet."""
        self._left_out_count = 0
        self._quiet_until_seconds = self._window_ends_seconds = -float("inf")
        self._decisions = 0

    def __enter__(self) -> Self:
        self.journal.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._write_left_out()
        self.journal.__exit__()

    async def decided(self, action: str, group: str, *, by_rule: bool = False) -> Decision:
        """Record that an action is allowed; if this raises `NotRecorded`, it must not be carried out."""
        decision = Decision(action, group, next(self._numbers), by_rule)
        if self._clock() >= self._window_ends_seconds:
            self._window_ends_seconds, self._decisions = self._clock() + DECISIONS_WITHIN_SECONDS, 0
        self._decisions += 1
        if self._decisions > MOST_DECISIONS:
            raise NotRecorded(f"more than {MOST_DECISIONS} requests within {DECISIONS_WITHIN_SECONDS} s")
        await self.journal.record(self._fields(decision))
        return decision

    def denied(self, denial: Denial) -> None:
        """Write a denial, at most one per second, with the number of those omitted before it."""
        if self._left_out is None and self._clock() >= self._quiet_until_seconds:
            self._write_denial(denial)
            return
        if self._left_out is None:
            self._later(self._quiet_until_seconds - self._clock(), self._write_left_out)
        self._left_out = denial
        self._left_out_count += 1

    def ended(self, effect: Effect) -> None:
        """Write the outcome of a decision."""
        self.journal.send(self._fields(effect))

    def _write_left_out(self) -> None:
        if self._left_out is not None:
            self._write_denial(self._left_out._replace(left_out=self._left_out_count - 1))
        self._left_out, self._left_out_count = None, 0

    def _write_denial(self, denial: Denial) -> None:
        self.journal.send(self._fields(denial))
        self._quiet_until_seconds = self._clock() + SECONDS_BETWEEN_DENIALS

    def _fields(self, what: Decision | Denial | Effect) -> Fields:
        return fields_of(what, self._caller)


def caller(environment: Mapping[str, str], real_uid: int, peer_uid: int | None) -> Caller:
    """Determine the user for whom this process acts; `peer_uid` is the one that connected, if one did."""
    sudo_uid = environment.get("SUDO_UID", "")
    # TRUST: sudo sets SUDO_UID, whatever its caller's environment says; only root runs this without sudo.
    is_number = sudo_uid.isascii() and sudo_uid.isdigit() and len(sudo_uid) <= len(str(_NO_LOGIN))
    by_sudo = real_uid == ROOT and is_number
    works_for = real_uid if peer_uid is None else peer_uid
    return Caller(int(sudo_uid) if by_sudo else works_for, _login_uid())


def _login_uid() -> int | None:
    try:
        uid = int(_LOGIN_UID.read_text())
    except (OSError, ValueError):
        return None  # the kernel does not provide it
    return None if uid == _NO_LOGIN else uid


def fields_of(what: Decision | Denial | Effect, caller: Caller) -> dict[str, str]:
    """Return the fields of a journal line."""
    asked = what.decision if isinstance(what, Effect) else what
    fields = {
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        **_fields(what, f"for {caller}{' (rule)' if asked.by_rule else ''}"),
        "HKSWITCH_CALLER": "rule" if asked.by_rule else "",
        "HKSWITCH_BY_UID": str(caller.uid),
        "HKSWITCH_BRIDGE": caller.bridge,
        "HKSWITCH_LOGINUID": "" if caller.login_uid is None else str(caller.login_uid),
    }
    return {name: value for name, value in fields.items() if value}


def _fields(what: Decision | Denial | Effect, for_whom: str) -> Mapping[str, str]:
    match what:
        case Decision():
            return _asked(what) | {
                "MESSAGE": f"allowed {for_whom}: {_request(what)}",
                "PRIORITY": str(PRIORITY_DONE),
                "HKSWITCH_DECISION": "allowed",
                "HKSWITCH_REQUEST": str(what.number),
            }
        case Denial():
            asked = _request(what) if what.action else "malformed request"
            more = f" (earlier denials not logged: {what.left_out})" if what.left_out else ""
            return _asked(what) | {
                "MESSAGE": f"denied {for_whom}: {asked}: {_in_one_line(what.reason)}{more}",
                "PRIORITY": str(PRIORITY_DENIED),
                "HKSWITCH_DECISION": "denied",
                "HKSWITCH_REASON": _in_lines(what.reason),
                "HKSWITCH_LEFT_OUT": str(what.left_out or ""),
            }
        case Effect(decision, failed, results, duration_ms):
            result = escaped(", ".join(map(str, results)), LONGEST_RESULT)
            outcome = "failed" if failed else "done"
            why = _in_one_line(failed) if failed else result
            return _asked(decision) | {
                "MESSAGE": f"{outcome} {for_whom}: {_request(decision)}: {why}",
                "PRIORITY": str(PRIORITY_FAILED if failed else PRIORITY_DONE),
                "HKSWITCH_OUTCOME": outcome,
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
    return escaped(text, LONGEST_FIELD)
