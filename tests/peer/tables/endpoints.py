"""Every endpoint by every method, from whoever may ask."""

from itertools import product
from typing import Final

from tests.peer.conversation import Conversation, Request, say
from tests.peer.identity import Identity
from tests.peer.peers import ADMIN, USER, Place

PATHS: Final = (
    "/identify",
    "/pair-setup",
    "/pair-verify",
    "/pairings",
    "/accessories",
    "/characteristics",
    "/prepare",
    "/resource",
    "/nothing",
    "/",
)
METHODS: Final = ("GET", "PUT", "POST", "DELETE")
ASKING: Final[dict[str, tuple[Place, Identity | None]]] = {
    "unpaired": (Place.BLANK, None),
    "paired": (Place.HOME, None),
    "admin": (Place.HOME, ADMIN),
}
HEADS: Final = ("/accessories", "/characteristics?id=<web.On>", "/pair-setup", "/nothing")
USERS: Final = (("GET", "/accessories"), ("POST", "/identify"), ("GET", "/characteristics?id=<web.On>"))
VARIANTS: Final = ("/Accessories", "/accessories/", "//accessories", "/accessories?id=1", "/accessories#part")


def _ask(asking: str, method: str, path: str) -> Conversation:
    place, identity = ASKING[asking]
    return Conversation(
        f"{asking}: {method} {path}", (say(Request(method, path)),), place=place, who={"a": identity}
    )


CONVERSATIONS: Final = (
    *(_ask(asking, method, path) for asking, method, path in product(ASKING, METHODS, PATHS)),
    *(_ask(asking, "HEAD", path) for asking, path in product(ASKING, HEADS)),
    *(
        Conversation(f"user: {method} {path}", (say(Request(method, path)),), who={"a": USER})
        for method, path in USERS
    ),
    *(_ask("admin", "GET", path) for path in VARIANTS),
)
