"""What a restart rule has to decide, found anew from everything that has happened so far."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from hkswitch.model.group import RestartWhen
from hkswitch.model.restart_rule_events import (
    Armed,
    GaveUp,
    RestartDue,
    RestartEnded,
    RuleChanged,
    RuleDecision,
    RuleEvent,
    Sampled,
    SamplesLost,
)
from hkswitch.model.unit_state import Usage

Runs = dict[tuple[str, str], Usage]


class DaemonRestarted(NamedTuple):
    """The daemon ended and runs again, with what it kept."""


@dataclass(eq=False)
class Past:
    """One event of the past, what was decided at it, and what the samples around it say."""

    event: RuleEvent | DaemonRestarted
    decisions: list[RuleDecision] = field(default_factory=list)
    runs: Runs = field(default_factory=dict)
    before: "Past | None" = None
    """The sample before, if this one can be compared with it."""
    is_absurd: bool = False
    is_stale: bool = False
    is_reboot: bool = False
    begin: float | None = None
    """When the time began that this sample tells about; None: unknown, it is a sample without a past."""
    continues: bool = False
    """Whether the same runs were there in the sample before, and it counted."""
    is_baseline: bool = False
    """Whether the rule had given up, and its runs became known with this sample."""
    breaks: bool = False
    changes_members: bool = False
    """Whether this reload ended the windows, and whether it changed the members."""

    @property
    def at(self) -> float:
        assert isinstance(self.event, Sampled)
        return self.event.sample.at_seconds

    @property
    def counts(self) -> bool:
        is_on = isinstance(self.event, Sampled) and self.event.is_on
        return is_on and bool(self.runs) and not self.is_absurd and not self.is_stale

    def of(self, kind: type[RuleDecision]) -> bool:
        return any(type(decision) is kind for decision in self.decisions)


class PlainRule:
    """The rule, in the slowest way: each answer is looked up in the whole past."""

    def __init__(self, limits: RestartWhen, members: tuple[str, ...]) -> None:
        self.limits = limits
        self.members = members
        self.past: list[Past] = []

    def step(self, event: RuleEvent | DaemonRestarted) -> list[RuleDecision]:
        now = Past(event)
        if isinstance(event, Sampled):
            self._understand(now, event)
        self.past.append(now)
        if isinstance(event, RuleChanged):
            now.changes_members = {*event.members} != {*self.members}
            now.breaks = now.changes_members or self._amounts(event.limits) != self._amounts(self.limits)
            self.limits, self.members = event.limits, event.members
        if isinstance(event, Sampled):
            now.decisions += self._decisions(now)
        return now.decisions

    @staticmethod
    def _amounts(limits: RestartWhen) -> tuple[int | None, int | None]:
        return limits.cpu_percent, limits.memory_mib

    # What a sample is worth

    def _understand(self, now: Past, event: Sampled) -> None:
        now.runs = {(usage.member, usage.run): usage for usage in event.sample.usages}
        now.before = self._before()
        now.is_reboot = self._is_reboot(now)
        starts_later = any(usage.since_seconds > now.at for usage in event.sample.usages)
        now.is_absurd = starts_later or (now.before is not None and now.at <= now.before.at)
        now.is_stale = not now.is_absurd and self._is_stale(now)
        before = now.before
        if now.is_absurd or before is None or now.at - before.at > 45:
            return
        new = [now.runs[run].since_seconds for run in now.runs if run not in before.runs]
        if new:
            if all(before.at <= since < now.at for since in new):
                now.begin = max(new)
        elif now.runs.keys() == before.runs.keys() and before.counts and not self._has_broken_at(before):
            now.begin, now.continues = before.at, True

    def _before(self) -> Past | None:
        for past in reversed(self.past):
            if isinstance(past.event, SamplesLost | DaemonRestarted):
                return None
            if isinstance(past.event, Sampled):
                return None if past.is_absurd else past
        return None

    def _has_broken_at(self, before: Past) -> bool:
        """Whether something at that sample or later ended the windows."""
        return before.of(RestartDue) or any(past.breaks for past in self.past[self.past.index(before) :])

    def _is_reboot(self, now: Past) -> bool:
        """Whether this is the first sample of a connection, with a smaller clock than what is remembered."""
        reading = 0.0
        is_first = True
        for past in self.past:
            match past.event:
                case Sampled():
                    is_first, reading = False, past.at
                case SamplesLost():
                    is_first = True
                case DaemonRestarted():
                    is_first = True
                    deciding = [
                        each.at
                        for each in self.past[: self.past.index(past)]
                        if each.decisions or each.is_baseline or (each.is_reboot)
                    ]
                    reading = deciding[-1] if deciding else 0.0
        return is_first and now.at < reading

    def _is_stale(self, now: Past) -> bool:
        if now.is_reboot:
            return False
        due: Past | None = None
        for past in self.past:
            match past.event:
                case Sampled():
                    if past.is_reboot:
                        due = None
                    if past.of(RestartDue):
                        due, has_ended = past, False
                    elif due is not None and has_ended and not past.is_absurd:
                        due = None
                case RestartEnded(failure):
                    if due is not None:
                        has_ended = True
                        due = due if failure is None else None
                case DaemonRestarted():
                    due = None
                case _:
                    pass
        return due is not None and not due.runs.keys().isdisjoint(now.runs)

    # Windows: back from now, as long as it holds

    def _is_hot(self, past: Past) -> bool | None:
        """Whether CPU time was above the limit in the time of a sample; None: unknown."""
        rate = self._cores(past)
        return None if rate is None else rate * 100 > (self.limits.cpu_percent or 0)

    @staticmethod
    def _cores(past: Past) -> float | None:
        if past.begin is None or past.before is None:
            return None
        rates = []
        for run, usage in past.runs.items():
            old = past.before.runs.get(run)
            first = 0 if old is None else old.cpu_ns
            if first is None or usage.cpu_ns is None or usage.cpu_ns < first:
                return None
            seconds = past.at - (usage.since_seconds if old is None else past.before.at)
            rates.append((usage.cpu_ns - first) / seconds / 1e9)
        return sum(rates)

    def _is_full(self, past: Past) -> bool | None:
        """The same of memory."""
        amounts = [usage.memory_bytes for usage in past.runs.values()]
        known = [amount for amount in amounts if amount is not None]
        if len(known) < len(amounts):
            return None
        return sum(known) / 1024 / 1024 > (self.limits.memory_mib or 0)

    def _cpu_begin(self, now: Past) -> float | None:
        begin, past = None, now
        while self.limits.cpu_percent is not None and past.counts and self._is_hot(past):
            begin = past.begin
            if not past.continues or past.before is None:
                break
            past = past.before
        return begin

    def _moments_begin(self, now: Past, holds: Callable[[Past], bool | None]) -> float | None:
        """Of what holds at the moments of samples."""
        begin, past = None, now
        while past.counts and holds(past):
            begin = past.at if past.continues or past.begin is None else past.begin
            if not past.continues or past.before is None:
                break
            past = past.before
        return begin

    def _memory_begin(self, now: Past) -> float | None:
        return None if self.limits.memory_mib is None else self._moments_begin(now, self._is_full)

    def _calm_begin(self, now: Past) -> float | None:
        if self.limits.memory_mib is None:
            begin, past = None, now
            while past.counts and self._is_hot(past) is False:
                begin = past.begin
                if not past.continues or past.before is None:
                    break
                past = past.before
            return begin
        if self.limits.cpu_percent is None:
            return self._moments_begin(now, lambda past: self._is_full(past) is False)
        return self._moments_begin(
            now, lambda past: self._is_hot(past) is False and self._is_full(past) is False
        )

    # Decisions

    def _decisions(self, now: Past) -> list[RuleDecision]:
        reason, known = self._gave_up()
        found: list[RuleDecision] = []
        if now.is_reboot and reason:
            found.append(Armed("the host was rebooted"))
            reason = ""
        if now.is_absurd:
            return found
        if reason and known is None:
            now.is_baseline = True
        elif reason and known is not None and (why := self._why_armed(now, known)):
            found.append(Armed(why))
            reason = ""
        excess = self._excess(now)
        if reason or not excess or self._is_pending():
            return found
        times = self._restarts()
        if (count := len([time for time in times if now.at - time < 3600])) >= self.limits.at_most_per_hour:
            plural = "" if count == 1 else "s"
            return [*found, GaveUp(f"gave up after {count} restart{plural} within an hour", excess)]
        return [*found, RestartDue(excess)]

    def _why_armed(self, now: Past, known: Runs) -> str:
        started = sorted(run for run in now.runs if run not in known)
        if started:
            return f"{started[0][0]} was started"
        calm = self._calm_begin(now)
        if calm is not None and now.at - calm >= self.limits.for_seconds:
            return f"below the limits for {int(now.at - calm)} s"
        return ""

    def _gave_up(self) -> tuple[str, Runs | None]:
        reason, known = "", None
        for past in self.past:
            for decision in past.decisions:
                match decision:
                    case GaveUp(why, _):
                        reason, known = why, past.runs
                    case Armed():
                        reason, known = "", None
                    case RestartDue():
                        pass
            if past.is_baseline:
                known = past.runs
            known = None if past.changes_members else known
        return reason, known

    def _is_pending(self) -> bool:
        pending = False
        for past in self.past:
            if past.of(RestartDue):
                pending = True
            elif isinstance(past.event, RestartEnded | DaemonRestarted):
                pending = False
        return pending

    def _restarts(self) -> list[float]:
        times: list[float] = []
        for past in self.past:
            times = [] if past.is_reboot else times
            times += [past.at] if past.of(RestartDue) else []
        return times

    def _windows(self, now: Past) -> list[tuple[float, str, str]]:
        found = []
        limits = self.limits
        if limits.cpu_percent is not None and (begin := self._cpu_begin(now)) is not None:
            seconds, used, past = now.at - begin, 0.0, now
            while True:
                cores = self._cores(past)
                assert cores is not None
                assert past.begin is not None
                used += cores * (past.at - past.begin)
                if past.begin == begin or past.before is None:
                    break
                past = past.before
            percent = max(round(used / seconds * 100), limits.cpu_percent + 1)
            found.append((seconds, f"cpu {percent} %", f"{limits.cpu_percent} %"))
        if limits.memory_mib is not None and (begin := self._memory_begin(now)) is not None:
            mib = round(sum(usage.memory_bytes or 0 for usage in now.runs.values()) / 1024**2)
            amount = f"memory {max(mib, limits.memory_mib + 1)} MiB"
            found.append((now.at - begin, amount, f"{limits.memory_mib} MiB"))
        return found

    def _excess(self, now: Past) -> str:
        return " and ".join(
            f"{amount} for {int(seconds)} s (limit {limit})"
            for seconds, amount, limit in self._windows(now)
            if seconds >= self.limits.for_seconds
        )

    @property
    def description(self) -> str:
        """What the status should say."""
        now = self.past[-1] if self.past else None
        found = [self._gave_up()[0]]
        shows = now is not None and isinstance(now.event, Sampled) and now.counts
        if now is None or not shows or now.of(RestartDue):
            return found[0]
        if not found[0] and (windows := self._windows(now)):
            seconds, amount, _ = max(windows, key=lambda each: each[0])
            whole = self.limits.for_seconds
            found = [f"{amount} for {min(int(seconds), whole)} of {whole} s"]
        usages = now.runs.values()
        if self.limits.cpu_percent is not None and any(usage.cpu_ns is None for usage in usages):
            found.append("cannot measure cpu")
        if self.limits.memory_mib is not None and any(usage.memory_bytes is None for usage in usages):
            found.append("cannot measure memory")
        return ", ".join(text for text in found if text)
