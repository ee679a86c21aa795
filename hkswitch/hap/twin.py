"""Detects a second bridge with this one's identity, such as a Homebridge that was started again.

Phones treat the two as one, and lose both in turns. The other one has its own name, so names do not tell: an
hkswitch on another machine finds this one's name in use, and adds a number.
Only a bridge that took over an identity, or was restored, looks for another: no other device has the same.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Final

from zeroconf import (  # type: ignore[attr-defined] # they are not in its __all__
    DNSAddress,
    DNSIncoming,
    DNSOutgoing,
    DNSQuestion,
    DNSText,
)

from hkswitch.hap.announcement import SERVICE_TYPE
from hkswitch.hap.conflicts import ip_of
from hkswitch.model.printable import printable_line

ASK_AGAIN_SECONDS: Final = 60.0
"""The interval between queries while there may be a second bridge."""

ECHO_SECONDS: Final = 130.0
"""The time for which a router may repeat the address of a device that has left; other records, for longer."""

GONE_SECONDS: Final = 200.0
"""After this time without an answer to any query, the second bridge is gone."""

MOST_OWN_NAMES: Final = 16

STOP_HOMEBRIDGE: Final = "stop it in Homebridge"
STOP_HKSWITCH: Final = "stop hkswitch on that machine"

PTR, IN, QUERY = 12, 1, 0x0000

_log = logging.getLogger(__name__)

Send = Callable[[DNSOutgoing], None]


class TwinWatch:
    """What this bridge has heard of a second one with its device ID."""

    def __init__(self, device_id: str, tell: Callable[[], None], stop: str = STOP_HOMEBRIDGE) -> None:
        """`tell` is called when `found` changes, and `stop` says how to stop the other bridge."""
        self._stop = stop
        self._id = f"id={device_id}".encode()
        self._tell = tell
        self._own_names: dict[str, None] = {}
        self._name, self._sender = "", ""
        self._first_seconds = self._last_seconds = 0.0
        self._told_seconds = -math.inf
        self._is_certain = False
        self._suspected = asyncio.Event()

    @property
    def found(self) -> str:
        """The second bridge, its remedy included; empty if there is none."""
        if not self._is_certain:
            return ""
        name = printable_line(self._name.removesuffix(f".{SERVICE_TYPE}"), 100)
        return (
            f"another bridge has the same identity ({name!r} at {self._sender}), and phones confuse the two; "
            f"{self._stop}, and prevent that it starts again"
        )

    def is_ours(self, name: str) -> None:
        """Note a name under which this bridge is announced."""
        self._own_names[name.lower()] = None
        for oldest in list(self._own_names)[:-MOST_OWN_NAMES]:
            del self._own_names[oldest]

    def read_packet(self, data: bytes, sender: str) -> None:
        """Read a response; raises whatever zeroconf raises for a malformed one."""
        if self._id not in data:
            return  # most packets: skip the parsing
        answers = DNSIncoming(data).answers()
        texts = [
            each
            for each in answers
            if isinstance(each, DNSText)
            and self._id in each.text
            and each.key.endswith(f".{SERVICE_TYPE}")
            and each.key not in self._own_names
        ]
        addresses = {each.address for each in answers if isinstance(each, DNSAddress) and each.ttl}
        if addresses and any(each.ttl for each in texts):
            self._seen(texts[0].name, sender, is_direct=ip_of(sender).packed in addresses)
        elif any(not each.ttl for each in texts) and self._suspected.is_set():
            self._forget()

    async def watch(self, send: Send) -> None:
        """Ask for all bridges now, and again while there may be a second one; never returns."""
        send(_query())
        while True:
            await self._suspected.wait()
            await asyncio.sleep(ASK_AGAIN_SECONDS)
            if self._suspected.is_set() and self._now() - self._last_seconds > GONE_SECONDS:
                self._forget()
            if self._suspected.is_set():
                send(_query())

    def _seen(self, name: str, sender: str, *, is_direct: bool) -> None:
        """Note a record. It is certain if its device sent it, or if it is no echo.

        A device that comes and goes all the time is told once in a while.
        """
        now = self._now()
        if not self._suspected.is_set():
            self._first_seconds = now
            self._suspected.set()
        self._name, self._sender, self._last_seconds = name, sender, now
        if self._is_certain or now - self._told_seconds < ASK_AGAIN_SECONDS:
            return
        if is_direct or now - self._first_seconds > ECHO_SECONDS:
            self._is_certain, self._told_seconds = True, now
            _log.warning("%s", self.found)
            self._tell()

    def _forget(self) -> None:
        self._suspected.clear()
        if self._is_certain:
            self._is_certain = False
            _log.info("no other bridge has this one's identity any more")
            self._tell()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _query() -> DNSOutgoing:
    question = DNSOutgoing(QUERY)
    question.add_question(DNSQuestion(SERVICE_TYPE, PTR, IN))
    return question
