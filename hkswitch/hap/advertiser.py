"""mDNS on chosen addresses: names that are probed for, announcements in time, and a goodbye as the last word.

zeroconf's own probes are by another question and too slow, and its announcements are too fast for RFC 6762;
HAP-python leaves the probes out, and forgets what it still announces.
"""

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Collection
from typing import Any, Final

from zeroconf import DNSOutgoing, DNSQuestion, ServiceInfo  # type: ignore[attr-defined] # as in responder.py
from zeroconf.asyncio import AsyncZeroconf

from hkswitch.hap.claims import Heard, unique_records
from hkswitch.hap.responder import Responder, records_of

PROBES: Final = 3
PROBE_SECONDS: Final = 0.25
"""Between two probes, and at most before the first (RFC 6762, 8.1)."""

ANNOUNCED_AFTER_SECONDS: Final = (0.0, 1.0, 2.0)
"""Before each announcement (RFC 6762, 8.3). Others forget an address that is replaced only if they heard of
it a second ago (10.2), so the last one counts for them."""

GOODBYE_AFTER_SECONDS: Final = (0.0, 0.125, 0.125)
"""Before each goodbye, as zeroconf has it for all of its sockets."""

MOST_NAMES: Final = 5
"""What is tried; after that, whoever has all of them is believed no more."""

AGAIN_AFTER_SECONDS: Final = 1.0
"""When there is doubt whether another device has a name, or just a probe that wins (RFC 6762, 8.2)."""

DOUBT_SECONDS: Final = 130.0
"""How long there may be doubt; a router that answers for us from memory forgets our address in 120 s."""

CONTESTED_SECONDS: Final = 60.0
"""How long a name is kept whoever claims it, so that a device that goes on and on does not silence us."""

CONTESTED_DOUBT_SECONDS: Final = 2.0
"""How long there may be doubt about a name that is ours; then it stays ours."""

LONGEST_LABEL_BYTES: Final = 63

ANY, IN, QUERY, UNICAST = 255, 1, 0x0000, 0x8000

_log = logging.getLogger(__name__)


class Advertiser(AsyncZeroconf):
    """Announces a service some times in a row, as mDNS does it, and can end that."""

    def __init__(self, addresses: list[str], announced: ServiceInfo | None = None) -> None:
        """`announced` is what another one has announced there, and did not take back."""
        self.announced = announced
        """What others believe of this bridge, also while its names are probed for again."""
        self._responder = Responder(addresses)
        super().__init__(zc=self._responder)
        self._saying: set[asyncio.Task[None]] = set()
        self._has_names = False
        self._number = 1
        """Which of the service's names, the first one or one with a number, is ours."""
        self._deaf_until_seconds = 0.0
        self._is_contested = False
        """Whether the name was ours, and is probed for because another device claimed it."""

    async def async_register_service(self, info: ServiceInfo, *_: Any, **__: Any) -> Awaitable[Any]:  # noqa: ANN401
        """Begin to probe for the names of a service, to announce it then, and to answer for it."""
        await self._responder.async_check_service(info, False, cooperating_responders=True)  # noqa: FBT003
        self._has_names, self._is_contested, self._deaf_until_seconds = False, False, 0.0
        return self._begin(info, _Names(info, self._number))

    def announce(self, info: ServiceInfo) -> None:
        """Announce what has changed, instead of what was still being announced."""
        self._begin(info, _Names(info, self._number))

    async def be_silent(self) -> None:
        """End what is still being announced, and let others have the names."""
        self._responder.hear_no_claims()
        saying = tuple(self._saying)
        for each in saying:
            each.cancel()
        await asyncio.gather(*saying, return_exceptions=True)

    async def async_unregister_service(self, info: ServiceInfo) -> Awaitable[Any]:
        """Say goodbye, if it was announced."""
        self._responder.registry.async_remove(info)
        announced, self.announced, self._has_names = self.announced, None, False
        _log.debug("mDNS: goodbye for %s", info.name)
        if announced is None:
            nothing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            nothing.set_result(None)
            return nothing
        return await super().async_unregister_service(announced)

    async def say_goodbye(self, info: ServiceInfo, staying: Collection[str] = ()) -> None:
        """Say goodbye, if it was announced, and wait until it is said; but not by the addresses that stay."""
        await self.be_silent()
        if not staying:
            await (await self.async_unregister_service(info))
            return
        self._has_names = False
        self._responder.registry.async_remove(info)
        stay = {address.partition("%")[0] for address in staying}
        leaving = [each for each in self._responder.engine.senders if each.interface_key[0] not in stay]
        if not leaving or self.announced is None:
            return
        for seconds in GOODBYE_AFTER_SECONDS:
            await asyncio.sleep(seconds)
            for sender in leaving:
                goodbye = self._responder.generate_service_broadcast(self.announced, 0)
                self._responder.async_send(goodbye, transport=sender)

    async def async_close(self) -> None:
        """Close the sockets that there are."""
        self._responder.leave_addresses()
        self._responder.complain_no_more()
        await super().async_close()

    def _begin(self, info: ServiceInfo, names: "_Names") -> asyncio.Task[None]:
        for saying in self._saying:
            saying.cancel()
        saying = asyncio.ensure_future(self._say(info, names))
        self._saying.add(saying)
        saying.add_done_callback(self._saying.discard)
        return saying

    async def _say(self, info: ServiceInfo, names: "_Names") -> None:
        if not self._has_names:
            await self._claim(info, names)
        self._responder.hear_claims(info, lambda: self._contested(info, names))
        self._responder.own_records.ours = records_of(info)
        self._responder.registry.async_update(info)
        for seconds in ANNOUNCED_AFTER_SECONDS:
            await asyncio.sleep(seconds)
            self.announced = info
            self._responder.async_send(self._responder.generate_service_broadcast(info, None))
            _log.debug("mDNS: announced %s on %s", info.name, ", ".join(info.parsed_addresses()))

    def _contested(self, info: ServiceInfo, names: "_Names") -> None:
        """Another device claims a name of ours: probe for it, to find out who keeps it (RFC 6762, 9)."""
        now_seconds = asyncio.get_running_loop().time()
        if now_seconds < self._deaf_until_seconds:
            return
        self._deaf_until_seconds = now_seconds + CONTESTED_SECONDS
        self._has_names, self.announced = False, None  # a goodbye could be to what another one has
        self._responder.registry.async_remove(info)
        self._is_contested = True
        self._begin(info, names)

    async def _claim(self, info: ServiceInfo, names: "_Names") -> None:
        """Find names that no other device has: the first, or one with a number."""
        first, begun = info.name, self._number
        await asyncio.sleep(random.uniform(0, PROBE_SECONDS))  # noqa: S311 -- to be not in step with others
        doubts = _Doubts(info, CONTESTED_DOUBT_SECONDS if self._is_contested else DOUBT_SECONDS)
        while (heard := await self._probe(info)) is not Heard.NOTHING:
            if heard is Heard.DOUBT and await doubts.may_be_over():
                continue
            if heard is Heard.DOUBT and self._is_contested:
                break
            self._is_contested = False
            if self._number >= MOST_NAMES:
                self._number, self._deaf_until_seconds = 1, math.inf
                names.number(self._number)
                _log.warning("another device answers on mDNS for every name like %s", info.name)
                break
            self._number, self.announced = self._number + 1, None
            names.number(self._number)
        self._has_names, self._is_contested = True, False
        if self._number != begun:
            _log.warning("another device has the mDNS name %s; using %s", first, info.name)

    async def _probe(self, info: ServiceInfo) -> Heard:
        """Ask whether another device has the names, and wait for the answer."""
        _log.debug("mDNS: probing for %s", info.name)
        claims = self._responder.hear_claims(info)
        for left in reversed(range(PROBES)):
            # A unicast answer may go to another program that has the port, such as Avahi (RFC 6762, 15.1).
            self._responder.async_send(_probe(info, UNICAST if left else 0))
            await asyncio.sleep(PROBE_SECONDS)
            if claims.heard is not Heard.NOTHING:
                break
        return claims.heard


