"""The requests of one connection, answered also where HAP-python would trust anybody or log a traceback."""

import asyncio
import logging
from collections.abc import Callable
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
from hkswitch.hap.characteristics import Item, parse_items, response_body, write_all
from hkswitch.hap.pair_setup import Connection
from hkswitch.hap.pairings import PairingRequests
from hkswitch.hap.reads import parse_query, read_all, values_of
from hkswitch.hap.refusals import UNKNOWN, reason_of
from hkswitch.hap.state_file import StateUnwritable

IN_TLV: Final = {"/pair-setup": b"\1\3\5", "/pair-verify": b"\1\3", "/pairings": b"\1"}
"""What is asked in TLVs, and the states that its requests may have."""

OPEN_TO_STRANGERS: Final = frozenset({"/pair-setup", "/pair-verify", "/identify"})

_log = logging.getLogger(__name__)


class HttpStatus(NamedTuple):
    """A status of HTTP; `HTTPStatus` lacks one of HAP's."""

    value: int
    phrase: str


NOT_VERIFIED: Final = HttpStatus(470, "Connection Authorization Required")
"""For what needs a session that is verified."""


class NotOffered(Exception):
    """No such path, or not by this method, or not on this connection."""

    def __init__(self, http: HTTPStatus | HttpStatus, status: int) -> None:
        super().__init__(http.phrase)
        self.http = http
        self.status = status


