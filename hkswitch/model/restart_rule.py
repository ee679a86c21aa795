"""A group's `restart_when`: samples in, decisions out. Pure: no I/O, and no clock but that of the samples.

Each limit has a window: the time for which the group has exceeded it without a break. CPU time counts from
the sample before, and memory from the sample that shows it, but both from the start of a run that is new
since the sample before. A full window is a restart, or the end of the rule's attempts if it has made too many
within an hour.

Anything unknown breaks a window and leads to no action: a group that is not on, runs that ended or changed,
samples too far apart, a counter that goes back, a value that cannot be measured.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from hkswitch.model.group import RestartWhen
from hkswitch.model.restart_rule_events import (
    GIVEN_UP,
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
from hkswitch.model.unit_state import Sample, Usage

LONGEST_INTERVAL_SECONDS: Final = 45.0
"""Between two samples, which come every 15 s. What happened in a longer one is unknown."""

HOUR_SECONDS: Final = 3600.0

MOST_TIMES: Final = 60
"""Restarts to remember: no config allows more within an hour."""

_LARGEST_READING: Final = 2**53
_MIB: Final = 2**20
_NS: Final = 1e9

_Run = tuple[str, str]
"""A member and the name of its run."""


class RuleWindow(NamedTuple):
    """The time in which a limit has been exceeded. `amount`: CPU time in it (ns), or memory now (bytes)."""

    begin_seconds: float
    amount: float


RuleStep = tuple["RestartRule", tuple[RuleDecision, ...]]


@dataclass(frozen=True, slots=True)
class RestartRule:
    """The rule of a group at one moment; `step` returns the next one."""

    limits: RestartWhen
    members: tuple[str, ...]
    cpu: RuleWindow | None = None
    memory: RuleWindow | None = None
    calm_since_seconds: float | None = None
    """Since when no limit has been exceeded and all could be measured."""
    last: Sample | None = None
    """The newest sample, unless the next one has to be taken for the first."""
    is_edge: bool = False
    """Whether the time after that sample may count: the group was on, and no restart was decided."""
    unmeasured: tuple[str, ...] = ()
    """Those of "cpu" and "memory" that have a limit and could not be measured in the newest sample."""
    clock_seconds: float = 0.0
    """The newest reading of the host's monotonic clock."""
    may_have_rebooted: bool = True
    """Whether the next sample is the first one of a connection."""
    is_pending: bool = False
    """Whether a restart was decided that has not ended yet."""
    replaced: frozenset[_Run] = frozenset()
    """The runs that this restart is to end. A sample with one of them may be older than its end."""
    restarts_at_seconds: tuple[float, ...] = ()
    """The last restarts that the rule decided."""
    decided_at_seconds: float = 0.0
    """The last time that one of the values in `kept` changed."""
    gave_up: str = ""
    """Why the rule tries no more; empty while it is armed."""
    gave_up_runs: frozenset[_Run] | None = None
    """The runs at that time; a later one was not started by the rule. None: those of the next sample."""

    def step(self, event: RuleEvent) -> RuleStep:
        """Return the rule after an event, and the decisions to carry out, in order."""
        match event:
            case Sampled(sample, is_on):
                return self._sampled(sample, is_on=is_on)
            case RestartEnded(failure) if self.is_pending:
                replaced = self.replaced if failure is None else frozenset[_Run]()
                return replace(self, is_pending=False, replaced=replaced), ()
            case RestartEnded():
                return self, ()
            case RuleChanged(limits, members):
                return self._changed(limits, members), ()
            case SamplesLost():
                return replace(self._broken(), last=None, may_have_rebooted=True), ()

    @property
    def description(self) -> str:
        """How far the rule is, for the status; empty while the group is below the limits."""
        found = [self.gave_up or self._progress, *(f"cannot measure {what}" for what in self.unmeasured)]
        return ", ".join(text for text in found if text)

    @property
    def kept(self) -> dict[str, Any]:
        """What outlives the daemon, as plain values. Only decisions, reloads and reboots change it."""
        return {
            "clock_seconds": self.decided_at_seconds,
            "restarts_at_seconds": [*self.restarts_at_seconds],
            "gave_up": self.gave_up,
            "runs": None if self.gave_up_runs is None else [[*run] for run in sorted(self.gave_up_runs)],
        }

    @classmethod
    def restored(cls, limits: RestartWhen, members: tuple[str, ...], kept: object) -> "RestartRule":
        """Return the rule as it was kept; what is not understood is forgotten."""
        new = cls(limits, members)
        match kept:
            case {
                "clock_seconds": int() | float() as clock,
                "restarts_at_seconds": [*times],
                "gave_up": str(gave_up),
                "runs": ([*_] | None) as runs,
            } if all(_is_reading(each) for each in (clock, *times)):
                return replace(
                    new,
                    clock_seconds=clock,
                    decided_at_seconds=clock,
                    restarts_at_seconds=tuple(times[-MOST_TIMES:]),
                    gave_up=gave_up,
                    gave_up_runs=None if runs is None else frozenset(_kept_runs(runs)),
                )
        return new

    def _broken(self) -> "RestartRule":
        """Return the rule without windows, with nothing known before the next sample."""
        return replace(self, cpu=None, memory=None, calm_since_seconds=None, is_edge=False, unmeasured=())

    def _changed(self, limits: RestartWhen, members: tuple[str, ...]) -> "RestartRule":
        after = replace(self, limits=limits, members=members)
        if {*members} != {*self.members}:  # the runs of a new member were not started just now
            after = replace(after, gave_up_runs=None)
        elif (limits.cpu_percent, limits.memory_mib) == (self.limits.cpu_percent, self.limits.memory_mib):
            return after
        return after._broken()

    def _sampled(self, sample: Sample, *, is_on: bool) -> RuleStep:
        before, told = self._after_reboot(sample.at_seconds)
        runs = _by_run(sample)
        if _is_absurd(sample, before.last):
            return replace(before._broken(), last=None), told
        is_stale = not before.replaced.isdisjoint(runs)
        counts = is_on and bool(runs) and not is_stale
        after = replace(
            before._measured(sample) if counts else before._broken(),
            last=sample,
            is_edge=counts,
            # Only one sample can be on its way while the restart ends.
            replaced=before.replaced if before.is_pending else frozenset(),
        )
        after, armed = after._armed_again(frozenset(runs))
        after, decided = after._decided() if counts else (after, ())
        return after, (*told, *armed, *decided)

    def _after_reboot(self, at_seconds: float) -> RuleStep:
        """Forget what happened before the host was booted: the clock of a boot never goes back."""
        after = replace(self, may_have_rebooted=False, clock_seconds=at_seconds)
        if not self.may_have_rebooted or at_seconds >= self.clock_seconds:
            return after, ()
        after = replace(after, restarts_at_seconds=(), replaced=frozenset(), decided_at_seconds=at_seconds)
        return after._armed("the host was rebooted") if self.gave_up else (after, ())

    def _measured(self, sample: Sample) -> "RestartRule":
        """Continue the windows, or begin new ones, with a sample of a group that is on."""
        begin, is_unbroken = self._interval(sample)
        held = self if is_unbroken else self._broken()
        cpu, is_cpu_calm = held._cpu_window(begin, sample)
        memory_begin = sample.at_seconds if is_unbroken or begin is None else begin
        memory, is_memory_calm = held._memory_window(memory_begin, sample)
        calm = held.calm_since_seconds
        if not (is_cpu_calm and is_memory_calm):
            calm = None
        elif calm is None:
            calm = begin if self.limits.memory_mib is None else memory_begin
        limited = {"cpu": self.limits.cpu_percent, "memory": self.limits.memory_mib}
        missing = {
            "cpu": any(usage.cpu_ns is None for usage in sample.usages),
            "memory": any(usage.memory_bytes is None for usage in sample.usages),
        }
        unmeasured = tuple(what for what, limit in limited.items() if limit is not None and missing[what])
        return replace(self, cpu=cpu, memory=memory, calm_since_seconds=calm, unmeasured=unmeasured)

    def _interval(self, sample: Sample) -> tuple[float | None, bool]:
        """Return when the time that a sample tells about began, if known, and whether windows continue."""
        last = self.last
        if last is None or sample.at_seconds - last.at_seconds > LONGEST_INTERVAL_SECONDS:
            return None, False
        runs, before = _by_run(sample), _by_run(last)
        starts = [usage.since_seconds for run, usage in runs.items() if run not in before]
        if starts:
            is_known = last.at_seconds <= min(starts) and max(starts) < sample.at_seconds
            return (max(starts) if is_known else None), False
        if not self.is_edge or len(runs) < len(before):
            return None, False
        return last.at_seconds, True

    def _cpu_window(self, begin: float | None, sample: Sample) -> tuple[RuleWindow | None, bool]:
        """Return the window of the CPU limit, and whether the group was certainly not above that limit."""
        if self.limits.cpu_percent is None:
            return None, True
        used_ns = None if begin is None else _used_ns(begin, sample, self.last)
        if begin is None or used_ns is None:
            return None, False
        if used_ns * 100 <= self.limits.cpu_percent * (sample.at_seconds - begin) * _NS:
            return None, True
        held = self.cpu or RuleWindow(begin, 0)
        return RuleWindow(held.begin_seconds, held.amount + used_ns), False

    def _memory_window(self, begin: float, sample: Sample) -> tuple[RuleWindow | None, bool]:
        if self.limits.memory_mib is None:
            return None, True
        used_bytes = 0
        for usage in _by_run(sample).values():
            if usage.memory_bytes is None:
                return None, False
            used_bytes += usage.memory_bytes
        if used_bytes <= self.limits.memory_mib * _MIB:
            return None, True
        held = self.memory or RuleWindow(begin, 0)
        return RuleWindow(held.begin_seconds, used_bytes), False

    def _armed_again(self, runs: frozenset[_Run]) -> RuleStep:
        """Arm a rule that gave up, if the group was started by others or has been well for a window."""
        if not self.gave_up:
            return self, ()
        if self.gave_up_runs is None:
            return replace(self, gave_up_runs=runs, decided_at_seconds=self.clock_seconds), ()
        if started := sorted(runs - self.gave_up_runs):
            member, _ = started[0]
            return self._armed(f"{member} was started")
        calm = self.calm_since_seconds
        if calm is not None and self.clock_seconds - calm >= self.limits.for_seconds:
            return self._armed(f"below the limits for {int(self.clock_seconds - calm)} s")
        return self, ()

    def _armed(self, reason: str) -> RuleStep:
        after = replace(self, gave_up="", gave_up_runs=None, decided_at_seconds=self.clock_seconds)
        return after, (Armed(reason),)

    def _decided(self) -> RuleStep:
        """Decide what a full window leads to."""
        excess = " and ".join(text for seconds, text in self._excesses if seconds >= self.limits.for_seconds)
        if not excess or self.is_pending or self.gave_up or self.last is None:
            return self, ()
        at, runs = self.last.at_seconds, frozenset(_by_run(self.last))
        after = replace(self, decided_at_seconds=at)
        count = sum(at - time < HOUR_SECONDS for time in self.restarts_at_seconds)
        if count >= self.limits.at_most_per_hour:
            reason = f"{GIVEN_UP} after {count} restart{'s' if count > 1 else ''} within an hour"
            return replace(after, gave_up=reason, gave_up_runs=runs), (GaveUp(reason, excess),)
        times = (*self.restarts_at_seconds, at)[-MOST_TIMES:]
        after = replace(after._broken(), is_pending=True, replaced=runs, restarts_at_seconds=times)
        return after, (RestartDue(excess),)

    @property
    def _excesses(self) -> list[tuple[float, str]]:
        """The windows, each with its seconds and a text for a reason."""
        return [
            (seconds, f"{amount} for {int(seconds)} s (limit {limit})")
            for seconds, amount, limit in self._amounts
        ]

    @property
    def _progress(self) -> str:
        whole = self.limits.for_seconds
        texts = [(seconds, amount) for seconds, amount, _ in self._amounts]
        seconds, amount = max(texts, key=lambda each: each[0], default=(0, ""))
        return f"{amount} for {min(int(seconds), whole)} of {whole} s" if amount else ""

    @property
    def _amounts(self) -> list[tuple[float, str, str]]:
        """The seconds of each window, the amount, which reads as above the limit, and the limit."""
        found, at = [], self.clock_seconds
        if self.cpu is not None and (limit := self.limits.cpu_percent) is not None:
            seconds = at - self.cpu.begin_seconds
            mean_percent = self.cpu.amount / seconds / _NS * 100
            found.append((seconds, f"cpu {max(round(mean_percent), limit + 1)} %", f"{limit} %"))
        if self.memory is not None and (limit := self.limits.memory_mib) is not None:
            mib = max(round(self.memory.amount / _MIB), limit + 1)
            found.append((at - self.memory.begin_seconds, f"memory {mib} MiB", f"{limit} MiB"))
        return found


