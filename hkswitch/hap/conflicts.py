"""Detects conflicts between our mDNS names and other devices' records (RFC 6762, 8.2 and 9). Sends nothing.

Routers and access points repeat packets, and some answer from a cache. So a record that this bridge may have
announced itself is not a conflict.
"""

from collections.abc import Callable, Collection, Iterable
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from zeroconf import (  # type: ignore[attr-defined] # they are not in its __all__
    DNSAddress,
    DNSIncoming,
    DNSRecord,
    DNSService,
    DNSText,
    ServiceInfo,
)

TXT, NSEC, ANY = 16, 47, 255

MOST_ANNOUNCED_RECORDS: Final = 64
"""Announced records to remember. Each version of the TXT record counts as one, and so does each address."""


class Conflict(IntEnum):
    """The certainty of a conflict; the worst packet decides."""

    NONE = 0
    POSSIBLE = 1
    """An echo of ours, a device that has left, or a real conflict, which the next probes will confirm."""
    CERTAIN = 2
    """Another device has one of our names."""


class AnnouncedRecords:
    """The records that this bridge has announced recently."""

    def __init__(self) -> None:
        self._records: dict[DNSRecord, None] = {}

    def __contains__(self, record: object) -> bool:
        return record in self._records

    def add(self, records: Iterable[DNSRecord]) -> None:
        """Add records; over the limit, drop the oldest ones."""
        for record in records:
            self._records.pop(record, None)
            self._records[record] = None
        for oldest in list(self._records)[:-MOST_ANNOUNCED_RECORDS]:
            del self._records[oldest]


class ConflictDetector:
    """A reader of packets that detects conflicts with the names of a service."""

    def __init__(
        self, info: ServiceInfo, announced_records: AnnouncedRecords, tell: Callable[[], None] = lambda: None
    ) -> None:
        """`announced_records` must include those of the service.

        `tell` is called for each certain conflict.
        """
        self._own = unique_records(info)
        self._announced = announced_records
        self._tell = tell
        self._names = {info.key, info.server_key}
        self._host = info.server_key
        self._labels = [_first_label(name) for name in (info.name, str(info.server))]
        self.conflict = Conflict.NONE

    def read_packet(self, data: bytes, sender: str) -> None:
        """Read a packet; raises whatever zeroconf raises for a malformed one."""
        small = data.lower()
        if not any(label in small for label in self._labels):
            return  # most packets: skip the parsing
        message = DNSIncoming(data)
        about_us = [record for record in message.answers() if record.key in self._names]
        if message.is_query():
            conflict = self._judge_probe(message, about_us)
        else:
            conflict = max((self._judge_record(record, sender) for record in about_us), default=Conflict.NONE)
        self.conflict = max(self.conflict, conflict)
        if conflict is Conflict.CERTAIN:
            self._tell()

    def _judge_record(self, record: DNSRecord, sender: str) -> Conflict:
        """Judge a record in a response.

        A record that we announced is not a conflict, no matter which device sends it. Neither is a TXT
        record, because ours changes often. A device that really has a host name answers from the address in
        its record.
        """
        if not record.ttl or record.type in {TXT, NSEC} or record in self._announced:
            return Conflict.NONE
        if isinstance(record, DNSService) and record.server_key == self._host:
            return Conflict.NONE  # maybe ours with an earlier port; the address record decides
        if isinstance(record, DNSAddress) and record.address != ip_of(sender).packed:
            return Conflict.POSSIBLE
        return Conflict.CERTAIN

    def _judge_probe(self, message: DNSIncoming, proposed: Collection[DNSRecord]) -> Conflict:
        """Return whether another device probes for a name at the same time and wins (RFC 6762, 8.2).

        If that device has left, or the probe was an echo of ours, the next round of probes gets no answer.
        """
        for name in {question.key for question in message.questions if question.type == ANY} & self._names:
            theirs = [record for record in proposed if record.key == name]
            ours = [record for record in self._own if record.key == name]
            if any(record not in self._announced for record in theirs) and is_later(theirs, ours):
                return Conflict.POSSIBLE
        return Conflict.NONE


def unique_records(info: ServiceInfo) -> tuple[DNSRecord, ...]:
    """Return the records of a service that no other device may have."""
    return (info.dns_service(), info.dns_text(), *info.dns_addresses())


def is_later(theirs: Iterable[DNSRecord], ours: Iterable[DNSRecord]) -> bool:
    """Return whether their records win the tie-break against ours (RFC 6762, 8.2 and 8.2.1)."""
    return sorted(map(_in_order, theirs)) > sorted(map(_in_order, ours))


def _in_order(record: DNSRecord) -> tuple[int, int, bytes]:
    """Return the sort key of a record: its class, type and uncompressed data."""
    return record.class_, record.type, _data(record)


def _data(record: DNSRecord) -> bytes:
    if isinstance(record, DNSAddress):
        return bytes(record.address)
    if isinstance(record, DNSText):
        return bytes(record.text)
    if isinstance(record, DNSService):
        numbers = (record.priority, record.weight, record.port)
        return b"".join(number.to_bytes(2) for number in numbers) + _written(record.server)
    return b""  # other types are not proposed for such names


def _written(name: str) -> bytes:
    labels = (label.encode() for label in name.removesuffix(".").split("."))
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def _first_label(name: str) -> bytes:
    """Return the first label of a name in wire format and lower case: name compression keeps it intact."""
    return _written(name)[: len(name.partition(".")[0].encode()) + 1].lower()


def ip_of(address: str) -> IPv4Address | IPv6Address:
    """Parse an address without its zone; an IPv4-mapped one becomes IPv4."""
    ip = ip_address(address.partition("%")[0])
    return getattr(ip, "ipv4_mapped", None) or ip
