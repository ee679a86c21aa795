"""Random lives of a group and its host, and what its restart rule must never do in them."""

import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from random import Random

from hkswitch.model.group import RestartWhen
from hkswitch.model.restart_rule import RestartRule
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
from hkswitch.model.unit_state import Sample, Usage
from tests.model.plain_rule import DaemonRestarted, PlainRule

Lived = tuple[RuleEvent | DaemonRestarted, list[RuleDecision]]

MIB = 2**20
OPTIONAL = "docker/c"
"""It may end while the group stays on, like one of several containers of a project."""

ALL_MEMBERS = ("a.service", "b.service", OPTIONAL)
CADENCES = (15, 15, 15, 15, 15, 15, 14.97, 15.04, 5, 30, 44.9, 45)
GAPS = (45.1, 60, 600, 1790, 3600)
STEPS = 18


@dataclass(eq=False)
class Burner:
    """A unit, which uses some of a processor and some memory while it runs."""

    name: str
    runs: bool = True
    run: str = "0"
    since_seconds: float = 0.0
    cpu_ns: int = 0
    percent: int = 0
    mib: int = 0
    is_unmeasured: bool = False

    def use(self, seconds: float, odd_ns: int) -> None:
        if self.runs:
            self.cpu_ns += int(seconds * self.percent * 10_000_000) + odd_ns

    @property
    def usage(self) -> Usage:
        cpu, memory = (None, None) if self.is_unmeasured else (self.cpu_ns, self.mib * MIB)
        return Usage(self.name, self.run, self.since_seconds, cpu, memory)


@dataclass
class RandomLife:
    """A group on a host, to which something happens at random; the rule and the plain one see it."""

    chance: Random
    lived: list[Lived] = field(default_factory=list)

    def __post_init__(self) -> None:
        chance = self.chance
        self.now = chance.choice([0.0, 20.0, 5000.0]) + chance.random()
        self.burners = [Burner(name) for name in ALL_MEMBERS]
        self.is_on = True
        self.numbers = count(1)
        self.restarting: list[str] = []
        self.limits, self.members = self._some_limits(), self._some_members()
        self.heat = chance.choice([0.3, 0.9, 1.0])
        self.trouble = chance.choice([0.0, 0.1, 0.4])
        for burner in self.burners:
            self._start(burner)
            self._warm(burner)
        self.rule = RestartRule(self.limits, self.members)
        self.plain = PlainRule(self.limits, self.members)

    def live(self) -> list[Lived]:
        """Return all that happened, after the rule decided like the plain one."""
        for _ in range(STEPS):
            seconds = self.chance.choice(CADENCES)
            if self.chance.random() < 0.03:
                seconds = self.chance.choice(GAPS)
            part = self.chance.random()
            self._pass(seconds * part)
            self._carry_out()
            if self.chance.random() < self.trouble:
                self._happen()
            self._pass(seconds * (1 - part))
            self._sample()
        return self.lived

    def tell(self, event: RuleEvent | DaemonRestarted) -> None:
        """Have both rules take an event, and compare them."""
        if isinstance(event, DaemonRestarted):
            kept = json.loads(json.dumps(self.rule.kept))
            self.rule = RestartRule.restored(self.limits, self.members, kept)
            decisions: tuple[RuleDecision, ...] = ()
        else:
            self.rule, decisions = self.rule.step(event)
        self.lived.append((event, [*decisions]))
        assert typed([*decisions]) == typed(self.plain.step(event))
        if isinstance(event, Sampled):
            assert self.rule.description == self.plain.description
        if any(isinstance(decision, RestartDue) for decision in decisions):
            self._plan()
        if any(isinstance(decision, GaveUp) for decision in decisions) and self.chance.random() < 0.4:
            self._change_season()

    def _sample(self) -> None:
        at, usages = self.now, [each.usage for each in self._group() if each.runs]
        match self.chance.random() < self.trouble and self.chance.randrange(5):
            case 1:
                at -= self.chance.choice([0.5, 20, 1000])
            case 2 if usages:
                usages[0] = usages[0]._replace(since_seconds=at + 1)
            case 3 if usages:
                usages[-1] = usages[-1]._replace(cpu_ns=None)
            case 4 if usages:
                usages[-1] = usages[-1]._replace(memory_bytes=None)
        is_on = self.is_on and all(burner.runs for burner in self._group() if burner.name != OPTIONAL)
        self.tell(Sampled(Sample(max(at, 0.0), tuple(usages)), is_on))

    def _pass(self, seconds: float) -> None:
        self.now += seconds
        for burner in self.burners:
            burner.use(seconds, self.chance.randrange(1000))

    def _plan(self) -> None:
        """Choose how the restart goes on: steps of it, one in each of the next intervals."""
        self.restarting = self.chance.choice(
            [
                ["replace end"],
                ["replace end"],
                ["replace end"],
                ["end", "replace"],
                ["replace some", "replace end"],
                ["", "replace", "end"],
                ["fail"],
                ["", "", "fail"],
                ["replace some fail"],
                ["", "end"],
            ]
        )

    def _carry_out(self) -> None:
        step = self.restarting.pop(0) if self.restarting else ""
        if "replace" in step:
            for burner in self._group()[: 1 if "some" in step else None]:
                if burner.runs:
                    self._start(burner)
        if "end" in step:
            self.tell(RestartEnded())
        if "fail" in step:
            self.tell(RestartEnded("denied"))

    def _happen(self) -> None:
        on_a_unit = [self._warm] * 2 + [self._start, self._stop, self._lose_count, self._hide]
        on_the_host = [
            self._start_all,
            self._check,
            self._cut_off,
            self._reboot,
            self._reload,
            self._new_daemon,
        ]
        if self.chance.random() < 0.5:
            self.chance.choice(on_a_unit)(self.chance.choice(self.burners))
        else:
            self.chance.choice([*on_the_host, self._change_season])()

    def _stop(self, burner: Burner) -> None:
        burner.runs = False

    def _lose_count(self, burner: Burner) -> None:
        burner.cpu_ns //= 2

    def _hide(self, burner: Burner) -> None:
        burner.is_unmeasured = not burner.is_unmeasured

    def _start_all(self) -> None:
        for each in self.burners:
            if not each.runs:
                self._start(each)

    def _check(self) -> None:
        self.is_on = not self.is_on

    def _cut_off(self) -> None:
        self.tell(SamplesLost())

    def _new_daemon(self) -> None:
        self.restarting = []
        self.tell(DaemonRestarted())

    def _change_season(self) -> None:
        self.heat = self.chance.choice([0.0, 0.0, 0.1, 1.0])
        for each in self.burners:
            self._warm(each)

    def _reboot(self) -> None:
        self.now = self.chance.random() * 20
        for burner in self.burners:
            self._start(burner)
        self.tell(SamplesLost())

    def _reload(self) -> None:
        if self.chance.random() < 0.5:
            self.limits = self._some_limits()
        elif self.chance.random() < 0.5:
            self.limits = self.limits._replace(at_most_per_hour=self.chance.randint(1, 3))
        if self.chance.random() < 0.5:
            self.members = self._some_members()
        self.tell(RuleChanged(self.limits, self.members))

    def _some_limits(self) -> RestartWhen:
        cpu, memory = self.chance.choice([(65, None), (65, 900), (None, 900), (165, 300)])
        return RestartWhen(cpu, memory, self.chance.choice([15, 30, 45, 60]), self.chance.choice([1, 2, 3]))

    def _some_members(self) -> tuple[str, ...]:
        return tuple(self.chance.sample(ALL_MEMBERS, self.chance.randint(1, len(ALL_MEMBERS))))

    def _group(self) -> list[Burner]:
        return [burner for burner in self.burners if burner.name in self.members]

    def _start(self, burner: Burner) -> None:
        burner.runs, burner.run, burner.cpu_ns = True, str(next(self.numbers)), 0
        burner.since_seconds = max(self.now - self.chance.random(), 0.0)

    def _warm(self, burner: Burner) -> None:
        is_hot = self.chance.random() < self.heat
        burner.percent = self.chance.choice([70, 97, 180] if is_hot else [0, 10, 30])
        burner.mib = self.chance.choice(
            [901, 950, 2000] if self.chance.random() < self.heat else [0, 30, 290]
        )


