"""The delay until a controller gets the event of a unit that systemctl has stopped."""

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

EVENT_TIMEOUT_SECONDS: Final = 15
EVENT_INTERVAL_SECONDS: Final = 1
"""HomeKit allows one event per characteristic in this time, so a bridge delays an earlier one."""


async def stops(
    host: Host, bridge: Bridge, controller: Controller, pauses_seconds: Sequence[float], figures: Figures
) -> None:
    """Measure from the unit being inactive to the event, with a pause after each."""
    async with bus.opened(host) as other:
        for pause_seconds in pauses_seconds:
            assert await controller.write(ONE.name, on=True) == 0
            began_seconds = timestamps.state_changed(host, ONE.units, 0, active=True)
            while not controller.events.empty():  # events of the write
                controller.events.get_nowait()
            await other.stop(ONE.units)
            while await controller.event(ONE.name, within_seconds=EVENT_TIMEOUT_SECONDS):
                pass  # a late event of the start
            received_seconds = time.monotonic()
            entered_seconds = timestamps.state_changed(host, ONE.units, began_seconds, active=False)
            figures.add("event", bridge.who, (received_seconds - entered_seconds) * 1000)
            await asyncio.sleep(EVENT_INTERVAL_SECONDS + pause_seconds)
