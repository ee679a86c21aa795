"""Does several steps or none: a failure, Ctrl-C or a signal takes back what was done. No other I/O."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Final, NoReturn

ENDING: Final = (signal.SIGTERM, signal.SIGHUP)
_DEFERRED: Final = {signal.SIGINT, *ENDING}


@contextmanager
def all_or_nothing() -> Iterator[ExitStack]:
    """Have the block note how to take back each of its steps; they are taken back in reverse if it fails."""
    before = {number: signal.signal(number, _interrupt) for number in ENDING}
    done = ExitStack()
    try:
        yield done
    except BaseException:
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _DEFERRED)
        try:
            done.close()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
