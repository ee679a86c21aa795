"""How long it takes until a controller hears that somebody else stopped a unit."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from bench import bus, timestamps
from bench.bridges import Bridge
from bench.figures import Figures
from bench.switches import ONE
from tests.host.machine import Host
from tests.support.controller import Controller

HEARD_WITHIN_SECONDS: Final = 15
EVENT_INTERVAL_SECONDS: Final = 1
"""HomeKit allows one event of a characteristic in this time: one that comes sooner is held back."""


async def stops(
    host: Host, bridge: Bridge, controller: Controller, pauses_seconds: Sequence[float], figures: Figures
) -> None:
    """From the unit being inactive to the event; after each there is a pause."""
    async with bus.opened(host) as other:
        for pause_seconds in pauses_seconds:
            assert await controller.write(ONE.name, on=True) == 0
            began_seconds = timestamps.entered(host, ONE.units, 0, active=True)
            while not controller.events.empty():  # of what was written just now
                controller.events.get_nowait()
            await other.stop(ONE.units)
            while await controller.event(ONE.name, within_seconds=HEARD_WITHIN_SECONDS):
                pass  # an older one, of the start
            heard_seconds = time.monotonic()
            entered_seconds = timestamps.entered(host, ONE.units, began_seconds, active=False)
            figures.add("event", bridge.who, (heard_seconds - entered_seconds) * 1000)
            await asyncio.sleep(EVENT_INTERVAL_SECONDS + pause_seconds)
