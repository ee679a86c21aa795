"""A host with a helper, real or scripted: its observer, and its helper processes."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from hkswitch.backend.helper_host import HelperHost
from hkswitch.backend.helper_transport import SudoTransport
from hkswitch.model.config import parse
from hkswitch.model.group import Group
from hkswitch.model.switch_events import Observed
from hkswitch.model.unit_state import ActiveState, GroupState, LoadState, Sample, UnitState
from hkswitch.protocol.helper import HELPER_PROTOCOL

PATCHED = Path(__file__).with_name("patched_helper.py")

UP = UnitState(LoadState.LOADED, ActiveState.ACTIVE, "running")
DOWN = UnitState(LoadState.LOADED, ActiveState.INACTIVE, "dead")


def ignore() -> None:
    """Ignore that a request was accepted."""


def groups_of(config: str) -> dict[str, Group]:
    """Return the groups of a config by their ids."""
    return {group.id: group for group in parse(config.encode(), "config.yaml").groups}


@dataclass
class Recorder:
    """An observer that records what it is told."""

    groups: Mapping[str, Group]
    last: dict[str, Observed] = field(default_factory=dict)
    changes: list[tuple[str, Observed]] = field(default_factory=list)
    """Observations that differ from the last one of their group, in order."""
    notices: int = 0
    samples: list[tuple[str, Sample]] = field(default_factory=list)

    def observed(self, group_id: str, observed: Observed) -> None:
        if self.last.get(group_id) != observed:
            self.changes.append((group_id, observed))
        self.last[group_id] = observed

    def sampled(self, group_id: str, sample: Sample) -> None:
        self.samples.append((group_id, sample))

    def noticed(self) -> None:
        self.notices += 1

    def state(self, group_id: str) -> GroupState | None:
        """Return the last state; None is unknown."""
        return self._state(group_id, self.last.get(group_id, Observed(None)))

    def states(self, group_id: str) -> list[GroupState | None]:
        """Return the states since `forget`, without repetitions."""
        found: list[GroupState | None] = []
        for told_id, observed in self.changes:
            state = self._state(told_id, observed)
            if told_id == group_id and found[-1:] != [state]:
                found.append(state)
        return found

    def why(self, group_id: str) -> str:
        return self.last[group_id].why

    def forget(self) -> None:
        """Forget the changes, but keep the last observations."""
        self.changes.clear()

    def _state(self, group_id: str, observed: Observed) -> GroupState | None:
        if observed.units is None or group_id not in self.groups:
            return None
        return self.groups[group_id].state(observed.units, observed.probe_result)


@dataclass
class HostSetup:
    """A host whose helper reads `config_file`; `told` is its observer."""

    config_file: Path
    host: HelperHost
    told: Recorder

    @classmethod
    def of(cls, config_file: Path, config: str, command: list[str]) -> "HostSetup":
        """Write the config, and create a host whose helper is `command`; it is not open yet."""
        config_file.write_text(config)
        groups = groups_of(config)
        return cls(config_file, HelperHost(groups.values(), SudoTransport(command)), Recorder(groups))

    async def opened(self) -> "HostSetup":
        await self.host.open(self.told)
        return self

    async def reload(self, config: str) -> None:
        """Replace the file and the groups, like a reload."""
        self.config_file.write_text(config)
        self.told.groups = groups_of(config)
        await self.host.watch(self.told.groups.values())

    def helpers(self) -> list[int]:
        """Return the processes of helpers with this config."""
        return list(helpers_on(self.config_file))

    def signal(self, number: int) -> None:
        """Send a signal to all helpers."""
        for process in self.helpers():
            with suppress(ProcessLookupError):  # it has exited meanwhile
                os.kill(process, number)


def helpers_on(config_file: Path) -> Iterator[int]:
    """Yield the processes of helpers with a config, without the processes that started them."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just exited
            _, program, *others = [*(process / "cmdline").read_bytes().split(b"\0"), b""]
            if program.decode() == str(PATCHED) and bytes(config_file) in others:
                yield int(process.name)


def patched(config_file: Path, **values: object) -> list[str]:
    """Return the argv of a helper with other constants; patched_helper.py documents their names."""
    words = [f"{name}={value!r}" for name, value in values.items()]
    return [sys.executable, str(PATCHED), str(config_file), *words]


SCRIPT = (
    f"PROTOCOL = {HELPER_PROTOCOL}\n"
    """\
import itertools, json, os, sys, time
def say(kind, **fields): print(json.dumps({"type": kind, **fields}), flush=True)
def hello(protocol=PROTOCOL): say("hello", version="1", protocol=protocol)
def asked():
    line = sys.stdin.readline()
    if not line: sys.exit(0)
    return json.loads(line)
def life():
    # Which life of the helper this is, from 1 on.
    number = 1 + sum(name.startswith("life") for name in os.listdir(sys.argv[1]))
    open(f"{sys.argv[1]}/life{number}", "w").close()
    return number
def wait_for(name):
    while not os.path.exists(f"{sys.argv[1]}/{name}"): time.sleep(0.01)
def until(key, answer=True):
    while True:
        message = asked()
        if "action" in message:
            with open(f"{sys.argv[1]}/requests", "a") as file: print(message["action"], file=file)
        if key in message: return message
        if answer and "ping" in message: say("pong", id=message["ping"])
def group(epoch, group, token, *units): say("group", epoch=epoch, group=group, token=token, units=units)
def states(epoch, units=(), probes=()): say("states", epoch=epoch, units=units, probes=probes)
def unit(name, active): return [name, "loaded", active, "running" if active == "active" else "dead"]
def finish(request, *units):
    results = [{"unit": name, "job": job, "detail": ""} for name, job in units]
    say("finished", id=request["id"], units=results, superseded=False)
"""
)
"""The beginning of every scripted helper."""


def scripted(code: str, *arguments: str) -> list[str]:
    """Return the argv of a small program that plays the helper."""
    return [sys.executable, "-c", SCRIPT + code, *arguments]
