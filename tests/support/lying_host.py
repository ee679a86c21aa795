"""A daemon with this machine, an honest host and one that lies; scripted helpers stand for all of them."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import thread_time
from typing import Final

from hkswitch.backend.helper_host import HelperHost
from hkswitch.backend.helper_transport import SudoTransport
from hkswitch.backend.hosts import Hosts
from hkswitch.backend.ssh_transport import SshTransport
from hkswitch.model.config import Config, parse
from hkswitch.model.elsewhere import RemoteHost
from hkswitch.model.group import Group
from tests.support.host_with_helper import scripted
from tests.support.waiting import eventually

HONEST: Final = """
words = [word.split("=") for word in sys.argv[2:]]
tokens, active = dict(words), dict.fromkeys(dict(words), "inactive")
hello()
while True:
    message = asked()
    if "observe" in message:
        epoch = message["observe"]
        for name, token in tokens.items():
            say("group", epoch=epoch, group=name, token=token, units=[name + ".service"],
                actions=["start", "stop"], traits=[], timeout_seconds=10)
            states(epoch, [unit(name + ".service", active[name])])
        say("complete", epoch=epoch)
    elif "ping" in message:
        say("pong", id=message["ping"])
    elif "action" in message:
        name = message["group"]
        say("accepted", id=message["id"])
        active[name] = "active" if message["action"] == "start" else "inactive"
        states(epoch, [unit(name + ".service", active[name])])
        finish(message, (name + ".service", "done"))
"""
"""A helper with a group for each argument ID=TOKEN, which does at once what it is asked for."""

LIAR: Final = r"""
def tell(*messages): os.write(1, b"".join(json.dumps(each).encode() + b"\n" for each in messages))
def write(data):
    data = memoryview(data)
    while data: data = data[os.write(1, data):]
def lied(): open(f"{sys.argv[1]}/{LIE}", "w").close()
def forever(block, blocks=10):
    # What a pipe and the daemon take is much less than this.
    for number in itertools.count():
        if number == blocks: lied()
        write(block)
def group_of(name, *units, token="t", **others):
    return {"type": "group", "epoch": EPOCH, "group": name, "token": token, "units": units,
            "actions": ["start", "stop"], "traits": [], "timeout_seconds": 10} | others
def lines(*messages, times=1): return b"".join(json.dumps(each).encode() + b"\n" for each in messages) * times
def states_of(rows=(), probes=(), failures=()):
    return {"type": "states", "epoch": EPOCH, "units": rows, "probes": probes, "failures": failures}
GROUPS = sys.argv[2:]
UNITS = [f"unit-{number}.service" for number in range(128)]
NASTY = "\x1b[31m\x07\u202e\ud800\u2028\x9b2J\r\nEVIL"
COMPLETE = {"type": "complete", "epoch": 0}
def start():
    global EPOCH
    hello()
    EPOCH = COMPLETE["epoch"] = until("observe")["observe"]
def everything(active="active"):
    # Each unit is in every group, so that a short line concerns all of them.
    rows = [unit(name, active) for name in UNITS]
    return lines(*(group_of(name, *UNITS) for name in GROUPS), states_of(rows), COMPLETE)
def honest_for_now():
    start()
    write(everything())
"""
"""What lies are made of."""


ALARMED: Final = ", alert: contact, restart_when: {memory_mib: 1, for_seconds: 30}"


@dataclass
class Lag:
    """How long the event loop works without a turn for others: its own time, not that of other programs."""

    longest_seconds: float = 0.0

    async def measure(self) -> None:
        """Measure until cancelled."""
        while True:
            begun = thread_time()
            await asyncio.sleep(0.001)
            self.longest_seconds = max(self.longest_seconds, thread_time() - begun)


def config_of(liar_groups: int, port: int = 51826) -> Config:
    """Return a config with a local group, an honest host's, and many of the host that lies."""
    lies = "".join(
        f"  lie-{number}: {{host: liar, group: there-{number}{ALARMED if number == 0 else ''}}}\n"
        for number in range(liar_groups)
    )
    text = (
        f"bridge: {{name: Test, port: {port}}}\n"
        "hosts: {good: {ssh: good.lan}, liar: {ssh: liar.lan}}\n"
        "groups:\n  web: {units: [web]}\n  media: {host: good}\n"
    )
    return parse((text + lies).encode(), "config.yaml")


@dataclass
class Household:
    """The hosts of a daemon, in this process."""

    folder: Path
    config: Config
    lies: list[str] = field(default_factory=list)
    """The programs of the liar's successive lives; the last one stays."""
    lives: int = 0

    def hosts(self) -> Hosts:
        """Return the hosts, which are not open yet."""
        groups = self.config.groups
        local = [f"{group.id}={group.token}" for group in groups if group.elsewhere is None]
        command = scripted(HONEST, str(self.folder), *local)
        return Hosts(HelperHost(groups, SudoTransport(command)), groups, self._remote)

    def _remote(self, host: RemoteHost, groups: Collection[Group]) -> HelperHost:
        return HelperHost(groups, SshTransport(host, self._command_for), host)

    def _command_for(self, host: RemoteHost, connect_timeout_seconds: int) -> Sequence[str]:
        del connect_timeout_seconds
        its = [group.elsewhere for group in self.config.groups if group.elsewhere is not None]
        there = [place.group for place in its if place.host == host]
        if host.name == "good":
            return scripted(HONEST, str(self.folder), *(f"{group}=t" for group in there))
        lie = self.lies[min(self.lives, len(self.lies) - 1)]
        self.lives += 1
        return scripted(f"LIE = 'lied-{self.lives}'\n{LIAR}{lie}", str(self.folder), *there)

    def has_lied(self, life: int) -> bool:
        """Tell whether a life of the liar has come to its lie, and far."""
        return (self.folder / f"lied-{life}").exists()

    async def until_lied(self, life: int) -> None:
        await eventually(lambda: self.has_lied(life))

    def kill_liar(self) -> None:
        """End the current life of the liar."""
        for process in Path("/proc/self/task").glob("*/children"):
            for child in process.read_text().split():
                with suppress(OSError):
                    if b"LIE = " in Path(f"/proc/{child}/cmdline").read_bytes():
                        os.kill(int(child), signal.SIGKILL)


@asynccontextmanager
async def measured() -> AsyncIterator[Lag]:
    """Measure the longest stall of the event loop."""
    lag = Lag()
    measuring = asyncio.create_task(lag.measure())
    try:
        yield lag
    finally:
        measuring.cancel()
        await asyncio.gather(measuring, return_exceptions=True)
