"""mDNS on the chosen addresses: probes for the names, announces the service, and finally says goodbye.

zeroconf's own probes ask the wrong question and are too slow, and its announcements come too fast for
RFC 6762. HAP-python neither probes nor cancels pending announcements.
"""

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Collection
from typing import Any, Final

from zeroconf import DNSOutgoing, DNSQuestion, ServiceInfo  # type: ignore[attr-defined] # as in responder.py
from zeroconf.asyncio import AsyncZeroconf

from hkswitch.hap.announcement import MOST_LABEL_BYTES
from hkswitch.hap.conflicts import Conflict, unique_records
from hkswitch.hap.responder import Responder, records_of
from hkswitch.hap.twin import TwinWatch

PROBES: Final = 3
PROBE_SECONDS: Final = 0.25
"""The interval between probes. The delay before the first one is random, up to this (RFC 6762, 8.1)."""

ANNOUNCED_AFTER_SECONDS: Final = (0.0, 1.0, 2.0)
"""The delay before each announcement (RFC 6762, 8.3). Other devices flush a replaced address only if they
received it more than a second ago (10.2), so the last announcement is necessary."""

GOODBYE_AFTER_SECONDS: Final = (0.0, 0.125, 0.125)
"""The delay before each goodbye; the same as zeroconf's."""

MOST_NAMES: Final = 5
"""Names to try; after that, the bridge ignores a device that claims all of them."""

PROBE_NAMES_AGAIN_SECONDS: Final = 1.0
"""The delay before the next round of probes, if another device may have the name or won the tie-break
(RFC 6762, 8.2)."""

POSSIBLE_CONFLICT_SECONDS: Final = 130.0
"""The time limit for probing while a conflict is possible; a router that answers from its cache drops our
address within 120 s."""

CONTESTED_SECONDS: Final = 60.0
"""The time to ignore further claims, so that a device that repeats them cannot silence the bridge."""

CONTESTED_PROBING_SECONDS: Final = 2.0
"""The time limit for probing if the contested name was already ours; after that, the bridge keeps it."""

ANY, IN, QUERY, UNICAST = 255, 1, 0x0000, 0x8000

_log = logging.getLogger(__name__)


