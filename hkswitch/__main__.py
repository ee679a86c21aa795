"""The program `hkswitch`. Ctrl-C ends it without a traceback from the first moment on."""

import gc
import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # while Python imports the rest
gc.disable()  # most commands end before there is garbage, and looking for it takes a tenth of their time


def main() -> None:
    """Run the command line and exit."""
    from hkswitch import openssl  # noqa: PLC0415 -- see above

    openssl.leave_out()
    from hkswitch.cli import main, run  # noqa: PLC0415

    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run.run(main.commands)
    finally:
        gc.freeze()  # nor is it looked for at the end


if __name__ == "__main__":
    main()
