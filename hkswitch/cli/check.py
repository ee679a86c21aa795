"""`hkswitch check`: whether the configuration is good, and what in it may be meant otherwise."""

from pathlib import Path

from hkswitch.model.config import parse
from hkswitch.model.config_file import config_bytes
from hkswitch.model.dangerous_units import warnings


def check(file: Path) -> list[str]:
    """The warnings about a good configuration, as compilers print them; raises `Failure` for any other."""
    contents = config_bytes(file)
    config = parse(contents, str(file))
    return [
        f"{file}:{found.line}:{found.column}: warning: {found.path}: {found.message}"
        for found in warnings(contents, config)
    ]
