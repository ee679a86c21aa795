"""The command line `serviceswitch start|stop|restart|status GROUP` and `serviceswitch serve`. Runs as root.

It acts on (action, group) pairs of a root-owned config and does nothing else. No option, and nothing in the
environment, changes what it reads or runs.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from hkswitch import __version__
from hkswitch.containers.engines import Engines
from hkswitch.model.config import Config
from hkswitch.model.errors import ConfigError, Exit, Failure, reason_of
from hkswitch.model.installation import CONFIG_FILE
from hkswitch.model.unit_state import Action, GroupState, ProbeResult, result_of
from hkswitch.protocol.helper import CONFIRM_AT_LENGTH_MS
from hkswitch.serviceswitch import own_unit, requester, stdio, trusted_files
from hkswitch.serviceswitch.audit import Audit, Denial, caller
from hkswitch.serviceswitch.daemon_run import DaemonRun
from hkswitch.serviceswitch.dispatcher import Dispatcher, until_first_ends
from hkswitch.serviceswitch.execute import Executor
from hkswitch.serviceswitch.journal import Journal
from hkswitch.serviceswitch.own_unit import OwnUnit
from hkswitch.serviceswitch.policy import Policy, Refusal, TrustedConfig
from hkswitch.serviceswitch.requester import Requester
from hkswitch.systemd.link import Link
from hkswitch.systemd.units import Systemd

USAGE: Final = """\
usage: serviceswitch start|stop|restart|status GROUP
       serviceswitch serve [--for BRIDGE]
       serviceswitch --help | --version
"""

_TERMINATING: Final = (
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2),
    *(signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGXCPU, signal.SIGIO),
)
"""Signals that end a process by default."""

_SUSPENDING: Final = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)


class Facts(NamedTuple):
    """The identity of this process, and of its requester."""

    euid: int
    requester: Requester
    daemon_uid: int | None
    by_uid: int = trusted_files.ROOT
    """The user for whom this process acts."""
    bridge: str = ""
    """The bridge on another host for which it acts; empty for this host's daemon, and for users."""
    is_in_own_unit: Callable[[], bool] = own_unit.is_in_own_unit
    is_in_session: Callable[[], bool] = own_unit.is_in_session

    def admit(self, config: Config) -> None:
        """Raise `Refusal` if the config tells the daemon to use the other transport."""
        requester.admit_by_config(self.requester, self.by_uid, self.daemon_uid, config.helper)


def main() -> int:
    """Run the command line; returns an exit code."""
    stdio.hold_standard_descriptors()
    arguments = sys.argv[1:]
    peer = Requester.of_standard_input() if arguments[:1] == ["serve"] else Requester()
    try:
        bridge = requester.bridge_in(arguments)
        if bridge and os.geteuid() == trusted_files.ROOT:
            requester.take_place(bridge)  # until this process ends
    except Failure as failure:
        stdio.print_error(str(failure))
        return failure.exit_code
    by = caller(os.environ, os.getuid(), peer.peer_uid)._replace(bridge=bridge)
    audit = Audit(by, Journal())
    with suppress(OSError):  # setpriv started an interpreter, which gave this process its name
        Path("/proc/self/comm").write_text("serviceswitch")
    # TRUST: the environment comes from the caller. The bus address and everything else are constants.
    os.environ.clear()
    os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    os.chdir("/")
    daemon_uid = requester.daemon_uid() if arguments[:1] == ["serve"] else None
    return run(arguments, Facts(os.geteuid(), peer, daemon_uid, by.uid, bridge), trusted_files.read, audit)


def run(arguments: Sequence[str], facts: Facts, read: Callable[[str], bytes], audit: Audit) -> int:
    """Run the command in `arguments` with the config that `read` returns; returns an exit code."""
    try:
        match arguments:
            case ["--help"]:
                stdio.write(1, USAGE.encode())
                return Exit.OK
            case ["--version"]:
                stdio.write(1, f"serviceswitch {__version__}\n".encode())
                return Exit.OK
            case ["serve"] | ["serve", "--for", _] | ["start" | "stop" | "restart" | "status", _]:
                _require_root(facts.euid)
                with audit:
                    config = TrustedConfig(CONFIG_FILE, read, admit=facts.admit)
                    if arguments[0] == "serve":
                        _require_daemon(facts, config, audit)
                    policy = Policy(config, audit)
                    with asyncio.Runner() as runner:
                        runner.get_loop()  # first: if it fails, no unawaited coroutine is left behind
                        return runner.run(_until_signal(_do(arguments, policy, facts)))
            case _:
                raise Failure(f"invalid arguments\n{USAGE.rstrip()}", Exit.USAGE)
    except Failure as failure:
        stdio.print_error(str(failure))
        return failure.exit_code
    except (OSError, MemoryError) as error:  # the caller's limits
        stdio.print_error(f"out of resources: {reason_of(error)}")
        return Exit.UNAVAILABLE
    except KeyboardInterrupt:
        return 130


def _require_root(euid: int) -> None:
    if euid != trusted_files.ROOT:
        raise Refusal("permission denied: only root may do this; use sudo")


