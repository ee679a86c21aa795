"""Reads the config file, without privilege; what root reads goes through serviceswitch/trusted_files.py."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from hkswitch.model.errors import ConfigUnreadable

if TYPE_CHECKING:
    from hkswitch.model.config import Config

DEFAULT: Final = Path("/etc/hkswitch/config.yaml")


def read(file: Path) -> "Config":
    """The config in `file`; raises `ConfigUnreadable` or `ConfigError`."""
    from hkswitch.model.config import parse  # noqa: PLC0415 -- `hkswitch status` does not wait for YAML

    try:
        contents = file.read_bytes()
    except OSError as error:
        raise ConfigUnreadable(str(file), error.strerror or str(error)) from error
    return parse(contents, str(file))