class Requests(PairingRequests):
    """Answers what comes in on a connection."""

    HANDLERS: Final = {
        "POST": {
            "/identify": "handle_identify",  # HAP-python has none
            **{path: name for path, name in HAPServerHandler.HANDLERS["POST"].items() if path in IN_TLV},
        },
        "GET": HAPServerHandler.HANDLERS["GET"],
        "PUT": HAPServerHandler.HANDLERS["PUT"],
    }

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.parsed_url: Any = None

    @property
    def client_uuid(self) -> UUID | None:
        """The controller; HAP-python's name."""
        return self._connection.session.controller

    @client_uuid.setter
    def client_uuid(self, controller: UUID | None) -> None:
        """Have the session know it; HAP-python keeps it here."""
        self._connection.session.controller = controller

    @property
    def is_trusted(self) -> bool:
        """Whether this is a controller that has proved who it is, and is still paired."""
        return self.is_encrypted and self.client_uuid in self.state.paired_clients

    def dispatch(self, request: h11.Request, body: bytes | None = None) -> HAPResponse:
        """Answer a request; HAP-python decodes it outside of its try, and logs tracebacks for strangers."""
        debug_log.request(self._connection.session, request.method, request.target, body)
        self.response, self.parsed_url = HAPResponse(), None
        try:
            self._handler_of(request, body)()
        except NotOffered as error:
            self._fail(error.http, error.status, request, error)
        except StateUnwritable as failure:
            _log.error("%s", failure)
            self._answer_with(HTTPStatus.INTERNAL_SERVER_ERROR, STATUS.OUT_OF_RESOURCE)
        except Exception as error:  # noqa: BLE001 -- what HAP-python raises on malformed input has no end
            self._fail(HTTPStatus.BAD_REQUEST, STATUS.INVALID_VALUE_IN_REQUEST, request, error)
        response, self.response = self.response, None
        return response

    def _handler_of(self, request: h11.Request, body: bytes | None) -> Callable[[], None]:
        self.command, self.path = request.method.decode("ascii"), request.target.decode("ascii")
        self.request_body, self.parsed_url = body, urlparse(self.path)
        path = self.parsed_url.path
        if not self._methods:
            raise NotOffered(HTTPStatus.NOT_FOUND, STATUS.RESOURCE_DOES_NOT_EXIST)
        if path not in self.HANDLERS.get(self.command, {}):
            raise NotOffered(HTTPStatus.METHOD_NOT_ALLOWED, STATUS.RESOURCE_DOES_NOT_EXIST)
        if path not in OPEN_TO_STRANGERS and not self.is_trusted:
            raise NotOffered(NOT_VERIFIED, STATUS.INSUFFICIENT_PRIVILEGES)
        handler: Callable[[], None] = getattr(self, self.HANDLERS[self.command][path])
        return handler

    @property
    def _methods(self) -> list[str]:
        """Those that the path of the request has."""
        return [method for method, handlers in self.HANDLERS.items() if self.parsed_url.path in handlers]

    def _fail(
        self, http: HTTPStatus | HttpStatus, status: int, request: h11.Request, error: Exception
    ) -> None:
        what = f"{request.method[:16].decode('ascii')} {request.target[:64].decode('ascii')}"
        why = http.phrase if isinstance(error, NotOffered) else reason_of(error)
        self._connection.complain(f"a request is answered with {http.value} ({why}): {what}")
        self._answer_with(http, status)
        if http is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", ", ".join(self._methods))  # RFC 9110, 15.5.6

    def _answer_with(self, http: HTTPStatus | HttpStatus, status: int) -> None:
        self.response = HAPResponse()  # what the handler has put into the other counts no more
        if self.parsed_url is not None and self.parsed_url.path in IN_TLV and http is not NOT_VERIFIED:
            state = _next_state(IN_TLV[self.parsed_url.path], self.request_body)
            self._send_tlv_pairing_response(tlv.encode(TAGS.SEQUENCE_NUM, state, TAGS.ERROR_CODE, UNKNOWN))
            self.send_response(http)
        else:
            self.send_response_with_status(http, status)

    def handle_identify(self) -> None:
        """Say which bridge this is, while nobody is paired (HAP specification, 6.7.6): a line in the log."""
        if self.state.paired:
            raise NotOffered(HTTPStatus.BAD_REQUEST, STATUS.INSUFFICIENT_PRIVILEGES)
        self._connection.complain("it asks the bridge to identify itself")
        self.send_response(HTTPStatus.NO_CONTENT)

    # Characteristics

    def handle_prepare(self) -> None:
        """Prepare a timed write (see timed_writes.py for what HAP-python does)."""
        ok = self._connection.timed_writes.prepare(from_hap_json(self.request_body))
        self._answer_in_json(
            HTTPStatus.OK, {"status": int(STATUS.SUCCESS if ok else STATUS.INVALID_VALUE_IN_REQUEST)}
        )

    def handle_accessories(self) -> None:
        """All accessories; HAP-python does not remember which values it told."""
        body = self.accessory_handler.get_accessories()
        for path, value in values_of(body):
            self._connection.events.listed(path, value)
        self._answer_in_json(HTTPStatus.OK, body)

    def handle_get_characteristics(self) -> None:
        """Read, with a value or a status for each (see reads.py for what HAP-python does)."""
        events = self._connection.events
        body, ok = read_all(parse_query(self.parsed_url.query), self.accessory_handler, events.is_subscribed)
        for item in body["characteristics"]:
            events.told((item["aid"], item["iid"]), item.get("value"))
        self._answer_in_json(HTTPStatus.OK if ok else HTTPStatus.MULTI_STATUS, body)

    def _answer_in_json(self, status: HTTPStatus, body: dict[str, Any]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", self.JSON_RESPONSE_TYPE)
        self.end_response(to_hap_json(body))

    def handle_set_characteristics(self) -> None:
        """Answer when the outcome is known, and meanwhile let other connections go on.

        HAP-python cancels the response when the controller is gone; what that wrote is done all the same.
        """
        request = from_hap_json(self.request_body)
        items = parse_items(request)
        self.response.task = asyncio.shield(self._write(self.response, request, items))

    async def _write(self, response: HAPResponse, request: dict[str, Any], items: tuple[Item, ...]) -> bytes:
        driver, writer, events = self.accessory_handler, self.client_address, self._connection.events
        if self._connection.timed_writes.may_write(request):
            statuses = await write_all(items, writer, driver, events)
        else:
            statuses = [int(STATUS.INVALID_VALUE_IN_REQUEST)] * len(items)
        for item, status in zip(items, statuses, strict=True):
            if item.value is not None:
                events.told((item.aid, item.iid), item.value if status == STATUS.SUCCESS else None)
        body = response_body(items, statuses)
        status = HTTPStatus.NO_CONTENT if body is None else HTTPStatus.MULTI_STATUS
        response.status_code, response.reason = status.value, status.phrase
        if body is None:
            return b""
        response.headers.append(("Content-Type", self.JSON_RESPONSE_TYPE))
        return bytes(to_hap_json(body))


def _next_state(states: bytes, request_body: Any) -> bytes:  # noqa: ANN401 -- HAP-python's
    """The state of the answer to a request, also a malformed one: M2 where that has no state of these."""
    try:
        state = tlv.decode(request_body)[TAGS.SEQUENCE_NUM]
    except (ValueError, LookupError, TypeError):
        return b"\x02"
    return bytes([state[0] + 1]) if len(state) == 1 and state in states else b"\x02"
