"""Reads the config file, without privilege; what root reads goes through serviceswitch/trusted_files.py.

Whatever is in the file's place, nobody waits for it: a FIFO, a device, or a file system that hangs.
"""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hkswitch.model.errors import ConfigUnreadable

if TYPE_CHECKING:
    from hkswitch.model.config import Config

DEFAULT: Final = Path("/etc/hkswitch/config.yaml")
READ_WITHIN_SECONDS: Final = 5
_CHUNK_BYTES: Final = 1 << 16


class ConfigReadTimedOut(ConfigUnreadable):
    """A config on a file system that does not answer."""


def read(file: Path) -> "Config":
    """The config in `file`; raises `ConfigUnreadable` or `ConfigError`."""
    from hkswitch.model.config import parse  # noqa: PLC0415 -- `hkswitch status` does not wait for YAML

    return parse(config_bytes(file), str(file))


async def read_within(file: Path, seconds: float) -> "Config":
    """The same while the event loop goes on; raises `ConfigReadTimedOut` too.

    A file system that hangs keeps the thread, which then ends with the process and holds nothing up.
    """
    import asyncio  # noqa: PLC0415 -- `hkswitch status` does not wait for it
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
        except Exception as error:  # noqa: BLE001 -- it is raised where the config is waited for
            outcome = error
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, outcome)

    try:
        threading.Thread(target=work, name="config", daemon=True).start()
    except RuntimeError as error:  # no more threads are allowed
        raise ConfigUnreadable(str(file), str(error)) from error
    try:
        async with asyncio.timeout(seconds):
            return await found
    except TimeoutError:
        raise ConfigReadTimedOut(str(file), f"reading took longer than {seconds:g} s") from None


def config_bytes(file: Path) -> bytes:
    """What is in `file`, and no more than shows that it is too large; raises `ConfigUnreadable`."""
    from hkswitch.model.yaml_nodes import MOST_BYTES  # noqa: PLC0415 -- as above

    try:
        return read_regular(file, MOST_BYTES + 1)
    except OSError as error:
        raise ConfigUnreadable(str(file), error.strerror or str(error)) from error


def read_regular(file: Path, most_bytes: int) -> bytes:
    """The beginning of a regular file; raises `OSError`, for anything else too, and waits for no writer."""
    _refuse_irregular(file.stat())  # before it is opened: with a device that alone can do something
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _refuse_irregular(os.fstat(descriptor))
        contents = bytearray()
        while more := os.read(descriptor, min(_CHUNK_BYTES, most_bytes - len(contents))):
            contents += more
        return bytes(contents)
    finally:
        os.close(descriptor)


def _refuse_irregular(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
