"""Faults that are injected into a world: most are outages, which end by themselves."""

import asyncio
from dataclasses import dataclass
from typing import Final

from tests.world.random_source import RandomSource
from tests.world.world import World

STOPS_SECONDS: Final = (0.05, 1.0, 6.0, 15.0, 25.0)
"""How long a helper is stopped: after 5 to 10 s the daemon replaces it."""


@dataclass(eq=False)
class FaultInjection:
    """All faults. Each begins at once, and is skipped while the same one lasts."""

    world: World

    @property
    def _chance(self) -> RandomSource:
        return self.world.chance

    def _some_seconds(self, most: float) -> float:
        return self._chance.one_of((0.005, 0.05, 0.3, 1.0, 3.0, most / 2, most)) * self._chance.seconds(
            0.5, 1
        )

    def daemon_reload(self) -> None:
        self.world.note("systemctl daemon-reload")
        self.world.changed_at_seconds = asyncio.get_running_loop().time()
        self.world.machine.systemd.daemon_reload()

    def kill_helper(self) -> None:
        if (helper := self.world.transport.newest) is not None:
            self.world.note("the helper is killed")
            self.world.disturb_all()
            helper.kill()

    def stop_helper(self) -> None:
        helper = self.world.transport.newest
        if helper is None or self.world.outages.has(helper):
            return

        def go_on() -> None:
            if not helper.exited.is_set():
                self.world.note("the helper goes on")
                helper.go_on()

        self.world.note("the helper is stopped")
        self.world.disturb_all()
        helper.stop()
        seconds = self._chance.one_of(STOPS_SECONDS) * self._chance.seconds(0.5, 1)
        self.world.outages.begin(helper, seconds, go_on)
        if self._chance.of_one_in(3):
            self._refuse_helpers(seconds)

    def read_slowly(self) -> None:
        helper = self.world.transport.newest
        if helper is None or self.world.outages.has(helper.output):
            return

        def go_on() -> None:
            if not helper.exited.is_set():
                self.world.note("the daemon reads again")
                helper.output.release()

        self.world.note("the daemon reads nothing")
        self.world.disturb_all()
        helper.output.hold()
        self.world.outages.begin(helper.output, self._some_seconds(6), go_on)

    def lose_bus(self) -> None:
        if self.world.outages.has("bus"):
            return

        def restore() -> None:
            self.world.note("the bus is back")
            self.world.bus_is_back()

        self.world.note("the bus is lost")
        self.world.lose_bus()
        self.world.outages.begin("bus", self._some_seconds(18), restore)

    def hang_bus(self) -> None:
        if self.world.outages.has("systemd"):
            return

        def go_on() -> None:
            self.world.note("systemd answers again")
            self.world.machine.systemd.go_on()

        self.world.note("systemd answers nothing")
        self.world.disturb_all()
        self.world.machine.systemd.hang()
        self.world.outages.begin("systemd", self._some_seconds(18), go_on)

    def reexecute(self) -> None:
        if self.world.outages.has("bus name"):
            return

        def join() -> None:
            self.world.note("systemd is on the bus again")
            self.world.machine.systemd.join_bus()

        self.world.note("systemctl daemon-reexec")
        self.world.leave_bus()
        self.world.outages.begin("bus name", self._chance.seconds(0, 0.3), join)

    def refuse_helper(self) -> None:
        self._refuse_helpers(self._some_seconds(18))
        if (helper := self.world.transport.newest) is not None:
            helper.kill()

    def _refuse_helpers(self, seconds: float) -> None:
        if self.world.outages.has("sudo"):
            return

        def allow() -> None:
            self.world.note("sudo does not refuse any more")
            self.world.transport.refuses = False

        self.world.note("sudo refuses")
        self.world.disturb_all()
        self.world.transport.refuses = True
        self.world.outages.begin("sudo", seconds, allow)

    def break_config(self) -> None:
        if self.world.outages.has("config"):
            return
        self.world.break_config()
        if self._chance.of_one_in(2):
            self.world.reload()
        self.world.outages.begin("config", self._some_seconds(12), self.world.repair_config)

    def remove_unit_file(self) -> None:
        systemd, names = self.world.machine.systemd, self.world.machine.units
        name = self._chance.one_of(names) if names else ""
        if not name or self.world.outages.has(name):
            return
        spec = systemd.files[name]

        def put_back() -> None:
            self.world.note(f"the file of {name} is back")
            systemd.define(name, spec)
            systemd.daemon_reload()

        self.world.note(f"the file of {name} is removed")
        self.world.machine.disturb(name)
        systemd.define(name, None)
        if not systemd.is_up(name) or self._chance.of_one_in(2):
            self.daemon_reload()  # nothing else tells of one that is not loaded
        else:
            # It is forgotten when it stops.
            later, seconds = asyncio.get_running_loop().call_later, self._chance.seconds(0, 2)
            later(seconds, self.world.machine.by_systemctl, systemd.stop, name)
        self.world.outages.begin(name, self._some_seconds(12), put_back)
