"""Reads the config file as an unprivileged user; root reads it through serviceswitch/trusted_files.py.

Reading never blocks on a FIFO or a device, and `read_within` gives up on a file system that hangs.
"""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hkswitch.model.errors import ConfigUnreadable, Exit, exit_of
from hkswitch.model.installation import CONFIG_FILE

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Thread

    from hkswitch.model.config import Config

    Outcome = Config | Exception

DEFAULT: Final = Path(CONFIG_FILE)
CONFIG_TIMEOUT_SECONDS: Final = 5
_READ_CHUNK_BYTES: Final = 1 << 16


class ConfigReadTimedOut(ConfigUnreadable):
    """A config on a file system that does not respond."""


def read(file: Path) -> "Config":
    """Read the config in `file`; raises `ConfigUnreadable` or `ConfigError`."""
    from hkswitch.model.config import parse  # noqa: PLC0415 -- a slow import that `hkswitch status` does not need

    return parse(config_bytes(file), str(file))


async def read_within(file: Path, seconds: float) -> "Config":
    """Read the config without blocking the event loop; raises as `read` does, or `ConfigReadTimedOut`.

    A daemon thread reads the file: if it hangs, it delays neither the loop nor the exit of the process.
    """
    import asyncio  # noqa: PLC0415 -- as above

    loop = asyncio.get_running_loop()
    found: asyncio.Future[Outcome] = loop.create_future()

    def settle(outcome: "Outcome") -> None:
        if not found.done():
            found.set_result(outcome)

    def tell(outcome: "Outcome") -> None:
        with suppress(RuntimeError):  # the loop has been closed by now
            loop.call_soon_threadsafe(settle, outcome)

    _begin_to_read(file, tell)
    try:
        async with asyncio.timeout(seconds):
            return _config_of(await found)
    except TimeoutError:
        raise _timed_out(file, seconds) from None


def read_in_time(file: Path, seconds: float) -> "Config":
    """Read the config while there is no event loop to block; raises as `read_within` does."""
    outcomes: list[Outcome] = []
    _begin_to_read(file, outcomes.append).join(seconds)
    if not outcomes:
        raise _timed_out(file, seconds)
    return _config_of(outcomes[0])


def _begin_to_read(file: Path, tell: "Callable[[Outcome], None]") -> "Thread":
    """Read the config in a thread, which passes it, or the error, to `tell`; raises `ConfigUnreadable`."""
    from threading import Thread  # noqa: PLC0415 -- as above

    def work() -> None:
        outcome: Outcome
        try:
            outcome = read(file)
        except Exception as error:  # noqa: BLE001 -- raised where the config is awaited
            outcome = error
        tell(outcome)

    thread = Thread(target=work, name="config", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # the thread limit has been reached
        raise ConfigUnreadable(str(file), str(error)) from error
    return thread


def _timed_out(file: Path, seconds: float) -> ConfigReadTimedOut:
    return ConfigReadTimedOut(str(file), f"reading took longer than {seconds:g} s")


def _config_of(outcome: "Outcome") -> "Config":
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def config_bytes(file: Path) -> bytes:
    """Return the contents of `file`, up to one byte more than the limit; raises `ConfigUnreadable`."""
    from hkswitch.model.yaml_nodes import MOST_CONFIG_BYTES  # noqa: PLC0415 -- as above

    try:
        return read_regular(file, MOST_CONFIG_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigUnreadable(str(file), reason, exit_of(error, Exit.CONFIG)) from error


def read_regular(file: Path, most_bytes: int) -> bytes:
    """Read at most `most_bytes` of a regular file without blocking; raises `OSError`, for other files too."""
    _refuse_irregular(file.stat())  # before opening it: opening a device can have side effects
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _refuse_irregular(os.fstat(descriptor))
        contents = bytearray()
        while more := os.read(descriptor, min(_READ_CHUNK_BYTES, most_bytes - len(contents))):
            contents += more
        return bytes(contents)
    finally:
        os.close(descriptor)


def _refuse_irregular(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
