"""The program `serviceswitch`. Runs as root."""

import sys

from hkswitch import openssl


def main() -> int:
    """Run the command line; returns an exit code."""
    sys.unraisablehook = lambda _: None  # no traceback if the event loop cannot be created
    try:
        openssl.leave_out()
        from hkswitch.serviceswitch.main import main as run  # noqa: PLC0415 -- root needs no OpenSSL

        return run()
    except (ImportError, OSError) as error:  # the caller's resource limits, before anything has begun
        print(f"serviceswitch: cannot start: {error}", file=sys.stderr)  # noqa: T201 -- stdio may be missing
        return 69  # EX_UNAVAILABLE


if __name__ == "__main__":
    sys.exit(main())
