"""The JSON-lines messages between the daemon and the command line, on the control socket. Pure: no I/O.

One message a line, and one reply to each: the one that was asked for, or `Failed`.
A question has exactly its keys; in an answer, keys that only a newer daemon knows are ignored (report.py).
All text in an answer can be printed: root's terminal obeys no sequences that the daemon's user wrote.
"""

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

from hkswitch.model.errors import Exit, Failure
from hkswitch.model.printable import printable_line
from hkswitch.model.unit_state import Action
from hkswitch.protocol.json_lines import Malformed, boolean, keys, number, parse_object, text, words
from hkswitch.protocol.report import (
    PairedController,
    Report,
    as_object,
    controller_object,
    controllers,
    from_object,
    required,
)

LONGEST_ASK_BYTES: Final = 4096
LONGEST_ANSWER_BYTES: Final = 8 * 1024 * 1024
"""The report of 149 groups of 128 units with long names stays under this."""

LONGEST_REASON: Final = 2000
"""Characters."""


_CODE: Final = re.compile(r"[0-9]{3}-[0-9]{2}-[0-9]{3}")
_PAYLOAD: Final = re.compile(r"X-HM://[0-9A-Z]{13}")
_DEVICE_ID: Final = re.compile(r"([0-9A-F]{2}:){5}[0-9A-F]{2}")


class Ask(StrEnum):
    """What can be asked, by its word on the wire."""

    STATUS = "status"
    WATCH = "watch"
    """`STATUS` at once, and again after each change."""
    ACT = "act"
    CONTROLLERS = "controllers"
    SETUP = "setup"
    UNPAIR = "unpair"
    RESET_ATTEMPTS = "reset-attempts"
    RELOAD = "reload"
    """Apply the config as it is now, and say what came of it."""


ANYBODY_MAY: Final = frozenset({Ask.STATUS, Ask.WATCH, Ask.CONTROLLERS})
"""All else shows the setup code or changes something, and needs a right."""


class Question(NamedTuple):
    """What is asked. `controller`: the ID of the one to unpair, None for all. `ACT` has the last two."""

    ask: Ask
    controller: str | None = None
    action: Action = Action.START
    group: str = ""


class Controllers(NamedTuple):
    """Who is paired."""

    controllers: tuple[PairedController, ...]


MOST_FAILED_ATTEMPTS: Final = 100
"""Wrong setup codes; after so many the HAP specification (5.6.2) has every other attempt refused."""


class SetupIs(NamedTuple):
    """What is needed to pair. `pairing_refused`: too many attempts failed."""

    code: str
    payload: str
    device_id: str
    paired: bool
    failed_attempts: int
    pairing_refused: bool


class Status(NamedTuple):
    """How everything is."""

    report: Report


class Word(StrEnum):
    """An answer that has nothing more to say."""

    BEGUN = "begun"
    """The action was handed over; `DONE` or `Failed` follows when it has ended."""
    DONE = "done"


class Noted(NamedTuple):
    """It was done, and this is worth telling a person."""

    note: str


class Failed(NamedTuple):
    """It was not done, and why."""

    exit_code: Exit
    reason: str


Answer = Status | Controllers | SetupIs | Word | Noted | Failed


@dataclass(eq=False)
class AskFailed(Failure):
    """What `Failed` is in the asking program: `exit_code` is the answering one's."""

    failed: Failed

    def __post_init__(self) -> None:
        self.exit_code = self.failed.exit_code

    def __str__(self) -> str:
        return self.failed.reason


def encode_question(question: Question) -> bytes:
    """A question as one line."""
    what: dict[str, Any] = {"ask": question.ask.value}
    if question.ask is Ask.UNPAIR:
        what["controller"] = question.controller
    if question.ask is Ask.ACT:
        what |= {"action": question.action.value, "group": question.group}
    return _line(what)


def parse_question(line: bytes) -> Question:
    """The question in a line; raises `Malformed`."""
    body = parse_object(line)
    word = text(body, "ask")
    if word not in set(Ask):
        raise Malformed(f"'ask' must be one of {', '.join(Ask)}")
    ask = Ask(word)
    if ask is Ask.ACT:
        keys(body, {"ask", "action", "group"})
        return Question(ask, action=_action(body), group=text(body, "group"))
    if ask is not Ask.UNPAIR:
        keys(body, {"ask"})
        return Question(ask)
    keys(body, {"ask", "controller"})
    return Question(ask, None if body["controller"] is None else text(body, "controller"))


def encode_answer(answer: Answer) -> bytes:
    """An answer as one line."""
    match answer:
        case Status(report):
            return _line({"type": "status", "report": as_object(report)})
        case Controllers(controllers):
            items = [controller_object(each) for each in controllers]
            return _line({"type": "controllers", "controllers": items})
        case SetupIs():
            return _line({"type": "setup", **{name: getattr(answer, name) for name in SetupIs._fields}})
        case Word():
            return _line({"type": answer.value})
        case Noted(note):
            return _line({"type": "noted", "note": printable_line(note, LONGEST_REASON)})
        case Failed(exit_code, reason):
            said = printable_line(reason, LONGEST_REASON)
            return _line({"type": "failed", "exit_code": exit_code.value, "reason": said})


def parse_answer(line: bytes) -> Answer:
    """The answer in a line; raises `Malformed`."""
    body = parse_object(line)
    match body.get("type"):
        case "status":
            required(body, {"type", "report"})
            return Status(from_object(_object(body, "report")))
        case "controllers":
            required(body, {"type", "controllers"})
            return Controllers(controllers(body))
        case "setup":
            required(body, {"type", *SetupIs._fields})
            return _setup(body)
        case Word.BEGUN | Word.DONE as word:
            return Word(word)
        case "noted":
            return Noted(words(body, "note", LONGEST_REASON))
        case "failed":
            required(body, {"type", "exit_code", "reason"})
            return Failed(_exit_code(body), words(body, "reason", LONGEST_REASON))
        case _:
            raise Malformed("no known type")


def _line(body: dict[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"


def _object(body: dict[str, Any], key: str) -> dict[str, Any]:
    match body.get(key):
        case dict(found):
            return found
    raise Malformed(f"{key!r} must be an object")


def _action(body: dict[str, Any]) -> Action:
    try:
        return Action(text(body, "action"))
    except ValueError:
        raise Malformed(f"'action' must be one of {', '.join(Action)}") from None


def _setup(body: dict[str, Any]) -> SetupIs:
    return SetupIs(
        code=_of_form(body, "code", _CODE),
        payload=_of_form(body, "payload", _PAYLOAD),
        device_id=_of_form(body, "device_id", _DEVICE_ID),
        paired=boolean(body, "paired"),
        failed_attempts=number(body, "failed_attempts", 0),
        pairing_refused=boolean(body, "pairing_refused"),
    )


def _of_form(body: dict[str, Any], key: str, form: re.Pattern[str]) -> str:
    found = text(body, key)
    if not form.fullmatch(found):
        raise Malformed(f"{key!r} has another form")
    return found


def _exit_code(body: dict[str, Any]) -> Exit:
    """The exit code of a failure; for one that only a newer daemon knows, the most general one."""
    code = number(body, "exit_code")
    return Exit(code) if code in set(Exit) else Exit.UNAVAILABLE
