"""Pair-verify with a bridge that is paired, and with one that is not: parts wrong, missing, twice or late."""

from typing import Final

from tests.peer import tlv
from tests.peer.identity import Identity
from tests.peer.peers import ADMIN, STRANGER, USER, BridgeKind
from tests.peer.raw_controller import request
from tests.peer.scenario import (
    Request,
    Scenario,
    Step,
    Verify,
    cut_off,
    doubled,
    flipped,
    followed_by,
    having,
    nothing,
    post,
    read,
    repeated_at_the_end,
    reversed_parts,
    send,
    without,
)
from tests.peer.tlv import Kind

LONG: Final = b"x" * 300
M1: Final = {
    "in order": tlv.encode,
    "with a method": having(Kind.METHOD, b"\0"),
    "with another method": having(Kind.METHOD, b"\5"),
    "with a session to resume": having(Kind.METHOD, b"\6"),
    "reversed": reversed_parts,
    "empty": nothing,
    "cut off": cut_off,
    "followed by a zero": followed_by(b"\0"),
    "followed by an unknown part": followed_by(b"\xfe\1x"),
    "without a state": without(Kind.STATE),
    "without a key": without(Kind.PUBLIC_KEY),
    "a key twice": doubled(Kind.PUBLIC_KEY),
    "a key again at the end": repeated_at_the_end(Kind.PUBLIC_KEY),
    "a state twice": doubled(Kind.STATE),
    "an empty key": having(Kind.PUBLIC_KEY, b""),
    "a key of 31 bytes": having(Kind.PUBLIC_KEY, b"k" * 31),
    "a key of 33 bytes": having(Kind.PUBLIC_KEY, b"k" * 33),
    "a key of 300 bytes": having(Kind.PUBLIC_KEY, LONG),
    "a key of zeros": having(Kind.PUBLIC_KEY, bytes(32)),
    "a key of low order": having(Kind.PUBLIC_KEY, b"\1" + bytes(31)),
    **{f"state {state}": having(Kind.STATE, bytes([state])) for state in (0, 2, 4, 5, 255)},
    "an empty state": having(Kind.STATE, b""),
    "a state of two bytes": having(Kind.STATE, b"\1\0"),
}
M3: Final = {
    "in order": tlv.encode,
    "reversed": reversed_parts,
    "empty": nothing,
    "cut off": cut_off,
    "without a state": without(Kind.STATE),
    "without data": without(Kind.ENCRYPTED_DATA),
    "data twice": doubled(Kind.ENCRYPTED_DATA),
    "empty data": having(Kind.ENCRYPTED_DATA, b""),
    "data of 15 bytes": having(Kind.ENCRYPTED_DATA, b"d" * 15),
    "data of 16 bytes": having(Kind.ENCRYPTED_DATA, b"d" * 16),
    "data of 300 bytes": having(Kind.ENCRYPTED_DATA, LONG),
    "a bit flipped": flipped(Kind.ENCRYPTED_DATA),
    "state 1": having(Kind.STATE, b"\1"),
    "state 5": having(Kind.STATE, b"\5"),
}
INNER: Final = {
    "empty": nothing,
    "cut off": cut_off,
    "reversed": reversed_parts,
    "without an ID": without(Kind.IDENTIFIER),
    "without a signature": without(Kind.SIGNATURE),
    "an ID twice": doubled(Kind.IDENTIFIER),
    "an empty ID": having(Kind.IDENTIFIER, b""),
    "an unknown ID": having(Kind.IDENTIFIER, STRANGER.id.encode()),
    "the other controller's ID": having(Kind.IDENTIFIER, USER.id.encode()),
    "an ID in small letters": having(Kind.IDENTIFIER, b"0000000a-2222-4333-8444-555555555555"),
    "an ID that is no UUID": having(Kind.IDENTIFIER, b"controller"),
    "an ID that is not UTF-8": having(Kind.IDENTIFIER, b"\xff" * 36),
    "a signature with a bit flipped": flipped(Kind.SIGNATURE),
    "an empty signature": having(Kind.SIGNATURE, b""),
    "a short signature": having(Kind.SIGNATURE, b"s" * 63),
    "a long signature": having(Kind.SIGNATURE, b"s" * 65),
    "an unknown part": followed_by(b"\xfe\1x"),
}
M1_M3: Final = (Verify("M1"), Verify("M3"))
PLAYED: Final[dict[str, tuple[Step, ...]]] = {
    "M3 first": (Verify("M3"),),
    "M1 twice": (Verify("M1"), *M1_M3, send(read("web.On"))),
    "M3 twice": (*M1_M3, Verify("M3")),
    "M3 again after one that failed": (
        Verify("M1"),
        Verify("M3", change=flipped(Kind.ENCRYPTED_DATA)),
        Verify("M3"),
    ),
    "M1 and M3 again after one that failed": (
        Verify("M1"),
        Verify("M3", inner=flipped(Kind.SIGNATURE)),
        *M1_M3,
        send(read("web.On")),
    ),
    "again after success": (*M1_M3, *M1_M3, send(read("web.On"))),
    "M1 after success": (*M1_M3, Verify("M1")),
    "a request between": (Verify("M1"), send(read("web.On")), Verify("M3"), send(read("web.On"))),
    "a request in the clear behind M3": (
        Verify("M1"),
        Verify("M3", behind=request("GET", "/accessories")),
        send(read("web.On")),
    ),
    "bytes in the clear behind M3": (Verify("M1"), Verify("M3", behind=b"GET"), send(read("web.On"))),
    "on two connections at once": (
        Verify("M1"),
        Verify("M1", on="b"),
        Verify("M3"),
        Verify("M3", on="b"),
        send(read("web.On")),
        send(read("web.On"), on="b"),
    ),
    "M3 of another connection": (Verify("M1"), Verify("M3", on="b")),
    "by GET": (send(Request("GET", "/pair-verify")), *M1_M3, send(read("web.On"))),
    "with a query": (send(post("/pair-verify?a=1", tlv.encode([(Kind.STATE, b"\1")]))),),
    "as no TLV": (send(Request("POST", "/pair-verify", {"state": 1})),),
}


def _verify(
    name: str, *steps: Step, identity: Identity = ADMIN, bridge_kind: BridgeKind = BridgeKind.PAIRED
) -> Scenario:
    return Scenario(f"verify: {name}", steps, bridge_kind, {"a": None, "b": None}, identity)


SCENARIOS: Final = (
    *(_verify(f"M1 {name}", Verify("M1", change)) for name, change in M1.items()),
    *(_verify(f"M3 {name}", Verify("M1"), Verify("M3", change)) for name, change in M3.items()),
    *(
        _verify(f"M3 {name} inside", Verify("M1"), Verify("M3", inner=change), send(read("web.On")))
        for name, change in INNER.items()
    ),
    *(_verify(name, *steps) for name, steps in PLAYED.items()),
    _verify("by a user", *M1_M3, send(read("web.On")), identity=USER),
    _verify("by a stranger", *M1_M3, send(read("web.On")), identity=STRANGER),
    _verify("of a bridge that is not paired", *M1_M3, bridge_kind=BridgeKind.UNPAIRED),
)
