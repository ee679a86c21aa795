"""Pair-setup with a bridge that is not paired, and one that is: each part wrong, missing, twice or late.

Few of them may fail for a wrong code: HAP-NodeJS counts those for as long as it runs, and refuses after 100.
"""

from typing import Final

from tests.peer import tlv
from tests.peer.identity import Identity
from tests.peer.peers import STRANGER, BridgeKind
from tests.peer.scenario import (
    Change,
    Request,
    Scenario,
    Setup,
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
from tests.peer.srp import N, padded
from tests.peer.tlv import Kind

M1: Final[dict[str, Change]] = {
    "in order": tlv.encode,
    "reversed": reversed_parts,
    "empty": nothing,
    "cut off": cut_off,
    "followed by an unknown part": followed_by(b"\xfe\1x"),
    "without a state": without(Kind.STATE),
    "without a method": without(Kind.METHOD),
    "a state twice": doubled(Kind.STATE),
    "an empty state": having(Kind.STATE, b""),
    "a state of two bytes": having(Kind.STATE, b"\1\0"),
    **{f"state {state}": having(Kind.STATE, bytes([state])) for state in (0, 2, 3, 5, 7, 255)},
    **{f"method {method}": having(Kind.METHOD, bytes([method])) for method in (1, 2, 5, 255)},
    "flags for a transient one": having(Kind.FLAGS, b"\x10\0\0\0"),
    "flags of zeros": having(Kind.FLAGS, bytes(4)),
    "empty flags": having(Kind.FLAGS, b""),
}
M3: Final[dict[str, Change]] = {
    "in order": tlv.encode,
    "reversed": reversed_parts,
    "empty": nothing,
    "cut off": cut_off,
    "without a state": without(Kind.STATE),
    "without a key": without(Kind.PUBLIC_KEY),
    "without a proof": without(Kind.PROOF),
    "a proof twice": doubled(Kind.PROOF),
    "a proof again at the end": repeated_at_the_end(Kind.PROOF),
    "a key again at the end": repeated_at_the_end(Kind.PUBLIC_KEY),
    "a proof with a bit flipped": flipped(Kind.PROOF),
    "an empty proof": having(Kind.PROOF, b""),
    "a proof of 63 bytes": having(Kind.PROOF, b"p" * 63),
    "a proof of 65 bytes": having(Kind.PROOF, b"p" * 65),
    "an empty key": having(Kind.PUBLIC_KEY, b""),
    "a key of zeros": having(Kind.PUBLIC_KEY, bytes(384)),
    "a key of one zero": having(Kind.PUBLIC_KEY, b"\0"),
    "N as a key": having(Kind.PUBLIC_KEY, padded(N)),
    "a key of 385 bytes": having(Kind.PUBLIC_KEY, b"\1" * 385),
    "a key with a zero before it": lambda parts: tlv.encode(
        [(kind, b"\0" + value if kind == Kind.PUBLIC_KEY else value) for kind, value in parts]
    ),
    "state 5": having(Kind.STATE, b"\5"),
    "state 1": having(Kind.STATE, b"\1"),
}
M5: Final[dict[str, Change]] = {
    "in order": tlv.encode,
    "reversed": reversed_parts,
    "empty": nothing,
    "cut off": cut_off,
    "without data": without(Kind.ENCRYPTED_DATA),
    "data again at the end": repeated_at_the_end(Kind.ENCRYPTED_DATA),
    "empty data": having(Kind.ENCRYPTED_DATA, b""),
    "data of 15 bytes": having(Kind.ENCRYPTED_DATA, b"d" * 15),
    "data of 16 bytes": having(Kind.ENCRYPTED_DATA, b"d" * 16),
    "a bit flipped": flipped(Kind.ENCRYPTED_DATA),
    "state 3": having(Kind.STATE, b"\3"),
}
INNER: Final[dict[str, Change]] = {
    "empty": nothing,
    "cut off": cut_off,
    "reversed": reversed_parts,
    "without an ID": without(Kind.IDENTIFIER),
    "without a key": without(Kind.PUBLIC_KEY),
    "without a signature": without(Kind.SIGNATURE),
    "an ID twice": doubled(Kind.IDENTIFIER),
    "an empty ID": having(Kind.IDENTIFIER, b""),
    "another ID": having(Kind.IDENTIFIER, b"controller"),
    "another key": having(Kind.PUBLIC_KEY, Identity.of(9).public_key),
    "a key of 31 bytes": having(Kind.PUBLIC_KEY, b"k" * 31),
    "a key of 33 bytes": having(Kind.PUBLIC_KEY, b"k" * 33),
    "a signature with a bit flipped": flipped(Kind.SIGNATURE),
    "a short signature": having(Kind.SIGNATURE, b"s" * 63),
    "an unknown part": followed_by(b"\xfe\1x"),
}
BEGUN: Final[tuple[Step, ...]] = (Setup("M1"), Setup("M3"))
PAIRED: Final[tuple[Step, ...]] = (*BEGUN, Setup("M5"))
VERIFIED: Final[tuple[Step, ...]] = (Verify("M1"), Verify("M3"), send(read("web.On")))
PLAYED: Final[dict[str, tuple[Step, ...]]] = {
    "whole, and verified": (*PAIRED, *VERIFIED),
    "whole, and verified on another connection": (*PAIRED, Verify("M1", on="b"), Verify("M3", on="b")),
    "M3 first": (Setup("M3"),),
    "M5 first": (Setup("M5"),),
    "M5 after M1": (Setup("M1"), Setup("M5")),
    "M1 twice": (Setup("M1"), Setup("M1"), Setup("M3"), Setup("M5")),
    "M3 twice": (*BEGUN, Setup("M3")),
    "M1 after M3": (*BEGUN, Setup("M1")),
    "M5 twice": (*PAIRED, Setup("M5")),
    "M1 after M5": (*PAIRED, Setup("M1")),
    "another code": (Setup("M1", code="111-22-333"), Setup("M3")),
    "another code, then M5": (Setup("M1", code="111-22-333"), Setup("M3"), Setup("M5")),
    "another code, then the right one": (Setup("M1", code="111-22-333"), Setup("M3"), *PAIRED),
    "another code, then the right one on another connection": (
        Setup("M1", code="111-22-333"),
        Setup("M3"),
        Setup("M1", on="b"),
        Setup("M3", on="b"),
        Setup("M5", on="b"),
    ),
    "M3 of another connection": (Setup("M1"), Setup("M3", on="b")),
    "another connection begins": (Setup("M1"), Setup("M1", on="b")),
    "a request between": (Setup("M1"), send(read("web.On")), Setup("M3")),
    "pair-verify between": (Setup("M1"), Verify("M1"), Setup("M3")),
    "as no TLV": (send(Request("POST", "/pair-setup", {"state": 1})),),
    "with a query": (send(post("/pair-setup?a=1", tlv.encode([(Kind.STATE, b"\1"), (Kind.METHOD, b"\0")]))),),
    "M1 twice at once": (
        send(*[post("/pair-setup", tlv.encode([(Kind.STATE, b"\1"), (Kind.METHOD, b"\0")]))] * 2),
    ),
}
PAIRED_ALREADY: Final[dict[str, tuple[Step, ...]]] = {
    "M1": (Setup("M1"),),
    "M3": (Setup("M3"),),
    "M5": (Setup("M5"),),
    "nothing": (Setup("M1", change=nothing),),
    "a wrong state": (Setup("M1", change=having(Kind.STATE, b"\7")),),
    "method 1": (Setup("M1", change=having(Kind.METHOD, b"\1")),),
}


def _setup(
    name: str, *steps: Step, bridge_kind: BridgeKind = BridgeKind.UNPAIRED, identity: Identity = STRANGER
) -> Scenario:
    changes = bridge_kind is BridgeKind.UNPAIRED
    return Scenario(
        f"setup: {name}", steps, bridge_kind, {"a": None, "b": None}, identity, pairings_change=changes
    )


SCENARIOS: Final = (
    *(_setup(f"M1 {name}", Setup("M1", change)) for name, change in M1.items()),
    *(_setup(f"M3 {name}", Setup("M1"), Setup("M3", change)) for name, change in M3.items()),
    *(_setup(f"M5 {name}", *BEGUN, Setup("M5", change)) for name, change in M5.items()),
    *(_setup(f"M5 {name} inside", *BEGUN, Setup("M5", inner=change)) for name, change in INNER.items()),
    *(_setup(name, *steps) for name, steps in PLAYED.items()),
    _setup(
        "whole, by an ID that is no UUID",
        *PAIRED,
        *VERIFIED,
        identity=Identity("controller 1", Identity.of(9).key),
    ),
    *(
        _setup(f"paired already, {name}", *steps, bridge_kind=BridgeKind.PAIRED)
        for name, steps in PAIRED_ALREADY.items()
    ),
)
