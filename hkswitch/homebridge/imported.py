"""The result of an import, and its failure. Only values. Pure: no I/O."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from hkswitch.homebridge.wording import LONGEST_EXCERPT, called
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.printable import escaped

LEAST_PORT: Final = 1024
LARGEST_PORT: Final = 65535
"""Of the ports that a configuration of hkswitch may have."""


class Left(NamedTuple):
    """A switch that could not be imported, by its name in Homebridge, and the reason."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{called(self.name)}: {escaped(self.why, LONGEST_EXCERPT)}"


class Origin(NamedTuple):
    """Where a group comes from: the name of its switch in Homebridge, and the one in the new config."""

    switch: str
    name: str


class Imported(NamedTuple):
    """A config, and the facts about the import. `origins` has the switches of the groups, by their ids.

    `of_units`, `of_containers`: the numbers of groups that are groups of these, and not of commands.
    """

    text: str
    left: tuple[Left, ...]
    notes: tuple[str, ...]
    origins: Mapping[str, Origin]
    of_units: int = 0
    of_containers: int = 0

    def on_port(self, port: int) -> "Imported":
        """Return the import with the port of a bridge that was taken over, if hkswitch can use it."""
        if not LEAST_PORT <= port <= LARGEST_PORT:
            return self
        lines = (
            "# The bridge keeps its port, to which firewalls may have rules.",
            "bridge:",
            f"  port: {port}",
        )
        block = "\n".join(lines)
        return self._replace(text=self.text.replace("\n\ngroups:\n", f"\n\n{block}\n\ngroups:\n", 1))

    @property
    def summary(self) -> str:
        """The report for the user: the number of switches, those that are left, and notes about the file."""
        of_commands = len(self.origins) - self.of_units - self.of_containers
        of_containers = f"groups of containers: {self.of_containers}; " if self.of_containers else ""
        kinds = f"Groups of units: {self.of_units}; {of_containers}groups of commands: {of_commands}."
        return "\n".join([count(len(self.origins), self.left), kinds, *map(str, self.left), *self.notes])


def count(taken: int, left: tuple[Left, ...]) -> str:
    """Return a sentence with the number of imported switches."""
    total = taken + len(left)
    return f"Imported {taken} of {total} {'switch' if total == 1 else 'switches'}."


class NothingImported(Failure):
    """No switch could become a group, and a configuration needs one."""

    exit_code = Exit.CONFIG

    def __init__(self, file: str, imported: Imported) -> None:
        reasons = "\n".join(f"{file}: {each}" for each in (*imported.left, *imported.notes))
        super().__init__(f"{file}: no switch could be imported\n{reasons}")
        self.imported = imported
