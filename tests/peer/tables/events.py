"""Events: who is told what, and when, of writes and of changes from outside."""

from typing import Final

from tests.peer.conversation import Conversation, Hear, Outside, Say, Step, item, put, read, say
from tests.peer.peers import ADMIN, USER

BOTH: Final = {"a": ADMIN, "b": USER}


def _subscribe(*names: str, on: str = "a") -> Step:
    return say(put(*(item(f"{name}.On", ev=True) for name in names)), on=on)


def _unsubscribe(*names: str, on: str = "a") -> Step:
    return say(put(*(item(f"{name}.On", ev=False) for name in names)), on=on)


def _write(name: str, *, on: str = "a", value: bool = True) -> Step:
    return say(put(item(f"{name}.On", value=value)), on=on)


def _hear(*names: str, on: str = "a", value: bool = True) -> Step:
    return Hear({f"{name}.On": value for name in names}, on)


MAIL: Final = (Outside("mail"), _hear("mail"))
"""A change that is told in any case: what should not be told would come with it."""

PLAYED: Final[dict[str, tuple[Step, ...]]] = {
    "a change from outside": (_subscribe("web"), Outside("web"), _hear("web")),
    "on and off again": (
        _subscribe("web"),
        Outside("web"),
        _hear("web"),
        Outside("web", is_on=False),
        _hear("web", value=False),
    ),
    "two changes at once": (_subscribe("web", "mail"), Outside("web"), Outside("mail"), _hear("web", "mail")),
    "not subscribed": (_subscribe("mail"), Outside("web"), *MAIL),
    "unsubscribed": (_subscribe("web", "mail"), _unsubscribe("web"), Outside("web"), *MAIL),
    "unsubscribed without subscribing": (_unsubscribe("web"), _subscribe("mail"), Outside("web"), *MAIL),
    "subscribed twice": (_subscribe("web"), _subscribe("web"), Outside("web"), _hear("web")),
    "subscribed twice, unsubscribed once": (
        _subscribe("web", "mail"),
        _subscribe("web"),
        _unsubscribe("web"),
        Outside("web"),
        *MAIL,
    ),
    "another controller writes": (_subscribe("web"), _write("web", on="b"), _hear("web")),
    "its own write": (_subscribe("web", "mail"), _write("web"), *MAIL),
    "both are told": (
        _subscribe("web"),
        _subscribe("web", on="b"),
        Outside("web"),
        _hear("web"),
        _hear("web", on="b"),
    ),
    "each has its own": (
        _subscribe("web"),
        _subscribe("mail", on="b"),
        Outside("web"),
        Outside("mail"),
        _hear("web"),
        _hear("mail", on="b"),
    ),
    "one unsubscribes": (
        _subscribe("web", "mail"),
        _subscribe("web", on="b"),
        _unsubscribe("web", on="a"),
        Outside("web"),
        _hear("web", on="b"),
        *MAIL,
    ),
    "nothing changed": (_subscribe("web", "mail"), Outside("web", is_on=False), *MAIL),
    "written to what it is": (_subscribe("web", "mail"), _write("web", on="b", value=False), *MAIL),
    "a failed write": (_subscribe("broken", "mail"), _write("broken", on="b"), *MAIL),
    "a start that fails late": (_subscribe("doomed"), _write("doomed"), _hear("doomed", value=False)),
    "the follower of an outlet": (
        say(put(item("outlet.OutletInUse", ev=True))),
        _write("outlet", on="b"),
        Hear({"outlet.OutletInUse": True}),
    ),
    "subscribed by a write": (
        say(put(item("web.On", value=False, ev=True))),
        Outside("web"),
        _hear("web"),
    ),
    "while an answer is awaited": (
        _subscribe("web"),
        Say((put(item("slow.On", value=True)),), meanwhile=(("web", True),)),
        _hear("web"),
    ),
    "of the same switch while an answer is awaited": (
        _subscribe("slow", "mail"),
        Say((put(item("slow.On", value=True)),), meanwhile=(("mail", True),)),
        _hear("mail"),
    ),
    "between pipelined answers": (
        _subscribe("web"),
        Say((put(item("slow.On", value=True)), read("mail.On"), read("mail.On")), meanwhile=(("web", True),)),
        _hear("web"),
    ),
    "while a quick answer is awaited": (
        _subscribe("web"),
        Say((put(item("mail.On", value=True)),), meanwhile=(("web", True),)),
        _hear("web"),
    ),
}

CONVERSATIONS: Final = tuple(
    Conversation(f"events: {name}", steps, who=BOTH) for name, steps in PLAYED.items()
)
