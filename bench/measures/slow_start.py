"""The effect of a start that takes 15 seconds on the controller that requests it."""

import asyncio
import time

from bench.bridges import Bridge
from bench.figures import Figures
from bench.switches import ONE, SLOW
from tests.host.machine import Host
from tests.support.controller import Controller


async def starts(host: Host, bridge: Bridge, controller: Controller, rounds: int, figures: Figures) -> None:
    """Measure the response to the write, and to a read behind it on the same connection."""
    for _ in range(rounds):
        began_seconds = time.monotonic()
        writing = asyncio.create_task(controller.write(SLOW.name, on=True))
        reading = asyncio.create_task(controller.read(ONE.name))
        failed = await writing != 0
        figures.add("slow-answer", bridge.who, time.monotonic() - began_seconds)
        figures.add("slow-failed", bridge.who, failed)
        states = {host.show(unit, "ActiveState") for unit in SLOW.units}
        assert states == {"activating"}, f"the slow start is over: {states}"
        await reading
        figures.add("slow-blocked", bridge.who, time.monotonic() - began_seconds)
        host.run("systemctl", "stop", *SLOW.units)
