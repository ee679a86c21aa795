"""Cases of the contract: several actions on a unit, units with bonds, and commands."""

from typing import Final

from hkswitch.model.unit_state import Action
from hkswitch.systemd.command import Command
from tests.contract.case import PREFIX, Case, one
from tests.contract.play import Define, Execute, Outside, Run, Wait
from tests.contract.words import (
    CRASHED,
    CRASHED_AND_STARTED,
    DIES,
    ENDED,
    ENDS,
    FAILS,
    NEVER,
    SLOWLY_STOPPED,
    STATUS_0,
    STATUS_1,
    STOPPED,
    restart,
    start,
    stop,
)
from tests.world.unit_spec import Kind, Life, Restart, Spec

_WAITS: Final = Spec(lives=(*FAILS, Life()), restart=Restart.ALWAYS, restart_seconds=60)

REPLACED: Final = (
    one(
        "start-stop",
        Spec(Kind.NOTIFY, ready_seconds=NEVER),
        f"dead start {STOPPED}",
        *("canceled", "done"),
        steps=(start(), stop(0.2, "start")),
    ),
    one(
        "pre-stop",
        Spec(pre=Life(5)),
        "dead start-pre stop-sigterm failed",
        *("canceled", "done"),
        steps=(start(), stop(0.2, "start-pre")),
    ),
    one(
        "start-stop-by-another",
        Spec(Kind.NOTIFY, ready_seconds=NEVER),
        f"dead start {STOPPED}",
        "canceled",
        steps=(start(), Outside(0.2, "stop", once="start")),
    ),
    one(
        "stop-start",
        Spec(stop_seconds=0.6),
        f"dead running {SLOWLY_STOPPED} running",
        *("done", "canceled", "done"),
        steps=(start(), stop(1, "running"), start(0.1, "stop")),
    ),
    one(
        "start-start",
        Spec(Kind.NOTIFY, ready_seconds=0.8),
        "dead start running",
        *("done", "done"),
        steps=(start(), start(0.1, "start")),
    ),
    one(
        "stop-stop",
        Spec(stop_seconds=0.6),
        f"dead running {SLOWLY_STOPPED}",
        *("done", "done", "done"),
        steps=(start(), stop(1, "running"), stop(0.1, "stop")),
    ),
    one(
        "start-restart",
        Spec(Kind.NOTIFY, ready_seconds=0.8),
        f"dead start {STOPPED} start running",
        *("done", "done"),
        steps=(start(), restart(0.1, "start")),
    ),
    one(
        "restart-start",
        Spec(stop_seconds=0.6),
        f"dead running {SLOWLY_STOPPED} running",
        *("done", "done", "done"),
        steps=(start(), restart(1, "running"), start(0.1, "stop")),
    ),
    one(
        "restart-stop",
        Spec(stop_seconds=0.6),
        f"dead running {SLOWLY_STOPPED}",
        *("done", "canceled", "done"),
        steps=(start(), restart(1, "running"), stop(0.1, "stop")),
    ),
    one(
        "stop-restart",
        Spec(stop_seconds=0.6),
        f"dead running {SLOWLY_STOPPED}",
        *("done", "done", "was stopped: it is inactive (dead)"),
        steps=(start(), stop(1, "running"), restart(0.1, "stop")),
    ),
    one(
        "restart-restart",
        Spec(stop_seconds=0.6),
        f"dead running {SLOWLY_STOPPED} running",
        *("done", "done", "done"),
        steps=(start(), restart(1, "running"), restart(0.1, "stop")),
    ),
)

AGAIN: Final = (
    one("start-twice", Spec(), "dead running", "done", "done", steps=(start(), start(1, "running"))),
    one(
        "start-failed",
        Spec(lives=(*FAILS, Life())),
        "dead running failed running",
        *(STATUS_1, "done"),
        steps=(start(), start(0.3, "failed")),
    ),
    one(
        "restart",
        Spec(),
        f"dead running {STOPPED} running",
        "done",
        "done",
        steps=(start(), restart(1, "running")),
    ),
    one("restart-stopped", Spec(), "dead", "done", steps=(restart(0),)),
    one(
        "restart-failed",
        Spec(lives=FAILS),
        "dead running failed",
        *(STATUS_1, "done"),
        steps=(start(), restart(0.3, "failed")),
    ),
    one(
        "restart-1",
        Spec(lives=(Life(), *FAILS)),
        f"dead running {STOPPED} running failed",
        *("done", STATUS_1),
        steps=(start(), restart(1, "running")),
    ),
    one(
        "restart-0",
        Spec(lives=(Life(), Life(0))),
        f"dead running {STOPPED} running dead",
        *("done", ENDED),
        steps=(start(), restart(1, "running")),
    ),
    one(
        "start-crashed",
        Spec(lives=(*FAILS, Life()), restart=Restart.ALWAYS, restart_seconds=2),
        f"dead running {CRASHED_AND_STARTED} running",
        *(STATUS_1, "done"),
        steps=(start(), start(0.3, "auto-restart")),
    ),
    one(
        "restart-crashed",
        _WAITS,
        f"dead running {CRASHED} running",
        *(STATUS_1, "done"),
        steps=(start(), restart(0.3, "auto-restart")),
    ),
    one(
        "stop-crashed",
        _WAITS,
        f"dead running {CRASHED} dead",
        *(STATUS_1, "done"),
        steps=(start(), stop(0.3, "auto-restart")),
    ),
    one("stop-stopped", Spec(), "dead", "done", steps=(stop(0),)),
    one(
        "stop-failed",
        Spec(lives=FAILS),
        "dead running failed",
        *(STATUS_1, "done"),
        steps=(start(), stop(0.3, "failed")),
    ),
    one(
        "stop-slow",
        Spec(stop_seconds=5, stop_timeout_seconds=0.4),
        "dead running stop stop-sigterm failed",
        *("done", "done"),
        steps=(start(), stop(1, "running")),
    ),
)

