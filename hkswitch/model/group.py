"""A group of the configuration, which becomes one switch. Pure: no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from hkswitch.model.elsewhere import Elsewhere, Trait
from hkswitch.model.unit_state import Action, GroupState, ProbeResult, UnitState, group_state

MOST_ACCESSORIES = 149
"""HomeKit allows 150 accessories per bridge, including the bridge itself."""

CHECK_INTERVAL_SECONDS = 30
STATUS_INTERVAL_SECONDS = 5
TIMEOUT_SECONDS = 10

WINDOW_SECONDS = 180
RESTARTS_PER_HOUR = 3

MEASURED_SUFFIXES = (".service", ".slice")
"""Of units whose resources a rule can watch: systemd counts those of a slice with all that is in it."""

MOST_DETACHED = 32
"""Detached commands of a group at once."""

RESERVED_AIDS = frozenset({0, 1, 7})
"""0 is not a valid AID, 1 is the bridge, and iOS ignores 7 (HAP-python #61)."""


class Engine(StrEnum):
    """A container engine."""

    DOCKER = "docker"
    PODMAN = "podman"

    @property
    def unit(self) -> str:
        """The unit that is active while the engine takes requests."""
        return "docker.service" if self is Engine.DOCKER else "podman.socket"

    @property
    def units(self) -> tuple[str, ...]:
        """That unit, and the engine's service, which for podman comes and goes with the requests."""
        return (self.unit,) if self is Engine.DOCKER else (self.unit, "podman.service")


class AccessoryType(StrEnum):
    """How the Home app shows a group."""

    SWITCH = "switch"
    OUTLET = "outlet"
    LIGHT = "light"
    FAN = "fan"


class AlertSensor(StrEnum):
    """The sensor in the Home app that opens, or detects something, while a group is in trouble."""

    CONTACT = "contact"
    OCCUPANCY = "occupancy"
    LEAK = "leak"


class RestartWhen(NamedTuple):
    """A rule that restarts a group: either limit counts; None is no limit. 100 % are one core."""

    cpu_percent: int | None = None
    memory_mib: int | None = None
    for_seconds: int = WINDOW_SECONDS
    at_most_per_hour: int = RESTARTS_PER_HOUR


Argv = tuple[str, ...]
"""A program's absolute path and its arguments. No shell interprets them."""


class Commands(NamedTuple):
    """The commands of a group without units. `status` exits with 0 for on and with 1 to 125 for off.

    A command that the group does not need is empty.
    """

    start: Argv = ()
    stop: Argv = ()
    status: Argv = ()
    restart: Argv = ()

    def of(self, action: Action) -> Argv:
        """Return the command of an action."""
        return {Action.START: self.start, Action.STOP: self.stop, Action.RESTART: self.restart}[action]


_StateByResult = dict[ProbeResult | None, GroupState]
_STATE_OF_COMMANDS: _StateByResult = {ProbeResult.ON: GroupState.ON, ProbeResult.OFF: GroupState.OFF}
_STATE_WHILE_UP: _StateByResult = {ProbeResult.ON: GroupState.ON, ProbeResult.OFF: GroupState.PARTIAL}
"""The state of a group whose units are all up, by the result of its check."""


@dataclass(frozen=True, slots=True)
class Group:
    """A named group of commands, or of units and containers: their full names, in the config's order."""

    id: str
    name: str
    units: tuple[str, ...] = ()
    type: AccessoryType = AccessoryType.SWITCH
    actions: frozenset[Action] = frozenset({Action.START, Action.STOP})
    restart: bool = False
    alert: AlertSensor | None = None
    """The sensor that shows whether the group is in trouble."""
    restart_when: RestartWhen | None = None
    """The rule that restarts it."""
    containers: tuple[str, ...] = ()
    engine: Engine = Engine.DOCKER
    compose: str = ""
    """A compose project, all of whose containers are members; empty for none."""
    commands: Commands | None = None
    """Set instead of `units` and containers."""
    check: Argv = ()
    """A group with members is on only while this exits with 0."""
    interval_seconds: int = CHECK_INTERVAL_SECONDS
    """How often the probe runs."""
    timeout_seconds: int = TIMEOUT_SECONDS
    """How long a command may take, and an action until the probe confirms it."""
    user: str = ""
    """The user that runs the commands; empty for root."""
    directory: str = ""
    """The commands' working directory; empty for the user's home."""
    detach: bool = False
    """Whether an action goes on after `timeout_seconds`, and what it leaves in the background stays."""
    assume_state: bool = False
    """Whether the last action that succeeded stands for the state, which no command can tell."""
    momentary: bool = False
    """Whether the only command runs at each tap, after which the switch returns to its resting state."""
    elsewhere: Elsewhere | None = None
    """Set if another host runs it: what it is stands in the config there."""

    @property
    def traits(self) -> tuple[Trait, ...]:
        """What the group is, for a daemon that does not have its config."""
        has = (self.commands, self.probe, self.assume_state, self.momentary)
        return tuple(trait for trait, value in zip(Trait, has, strict=True) if value)

    @property
    def contained(self) -> tuple[str, ...]:
        """What an engine runs of the group, named unlike any unit: `docker/web`, `docker-compose/immich`."""
        projects = (self.compose,) if self.compose else ()
        return (
            *(f"{self.engine}/{name}" for name in self.containers),
            *(f"{self.engine}-compose/{project}" for project in projects),
        )

    @property
    def members(self) -> tuple[str, ...]:
        """Whatever has a state of its own: units, containers and projects, by their names in reports."""
        return (*self.units, *self.contained)

    @property
    def probe(self) -> Argv:
        """The command that determines the state beyond systemd's unit states, if there is one."""
        return self.check if self.commands is None else self.commands.status

    @property
    def programs(self) -> tuple[str, ...]:
        """The programs that root runs for the group."""
        if not self.runs_as_root:
            return ()
        has = self.commands
        found = (has.start, has.stop, has.restart, has.status) if has else (self.check,)
        return tuple(argv[0] for argv in found if argv)

    def programs_of(self, action: Action) -> tuple[str, ...]:
        """Return the programs that an action needs; a group of units or containers needs none."""
        argvs = () if self.commands is None else (self.commands.of(action), self.commands.status)
        return tuple(argv[0] for argv in argvs if argv)

    @property
    def runs_as_root(self) -> bool:
        """Whether root runs the commands, by the user's name: root can have other names."""
        return self.user in {"", "root"}

    @property
    def runs_each_time(self) -> bool:
        """Whether every tap runs the command: no command tells whether it is needed."""
        return self.commands is not None and not self.commands.status

    def state(self, units: Mapping[str, UnitState], probe_result: ProbeResult | None) -> GroupState | None:
        """Derive the group's state from its members' states and the result of a probe since they changed.

        Returns None if it is unknown: a member's state or the probe's result is missing or unavailable.
        """
        if self.commands is not None:
            return self._resting if self.momentary else _STATE_OF_COMMANDS.get(probe_result)
        members = self.members
        if not members or any(member not in units for member in members):
            return None  # a group without members is another host's, which has not told them yet
        state = group_state([units[member] for member in members])
        if not self.check or state is not GroupState.ON:
            return state
        return _STATE_WHILE_UP.get(probe_result)

    @property
    def _resting(self) -> GroupState:
        """The state of a momentary group: on only if it runs a command when it is turned off."""
        return GroupState.OFF if self.commands is not None and self.commands.start else GroupState.ON

    def left_by_stop(self, units: Mapping[str, UnitState]) -> GroupState:
        """Return the state of the members that still have to stop, ignoring those that have failed."""
        running = [units[member] for member in self.members if units[member].is_running]
        return group_state(running) if running else GroupState.OFF

    @property
    def token(self) -> str:
        """A digest of everything that root acts on; if it changes, the same id means something else."""
        import hashlib  # noqa: PLC0415 -- `hkswitch status` needs no token

        actions = sorted(action.value for action in self.actions)
        acts_on = (self.units, self.commands, self.check, actions, self.timeout_seconds)
        keys = "user", "directory", "detach", "assume_state", "momentary", "contained", "elsewhere"
        options = {key: value for key in keys if (value := getattr(self, key))}
        return hashlib.sha256(repr((*acts_on, options) if options else acts_on).encode()).hexdigest()[:32]

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

    @property
    def alert_aid(self) -> int:
        """The AID of the group's sensor."""
        return aid_of(f"{self.id}:alert")

    @property
    def alert_name(self) -> str:
        """The name of the group's sensor."""
        return f"{self.name} Alert"

    @property
    def aids(self) -> tuple[int, ...]:
        """The AIDs of all accessories that it may have, now or after a change of its config."""
        return self.aid, self.restart_aid, self.alert_aid

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all its accessories in the Home app."""
        return (
            self.name,
            *((self.restart_name,) if self.restart else ()),
            *((self.alert_name,) if self.alert else ()),
        )


def aid_of(identity: str, least: int = 0) -> int:
    """Return a 32-bit AID that depends only on `identity`: Home stores rooms and automations by AID.

    AIDs below `least` belonged to other accessories.
    """
    import hashlib  # noqa: PLC0415 -- `hkswitch status` needs no AID

    digest = hashlib.sha256(identity.encode()).digest()
    while (aid := int.from_bytes(digest[:4], "big")) in RESERVED_AIDS or aid < least:
        digest = hashlib.sha256(digest).digest()
    return aid
