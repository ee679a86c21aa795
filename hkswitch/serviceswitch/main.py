"""`serviceswitch start|stop|restart|status GROUP` and `serviceswitch serve`. Runs as root.

It does (action, group) pairs from a root-owned config and nothing else. It takes no option that changes what
it reads or runs, and nothing from its environment.
"""

import asyncio
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from hkswitch import __version__
from hkswitch.core.errors import Exit, Failure
from hkswitch.core.model import Action, GroupState, group_state
from hkswitch.core.protocol import LONGEST_REQUEST_BYTES, Reply, encode
from hkswitch.core.switch import failure_of
from hkswitch.serviceswitch import trusted
from hkswitch.serviceswitch.policy import Denied, permit
from hkswitch.serviceswitch.rules import Rules
from hkswitch.serviceswitch.serve import LineTooLong, serve
from hkswitch.systemd import Systemd

CONFIG_FILE: Final = "/etc/hkswitch/config.yaml"
USAGE: Final = """\
usage: serviceswitch start|stop|restart|status GROUP
       serviceswitch serve
       serviceswitch --help | --version
"""


class Refusal(Failure):
    """What was asked will not be done; `str()` says why."""

    exit_code = Exit.DENIED


class Misuse(Failure):
    """The command line or the standard input is not what it must be."""

    exit_code = Exit.USAGE


class ActionFailed(Failure):
    """A unit's job failed."""

    exit_code = Exit.UNAVAILABLE


def main() -> int:
    """Run the command line; returns an exit code."""
    # TRUST: the environment is the caller's. Where the bus is, and everything else, is a constant here.
    os.environ.clear()
    os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    os.chdir("/")
    return run(sys.argv[1:], os.geteuid(), trusted.read)


def run(arguments: Sequence[str], euid: int, read: Callable[[str], bytes]) -> int:
    """Do what `arguments` say, as user `euid`, by the config that `read` returns; returns an exit code."""
    try:
        match arguments:
            case ["--help"]:
                sys.stdout.write(USAGE)
                return Exit.OK
            case ["--version"]:
                sys.stdout.write(f"serviceswitch {__version__}\n")
                return Exit.OK
            case ["serve"] | ["start" | "stop" | "restart" | "status", _]:
                _require_root(euid)
                return asyncio.run(_do(arguments, Rules(CONFIG_FILE, read)))
            case _:
                raise Misuse(f"wrong arguments\n{USAGE.rstrip()}")
    except Failure as failure:
        sys.stderr.write(f"serviceswitch: {failure}\n")
        return failure.exit_code
    except KeyboardInterrupt:
        return 130


def _require_root(euid: int) -> None:
    if euid != trusted.ROOT:
        raise Refusal("only root may do this; try it with sudo")


async def _do(arguments: Sequence[str], rules: Rules) -> int:
    match arguments:
        case ["serve"]:
            return await _serve(rules)
        case ["status", group_id]:
            return await _status(group_id, rules)
        case [action, group_id]:
            return await _act(Action(action), group_id, rules)
    raise AssertionError(arguments)  # run() lets no others through


async def _act(action: Action, group_id: str, rules: Rules) -> int:
    verdict = permit(action, group_id, rules.now())
    if isinstance(verdict, Denied):
        raise Refusal(verdict.reason)
    with await Systemd.connect() as systemd:
        losing = asyncio.ensure_future(systemd.until_lost())  # ends the wait, should the bus go away
        try:
            failure = failure_of(await systemd.run(action, verdict.units))
        finally:
            losing.cancel()
    if failure is not None:
        raise ActionFailed(f"{action} {group_id} failed: {failure}")
    return Exit.OK


async def _status(group_id: str, rules: Rules) -> int:
    group = rules.now().group(group_id)
    if group is None:
        raise Refusal(f"there is no group {group_id!r} in the configuration")
    with await Systemd.connect() as systemd:
        units = await systemd.states(group.units)
    state = group_state(units.values())
    sys.stdout.write(f"{state}\n" + "".join(f"  {unit} {units[unit]}\n" for unit in group.units))
    return Exit.OK if state is GroupState.ON else Exit.NOT_ON


async def _serve(rules: Rules) -> int:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # the daemon is gone: so are we
    lines = await _standard_input()
    with await Systemd.connect() as systemd:
        await serve(rules, systemd, lines, _say)
    return Exit.OK


async def _standard_input() -> AsyncIterator[bytes]:
    if not stat.S_ISFIFO(os.fstat(0).st_mode):
        raise Misuse("serve is for the daemon, which speaks to it over a pipe")
    reader = asyncio.StreamReader(limit=LONGEST_REQUEST_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(0, "rb", buffering=0)
    )
    return _lines(reader)


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        try:
            line = await reader.readline()
        except ValueError:
            raise LineTooLong from None
        if not line:
            return
        yield line


def _say(reply: Reply) -> None:
    """Write to the pipe, and wait if the daemon does not read."""
    data = encode(reply)
    while data:
        data = data[os.write(1, data) :]
