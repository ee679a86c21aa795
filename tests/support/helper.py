"""The helper as a subprocess on a private bus."""

import sys
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path(__file__).parents[1] / "serviceswitch" / "helper_program.py"


@dataclass(frozen=True)
class HelperProgram:
    """A helper that runs without root, on the config in `config_file`."""

    config_file: Path

    def command(self, *arguments: str) -> list[str]:
        """Return the argv for these `arguments` of the helper."""
        return [sys.executable, str(PROGRAM), str(self.config_file), *arguments]
