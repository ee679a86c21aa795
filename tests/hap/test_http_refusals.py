"""Malformed HTTP and HEAD get the responses of RFC 9110, in plaintext and encrypted."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from hkswitch.backend.simulated import SimulatedHost
from hkswitch.hap.handler import reason_of
from hkswitch.hap.pairing_rules import Step
from tests.hap.conftest import GROUPS, Served
from tests.peer.identity import Identity
from tests.peer.raw_connection import Closed, Message
from tests.peer.raw_controller import RawController, request
from tests.support.inprocess import reset_rate_limits
from tests.support.waiting import PATIENCE_SECONDS

IDENTITY = Identity.of(1)
LARGEST_ANSWER_BYTES = 128

MALFORMED = {
    "nonsense": (b"nonsense\r\n\r\n", 400),
    "no version": (b"GET /accessories\r\n\r\n", 400),
    "no Host": (b"GET /accessories HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
    "two blanks": (b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a NUL": (b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a header without a colon": (b"GET / HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n", 400),
    "a length that is no number": (b"PUT /prepare HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400),
    "two lengths": (
        b"PUT /prepare HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        400,
    ),
    "headers of 17 KiB": (b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 17 * 1024, 431),
    "another encoding": (b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    "a response": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 400),
    "TLS": (bytes.fromhex("16030100c8010000c40303") + bytes(60), 400),
    "a body too large": (b"PUT /prepare HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n", 413),
    "chunks": (b"PUT /prepare HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 411),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    own = await Served.start(tmp_path_factory.mktemp("state"), SimulatedHost(GROUPS[1:2]), GROUPS[1:2])
    raw = await RawController.connect(own.address, own.port, IDENTITY)
    await raw.pair(own.bridge.setup.code)
    raw.close()
    yield own
    await own.stop()


@pytest_asyncio.fixture(params=["in the clear", "encrypted"], loop_scope="module")
async def raw(bridge: Served, request: pytest.FixtureRequest) -> AsyncIterator[RawController]:
    opening = RawController.connect if request.param == "in the clear" else RawController.verified
    found = await opening(bridge.address, bridge.port, IDENTITY)
    yield found
    found.close()


async def heard(raw: RawController) -> list[Message]:
    """Read all messages until the connection is closed."""
    found = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        try:
            while True:
                found.append(await raw.wire.message())
        except Closed:
            return found


@pytest.mark.parametrize(("sent", "status"), MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_request_is_answered_once_and_the_connection_closed(
    raw: RawController, sent: bytes, status: int
) -> None:
    await raw.wire.send(sent)
    [answer] = await heard(raw)
    assert answer.status == status
    assert answer.headers == {"connection": "close", "content-length": "0"}


async def test_what_comes_behind_a_malformed_request_is_not_done_and_not_answered(raw: RawController) -> None:
    await raw.wire.send(b"nonsense\r\n\r\n" * 200 + request("GET", "/nothing") * 20)
    assert [answer.status for answer in await heard(raw)] == [400]


async def test_what_came_before_a_malformed_request_is_answered_first(raw: RawController) -> None:
    await raw.wire.send(request("GET", "/nothing") + b"nonsense\r\n\r\n")
    assert [answer.status for answer in await heard(raw)] == [404, 400]


async def test_a_malformed_request_behind_a_slow_write_is_answered_after_it(bridge: Served) -> None:
    raw = await RawController.verified(bridge.address, bridge.port, IDENTITY)
    [_, accessory] = await raw.accessories()
    iids = [each["iid"] for service in accessory["services"] for each in service["characteristics"]]
    item = {"aid": accessory["aid"], "iid": iids[-1], "value": True}
    body = json.dumps({"characteristics": [item]}).encode()
    await raw.wire.send(request("PUT", "/characteristics", body) + b"nonsense\r\n\r\n")
    assert [answer.status for answer in await heard(raw)] == [204, 400]
    raw.close()


async def test_malformed_requests_of_an_address_are_one_line_in_plain_words(
    bridge: Served, caplog: pytest.LogCaptureFixture
) -> None:
    reset_rate_limits(bridge.bridge._driver.http_server)
    for sent, _ in MALFORMED.values():
        raw = await RawController.connect(bridge.address, bridge.port, IDENTITY)
        await raw.wire.send(sent)
        await heard(raw)
        raw.close()
    lines = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert lines == ["127.0.0.1: malformed HTTP rejected with 400 (illegal request line)"]


async def test_an_answer_to_a_single_byte_is_short(bridge: Served) -> None:
    reader, writer = await asyncio.open_connection(bridge.address, bridge.port)
    writer.write(b"\0")
    assert len(await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)) <= LARGEST_ANSWER_BYTES
    writer.close()


NOT_OFFERED = {
    "HEAD": (b"HEAD /accessories HTTP/1.1\r\nHost: x\r\n\r\n", 405, "GET", b""),
    "HEAD of what may be written too": (
        b"HEAD /characteristics HTTP/1.1\r\nHost: x\r\n\r\n",
        405,
        "GET, PUT",
        b"",
    ),
    "HEAD of pairing": (b"HEAD /pair-setup HTTP/1.1\r\nHost: x\r\n\r\n", 405, "POST", b""),
    "HEAD of nothing": (b"HEAD /nothing HTTP/1.1\r\nHost: x\r\n\r\n", 404, None, b""),
    "an unknown method": (b"FETCH /prepare HTTP/1.1\r\nHost: x\r\n\r\n", 405, "PUT", b'{"status":-70409}'),
    "CONNECT": (b"CONNECT bridge:1 HTTP/1.1\r\nHost: x\r\n\r\n", 404, None, b'{"status":-70409}'),
}


@pytest.mark.parametrize(("sent", "status", "allow", "body"), NOT_OFFERED.values(), ids=NOT_OFFERED)
async def test_a_method_that_a_path_has_not_is_refused_and_the_connection_goes_on(
    raw: RawController, sent: bytes, status: int, allow: str | None, body: bytes
) -> None:
    await raw.wire.send(sent)
    async with asyncio.timeout(PATIENCE_SECONDS):
        answer = await raw.wire.message(to_head=sent.startswith(b"HEAD"))
    assert (answer.status, answer.headers.get("allow"), answer.body) == (status, allow, body)
    assert int(answer.headers["content-length"]) > 0
    assert (await raw.ask("GET", "/nothing")).status == 404


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (
            request("GET", "/accessories"),
            "request rejected with 470 (Connection Authorization Required): GET /accessories",
        ),
        (request("GET", "/nothing"), "request rejected with 404 (Not Found): GET /nothing"),
        (
            request("POST", "/pair-verify"),
            "request rejected with 400 (missing field): POST /pair-verify",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_refusal_is_logged_in_plain_words(
    bridge: Served, caplog: pytest.LogCaptureFixture, sent: bytes, words: str
) -> None:
    reset_rate_limits(bridge.bridge._driver.http_server)
    raw = await RawController.connect(bridge.address, bridge.port, IDENTITY)
    await raw.wire.send(sent)
    await raw.answer()
    raw.close()
    assert f"127.0.0.1: {words}" in [each.getMessage() for each in caplog.records]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError(b"\6"), "missing field"),
        (IndexError("index out of range"), "missing field"),
        (TypeError("'NoneType' object is not subscriptable"), "field of the wrong type"),
        (AttributeError("'list' object has no attribute 'get'"), "field of the wrong type"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "not UTF-8"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (ValueError("one 'id' is needed"), "one 'id' is needed"),
        (ValueError("a\nb\x1b[2J"), "a; b?[2J"),
        (ValueError(), "malformed field"),
        (ValueError("x" * 500), "x" * 200),
    ],
    ids=repr,
)
def test_the_reason_of_a_refusal_has_no_words_of_pythons(error: Exception, words: str) -> None:
    assert reason_of(error) == words


@pytest.mark.parametrize("state", [b"", b"\0", b"\2", b"\1\0"])
def test_a_state_without_a_step_is_refused_in_words(state: bytes) -> None:
    with pytest.raises(ValueError, match=r"^unknown pair-setup state$"):
        Step.of(state)