CAT, DOG, COW, PIG = (f"{PREFIX}{name}.service" for name in ("cat", "dog", "cow", "pig"))
BOUND, DYING, TIED, FAILING = (f"{PREFIX}{name}.service" for name in ("bound", "dying", "tied", "failing"))
PART, WHOLE = f"{PREFIX}part.service", f"{PREFIX}whole.service"

BONDS: Final = (
    Case(
        "conflict",
        {CAT: Spec(), DOG: Spec(conflicts=(CAT,))},
        (Run(0, Action.START, (CAT,)), Run(1, Action.START, (DOG,), "running")),
        (f"{CAT} done", f"{DOG} done"),
        {CAT: f"dead running {STOPPED}", DOG: "dead running"},
    ),
    Case(
        "conflict-starting",
        {COW: Spec(Kind.NOTIFY, ready_seconds=2), PIG: Spec(conflicts=(COW,))},
        (Run(0, Action.START, (COW,)), Run(0.2, Action.START, (PIG,), "start")),
        (f"{COW} canceled", f"{PIG} done"),
        {COW: f"dead start {STOPPED}", PIG: "dead running"},
    ),
    Case(
        "bound",
        {BOUND: Spec(binds_to=(DYING,)), DYING: Spec(lives=(Life(0.25, 1),))},
        (Run(0, Action.START, (BOUND,)),),
        (f"{BOUND} was stopped: it is inactive (dead)",),
        {BOUND: f"dead running {STOPPED}", DYING: "dead running failed"},
    ),
    Case(
        "bound-fails",
        {TIED: Spec(binds_to=(FAILING,)), FAILING: Spec(Kind.ONESHOT, DIES)},
        (Run(0, Action.START, (TIED,)),),
        (f"{TIED} dependency",),
        {TIED: "dead", FAILING: "dead start failed"},
    ),
    Case(
        "part",
        {PART: Spec(part_of=(WHOLE,)), WHOLE: Spec()},
        (
            Run(0, Action.START, (PART, WHOLE)),
            Run(1, Action.RESTART, (WHOLE,), "running"),
            Run(2.5, Action.STOP, (WHOLE,), "running"),
        ),
        (f"{PART} done", *(f"{WHOLE} done" for _ in range(3))),
        dict.fromkeys((PART, WHOLE), f"dead running {STOPPED} running {STOPPED}"),
    ),
)

FORGOTTEN: Final = (
    one(
        "by-another",
        Spec(),
        f"dead running {STOPPED} running {STOPPED}",
        steps=(
            Outside(0, "start"),
            Outside(0.5, "restart", once="running"),
            Outside(1.2, "stop", once="running"),
            Wait(1.8, "running"),
        ),
    ),
    one(
        "forgotten",
        Spec(lives=ENDS),
        "dead running dead running dead running dead",
        ENDED,
        steps=(Outside(0, "start"), Outside(0.5, "start", once="running"), start(1, "running")),
    ),
    one(
        "forgotten-and-up",
        Spec(lives=(*ENDS, Life())),
        f"dead running dead running {STOPPED}",
        "done",
        steps=(Outside(0, "start"), Outside(0.5, "start", once="running"), stop(1.2, "running")),
    ),
    one(
        "reload",
        Spec(),
        f"dead running {STOPPED}",
        "done",
        steps=(
            start(),
            Outside(1, "daemon-reload", once="running"),
            Outside(1.6, "stop", once="running"),
            Wait(2.1, "running"),
        ),
        is_alone=True,
    ),
    one(
        "reload-starting",
        Spec(Kind.NOTIFY, ready_seconds=0.8),
        "dead start running",
        "done",
        steps=(start(), Outside(0.1, "daemon-reload", once="start")),
        is_alone=True,
    ),
    one(
        "appears",
        None,
        "not-found dead running",
        f"refused (Unit {PREFIX}appears.service not found)",
        "done",
        steps=(
            start(),
            Define(0.3, f"{PREFIX}appears.service", Spec()),
            Outside(0.9, "daemon-reload"),
            start(1.3),
        ),
        is_alone=True,
    ),
)


def command(name: str, argv: tuple[str, ...], life: Life, ended: str, *, probe: bool = False) -> Case:
    """A case of a command that may take a second."""
    asked = Command(f"{PREFIX}{name}.service", argv, {}, 1, probe)
    return Case(f"command-{name}", {}, (Execute(0, asked),), (ended,), {}, commands={argv: life})


COMMANDS: Final = (
    command("true", ("/bin/true",), Life(0), STATUS_0),
    command("false", ("/bin/false",), Life(0, 1), STATUS_1),
    command("none", ("/nonexistent/program",), Life(0, 203), "could not be executed"),
    command("kills-itself", ("/bin/sh", "-c", "kill -9 $$"), Life(0, signal=9), "was killed by SIGKILL"),
    command("endless", ("/bin/sleep", "1000"), Life(), "took too long"),
    command("probe", ("/bin/sh", "-c", "exit 3"), Life(0, 3), "exited with status 3", probe=True),
)
