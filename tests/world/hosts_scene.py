"""The groups and configs of worlds with several hosts: what stands here, and what stands on each host."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import Final, NamedTuple

from tests.world.random_source import RandomSource
from tests.world.scene import USED, VARIANTS, Groups
from tests.world.trouble_scene import COMMAND

TV: Final = "/bin/tv"
WAKE: Final = "/bin/wake"
ASSUMED: Final = f"{{commands: {{start: [{TV}, start], stop: [{TV}, stop]}}, assume_state: true}}"
MOMENTARY: Final = f"{{commands: {{start: [{WAKE}, start]}}, momentary: true}}"
UNSEEN_PROGRAMS: Final = (TV, WAKE)
"""Programs of commands whose effect nothing tells."""

THERE: Final[dict[str, tuple[str | None, ...]]] = {
    **{
        name: VARIANTS[name]
        for name in ("web", "files", "flaky", "bouncy", "once", "checked", "lamp", "loop")
    },
    "tv": (ASSUMED, ASSUMED.replace("}, a", "}, timeout_seconds: 9, a"), "{units: [a]}", None),
    "wake": (MOMENTARY, "{units: [b]}", None),
    "hungry": ("{units: [hungry], restart: true}", "{units: [hungry, d], restart: true}"),
}
"""What the config of another host may say of each group; None for nothing."""

UNITS_THERE: Final = {**USED, "tv": ("a",), "wake": ("b",), "hungry": ("hungry", "d")}
HERE: Final = ("web", "files", "flaky", "checked", "lamp", "loop")
NAMES: Final = ("nas", "pi", "server", "attic")
SIZES: Final = (1, 1, 2, 2, 3, 4)
"""How many other hosts a world has."""

GROUPS_THERE: Final = (1, 2, 2, 3, 4)
FAVOURITES: Final = ("hungry", "tv", "web")
"""Groups that more hosts have than others."""

RULE: Final = "restart_when: {cpu_percent: 65, for_seconds: 30, at_most_per_hour: 3}"
OWN_KEYS: Final = ("", "", "restart: true", "alert: contact", "restart: true, alert: contact", "type: outlet")


class Place(NamedTuple):
    """A group of another host, by its id there."""

    host: str
    there: str


@dataclass(frozen=True)
class Entry:
    """What this config says of a group of another host."""

    place: Place
    own: str = ""

    def text(self, group_id: str) -> str:
        """Return the line of the config."""
        host, there = self.place
        keys = [f"host: {host}", *([f"group: {there}"] if there != group_id else []), self.own]
        return f"  {group_id}: {{{', '.join(key for key in keys if key)}}}\n"


@dataclass
class Layout:
    """The config here, and those of all other hosts."""

    local: Groups
    there: dict[str, Groups]
    entries: dict[str, Entry]
    head: str = ""
    """What this config says first."""

    @classmethod
    def of(cls, chance: RandomSource) -> "Layout":
        """Return one with some hosts, which have some groups, most of which are in this config."""
        here = [*HERE]
        chance.stream.shuffle(here)
        local = Groups(dict.fromkeys(here[: chance.one_of((1, 1, 2))], 0))
        there = {name: cls._groups(chance) for name in NAMES[: chance.one_of(SIZES)]}
        layout = cls(local, there, {}, "" if chance.of_one_in(3) else COMMAND)
        for name in there:
            for place in [place for place in layout._free if place.host == name]:
                if not layout._has(name) or not chance.of_one_in(4):
                    layout._add(chance, place)
        return layout

    @staticmethod
    def _groups(chance: RandomSource) -> Groups:
        names = [*THERE, *FAVOURITES]
        chance.stream.shuffle(names)
        names = list(dict.fromkeys(names))
        return Groups(
            dict.fromkeys(names[: chance.one_of(GROUPS_THERE)], 0), THERE, UNITS_THERE, has_alerts=True
        )

    @property
    def text(self) -> str:
        """The config here."""
        hosts = "".join(f"  {name}: {{ssh: hkswitch-remote@{name}}}\n" for name in self.there)
        groups = "".join(entry.text(group_id) for group_id, entry in self.entries.items())
        return f"{self.head}hosts:\n{hosts}{self.local.text}{groups}"

    def change(self, chance: RandomSource) -> str:
        """Change this config; returns what was changed."""
        kinds = (self._move, self._move, self._swap, self._remove, self._add_some, self._change_own)
        return chance.one_of((*kinds, self._change_local))(chance)

    @property
    def _free(self) -> Iterator[Place]:
        taken = {entry.place for entry in self.entries.values()}
        for name, groups in self.there.items():
            yield from (place for there in groups.chosen if (place := Place(name, there)) not in taken)

    def _has(self, name: str) -> bool:
        return any(entry.place.host == name for entry in self.entries.values())

    def _add(self, chance: RandomSource, place: Place) -> str:
        numbered = (f"{place.host}-{place.there}-{number}" for number in count(1))
        taken = self.entries.keys() | self.local.chosen.keys()
        ids = numbered if chance.of_one_in(2) else chain((place.there,), numbered)
        group_id = next(each for each in ids if each not in taken)
        own = RULE if place.there == "hungry" and not chance.of_one_in(3) else chance.one_of(OWN_KEYS)
        self.entries[group_id] = Entry(place, own)
        return f"{group_id} is added: {place}"

    def _add_some(self, chance: RandomSource) -> str:
        free = [*self._free]
        return self._add(chance, chance.one_of(free)) if free else self._change_own(chance)

    def _remove(self, chance: RandomSource) -> str:
        if len(self.entries) < 2:
            return self._change_own(chance)
        group_id = chance.one_of([*self.entries])
        del self.entries[group_id]
        return f"{group_id} is removed"

    def _move(self, chance: RandomSource) -> str:
        """Have a group be another one, perhaps of another host."""
        free = [*self._free]
        if not free or not self.entries:
            return self._change_own(chance)
        group_id, place = chance.one_of([*self.entries]), chance.one_of(free)
        self.entries[group_id] = replace(self.entries[group_id], place=place)
        return f"{group_id} is {place} from now on"

    def _swap(self, chance: RandomSource) -> str:
        """Have two groups be one another."""
        if len(self.entries) < 2:
            return self._change_own(chance)
        one, other = chance.stream.sample([*self.entries], 2)
        first, second = self.entries[one], self.entries[other]
        self.entries[one] = replace(first, place=second.place)
        self.entries[other] = replace(second, place=first.place)
        return f"{one} and {other} change places"

    def _change_own(self, chance: RandomSource) -> str:
        if not self.entries:
            return self._change_local(chance)
        group_id = chance.one_of([*self.entries])
        self.entries[group_id] = replace(self.entries[group_id], own=chance.one_of(OWN_KEYS))
        return f"{group_id} has other keys: {self.entries[group_id].own}"

    def _change_local(self, chance: RandomSource) -> str:
        name, text = self.local.change(chance)
        return f"{name}: {text}"
