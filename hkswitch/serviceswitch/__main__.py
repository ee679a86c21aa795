"""The program `serviceswitch`. Runs as root."""

import sys

# asyncio takes ssl where there is one, and works without: root needs no OpenSSL.
sys.modules["ssl"] = None  # type: ignore[assignment] # "The import system", 5.3.1 of Python's reference


def main() -> int:
    """Run the command line; returns an exit code."""
    from hkswitch.serviceswitch.main import main as run  # noqa: PLC0415 -- see above

    return run()


if __name__ == "__main__":
    sys.exit(main())
