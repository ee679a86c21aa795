"""Where every failure becomes one sentence and an exit code, and none a traceback."""

import os
import sys
from typing import NoReturn

import click

from hkswitch.model.errors import ConfigError, Exit, Failure


def run(program: click.Command) -> NoReturn:
    """Run a program, and exit as it ended."""
    try:
        sys.exit(program.main(standalone_mode=False))
    except (OSError, UnicodeError) as error:
        _say_without_output(error)
        sys.exit(Exit.OUTPUT)
    except Failure as failure:
        # A config's problems begin with its name, as compilers do it, so that editors can jump there.
        click.echo(str(failure) if isinstance(failure, ConfigError) else f"hkswitch: {failure}", err=True)
        sys.exit(failure.exit_code)
    except click.exceptions.Exit as ended:
        sys.exit(ended.exit_code)
    except click.ClickException as misuse:
        misuse.show()
        sys.exit(Exit.USAGE)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)


def _say_without_output(error: OSError | UnicodeError) -> None:
    """Standard output is closed, full, or speaks no Unicode; whoever closed a pipe wants no words."""
    if not isinstance(error, BrokenPipeError):
        click.echo(f"hkswitch: cannot write to standard output: {error}", err=True)
    sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 -- what is left in its buffer has nowhere to go
