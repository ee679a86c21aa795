"""A simulated helper on another host, `serviceswitch serve --for`, at the end of a network.

Unlike a local one it hears of its daemon's end only what the network brings, and ends when that is silent.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from hkswitch.model.errors import Failure
from hkswitch.model.unit_state import Action
from hkswitch.protocol.helper import LONGEST_REQUEST_BYTES
from hkswitch.serviceswitch.audit import Decision
from hkswitch.serviceswitch.policy import ALERT
from hkswitch.serviceswitch.requester import REMOTE_SILENCE_SECONDS, each_line
from tests.world.audit_log import AuditLog
from tests.world.helper import Helper
from tests.world.pipes import Broken
from tests.world.random_source import SLOW_SECONDS

if TYPE_CHECKING:
    from tests.world.remote_site import RemoteSite

DECIDED_SECONDS: Final = 10 * SLOW_SECONDS
"""A request that has arrived is decided on by then, even if its bytes came one after the other."""


SLOWER_SECONDS: Final = 30.0
"""As much later if the network was slow, or the helper was stopped."""


@dataclass(eq=False)
class RemoteAudit(AuditLog):
    """The audit of a remote helper: it carries out nothing that was not sent a short time ago."""

    site: "RemoteSite" = field(kw_only=True)

    async def decided(self, action: Action, group_id: str, *, by_rule: bool = False) -> Decision:
        """Note a decision."""
        if action == ALERT:
            self.site.wrongs.append(f"{self.site.name} was asked to run an alert command")
        since_seconds = asyncio.get_running_loop().time() - REMOTE_SILENCE_SECONDS - DECIDED_SECONDS
        if self.site.is_slow_since(since_seconds):
            since_seconds -= SLOWER_SECONDS
        sent = [at for at, *what in self.site.sent if what == [action, group_id] and at >= since_seconds]
        if not sent:
            text = f"{self.site.name} carries out {action} {group_id}, which was not sent within 10 s"
            self.site.wrongs.append(text)
        return await super().decided(action, group_id, by_rule=by_rule)


@dataclass(eq=False)
class RemoteHelper(Helper):
    """One process on another host."""

    site: "RemoteSite" = field(kw_only=True)
    epoch: int = 0
    """What the daemon observes, last; for one that lies."""
    numbers: list[int] = field(default_factory=list)
    """The numbers of the daemon's requests."""

    def __post_init__(self) -> None:
        self._reader = asyncio.StreamReader(LONGEST_REQUEST_BYTES)
        super().__post_init__()
        self.audit = RemoteAudit(self.site.file, self.transport.restarted_by_rule, site=self.site)

    def break_off(self) -> None:
        """The connection was reset: what is on its way is lost."""
        if not self.exited.is_set():
            self.input.cut()
            self.output.cut()
            self._process.context.run(self._end_of_input)

    def lie(self, line: bytes) -> None:
        """Write what the real one would not."""
        with suppress(Broken):
            self.output.send(line)

    def orphan(self) -> None:
        """The daemon's end is closed; the network brings it, behind everything else."""
        self.input.close()
        if self.site.is_heard(0):
            self.output.cut()

    def _delay_seconds(self) -> float:
        return self.site.delay_seconds()

    def _take(self, data: bytes) -> None:
        if not self._reader.at_eof():
            self._reader.feed_data(data)

    def _end_of_input(self) -> None:
        if self.hung_up_at_seconds is None:
            self.hung_up_at_seconds = asyncio.get_running_loop().time()
            self._reader.feed_eof()

    def _sent(self, data: bytes) -> None:
        for line in data.splitlines():
            said = json.loads(line)
            self.epoch = said.get("observe", self.epoch)
            if "id" in said:
                self.numbers.append(said["id"])
            if "action" in said:
                now_seconds = asyncio.get_running_loop().time()
                self.site.sent.append((now_seconds, Action(said["action"]), said["group"]))
        super()._sent(data)

    def _heard(self, data: bytes) -> None:
        self.site.heard_at_seconds = asyncio.get_running_loop().time()
        *lines, self._heard_last = (self._heard_last + data).split(b"\n")
        for line in lines:
            self._note_accepted(line)
        self.session.receive(data)

    def _note_accepted(self, line: bytes) -> None:
        with suppress(ValueError, RecursionError):
            match json.loads(line):
                case {"type": "accepted", "id": int(number)} if number in self.transport.asked:
                    now_seconds = asyncio.get_running_loop().time()
                    self.transport.accepted_at_seconds[self.transport.asked[number]] = now_seconds

    async def _each_line(self) -> AsyncIterator[bytes]:
        try:
            async for line in each_line(
                self._reader, REMOTE_SILENCE_SECONDS, asyncio.get_running_loop().time
            ):
                yield line
        except Failure:
            await self.goes_on.wait()  # one that is stopped sees no timer
            raise
