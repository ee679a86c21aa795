"""The groups of one host, by their ids there. Pure: no I/O.

What a group of this machine is stands in the daemon's config. What a group of another host is, only the
helper there can tell.
"""

from collections.abc import Collection, Iterator
from dataclasses import replace

from hkswitch.backend.reported_state import ReportedState
from hkswitch.model.config_values import MOST_TIMEOUT_SECONDS
from hkswitch.model.elsewhere import RemoteHost, Trait
from hkswitch.model.group import Group
from hkswitch.model.told_group import UNTOLD, Told, as_told, is_untold, still_told
from hkswitch.model.unit_state import Sample
from hkswitch.protocol.helper import GroupUpdate, SamplesUpdate


class KnownGroups:
    """The groups of a host; None is this machine."""

    def __init__(self, groups: Collection[Group], host: RemoteHost | None = None) -> None:
        """`groups` may be of several hosts."""
        self._host = host
        self._groups: dict[str, Group] = {}
        self._tokens: dict[str, str] = {}
        self._guessed: set[str] = set()
        """The groups of an older helper, which does not tell their traits."""
        self.regroup(groups)

    def regroup(self, groups: Collection[Group]) -> None:
        """Replace the groups; what a host has told of a group stays."""
        before = self._groups
        own = (group for group in groups if host_of(group) == self._host)
        self._groups = {id_there(each): still_told(each, before.get(id_there(each))) for each in own}
        self._tokens = {group.id: group.token for group in groups}

    def __iter__(self) -> Iterator[str]:
        """Iterate over the ids on the host."""
        return iter(self._groups)

    def __contains__(self, there: object) -> bool:
        return there in self._groups

    def __len__(self) -> int:
        return len(self._groups)

    @property
    def groups(self) -> Collection[Group]:
        """The groups, as far as they are known."""
        return self._groups.values()

    def get(self, there: str) -> Group | None:
        """Return the group with this id on the host."""
        return self._groups.get(there)

    def with_id(self, group_id: str) -> Group | None:
        """Return the group with this id in the daemon's config."""
        return next((group for group in self._groups.values() if group.id == group_id), None)

    def token(self, group: Group) -> str:
        """Return what stands for the group in the host's config; empty if that is not known."""
        known = self._groups.get(id_there(group), group)
        return known.token if known.elsewhere is None else known.elsewhere.token

    def config_token(self, group_id: str) -> str:
        """Return what stands for a group, of any host, in the daemon's config."""
        return self._tokens.get(group_id, "")

    def learn(self, update: GroupUpdate) -> None:
        """Take what another host tells of one of its groups."""
        group = self._groups.get(update.group)
        if group is None or group.elsewhere is None:
            return
        is_older = update.traits is None
        traits = _guessed(update) if update.traits is None else frozenset(update.traits)
        actions = tuple(group.actions) if is_older else update.actions
        # TRUST: alerts wait for a check for so long.
        timeout_seconds = min(update.timeout_seconds, MOST_TIMEOUT_SECONDS)
        (self._guessed.add if is_older else self._guessed.discard)(update.group)
        told = Told(update.token, update.units, actions, traits, timeout_seconds)
        self._groups[update.group] = as_told(group, told)

    def learn_probes(self, ids_there: Collection[str]) -> None:
        """Take from its results that a group of an older helper has a probe."""
        for there in self._guessed.intersection(ids_there, self._groups):
            if not self._groups[there].probe:
                self._groups[there] = replace(self._groups[there], check=UNTOLD)

    def keep(self, told: Collection[str]) -> None:
        """Forget what was told of all groups but these: the host has told everything anew."""
        for there in self._groups.keys() - told:
            self.learn(GroupUpdate(0, there, "", traits=()))

    @property
    def sampled(self) -> tuple[str, ...]:
        """The ids, on the host, of groups whose resources a rule needs."""
        return tuple(there for there, group in self._groups.items() if group.restart_when)

    def samples(self, reported: ReportedState, update: SamplesUpdate) -> Iterator[tuple[str, Sample]]:
        """Return the resources of groups that have a rule, by their ids in the daemon's config."""
        for there in self.sampled:
            group = self._groups[there]
            sample = reported.sample(there, self.token(group), update)
            if sample is not None:
                yield group.id, sample

    def untold(self) -> tuple[str, ...]:
        """Return the ids of groups, on the host, of which it has told nothing: its config has none."""
        return tuple(there for there, group in self._groups.items() if is_untold(group))


def id_there(group: Group) -> str:
    """Return the id that a group has in the config of its host."""
    return group.id if group.elsewhere is None else group.elsewhere.group


def host_of(group: Group) -> RemoteHost | None:
    """Return the host that runs a group; None is this machine."""
    return None if group.elsewhere is None else group.elsewhere.host


def _guessed(update: GroupUpdate) -> frozenset[Trait]:
    """Return the traits of a group of an older helper, which does not tell them."""
    return frozenset() if update.units else frozenset({Trait.COMMANDS, Trait.PROBE})
