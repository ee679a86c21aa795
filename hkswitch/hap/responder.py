"""zeroconf, kept from what it does with others' packets: it remembers what they say, and raises at some.

A bridge only answers. It asks for nothing, so it needs none of the records of other devices, except while it
probes for its own names.
"""

import asyncio
import errno
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

from zeroconf import (  # type: ignore[attr-defined] # they are not in its __all__
    DNSCache,
    DNSPointer,
    DNSRecord,
    ServiceInfo,
    Zeroconf,
)
from zeroconf._handlers.query_handler import QueryHandler
from zeroconf._handlers.record_manager import RecordManager
from zeroconf._history import QuestionHistory

from hkswitch.hap.conflicts import AnnouncedRecords, ConflictDetector, ip_of, unique_records
from hkswitch.hap.log_limiter import RateLimitedLog

HEADER_BYTES: Final = 12
MOST_QUESTIONS: Final = 100
"""Of a query; 1,400 fit into one packet, and take 25 ms to answer."""

RESPONSE, TRUNCATED = 0x80, 0x02
"""In the third byte of the header (RFC 1035, 4.1.1)."""

PTR, IN, TTL_SECONDS = 12, 1, 4500
SERVICE_TYPES: Final = "_services._dns-sd._udp.local."

_log = logging.getLogger(__name__)


class Responder(Zeroconf):
    """Answers on chosen addresses; a packet that zeroconf cannot take is one line a minute and address."""

    def __init__(self, addresses: list[str]) -> None:
        """The default would be every interface."""
        super().__init__(interfaces=addresses)
        # zeroconf keeps 10,000 records of up to 9 KB, and as many questions with what was known to who asked.
        self.cache = self.own_records = OwnRecords()
        self.question_history = _NoHistory()
        self.query_handler, self.record_manager = QueryHandler(self), RecordManager(self)
        self._addresses = frozenset(map(_without_zone, addresses))
        self._limited_log = RateLimitedLog(_log)
        self._announced = AnnouncedRecords()
        self._conflicts: ConflictDetector | None = None

    async def async_wait_for_start(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
        """Wait until the sockets are there; raises `OSError` if one is not, which zeroconf only logs."""
        await super().async_wait_for_start(*arguments, **options)
        for reader in self.engine.readers:
            listener = reader.transport.get_protocol()
            if not isinstance(listener, _PacketFilter):
                reader.transport.set_protocol(_PacketFilter(listener, self))
        there = {_without_zone(sender.interface_key[0]) for sender in self.engine.senders} & self._addresses
        # Of two addresses of an interface, one is enough, and zeroconf has no socket for the other.
        if missing := {each for each in self._addresses if (":" in each) not in {":" in it for it in there}}:
            raise OSError(errno.EADDRNOTAVAIL, f"no mDNS on {' and '.join(sorted(missing))}")

    async def async_update_interfaces(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
        """Have these addresses instead; raises `OSError`."""
        self.leave_addresses()  # those of before may be gone, and those of now are not there yet
        await super().async_update_interfaces(*arguments, **options)
        assert isinstance(self._interfaces, list)  # noqa: S101 -- a bridge names its addresses
        self._addresses = frozenset(map(_without_zone, map(str, self._interfaces)))
        await self.async_wait_for_start()

    def leave_addresses(self) -> None:
        """Wait for no address any more."""
        self._addresses = frozenset()

    def detect_conflicts(
        self, info: ServiceInfo, tell: Callable[[], None] = lambda: None
    ) -> ConflictDetector:
        """Hear from now on whether others have the names of a service, and of no service before it."""
        self._announced.add(unique_records(info))
        self._conflicts = ConflictDetector(info, self._announced, tell)
        return self._conflicts

    def ignore_conflicts(self) -> None:
        """Whatever others say now is about no name of ours."""
        self._conflicts = None

    def is_relevant(self, data: bytes, sender: str) -> bool:
        """Whether zeroconf has to see a packet: a small query, or what we said ourselves. Hears claims."""
        if len(data) < HEADER_BYTES:
            return False
        if not data[2] & RESPONSE:
            if int.from_bytes(data[4:6]) > MOST_QUESTIONS:
                return False
            if self._conflicts is not None and int.from_bytes(data[8:10]):
                self._conflicts.hear(data, sender)  # it is a probe
            return True
        if self._conflicts is not None:
            self._conflicts.hear(data, sender)
        # By our own words it knows what it must not repeat within a second (RFC 6762, 6). Linux drops what
        # comes from outside with an address of this machine.
        return _without_zone(sender) in self._addresses

    def log_warning(self, sender: str, error: Exception) -> None:
        """Log that a packet could not be taken, once a minute for its sender."""
        self._limited_log.log_warning(sender, f"an mDNS packet was dropped ({error!r:.100})")

    def close_log(self) -> None:
        """End what is still to be logged."""
        self._limited_log.close()


class OwnRecords(DNSCache):
    """The records that this bridge announces, and when they were last on the network. Keeps no others."""

    def __init__(self) -> None:
        super().__init__()
        self.ours: frozenset[DNSRecord] = frozenset()

    def async_add_records(self, entries: Iterable[DNSRecord]) -> bool:
        """Remember those that are ours."""
        return bool(super().async_add_records([entry for entry in entries if entry in self.ours]))


class _NoHistory(QuestionHistory):
    """What others ask counts for those who ask too, and a bridge does not."""

    def add_question_at_time(self, question: Any, now: float, known_answers: set[DNSRecord]) -> None:  # noqa: ANN401
        """Forget it."""


class _PacketFilter(asyncio.DatagramProtocol):
    """Between a socket and zeroconf's listener."""

    def __init__(self, listener: Any, responder: Responder) -> None:  # noqa: ANN401 -- zeroconf exports no type
        self._listener = listener
        self._responder = responder

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        try:
            if self._responder.is_relevant(data, addr[0]):
                self._listener.datagram_received(_whole(data), addr)
        except Exception as error:  # noqa: BLE001 -- what zeroconf raises on malformed input has no end
            self._responder.log_warning(addr[0], error)

    def error_received(self, exc: Exception) -> None:
        self._listener.error_received(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.connection_lost(exc)


def records_of(info: ServiceInfo) -> frozenset[DNSRecord]:
    """What is announced of a service, and answered for it."""
    types = DNSPointer(SERVICE_TYPES, PTR, IN, TTL_SECONDS, info.type)
    addresses = info.get_address_and_nsec_records()
    return frozenset({info.dns_pointer(), info.dns_service(), info.dns_text(), types, *addresses})


def _whole(data: bytes) -> bytes:
    """A query without the mark that more of it follows, for which zeroconf would keep up to 70 MB.

    What follows says only which answers need not be given.
    """
    if not data[2] & TRUNCATED:
        return data
    return data[:2] + bytes([data[2] & ~TRUNCATED]) + data[3:]


def _without_zone(address: str) -> str:
    return str(ip_of(address))
