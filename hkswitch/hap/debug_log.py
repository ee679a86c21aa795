"""Debug log lines about HomeKit: connections, requests, responses and events, without secrets.

Only bodies of /characteristics are logged, as characteristics and their values; for any other body, only its
size is logged. So a pairing shows its path and its status, but no body, no key and no setup code.
"""

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from hkswitch.hap.events import Change
from hkswitch.hap.sessions import Session
from hkswitch.model.printable import escaped

LONGEST_TARGET: Final = 500
LONGEST_UNAUTHENTICATED_TARGET: Final = 64
LONGEST_VALUE: Final = 20
MOST_ITEMS: Final = 50
"""Characteristics in a line, which has room for about as many."""

_log = logging.getLogger(__name__)


class _Later(NamedTuple):
    """A text that takes time to make: no line over the limit is worth it (daemon/debug_log.py)."""

    made: Callable[[], str]

    def __str__(self) -> str:
        return self.made()


def note(session: Session, event: str | _Later) -> None:
    """Log what happens to a connection."""
    if _log.isEnabledFor(logging.DEBUG):
        # An unauthenticated device has a limit of its own (daemon/debug_log.py).
        about = {"address": session.address} if session.controller is None else None
        _log.debug("%s: %s", _name(session), event, extra=about)


def request(session: Session, method: bytes, target: bytes, body: bytes | None) -> None:
    """Log a request: its method and path, and for a controller also the characteristics that it writes."""
    if not _log.isEnabledFor(logging.DEBUG):
        return
    text = f"{method[:16].decode('latin-1')} {target.decode('latin-1')}"
    if session.controller is None:
        note(session, escaped(text, LONGEST_UNAUTHENTICATED_TARGET))
    else:
        note(session, _Later(lambda: f"{escaped(text, LONGEST_TARGET)}{_characteristics(target, body)}"))


def response(session: Session, target: bytes, status: int, body: bytes) -> None:
    """Log a response: its status, and either the values of characteristics or its size."""
    if _log.isEnabledFor(logging.DEBUG):
        note(session, _Later(lambda: f"{status}{_characteristics(target, body)}"))


def event(session: Session, changes: Sequence[Change]) -> None:
    """Log an event that is sent to a controller."""
    if _log.isEnabledFor(logging.DEBUG):
        note(session, _Later(lambda: f"event: {_joined(map(_change, changes), len(changes))}"))


def _name(session: Session) -> str:
    """Return the start of the controller's ID, or the address of an unauthenticated device."""
    return f"{session.controller_id[:4]}…" if session.controller is not None else session.address


def _characteristics(target: bytes, body: bytes | None) -> str:
    if not body:
        return ""
    if target.partition(b"?")[0] == b"/characteristics":
        try:
            items = json.loads(body)["characteristics"]
            # The line may be too long for all of them, and failures matter most.
            items = sorted(items, key=lambda item: not item.get("status"))
            return f": {_joined(map(_item, items), len(items))}"
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            pass  # malformed; the status of the response says so
    return f", {len(body)} bytes"


def _joined(items: Iterable[str], number: int) -> str:
    """Join the first of these items; only those are made."""
    more = [f"... and {number - MOST_ITEMS} more"] if number > MOST_ITEMS else []
    return " ".join([*islice(items, MOST_ITEMS), *more])


def _item(item: dict[str, Any]) -> str:
    """Format a characteristic with its value, subscription and status."""
    facts = [f"{name}={_value(item[name])}" for name in ("ev", "status") if name in item]
    value = f"={_value(item['value'])}" if "value" in item else ""
    return " ".join([f"{_value(item.get('aid'))}.{_value(item.get('iid'))}{value}", *facts])


def _change(change: Change) -> str:
    (aid, iid), value = change
    return f"{aid}.{iid}={_value(value)}"


def _value(value: object) -> str:
    return escaped(json.dumps(value, default=str), LONGEST_VALUE)
