"""GET /characteristics: what `id` may be, partial failures, and the other parameters."""

from typing import Final

from tests.peer.scenario import Request, Scenario, put, read, send
from tests.peer.scenario import item as _item

QUERIES: Final = (
    "?",
    "?id",
    "?id=",
    "?id=1",
    "?id=.",
    "?id=1.",
    "?id=.9",
    "?id=1.2.3",
    "?id=a.b",
    "?id=-1.9",
    "?id=+1.9",
    "?id=1.-9",
    "?id=0x1.2",
    "?id=1e0.2",
    "?id=1,2",
    "?id=,",
    "?id=%31.99",
    "?id= 1.99",
    "?id=<web.On>,",
    "?id=,<web.On>",
    "?id=<web.On>,,<mail.On>",
    "?id=<web.On>;<mail.On>",
    "?id=<web.On>%2C<mail.On>",
    "?id=<web.On>, <mail.On>",
    "?id=<web.On>,<web.On>",
    "?id=0.0",
    "?id=1.0",
    "?id=1.99",
    "?id=99999.1",
    "?id=4294967296.1",
    "?id=99999999999999999999.1",
    "?ID=<web.On>",
    "?ids=<web.On>",
    "?id=<web.On>&id=<mail.On>",
    "?id=<web.On>&unknown=1",
    "?unknown=1&id=<web.On>",
    "?id=<web.On>&",
    "?id=<web.On>#part",
    "/?id=<web.On>",
    "?id=<bridge.Identify>",
    "?id=<bridge.Version>",
    "?id=<outlet.On>,<outlet.OutletInUse>",
    "?id=<lamp.On>,<fan.On>,<web.Manufacturer>",
    "?id=<web.On>,1.99",
    "?id=1.99,<web.On>",
    "?id=<web.On>,<web.Identify>",
    "?id=<web.On>,<gone.On>,<mail.On>",
    "?id=<gone.On>",
    "?id=<gone.On>,1.99,<web.Identify>",
    "?id=<gone.Manufacturer>",
    "?id=<gone.On>,<gone.Model>",
)
FLAGS: Final = ("meta", "perms", "type", "ev")
VALUES: Final = ("1", "0", "true", "false", "2", "", "TRUE", "yes")
READ: Final = {
    "On": "<web.On>",
    "a text": "<web.Model>",
    "OutletInUse": "<outlet.OutletInUse>",
    "an unknown": "1.99",
}


def _get(query: str) -> Request:
    return Request("GET", f"/characteristics{query}")


SCENARIOS: Final = (
    *(Scenario(f"read: {query}", (send(_get(query)),)) for query in QUERIES),
    *(
        Scenario(f"read: {flag}={value}", (send(_get(f"?id=<web.On>&{flag}={value}")),))
        for flag in FLAGS
        for value in VALUES
    ),
    *(
        Scenario(f"read: {what} with all flags", (send(_get(f"?id={path}&meta=1&perms=1&type=1&ev=1")),))
        for what, path in READ.items()
    ),
    Scenario(
        "read: ev=1 of what was subscribed to",
        (
            send(put(_item("web.On", ev=True))),
            send(_get("?id=<web.On>,<mail.On>&ev=1")),
            send(put(_item("web.On", ev=False))),
            send(_get("?id=<web.On>&ev=1")),
        ),
    ),
    Scenario("read: again and again", tuple(send(read("web.On", "mail.On")) for _ in range(5))),
)