def _by_run(sample: Sample) -> Mapping[_Run, Usage]:
    return {(usage.member, usage.run): usage for usage in sample.usages}


def _is_absurd(sample: Sample, last: Sample | None) -> bool:
    """Return whether time does not grow, or a run began after the sample."""
    is_back = last is not None and sample.at_seconds <= last.at_seconds
    return is_back or any(usage.since_seconds > sample.at_seconds for usage in sample.usages)


def _used_ns(begin: float, sample: Sample, last: Sample | None) -> float | None:
    """Return the CPU time from `begin` to a sample, None if unknown.

    A run counts with its mean rate since the sample before, or since its own start.
    """
    before = {} if last is None else _by_run(last)
    at, used_ns = sample.at_seconds, 0.0
    for run, usage in _by_run(sample).items():
        start, counted_ns = usage.since_seconds, 0
        if last is not None and (earlier := before.get(run)):
            if earlier.cpu_ns is None:
                return None
            start, counted_ns = last.at_seconds, earlier.cpu_ns
        if usage.cpu_ns is None or usage.cpu_ns < counted_ns:
            return None
        used_ns += (usage.cpu_ns - counted_ns) * ((at - begin) / (at - start))
    return used_ns


def _is_reading(kept: object) -> bool:
    return isinstance(kept, int | float) and 0 <= kept < _LARGEST_READING


def _kept_runs(runs: list[Any]) -> Iterator[_Run]:
    for run in runs:
        match run:
            case [str(member), str(name)]:
                yield member, name
