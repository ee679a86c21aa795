"""The units and groups of worlds with alerts and rules: what ends badly, by itself or on request."""

from typing import Final

from tests.world.unit_spec import Kind, Life, Restart, Spec

OF_TROUBLE: Final = {
    "term143.service": Spec(term_status=143),
    "term1.service": Spec(Kind.NOTIFY, ready_seconds=0.2, term_status=1),
    "deaf.service": Spec(ignores_term=True, stop_timeout_seconds=2),
    "post.service": Spec(post_stop_seconds=1.5, term_status=1),
    "again.service": Spec(restart=Restart.ON_FAILURE, restart_seconds=0.5, term_status=143),
    "slowpost.service": Spec(
        Kind.EXEC, post_stop_seconds=3, restart=Restart.ON_FAILURE, restart_seconds=20, stop_seconds=0.3
    ),
    "base.service": Spec(),
    "bound.service": Spec(binds_to=("base.service",), term_status=143),
    "part.service": Spec(part_of=("base.service",), term_status=1),
    "enemy.service": Spec(conflicts=("part.service",), term_status=143),
    "backup.timer": Spec(Kind.TIMER, triggers="backup.service", interval_seconds=20),
    "hungry.service": Spec(stop_seconds=4),
    "burner.service": Spec(term_status=143),
}
"""Units of which some ends are failures, and some of those are wanted."""

BACKUP_LIVES: Final = (Life(2), Life(2), Life(0.5, 1), Life(4, 2), Life(0.1, signal=9))
"""Of the service that the timer starts."""

CHECKED: Final = (
    "{units: [d], check: [/bin/check, %s], interval_seconds: %s, timeout_seconds: 3, alert: contact}"
)
RULE: Final = "restart_when: {%s, for_seconds: %s, at_most_per_hour: %s}"

TROUBLE_VARIANTS: Final[dict[str, tuple[str | None, ...]]] = {
    "web": (
        "{units: [a], restart: true, alert: contact}",
        "{units: [a, b], alert: contact}",
        "{units: [a], alert: leak}",
        "{units: [a]}",
        None,
    ),
    "term": (
        "{units: [term143], restart: true, alert: contact}",
        "{units: [term143, term1], restart: true, alert: occupancy}",
        "{units: [term1], restart: true, alert: contact}",
        "{units: [again], restart: true, alert: contact}",
    ),
    "deaf": ("{units: [deaf], restart: true, alert: leak}", "{units: [deaf, term1], alert: contact}"),
    "post": (
        "{units: [post], restart: true, alert: contact}",
        "{units: [slowpost], restart: true, alert: contact}",
        "{units: [post, slowpost], restart: true, alert: contact}",
    ),
    "flaky": (
        "{units: [flaky], restart: true, alert: contact}",
        "{units: [flaky, a], alert: contact}",
        "{units: [flaky], restart: true}",
    ),
    "loop": ("{units: [loop], restart: true, alert: contact}", "{units: [loop, a], alert: contact}"),
    "bouncy": ("{units: [bouncy], restart: true, alert: contact}", "{units: [bouncy, term143], alert: leak}"),
    "checked": (
        CHECKED % ("one", 5),
        CHECKED % ("two", 5),
        CHECKED % ("one", 10),
        "{units: [d], alert: contact}",
    ),
    "backup": (
        "{units: [backup.timer], alert: contact}",
        "{units: [backup.timer, a], alert: contact}",
        "{units: [backup.timer]}",
    ),
    "bound": (
        "{units: [bound, base], restart: true, alert: contact}",
        "{units: [bound], restart: true, alert: contact}",
        "{units: [part, base], restart: true, alert: contact}",
    ),
    "enemies": ("{units: [enemy], restart: true, alert: contact}", "{units: [part], alert: contact}"),
    "hungry": (
        f"{{units: [hungry], restart: true, alert: contact, {RULE % ('cpu_percent: 65', 60, 2)}}}",
        f"{{units: [hungry, burner], restart: true, alert: contact, {RULE % ('cpu_percent: 120', 45, 1)}}}",
        f"{{units: [hungry], alert: contact, {RULE % ('cpu_percent: 65', 30, 3)}}}",
        "{units: [hungry], restart: true, alert: contact}",
        f"{{units: [burner], restart: true, {RULE % ('cpu_percent: 40', 90, 2)}}}",
    ),
    "burner": (
        f"{{units: [burner], restart: true, alert: contact, {RULE % ('cpu_percent: 50', 30, 2)}}}",
        f"{{units: [burner], alert: occupancy, {RULE % ('memory_mib: 100', 45, 1)}}}",
        f"{{units: [burner], restart: true, {RULE % ('cpu_percent: 50, memory_mib: 200', 75, 2)}}}",
        None,
    ),
}
"""What the config may say of each group; None for nothing."""

UNITS_OF_TROUBLE: Final[dict[str, tuple[str, ...]]] = {
    "web": ("a", "b"),
    "term": ("term143", "term1", "again"),
    "deaf": ("deaf", "term1"),
    "post": ("post", "slowpost"),
    "flaky": ("flaky", "a"),
    "loop": ("loop", "a"),
    "bouncy": ("bouncy", "term143"),
    "checked": ("d",),
    "backup": ("backup.timer", "backup", "a"),
    "bound": ("bound", "base", "part"),
    "enemies": ("enemy", "part", "base"),
    "hungry": ("hungry", "burner"),
    "burner": ("burner",),
}
"""The units of all variants of a group."""

WITH_RULES: Final = ("hungry", "burner")
COMMAND: Final = "alert_command: [/bin/tell, admin]\n"
TELL: Final = "/bin/tell"
