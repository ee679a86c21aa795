"""Malformed and hostile requests are rejected with at most one log line, and change nothing."""

import asyncio
import itertools
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any, cast

import pytest
import pytest_asyncio
from aiohomekit.controller.ip.connection import InsecureHomeKitProtocol
from aiohomekit.exceptions import AccessoryDisconnectedError
from aiohomekit.protocol import get_session_keys
from aiohomekit.protocol.tlv import TLV

from hkswitch.backend.simulated import SimulatedHost
from hkswitch.hap import connection as hardening
from hkswitch.hap import log_limiter, sessions
from hkswitch.hap.characteristics import MOST_CHARACTERISTICS
from hkswitch.hap.events import Pace
from hkswitch.hap.sockets import BACKLOG
from tests.hap.conftest import GROUPS, Served
from tests.support.controller import Controller
from tests.support.raw_client import (
    DATA,
    ERROR,
    METHOD,
    PROOF,
    PUBLIC_KEY,
    STATE,
    USERNAME,
    RawClient,
    Said,
    raw_client,
    tlv,
)
from tests.support.waiting import eventually

Items = list[dict[str, Any]]

CLOSED = None
"""The status of a connection that is closed without an answer."""

M1, M3, M5 = (STATE, b"\x01"), (STATE, b"\x03"), (STATE, b"\x05")
NOT_WHAT_IT_WAS, WRITE_ONLY, NO_SUCH, INVALID = -70402, -70405, -70409, -70410

own_addresses = (f"127.0.{high}.{low}" for high in range(10, 200) for low in range(1, 255))
"""An address for each test, since lines are logged once a minute for each."""


def request(
    method: str, target: str, *headers: str, body: bytes = b"", version: str = "HTTP/1.1", length: bool = True
) -> bytes:
    """A request; without the length of its body if that is among the headers."""
    lengths = [f"Content-Length: {len(body)}"] if body and length else []
    head = "\r\n".join([f"{method} {target} {version}", "Host: bridge", *headers, *lengths, "", ""])
    return head.encode("latin-1") + body


def post(path: str, *parts: tuple[int, bytes]) -> bytes:
    return request("POST", path, body=tlv(*parts))


@pytest.fixture(autouse=True)
def each_address_is_heard_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row has an address of its own, and there are more rows than addresses that have a line each."""
    monkeypatch.setattr(log_limiter, "MOST_SOURCES", 1_000)


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Nothing that is sent makes a traceback or an error."""
    noisy = [logging.getLogger(name) for name in ("pyhap.hap_handler", "pyhap.hap_protocol")]
    for each in noisy:
        each.setLevel(logging.CRITICAL)  # as in logs.py
    yield caplog
    for each in noisy:
        each.setLevel(logging.NOTSET)
    records = [*caplog.get_records("setup"), *caplog.get_records("call")]
    assert not [record.getMessage() for record in records if record.exc_info]
    assert not [record.getMessage() for record in records if record.levelno >= logging.ERROR]


