"""The members of groups that are containers, and their states in systemd's words. Pure: no I/O."""

import json
import re
from collections.abc import Sequence
from typing import Final, NamedTuple, Self
from urllib.parse import quote

from hkswitch.containers.answers import PROJECT_LABEL, Change, Container
from hkswitch.model.group import Engine
from hkswitch.model.printable import printable
from hkswitch.model.unit_state import ActiveState, LoadState, UnitState

LONGEST_SUB: Final = 200

_ACTIVE: Final = {
    "running": ActiveState.ACTIVE,
    "paused": ActiveState.PARTIAL,
    "restarting": ActiveState.FAILING,
    "dead": ActiveState.FAILED,
    **dict.fromkeys(("created", "initialized", "stopped", "exited"), ActiveState.INACTIVE),
    **dict.fromkeys(("stopping", "removing"), ActiveState.DEACTIVATING),
}
"""By the words of both engines."""

_OF_HEALTH: Final = {
    "healthy": ActiveState.ACTIVE,
    "starting": ActiveState.ACTIVATING,
    "unhealthy": ActiveState.FAILING,
}
"""Of a running container; others have no health check."""

_DECISIVE: Final = [*map(ActiveState, ("unknown", "failing", "failed", "deactivating"))]
"""A project whose containers differ is in the first of these that one of them is in."""

NOT_FOUND: Final = UnitState(LoadState.NOT_FOUND, ActiveState.UNKNOWN, "no such container")
RESTARTING: Final = UnitState(LoadState.LOADED, ActiveState.FAILING, "restarting")
REMOVED: Final = UnitState(
    LoadState.NOT_FOUND, ActiveState.UNKNOWN, "removed; only compose can create it again"
)


def unavailable(why: object) -> UnitState:
    """Return the state of a member whose engine does not answer."""
    return UnitState(LoadState.UNAVAILABLE, ActiveState.UNKNOWN, printable(str(why), LONGEST_SUB))


class Member(NamedTuple):
    """A container, or a compose project with all its containers, of one engine."""

    full_name: str
    engine: Engine
    name: str
    is_project: bool

    @classmethod
    def of(cls, full_name: str) -> Self:
        """Return the member of a name in `Group.contained`."""
        owner, _, name = full_name.partition("/")
        return cls(full_name, Engine(owner.removesuffix("-compose")), name, owner.endswith("-compose"))

    @property
    def query(self) -> str:
        """The query that lists its containers, and perhaps others: a name is a pattern there."""
        label = {"label": [f"{PROJECT_LABEL}={self.name}"]}
        filters = label if self.is_project else {"name": [f"^{re.escape(self.name)}$"]}
        return f"all=1&filters={quote(json.dumps(filters))}"

    def has(self, container: Container) -> bool:
        """Tell whether a container that was listed belongs to it."""
        return not container.is_one_off if self.is_project else container.name == self.name

    def is_concerned_by(self, change: Change) -> bool:
        """Tell whether an event is about one of its containers, by the name or label that this has now."""
        return (change.project if self.is_project else change.name) == self.name

    def counted(self, containers: Sequence[Container]) -> Sequence[Container]:
        """Return those that have to run: of a project, not those that have finished, unless all have."""
        return [each for each in containers if not (self.is_project and _has_finished(each))] or containers

    def state(self, containers: Sequence[Container]) -> UnitState:
        """Return its state, from its containers as they are now."""
        if not containers:
            return REMOVED if self.is_project else NOT_FOUND
        # An image for Docker can have the label too, and an advice in it that nobody should follow.
        if unit := next((each.unit for each in containers if each.unit and self.engine is Engine.PODMAN), ""):
            advice = printable(f"use units: [{unit}]", LONGEST_SUB)
            return UnitState(LoadState.BAD_SETTING, ActiveState.UNKNOWN, advice)
        if not self.is_project:
            return state_of(containers[0])
        states = {each.name: state_of(each) for each in self.counted(containers)}
        actives = {state.active for state in states.values()}
        # A switch is on while its group is starting, so that must not hide what is down.
        is_starting = actives == {ActiveState.ACTIVE, ActiveState.ACTIVATING}
        otherwise = ActiveState.ACTIVATING if is_starting else ActiveState.PARTIAL
        mixed = next((active for active in _DECISIVE if active in actives), otherwise)
        down = [
            f"{name} {state.sub}" for name, state in states.items() if state.active is not ActiveState.ACTIVE
        ]
        sub = f"{len(states) - len(down)} of {len(states)} running: {', '.join(down)}"
        sub = sub if down else f"{len(states)} running"
        return UnitState(LoadState.LOADED, mixed if len(actives) > 1 else actives.pop(), sub[:LONGEST_SUB])


def state_of(container: Container) -> UnitState:
    """Return the state of a container."""
    active, sub = _ACTIVE.get(container.status, ActiveState.UNKNOWN), container.status
    if active is ActiveState.ACTIVE and container.health in _OF_HEALTH:
        active, sub = _OF_HEALTH[container.health], container.health
    elif sub in {"exited", "stopped"}:
        sub = f"exited with {container.exit_status}"
    return UnitState(LoadState.LOADED, active, printable(sub, LONGEST_SUB))


def _has_finished(container: Container) -> bool:
    return container.status == "exited" and not container.exit_status and not container.restarts_itself
