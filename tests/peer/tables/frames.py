"""Encrypted frames of every size, right and wrong, and requests that are pipelined."""

import json
from collections.abc import Callable
from itertools import product
from typing import Final

from tests.peer.raw_connection import FrameCipher, every, sealed
from tests.peer.raw_controller import request
from tests.peer.scenario import Request, Scenario, Send, SendBytes, item, put, read, send

SIZES: Final = (1, 2, 15, 16, 17, 100, 512, 1000, 1023, 1024)
PIECES: Final = (2, 18, 512, 1042)
"""Even ones: HAP-NodeJS closes when one byte of a frame's length comes alone, which is a matter of chance."""

NAMES: Final = ("web.On", "mail.On", "lamp.On")
GET: Final = request("GET", "/characteristics?id=1.99")


def padded(size: int) -> Request:
    """A request that is exactly so many bytes long, and the same for every bridge."""
    body = json.dumps({"ttl": 2500, "pid": 1}).encode()
    empty = len(Request("PUT", "/prepare", b"").render({})) - 1
    for digits in range(2, 7):  # those of the body's length
        length = size - empty - digits
        if len(str(length)) == digits:
            return Request("PUT", "/prepare", body.ljust(length))
    raise ValueError(size)


def _lengths() -> dict[int, Request]:
    wanted = (n * 1024 + more for n, more in product((1, 2, 9), (-1, 0, 1, 2, 17)))
    return {size: padded(size) for size in wanted}


def _garble(frames: FrameCipher, change: Callable[[bytes], bytes]) -> bytes:
    frame = sealed(frames.out, frames.sent, GET)
    frames.sent += 1
    return change(frame)


def _oversize(frames: FrameCipher, size: int) -> bytes:
    return _garble_of(frames, request("GET", "/characteristics?id=1.99", headers=("X: " + "y" * size,)))


def _garble_of(frames: FrameCipher, data: bytes) -> bytes:
    frame = sealed(frames.out, frames.sent, data)
    frames.sent += 1
    return frame


WRONG: Final[dict[str, Callable[[FrameCipher], bytes]]] = {
    "the right one": lambda frames: _garble(frames, lambda frame: frame),
    "a bit flipped in the data": lambda frames: _garble(frames, lambda f: f[:9] + bytes([f[9] ^ 1]) + f[10:]),
    "a bit flipped in the tag": lambda frames: _garble(frames, lambda f: f[:-1] + bytes([f[-1] ^ 1])),
    "a bit flipped in the length": lambda frames: _garble(
        frames, lambda f: bytes([f[0] ^ 1]) + f[1:] + bytes(2)
    ),
    "the next number": lambda frames: sealed(frames.out, frames.sent + 1, GET),
    "the same number twice": lambda frames: sealed(frames.out, frames.sent, GET) * 2,
    "number 0 again": lambda frames: (
        sealed(frames.out, 0, GET) if frames.sent else sealed(frames.out, 0, GET) + sealed(frames.out, 0, GET)
    ),
    "the other direction's key": lambda frames: sealed(frames.inward, frames.sent, GET),
    "in the clear": lambda _: GET,
    "pair-verify in the clear": lambda _: request("POST", "/pair-verify", b"\x06\x01\x01"),
    "zeros": lambda _: bytes(1042),
    "an empty frame, then the right one": lambda frames: _garble_of(frames, b"") + _garble_of(frames, GET),
    "a frame of 1,100 bytes": lambda frames: _oversize(frames, 1040),
    "a frame of 4,000 bytes": lambda frames: _oversize(frames, 3940),
    "half a frame": lambda frames: _garble(frames, lambda frame: frame[:20]),
    "one byte": lambda _: b"\x10",
}
CLOSED: Final[dict[str, Callable[[FrameCipher], bytes]]] = {
    "after half a frame": WRONG["half a frame"],
    "at once": lambda _: b"",
    "after half a request": lambda frames: _garble_of(frames, GET[:20]),
}
PIPELINES: Final[dict[str, tuple[Request, ...]]] = {
    "two reads": (read("web.On"), read("mail.On")),
    "ten reads": tuple(read(NAMES[number % 3]) for number in range(10)),
    "40 reads": tuple(read(NAMES[number % 3]) for number in range(40)),
    "a write and a read": (put(item("web.On", value=True)), read("web.On")),
    "a read, a write, a read": (read("web.On"), put(item("web.On", value=True)), read("web.On")),
    "on and off": (put(item("web.On", value=True)), put(item("web.On", value=False)), read("web.On")),
    "a slow write and a read": (put(item("slow.On", value=True)), read("web.On")),
    "a slow write and a quick one": (put(item("slow.On", value=True)), put(item("web.On", value=True))),
    "a failure between": (read("web.On"), put(item("broken.On", value=True)), read("mail.On")),
    "a refusal between": (read("web.On"), Request("GET", "/nothing"), read("mail.On")),
    "a malformed body between": (read("web.On"), Request("PUT", "/characteristics", b"{"), read("mail.On")),
    "no HTTP between": (read("web.On"), Request(raw=b"nonsense\r\n\r\n"), read("mail.On")),
    "subscribed and written": (put(item("web.On", ev=True)), put(item("web.On", value=True)), read("web.On")),
    "the list": (Request("GET", "/accessories"), read("web.On")),
    "Connection: close between": (
        read("web.On"),
        Request("GET", "/characteristics?id=<mail.On>", headers=("Connection: close",)),
        read("web.On"),
    ),
}
SCENARIOS: Final = (
    *(
        Scenario(
            f"frames of {size}",
            (Send((put(item("web.On", value=True)),), frames=every(size)), send(read("web.On"))),
        )
        for size in SIZES
    ),
    *(
        Scenario(f"segments of {size}", (Send((padded(2050),), pieces=every(size)), send(read("web.On"))))
        for size in PIECES
    ),
    *(
        Scenario(f"a request of {size}", (send(made), send(read("web.On"))))
        for size, made in _lengths().items()
    ),
    *(
        Scenario(f"a first frame of {size}", (Send((read("web.On"),), frames=(size, 1024)),))
        for size in (1, 2, 3)
    ),
    *(Scenario(f"frame: {name}", (send(read("web.On")), SendBytes(make))) for name, make in WRONG.items()),
    *(
        Scenario(f"half-closed {name}", (send(read("web.On")), SendBytes(make, half_close=True)))
        for name, make in CLOSED.items()
    ),
    *(
        Scenario(f"pipelined {how}: {name}", (Send(requests, frames=frames),))
        for name, requests in PIPELINES.items()
        for how, frames in (("in few frames", ()), ("in many frames", every(50)))
    ),
)
