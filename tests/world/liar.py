"""A host that lies: what it says beside what its helper does, on the same connection.

It says valid and invalid things, of its own groups and of all others, to requests that were made and to
others. Whatever it says, no other host's tile may follow.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from hkswitch.model.elsewhere import Trait
from hkswitch.model.unit_state import Action, ActiveState, LoadState
from tests.world.random_source import RandomSource
from tests.world.remote_helper import RemoteHelper

JUNK: Final = (
    b"",
    b"null",
    b"{}",
    b"\xff\xfe",
    b"[" * 2000,
    b'{"type": "states", "epoch": 1}',
    b'{"type": "hello", "version": "\\u001b[2J", "protocol": 3}',
    b'{"type": "hello", "version": "9", "protocol": 99}',
    b'{"type": "unheard", "epoch": 1}',
)
LONG: Final = b'{"type": "' + b"x" * (300 * 1024)
"""Longer than a line may be."""

TEXT: Final = "\x1b[31mno\x07thing\u202e\n"
MANY: Final = 3000


@dataclass(frozen=True)
class Liar:
    """What one helper says that is not so. `group_ids` are of this host, and of all others."""

    helper: RemoteHelper
    chance: RandomSource
    group_ids: list[str]
    units: list[str]

    def lie(self) -> None:
        """Say something."""
        kinds = (self._states, self._states, self._group, self._group, self._answer, self._answer)
        kind = self.chance.stream.randrange(12)
        if kind == 0:
            self.helper.lie(self.chance.one_of(JUNK) + b"\n")
        elif kind == 1 and self.chance.of_one_in(4):
            self.helper.lie(LONG)
        elif kind == 2 and self.chance.of_one_in(4):
            self.helper.lie(MANY * self._line(self._states()))
        else:
            said = self.chance.one_of((*kinds, self._other))()
            self.helper.lie(self._line(said))

    @staticmethod
    def _line(said: dict[str, Any]) -> bytes:
        return json.dumps(said).encode() + b"\n"

    def _some(self, choices: list[str], most: int) -> list[str]:
        return [self.chance.one_of(choices) for _ in range(self.chance.stream.randrange(1, most))]

    def _states(self) -> dict[str, Any]:
        units, chance = self._some(self.units, 5), self.chance
        rows = [
            [
                unit,
                chance.one_of([*LoadState]),
                chance.one_of([*ActiveState]),
                chance.one_of(("running", TEXT)),
            ]
            for unit in units
        ]
        probes = [
            [group_id, chance.one_of(("on", "off", None)), TEXT] for group_id in self._some(self.group_ids, 3)
        ]
        failures = [[unit, TEXT, False, str(chance.stream.randrange(9))] for unit in units[:2]]
        body = {"units": rows, "probes": probes, "failures": failures}
        return {"type": "states", "epoch": self.helper.epoch, **body}

    def _group(self) -> dict[str, Any]:
        chance = self.chance
        return {
            "type": "group",
            "epoch": self.helper.epoch + chance.one_of((0, 0, 0, 1)),
            "group": chance.one_of(self.group_ids),
            "token": chance.one_of(("", "t", str(chance.stream.randrange(3)))),
            "units": self._some(self.units, 4),
            "actions": chance.one_of(([*Action], ["start"], [])),
            "traits": chance.one_of((None, [], [Trait.MOMENTARY], [Trait.ASSUMED, Trait.COMMANDS], [*Trait])),
            "timeout_seconds": chance.one_of((1, 5, 60)),
        }

    def _answer(self) -> dict[str, Any]:
        number = self.chance.one_of((*self.helper.numbers[-4:], self.chance.stream.randrange(50)))
        unit = {"unit": self.chance.one_of(self.units), "job": "done", "detail": TEXT}
        return self.chance.one_of(
            (
                {"type": "accepted", "id": number},
                {"type": "finished", "id": number, "units": [unit], "superseded": self.chance.of_one_in(3)},
                {"type": "refused", "id": self.chance.one_of((number, None)), "reason": TEXT},
            )
        )

    def _other(self) -> dict[str, Any]:
        return self.chance.one_of(
            (
                {"type": "pong", "id": self.chance.stream.randrange(20)},
                {"type": "complete", "epoch": self.helper.epoch},
                {"type": "lost", "epoch": self.helper.epoch, "reason": TEXT},
                {"type": "config", "problem": self.chance.one_of(("", TEXT))},
                {"type": "samples", "epoch": self.helper.epoch, "at_seconds": 1e9, "usages": []},
            )
        )
