"""How controllers reach the bridge of a world: by a simulated front, or by HAP and the real bridge."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID

from hkswitch.model.group import Group
from tests.world.disk import Disk
from tests.world.disk_calls import mounted
from tests.world.front import AnyFront, Front, SensorWatch
from tests.world.hap_front import HapFront
from tests.world.hap_phone import HapPhone
from tests.world.network import SimulatedNetwork
from tests.world.phone import Phone
from tests.world.random_source import RandomSource

NAMES: Final = ("first", "second")


class ControllerAccess(Protocol):
    """A front for each daemon, and the phones that stay."""

    settle_seconds: float
    """How long it takes until phones have read what there is."""

    is_ordered: bool
    """Whether writes of several phones arrive in the order in which they were made."""

    sensor_watch: SensorWatch | None
    """What is told of sensors."""

    def around(self) -> AbstractContextManager[None]:
        """Meanwhile, there is what fronts need."""

    def front(self, groups: Iterable[Group]) -> AnyFront:
        """The front of a daemon, in whose context this is called."""

    def phones(self) -> list[Phone]:
        """All phones."""


@dataclass(eq=False)
class DirectAccess:
    """Without HAP."""

    chance: RandomSource
    settle_seconds: float = 0.5
    is_ordered: bool = True
    sensor_watch: SensorWatch | None = None

    def around(self) -> AbstractContextManager[None]:
        return nullcontext()

    def front(self, groups: Iterable[Group]) -> AnyFront:
        front = Front.of(groups)
        return _watched(front, self.sensor_watch)

    def phones(self) -> list[Phone]:
        return [Phone(name, self.chance.delay_seconds) for name in NAMES]


@dataclass(eq=False)
class HapAccess:
    """By HAP: the bridge keeps its state on a disk that has no faults here."""

    chance: RandomSource
    settle_seconds: float = 3.0
    is_ordered: bool = False
    sensor_watch: SensorWatch | None = None
    _air: SimulatedNetwork = field(default_factory=SimulatedNetwork)
    _phones: list[HapPhone] = field(default_factory=list)
    _folder: Path = Path()
    _version: int = 0

    @contextmanager
    def around(self) -> Iterator[None]:
        self._air.hear = self._announced
        with mounted(Disk(self.chance)) as self._folder, self._air.around():
            yield

    def front(self, groups: Iterable[Group]) -> AnyFront:
        front = HapFront(groups, self._folder, [phone.id for phone in self._phones])
        return _watched(front, self.sensor_watch)

    def phones(self) -> list[Phone]:
        for number, name in enumerate(NAMES, 1):
            delay: Callable[[], float] = self.chance.delay_seconds
            self._phones.append(HapPhone(name, delay, id=UUID(bytes=bytes([number]) * 16, version=4)))
        return list(self._phones)

    def _announced(self) -> None:
        assert self._air.config_version >= self._version, "the config version went back"
        if self._air.config_version > self._version:
            changes, self._version = self._air.config_version - self._version, self._air.config_version
            for phone in self._phones:
                phone.hear_of_changes(changes)


def _watched(front: Front | HapFront, watch: SensorWatch | None) -> AnyFront:
    front.sensor_watch = watch
    if watch is not None:
        watch.regrouped(front.groups.values())
    return front
