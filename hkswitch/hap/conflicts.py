"""What others say of our mDNS names, and whether that is a conflict (RFC 6762, 8.2 and 9). Sends nothing.

Routers and access points repeat what they hear, and some answer from what they remember. So a name is not
given up for a record that this bridge may have announced itself.
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
"""Records of ours. Each change of the text is one, and each address."""


class Conflict(IntEnum):
    """What others said of our names; the worst of it counts."""

    NONE = 0
    POSSIBLE = 1
    """What may be an echo of ours, or a device that is not there any more: whoever is there says it again."""
    CERTAIN = 2
    """Another device has one of them."""


class AnnouncedRecords:
    """The records that this bridge said are its own, lately."""

    def __init__(self) -> None:
        self._records: dict[DNSRecord, None] = {}

    def __contains__(self, record: object) -> bool:
        return record in self._records

    def add(self, records: Iterable[DNSRecord]) -> None:
        """Remember these, and forget the oldest ones."""
        for record in records:
            self._records.pop(record, None)
            self._records[record] = None
        for oldest in list(self._records)[:-MOST_ANNOUNCED_RECORDS]:
            del self._records[oldest]


class ConflictDetector:
    """Hears what others say of the names of a service."""

    def __init__(
        self, info: ServiceInfo, announced_records: AnnouncedRecords, tell: Callable[[], None] = lambda: None
    ) -> None:
        """`announced_records` has the records of the service, too; `tell` is called at each claim."""
        self._own = unique_records(info)
        self._announced = announced_records
        self._tell = tell
        self._names = {info.key, info.server_key}
        self._host = info.server_key
        self._labels = [_first_label(name) for name in (info.name, str(info.server))]
        self.heard = Conflict.NONE

    def hear(self, data: bytes, sender: str) -> None:
        """Take a packet; raises what zeroconf raises at malformed ones."""
        small = data.lower()
        if not any(label in small for label in self._labels):
            return  # most packets of a network, which need not be taken apart for that
        message = DNSIncoming(data)
        about_us = [record for record in message.answers() if record.key in self._names]
        if message.is_query():
            heard = self._of_probe(message, about_us)
        else:
            heard = max((self._of_record(record, sender) for record in about_us), default=Conflict.NONE)
        self.heard = max(self.heard, heard)
        if heard is Conflict.CERTAIN:
            self._tell()

    def _of_record(self, record: DNSRecord, sender: str) -> Conflict:
        """What a record of a response means.

        One that says what we say, or said, is no conflict, whoever sends it. Neither is a TXT record: ours
        changes often. A device that has a host name has the address, too, and answers from it.
        """
        if not record.ttl or record.type in {TXT, NSEC} or record in self._announced:
            return Conflict.NONE
        if isinstance(record, DNSService) and record.server_key == self._host:
            return Conflict.NONE  # perhaps with the port of before; whose host it is, its address tells
        if isinstance(record, DNSAddress) and record.address != ip_of(sender).packed:
            return Conflict.POSSIBLE
        return Conflict.CERTAIN

    def _of_probe(self, message: DNSIncoming, proposed: Collection[DNSRecord]) -> Conflict:
        """Whether another device probes for a name at the same time, and wins (RFC 6762, 8.2).

        If it is not there any more, or the probe was one of ours, the next round finds no one.
        """
        for name in {question.key for question in message.questions if question.type == ANY} & self._names:
            theirs = [record for record in proposed if record.key == name]
            ours = [record for record in self._own if record.key == name]
            if any(record not in self._announced for record in theirs) and is_later(theirs, ours):
                return Conflict.POSSIBLE
        return Conflict.NONE


def unique_records(info: ServiceInfo) -> tuple[DNSRecord, ...]:
    """The records of a service that no other device may have."""
    return (info.dns_service(), info.dns_text(), *info.dns_addresses())


def is_later(theirs: Iterable[DNSRecord], ours: Iterable[DNSRecord]) -> bool:
    """Whether their records win against ours of the same name (RFC 6762, 8.2 and 8.2.1)."""
    return sorted(map(_in_order, theirs)) > sorted(map(_in_order, ours))


def _in_order(record: DNSRecord) -> tuple[int, int, bytes]:
    """What is compared of a record: its class, its type and its data, without compression."""
    return record.class_, record.type, _data(record)


def _data(record: DNSRecord) -> bytes:
    if isinstance(record, DNSAddress):
        return bytes(record.address)
    if isinstance(record, DNSText):
        return bytes(record.text)
    if isinstance(record, DNSService):
        numbers = (record.priority, record.weight, record.port)
        return b"".join(number.to_bytes(2) for number in numbers) + _written(record.server)
    return b""  # no device proposes another type for such a name


def _written(name: str) -> bytes:
    labels = (label.encode() for label in name.removesuffix(".").split("."))
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def _first_label(name: str) -> bytes:
    """The label of a name that is in each packet with the name, whatever is compressed, in small letters."""
    return _written(name)[: len(name.partition(".")[0].encode()) + 1].lower()


def ip_of(address: str) -> IPv4Address | IPv6Address:
    """The address without its zone; IPv4 as what it is, also where a socket of both kinds heard it."""
    ip = ip_address(address.partition("%")[0])
    return getattr(ip, "ipv4_mapped", None) or ip
