"""Words that many cases of the contract need: lives, steps, results and sequences of states. Pure."""

import math
from typing import Final

from hkswitch.model.unit_state import Action
from tests.contract.play import Run
from tests.world.unit_spec import Life

FAILS: Final = (Life(0, 1),)
DIES: Final = (Life(0.05, 1),)
ENDS: Final = (Life(0.05),)
DIES_LATER: Final = (Life(1.2, 1),)
NEVER: Final = math.inf

STATUS_0, STATUS_1 = "exited with status 0", "exited with status 1"
ENDED: Final = f"done ({STATUS_0})"
NOT_EXECUTED: Final = "could not execute its program (status 203)"

CRASHED: Final = "failed-before-auto-restart auto-restart"
CRASHED_AND_STARTED: Final = f"{CRASHED} auto-restart-queued"
STOPPED: Final = "stop-sigterm dead"
SLOWLY_STOPPED: Final = "stop stop-sigterm dead"


def start(after_seconds: float = 0, once: str = "") -> Run:
    return Run(after_seconds, Action.START, once=once)


def stop(after_seconds: float, once: str = "") -> Run:
    return Run(after_seconds, Action.STOP, once=once)


def restart(after_seconds: float, once: str = "") -> Run:
    return Run(after_seconds, Action.RESTART, once=once)


ALL_ACTIONS: Final = (start(), stop(0.2), restart(0.4))
