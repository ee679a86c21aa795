"""Reads the config file, without privilege; what root reads goes through serviceswitch/trusted.py."""

from pathlib import Path
from typing import Final

from hkswitch.core.config import Config, parse
from hkswitch.core.errors import ConfigUnreadable

DEFAULT: Final = Path("/etc/hkswitch/config.yaml")


def read(file: Path) -> Config:
    """The config in `file`; raises `ConfigUnreadable` or `ConfigError`."""
    try:
        contents = file.read_bytes()
    except OSError as error:
        raise ConfigUnreadable(str(file), error.strerror or str(error)) from error
    return parse(contents, str(file))
