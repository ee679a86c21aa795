"""PUT /characteristics: values and subscriptions of every type, partial failures, malformed bodies."""

import json
from typing import Any, Final

from tests.peer.scenario import Request, Scenario, item, put, read, send

VALUES: Final[tuple[Any, ...]] = (
    True,
    False,
    1,
    0,
    2,
    -1,
    1.0,
    0.5,
    1e300,
    10**20,
    None,
    "",
    "1",
    "0",
    "true",
    "false",
    "on",
    [],
    [True],
    {},
    {"on": True},
)
EVENTS: Final[tuple[Any, ...]] = (True, False, 1, 0, 2, "true", "", None, [], {})
TARGETS: Final = (
    "web.Identify",
    "web.Name",
    "web.Manufacturer",
    "outlet.OutletInUse",
    "outlet.On",
    "lamp.On",
    "fan.On",
    "bridge.Identify",
    "bridge.Version",
    "broken.On",
    "gone.On",
    "slow.On",
    "doomed.On",
)
UNKNOWN: Final = {"aid": 99999, "iid": 9}
NO_IID: Final = {"aid": 1, "iid": 99}
ITEMS: Final[dict[str, tuple[Any, ...]]] = {
    "none": (),
    "no value and no ev": (item("web.On"),),
    "a value and ev": (item("web.On", value=True, ev=True),),
    "a wrong value and ev": (item("web.On", value="on", ev=True),),
    "a value and ev of what is only read": (item("web.Name", value="x", ev=True),),
    "r": (item("web.On", value=True, r=True),),
    "r false": (item("web.On", value=True, r=False),),
    "r beside a failure": (item("web.On", value=True, r=True), item("broken.On", value=True)),
    "authData": (item("web.On", value=True, authData="QUJD"),),
    "remote": (item("web.On", value=True, remote=True),),
    "an unknown key": (item("web.On", value=True, colour="red"),),
    "an unknown AID": ({**UNKNOWN, "value": True},),
    "an unknown IID": ({**NO_IID, "value": True},),
    "an unknown IID, ev": ({**NO_IID, "ev": True},),
    "AID 0": ({"aid": 0, "iid": 9, "value": True},),
    "two": (item("web.On", value=True), item("mail.On", value=True)),
    "two of one accessory": (item("outlet.On", value=True), item("outlet.Identify", value=True)),
    "the same twice": (item("web.On", value=True), item("web.On", value=False)),
    "a value, and ev of the same": (item("web.On", value=True), item("web.On", ev=True)),
    "one unknown of two": (item("web.On", value=True), {**UNKNOWN, "value": True}),
    "one unknown of two, first": ({**UNKNOWN, "value": True}, item("web.On", value=True)),
    "one only read of two": (item("web.On", value=True), item("web.Name", value="x")),
    "one wrong value of two": (item("web.On", value=True), item("mail.On", value="on")),
    "one failure of two": (item("web.On", value=True), item("broken.On", value=True)),
    "one failure of two, first": (item("broken.On", value=True), item("web.On", value=True)),
    "one unreachable of three": tuple(item(f"{name}.On", value=True) for name in ("web", "gone", "mail")),
    "one slow of two": (item("slow.On", value=True), item("web.On", value=True)),
    "one slow and one failure": (item("slow.On", value=True), item("broken.On", value=True)),
    "ev of one that has none, of two": (item("web.On", ev=True), item("web.Name", ev=True)),
    "all that can go wrong": (
        item("web.On", value=True),
        item("web.Name", value="x"),
        item("broken.On", value=True),
        item("web.Model", ev=True),
        {**UNKNOWN, "value": True},
    ),
    "an AID in a string": ({"aid": "2", "iid": 9, "value": True},),
    "an AID that is true": ({"aid": True, "iid": 9, "value": True},),
    "a fraction as an AID": ({"aid": 1.5, "iid": 9, "value": True},),
    "null as an AID": ({"aid": None, "iid": 9, "value": True},),
    "a negative AID": ({"aid": -1, "iid": 9, "value": True},),
    "no AID": ({"iid": 9, "value": True},),
    "no IID": ({"aid": 1, "value": True},),
    "null": (None,),
    "a number": (1,),
    "a text": ("web",),
    "a list": ([],),
    "an empty object": ({},),
    "one that is none beside one that is": (item("web.On", value=True), 1),
}
UNKNOWN_IID: Final = b'{"characteristics":[{"aid":1,"iid":99,"ev":true}]}'
BODIES: Final[dict[str, object]] = {
    "nothing": b"",
    "a blank": b" ",
    "no JSON": b"{",
    "text": b"value=true",
    "not UTF-8": b'{"characteristics":[{"aid":1,"iid":2,"value":"\xff"}]}',
    "UTF-16": json.dumps({"characteristics": []}).encode("utf-16"),
    "with a byte order mark": b"\xef\xbb\xbf" + UNKNOWN_IID,
    "JSON and more": UNKNOWN_IID + b"{}",
    "with a newline behind it": UNKNOWN_IID + b"\r\n",
    "null": b"null",
    "a number": b"1",
    "a list": b"[]",
    "an empty object": {},
    "another key": {"Characteristics": []},
    "null as characteristics": {"characteristics": None},
    "an object as characteristics": {"characteristics": {}},
    "a text as characteristics": {"characteristics": "x"},
    "the key twice": b'{"characteristics":[],' + UNKNOWN_IID[1:],
    "nested deeply": b'{"characteristics":' + b"[" * 200 + b"]" * 200 + b"}",
    "NaN": b'{"characteristics":[{"aid":1,"iid":2,"value":NaN}]}',
    "three unknown ones": {
        "characteristics": [{"aid": 1000 + number, "iid": 9, "ev": True} for number in range(3)]
    },
}
KINDS: Final = ("", "text/plain", "application/json", "application/hap+json; charset=utf-8")


def _write(name: str, *items: object) -> Scenario:
    """Write, and look at what came of it."""
    return Scenario(f"write: {name}", (send(put(*items)), send(read("web.On", "mail.On"))))


SCENARIOS: Final = (
    *(_write(f"On {value!r}", item("web.On", value=value)) for value in VALUES),
    *(_write(f"ev {value!r}", item("web.On", ev=value)) for value in EVENTS),
    *(_write(f"{target} true", item(target, value=True)) for target in TARGETS),
    *(_write(f"ev of {target}", item(target, ev=True)) for target in TARGETS),
    *(_write(name, *items) for name, items in ITEMS.items()),
    *(
        Scenario(f"write: body {name}", (send(Request("PUT", "/characteristics", body)),))
        for name, body in BODIES.items()
    ),
    *(
        Scenario(
            f"write: as {kind!r}",
            (
                send(
                    Request(
                        "PUT", "/characteristics", {"characteristics": [item("web.On", ev=True)]}, kind=kind
                    )
                ),
            ),
        )
        for kind in KINDS
    ),
    Scenario(
        "write: with a query",
        (send(Request("PUT", "/characteristics?id=1.2", {"characteristics": [item("web.On", value=True)]})),),
    ),
    Scenario("write: off what is off", (send(put(item("web.On", value=False))), send(read("web.On")))),
    Scenario(
        "write: on and off again",
        (
            send(put(item("web.On", value=True))),
            send(put(item("web.On", value=True))),
            send(put(item("web.On", value=False))),
            send(read("web.On")),
        ),
    ),
    Scenario(
        "write: a slow one, then off",
        (
            send(put(item("slow.On", value=True))),
            send(read("slow.On")),
            send(put(item("slow.On", value=False))),
        ),
    ),
)
