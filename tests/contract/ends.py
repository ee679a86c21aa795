"""Cases of the contract: units that end badly when they are stopped or killed, and a timer."""

from typing import Final

from hkswitch.model.unit_state import Action
from tests.contract.case import PREFIX, Case, one
from tests.contract.play import Outside, Run, Wait
from tests.contract.words import CRASHED_AND_STARTED, restart, start, stop
from tests.world.unit_spec import Kind, Life, Restart, Spec

TIMER, TIMED = f"{PREFIX}timed.timer", f"{PREFIX}timed.service"

ENDS_BADLY: Final = (
    one(
        "term-143",
        Spec(term_status=143),
        "dead running stop-sigterm failed",
        *("done", "done"),
        steps=(start(), stop(1, "running")),
    ),
    one(
        "term-143-restarted",
        Spec(term_status=143, restart=Restart.ALWAYS),
        "dead running stop-sigterm failed running",
        *("done", "done"),
        steps=(start(), restart(1, "running")),
    ),
    one(
        "deaf",
        Spec(ignores_term=True, stop_timeout_seconds=0.6),
        "dead running stop-sigterm stop-sigkill failed",
        *("done", "done"),
        steps=(start(), stop(1, "running")),
    ),
    one(
        "post-killed",
        Spec(post_stop_seconds=0.5),
        "dead running stop-post failed",
        "done",
        steps=(start(), Outside(1, "kill", once="running"), Wait(0, "failed")),
    ),
    one(
        "post-killed-and-stopped",
        Spec(post_stop_seconds=2),
        "dead running stop-post failed",
        *("done", "done"),
        steps=(start(), Outside(1, "kill", once="running"), stop(0.2, "stop-post")),
    ),
    one(
        "post-and-back",
        Spec(post_stop_seconds=0.3, restart=Restart.ALWAYS, restart_seconds=0.3),
        f"dead running stop-post {CRASHED_AND_STARTED} running",
        "done",
        steps=(start(), Outside(1, "kill", once="running"), Wait(0.8, "auto-restart")),
    ),
    Case(
        "timed",
        {
            TIMER: Spec(Kind.TIMER, triggers=TIMED, interval_seconds=1.5),
            TIMED: Spec(Kind.ONESHOT, (Life(0.4, 1),)),
        },
        (Run(0, Action.START, (TIMER,)), Run(3, Action.STOP, (TIMER,), "waiting")),
        (f"{TIMER} done", f"{TIMER} done"),
        {TIMER: "dead waiting running waiting dead", TIMED: "dead start failed"},
    ),
)
