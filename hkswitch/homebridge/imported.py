"""The result of an import, and its failure. Only values. Pure: no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from hkswitch.homebridge.wording import LONGEST_EXCERPT, called
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.printable import escaped

_MOST_REASONS: Final = 5


@dataclass(frozen=True, slots=True)
class Script:
    """An executable file with a command that needs a shell, which root will run."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Left:
    """A switch that could not be imported, by its name in Homebridge, and the reason."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{called(self.name)}: {escaped(self.why, LONGEST_EXCERPT)}"


class Origin(NamedTuple):
    """Where a group comes from: the name of its switch in Homebridge, and the one in the new config."""

    switch: str
    name: str


@dataclass(frozen=True, slots=True)
class Imported:
    """A config, which `hkswitch check` accepts if `taken` is not 0, and the facts about the import."""

    text: str
    taken: int
    left: tuple[Left, ...]
    scripts: tuple[Script, ...]
    origins: Mapping[str, Origin] = field(default_factory=dict)
    """The switches of the groups, by the groups' ids."""

    @property
    def count(self) -> str:
        """A sentence with the number of imported switches."""
        total = self.taken + len(self.left)
        return f"Imported {self.taken} of {total} {'switch' if total == 1 else 'switches'}."

    @property
    def summary(self) -> str:
        """The report for the user."""
        return "\n".join([self.count, *(f"  {each}" for each in self.left)])


class NothingImported(Failure):
    """No switch could become a group, and a configuration needs one. `imported` has the scripts."""

    exit_code = Exit.CONFIG

    def __init__(self, file: str, imported: Imported) -> None:
        reasons = [str(each) for each in imported.left[:_MOST_REASONS]]
        more = len(imported.left) - len(reasons)
        reasons += [f"and {more} more"] if more else []
        super().__init__(f"{file}: no switch could be imported: {'; '.join(reasons)}")
        self.imported = imported
