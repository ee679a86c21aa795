"""The states of groups with `assume_state`: the last action that succeeded, kept over restarts.

`AssumingHost` is a host whose other groups stay as they are. It starts nothing and asks nobody: what happens
to such a group without hkswitch cannot be known.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

from hkswitch.backend import Host, Observer
from hkswitch.hap import state_file
from hkswitch.model import config_values
from hkswitch.model.config_file import read_regular
from hkswitch.model.group import Group
from hkswitch.model.switch_events import Observed, RequestOrigin
from hkswitch.model.unit_state import Action, ActionResult, ProbeResult, Sample
from hkswitch.model.yaml_nodes import Position, Scalar

FILE_NAME: Final = "assumed.json"
LARGEST_BYTES: Final = 64 * 1024
WRITE_AGAIN_SECONDS: Final = 60.0

_log = logging.getLogger(__name__)


Meaning = str
"""A digest of a group's commands: with other commands, its state stands for something else."""


class AssumedStates:
    """The groups that are assumed to be on, in a file of the state folder."""

    def __init__(self, folder: Path) -> None:
        """Read the file; without one, or if it is damaged, all groups are assumed to be off."""
        self._path = folder / FILE_NAME
        self._on = _read(self._path)
        self._on_disk: Mapping[str, Meaning] | None = self._on
        self._again: asyncio.TimerHandle | None = None

    def is_on(self, group_id: str) -> bool:
        """Return whether a group is assumed to be on."""
        return group_id in self._on

    def set(self, group_id: str, meaning: Meaning, *, on: bool) -> None:
        """Assume a state from now on."""
        others = {each: its for each, its in self._on.items() if each != group_id}
        self._on = others | {group_id: meaning} if on else others
        self._write()

    def keep(self, meanings: Mapping[str, Meaning]) -> None:
        """Forget the states of all groups but these; a group that changed is assumed to be off."""
        self._on = {each: its for each, its in self._on.items() if meanings.get(each) == its}
        self._write()

    def _write(self) -> None:
        """Write what differs from the disk; after a failure, again in a minute."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._on == self._on_disk:
            return
        try:
            _write(self._path, self._on)
        except OSError as error:
            _log.error("cannot write %s: %s", self._path, error.strerror or error)
            self._on_disk = None
            with suppress(OSError):  # off is safer than a wrong on, after a restart
                self._path.unlink()
            self._again = asyncio.get_running_loop().call_later(WRITE_AGAIN_SECONDS, self._write)
        else:
            self._on_disk = self._on


def carry_over(folder: Path, groups: Collection[str], on: Mapping[str, Meaning]) -> None:
    """Of these groups, assume those `on` to be on, and all others to be off. Raises `OSError`.

    No daemon may use the folder meanwhile.
    """
    before = _read(folder / FILE_NAME)
    after = {each: its for each, its in before.items() if each not in groups} | {**on}
    if after != before:
        _write(folder / FILE_NAME, after)


def _write(path: Path, on: Mapping[str, Meaning]) -> None:
    state_file.write_whole(path, json.dumps({"version": 1, "on": on}).encode())


def _read(path: Path) -> Mapping[str, Meaning]:
    try:
        return parse_assumed(read_regular(path, LARGEST_BYTES))
    except FileNotFoundError:
        return {}
    except OSError as error:
        _log.error("cannot read %s: %s", path, error.strerror or error)
    except ValueError:
        _log.error("%s is damaged; its groups are assumed to be off", path)
    return {}


def parse_assumed(contents: bytes) -> Mapping[str, Meaning]:
    """Return the groups that are assumed to be on; raises `ValueError`."""
    if len(contents) >= LARGEST_BYTES:  # the rest may not have been read
        raise ValueError("too large")
    try:
        match json.loads(contents):
            case {"version": 1, "on": dict(ids)} if all(isinstance(each, str) for each in ids.values()):
                # TRUST: root prints the ids when it restores what the daemon's user wrote.
                return {_group_id(each): ids[each] for each in ids}
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    raise ValueError("unexpected contents")


def _group_id(text: str) -> str:
    return config_values.group_id(Scalar(Position(1, 1), text, is_text=True))


class AssumingHost:
    """A host that reports the assumed states for groups which cannot tell their own."""

    def __init__(self, host: Host, groups: Collection[Group], assumed: AssumedStates) -> None:
        self._host = host
        self._assumed = assumed
        self._concerned = _concerned(groups)
        """The groups whose state is assumed, with their meanings."""
        self._observer: Observer | None = None
        self._last: dict[str, Observed] = {}
        """What the host last reported of these groups."""

    async def open(self, observer: Observer) -> None:
        """Start observing, as the host does."""
        self._observer = observer
        self._assumed.keep(self._concerned)
        await self._host.open(self)

    async def request(
        self, action: Action, group_id: str, accepted: Callable[[], None], origin: RequestOrigin
    ) -> ActionResult:
        """Perform an action; its success is the new state, unless a reload changed the group meanwhile."""
        meaning = self._concerned.get(group_id)
        result = await self._host.request(action, group_id, accepted, origin)
        is_current = meaning is not None and self._concerned.get(group_id) == meaning
        if meaning is not None and is_current and result.failure is None and not result.superseded:
            self._assumed.set(group_id, meaning, on=action is Action.START)
            if (last := self._last.get(group_id)) is not None:
                self.observed(group_id, last)
        return result

    async def watch(self, groups: Collection[Group]) -> None:
        """Observe these groups from now on."""
        self._concerned = _concerned(groups)
        self._assumed.keep(self._concerned)
        self._last = {group_id: last for group_id, last in self._last.items() if group_id in self._concerned}
        await self._host.watch(groups)

    async def alert(self, group_id: str, state: str, reason: str) -> ActionResult:
        """Run the host's alert command."""
        return await self._host.alert(group_id, state, reason)

    def trouble(self) -> str:
        """Return why no action is possible now."""
        return self._host.trouble()

    async def check_config(self) -> str:
        """Return why the host rejects the config on disk."""
        return await self._host.check_config()

    def config_problem(self) -> str:
        """Return why the config on disk is not the one in force."""
        return self._host.config_problem()

    async def until_broken(self) -> NoReturn:
        """Wait until the host breaks."""
        await self._host.until_broken()

    async def close(self) -> None:
        """Close the host."""
        await self._host.close()

    # From the host (`Observer`)

    def observed(self, group_id: str, observed: Observed) -> None:
        """Pass on a state, with the assumed one in the place of a probe's result."""
        if group_id in self._concerned:
            self._last[group_id] = observed
            if observed.units is not None:  # the group is known, and actions on it are possible
                is_on = self._assumed.is_on(group_id)
                observed = observed._replace(probe_result=ProbeResult.ON if is_on else ProbeResult.OFF)
        if self._observer is not None:
            self._observer.observed(group_id, observed)

    def sampled(self, group_id: str, sample: Sample) -> None:
        """Pass it on."""
        if self._observer is not None:
            self._observer.sampled(group_id, sample)

    def noticed(self) -> None:
        """Pass it on."""
        if self._observer is not None:
            self._observer.noticed()


def _concerned(groups: Collection[Group]) -> dict[str, Meaning]:
    return {group.id: meaning_of(group) for group in groups if group.assume_state}


def meaning_of(group: Group) -> Meaning:
    """Return a digest of what a group's state stands for."""
    acts = (group.commands, group.user, group.directory)
    return hashlib.sha256(repr(acts).encode()).hexdigest()[:16]