class _Doubts:
    """How long it is not known whether another device has a name, or had it, or all of it is an echo."""

    def __init__(self, info: ServiceInfo, most_seconds: float) -> None:
        self._name = info.name
        self._most_seconds = most_seconds
        self._until_seconds: float | None = None

    async def may_be_over(self) -> bool:
        """Wait for a moment, and tell whether it is worth another look."""
        now_seconds = asyncio.get_running_loop().time()
        if self._until_seconds is None:
            self._until_seconds = now_seconds + self._most_seconds
            _log.info("another device may have the mDNS name %s; probing again", self._name)
        if now_seconds >= self._until_seconds:
            return False
        await asyncio.sleep(AGAIN_AFTER_SECONDS)
        return True


class _Names:
    """The names of a service, which can get a number."""

    def __init__(self, info: ServiceInfo, number: int) -> None:
        self._info = info
        self._instance = info.name.removesuffix(f".{info.type}")
        self._host = str(info.server).removesuffix(".local.")
        self.number(number)

    def number(self, number: int) -> None:
        """Have this number; 1 is none."""
        if number > 1 or self._info.name != f"{self._instance}.{self._info.type}":
            self._info.name = f"{_numbered(self._instance, number)}.{self._info.type}"
            self._info.server = f"{_numbered(self._host, number)}.local."
            self._info.server_key = self._info.server.lower()
            self._info.async_clear_cache()


def _numbered(label: str, number: int) -> str:
    suffix = "" if number == 1 else f"-{number}"
    return label.encode()[: LONGEST_LABEL_BYTES - len(suffix)].decode(errors="ignore") + suffix


def _probe(info: ServiceInfo, unicast: int) -> DNSOutgoing:
    """The question who has the names, with what we would say of them (RFC 6762, 8.1 and 8.2)."""
    question = DNSOutgoing(QUERY)
    for name in (info.name, str(info.server)):
        question.add_question(DNSQuestion(name, ANY, IN | unicast))
    for record in unique_records(info):
        question.authorities.append(record)  # type: ignore[arg-type] # it writes any record
    return question
