"""The program `hkswitch`. Neither Ctrl-C nor a failed import ends it with a traceback."""

import gc
import signal
import sys
from os import EX_UNAVAILABLE

signal.signal(signal.SIGINT, signal.SIG_DFL)  # while Python imports the rest
gc.disable()  # most commands end before there is garbage, and looking for it takes a tenth of their time


def main() -> None:
    """Run the command line and exit."""
    sys.unraisablehook = _ignore
    try:
        from hkswitch import openssl  # noqa: PLC0415 -- see above

        openssl.leave_out()
        from hkswitch.cli import main, run  # noqa: PLC0415
    except (ImportError, OSError) as error:  # as without a file descriptor
        if sys.stderr is not None:
            print(f"hkswitch: cannot start: {error}", file=sys.stderr)  # noqa: T201 -- click may be missing
        sys.exit(EX_UNAVAILABLE)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run.run(main.commands)
    finally:
        gc.freeze()  # nor is it looked for at the end


def _ignore(_: object) -> None:
    """Say nothing of what Python ignores: a traceback, as of an event loop that could not be made."""


if __name__ == "__main__":
    main()