def lines(log: pytest.LogCaptureFixture, address: str) -> list[str]:
    """Return the log lines about an address."""
    messages = [record.getMessage() for record in log.records if record.levelno >= logging.WARNING]
    return [message for message in messages if message.startswith(f"{address}: ")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lonely(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """An unpaired bridge, shared by all tests that keep it unpaired."""
    own = await Served.start(tmp_path_factory.mktemp("lonely"), SimulatedHost(GROUPS[1:2]), GROUPS[1:2])
    yield own
    await own.stop()


async def is_well(served: Served) -> None:
    """Check that it still answers other devices."""
    async with raw_client(served.address, served.port) as another:
        assert (await another.say(request("GET", "/accessories"))).status == 470


HTTP = {
    "unknown path": (request("GET", "/foo"), 404),
    "unknown method": (request("PATCH", "/"), 404),
    "unknown method of a path": (request("PATCH", "/characteristics"), 405),
    "pair-setup by GET": (request("GET", "/pair-setup"), 405),
    "pair-verify by PUT": (request("PUT", "/pair-verify", body=b"x"), 405),
    "a camera's path": (request("POST", "/resource", body=b"{}"), 404),
    "no path": (request("GET", "?id=1.1"), 404),
    "asterisk": (request("OPTIONS", "*"), 404),
    "a host for a path": (request("GET", "//accessories"), 404),
    "accessories": (request("GET", "/accessories"), 470),
    "accessories by URL": (request("GET", "http://bridge/accessories"), 470),
    "accessories with parameters": (request("GET", "/accessories;x?y#z"), 470),
    "read": (request("GET", "/characteristics?id=1.1"), 470),
    "write": (request("PUT", "/characteristics", body=b'{"characteristics":[]}'), 470),
    "prepare": (request("PUT", "/prepare", body=b'{"ttl":1,"pid":1}'), 470),
    "pairings": (post("/pairings", (STATE, b"\x01"), (METHOD, b"\x05")), 470),
    "HEAD": (request("HEAD", "/accessories"), 405),
    "HEAD of pair-setup": (request("HEAD", "/pair-setup"), 405),
    "CONNECT": (request("CONNECT", "bridge:51827"), 404),
    "upgrade": (request("GET", "/foo", "Connection: upgrade", "Upgrade: h2c"), 404),
    "IPv6 that is none": (request("GET", "http://["), 400),
    "percent": (request("GET", "/%zz%"), 404),
    "path in percents": (request("GET", "/%61ccessories"), 404),
    "target of 10 KB": (request("GET", "/" + "x" * 10_000), 404),
    "target not in ASCII": (request("GET", "/\xe9"), 400),
    "NUL in the target": (request("GET", "/\0"), 400),
    "NUL in a header": (request("GET", "/foo", "X-A: \0"), 400),
    "a header not in ASCII": (request("GET", "/foo", "X-A: \xe9\xff"), 404),
    "a header's name not in ASCII": (request("GET", "/foo", "X-\xe9: a"), 400),
    "a header without a name": (request("GET", "/foo", ": a"), 400),
    "a header folded": (request("GET", "/foo", "X-A: a\r\n b"), 404),
    "headers of 17 KiB": (request("GET", "/foo", "X-A: " + "a" * 17 * 1024), 431),
    "headers without an end of 17 KiB": (b"GET /foo HTTP/1.1\r\n" + b"X-A: a\r\n" * 2176, 431),
    "no host": (b"GET /foo HTTP/1.1\r\n\r\n", 400),
    "HTTP/1.0": (request("GET", "/foo", version="HTTP/1.0"), 404),
    "HTTP/9.9": (request("GET", "/foo", version="HTTP/9.9"), 404),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 404),
    "HTTP/x": (request("GET", "/foo", version="HTTP/x"), 400),
    "no version": (b"GET /foo\r\n\r\n", 400),
    "TLS": (bytes.fromhex("1603010200010001fc0303") + b"\xab" * 500, 400),
    "zeros": (bytes(20_000), 400),
    "SSH": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", 400),
    "over 4 KiB announced": (request("POST", "/pair-setup", "Content-Length: 4097"), 413),
    "far too much announced": (request("POST", "/pair-setup", f"Content-Length: {10**19}"), 413),
    "more than a number": (request("POST", "/pair-setup", f"Content-Length: {'9' * 5000}"), 400),
    "less than nothing": (request("POST", "/pair-setup", "Content-Length: -1"), 400),
    "length no number": (request("POST", "/pair-setup", "Content-Length: x"), 400),
    "two lengths": (
        request("POST", "/pair-setup", "Content-Length: 1", "Content-Length: 2", body=b"aa", length=False),
        400,
    ),
    "a length twice": (
        request("POST", "/foo", "Content-Length: 2", "Content-Length: 2", body=b"aa", length=False),
        404,
    ),
    "chunks": (request("POST", "/pair-setup", "Transfer-Encoding: chunked"), 411),
    "chunks and a length": (
        request("POST", "/pair-setup", "Transfer-Encoding: chunked", "Content-Length: 3", body=b"0\r\n"),
        411,
    ),
    "another encoding": (request("POST", "/pair-setup", "Transfer-Encoding: gzip"), 501),
    "100-continue": (request("POST", "/foo", "Expect: 100-continue", body=b"x"), 404),
    "closing": (request("GET", "/foo", "Connection: close"), 404),
}
"""The request, and the status of the response."""


@pytest.mark.parametrize(("sent", "status"), HTTP.values(), ids=HTTP)
async def test_a_stranger_gets_nothing(
    lonely: Served, log: pytest.LogCaptureFixture, sent: bytes, status: int | set[int | None]
) -> None:
    own_address = next(own_addresses)
    async with raw_client(lonely.address, lonely.port, own_address=own_address) as attacker:
        said = await attacker.say(sent)
    assert said.status in (status if isinstance(status, set) else {status})
    assert len(lines(log, own_address)) == 1
    assert len(lines(log, own_address)[0]) < 400
    await is_well(lonely)


@pytest.mark.parametrize("sent", [request("GET", "/foo", "Connection: close"), HTTP["HTTP/1.0"][0]])
async def test_a_connection_is_closed_for_who_wants_that(lonely: Served, sent: bytes) -> None:
    async with raw_client(lonely.address, lonely.port) as attacker:
        assert (await attacker.say(sent)).status == 404
        assert await attacker.is_closed()


@pytest.mark.parametrize("sent", [HTTP["over 4 KiB announced"][0], HTTP["chunks"][0]], ids=["long", "chunks"])
async def test_a_body_that_is_refused_is_not_waited_for(lonely: Served, sent: bytes) -> None:
    async with raw_client(lonely.address, lonely.port) as attacker:
        assert (await attacker.say(sent)).status in {411, 413}
        assert await attacker.is_closed()


async def test_the_101st_request_of_an_unauthenticated_client_is_refused(lonely: Served) -> None:
    async with raw_client(lonely.address, lonely.port) as attacker:
        said = [(await attacker.say(request("GET", "/foo"))).status for _ in range(101)]
        assert await attacker.is_closed()
    assert said == [404] * 100 + [429]


async def test_pipelined_requests_are_answered_in_order_until_they_are_too_many(lonely: Served) -> None:
    async with raw_client(lonely.address, lonely.port) as attacker:
        attacker.writer.write(request("GET", "/foo") + request("GET", "/accessories") * 200)
        received = await asyncio.wait_for(attacker.reader.read(), 5)
    statuses = [int(part.split(maxsplit=1)[0]) for part in received.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [404] + [470] * 99 + [429]


async def test_fifty_bad_requests_of_an_address_are_one_line(
    lonely: Served, log: pytest.LogCaptureFixture
) -> None:
    own_address = next(own_addresses)
    for sent, _ in itertools.islice(itertools.cycle(HTTP.values()), 50):
        async with raw_client(lonely.address, lonely.port, own_address=own_address) as attacker:
            await attacker.say(sent)
    assert len(lines(log, own_address)) == 1


# Pairing

PAIR_SETUP = {
    "empty": (b"", 400, None),
    "a type and no more": (b"\x06", 400, None),
    "a length and no more": (b"\x06\x01", 400, None),
    "half a value": (b"\x00\x01\x00\x06\x02\x01", 200, b"\x02"),
    "no step": (tlv((METHOD, b"\0")), 400, None),
    "step 0": (tlv((STATE, b"\0")), 400, None),
    "step 2": (tlv((STATE, b"\x02")), 400, None),
    "step 255": (tlv((STATE, b"\xff")), 400, None),
    "a long step": (tlv((STATE, b"\x01\x00")), 400, None),
    "a step of 3 KB": (tlv((STATE, b"\x01" * 3_000)), 400, None),
    "a step in pieces": (b"\x06\x00" * 2_000, 400, None),
    "M3 first": (tlv(M3, (PUBLIC_KEY, b"k" * 384), (PROOF, b"p" * 64)), 200, b"\x01"),
    "M5 first": (tlv(M5, (DATA, b"x" * 80)), 200, b"\x01"),
}


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [row for name, row in PAIR_SETUP.items() if name != "half a value"],
    ids=[name for name in PAIR_SETUP if name != "half a value"],
)
async def test_a_malformed_pair_setup_is_refused_and_holds_up_nobody(
    lonely: Served, body: bytes, status: int, error: bytes | None
) -> None:
    async with raw_client(lonely.address, lonely.port) as attacker:
        said = await attacker.post("/pair-setup", body)
        assert said.status == status
        assert said.tlv[ERROR] == error or error is None
        assert lonely.bridge._driver.pair_setup.holder is None


@pytest.mark.parametrize(
    "parts",
    [[], [(PUBLIC_KEY, b"k" * 384)], [(PROOF, b"p" * 64)], [(PUBLIC_KEY, b""), (PROOF, b"")]],
    ids=["nothing", "no proof", "no key", "empty ones"],
)
async def test_a_proof_with_missing_parts_ends_the_pairing(
    lonely: Served, parts: list[tuple[int, bytes]]
) -> None:
    async with raw_client(lonely.address, lonely.port) as attacker:
        await attacker.pair_setup(M1, (METHOD, b"\0"))
        said = await attacker.pair_setup(M3, *parts)
        assert ERROR in said.tlv
        assert lonely.bridge._driver.pair_setup.holder is None
        assert (await attacker.pair_setup(M5, (DATA, b"x" * 80))).tlv[ERROR] == b"\x01"


async def test_after_all_that_it_can_be_paired(unpaired: Served) -> None:
    rows = [sent for sent, _ in HTTP.values()]
    rows += [request("POST", "/pair-setup", body=body) for body, _, _ in PAIR_SETUP.values()]
    for sent in rows:
        async with raw_client(unpaired.address, unpaired.port) as attacker:
            await attacker.say(sent)
    controller = await unpaired.pair()
    assert await controller.read("Web Server") is False
    await controller.close()


PAIR_VERIFY = {
    "empty": (b"", 400),
    "a type and no more": (b"\x06", 400),
    "no step": (tlv((PUBLIC_KEY, b"k" * 32)), 400),
    "step 2": (tlv((STATE, b"\x02")), 400),
    "M1 without a key": (tlv(M1), 400),
    "M1 with a short key": (tlv(M1, (PUBLIC_KEY, b"k" * 31)), 400),
    "M1 with a long key": (tlv(M1, (PUBLIC_KEY, b"k" * 33)), 400),
    "M1 with no key": (tlv(M1, (PUBLIC_KEY, b"")), 400),
    "M1 with a key of zeros": (tlv(M1, (PUBLIC_KEY, bytes(32))), 400),
    "M1 with a key of one": (tlv(M1, (PUBLIC_KEY, b"\1" + bytes(31))), 400),
    "M3 first": (tlv(M3, (DATA, b"x" * 80)), 400),
    "M5": (tlv(M5, (DATA, b"x" * 80)), 400),
}


@pytest.mark.parametrize(("body", "status"), PAIR_VERIFY.values(), ids=PAIR_VERIFY)
async def test_a_malformed_pair_verify_is_refused(
    served: Served, paired: Controller, log: pytest.LogCaptureFixture, body: bytes, status: int
) -> None:
    own_address = next(own_addresses)
    async with raw_client(served.address, served.port, own_address=own_address) as attacker:
        said = await attacker.post("/pair-verify", body)
        assert (said.status, ERROR in said.tlv) == (status, True)
        assert (await attacker.say(request("GET", "/accessories"))).status == 470
    assert len(lines(log, own_address)) == 1


@pytest.mark.parametrize("sealed", [b"", b"x", b"x" * 16, b"x" * 80, None], ids=repr)
async def test_a_proof_that_is_none_opens_nothing(
    served: Served, paired: Controller, sealed: bytes | None
) -> None:
    async with raw_client(served.address, served.port) as attacker:
        await attacker.post("/pair-verify", tlv(M1, (PUBLIC_KEY, b"k" * 32)))
        parts = [] if sealed is None else [(DATA, sealed)]
        said = await attacker.post("/pair-verify", tlv(M3, *parts))
        assert ERROR in said.tlv
        assert (await attacker.say(request("GET", "/accessories"))).status == 470


async def prove(attacker: RawClient, controller: Controller) -> bytes:
    """Begin a pair-verify; the request by which the controller then proves who it is."""
    steps: Any = get_session_keys(cast("Any", controller.pairing.pairing_data))
    begin, _ = next(steps)
    answer = await attacker.post("/pair-verify", bytes(TLV.encode_list(begin)))
    proof, _ = steps.send(TLV.decode_bytes(answer.body))
    return request("POST", "/pair-verify", body=bytes(TLV.encode_list(proof)))


async def test_what_is_sent_in_the_clear_behind_the_proof_is_not_the_controllers(
    served: Served, controller: Controller
) -> None:
    # A device on the path can append to a controller's data.
    aid, iid = controller.switches["Web Server"].on
    items = [{"aid": aid, "iid": iid, "value": True}]
    body = json.dumps({"characteristics": items}).encode()
    async with raw_client(served.address, served.port) as attacker:
        proof = await prove(attacker, controller)
        attacker.writer.write(proof + request("PUT", "/characteristics", body=body))
        assert await attacker.is_closed()
    assert await controller.read("Web Server") is False


async def test_half_a_request_in_the_clear_before_the_keys_is_not_the_controllers(
    served: Served, controller: Controller
) -> None:
    async with raw_client(served.address, served.port) as attacker:
        proof = await prove(attacker, controller)
        attacker.writer.write(proof + b"GET /accessories HTTP/1.1\r\nHost: bridge\r\nX-Ignored: ")
        assert await attacker.is_closed()


# What a controller sends

ITEM = {"aid": 99, "iid": 1}
DEEP = b"[" * 30_000 + b"]" * 30_000


def put(path: str, body: object) -> bytes:
    return request("PUT", path, body=body if isinstance(body, bytes) else json.dumps(body).encode())


def write(**changes: object) -> bytes:
    return put("/characteristics", {"characteristics": [ITEM | changes]})


def read(query: str) -> bytes:
    return request("GET", f"/characteristics?{query}")


REFUSED_TO_CONTROLLERS = {
    "a body over 64 KiB": (put("/characteristics", b"x" * (64 * 1024 + 1)), {413, CLOSED}),
    "over 64 KiB announced": (request("PUT", "/prepare", "Content-Length: 65537"), 413),
    "pairings over 4 KiB": (request("POST", "/pairings", "Content-Length: 4097"), 413),
    "chunks": (request("PUT", "/characteristics", "Transfer-Encoding: chunked"), 411),
    "no HTTP": (b"\0" * 100, 400),
    "unknown path": (request("GET", "/foo"), 404),
    "a camera's path": (request("POST", "/resource", body=b'{"aid":1}'), 404),
    "unknown method": (request("DELETE", "/pairings"), 405),
    "write of nothing": (put("/characteristics", b""), 400),
    "write of no JSON": (put("/characteristics", b"{"), 400),
    "write of no UTF-8": (put("/characteristics", b'{"characteristics":["\xff"]}'), 400),
    "write of deep JSON": (put("/characteristics", DEEP), 400),
    "write of deep items": (put("/characteristics", b'{"characteristics":' + DEEP + b"}"), 400),
    "write of a deep value": (write(value=json.loads(DEEP[29_500:30_500])), {207, 400}),
    "write of 64 KiB of spaces": (put("/characteristics", b" " * 64 * 1024), 400),
    "write of null": (put("/characteristics", None), 400),
    "write of a list": (put("/characteristics", []), 400),
    "write of a number": (put("/characteristics", 1), 400),
    "write without items": (put("/characteristics", {}), 400),
    "write of items in an object": (put("/characteristics", {"characteristics": {}}), 400),
    "write of items that are numbers": (put("/characteristics", {"characteristics": [1]}), 400),
    "write of items that are null": (put("/characteristics", {"characteristics": [None]}), 400),
    "write without IDs": (put("/characteristics", {"characteristics": [{}]}), 400),
    "write to text": (write(aid="99"), 400),
    "write to a fraction": (write(iid=1.5), 400),
    "write to null": (write(aid=None), 400),
    "write to a list": (write(aid=[99]), 400),
    "write to a number over 64 bits": (write(aid=2**64), 400),
    "write of a subscription in text": (write(ev="true"), 207),
    "write of a subscription in another number": (write(ev=2), 207),
    "write of NaN": (put("/characteristics", b'{"characteristics":[{"aid":1,"iid":2,"value":NaN}]}'), 400),
    "write by an ID that is a list": (
        put("/characteristics", {"characteristics": [ITEM], "pid": []}),
        {207, 400},
    ),
    "write by an ID that is an object": (
        put("/characteristics", {"characteristics": [ITEM], "pid": {}}),
        {207, 400},
    ),
    "write by an ID that is null": (
        put("/characteristics", {"characteristics": [ITEM], "pid": None}),
        {207, 400},
    ),
    "write by no prepared ID": (put("/characteristics", {"characteristics": [ITEM], "pid": 7}), 207),
    "write to what is not there": (write(value=1), 207),
    "write to AID -1": (write(aid=-1, value=1), 207),
    "prepare of nothing": (put("/prepare", b""), 400),
    "prepare of no JSON": (put("/prepare", b"}"), 400),
    "prepare of deep JSON": (put("/prepare", DEEP), 400),
    "read without a query": (request("GET", "/characteristics"), 400),
    "read without an ID": (read("id="), 400),
    "read of another parameter": (read("ids=1.1"), 400),
    "read of text": (read("id=abc"), 400),
    "read of three numbers": (read("id=1.2.3"), 400),
    "read of one number": (read("id=1"), 400),
    "read of a negative number": (read("id=-1.2"), 400),
    "read of half an ID": (read("id=1."), 400),
    "read of an empty one": (read("id=1.1,,1.2"), 400),
    "read of other digits": (read("id=%D9%A1.%D9%A1"), 400),
    "read of a number over 64 bits": (read("id=99999999999999999999.1"), 400),
    "read of two lists": (read("id=1.1&id=1.2"), 400),
    "read of many parameters": (read("&".join(["a=1"] * 100) + "&id=1.1"), 400),
    "pairings of nothing": (request("POST", "/pairings", body=b""), 400),
    "pairings of a type and no more": (request("POST", "/pairings", body=b"\0"), 400),
    "pairings without a method": (post("/pairings", M1), 400),
    "pairings with an empty method": (post("/pairings", M1, (METHOD, b"")), 400),
    "pairings with another method": (post("/pairings", M1, (METHOD, b"\x09")), 400),
    "removal of nobody": (post("/pairings", M1, (METHOD, b"\4")), 400),
    "removal of no ID": (post("/pairings", M1, (METHOD, b"\4"), (USERNAME, b"")), 400),
    "removal of a long ID": (post("/pairings", M1, (METHOD, b"\4"), (USERNAME, b"\xff" * 37)), 400),
    "addition of nobody": (post("/pairings", M1, (METHOD, b"\3")), 400),
    "pair-setup": (post("/pair-setup", M1, (METHOD, b"\0")), 200),
    "pair-verify M3 first": (post("/pair-verify", M3, (DATA, b"x" * 80)), 400),
}
"""The request, and the status of the response."""


@pytest.mark.parametrize(("sent", "status"), REFUSED_TO_CONTROLLERS.values(), ids=REFUSED_TO_CONTROLLERS)
async def test_a_controller_that_sends_nonsense_is_refused(
    served: Served, controller: Controller, sent: bytes, status: int | set[int | None]
) -> None:
    said = await say(controller, sent)
    assert said.status in (status if isinstance(status, set) else {status})
    again = controller.again()
    assert await again.read("Web Server") is False
    assert len(served.bridge.controllers()) == 1
    await again.close()


def protocol_of(controller: Controller) -> InsecureHomeKitProtocol:
    """The controller's side of its connection."""
    found = controller.pairing.connection.protocol
    assert found is not None
    return found


async def say(controller: Controller, sent: bytes) -> Said:
    """Send bytes as the controller does, and read one answer."""
    try:
        answer = await protocol_of(controller).send_bytes(sent)
    except AccessoryDisconnectedError:
        return Said(CLOSED)
    return Said(answer.code, bytes(answer.body))


def items_of(said: Said) -> Items:
    """The items of an answer in JSON."""
    found: Items = json.loads(said.body)["characteristics"]
    return found


@pytest.mark.parametrize(
    ("query", "statuses"),
    [
        ("id=99.1", [NO_SUCH]),
        ("id=1.99", [NO_SUCH]),
        ("id=1.1", [NO_SUCH]),  # a service
        ("id=0.0,9999999999999999999.1", [NO_SUCH, NO_SUCH]),
        ("id=1.2", [WRITE_ONLY]),
        ("id=1.2,99.1,1.3", [WRITE_ONLY, NO_SUCH, 0]),
        ("id=" + ",".join(["99.1"] * MOST_CHARACTERISTICS), [NO_SUCH] * MOST_CHARACTERISTICS),
        ("id=99.1,99.1", [NO_SUCH, NO_SUCH]),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_each_id_that_cannot_be_read_has_its_status(
    controller: Controller, query: str, statuses: list[int]
) -> None:
    said = await say(controller, read(query))
    assert said.status == 207
    assert [item["status"] for item in items_of(said)] == statuses


async def test_an_id_that_is_read_twice_has_its_value_twice(controller: Controller) -> None:
    aid, iid = controller.switches["Web Server"].on
    said = await say(controller, read(f"id={aid}.{iid},{aid}.{iid}&meta=1&perms=1&type=1&ev=1"))
    assert said.status == 200
    assert [item["value"] for item in items_of(said)] == [False, False]


ON_CHANGES: dict[str, dict[str, Any]] = {
    "text": {"value": "true"},
    "2": {"value": 2},
    "-1": {"value": -1},
    "a large number": {"value": 2**63},
    "a fraction": {"value": 0.5},
    "a list": {"value": [True]},
    "an object": {"value": {}},
    "nothing": {},
    "null": {"value": None},
}


@pytest.mark.parametrize("change", ON_CHANGES.values(), ids=ON_CHANGES)
async def test_a_value_that_on_cannot_have_changes_nothing(
    served: Served, controller: Controller, change: dict[str, Any]
) -> None:
    aid, iid = controller.switches["Web Server"].on
    said = await say(
        controller, put("/characteristics", {"characteristics": [{"aid": aid, "iid": iid} | change]})
    )
    assert [item["status"] for item in items_of(said)] == [INVALID]
    assert await controller.read("Web Server") is False


@pytest.mark.parametrize(
    "body",
    [[], {}, 1, None, "x", {"ttl": 1}, {"pid": 1}, {"ttl": "1", "pid": 1}, {"ttl": 1, "pid": []}],
    ids=repr,
)  # fmt: skip
async def test_a_malformed_timed_write_is_not_prepared(controller: Controller, body: object) -> None:
    said = await say(controller, put("/prepare", body))
    assert json.loads(said.body) == {"status": INVALID}


@pytest.mark.parametrize("ttl_ms", [0, -1, 0.5])
async def test_a_timed_write_that_was_prepared_for_no_time_is_refused(
    controller: Controller, ttl_ms: float
) -> None:
    aid, iid = controller.switches["Web Server"].on
    await say(controller, put("/prepare", {"ttl": ttl_ms, "pid": 1}))
    await asyncio.sleep(0.001)  # longer than each of them
    items = [{"aid": aid, "iid": iid, "value": True}]
    said = await say(controller, put("/characteristics", {"characteristics": items, "pid": 1}))
    assert [item["status"] for item in items_of(said)] == [INVALID]
    assert await controller.read("Web Server") is False


async def test_a_write_by_what_is_no_prepared_id_is_refused(controller: Controller) -> None:
    aid, iid = controller.switches["Web Server"].on
    items = [{"aid": aid, "iid": iid, "value": True}]
    numbers: list[object] = [7, "5", None, False, 5.5, [], {}]
    for number in numbers:
        assert (await say(controller, put("/prepare", {"ttl": 60_000, "pid": 5}))).status == 200
        said = await say(controller, put("/characteristics", {"characteristics": items, "pid": number}))
        assert (said.status, [item["status"] for item in items_of(said)]) == (207, [INVALID])
    assert await controller.read("Web Server") is False


@pytest.mark.parametrize("taps", [MOST_CHARACTERISTICS, 20_000])
async def test_many_writes_to_a_switch_hold_up_others_for_less_than_a_second(
    served: Served, controller: Controller, other: Controller, taps: int
) -> None:
    aid, iid = controller.switches["Web Server"].on
    items = ",".join(f'{{"aid":{aid},"iid":{iid},"value":{number % 2}}}' for number in range(taps))
    body = f'{{"characteristics":[{items}]}}'
    writing = asyncio.ensure_future(say(controller, put("/characteristics", body.encode())))
    longest_seconds = 0.0
    while not writing.done():
        begun_seconds = time.thread_time()  # what others need of the processor is not the bridge's
        await other.read("Slow Server")
        longest_seconds = max(longest_seconds, time.thread_time() - begun_seconds)
    assert (await writing).status in {204, 207, 400, 413, CLOSED}
    assert longest_seconds < 1


async def test_a_controller_that_wants_its_connection_closed_after_a_write_gets_that(
    controller: Controller,
) -> None:
    protocol = protocol_of(controller)
    body = json.dumps({"characteristics": [ITEM]}).encode()
    said = await say(controller, request("PUT", "/characteristics", "Connection: close", body=body))
    assert said.status == 207
    await eventually(protocol.transport.is_closing)


# Limits


async def test_a_stranger_that_says_nothing_is_cut_off(
    lonely: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "AUTHENTICATION_SECONDS", 0.2)
    async with raw_client(lonely.address, lonely.port) as silent:
        assert await silent.is_closed()


async def test_a_stranger_that_sends_a_byte_at_a_time_gets_no_more_time(
    lonely: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "AUTHENTICATION_SECONDS", 0.2)
    async with raw_client(lonely.address, lonely.port) as slow, asyncio.timeout(5):
        closed = asyncio.ensure_future(slow.is_closed())
        for byte in itertools.cycle(b"a"):
            slow.writer.write(bytes([byte]))
            await asyncio.wait([closed], timeout=0.02)
            if closed.done():
                break


async def test_a_33rd_stranger_costs_the_oldest_of_the_greediest_address(lonely: Served) -> None:
    taken_in = lonely.bridge._driver.http_server._unauthenticated
    await eventually(lambda: len(taken_in) == 0)
    async with raw_client(lonely.address, lonely.port, own_address="127.0.0.2") as first:
        greedy = [raw_client(lonely.address, lonely.port, own_address="127.0.0.3") for _ in range(31)]
        async with Several(greedy) as others:
            await eventually(lambda: len(taken_in) == 32)
            async with raw_client(lonely.address, lonely.port, own_address="127.0.0.4") as last:
                assert await others[0].is_closed()
                for alive in (first, others[1], others[-1], last):
                    assert (await alive.say(request("GET", "/foo"))).status == 404


async def test_strangers_that_come_all_at_once_are_no_more_than_the_limit(lonely: Served) -> None:
    server = lonely.bridge._driver.http_server
    await eventually(lambda: len(server.connections) == 0)
    with ExitStack() as opened:
        for _ in range(BACKLOG):  # before the bridge's turn to accept any
            opened.enter_context(socket.create_connection((lonely.address, lonely.port)))
        await eventually(lambda: len(server.connections) >= sessions.MOST_UNAUTHENTICATED)
        await is_well(lonely)  # it came later than those
        assert len(server.connections) <= sessions.MOST_UNAUTHENTICATED


class Several:
    """Many connections at once."""

    def __init__(self, opened: list[Any]) -> None:
        self._opened = opened

    async def __aenter__(self) -> list[RawClient]:
        return [await one.__aenter__() for one in self._opened]

    async def __aexit__(self, *_: object) -> None:
        for one in self._opened:
            await one.__aexit__(None, None, None)


def connection_of(served: Served, controller: Controller) -> hardening.HapConnection:
    """The bridge's side of a controller's connection."""
    own = protocol_of(controller).transport.get_extra_info("sockname")
    connections = served.bridge._driver.http_server.connections.values()
    (found,) = (each for each in connections if each.transport.get_extra_info("peername") == own)
    return cast("hardening.HapConnection", found)


def with_small_buffers(served: Served, controller: Controller) -> hardening.HapConnection:
    """Make the kernel hold little, so that the bridge must."""
    theirs = protocol_of(controller).transport
    theirs.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    theirs.pause_reading()
    ours = connection_of(served, controller)
    ours.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    return ours


async def test_a_controller_that_subscribes_and_does_not_read_is_cut_off(
    served: Served, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardening, "LARGEST_UNSENT_BYTES", 2_000)
    ours = with_small_buffers(served, controller)
    monkeypatch.setattr(ours.events, "_pace", Pace(0.0, 0.0))
    states = itertools.cycle([True, False])

    def cut_off() -> bool:
        on = next(states)
        for group_id, tile in served.bridge._tiles:
            served.bridge.show(group_id, tile, None, on=on)
        return ours not in served.bridge._driver.http_server.connections.values()

    await eventually(cut_off)


async def test_a_controller_that_asks_and_does_not_read_is_cut_off(
    served: Served, controller: Controller
) -> None:
    ours = with_small_buffers(served, controller)
    largest_bytes = 0

    def cut_off() -> bool:
        nonlocal largest_bytes
        largest_bytes = max(largest_bytes, ours.transport.get_write_buffer_size())
        return ours not in served.bridge._driver.http_server.connections.values()

    asking = asyncio.ensure_future(say(controller, request("GET", "/accessories") * 2_000))
    await eventually(cut_off)
    assert largest_bytes <= hardening.LARGEST_UNSENT_BYTES
    protocol_of(controller).transport.abort()
    assert (await asking).status is CLOSED


async def test_a_controller_that_sends_on_and_on_while_its_write_is_awaited_is_cut_off(
    served: Served, controller: Controller
) -> None:
    ours, theirs = connection_of(served, controller), protocol_of(controller).transport
    theirs.pause_reading()
    aid, iid = controller.switches["Slow Server"].on
    writing = put("/characteristics", {"characteristics": [{"aid": aid, "iid": iid, "value": True}]})
    flood = asyncio.ensure_future(say(controller, writing + request("GET", "/accessories") * 100_000))
    await eventually(lambda: ours.response is not None)
    largest_bytes = 0

    def cut_off() -> bool:
        nonlocal largest_bytes
        largest_bytes = max(largest_bytes, len(ours.conn.trailing_data[0]) + len(_sealed(ours)))
        return bool(ours.transport.is_closing())

    await eventually(cut_off)
    assert 0 < largest_bytes <= hardening.LARGEST_HELD_BYTES + hardening.MOST_AT_ONCE_BYTES
    theirs.abort()
    assert (await flood).status is CLOSED
    await controller.again().until_on_is("Slow Server", on=True)


def _sealed(connection: hardening.HapConnection) -> bytearray:
    """Return the received data of an incomplete frame."""
    assert connection.hap_crypto is not None
    found: bytearray = connection.hap_crypto._crypt_in_buffer
    return found
