"""zeroconf without a cache of other devices' records, and protected from packets that make it raise.

A bridge only answers queries. It sends none, so it needs no records of other devices, except to detect
conflicts with its own names.
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
from hkswitch.hap.twin import TwinWatch

HEADER_BYTES: Final = 12
MOST_QUESTIONS: Final = 100
"""Questions in one query; a packet has room for 1,400, which take 25 ms to answer."""

RESPONSE, TRUNCATED = 0x80, 0x02
"""Flags in the third byte of the header (RFC 1035, 4.1.1)."""

PTR, IN, TTL_SECONDS = 12, 1, 4500
SERVICE_TYPES: Final = "_services._dns-sd._udp.local."

_log = logging.getLogger(__name__)


class Responder(Zeroconf):
    """zeroconf on the chosen addresses only.

    It logs packets on which zeroconf fails, once a minute for each sender.
    """

    def __init__(self, addresses: list[str], twins: TwinWatch | None = None) -> None:
        """Use these addresses; zeroconf's default is every interface."""
        super().__init__(interfaces=addresses)
        # zeroconf caches 10,000 records of up to 9 KB, and as many questions with their known answers.
        self.cache = self.own_records = OwnRecords()
        self.question_history = _NoHistory()
        self.query_handler, self.record_manager = QueryHandler(self), RecordManager(self)
        self._addresses = frozenset(map(_without_zone, addresses))
        self._limited_log = RateLimitedLog(_log)
        self._announced = AnnouncedRecords()
        self._conflicts: ConflictDetector | None = None
        self._twins = twins

    async def async_wait_for_start(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
        """Wait until the sockets are open; raises `OSError` if one is missing, which zeroconf only logs."""
        await super().async_wait_for_start(*arguments, **options)
        for reader in self.engine.readers:
            listener = reader.transport.get_protocol()
            if not isinstance(listener, _PacketFilter):
                reader.transport.set_protocol(_PacketFilter(listener, self))
        there = {_without_zone(sender.interface_key[0]) for sender in self.engine.senders} & self._addresses
        # For two addresses of one interface, zeroconf opens only one socket, and that is enough.
        if missing := {each for each in self._addresses if (":" in each) not in {":" in it for it in there}}:
            raise OSError(errno.EADDRNOTAVAIL, f"no mDNS on {' and '.join(sorted(missing))}")

    async def async_update_interfaces(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
        """Use these addresses instead; raises `OSError`."""
        self.leave_addresses()  # the old ones may be gone, and the new ones are not open yet
        await super().async_update_interfaces(*arguments, **options)
        assert isinstance(self._interfaces, list)  # noqa: S101 -- a bridge names its addresses
        self._addresses = frozenset(map(_without_zone, map(str, self._interfaces)))
        await self.async_wait_for_start()

    def leave_addresses(self) -> None:
        """Stop requiring addresses to be available."""
        self._addresses = frozenset()

    def detect_conflicts(
        self, info: ServiceInfo, tell: Callable[[], None] = lambda: None
    ) -> ConflictDetector:
        """Detect conflicts with the names of this service from now on, instead of those of an earlier one."""
        self._announced.add(unique_records(info))
        self._conflicts = ConflictDetector(info, self._announced, tell)
        return self._conflicts

    def ignore_conflicts(self) -> None:
        """Stop detecting conflicts."""
        self._conflicts = None

    def is_relevant(self, data: bytes, sender: str) -> bool:
        """Return whether zeroconf needs a packet: a small query or our own packet. Also detects conflicts."""
        if len(data) < HEADER_BYTES:
            return False
        if not data[2] & RESPONSE:
            if int.from_bytes(data[4:6]) > MOST_QUESTIONS:
                return False
            if self._conflicts is not None and int.from_bytes(data[8:10]):
                self._conflicts.read_packet(data, sender)  # a probe
            return True
        if self._conflicts is not None:
            self._conflicts.read_packet(data, sender)
        if self._twins is not None:
            self._twins.read_packet(data, sender)
        # Our own packets tell zeroconf what not to repeat within a second (RFC 6762, 6). Linux drops packets
        # from the network whose sender is an address of this machine.
        return _without_zone(sender) in self._addresses

    def log_warning(self, sender: str, error: Exception) -> None:
        """Log that a packet was dropped, once a minute for each sender."""
        self._limited_log.log_warning(sender, f"dropped an mDNS packet ({error!r:.100})")

    def close_log(self) -> None:
        """Drop pending log summaries."""
        self._limited_log.close()


class OwnRecords(DNSCache):
    """A cache for the records of this bridge only, with the time when they last appeared on the network."""

    def __init__(self) -> None:
        super().__init__()
        self.ours: frozenset[DNSRecord] = frozenset()

    def async_add_records(self, entries: Iterable[DNSRecord]) -> bool:
        """Add the records that are ours."""
        return bool(super().async_add_records([entry for entry in entries if entry in self.ours]))


class _NoHistory(QuestionHistory):
    """An empty question history: only programs that send queries need one."""

    def add_question_at_time(self, question: Any, now: float, known_answers: set[DNSRecord]) -> None:  # noqa: ANN401
        """Ignore the question."""


class _PacketFilter(asyncio.DatagramProtocol):
    """Filters packets between a socket and zeroconf's listener."""

    def __init__(self, listener: Any, responder: Responder) -> None:  # noqa: ANN401 -- zeroconf exports no type
        self._listener = listener
        self._responder = responder

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        try:
            if self._responder.is_relevant(data, addr[0]):
                self._listener.datagram_received(_without_truncation_flag(data), addr)
        except Exception as error:  # noqa: BLE001 -- zeroconf raises almost anything on malformed input
            self._responder.log_warning(addr[0], error)

    def error_received(self, exc: Exception) -> None:
        self._listener.error_received(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.connection_lost(exc)


def records_of(info: ServiceInfo) -> frozenset[DNSRecord]:
    """Return the records that the bridge announces and answers with."""
    types = DNSPointer(SERVICE_TYPES, PTR, IN, TTL_SECONDS, info.type)
    addresses = info.get_address_and_nsec_records()
    return frozenset({info.dns_pointer(), info.dns_service(), info.dns_text(), types, *addresses})


def _without_truncation_flag(data: bytes) -> bytes:
    """Return a query without the truncation flag, for which zeroconf would buffer up to 70 MB.

    The packets that would follow only list answers to omit.
    """
    if not data[2] & TRUNCATED:
        return data
    return data[:2] + bytes([data[2] & ~TRUNCATED]) + data[3:]


def _without_zone(address: str) -> str:
    return str(ip_of(address))
