"""Events: who is told what, and when, of writes and of changes from outside."""

from typing import Final

from tests.peer.peers import ADMIN, USER
from tests.peer.scenario import AwaitEvents, ExternalChange, Scenario, Send, Step, item, put, read, send

BOTH: Final = {"a": ADMIN, "b": USER}


def _subscribe(*names: str, on: str = "a") -> Step:
    return send(put(*(item(f"{name}.On", ev=True) for name in names)), on=on)


def _unsubscribe(*names: str, on: str = "a") -> Step:
    return send(put(*(item(f"{name}.On", ev=False) for name in names)), on=on)


def _write(name: str, *, on: str = "a", value: bool = True) -> Step:
    return send(put(item(f"{name}.On", value=value)), on=on)


def _await_events(*names: str, on: str = "a", value: bool = True) -> Step:
    return AwaitEvents({f"{name}.On": value for name in names}, on)


MAIL: Final = (ExternalChange("mail"), _await_events("mail"))
"""A change that is told in any case: what should not be told would come with it."""

PLAYED: Final[dict[str, tuple[Step, ...]]] = {
    "a change from outside": (_subscribe("web"), ExternalChange("web"), _await_events("web")),
    "on and off again": (
        _subscribe("web"),
        ExternalChange("web"),
        _await_events("web"),
        ExternalChange("web", is_on=False),
        _await_events("web", value=False),
    ),
    "two changes at once": (
        _subscribe("web", "mail"),
        ExternalChange("web"),
        ExternalChange("mail"),
        _await_events("web", "mail"),
    ),
    "not subscribed": (_subscribe("mail"), ExternalChange("web"), *MAIL),
    "unsubscribed": (_subscribe("web", "mail"), _unsubscribe("web"), ExternalChange("web"), *MAIL),
    "unsubscribed without subscribing": (
        _unsubscribe("web"),
        _subscribe("mail"),
        ExternalChange("web"),
        *MAIL,
    ),
    "subscribed twice": (_subscribe("web"), _subscribe("web"), ExternalChange("web"), _await_events("web")),
    "subscribed twice, unsubscribed once": (
        _subscribe("web", "mail"),
        _subscribe("web"),
        _unsubscribe("web"),
        ExternalChange("web"),
        *MAIL,
    ),
    "another controller writes": (_subscribe("web"), _write("web", on="b"), _await_events("web")),
    "its own write": (_subscribe("web", "mail"), _write("web"), *MAIL),
    "both are told": (
        _subscribe("web"),
        _subscribe("web", on="b"),
        ExternalChange("web"),
        _await_events("web"),
        _await_events("web", on="b"),
    ),
    "each has its own": (
        _subscribe("web"),
        _subscribe("mail", on="b"),
        ExternalChange("web"),
        ExternalChange("mail"),
        _await_events("web"),
        _await_events("mail", on="b"),
    ),
    "one unsubscribes": (
        _subscribe("web", "mail"),
        _subscribe("web", on="b"),
        _unsubscribe("web", on="a"),
        ExternalChange("web"),
        _await_events("web", on="b"),
        *MAIL,
    ),
    "nothing changed": (_subscribe("web", "mail"), ExternalChange("web", is_on=False), *MAIL),
    "written to what it is": (_subscribe("web", "mail"), _write("web", on="b", value=False), *MAIL),
    "a failed write": (_subscribe("broken", "mail"), _write("broken", on="b"), *MAIL),
    "a start that fails late": (_subscribe("doomed"), _write("doomed"), _await_events("doomed", value=False)),
    "the follower of an outlet": (
        send(put(item("outlet.OutletInUse", ev=True))),
        _write("outlet", on="b"),
        AwaitEvents({"outlet.OutletInUse": True}),
    ),
    "subscribed by a write": (
        send(put(item("web.On", value=False, ev=True))),
        ExternalChange("web"),
        _await_events("web"),
    ),
    "while an answer is awaited": (
        _subscribe("web"),
        Send((put(item("slow.On", value=True)),), meanwhile=(("web", True),)),
        _await_events("web"),
    ),
    "of the same switch while an answer is awaited": (
        _subscribe("slow", "mail"),
        Send((put(item("slow.On", value=True)),), meanwhile=(("mail", True),)),
        _await_events("mail"),
    ),
    "between pipelined answers": (
        _subscribe("web"),
        Send(
            (put(item("slow.On", value=True)), read("mail.On"), read("mail.On")), meanwhile=(("web", True),)
        ),
        _await_events("web"),
    ),
    "while a quick answer is awaited": (
        _subscribe("web"),
        Send((put(item("mail.On", value=True)),), meanwhile=(("web", True),)),
        _await_events("web"),
    ),
}

SCENARIOS: Final = tuple(Scenario(f"events: {name}", steps, who=BOTH) for name, steps in PLAYED.items())
