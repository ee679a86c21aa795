"""Groups that another host runs: where they are, and what kind of group they are there. Pure: no I/O."""

from enum import StrEnum
from typing import NamedTuple


class RemoteHost(NamedTuple):
    """Another machine, whose own root helper runs groups. `ssh` is a destination, as ssh(1) takes it."""

    name: str
    ssh: str


class Elsewhere(NamedTuple):
    """The place of a group that another host runs, under an id of its own."""

    host: RemoteHost
    group: str
    token: str = ""
    """Stands for what the group is there; empty until that host's helper has reported it."""

    def __str__(self) -> str:
        """Return the group and its host, for a sentence."""
        return f"group {self.group!r} of the host {self.host.name}"


class Trait(StrEnum):
    """What a group is, besides its members."""

    COMMANDS = "commands"
    PROBE = "probe"
    ASSUMED = "assumed"
    MOMENTARY = "momentary"
