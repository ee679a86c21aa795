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
    from hkswitch.model.config import Config

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
    import threading  # noqa: PLC0415

    loop = asyncio.get_running_loop()
    found: asyncio.Future[Config] = loop.create_future()

    def settle(outcome: "Config | Exception") -> None:
        if found.done():
            return
        if isinstance(outcome, Exception):
            found.set_exception(outcome)
        else:
            found.set_result(outcome)

    def work() -> None:
        outcome: Config | Exception
        try:
            outcome = read(file)
        except Exception as error:  # noqa: BLE001 -- raised where the config is awaited
            outcome = error
        with suppress(RuntimeError):  # the loop has been closed by now
            loop.call_soon_threadsafe(settle, outcome)

    try:
        threading.Thread(target=work, name="config", daemon=True).start()
    except RuntimeError as error:  # the thread limit has been reached
        raise ConfigUnreadable(str(file), str(error)) from error
    try:
        async with asyncio.timeout(seconds):
            return await found
    except TimeoutError:
        raise ConfigReadTimedOut(str(file), f"reading took longer than {seconds:g} s") from None


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
