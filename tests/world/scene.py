"""The units, programs and configs of a world: what a seed chooses from."""

from dataclasses import dataclass, field
from typing import Final

from tests.world.chance import Chance
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

LAMP: Final = """\
{commands: {start: [/bin/lamp, start], stop: [/bin/lamp, stop], status: [/bin/lamp, status]}, %s}"""
CHECKED: Final = "{units: [d], check: [/bin/check, %s], interval_seconds: %s, timeout_seconds: 3}"

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
    "checked": (CHECKED % ("one", 5), CHECKED % ("one", 10), CHECKED % ("two", 5), "{units: [d]}", None),
    "lamp": (
        LAMP % "interval_seconds: 5, timeout_seconds: 4",
        LAMP % "interval_seconds: 5, timeout_seconds: 6",
        "{units: [a]}",
    ),
    "gone": (None, None, "{units: [missing]}"),
}
"""What the config may say of each group; None for nothing."""

MISTAKES: Final = ("groups: {", "groups: {web: {units: []}}\n", "bridge: {port: 1}\ngroups: {}\n")


def units_of(chance: Chance) -> dict[str, Spec]:
    """All units; some starts of the flaky one fail, sooner or later."""
    ends = (Life(), Life(), Life(0, 1), Life(0.05, 1), Life(0.5, 1), Life(3, 1), Life(0, 0))
    lives = tuple(chance.one_of(ends) for _ in range(12))
    return {**HEALTHY, "flaky.service": Spec(lives=(*lives, Life()))}


@dataclass
class Groups:
    """Which variant of each group the config has."""

    chosen: dict[str, int] = field(default_factory=lambda: dict.fromkeys(VARIANTS, 0))

    def change(self, chance: Chance) -> str:
        """Choose another variant of some group; returns which."""
        name = chance.one_of(list(VARIANTS))
        self.chosen[name] = chance.stream.randrange(len(VARIANTS[name]))
        return f"{name}: {VARIANTS[name][self.chosen[name]]}"

    @property
    def text(self) -> str:
        """The config file."""
        said = {name: VARIANTS[name][number] for name, number in self.chosen.items()}
        groups = "".join(f"  {name}: {text}\n" for name, text in said.items() if text is not None)
        return f"groups:\n{groups}"


@dataclass
class Programs:
    """What the programs that root runs find, and do."""

    passes: dict[str, bool] = field(default_factory=lambda: {"one": True, "two": False})
    """Which checks, by their argument."""
    is_lit: bool = False
    takes_seconds: float = 0.01
    breaks: bool = False
    """Whether programs end with a status that says nothing."""
