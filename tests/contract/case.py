"""A case of the contract: units, what is done to them, and what hkswitch must say of it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from hkswitch.model.unit_state import Action
from tests.contract.play import Outside, Played, Run, Step
from tests.world.unit_spec import Kind, Life, Spec
from tests.world.unit_states import ACTIVE_STATES

PREFIX: Final = "contract-"
"""Of the names of all units, so that they can be found again."""

_ONLY_SINCE_254: Final = "auto-restart-queued"
_BEFORE_RESTART: Final = "-before-auto-restart"


@dataclass(frozen=True)
class Case:
    """One case. `told` has the sub states of each unit, as systemd 257 has them."""

    id: str
    units: Mapping[str, Spec]
    steps: tuple[Step, ...]
    results: tuple[str, ...]
    told: Mapping[str, str]
    loops: bool = False
    """Whether what was told goes on: then only the beginning is compared."""
    is_alone: bool = False
    """Whether it does something to all units, or waits for their jobs: no other case may run meanwhile."""
    commands: Mapping[tuple[str, ...], Life] = field(default_factory=dict)
    """What the programs of its commands do, for the simulation."""

    def wanted(self, version: int) -> Played:
        """What must be said with this version of systemd."""
        told = {name: tuple(_states(words.split(), version)) for name, words in self.told.items()}
        return Played(self.results, told)

    def cut(self, played: Played, wanted: Played) -> Played:
        """What was said, without what goes on after the expected beginning."""
        if not self.loops:
            return played
        told = {name: states[: len(wanted.told[name])] for name, states in played.told.items()}
        return Played(played.results, told)


START: Final = (Run(0, Action.START),)


def one(
    case_id: str,
    spec: Spec | None,
    told: str,
    *results: str,
    steps: tuple[Step, ...] = START,
    loops: bool = False,
    is_alone: bool = False,
) -> Case:
    """A case of one unit, or of one that has no file: it need not be named."""
    unit = f"{PREFIX}{case_id}.{'target' if spec is not None and spec.kind is Kind.TARGET else 'service'}"
    units = {} if spec is None else {unit: spec}
    named = tuple(_named(step, unit) for step in steps)
    return Case(
        case_id, units, named, tuple(f"{unit} {result}" for result in results), {unit: told}, loops, is_alone
    )


def _named(step: Step, unit: str) -> Step:
    match step:
        case Run(_, _, ()):
            return step._replace(units=(unit,))
        case Outside(_, verb, "") if verb != "daemon-reload":
            return step._replace(unit=unit)
        case _:
            return step


def _states(words: list[str], version: int) -> list[str]:
    """States as hkswitch writes them."""
    if version < 254:
        words = [word.removesuffix(_BEFORE_RESTART) for word in words if word != _ONLY_SINCE_254]
    return [f"{ACTIVE_STATES[word]} ({word})" if word in ACTIVE_STATES else word for word in words]
