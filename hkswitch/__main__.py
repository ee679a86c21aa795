"""The program `hkswitch`. Ctrl-C and failed imports print no traceback."""

import _signal  # type: ignore[import-not-found] # built in: the import of `signal` takes time itself

_signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # until all imports are done

import sys  # noqa: E402 -- built in, too

if sys.argv[1:2] == ["run"]:  # until the daemon handles these, they must not end it
    for dropped in (_signal.SIGHUP, _signal.SIGUSR1):
        _signal.signal(dropped, lambda *_: None)  # not SIG_IGN, which the helper would inherit

import gc  # noqa: E402
import os  # noqa: E402
from collections.abc import Callable  # noqa: E402
from contextlib import suppress  # noqa: E402
from functools import partial  # noqa: E402
from typing import NoReturn  # noqa: E402

gc.disable()  # most commands end before there is garbage: docs/benchmarks.md, "Three shortcuts"


def main() -> None:
    """Run the command line and exit."""
    sys.unraisablehook = _ignore
    try:
        from hkswitch import openssl  # noqa: PLC0415 -- see above

        openssl.leave_out()
        program = _program(sys.argv[1:])
    except (
        ImportError,
        OSError,
        MemoryError,
        SystemError,
    ) as error:  # for example, no file descriptor is left
        _print_error(f"hkswitch: cannot start: {str(error) or 'out of memory'}\n")
        sys.exit(os.EX_UNAVAILABLE)
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    try:
        program()
    finally:
        gc.freeze()  # otherwise Python collects garbage when it exits


def _program(arguments: list[str]) -> Callable[[], NoReturn]:
    """Import what the arguments need."""
    from hkswitch.cli import entry  # noqa: PLC0415 -- see above

    if arguments == ["run"]:
        from hkswitch.cli.run import run  # noqa: PLC0415

        return partial(entry.run, run)
    if arguments[:1] == ["status"]:
        from hkswitch.cli import status  # noqa: PLC0415

        if (plain := status.plain(arguments[1:])) is not None:
            return partial(entry.run, plain)
    from hkswitch.cli import main  # noqa: PLC0415 -- click takes as long as all the rest of `hkswitch status`

    return partial(entry.run_program, main.commands)


def _print_error(text: str) -> None:
    """Print a line without click, which may be missing, and ignore errors of standard error."""
    if sys.stderr is not None:
        with suppress(OSError):
            os.write(2, text.encode(errors="backslashreplace"))


def _ignore(_: object) -> None:
    """Hide errors that Python ignores anyway, such as those of an event loop that could not be created."""


if __name__ == "__main__":
    main()
