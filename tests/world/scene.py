"""The units, programs and configs among which a seed chooses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.world.container_scene import CONTAINED_VARIANTS, ENGINE_UNITS, UNITS_BESIDE
from tests.world.random_source import RandomSource
from tests.world.trouble_scene import (
    BACKUP_LIVES,
    COMMAND,
    OF_TROUBLE,
    TROUBLE_VARIANTS,
    UNITS_OF_TROUBLE,
    WITH_RULES,
)
from tests.world.unit_spec import Kind, Life, Restart, Spec

HEALTHY: Final = {
    "a.service": Spec(),
    "b.service": Spec(Kind.NOTIFY, ready_seconds=0.3),
    "c.service": Spec(stop_seconds=2),
    "d.service": Spec(Kind.EXEC),
    "slow.service": Spec(Kind.NOTIFY, ready_seconds=8, stop_seconds=3),
    "bouncy.service": Spec(restart=Restart.ALWAYS, restart_seconds=0.1),
    "once.service": Spec(Kind.ONESHOT, lives=(Life(0.2),)),
}
"""Units of which each start is a success."""

FLAKY_LIVES: Final = (Life(), Life(), Life(0, 1), Life(0.05, 1), Life(0.5, 1), Life(3, 1), Life(0, 0))
LOOPING_LIVES: Final = (Life(), Life(0, 1), Life(0.05, 1), Life(0.15, 1))

LAMP: Final = """\
{commands: {start: [/bin/lamp, start], stop: [/bin/lamp, stop], status: [/bin/lamp, status]}, %s}"""
CHECKED: Final = "{units: [d], check: [/bin/check, %s], interval_seconds: %s, timeout_seconds: 3}"
LONG_CHECK: Final = "{units: [d], check: [/bin/check, one], interval_seconds: 5, timeout_seconds: 9}"

VARIANTS: Final[dict[str, tuple[str | None, ...]]] = {
    "web": (
        "{units: [a], restart: true}",
        "{units: [a, b], restart: true}",
        "{units: [a], name: Site}",
        "{units: [a], actions: [start]}",
        None,
    ),
    "files": ("{units: [b, c]}", "{units: [c, b]}", "{units: [b], restart: true}", None),
    "slow": ("{units: [slow]}", "{units: [slow], type: light}"),
    "flaky": ("{units: [flaky]}", "{units: [flaky, a]}", "{units: [flaky], restart: true}"),
    "bouncy": ("{units: [bouncy], restart: true}", "{units: [bouncy, d]}"),
    "once": ("{units: [once]}", "{units: [once, a]}", None),
    "checked": (
        CHECKED % ("one", 5),
        CHECKED % ("one", 10),
        CHECKED % ("two", 5),
        LONG_CHECK,
        "{units: [d]}",
        None,
    ),
    "lamp": (
        LAMP % "interval_seconds: 5, timeout_seconds: 4",
        LAMP % "interval_seconds: 5, timeout_seconds: 6",
        "{units: [a]}",
    ),
    "loop": ("{units: [loop], restart: true}", "{units: [loop, a]}"),
    "gone": (None, "{units: [missing]}", None),
}
"""What the config may say of each group; None for nothing."""

USED: Final[dict[str, tuple[str, ...]]] = {
    "web": ("a", "b"),
    "files": ("b", "c"),
    "slow": ("slow",),
    "flaky": ("flaky", "a"),
    "bouncy": ("bouncy", "d"),
    "once": ("once", "a"),
    "checked": ("d",),
    "lamp": ("a",),
    "loop": ("loop", "a"),
    "gone": (),
}
"""The units of all variants of a group."""

PROBED: Final = ("checked", "lamp")
FAVOURITES: Final = ("checked", "checked", "lamp", "loop")
"""Groups that more worlds have than others: most can happen to them."""

SIZES: Final = (1, 1, 1, 2, 2, 3, 4, 8)
"""How many groups a world has. In a small one much happens to the same few."""

CONTAINED_SIZES: Final = (1, 1, 2, 2, 3, 5)
"""How many groups of containers a world with engines has, beside other groups."""

TROUBLED_SIZES: Final = (1, 2, 2, 3, 4)
"""How many groups a world with alerts has."""

OTHERS: Final = (0, 1, 1, 2)

MISTAKES: Final = ("groups: {", "groups: {web: {units: []}}\n", "bridge: {port: 1}\ngroups: {}\n")


@dataclass
class Groups:
    """Which variant of each group the config has."""

    chosen: dict[str, int]
    variants: Mapping[str, tuple[str | None, ...]] = field(default_factory=lambda: VARIANTS)
    uses: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: USED)
    has_containers: bool = False
    """Whether the machine has container engines."""
    has_alerts: bool = False
    """Whether groups have sensors and rules."""
    head: str = ""
    """What the config says before its groups."""

    @classmethod
    def with_containers(cls, chance: RandomSource) -> "Groups":
        """Some with containers, and perhaps some without."""
        names = [name for name in CONTAINED_VARIANTS if name != "absent"]
        others = [name for name in VARIANTS if name != "gone"]
        chance.stream.shuffle(names)
        chance.stream.shuffle(others)
        names = [*names[: chance.one_of(CONTAINED_SIZES)], *others[: chance.one_of(OTHERS)]]
        if chance.of_one_in(3):
            names.append("absent")
        variants, uses = VARIANTS | CONTAINED_VARIANTS, USED | UNITS_BESIDE
        return cls(dict.fromkeys(names, 0), variants, uses, has_containers=True)

    @classmethod
    def with_alerts(cls, chance: RandomSource) -> "Groups":
        """Some with sensors and rules, and perhaps a command that is told of troubles."""
        names = [*TROUBLE_VARIANTS, *(3 * WITH_RULES)]
        chance.stream.shuffle(names)
        names = list(dict.fromkeys(names))[: chance.one_of(TROUBLED_SIZES)]
        head = "" if chance.of_one_in(3) else COMMAND
        known = {name: [text for text in TROUBLE_VARIANTS[name] if text] for name in names}
        chosen = {name: chance.stream.randrange(len(texts)) for name, texts in known.items()}
        return cls(chosen, TROUBLE_VARIANTS, UNITS_OF_TROUBLE, has_alerts=True, head=head)

    @classmethod
    def of(cls, chance: RandomSource) -> "Groups":
        """Some of all, in their first variants."""
        names = [*VARIANTS, *FAVOURITES]
        chance.stream.shuffle(names)
        names = list(dict.fromkeys(name for name in names if name != "gone"))[: chance.one_of(SIZES)]
        return cls(dict.fromkeys([*names, "gone"] if chance.of_one_in(3) else names, 0))

    def change(self, chance: RandomSource, name: str = "") -> tuple[str, str | None]:
        """Choose another variant of some group; returns which."""
        name = name or chance.one_of(list(self.chosen))
        variants = self.variants[name]
        is_going = variants[-1] is None and chance.of_one_in(3)
        self.chosen[name] = len(variants) - 1 if is_going else chance.stream.randrange(len(variants))
        if all(text is None for text in self._said.values()):  # no config is without any group
            name = next(iter(self.chosen))
            self.chosen[name] = 0
        return name, self._said[name]

    def units(self, chance: RandomSource) -> dict[str, Spec]:
        """The units that they may have; some starts fail, and some of those are followed by another one."""
        flaky = Spec(lives=(*(chance.one_of(FLAKY_LIVES) for _ in range(12)), Life()))
        looping = tuple(chance.one_of(LOOPING_LIVES) for _ in range(60))
        loop = Spec(restart=Restart.ALWAYS, restart_seconds=0.1, lives=(*looping, Life()))
        units = {**HEALTHY, "flaky.service": flaky, "loop.service": loop}
        if self.has_alerts:
            lives = (*(chance.one_of(BACKUP_LIVES) for _ in range(12)), Life(2))
            units |= {**OF_TROUBLE, "backup.service": Spec(Kind.ONESHOT, lives=lives)}
        used = {
            unit if "." in unit else f"{unit}.service"
            for name in self.chosen
            for unit in self.uses.get(name, ())
        }
        found = {name: spec for name, spec in units.items() if name in used}
        return {**found, **ENGINE_UNITS} if self.has_containers else found

    @property
    def text(self) -> str:
        """The config file."""
        groups = "".join(f"  {name}: {text}\n" for name, text in self._said.items() if text is not None)
        return f"{self.head}groups:\n{groups}"

    @property
    def _said(self) -> dict[str, str | None]:
        return {name: self.variants[name][number] for name, number in self.chosen.items()}


@dataclass
class Programs:
    """What the programs that root runs find, and do."""

    passes: dict[str, bool] = field(default_factory=lambda: {"one": True, "two": False})
    """Which checks, by their argument."""
    is_lit: bool = False
    takes_seconds: float = 0.01
    breaks: bool = False
    """Whether programs end with a status that says nothing."""
