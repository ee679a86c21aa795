"""/pairings: adding, removing and listing, by admin, user and stranger; parts wrong, missing or twice."""

from typing import Final

from tests.peer import tlv
from tests.peer.identity import Identity
from tests.peer.peers import ADMIN, USER
from tests.peer.raw_controller import ADD, LIST, REMOVE
from tests.peer.scenario import (
    Change,
    Scenario,
    Step,
    cut_off,
    doubled,
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
from tests.peer.tlv import Kind, Part

THIRD: Final = Identity.of(4)


def _message(method: bytes, *parts: Part, change: Change = tlv.encode) -> bytes:
    return change([(Kind.STATE, b"\1"), (Kind.METHOD, method), *parts])


def _pairing(identity: Identity, rights: bytes) -> tuple[Part, ...]:
    return (
        (Kind.IDENTIFIER, identity.id.encode()),
        (Kind.PUBLIC_KEY, identity.public_key),
        (Kind.PERMISSIONS, rights),
    )


def ask(method: bytes, *parts: Part, change: Change = tlv.encode, on: str = "a") -> Step:
    return send(post("/pairings", _message(method, *parts, change=change)), on=on)


LISTED: Final = ask(LIST)
THIRDS: Final = _pairing(THIRD, b"\0")
ADDED: Final[dict[str, Change]] = {
    "in order": tlv.encode,
    "reversed": reversed_parts,
    "as an admin": having(Kind.PERMISSIONS, b"\1"),
    "with permissions 2": having(Kind.PERMISSIONS, b"\2"),
    "with permissions 255": having(Kind.PERMISSIONS, b"\xff"),
    "with permissions of two bytes": having(Kind.PERMISSIONS, b"\0\1"),
    "with empty permissions": having(Kind.PERMISSIONS, b""),
    "without permissions": without(Kind.PERMISSIONS),
    "without an ID": without(Kind.IDENTIFIER),
    "without a key": without(Kind.PUBLIC_KEY),
    "an ID twice": doubled(Kind.IDENTIFIER),
    "an ID again at the end": repeated_at_the_end(Kind.IDENTIFIER),
    "an empty ID": having(Kind.IDENTIFIER, b""),
    "an ID that is no UUID": having(Kind.IDENTIFIER, b"controller"),
    "an ID of 36 letters": having(Kind.IDENTIFIER, b"x" * 36),
    "an ID of 37 letters": having(Kind.IDENTIFIER, b"x" * 37),
    "an ID of 300 letters": having(Kind.IDENTIFIER, b"x" * 300),
    "an ID in small letters": having(Kind.IDENTIFIER, b"aaaaaaaa-2222-4333-8444-555555555555"),
    "an ID that is not UTF-8": having(Kind.IDENTIFIER, b"\xff" * 36),
    "an empty key": having(Kind.PUBLIC_KEY, b""),
    "a key of 31 bytes": having(Kind.PUBLIC_KEY, b"k" * 31),
    "a key of 33 bytes": having(Kind.PUBLIC_KEY, b"k" * 33),
    "a key of zeros": having(Kind.PUBLIC_KEY, bytes(32)),
    "its own ID with its own key": lambda parts: tlv.encode([*parts[:2], *_pairing(ADMIN, b"\1")]),
    "its own ID with another key": having(Kind.IDENTIFIER, ADMIN.id.encode()),
    "the user as an admin": lambda parts: tlv.encode([*parts[:2], *_pairing(USER, b"\1")]),
    "the user with another key": having(Kind.IDENTIFIER, USER.id.encode()),
    "itself as a user, the last admin": lambda parts: tlv.encode([*parts[:2], *_pairing(ADMIN, b"\0")]),
    "an unknown part": followed_by(b"\xfe\1x"),
}
REMOVED: Final[dict[str, Change]] = {
    "the user": having(Kind.IDENTIFIER, USER.id.encode()),
    "one that there is not": having(Kind.IDENTIFIER, THIRD.id.encode()),
    "the user in small letters": having(Kind.IDENTIFIER, USER.id.lower().encode()),
    "without an ID": tlv.encode,
    "an empty ID": having(Kind.IDENTIFIER, b""),
    "no UUID": having(Kind.IDENTIFIER, b"controller"),
    "what is not UTF-8": having(Kind.IDENTIFIER, b"\xff" * 36),
}
MALFORMED: Final[dict[str, Change]] = {
    "in order": tlv.encode,
    "reversed": reversed_parts,
    "empty": nothing,
    "cut off": cut_off,
    "without a state": without(Kind.STATE),
    "without a method": without(Kind.METHOD),
    "a method twice": doubled(Kind.METHOD),
    "a state twice": doubled(Kind.STATE),
    # HAP-NodeJS answers none of these, and each takes as long as it is waited for.
    "state 3": having(Kind.STATE, b"\3"),
    "method 1": having(Kind.METHOD, b"\1"),
}
PLAYED: Final[dict[str, tuple[Step, ...]]] = {
    "added twice": (ask(ADD, *THIRDS), ask(ADD, *THIRDS), LISTED),
    "added as a user, then as an admin": (ask(ADD, *THIRDS), ask(ADD, *_pairing(THIRD, b"\1")), LISTED),
    "added and removed": (ask(ADD, *THIRDS), ask(REMOVE, THIRDS[0]), LISTED),
    "a user's session after it was removed": (
        send(read("web.On"), on="b"),
        ask(REMOVE, (Kind.IDENTIFIER, USER.id.encode())),
        send(read("web.On"), on="b"),
        LISTED,
    ),
    "a user that is made an admin": (
        ask(ADD, *_pairing(USER, b"\1")),
        ask(LIST, on="b"),
    ),
    "listed by a user": (ask(LIST, on="b"),),
    "added by a user": (ask(ADD, *THIRDS, on="b"), LISTED),
    "removed by a user": (ask(REMOVE, (Kind.IDENTIFIER, USER.id.encode()), on="b"), LISTED),
    "the admin removed by a user": (ask(REMOVE, (Kind.IDENTIFIER, ADMIN.id.encode()), on="b"), LISTED),
    "listed by a stranger": (ask(LIST, on="c"),),
    "added by a stranger": (ask(ADD, *THIRDS, on="c"), LISTED),
    "removed by a stranger": (ask(REMOVE, (Kind.IDENTIFIER, USER.id.encode()), on="c"), LISTED),
    "the last admin removes itself": (ask(REMOVE, (Kind.IDENTIFIER, ADMIN.id.encode())),),
    "the last admin removes itself, and a user is connected": (
        send(read("web.On"), on="b"),
        ask(REMOVE, (Kind.IDENTIFIER, ADMIN.id.encode())),
        send(read("web.On"), on="b"),
    ),
    "one of two admins removes itself": (
        ask(ADD, *_pairing(THIRD, b"\1")),
        ask(REMOVE, (Kind.IDENTIFIER, ADMIN.id.encode())),
    ),
}


def _played(name: str, *steps: Step) -> Scenario:
    who = {"a": ADMIN, "b": USER, "c": None}
    return Scenario(f"pairings: {name}", steps, who=who, pairings_change=True)


SCENARIOS: Final = (
    *(_played(f"add {name}", ask(ADD, *THIRDS, change=change), LISTED) for name, change in ADDED.items()),
    *(_played(f"remove {name}", ask(REMOVE, change=change), LISTED) for name, change in REMOVED.items()),
    *(_played(f"list {name}", ask(LIST, change=change)) for name, change in MALFORMED.items()),
    *(_played(name, *steps) for name, steps in PLAYED.items()),
)
