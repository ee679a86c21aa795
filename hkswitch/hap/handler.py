"""The requests of one connection.

HAP-python answers some without authentication and logs tracebacks for others.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final, NamedTuple
from urllib.parse import urlparse
from uuid import UUID

import h11
from pyhap import tlv
from pyhap.const import HAP_SERVER_STATUS as STATUS
from pyhap.hap_handler import HAP_TLV_TAGS as TAGS
from pyhap.hap_handler import HAPResponse, HAPServerHandler
from pyhap.util import from_hap_json, to_hap_json

from hkswitch.hap import debug_log
from hkswitch.hap.characteristics import (
    Item,
    parse_items,
    parse_query,
    read_all,
    response_body,
    values_of,
    write_all,
)
from hkswitch.hap.pair_setup import RequestConnection
from hkswitch.hap.pairing_rules import ERROR_UNKNOWN
from hkswitch.hap.pairings import PairingRequests
from hkswitch.hap.state_file import StateUnwritable
from hkswitch.model.printable import printable_line

IN_TLV: Final = {"/pair-setup": b"\1\3\5", "/pair-verify": b"\1\3", "/pairings": b"\1"}
"""The paths whose bodies are TLVs, and the states that their requests may have."""

LONGEST_LOGGED_REASON: Final = 200
"""Characters, in a log line about an invalid request."""

ALLOWED_UNAUTHENTICATED: Final = frozenset({"/pair-setup", "/pair-verify", "/identify"})

_log = logging.getLogger(__name__)


class HttpStatus(NamedTuple):
    """An HTTP status; `HTTPStatus` lacks one of HAP's."""

    value: int
    phrase: str


NOT_VERIFIED: Final = HttpStatus(470, "Connection Authorization Required")
"""The status for a request that needs a verified session."""


class RequestRejected(Exception):
    """A request with an unknown path or method, or one that this connection may not make."""

    def __init__(self, http: HTTPStatus | HttpStatus, status: int) -> None:
        super().__init__(http.phrase)
        self.http = http
        self.status = status


