"""The program `hkswitch`. Ctrl-C and failed imports print no traceback."""

import gc
import signal
import sys
from os import EX_UNAVAILABLE

signal.signal(signal.SIGINT, signal.SIG_DFL)  # until all imports are done
gc.disable()  # most commands end before there is garbage: docs/benchmarks.md, "Two shortcuts"


def main() -> None:
    """Run the command line and exit."""
    sys.unraisablehook = _ignore
    try:
        from hkswitch import openssl  # noqa: PLC0415 -- see above

        openssl.leave_out()
        from hkswitch.cli import entry, main  # noqa: PLC0415
    except (ImportError, OSError) as error:  # for example, no file descriptor is left
        if sys.stderr is not None:
            print(f"hkswitch: cannot start: {error}", file=sys.stderr)  # noqa: T201 -- click may be missing
        sys.exit(EX_UNAVAILABLE)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        entry.run_program(main.commands)
    finally:
        gc.freeze()  # otherwise Python collects garbage when it exits


def _ignore(_: object) -> None:
    """Hide errors that Python ignores anyway, such as those of an event loop that could not be created."""


if __name__ == "__main__":
    main()
