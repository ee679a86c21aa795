"""The program `hkswitch`. Ctrl-C ends it without a traceback from the first moment on."""

import gc
import signal
import sys

signal.signal(signal.SIGINT, signal.SIG_DFL)  # while Python imports the rest
gc.disable()  # most commands end before there is garbage, and looking for it takes a tenth of their time
# asyncio takes ssl where there is one, and works without: HomeKit has an encryption of its own.
sys.modules["ssl"] = None  # type: ignore[assignment] # "The import system", 5.3.1 of Python's reference


def main() -> None:
    """Run the command line and exit."""
    from hkswitch import cli, edge  # noqa: PLC0415 -- see above

    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        edge.run(cli.commands)
    finally:
        gc.freeze()  # nor is it looked for at the end


if __name__ == "__main__":
    main()