def _require_daemon(facts: Facts, config: TrustedConfig, audit: Audit) -> None:
    try:
        requester.admit(facts.requester, facts.daemon_uid)
        # A config that is not trusted allows nothing, and the daemon is told why.
        with suppress(trusted_files.Untrusted, trusted_files.NotThere, ConfigError):
            config.read()
    except Refusal as refusal:
        audit.denied(Denial(str(refusal), "serve"))
        raise


async def _until_signal(work: Coroutine[Any, Any, int]) -> int:
    """Run `work` until it ends or a signal arrives; either way the outcome of an action is audited."""
    loop = asyncio.get_running_loop()
    working = asyncio.ensure_future(work)
    ended_by: list[int] = []

    def end(number: int) -> None:
        ended_by.append(number)
        working.cancel()

    # TRUST: the caller's terminal and sudo pass these on to a root process.
    for number in _TERMINATING:
        loop.add_signal_handler(number, end, number)
    for number in _SUSPENDING:
        signal.signal(number, signal.SIG_IGN)
    try:
        return await working
    except asyncio.CancelledError:
        return 128 + ended_by[0]


async def _do(arguments: Sequence[str], policy: Policy, facts: Facts) -> int:
    match arguments:
        case ["serve", *_]:
            return await _serve(policy, facts)
        case ["status", group_id]:
            return await _status(group_id, policy.config)
        case [action, group_id]:
            return await _act(Action(action), group_id, policy)
    raise AssertionError(arguments)  # run() rejects all others


async def _act(action: Action, group_id: str, policy: Policy) -> int:
    group = policy.allowed(action, group_id)
    async with policy.audited(action, group_id) as record:
        with await Systemd.connect() as systemd:
            losing = asyncio.ensure_future(systemd.until_lost())  # ends the wait if the bus goes away
            try:
                executor = Executor(systemd, Engines(systemd.states), policy.config.examine)
                confirm_seconds = CONFIRM_AT_LENGTH_MS / 1000
                record.results = await executor.do(action, group, executor.probe, confirm_seconds)
            finally:
                losing.cancel()
    result = result_of(record.results)
    if result.failure is not None:
        raise Failure(f"{action} {group_id} failed: {result.failure}")
    note = result.note
    if group.assume_state:
        note = f"{group_id}: the state that hkswitch assumes has not changed"
    if note:
        stdio.write(1, f"{note}\n".encode())
    return Exit.OK


async def _status(group_id: str, config: TrustedConfig) -> int:
    group = config.read().group(group_id)
    if group is None:
        raise Refusal(f"there is no group {group_id!r} in the configuration")
    if group.elsewhere is not None:
        raise Refusal(f"{group_id} is {group.elsewhere}; use `hkswitch status {group_id}`")
    with await Systemd.connect() as systemd:
        executor = Executor(systemd, Engines(systemd.states), config.examine)
        units, probed = await executor.states(group), None
        if group.probe and group.state(units, ProbeResult.ON) is GroupState.ON:
            probed = await executor.probe(group)
    state = group.state(units, probed.result if probed else None)
    if state is None:
        why = "no command tells it (assume_state)" if group.assume_state else probed.reason if probed else ""
        raise Failure(f"cannot determine the state of {group_id}: {why}")
    lines = [f"{member} {units[member]}" for member in group.members] + ([probed.reason] if probed else [])
    stdio.write(1, "\n  ".join((state, *lines)).encode() + b"\n")
    return Exit.OK if state is GroupState.ON else Exit.NOT_ON


async def _serve(policy: Policy, facts: Facts) -> int:
    stdio.keep_replies_out_of_the_journal()
    own = OwnUnit(policy.audit.journal, is_remote=bool(facts.bridge), has_moved=facts.is_in_own_unit)
    # TRUST: the daemon's user is served only as hkswitch.service; other users have sudo rules of their own.
    is_required = facts.by_uid == facts.daemon_uid
    run = DaemonRun(facts.requester.peer_pid, is_required=is_required, is_in_session=facts.is_in_session)
    silence_seconds = requester.REMOTE_SILENCE_SECONDS if facts.bridge else None
    lines, link = await requester.lines(silence_seconds), Link(lambda: _connect(run, own, policy.audit))
    policy = policy._replace(admit=lambda: run.require(link.main_process), has_alerts=not facts.bridge)
    dispatcher = Dispatcher(
        policy,
        link,
        Engines(link.states),
        watch=link.watch,
        measure=link.usages,
        write=stdio.to_daemon,
        has_hung_up=requester.has_hung_up,
    )
    await serve_beside(link, dispatcher, own.after_move(lines))
    return Exit.OK


async def _connect(run: DaemonRun, own: OwnUnit, audit: Audit) -> Systemd:
    """Connect to systemd, and fail if the daemon has exited or never ran."""
    systemd = await Systemd.connect()
    try:
        await run.begin(systemd.main_process)
        await own.move(systemd)
        await run.require(systemd.main_process)
    except BaseException as error:
        if isinstance(error, Refusal):
            audit.denied(Denial(str(error), "serve"))
        systemd.close()
        raise
    return systemd


async def serve_beside(link: Link, dispatcher: Dispatcher, lines: AsyncIterator[bytes]) -> None:
    """Serve these lines, whether or not the bus is available."""
    await until_first_ends(dispatcher.serve(lines), link.keep(dispatcher.observation))
