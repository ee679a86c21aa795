"""The audit: each decision of root is one line in the journal, with a field for each fact. Runs as root.

It speaks journald's native protocol (systemd.journal-fields(7), "Native Journal Protocol"), by no library.
It decides nothing, and it must never hold up or end who decides: what a full journal does not take waits for
the next line.
"""

import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from hkswitch.model.unit_state import UnitResult
from hkswitch.serviceswitch.stdio import complain
from hkswitch.serviceswitch.trusted_files import ROOT

JOURNAL: Final = "/run/systemd/journal/socket"
IDENTIFIER: Final = "serviceswitch"

DONE, DENIED, FAILED = 6, 4, 3  # syslog(3): info, warning, err

LONGEST_TEXT: Final = 512
LONGEST_RESULT: Final = 16 * 1024
"""Characters; 128 units with usual names fit."""

MOST_WAITING: Final = 512
"""Lines that a journal that is full may get later; others go to standard error."""

ROOM_WITHIN_SECONDS: Final = 5
MALFORMED_EVERY_SECONDS: Final = 1

_LOGIN_UID: Final = Path("/proc/self/loginuid")
_NOBODY_LOGGED_IN: Final = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom root decides for: who called sudo, and who had logged in, if anybody had."""

    uid: int
    login_uid: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What was asked for and what came of it: `denied` or `failed` is why, and neither means it was done.

    A line that was no request has no action and no group, and stands for `left_out` others before it.
    """

    action: str = ""
    group: str = ""
    denied: str = ""
    failed: str = ""
    results: tuple[UnitResult, ...] = ()
    duration_ms: int | None = None
    left_out: int = 0


class Audit:
    """Writes decisions to the journal, while it is entered."""

    def __init__(
        self, caller: Caller, journal: str = JOURNAL, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`journal` is the path of journald's socket."""
        self._caller = caller
        self._journal = journal
        self._clock = clock
        self._waiting: deque[Mapping[str, str]] = deque()
        self._malformed = ""
        self._left_out = 0
        self._quiet_until_seconds = -float("inf")

    def __enter__(self) -> Self:
        """Make the socket first of all: a limit of the caller's must not leave us without it later."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        return self

    def __exit__(self, *_: object) -> None:
        if self._left_out:
            self._write_malformed(self._left_out - 1)
        self._flush()
        self._wait_for_room()
        for fields in self._waiting:
            _to_standard_error(fields)
        self._socket.close()

    def write(self, decision: Decision) -> None:
        """One line for one decision."""
        if len(self._waiting) >= MOST_WAITING:
            _to_standard_error(fields_of(decision, self._caller))
            return
        self._waiting.append(fields_of(decision, self._caller))
        self._flush()

    def malformed(self, reason: str) -> None:
        """A line that is no request is denied. Of a flood, one a second is written, and how many were not."""
        self._malformed = reason
        if self._clock() < self._quiet_until_seconds:
            self._left_out += 1
        else:
            self._write_malformed(self._left_out)

    def _write_malformed(self, left_out: int) -> None:
        self.write(Decision(denied=self._malformed, left_out=left_out))
        self._left_out = 0
        self._quiet_until_seconds = self._clock() + MALFORMED_EVERY_SECONDS

    def _flush(self) -> None:
        while self._waiting:
            try:
                self._socket.sendto(encode(self._waiting[0]), self._journal)
            except BlockingIOError:
                return  # it is full
            except OSError:
                _to_standard_error(self._waiting[0])
            self._waiting.popleft()

    def _wait_for_room(self) -> None:
        """At the end, give a full journal a moment: who filled it must not be rid of a line by going away."""
        deadline_seconds = time.monotonic() + ROOM_WITHIN_SECONDS
        with suppress(OSError):  # there is no journal any more, or no room in time
            while self._waiting and (left_seconds := deadline_seconds - time.monotonic()) > 0:
                self._socket.settimeout(left_seconds)
                self._socket.connect(self._journal)  # only one that is connected is told of room
                self._socket.send(encode(self._waiting[0]))
                self._waiting.popleft()


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


def fields_of(decision: Decision, caller: Caller) -> dict[str, str]:
    """A decision as fields of the journal."""
    reason = decision.denied or decision.failed
    every = {
        "MESSAGE": plain(_sentence(decision, caller), LONGEST_TEXT + LONGEST_RESULT),
        "PRIORITY": str(DENIED if decision.denied else FAILED if decision.failed else DONE),
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        "HKSWITCH_ACTION": plain(decision.action),
        "HKSWITCH_GROUP": plain(decision.group),
        "HKSWITCH_DECISION": "denied" if decision.denied else "allowed",
        "HKSWITCH_REASON": "\n".join(plain(line) for line in reason.split("\n")[:20]),
        "HKSWITCH_RESULT": _result(decision),
        "HKSWITCH_DURATION_MS": "" if decision.duration_ms is None else str(decision.duration_ms),
        "HKSWITCH_LEFT_OUT": str(decision.left_out or ""),
        "HKSWITCH_BY_UID": str(caller.uid),
        "HKSWITCH_LOGINUID": "" if caller.login_uid is None else str(caller.login_uid),
    }
    return {name: value for name, value in every.items() if value}


def _sentence(decision: Decision, caller: Caller) -> str:
    asked = (
        f"{plain(decision.action)} {plain(decision.group)}".rstrip()
        if decision.action
        else "a line that is no request"
    )
    more = f" (and {decision.left_out} before it)" if decision.left_out else ""
    reason = plain("; ".join((decision.denied or decision.failed).split("\n")))
    if decision.denied:
        return f"denied to uid {caller.uid}: {asked}: {reason}{more}"
    if decision.failed:
        return f"failed for uid {caller.uid}: {asked}: {reason}"
    return f"done for uid {caller.uid}: {asked}: {_result(decision)}"


def _result(decision: Decision) -> str:
    return plain(", ".join(str(result) for result in decision.results), LONGEST_RESULT)


def plain(text: str, longest: int = LONGEST_TEXT) -> str:
    """At most so much of `text`, with control characters, surrogates and marks of direction made visible."""
    shown = text[: longest + 1]
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    return shown if len(shown) <= longest else f"{shown[: longest - 3]}..."


def encode(fields: Mapping[str, str]) -> bytes:
    """A datagram for journald. A value with a newline has its length before it, so it makes up no field."""
    return b"".join(_encode(name.encode(), value.encode()) for name, value in fields.items())


def _encode(name: bytes, value: bytes) -> bytes:
    if b"\n" in value:
        return name + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
    return name + b"=" + value + b"\n"


def _to_standard_error(fields: Mapping[str, str]) -> None:
    complain(fields["MESSAGE"])
