"""The states of groups with `assume_state`: the last action that succeeded, kept over restarts.

`AssumingHost` is a host whose other groups stay as they are. It starts nothing and asks nobody: what happens
to such a group without hkswitch cannot be known.
"""

import json
import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final, NoReturn

from hkswitch.backend import Host, Observer
from hkswitch.hap import state_file
from hkswitch.model.group import Group
from hkswitch.model.switch_events import Observed
from hkswitch.model.unit_state import Action, ActionResult, ProbeResult

FILE_NAME: Final = "assumed.json"
LARGEST_BYTES: Final = 64 * 1024

_log = logging.getLogger(__name__)


class AssumedStates:
    """The ids of the groups that are assumed to be on, in a file of the state folder."""

    def __init__(self, folder: Path) -> None:
        """Read the file; without one, or if it is damaged, all groups are assumed to be off."""
        self._path = folder / FILE_NAME
        self._on = _read(self._path)

    def is_on(self, group_id: str) -> bool:
        """Return whether a group is assumed to be on."""
        return group_id in self._on

    def set(self, group_id: str, *, on: bool) -> None:
        """Assume a state from now on; after a failure to write it, only until the daemon ends."""
        if self.is_on(group_id) is on:
            return
        self._on = self._on | {group_id} if on else self._on - {group_id}
        try:
            state_file.write_whole(self._path, json.dumps({"version": 1, "on": sorted(self._on)}).encode())
        except OSError as error:
            _log.error("%s: cannot write %s: %s", group_id, self._path, error.strerror or error)


def _read(path: Path) -> frozenset[str]:
    try:
        with path.open("rb") as opened:
            match json.loads(opened.read(LARGEST_BYTES)):
                case {"version": 1, "on": [*ids]} if all(isinstance(each, str) for each in ids):
                    return frozenset(ids)
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        _log.error("cannot read %s: %s", path, error.strerror or error)
        return frozenset()
    except (ValueError, RecursionError):
        pass
    _log.error("%s is damaged; its groups are assumed to be off", path)
    return frozenset()


class AssumingHost:
    """A host that reports the assumed states for groups which cannot tell their own."""

    def __init__(self, host: Host, groups: Collection[Group], assumed: AssumedStates) -> None:
        self._host = host
        self._assumed = assumed
        self._concerned = _concerned(groups)
        self._observer: Observer | None = None
        self._last: dict[str, Observed] = {}
        """What the host last reported of these groups."""

    async def open(self, observer: Observer) -> None:
        """Start observing, as the host does."""
        self._observer = observer
        await self._host.open(self)

    async def request(
        self, action: Action, group_id: str, accepted: Callable[[], None], *, at_length: bool
    ) -> ActionResult:
        """Perform an action; its success is the new state."""
        result = await self._host.request(action, group_id, accepted, at_length=at_length)
        if group_id in self._concerned and result.failure is None and not result.superseded:
            self._assumed.set(group_id, on=action is Action.START)
            if (last := self._last.get(group_id)) is not None:
                self.observed(group_id, last)
        return result

    async def watch(self, groups: Collection[Group]) -> None:
        """Observe these groups from now on."""
        self._concerned = _concerned(groups)
        self._last = {group_id: last for group_id, last in self._last.items() if group_id in self._concerned}
        await self._host.watch(groups)

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

    def noticed(self) -> None:
        """Pass it on."""
        if self._observer is not None:
            self._observer.noticed()


def _concerned(groups: Collection[Group]) -> frozenset[str]:
    return frozenset(group.id for group in groups if group.assume_state)
