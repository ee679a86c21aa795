"""The program `serviceswitch`. Runs as root."""

import sys

from hkswitch import openssl


def main() -> int:
    """Run the command line; returns an exit code."""
    openssl.leave_out()
    from hkswitch.serviceswitch.main import main as run  # noqa: PLC0415 -- root needs no OpenSSL

    return run()


if __name__ == "__main__":
    sys.exit(main())