class Advertiser(AsyncZeroconf):
    """Probes for the names of one service, announces it three times, and can stop at any time."""

    def __init__(
        self, addresses: list[str], announced: ServiceInfo | None = None, twins: TwinWatch | None = None
    ) -> None:
        """`announced` is the service that an earlier advertiser left announced on the same network."""
        self.announced = announced
        """The service in other devices' caches, even while this one probes for its names again."""
        self._responder = Responder(addresses, twins)
        self._twins = twins
        super().__init__(zc=self._responder)
        self._tasks: set[asyncio.Task[None]] = set()
        self._has_names = False
        self._number = 1
        """The number at the end of the names; 1 means none."""
        self._ignore_claims_until_seconds = 0.0
        self._is_contested = False
        """Whether we are probing for a name that was already ours, because another device claimed it."""

    async def async_register_service(self, info: ServiceInfo, *_: Any, **__: Any) -> Awaitable[Any]:  # noqa: ANN401
        """Start probing for the names of a service; then announce it and answer queries for it."""
        await self._responder.async_check_service(info, False, cooperating_responders=True)  # noqa: FBT003
        self._has_names, self._is_contested, self._ignore_claims_until_seconds = False, False, 0.0
        return self._start(info, _NumberedNames(info, self._number))

    def announce(self, info: ServiceInfo) -> None:
        """Announce a change, which replaces pending announcements."""
        self._start(info, _NumberedNames(info, self._number))

    async def stop_announcing(self) -> None:
        """Cancel pending announcements, and ignore other devices' claims to the names."""
        self._responder.ignore_conflicts()
        task = tuple(self._tasks)
        for each in task:
            each.cancel()
        await asyncio.gather(*task, return_exceptions=True)

    async def async_unregister_service(self, info: ServiceInfo) -> Awaitable[Any]:
        """Say goodbye, if the service was announced."""
        self._responder.registry.async_remove(info)
        announced, self.announced, self._has_names = self.announced, None, False
        _log.debug("mDNS: goodbye for %s", info.name)
        if announced is None:
            nothing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            nothing.set_result(None)
            return nothing
        return await super().async_unregister_service(announced)

    async def say_goodbye(self, info: ServiceInfo, staying: Collection[str] = ()) -> None:
        """Say goodbye if announced, except on the addresses in `staying`, and wait until it is sent."""
        await self.stop_announcing()
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
        """Close all sockets."""
        self._responder.leave_addresses()
        self._responder.close_log()
        await super().async_close()

    def _start(self, info: ServiceInfo, names: "_NumberedNames") -> asyncio.Task[None]:
        for task in self._tasks:
            task.cancel()
        task = asyncio.ensure_future(self._probe_and_announce(info, names))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _probe_and_announce(self, info: ServiceInfo, names: "_NumberedNames") -> None:
        if not self._has_names:
            await self._claim(info, names)
        self._responder.detect_conflicts(info, lambda: self._name_contested(info, names))
        self._responder.own_records.ours = records_of(info)
        self._responder.registry.async_update(info)
        if self._twins is not None:
            self._twins.is_ours(info.name)
        for seconds in ANNOUNCED_AFTER_SECONDS:
            await asyncio.sleep(seconds)
            self.announced = info
            self._responder.async_send(self._responder.generate_service_broadcast(info, None))
            _log.debug("mDNS: announced %s on %s", info.name, ", ".join(info.parsed_addresses()))
        if self._twins is not None:
            await self._twins.watch(self._responder.async_send)

    def _name_contested(self, info: ServiceInfo, names: "_NumberedNames") -> None:
        """Probe again, because another device claims one of our names (RFC 6762, 9)."""
        now_seconds = asyncio.get_running_loop().time()
        if now_seconds < self._ignore_claims_until_seconds:
            return
        self._ignore_claims_until_seconds = now_seconds + CONTESTED_SECONDS
        self._has_names, self.announced = False, None  # a goodbye could remove the other device's record
        self._responder.registry.async_remove(info)
        self._is_contested = True
        self._start(info, names)

    async def _claim(self, info: ServiceInfo, names: "_NumberedNames") -> None:
        """Find names that no other device uses: the original ones, or the same with a number."""
        first, begun = info.name, self._number
        await asyncio.sleep(random.uniform(0, PROBE_SECONDS))  # noqa: S311 -- only to desynchronise devices
        possible_conflict = _PossibleConflict(
            info, CONTESTED_PROBING_SECONDS if self._is_contested else POSSIBLE_CONFLICT_SECONDS
        )
        while (conflict := await self._probe(info)) is not Conflict.NONE:
            if conflict is Conflict.POSSIBLE and await possible_conflict.wait_and_retry():
                continue
            if conflict is Conflict.POSSIBLE and self._is_contested:
                break
            self._is_contested = False
            if self._number >= MOST_NAMES:
                self._number, self._ignore_claims_until_seconds = 1, math.inf
                names.number(self._number)
                _log.warning("another device claims every mDNS name like %s; ignoring it", info.name)
                break
            self._number, self.announced = self._number + 1, None
            names.number(self._number)
        self._has_names, self._is_contested = True, False
        if self._number != begun:
            _log.warning("another device has the mDNS name %s; using %s", first, info.name)

    async def _probe(self, info: ServiceInfo) -> Conflict:
        """Probe for the names, and return the worst conflict found."""
        _log.debug("mDNS: probing for %s", info.name)
        detector = self._responder.detect_conflicts(info)
        for left in reversed(range(PROBES)):
            # A unicast response may reach another program on the port, such as Avahi (RFC 6762, 15.1).
            self._responder.async_send(_probe(info, UNICAST if left else 0))
            await asyncio.sleep(PROBE_SECONDS)
            if detector.conflict is not Conflict.NONE:
                break
        return detector.conflict


class _PossibleConflict:
    """A time limit on probing again while another device may have a name, or may only echo ours."""

    def __init__(self, info: ServiceInfo, most_seconds: float) -> None:
        self._name = info.name
        self._most_seconds = most_seconds
        self._until_seconds: float | None = None

    async def wait_and_retry(self) -> bool:
        """Wait a moment, and return whether to probe again."""
        now_seconds = asyncio.get_running_loop().time()
        if self._until_seconds is None:
            self._until_seconds = now_seconds + self._most_seconds
            _log.info("another device may have the mDNS name %s; probing again", self._name)
        if now_seconds >= self._until_seconds:
            return False
        await asyncio.sleep(PROBE_NAMES_AGAIN_SECONDS)
        return True


class _NumberedNames:
    """The names of a service, with an optional number at the end."""

    def __init__(self, info: ServiceInfo, number: int) -> None:
        self._info = info
        self._instance = info.name.removesuffix(f".{info.type}")
        self._host = str(info.server).removesuffix(".local.")
        self.number(number)

    def number(self, number: int) -> None:
        """Set the number; 1 means none."""
        if number > 1 or self._info.name != f"{self._instance}.{self._info.type}":
            self._info.name = f"{_numbered(self._instance, number)}.{self._info.type}"
            self._info.server = f"{_numbered(self._host, number)}.local."
            self._info.server_key = self._info.server.lower()
            self._info.async_clear_cache()


def _numbered(label: str, number: int) -> str:
    suffix = "" if number == 1 else f"-{number}"
    return label.encode()[: MOST_LABEL_BYTES - len(suffix)].decode(errors="ignore") + suffix


def _probe(info: ServiceInfo, unicast: int) -> DNSOutgoing:
    """Return a probe: a query for the names, with our proposed records (RFC 6762, 8.1 and 8.2)."""
    question = DNSOutgoing(QUERY)
    for name in (info.name, str(info.server)):
        question.add_question(DNSQuestion(name, ANY, IN | unicast))
    for record in unique_records(info):
        question.authorities.append(record)  # type: ignore[arg-type] # it accepts any record
    return question
