"""How a simulated service or target goes from its start to its end, as src/core/service.c of systemd does it.

It must not know jobs, nor the bus: a `Manager` has those.
"""

import math
import signal
from typing import Final

from tests.world.unit import Unit
from tests.world.unit_spec import LIMIT_SECONDS, Kind, Life, Restart
from tests.world.unit_states import STARTING, WAITING, Begun

PROCESS_SECONDS: Final = 0.002
"""What a process takes to be executed, to end by itself at once, or to end at a signal."""

EXITED: Final = 1  # CLD_EXITED
KILLED: Final = 2  # CLD_KILLED
NOT_EXECUTED: Final = 203


class Service(Unit):
    """A unit with a life; a target has a short one."""

    # What jobs do

    def start(self) -> Begun:
        if self.is_up:
            return Begun.ALREADY
        if self.active == "deactivating":
            return Begun.NOT_NOW
        if self.sub in STARTING:
            return Begun.RUNS
        if self.sub == "auto-restart":
            if self._manager.version >= 257:
                self._hurry()
            elif self._control is None:
                # A stop, and then a start, took the place of its job. systemd 252 waits for ever then; this
                # one restarts it, as no client could help that.
                self._control = self._later(self.spec.restart_seconds, self._restart)
            return Begun.NOT_NOW
        if not self._is_within_limit():
            self._die("start-limit-hit", may_restart=False)
            return Begun.FAILED
        if self.active != "activating" and (refused := self._refusal()):
            return refused
        self._begin()
        return Begun.RUNS

    def stop(self) -> Begun:
        self._may_restart = False
        if self.is_up or self.sub in STARTING:
            self.is_stopped, self.was_up = True, self.is_up
        if self.is_down:
            return Begun.ALREADY
        if self.sub in WAITING:
            self._cancel()
            self._set("dead")
        elif self.is_target:
            self._set("dead")
        elif self.sub in STARTING:
            self._signal("signal" if self._control is not None and self.sub != "start" else "success")
        elif self.active != "deactivating":
            self._stop()
        return Begun.RUNS

    def program_ends(self, life: Life) -> None:
        """The main process ends, by itself or by someone else."""
        if not self._has_program:
            return
        self._has_program = False
        self.main_ended_seconds = self._manager.now()
        self.load_changed()
        if self._program is not None:
            self._program.cancel()
            self._program = None
        self.main = (KILLED, life.signal) if life.signal else (EXITED, life.status)
        self._ended(self._failure_of(life))

    # Its start

    def _is_within_limit(self) -> bool:
        if not self.spec.start_limit:
            return True
        now_seconds = self._manager.now()
        if len(self._starts) == self._starts.maxlen and now_seconds - self._starts[0] < LIMIT_SECONDS:
            return False
        self._starts.append(now_seconds)
        return True

    def _refusal(self) -> Begun | None:
        self._is_checked = True
        self.condition_result, self.assert_result = self.spec.condition_met, self.spec.assert_met
        self._manager.touched(self)
        if not self.condition_result:
            return Begun.UNMET
        return None if self.assert_result else Begun.ASSERT

    def _begin(self) -> None:
        self.invocation = self._manager.invocation()
        self.result = "success"
        self.pre = self.post = (0, 0)
        self._may_restart = True
        self.is_stopped = False
        self._manager.touched(self)
        if self.is_target:
            self._set("active")
        elif not self.spec.exec_condition_met:
            self._set("condition")
            self._control = self._later(PROCESS_SECONDS, lambda: self._die("exec-condition"))
        else:
            self._start_pre()

    def _start_pre(self) -> None:
        if (pre := self.spec.pre) is None:
            self._start()
            return
        self._set("start-pre")
        self._limit(self.spec.start_timeout_seconds, lambda: self._signal("timeout"))
        self._control = self._later(pre.seconds + PROCESS_SECONDS, lambda: self._pre_ended(pre))

    def _pre_ended(self, pre: Life) -> None:
        self._control = None
        self.pre = (EXITED, pre.status)
        if pre.status:
            self._signal("exit-code")
        else:
            self._start()

    def _start(self) -> None:
        self._run_program()
        match self.spec.kind:
            case Kind.SIMPLE | Kind.IDLE:
                self._start_post()
                return
            case Kind.EXEC if not self.spec.missing_program:
                self._set("start")
                self._control = self._later(PROCESS_SECONDS / 2, self._is_ready)
            case Kind.FORKING | Kind.NOTIFY if math.isfinite(self.spec.ready_seconds):
                self._set("start")
                self._has_helper = True
                ready_seconds = self.spec.ready_seconds + PROCESS_SECONDS / 2
                self._control = self._later(ready_seconds, self._is_ready)
            case _:
                self._set("start")
        self._limit(self.spec.start_timeout_seconds, lambda: self._signal("timeout"))

    def _run_program(self) -> None:
        life = self.spec.life(self._manager.count_start(self))
        if self.spec.missing_program:
            life = Life(0, NOT_EXECUTED)
        self.main = (0, 0)
        self._has_program = True
        self.main_began_seconds, self.main_ended_seconds = self._manager.now(), 0
        self.load_changed()
        self._manager.touched(self)
        if math.isfinite(life.seconds):
            self._program = self._later(life.seconds + PROCESS_SECONDS, lambda: self.program_ends(life))

    def _is_ready(self) -> None:
        self._control = None
        self._has_helper = False
        self._start_post()

    def _start_post(self) -> None:
        if (post := self.spec.post) is None:
            self._run("success")
            return
        self._set("start-post")
        self._limit(self.spec.start_timeout_seconds, self._stop)
        self._control = self._later(post.seconds + PROCESS_SECONDS, lambda: self._post_ended(post))

    def _post_ended(self, post: Life) -> None:
        self._control = None
        self.post = (EXITED, post.status)
        if post.status:
            self._signal("exit-code")
        else:
            self._run("success")

    def _run(self, failure: str) -> None:
        """It is up, unless its program has ended by now."""
        self._fail(failure)
        if self.result != "success":
            self._signal(self.result)
        elif self._has_program:
            self._set("running")
        elif self.spec.remains:
            self._set("exited")
        else:
            self._stop()

    # Its end

    def _failure_of(self, life: Life) -> str:
        """systemd's Result of a program that ended so."""
        if not life.signal:
            return "success" if life.status in {0, *self.spec.success_statuses} else "exit-code"
        clean = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE}
        return "success" if life.signal in clean and self.spec.kind is not Kind.ONESHOT else "signal"

    def _ended(self, failure: str) -> None:
        self._manager.touched(self)
        if self.sub == "start" and failure == "success" and self.spec.kind is Kind.NOTIFY:
            failure = "protocol"
        self._fail(failure)
        match self.sub:
            case "running":
                self._run(failure)
            case "start" if self.spec.kind is Kind.ONESHOT and failure == "success":
                self._start_post()
            case "start" if self.spec.kind is not Kind.FORKING:
                self._signal(failure)
            case "stop-sigterm" | "stop-sigkill":
                self._run_stop_post()

    def _stop(self) -> None:
        if not self.spec.stop_seconds:
            self._signal("success")
            return
        self._set("stop")
        self._limit(self.spec.stop_timeout_seconds, lambda: self._signal("timeout"))
        self._control = self._later(self.spec.stop_seconds + PROCESS_SECONDS, self._stop_ended)

    def _stop_ended(self) -> None:
        self._control = None
        self._signal("success")

    def _signal(self, failure: str) -> None:
        """End what runs by SIGTERM, if anything does."""
        self._fail(failure)
        if not (
            self._has_program or self._has_helper or (self._control and self.sub in {"start-pre", "stop"})
        ):
            self._run_stop_post()
            return
        self._set("stop-sigterm")
        self._cancel_program()
        if self.spec.ignores_term and self._has_program:
            self._limit(self.spec.stop_timeout_seconds, self._kill)
        else:
            self._control = self._later(PROCESS_SECONDS, self._terminated)

    def _terminated(self) -> None:
        self._control = None
        if self._has_program:
            status = self.spec.term_status
            self.program_ends(Life(0, status) if status else Life(0, signal=signal.SIGTERM))
        else:
            self._run_stop_post()

    def _kill(self) -> None:
        """It has ignored SIGTERM for too long."""
        self._fail("timeout")
        self._set("stop-sigkill")
        self._control = self._later(
            PROCESS_SECONDS, lambda: self.program_ends(Life(0, signal=signal.SIGKILL))
        )

    def _run_stop_post(self) -> None:
        """Nothing of it runs any more, but for what is to be done after each end."""
        self._cancel_program()
        self._has_program = self._has_helper = False
        self.load_changed()
        if not self.spec.post_stop_seconds:
            self._die("success")
            return
        self._set("stop-post")
        seconds = self.spec.post_stop_seconds + PROCESS_SECONDS
        self._control = self._later(seconds, lambda: self._die("success"))

    def _die(self, failure: str, *, may_restart: bool = True) -> None:
        self._fail(failure)
        self._cancel_program()
        self._has_program = self._has_helper = False
        self.load_changed()
        is_failed = self.result not in {"success", "exec-condition"}
        end = "failed" if is_failed else "dead"
        if not (may_restart and self._may_restart and self._shall_restart(is_failed=is_failed)):
            self._set(end)
            return
        self._set(f"{end}-before-auto-restart" if self._manager.version >= 257 else end)
        self._set("auto-restart")
        self._control = self._later(self.spec.restart_seconds, self._restart)

    def _shall_restart(self, *, is_failed: bool) -> bool:
        if self.spec.restart is Restart.ON_FAILURE:
            return is_failed
        return self.spec.restart is Restart.ALWAYS and self.result != "exec-condition"

    def _restart(self) -> None:
        self._control = None
        self._manager.restart_by_itself(self)
        self.restarts += 1
        self._manager.touched(self)
        if self._manager.version >= 257:
            self._set("auto-restart-queued")

    def _hurry(self) -> None:
        """Be started again now, by the job that waits: systemd 257 does it, 252 waits for the time."""
        self._manager.restart_by_itself(self)
        self.restarts = 1
        self._manager.touched(self)
        self._set("auto-restart-queued")
