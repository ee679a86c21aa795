"""Timed writes: PUT /prepare, and the write that must follow it in time."""

from typing import Any, Final

from tests.peer.peers import ADMIN, USER
from tests.peer.scenario import Request, Scenario, Step, item, put, read, send

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
    "in time": (send(prepare()), send(_write(1))),
    "with two items": (
        send(prepare()),
        send(put(item("web.On", value=True), item("mail.On", value=True), pid=1)),
    ),
    "with a failure": (
        send(prepare()),
        send(put(item("web.On", value=True), item("broken.On", value=True), pid=1)),
    ),
    "with ev": (send(prepare()), send(put(item("web.On", ev=True), pid=1))),
    "never prepared": (send(_write(1)),),
    "another pid": (send(prepare()), send(_write(2))),
    "another pid, then the right one": (send(prepare()), send(_write(2)), send(_write(1))),
    "twice": (send(prepare()), send(_write(1)), send(_write(1))),
    "prepared twice": (send(prepare()), send(prepare()), send(_write(1))),
    "prepared twice with other pids, the first": (send(prepare(1)), send(prepare(2)), send(_write(1))),
    "prepared twice with other pids, the second": (send(prepare(1)), send(prepare(2)), send(_write(2))),
    "a write without a pid between": (
        send(prepare()),
        send(put(item("mail.On", value=True))),
        send(_write(1)),
    ),
    "a read between": (send(prepare()), send(read("web.On")), send(_write(1))),
    "too late": (send(prepare(1, 1)), *(send(read("web.On")) for _ in range(8)), send(_write(1))),
    "of another connection": (send(prepare()), send(_write(1), on="b")),
    "a pid in a string": (send(prepare()), send(_write("1"))),
    "a pid that is true": (send(prepare()), send(_write(True))),
    "a pid that is a fraction": (send(prepare()), send(_write(1.0))),
    "a pid that is null": (send(prepare()), send(_write(None))),
    "a pid that is a list": (send(prepare()), send(_write([1]))),
    "no item": (send(prepare()), send(put(pid=1)), send(_write(1))),
    "an unknown item": (send(prepare()), send(put({"aid": 9999, "iid": 9, "value": True}, pid=1))),
    "pipelined": (send(prepare(), _write(1)),),
}

SCENARIOS: Final = (
    *(
        Scenario(f"prepare: {body!r}", (send(Request("PUT", "/prepare", body)),))
        if body is not None
        else Scenario("prepare: null", (send(Request("PUT", "/prepare", b"null")),))
        for body in PREPARED
    ),
    *(
        Scenario(
            f"timed write: {name}", (*steps, send(read("web.On", "mail.On"))), who={"a": ADMIN, "b": USER}
        )
        for name, steps in PLAYED.items()
    ),
)
