"""The last runs, which are kept in a file beside the charts: medians and spread, and what code each measured.

Code is the same if the modules of hkswitch have the same statements (comments do not matter), and the locked
packages are the same.
"""

import ast
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from bench.figures import DIGITS, Series

VALUES: Final = "runs.json"
"""The file with the runs, in the folder of the charts."""

KEPT: Final = 3
_LINES: Final = ",\n"


@dataclass(frozen=True, slots=True)
class KeptRun:
    """What is kept of a run."""

    when: str
    """Date and hour with minutes, in UTC."""
    code: str
    is_full: bool
    """Whether everything was measured, and not only what has a target."""
    machine: str
    versions: Mapping[str, str]
    series: Mapping[str, Mapping[str, Series]]
    homebridge_2: str
    """A sentence about how Homebridge 2 ended with the plugin; empty if it was not started."""

    def of(self, metric: str, who: str) -> Series | None:
        """Return the figures of one metric, if it was measured."""
        return self.series.get(metric, {}).get(who)

    def as_object(self) -> dict[str, Any]:
        """Return the run for JSON."""
        series = {
            metric: {who: _values(kept) for who, kept in of_bridges.items()}
            for metric, of_bridges in self.series.items()
        }
        return {
            "when": self.when,
            "code": self.code,
            "is_full": self.is_full,
            "machine": self.machine,
            "versions": dict(self.versions),
            "homebridge_2": self.homebridge_2,
            "series": series,
        }

    @classmethod
    def of_object(cls, found: Mapping[str, Any]) -> Self:
        """Return the run that `as_object` returned. Raises `KeyError` and `TypeError`."""
        series = {
            metric: {who: Series(*kept) for who, kept in of_bridges.items()}
            for metric, of_bridges in found["series"].items()
        }
        return cls(**(dict(found) | {"series": series}))


def code_of(checkout: Path) -> str:
    """Return what the code of a checkout is called here: equal for the same code."""
    digest = hashlib.sha256((checkout / "requirements" / "runtime.lock").read_bytes())
    for module in sorted((checkout / "hkswitch").rglob("*.py")):
        digest.update(
            f"{module.relative_to(checkout)}\n{ast.dump(ast.parse(module.read_bytes()))}\n".encode()
        )
    return digest.hexdigest()[:12]


def read(folder: Path) -> tuple[KeptRun, ...]:
    """Return the runs in a folder, the oldest first; none if it has no file. Raises `ValueError`."""
    try:
        text = (folder / VALUES).read_text()
    except FileNotFoundError:
        return ()
    return tuple(KeptRun.of_object(each) for each in json.loads(text))


def added(before: Sequence[KeptRun], run: KeptRun) -> tuple[KeptRun, ...]:
    """Return the runs to keep. The newest full run always stays, as only a full one has all figures."""
    kept = [*before, run]
    full = newest_full(kept)
    while len(kept) > KEPT:
        kept.remove(next(each for each in kept if each is not full))
    return tuple(kept)


def newest_full(kept: Sequence[KeptRun]) -> KeptRun | None:
    """Return the newest run that measured everything, if there is one."""
    return next((each for each in reversed(kept) if each.is_full), None)


def write(folder: Path, kept: Sequence[KeptRun]) -> None:
    """Write the runs into a folder, with a line for each metric."""
    folder.mkdir(exist_ok=True)
    (folder / VALUES).write_text(f"[\n{_LINES.join(_text(each.as_object()) for each in kept)}\n]\n")


def _text(run: Mapping[str, Any]) -> str:
    facts = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in run.items() if key != "series"]
    metrics = [f"  {json.dumps(metric)}: {json.dumps(kept)}" for metric, kept in run["series"].items()]
    return f'{{\n{_LINES.join(facts)},\n "series": {{\n{_LINES.join(metrics)}\n }}\n}}'


def _values(kept: Series) -> list[float]:
    return [*(float(f"{value:.{DIGITS}g}") for value in kept[:-1]), kept.size]
