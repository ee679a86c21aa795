"""The program `serviceswitch`. Runs as root."""

import _signal  # type: ignore[import-not-found] # built in: the import of `signal` takes time itself

_signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # Ctrl-C prints no traceback

import gc  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from contextlib import suppress  # noqa: E402

from hkswitch import openssl  # noqa: E402


def main() -> int:
    """Run the command line; returns an exit code."""
    sys.unraisablehook = lambda _: None  # no traceback if the event loop cannot be created
    try:
        openssl.leave_out()
        gc.disable()  # imports make nothing but what stays: looking for garbage took 5 of 106 ms
        from hkswitch.serviceswitch.main import main as run  # noqa: PLC0415 -- root needs no OpenSSL

        gc.enable()
        return run()
    except (ImportError, OSError, MemoryError, SystemError) as error:  # the caller's resource limits
        with suppress(OSError):
            reason = str(error) or "out of memory"
            os.write(2, f"serviceswitch: cannot start: {reason}\n".encode(errors="backslashreplace"))
        return os.EX_UNAVAILABLE


if __name__ == "__main__":
    sys.exit(main())