class RequestHandler(PairingRequests):
    """The handler of one connection's requests."""

    HANDLERS: Final = {
        "POST": {
            "/identify": "handle_identify",  # missing in HAP-python
            **{path: name for path, name in HAPServerHandler.HANDLERS["POST"].items() if path in IN_TLV},
        },
        "GET": HAPServerHandler.HANDLERS["GET"],
        "PUT": HAPServerHandler.HANDLERS["PUT"],
    }

    def __init__(self, connection: RequestConnection) -> None:
        super().__init__(connection)
        self.parsed_url: Any = None

    @property
    def client_uuid(self) -> UUID | None:
        """The controller, under HAP-python's name."""
        return self._connection.session.controller

    @client_uuid.setter
    def client_uuid(self, controller: UUID | None) -> None:
        """Store it in the session; HAP-python stores it here."""
        self._connection.session.controller = controller

    @property
    def is_authenticated(self) -> bool:
        """Whether the connection belongs to an authenticated controller that is still paired."""
        return self.is_encrypted and self.client_uuid in self.state.paired_clients

    def dispatch(self, request: h11.Request, body: bytes | None = None) -> HAPResponse:
        """Answer a request. HAP-python decodes it outside its `try`, so any device could cause tracebacks."""
        debug_log.request(self._connection.session, request.method, request.target, body)
        self.response, self.parsed_url = HAPResponse(), None
        try:
            self._handler_of(request, body)()
        except RequestRejected as error:
            self._fail(error.http, error.status, request, error)
        except StateUnwritable as failure:
            _log.error("%s", failure)
            self._answer_with(HTTPStatus.INTERNAL_SERVER_ERROR, STATUS.OUT_OF_RESOURCE)
        except Exception as error:  # noqa: BLE001 -- HAP-python raises almost anything on malformed input
            self._fail(HTTPStatus.BAD_REQUEST, STATUS.INVALID_VALUE_IN_REQUEST, request, error)
        response, self.response = self.response, None
        return response

    def _handler_of(self, request: h11.Request, body: bytes | None) -> Callable[[], None]:
        self.command, self.path = request.method.decode("ascii"), request.target.decode("ascii")
        self.request_body, self.parsed_url = body, urlparse(self.path)
        path = self.parsed_url.path
        if not self._methods:
            raise RequestRejected(HTTPStatus.NOT_FOUND, STATUS.RESOURCE_DOES_NOT_EXIST)
        if path not in self.HANDLERS.get(self.command, {}):
            raise RequestRejected(HTTPStatus.METHOD_NOT_ALLOWED, STATUS.RESOURCE_DOES_NOT_EXIST)
        if path not in ALLOWED_UNAUTHENTICATED and not self.is_authenticated:
            raise RequestRejected(NOT_VERIFIED, STATUS.INSUFFICIENT_PRIVILEGES)
        handler: Callable[[], None] = getattr(self, self.HANDLERS[self.command][path])
        return handler

    @property
    def _methods(self) -> list[str]:
        """The methods that are allowed for the requested path."""
        return [method for method, handlers in self.HANDLERS.items() if self.parsed_url.path in handlers]

    def _fail(
        self, http: HTTPStatus | HttpStatus, status: int, request: h11.Request, error: Exception
    ) -> None:
        what = f"{request.method[:16].decode('ascii')} {request.target[:64].decode('ascii')}"
        why = http.phrase if isinstance(error, RequestRejected) else reason_of(error)
        self._connection.log_warning(f"request rejected with {http.value} ({why}): {what}")
        self._answer_with(http, status)
        if http is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", ", ".join(self._methods))  # RFC 9110, 15.5.6

    def _answer_with(self, http: HTTPStatus | HttpStatus, status: int) -> None:
        self.response = HAPResponse()  # discards what the handler has written so far
        if self.parsed_url is not None and self.parsed_url.path in IN_TLV and http is not NOT_VERIFIED:
            state = _next_state(IN_TLV[self.parsed_url.path], self.request_body)
            self._send_tlv_pairing_response(
                tlv.encode(TAGS.SEQUENCE_NUM, state, TAGS.ERROR_CODE, ERROR_UNKNOWN)
            )
            self.send_response(http)
        else:
            self.send_response_with_status(http, status)

    def handle_identify(self) -> None:
        """Identify the bridge with a log line, while no controller is paired (HAP specification, 6.7.6)."""
        if self.state.paired:
            raise RequestRejected(HTTPStatus.BAD_REQUEST, STATUS.INSUFFICIENT_PRIVILEGES)
        self._connection.log_warning("asked the bridge to identify itself")
        self.send_response(HTTPStatus.NO_CONTENT)

    # Characteristics

    def handle_prepare(self) -> None:
        """Prepare a timed write; HAP-python uses the wall clock and stores any value as a write ID."""
        ok = self._connection.timed_writes.prepare(from_hap_json(self.request_body))
        self._answer_in_json(
            HTTPStatus.OK, {"status": int(STATUS.SUCCESS if ok else STATUS.INVALID_VALUE_IN_REQUEST)}
        )

    def handle_accessories(self) -> None:
        """List all accessories; HAP-python does not record which values it sent."""
        body = self.accessory_handler.get_accessories()
        for path, value in values_of(body):
            self._connection.events.record_listed(path, value)
        self._answer_in_json(HTTPStatus.OK, body)

    def handle_get_characteristics(self) -> None:
        """Read characteristics: each gets a value or a status, unlike in HAP-python."""
        events = self._connection.events
        body, ok = read_all(parse_query(self.parsed_url.query), self.accessory_handler, events.is_subscribed)
        for item in body["characteristics"]:
            events.record_sent((item["aid"], item["iid"]), item.get("value"))
        self._answer_in_json(HTTPStatus.OK if ok else HTTPStatus.MULTI_STATUS, body)

    def _answer_in_json(self, status: HTTPStatus, body: dict[str, Any]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", self.JSON_RESPONSE_TYPE)
        self.end_response(to_hap_json(body))

    def handle_set_characteristics(self) -> None:
        """Begin the writes, and respond when their outcome is known, without blocking other connections.

        HAP-python cancels the response when the controller disconnects; its writes go on.
        """
        request, response = from_hap_json(self.request_body), self.response
        items, events = parse_items(request), self._connection.events
        body: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        response.task = body

        def respond(statuses: list[int]) -> None:
            with suppress(asyncio.InvalidStateError):  # canceled
                body.set_result(self._written(response, items, statuses))

        if not self._connection.timed_writes.may_write(request):
            respond([int(STATUS.INVALID_VALUE_IN_REQUEST)] * len(items))
            return
        try:
            write_all(items, self.client_address, self.accessory_handler, events, respond)
        except Exception as error:  # a defect of ours, which `dispatch` would take for the controller's
            with suppress(asyncio.InvalidStateError):  # it was answered before, or is canceled
                body.set_exception(error)
                return
            raise

    def _written(self, response: HAPResponse, items: tuple[Item, ...], statuses: list[int]) -> bytes:
        """Complete the response to a write, and return its body."""
        for item, status in zip(items, statuses, strict=True):
            if item.value is not None:
                sent = item.value if status == STATUS.SUCCESS else None
                self._connection.events.record_sent((item.aid, item.iid), sent)
        body = response_body(items, statuses)
        http = HTTPStatus.NO_CONTENT if body is None else HTTPStatus.MULTI_STATUS
        response.status_code, response.reason = http.value, http.phrase
        if body is None:
            return b""
        response.headers.append(("Content-Type", self.JSON_RESPONSE_TYPE))
        return bytes(to_hap_json(body))


def _next_state(states: bytes, request_body: Any) -> bytes:  # noqa: ANN401 -- HAP-python's
    """Return the state of the response: M2 if the request has none of `states` or is malformed."""
    try:
        state = tlv.decode(request_body)[TAGS.SEQUENCE_NUM]
    except (ValueError, LookupError, TypeError):
        return b"\x02"
    return bytes([state[0] + 1]) if len(state) == 1 and state in states else b"\x02"


def reason_of(error: Exception) -> str:
    """Describe for the log what is wrong with a request; Python's own messages are mostly for programmers."""
    match error:
        case RecursionError():
            return "nested too deeply"
        case UnicodeError():
            return "not UTF-8"
        case LookupError():
            return "missing field"
        case TypeError() | AttributeError():
            return "field of the wrong type"
    return printable_line(str(error), LONGEST_LOGGED_REASON) or "malformed field"
