"""Cases of the contract: what comes of a start, and of a unit that crashes after it."""

from typing import Final

from hkswitch.model.unit_state import LoadState
from tests.contract.case import PREFIX, one
from tests.contract.play import Outside, Wait
from tests.contract.words import (
    ALL_ACTIONS,
    CRASHED,
    CRASHED_AND_STARTED,
    DIES,
    DIES_LATER,
    ENDED,
    ENDS,
    FAILS,
    NEVER,
    NOT_EXECUTED,
    STATUS_0,
    STATUS_1,
    start,
)
from tests.world.unit_spec import Kind, Life, Restart, Spec

STARTS: Final = (
    one("simple", Spec(), "dead running", "done"),
    one("missing-program", Spec(missing_program=True), "dead running failed", NOT_EXECUTED),
    one("exit-1", Spec(lives=FAILS), "dead running failed", STATUS_1),
    one("killed", Spec(lives=(Life(0, signal=9),)), "dead running failed", "was killed by SIGKILL"),
    one("exit-0", Spec(lives=(Life(0),)), "dead running dead", ENDED),
    one(
        "dies-later",
        Spec(lives=DIES_LATER),
        "dead running failed",
        "done",
        steps=(start(), Wait(0, "failed")),
    ),
    one(
        "ends-later",
        Spec(lives=(Life(1.2),)),
        "dead running dead",
        "done",
        steps=(start(), Wait(1.6, "running")),
    ),
    one("remains", Spec(lives=(Life(0),), remains=True), "dead running exited", "done"),
    one("remains-not", Spec(lives=FAILS, remains=True), "dead running failed", STATUS_1),
    one("pre", Spec(pre=Life(0.3)), "dead start-pre running", "done"),
    one("pre-1", Spec(pre=Life(0.1, 1)), "dead start-pre failed", f"ExecStartPre= {STATUS_1}"),
    one("post", Spec(post=Life(0.4)), "dead start-post running", "done"),
    one("post-dies", Spec(post=Life(0.4), lives=DIES), "dead start-post failed", STATUS_1),
    one(
        "post-1", Spec(post=Life(0.1, 1)), "dead start-post stop-sigterm failed", f"ExecStartPost= {STATUS_1}"
    ),
    one("stop-post-0", Spec(lives=ENDS, stop_seconds=0.3), "dead running stop dead", ENDED),
    one("stop-post-1", Spec(lives=DIES, stop_seconds=0.3), "dead running failed", STATUS_1),
    one("exec", Spec(Kind.EXEC), "dead start running", "done"),
    one("exec-missing", Spec(Kind.EXEC, missing_program=True), "dead start failed", NOT_EXECUTED),
    one("exec-1", Spec(Kind.EXEC, (Life(0.25, 1),)), "dead start running failed", STATUS_1),
    one("idle-1", Spec(Kind.IDLE, FAILS), "dead running failed", STATUS_1, is_alone=True),
    one("forking", Spec(Kind.FORKING, ready_seconds=0.3), "dead start running", "done"),
    one(
        "forking-3", Spec(Kind.FORKING, (Life(0.25, 3),)), "dead start running failed", "exited with status 3"
    ),
    one("notify", Spec(Kind.NOTIFY, ready_seconds=0.3), "dead start running", "done"),
    one("notify-1", Spec(Kind.NOTIFY, FAILS, 0.3), "dead start stop-sigterm failed", STATUS_1),
    one(
        "notify-0",
        Spec(Kind.NOTIFY, (Life(0),), 0.3),
        "dead start stop-sigterm failed",
        "ended before it was ready",
    ),
    one(
        "notify-never",
        Spec(Kind.NOTIFY, ready_seconds=NEVER, start_timeout_seconds=0.4),
        "dead start stop-sigterm failed",
        "took too long to start",
    ),
    one("oneshot", Spec(Kind.ONESHOT, (Life(0.3),)), "dead start dead", ENDED),
    one("oneshot-1", Spec(Kind.ONESHOT, DIES), "dead start failed", STATUS_1),
    one("oneshot-remains", Spec(Kind.ONESHOT, ENDS, remains=True), "dead start exited", "done"),
    one(
        "oneshot-endless",
        Spec(Kind.ONESHOT, start_timeout_seconds=0.4),
        "dead start stop-sigterm failed",
        "took too long to start",
    ),
    one("target", Spec(Kind.TARGET), "dead active", "done"),
)

