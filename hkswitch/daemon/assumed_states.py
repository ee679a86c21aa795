"""The states of groups with `assume_state`: the last action that succeeded, kept over restarts.

`AssumingHost` is a host whose other groups stay as they are. It starts nothing and asks nobody: what happens
to such a group without hkswitch cannot be known.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final, NoReturn

from hkswitch.backend import Host, Observer
from hkswitch.daemon.kept_file import KeptFile, KeptFormat, group_id_in, parsed_json
from hkswitch.model.group import Group
from hkswitch.model.switch_events import Observed, RequestOrigin
from hkswitch.model.told_group import is_untold
from hkswitch.model.unit_state import Action, ActionResult, ProbeResult, Sample
from hkswitch.protocol.host_report import HostReport

FILE_NAME: Final = "assumed.json"
LARGEST_BYTES: Final = 64 * 1024

Meaning = str
"""A digest of a group's commands: with other commands, its state stands for something else."""


class AssumedStates:
    """The groups that are assumed to be on, in a file of the state folder."""

    def __init__(self, folder: Path) -> None:
        """Read the file; without one, or if it is damaged, all groups are assumed to be off."""
        self._file = _file(folder)
        self._on = self._file.read()

    def is_on(self, group_id: str) -> bool:
        """Return whether a group is assumed to be on."""
        return group_id in self._on

    def set(self, group_id: str, meaning: Meaning, *, on: bool) -> None:
        """Assume a state from now on."""
        others = {each: its for each, its in self._on.items() if each != group_id}
        self._on = others | {group_id: meaning} if on else others
        self._file.keep(self._on)

    def keep(self, meanings: Mapping[str, Meaning], untold: Collection[str] = ()) -> None:
        """Forget the states of all groups but these; a group that changed is assumed to be off.

        `untold` are groups of other hosts that have not yet told what they are.
        """
        self._on = {
            each: its for each, its in self._on.items() if each in untold or meanings.get(each) == its
        }
        self._file.keep(self._on)


def carry_over(folder: Path, groups: Collection[str], on: Mapping[str, Meaning]) -> None:
    """Of these groups, assume those `on` to be on, and all others to be off. Raises `OSError`.

    No daemon may use the folder meanwhile.
    """
    file = _file(folder)
    before = file.read()
    after = {each: its for each, its in before.items() if each not in groups} | {**on}
    if after != before:
        file.write(after)


def _file(folder: Path) -> KeptFile[Mapping[str, Meaning]]:
    return KeptFile(folder / FILE_NAME, _FORMAT)


def _body(on: Mapping[str, Meaning]) -> object:
    return {"version": 1, "on": on}


def parse_assumed(contents: bytes) -> Mapping[str, Meaning]:
    """Return the groups that are assumed to be on; raises `ValueError`."""
    match parsed_json(contents, LARGEST_BYTES):
        case {"version": 1, "on": dict(ids)} if all(isinstance(each, str) for each in ids.values()):
            # TRUST: root prints the ids when it restores what the daemon's user wrote.
            return {group_id_in(each): ids[each] for each in ids}
    raise ValueError("unexpected contents")


_FORMAT: Final[KeptFormat[Mapping[str, Meaning]]] = KeptFormat(
    LARGEST_BYTES,
    parse_assumed,
    _body,
    empty={},
    if_damaged="its groups are assumed to be off",
    is_removed_when_outdated=True,  # off is safer than a wrong on, after a restart
)


class AssumingHost:
    """A host that reports the assumed states for groups which cannot tell their own."""

    def __init__(self, host: Host, groups: Collection[Group], assumed: AssumedStates) -> None:
        self._host = host
        self._assumed = assumed
        self._concerned = _concerned(groups)
        """The groups whose state is assumed, with their meanings."""
        self._untold = {group.id for group in groups if is_untold(group)}
        self._observer: Observer | None = None
        self._last: dict[str, Observed] = {}
        """What the host last reported of these groups."""

    async def open(self, observer: Observer) -> None:
        """Start observing, as the host does."""
        self._observer = observer
        self._assumed.keep(self._concerned, self._untold)
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
        remote = {group.id for group in groups if group.elsewhere is not None}
        told = {group_id: meaning for group_id, meaning in self._concerned.items() if group_id in remote}
        self._concerned = _concerned(groups) | told
        self._untold = remote - self._concerned.keys()
        self._assumed.keep(self._concerned, self._untold)
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

    def remote_hosts(self) -> tuple[HostReport, ...]:
        """Return how the other hosts are."""
        return self._host.remote_hosts()

    async def until_broken(self) -> NoReturn:
        """Wait until the host breaks."""
        await self._host.until_broken()

    async def close(self) -> None:
        """Close the host."""
        await self._host.close()

    # From the host (`Observer`)

    def observed(self, group_id: str, observed: Observed) -> None:
        """Pass on a state, with the assumed one in the place of a probe's result."""
        if observed.group is not None:
            self._learn(observed.group)
        if group_id in self._concerned:
            self._last[group_id] = observed
            if observed.units is not None:  # the group is known, and actions on it are possible
                is_on = self._assumed.is_on(group_id)
                observed = observed._replace(probe_result=ProbeResult.ON if is_on else ProbeResult.OFF)
        if self._observer is not None:
            self._observer.observed(group_id, observed)

    def _learn(self, group: Group) -> None:
        """Take what another host has told of a group."""
        meaning = meaning_of(group) if group.assume_state else None
        if group.id not in self._untold and self._concerned.get(group.id) == meaning:
            return
        self._untold.discard(group.id)
        self._concerned.pop(group.id, None)
        if meaning is not None:
            self._concerned[group.id] = meaning
        self._assumed.keep(self._concerned, self._untold)

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
    if group.elsewhere is not None:
        return group.token[:16]
    acts = (group.commands, group.user, group.directory)
    return hashlib.sha256(repr(acts).encode()).hexdigest()[:16]
