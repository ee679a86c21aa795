"""Timed writes: PUT /prepare, and the write that must follow it in time."""

from typing import Any, Final

from tests.peer.conversation import Conversation, Request, Step, item, put, read, say
from tests.peer.peers import ADMIN, USER

PREPARED: Final[tuple[Any, ...]] = (
    {"ttl": 2500, "pid": 11122333},
    {"ttl": 1, "pid": 2**53 - 1},
    {"ttl": 2500, "pid": 2**64 - 1},
    {"ttl": 0, "pid": 1},
    {"ttl": -1, "pid": 1},
    {"ttl": 0.5, "pid": 1},
    {"ttl": "2500", "pid": 1},
    {"ttl": None, "pid": 1},
    {"ttl": True, "pid": 1},
    {"ttl": [], "pid": 1},
    {"ttl": 3_600_000, "pid": 1},
    {"ttl": 2**40, "pid": 1},
    {"pid": 1},
    {"ttl": 2500},
    {"ttl": 2500, "pid": 0},
    {"ttl": 2500, "pid": -1},
    {"ttl": 2500, "pid": 1.5},
    {"ttl": 2500, "pid": "1"},
    {"ttl": 2500, "pid": None},
    {"ttl": 2500, "pid": True},
    {"ttl": 2500, "pid": []},
    {"ttl": 2500, "pid": 1, "more": 1},
    {},
    [],
    None,
    b"",
    b"{",
    b"\xff",
)


def prepare(pid: object = 1, ttl: object = 2500) -> Request:
    return Request("PUT", "/prepare", {"ttl": ttl, "pid": pid})


def _write(pid: object) -> Request:
    return put(item("web.On", value=True), pid=pid)


PLAYED: Final[dict[str, tuple[Step, ...]]] = {
    "in time": (say(prepare()), say(_write(1))),
    "with two items": (
        say(prepare()),
        say(put(item("web.On", value=True), item("mail.On", value=True), pid=1)),
    ),
    "with a failure": (
        say(prepare()),
        say(put(item("web.On", value=True), item("broken.On", value=True), pid=1)),
    ),
    "with ev": (say(prepare()), say(put(item("web.On", ev=True), pid=1))),
    "never prepared": (say(_write(1)),),
    "another pid": (say(prepare()), say(_write(2))),
    "another pid, then the right one": (say(prepare()), say(_write(2)), say(_write(1))),
    "twice": (say(prepare()), say(_write(1)), say(_write(1))),
    "prepared twice": (say(prepare()), say(prepare()), say(_write(1))),
    "prepared twice with other pids, the first": (say(prepare(1)), say(prepare(2)), say(_write(1))),
    "prepared twice with other pids, the second": (say(prepare(1)), say(prepare(2)), say(_write(2))),
    "a write without a pid between": (say(prepare()), say(put(item("mail.On", value=True))), say(_write(1))),
    "a read between": (say(prepare()), say(read("web.On")), say(_write(1))),
    "too late": (say(prepare(1, 1)), *(say(read("web.On")) for _ in range(8)), say(_write(1))),
    "of another connection": (say(prepare()), say(_write(1), on="b")),
    "a pid in a string": (say(prepare()), say(_write("1"))),
    "a pid that is true": (say(prepare()), say(_write(True))),
    "a pid that is a fraction": (say(prepare()), say(_write(1.0))),
    "a pid that is null": (say(prepare()), say(_write(None))),
    "a pid that is a list": (say(prepare()), say(_write([1]))),
    "no item": (say(prepare()), say(put(pid=1)), say(_write(1))),
    "an unknown item": (say(prepare()), say(put({"aid": 9999, "iid": 9, "value": True}, pid=1))),
    "pipelined": (say(prepare(), _write(1)),),
}

CONVERSATIONS: Final = (
    *(
        Conversation(f"prepare: {body!r}", (say(Request("PUT", "/prepare", body)),))
        if body is not None
        else Conversation("prepare: null", (say(Request("PUT", "/prepare", b"null")),))
        for body in PREPARED
    ),
    *(
        Conversation(
            f"timed write: {name}", (*steps, say(read("web.On", "mail.On"))), who={"a": ADMIN, "b": USER}
        )
        for name, steps in PLAYED.items()
    ),
)
