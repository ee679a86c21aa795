"""The requests of one connection, answered also where HAP-python would trust anybody or log a traceback."""

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlparse

import h11
from pyhap import tlv
from pyhap.const import HAP_SERVER_STATUS as STATUS
from pyhap.hap_handler import HAP_TLV_TAGS as TAGS
from pyhap.hap_handler import HAPResponse, HAPServerHandler, UnprivilegedRequestException
from pyhap.util import from_hap_json, to_hap_json

from hkswitch.hap.characteristics import Item, parse_items, response_body, write_all
from hkswitch.hap.pair_setup import UNKNOWN, PairSetupRequests
from hkswitch.hap.reads import parse_ids, read_all
from hkswitch.hap.state_file import StateUnwritable

if TYPE_CHECKING:
    from hkswitch.hap.connection import Connection

OPEN_TO_STRANGERS: Final = frozenset({"/pair-setup", "/pair-verify"})
IN_TLV: Final = OPEN_TO_STRANGERS | {"/pairings"}
MOST_TIMED_WRITES: Final = 32
LONGEST_TIMED_WRITE_MS: Final = 60_000

_log = logging.getLogger(__name__)


class NotOffered(Exception):
    """No such path, or not by this method."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class Requests(PairSetupRequests):
    """Answers what comes in on a connection."""

    HANDLERS: Final = {
        method: {
            path: name for path, name in handlers.items() if path != "/resource"
        }  # cameras: we have none
        for method, handlers in HAPServerHandler.HANDLERS.items()
    }

    def __init__(self, connection: "Connection") -> None:
        super().__init__(connection)
        self.parsed_url: Any = None

    @property
    def is_trusted(self) -> bool:
        """Whether this is a controller that has proved who it is, and is still paired."""
        return self.is_encrypted and self.client_uuid in self.state.paired_clients

    def dispatch(self, request: h11.Request, body: bytes | None = None) -> HAPResponse:
        """Answer a request; HAP-python decodes it outside of its try, and logs tracebacks for strangers."""
        self.response, self.parsed_url = HAPResponse(), None
        try:
            self._handler_of(request, body)()
        except NotOffered as error:
            self._fail(error.status, STATUS.RESOURCE_DOES_NOT_EXIST, request, error)
        except UnprivilegedRequestException as error:
            self._fail(HTTPStatus.UNAUTHORIZED, STATUS.INSUFFICIENT_PRIVILEGES, request, error)
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
        if not any(path in handlers for handlers in self.HANDLERS.values()):
            raise NotOffered(HTTPStatus.NOT_FOUND)
        if path not in self.HANDLERS.get(self.command, {}):
            raise NotOffered(HTTPStatus.METHOD_NOT_ALLOWED)
        if path not in OPEN_TO_STRANGERS and not self.is_trusted:
            raise UnprivilegedRequestException
        handler: Callable[[], None] = getattr(self, self.HANDLERS[self.command][path])
        return handler

    def _fail(self, http: HTTPStatus, status: int, request: h11.Request, error: Exception) -> None:
        what = f"{request.method[:16]!r} {request.target[:64]!r}"
        self._connection.complain(f"{what} is answered with {http.value} ({error!r:.200})")
        self._answer_with(http, status)

    def _answer_with(self, http: HTTPStatus, status: int) -> None:
        self.response = HAPResponse()  # what the handler has put into the other counts no more
        if self.parsed_url is not None and self.parsed_url.path in IN_TLV:
            self._send_tlv_pairing_response(tlv.encode(TAGS.SEQUENCE_NUM, b"\x02", TAGS.ERROR_CODE, UNKNOWN))
            self.send_response(http)
        else:
            self.send_response_with_status(http, status)

    # Pair-verify

    def _pair_verify_two(self, tlv_objects: dict[bytes, bytes]) -> None:
        """Say it when a stranger tries; HAP-python would log the keys of all pairings (see logs.py)."""
        was_trusted = self.is_trusted
        super()._pair_verify_two(tlv_objects)
        if not was_trusted and not self.is_trusted:
            self._connection.complain("it is not paired with this bridge (any more)")

    # Characteristics

    def handle_get_characteristics(self) -> None:
        """Read, with a value or a status for each."""
        body, ok = read_all(parse_ids(self.parsed_url.query), self.accessory_handler)
        self.send_response(HTTPStatus.OK if ok else HTTPStatus.MULTI_STATUS)
        self.send_header("Content-Type", self.JSON_RESPONSE_TYPE)
        self.end_response(to_hap_json(body))

    def handle_prepare(self) -> None:
        """Prepare a timed write; HAP-python takes any number of them, for any time."""
        match from_hap_json(self.request_body):
            case {"ttl": int(ttl_ms), "pid": int(pid)} if (
                0 < ttl_ms <= LONGEST_TIMED_WRITE_MS and not isinstance(pid, bool)
            ):
                prepared = self.accessory_handler.prepared_writes.setdefault(self.client_address, {})
                if len(prepared) >= MOST_TIMED_WRITES:
                    prepared.clear()
                prepared[pid] = self.accessory_handler.loop.time() + ttl_ms / 1000
                self.send_response_with_status(HTTPStatus.OK, STATUS.SUCCESS)
            case _:
                self.send_response_with_status(HTTPStatus.OK, STATUS.INVALID_VALUE_IN_REQUEST)

    def handle_set_characteristics(self) -> None:
        """Answer when the outcome is known, and meanwhile let other connections go on."""
        request = from_hap_json(self.request_body)
        items = parse_items(request)
        self.response.task = asyncio.ensure_future(self._write(self.response, request, items))

    async def _write(self, response: HAPResponse, request: dict[str, Any], items: tuple[Item, ...]) -> bytes:
        driver, writer = self.accessory_handler, self.client_address
        if driver.timed_write_is_valid(writer, request):
            statuses = await write_all(items, writer, driver)
        else:
            statuses = [int(STATUS.INVALID_VALUE_IN_REQUEST)] * len(items)
        body = response_body(items, statuses)
        status = HTTPStatus.NO_CONTENT if body is None else HTTPStatus.MULTI_STATUS
        response.status_code, response.reason = status.value, status.phrase
        if body is None:
            return b""
        response.headers.append(("Content-Type", self.JSON_RESPONSE_TYPE))
        return bytes(to_hap_json(body))