REFUSALS: Final = (
    one("unmet", Spec(condition_met=False), "dead", "ConditionPathExists=/nonexistent was not met"),
    one("unmet-assert", Spec(assert_met=False), "dead", "AssertPathExists=/nonexistent was not met"),
    one("unmet-exec", Spec(exec_condition_met=False), "dead condition dead", "ExecCondition= was not met"),
    one(
        "unmet-target",
        Spec(Kind.TARGET, condition_met=False),
        "dead",
        "ConditionPathExists=/nonexistent was not met",
    ),
    one(
        "masked",
        Spec(load=LoadState.MASKED),
        "masked",
        f"refused (Unit {PREFIX}masked.service is masked)",
        "done",
        f"refused (Unit {PREFIX}masked.service is masked)",
        steps=ALL_ACTIONS,
    ),
    one(
        "bad",
        Spec(load=LoadState.BAD_SETTING),
        "bad-setting",
        f"refused (Unit {PREFIX}bad.service has a bad unit file setting)",
        f"refused (Unit {PREFIX}bad.service not loaded)",
        f"refused (Unit {PREFIX}bad.service has a bad unit file setting)",
        steps=ALL_ACTIONS,
    ),
    one(
        "none",
        None,
        "not-found",
        f"refused (Unit {PREFIX}none.service not found)",
        f"refused (Unit {PREFIX}none.service not loaded)",
        f"refused (Unit {PREFIX}none.service not found)",
        steps=ALL_ACTIONS,
    ),
    one(
        "limit",
        Spec(lives=FAILS, start_limit=2),
        "dead running failed running failed",
        *(STATUS_1, STATUS_1, STATUS_1),
        steps=(start(), start(0.3, "failed"), start(1, "failed")),
    ),
)

CRASHES: Final = (
    one(
        "loop",
        Spec(lives=DIES, restart=Restart.ALWAYS),
        f"dead running {CRASHED_AND_STARTED} running {CRASHED_AND_STARTED}",
        STATUS_1,
        loops=True,
    ),
    one(
        "loop-0",
        Spec(lives=ENDS, restart=Restart.ALWAYS),
        "dead running dead-before-auto-restart auto-restart auto-restart-queued running",
        STATUS_0,
        loops=True,
    ),
    one(
        "loop-notify",
        Spec(Kind.NOTIFY, (Life(0.1, 1),), 0.3, restart=Restart.ALWAYS, restart_seconds=0.3),
        f"dead start stop-sigterm {CRASHED_AND_STARTED} start",
        STATUS_1,
        steps=(start(), Wait(0.8, "auto-restart")),
        loops=True,
    ),
    one(
        "loop-limit",
        Spec(lives=DIES, start_limit=3, restart=Restart.ALWAYS),
        f"dead {3 * f'running {CRASHED_AND_STARTED} '}failed",
        STATUS_1,
        steps=(start(), Wait(0.8, "auto-restart")),
    ),
    one(
        "slow-loop",
        Spec(lives=FAILS, restart=Restart.ON_FAILURE, restart_seconds=60),
        f"dead running {CRASHED}",
        STATUS_1,
    ),
    one(
        "comes-back",
        Spec(lives=(*DIES_LATER, Life()), restart=Restart.ON_FAILURE, restart_seconds=0.4),
        f"dead running {CRASHED_AND_STARTED} running",
        "done",
        steps=(start(), Wait(0.8, "auto-restart")),
    ),
    one(
        "comes-back-at-once",
        Spec(lives=(*DIES_LATER, Life()), restart=Restart.ALWAYS),
        f"dead running {CRASHED_AND_STARTED} running",
        "done",
        steps=(start(), Wait(0.8, "auto-restart")),
    ),
    one(
        "killed-by-another",
        Spec(),
        "dead running failed",
        "done",
        steps=(start(), Outside(1, "kill", once="running"), Wait(0, "failed")),
    ),
    one(
        "killed-and-back",
        Spec(restart=Restart.ALWAYS, restart_seconds=0.3),
        f"dead running {CRASHED_AND_STARTED} running",
        "done",
        steps=(start(), Outside(1, "kill", once="running"), Wait(0.8, "auto-restart")),
    ),
)
