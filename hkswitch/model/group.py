"""A group of the configuration: what one switch is. Pure: no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from hkswitch.model.unit_state import Action, GroupState, ProbeResult, UnitState, group_state

MOST_ACCESSORIES = 149
"""HomeKit allows 150 accessories behind a bridge, the bridge itself included."""

RESERVED_AIDS = frozenset({0, 1, 7})
"""0 is no AID, 1 is the bridge, and iOS ignores 7 (HAP-python #61)."""


class AccessoryType(StrEnum):
    """What a group looks like in the Home app."""

    SWITCH = "switch"
    OUTLET = "outlet"
    LIGHT = "light"
    FAN = "fan"


Argv = tuple[str, ...]
"""A program by its absolute path, and its arguments. No shell reads it."""


@dataclass(frozen=True, slots=True)
class Commands:
    """What is run for a group that has no units. `status` exits with 0 for on and with 1 to 125 for off."""

    start: Argv
    stop: Argv
    status: Argv
    restart: Argv = ()

    def of(self, action: Action) -> Argv:
        """Return the command of an action."""
        return {Action.START: self.start, Action.STOP: self.stop, Action.RESTART: self.restart}[action]


@dataclass(frozen=True, slots=True)
class Group:
    """A named group that is one switch: of commands, or of units, full names in the config's order."""

    id: str
    name: str
    units: tuple[str, ...] = ()
    type: AccessoryType = AccessoryType.SWITCH
    actions: frozenset[Action] = frozenset({Action.START, Action.STOP})
    restart: bool = False
    commands: Commands | None = None
    """Instead of units."""
    check: Argv = ()
    """A group of units is on only if this exits with 0, too."""
    interval_seconds: int = 30
    """How often the probe is run."""
    timeout_seconds: int = 10
    """How long a command may take."""

    @property
    def probe(self) -> Argv:
        """What says more of the group's state than systemd does, if anything."""
        return self.check if self.commands is None else self.commands.status

    @property
    def programs(self) -> tuple[str, ...]:
        """The programs that are run for the group."""
        has = self.commands
        found = (has.start, has.stop, has.restart, has.status) if has else (self.check,)
        return tuple(argv[0] for argv in found if argv)

    def programs_of(self, action: Action) -> tuple[str, ...]:
        """Return the programs without which an action cannot be done; a group of units needs none."""
        return () if self.commands is None else (self.commands.of(action)[0], self.commands.status[0])

    def state(self, units: Mapping[str, UnitState], verdict: ProbeResult | None) -> GroupState | None:
        """The group's state, from its units' and from what its probe said since.

        None is not known: not all units were told, or the probe has not answered yet, or cannot.
        """
        if self.commands is not None:
            return (
                {ProbeResult.ON: GroupState.ON, ProbeResult.OFF: GroupState.OFF}.get(verdict)
                if verdict
                else None
            )
        if any(unit not in units for unit in self.units):
            return None
        state = group_state([units[unit] for unit in self.units])
        if not self.check or state is not GroupState.ON:
            return state
        return (
            {ProbeResult.ON: GroupState.ON, ProbeResult.OFF: GroupState.PARTIAL}.get(verdict)
            if verdict
            else None
        )

    def left_by_stop(self, units: Mapping[str, UnitState]) -> GroupState:
        """The state of those units that a stop has to end: one that failed says nothing of the others."""
        running = [units[unit] for unit in self.units if units[unit].is_running]
        return group_state(running) if running else GroupState.OFF

    @property
    def token(self) -> str:
        """Stands for all that root acts on: where it is another one, the same id means something else."""
        import hashlib  # noqa: PLC0415 -- `hkswitch status` needs no token

        actions = sorted(action.value for action in self.actions)
        acts_on = (self.units, self.commands, self.check, actions, self.timeout_seconds)
        return hashlib.sha256(repr(acts_on).encode()).hexdigest()[:32]

    @property
    def aid(self) -> int:
        """The AID of the group's accessory."""
        return aid_of(self.id)

    @property
    def restart_aid(self) -> int:
        """The AID of the group's restart accessory; a colon cannot be part of an id."""
        return aid_of(f"{self.id}:restart")

    @property
    def restart_name(self) -> str:
        """The name of the group's restart accessory."""
        return f"Restart {self.name}"


def aid_of(identity: str) -> int:
    """A 32-bit AID that depends on nothing but `identity`: Home keeps rooms and automations by it."""
    import hashlib  # noqa: PLC0415 -- `hkswitch status` needs no AID

    digest = hashlib.sha256(identity.encode()).digest()
    while (aid := int.from_bytes(digest[:4], "big")) in RESERVED_AIDS:
        digest = hashlib.sha256(digest).digest()
    return aid
