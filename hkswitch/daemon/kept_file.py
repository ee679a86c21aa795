"""A value that the daemon keeps over restarts, in a JSON file of the state folder that only it writes.

Reading never blocks, whatever is in the file's place, and never fails: a value that cannot be read is the
empty one. A value that cannot be written is written later. Knows nothing about the values.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from hkswitch.hap import state_file
from hkswitch.model import config_values
from hkswitch.model.config_file import read_regular
from hkswitch.model.yaml_nodes import Position, Scalar

WRITE_AGAIN_SECONDS: Final = 60.0

Value = TypeVar("Value")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KeptFormat(Generic[Value]):
    """The format of a file, and what becomes of one that is damaged or outdated."""

    largest_bytes: int
    parse: Callable[[bytes], Value]
    """Raises `ValueError`."""
    encode: Callable[[Value], Any]
    """Returns a JSON object."""
    empty: Value
    if_damaged: str
    """The consequence of a damaged file, for the log."""
    is_removed_when_outdated: bool = False
    """Whether no file is better than the one before a change that could not be written."""


class KeptFile(Generic[Value]):
    """The file of one value."""

    def __init__(self, path: Path, kept: KeptFormat[Value]) -> None:
        """Read nothing yet."""
        self._path = path
        self._format = kept
        self._value = kept.empty
        self._on_disk: Value | None = None
        """The value in the file; None if it is unknown."""
        self._again: asyncio.TimerHandle | None = None

    def read(self) -> Value:
        """Return the value in the file; the empty one without a file, or if it is damaged."""
        self._value = self._on_disk = self._read()
        return self._value

    def _read(self) -> Value:
        try:
            return self._format.parse(read_regular(self._path, self._format.largest_bytes))
        except FileNotFoundError:
            pass
        except OSError as error:
            _log.error("cannot read %s: %s", self._path, error.strerror or error)
        except ValueError:
            _log.error("%s is damaged; %s", self._path, self._format.if_damaged)
        return self._format.empty

    def keep(self, value: Value) -> None:
        """Keep another value; write it unless it is on disk, and again in a minute if that fails."""
        self._value = value
        self._write()

    def write(self, value: Value) -> None:
        """Write another value now; raises `OSError`. No daemon may use the folder meanwhile."""
        contents = json.dumps(self._format.encode(value)).encode()
        if len(contents) >= self._format.largest_bytes:
            raise OSError(f"it would become too large ({len(contents)} bytes)")
        state_file.write_whole(self._path, contents)
        self._value = self._on_disk = value

    def close(self) -> None:
        """Write no more."""
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def _write(self) -> None:
        self.close()
        if self._value == self._on_disk:
            return
        try:
            self.write(self._value)
        except OSError as error:
            _log.error("cannot write %s: %s", self._path, error.strerror or error)
            self._on_disk = None
            if self._format.is_removed_when_outdated:
                with suppress(OSError):
                    self._path.unlink()
            self._again = asyncio.get_running_loop().call_later(WRITE_AGAIN_SECONDS, self._write)


def parsed_json(contents: bytes, largest_bytes: int) -> object:
    """Return JSON from an untrusted file of which up to `largest_bytes` were read; raises `ValueError`."""
    if len(contents) >= largest_bytes:  # the rest may not have been read
        raise ValueError("too large")
    try:
        return json.loads(contents)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def group_id_in(text: str) -> str:
    """Return a group's id from an untrusted file; raises `ValueError`."""
    return config_values.group_id(Scalar(Position(1, 1), text, is_text=True))
