"""The containers, and the groups of them, among which a seed with container engines chooses."""

from dataclasses import dataclass
from typing import Any, Final

from hkswitch.model.group import Engine
from tests.world.unit_spec import Kind, Restart, Spec

ENGINE_UNITS: Final = {
    "docker.service": Spec(
        Kind.NOTIFY, ready_seconds=0.3, stop_seconds=1, restart=Restart.ON_FAILURE, restart_seconds=2
    ),
    "podman.socket": Spec(),
    "podman.service": Spec(stop_seconds=0.5, binds_to=("podman.socket",)),
}
"""The units of both engines."""


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """A container of the scene, and the options that it is created with."""

    engine: Engine
    name: str
    project: str = ""
    policy: str = "no"
    most_restarts: int = 0
    stop_seconds: int | None = None
    ignores_term: bool = False
    ends_after_seconds: float = float("inf")
    exits_with: int = 0
    has_health: bool = False
    start_error: str = ""
    is_healthy: bool = True
    """Whether each start of it is a success."""

    @property
    def options(self) -> dict[str, Any]:
        """What the engine keeps of it."""
        labels = {"com.docker.compose.project": self.project, "com.docker.compose.oneoff": "False"}
        return {
            "policy": self.policy,
            "most_restarts": self.most_restarts,
            "stop_seconds": self.stop_seconds,
            "ignores_term": self.ignores_term,
            "ends_after_seconds": self.ends_after_seconds,
            "exits_with": self.exits_with,
            "health": "starting" if self.has_health else "",
            "start_error": self.start_error,
            "labels": labels if self.project else {},
        }


CONTAINERS: Final = (
    ContainerSpec(Engine.DOCKER, "app"),
    ContainerSpec(Engine.DOCKER, "app2"),
    ContainerSpec(Engine.DOCKER, "db", has_health=True, policy="unless-stopped"),
    ContainerSpec(Engine.DOCKER, "stubborn", ignores_term=True, stop_seconds=2),
    ContainerSpec(
        Engine.DOCKER,
        "looper",
        policy="on-failure",
        most_restarts=3,
        ends_after_seconds=0.2,
        exits_with=1,
        is_healthy=False,
    ),
    ContainerSpec(Engine.DOCKER, "broken", start_error="exec: no such file", is_healthy=False),
    ContainerSpec(Engine.DOCKER, "photos-server-1", "photos", policy="always"),
    ContainerSpec(Engine.DOCKER, "photos-db-1", "photos", policy="always", has_health=True),
    ContainerSpec(Engine.DOCKER, "photos-migrate-1", "photos", ends_after_seconds=0.5),
    ContainerSpec(Engine.PODMAN, "wiki"),
    ContainerSpec(Engine.PODMAN, "notes", policy="always", has_health=True),
    ContainerSpec(
        Engine.PODMAN,
        "once",
        ends_after_seconds=0.3,
        exits_with=2,
        policy="on-failure",
        most_restarts=2,
        is_healthy=False,
    ),
    ContainerSpec(Engine.PODMAN, "blog-web-1", "blog"),
    ContainerSpec(Engine.PODMAN, "blog-db-1", "blog", ignores_term=True, stop_seconds=1),
)

CONTAINED_VARIANTS: Final[dict[str, tuple[str | None, ...]]] = {
    "app": (
        "{containers: [app], restart: true}",
        "{containers: [app, db], restart: true}",
        "{containers: [app, app2]}",
        "{containers: [stubborn, app]}",
        None,
    ),
    "photos": (
        "{compose: photos, restart: true}",
        "{compose: photos}",
        "{compose: photos, containers: [db]}",
        "{containers: [photos-server-1]}",
        None,
    ),
    "mixed": (
        "{units: [a], containers: [app2], restart: true}",
        "{units: [a, b], containers: [db]}",
        "{units: [a]}",
        "{containers: [db]}",
        None,
    ),
    "stubborn": ("{containers: [stubborn], restart: true}", "{containers: [stubborn, db]}"),
    "looper": ("{containers: [looper]}", "{containers: [looper, app], restart: true}"),
    "broken": ("{containers: [broken]}", "{containers: [app]}", None),
    "tested": (
        "{containers: [app], check: [/bin/check, one], interval_seconds: 5, timeout_seconds: 3}",
        "{containers: [app2], check: [/bin/check, two], interval_seconds: 5, timeout_seconds: 3}",
        "{containers: [app]}",
    ),
    "wiki": (
        "{containers: [wiki], engine: podman, restart: true}",
        "{containers: [wiki, notes], engine: podman}",
        "{containers: [wiki], units: [b], engine: podman}",
        None,
    ),
    "blog": ("{compose: blog, engine: podman, restart: true}", "{compose: blog, engine: podman}", None),
    "pods": ("{containers: [once], engine: podman}", "{containers: [notes], engine: podman}"),
    "absent": (None, "{containers: [missing]}", "{compose: missing, engine: podman}"),
}
"""What the config may say of each group of containers; None for nothing."""

UNITS_BESIDE: Final[dict[str, tuple[str, ...]]] = {"mixed": ("a", "b"), "wiki": ("b",)}
"""The units of all variants of a group."""