def typed(decisions: list[RuleDecision]) -> list[tuple[type, RuleDecision]]:
    """Named tuples with the same in them are equal, whatever they mean."""
    return [(type(decision), decision) for decision in decisions]


# What must hold, whatever the plain rule says


@dataclass
class Guard:
    """Watches what happens, and knows only what a rule must never do."""

    limits: RestartWhen
    samples: list[tuple[float, bool]] = field(default_factory=list)
    """Since the host was booted or the daemon started: their times, and whether the group was on."""
    restarts: list[float] = field(default_factory=list)
    is_pending: bool = False
    has_given_up: bool = False
    had: Counter[str] = field(default_factory=Counter)

    def see(self, event: RuleEvent | DaemonRestarted, decisions: list[RuleDecision]) -> None:
        match event:
            case RuleChanged(limits):
                self.limits = limits
            case RestartEnded() | DaemonRestarted():
                self.is_pending = False
            case Sampled(sample, is_on):
                if self.samples and sample.at_seconds < self.samples[-1][0]:
                    self.samples, self.restarts = [], []  # another clock
                self.samples.append((sample.at_seconds, is_on))
        for decision in decisions:
            self.had[type(decision).__name__] += 1
            assert isinstance(event, Sampled), "only a sample leads to a decision"
            match decision:
                case Armed():
                    self.has_given_up = False
                case GaveUp():
                    self._acts(event)
                    assert not self.has_given_up, "gives up twice"
                    self.has_given_up = True
                case RestartDue():
                    self._acts(event)
                    self._restarts(event.sample.at_seconds)

    def _acts(self, event: Sampled) -> None:
        at, begin = event.sample.at_seconds, event.sample.at_seconds - self.limits.for_seconds
        assert event.is_on, "acts on a group that is not on"
        assert all(is_on for time, is_on in self.samples if time > begin), "the group was not on all the time"
        assert len(self.samples) > 1, "acts at its first sample"
        ages = [at - usage.since_seconds for usage in event.sample.usages]
        assert min(ages) >= self.limits.for_seconds, "a run is younger than the window"

    def _restarts(self, at: float) -> None:
        assert not self.has_given_up, "restarts after it gave up"
        assert not self.is_pending, "restarts during a restart"
        assert all(at - time >= self.limits.for_seconds for time in self.restarts), "no full fresh window"
        self.restarts.append(at)
        within = [time for time in self.restarts if at - time < 3600]
        assert len(within) <= self.limits.at_most_per_hour, "more than allowed within an hour"
        self.is_pending = True


def guarded(life: RandomLife) -> Counter[str]:
    """Live it, check what must hold, and return how often each kind of decision was made."""
    guard = Guard(life.limits)
    try:
        for event, decisions in life.live():
            guard.see(event, decisions)
    except AssertionError as error:
        for event, decisions in life.lived:
            error.add_note(f"{event} -> {decisions}")
        raise
    return guard.had
