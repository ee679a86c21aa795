"""The program `hkswitch`. Ctrl-C ends it without a traceback from the first moment on."""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # while Python imports the rest


def main() -> None:
    """Run the command line and exit."""
    from hkswitch import cli  # noqa: PLC0415 -- see above

    signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


if __name__ == "__main__":
    main()
