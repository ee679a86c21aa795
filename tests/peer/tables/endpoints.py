"""Every endpoint by every method, from whoever may ask."""

from itertools import product
from typing import Final

from tests.peer.identity import Identity
from tests.peer.peers import ADMIN, USER, BridgeKind
from tests.peer.scenario import Request, Scenario, send

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
ASKING: Final[dict[str, tuple[BridgeKind, Identity | None]]] = {
    "unpaired": (BridgeKind.UNPAIRED, None),
    "paired": (BridgeKind.PAIRED, None),
    "admin": (BridgeKind.PAIRED, ADMIN),
}
HEADS: Final = ("/accessories", "/characteristics?id=<web.On>", "/pair-setup", "/nothing")
USERS: Final = (("GET", "/accessories"), ("POST", "/identify"), ("GET", "/characteristics?id=<web.On>"))
VARIANTS: Final = ("/Accessories", "/accessories/", "//accessories", "/accessories?id=1", "/accessories#part")


def _ask(asking: str, method: str, path: str) -> Scenario:
    bridge_kind, identity = ASKING[asking]
    return Scenario(
        f"{asking}: {method} {path}",
        (send(Request(method, path)),),
        bridge_kind=bridge_kind,
        who={"a": identity},
    )


SCENARIOS: Final = (
    *(_ask(asking, method, path) for asking, method, path in product(ASKING, METHODS, PATHS)),
    *(_ask(asking, "HEAD", path) for asking, path in product(ASKING, HEADS)),
    *(
        Scenario(f"user: {method} {path}", (send(Request(method, path)),), who={"a": USER})
        for method, path in USERS
    ),
    *(_ask("admin", "GET", path) for path in VARIANTS),
)
