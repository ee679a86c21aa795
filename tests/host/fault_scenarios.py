"""Scenarios in which one system call of a daemon or its helper fails, and what must hold afterwards.

Each scenario returns its injector: after a run without a fault, it lists the calls that can fail.
"""

import asyncio
import json
import signal
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from aiohomekit.exceptions import HomeKitException

from hkswitch.cli import reload
from hkswitch.hap import state_file
from hkswitch.hap.state_format import digest
from hkswitch.model.errors import Failure
from tests.host.fault_harness import EXTRA, Bridge, CheckFailed, PairedState, RunningDaemon
from tests.host.fault_injection import Call, Fault, Injector
from tests.host.machine import ADDRESS
from tests.support.controller import Controller
from tests.support.waiting import PATIENCE_SECONDS

NOT_PAIRED: Final = ("paired_clients", "client_properties", "client_uuid_to_bytes")

AFTER_TAP_SECONDS: Final = 0.5
"""Time for the unit's job and for the helper to watch the unit; a failed helper does not report the end."""

MOST_SHOWN: Final = 4000

_CONNECTION_ERRORS: Final = (HomeKitException, TimeoutError, OSError)


async def pair_new_bridge(bridge: Bridge) -> PairedState:
    """Start a new bridge and pair a controller with it."""
    bridge.restore(None)
    async with bridge.runs() as run:
        run.injector.disarm()
        await run.until_served()
        controller = await Controller.pair(ADDRESS, bridge.port, bridge.setup_code())
        await controller.close()
    return PairedState((bridge.state / state_file.FILE_NAME).read_bytes(), controller)


async def start(bridge: Bridge, paired: PairedState, fault: Fault | None) -> Injector:
    """Start a daemon that is already paired."""
    return await _started(bridge, paired, paired.state, fault)


async def upgrade(bridge: Bridge, paired: PairedState, fault: Fault | None) -> Injector:
    """Start a daemon on the state of another version, which had other accessories."""
    return await _started(bridge, paired, _of_another_version(paired.state), fault)


async def _started(bridge: Bridge, paired: PairedState, state: bytes, fault: Fault | None) -> Injector:
    bridge.restore(state)
    async with bridge.runs(fault) as run:
        if await run.until_served():
            await run.verify(paired.controller, _expected_states(bridge))
        run.injector.disarm()
    await _check_restart(bridge, paired, state)
    return run.injector


async def stop(bridge: Bridge, paired: PairedState, fault: Fault | None) -> Injector:
    """Stop a daemon."""
    bridge.restore(paired.state)
    async with bridge.runs() as run:
        await _until_served(run)
        run.injector.arm(fault)
        run.kill(signal.SIGTERM)
        await run.until_ended()
        run.injector.disarm()
    await _check_restart(bridge, paired, paired.state)
    return run.injector


async def pair(bridge: Bridge, paired: PairedState, fault: Fault | None) -> Injector:
    """Pair a controller: a pairing that was confirmed survives, and one that failed can be repeated."""
    bridge.restore(_unpaired(paired.state))
    controller: Controller | None = None
    async with bridge.runs() as run:
        await _until_served(run)
        run.injector.arm(fault)
        with suppress(*_CONNECTION_ERRORS):
            async with asyncio.timeout(PATIENCE_SECONDS):
                controller = await Controller.pair_only(ADDRESS, bridge.port, bridge.setup_code())
        if controller is not None:
            await run.verify(controller, _expected_states(bridge))
        run.injector.disarm()
    async with bridge.runs() as next_run:
        await _until_served(next_run)
        if controller is None:
            try:
                controller = await Controller.pair_only(ADDRESS, bridge.port, bridge.setup_code())
            except _CONNECTION_ERRORS as error:
                raise CheckFailed(f"a controller cannot pair after a failed attempt: {error!r}") from error
        await next_run.verify(controller, _expected_states(bridge))
        await controller.close()
    return run.injector


async def tap(run: RunningDaemon, paired: PairedState, fault: Fault | None) -> Injector:
    """Toggle a switch of a running daemon."""
    phone = run.bridge.again(paired.controller)
    await phone.look()
    run.injector.arm(fault)
    on = not _is_active(run.bridge)
    try:
        with suppress(*_CONNECTION_ERRORS):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await phone.write("Tapped", on=on)
    finally:
        await phone.close()
    await asyncio.sleep(AFTER_TAP_SECONDS)
    await run.verify(paired.controller, _expected_states(run.bridge), moving={"Tapped"})
    run.injector.disarm()
    await _check_identity(run.bridge, paired)
    return run.injector


async def reload_(run: RunningDaemon, paired: PairedState, fault: Fault | None) -> Injector:
    """Reload a config with one group more or less; a second reload must succeed."""
    bridge = run.bridge
    has_extra = EXTRA not in (bridge.outside_folder / "config.yaml").read_text()
    bridge.configure(EXTRA if has_extra else "")
    run.injector.arm(fault)
    with suppress(Failure):  # it is a readable error
        await asyncio.to_thread(reload.request_reload, bridge.state)
    run.injector.disarm()
    try:
        await asyncio.to_thread(reload.request_reload, bridge.state)
    except Failure as failure:
        raise CheckFailed(f"the next reload fails: {failure}") from failure
    await run.verify(paired.controller, _expected_states(bridge) | ({"Extra": False} if has_extra else {}))
    await _check_identity(bridge, paired)
    return run.injector


Once = Callable[[Bridge, PairedState, Fault | None], Awaitable[Injector]]
Again = Callable[[RunningDaemon, PairedState, Fault | None], Awaitable[Injector]]
ONCE: Final[dict[str, Once]] = {"start": start, "upgrade": upgrade, "stop": stop, "pair": pair}
"""Scenarios that need a daemon of their own for each fault."""
AGAIN: Final[dict[str, Again]] = {"tap": tap, "reload": reload_}
"""Scenarios that the same daemon can go through repeatedly."""


def faults(name: str, calls: Iterable[Call]) -> Iterator[Fault]:
    """Yield a fault for each call of a scenario and each error the call can have.

    Python's own files get one error each, as all have the same effect. For an upgrade, only calls on the
    state count: the rest is the same as a start. asyncio's C module is left out: several modules import it,
    and they become inconsistent if only one import fails.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for call in calls:
        counts[call[:2]] += 1
        if "/_asyncio." in call.file or (name == "upgrade" and "/state" not in call.file):
            continue
        for error in call.errors[: 1 if "/lib/" in call.file else None]:
            yield Fault(call.program, call.kind, counts[call[:2]], error)


async def calls_of(name: str, bridge: Bridge, paired: PairedState) -> list[Call]:
    """Run a scenario without a fault, and return its calls."""
    if name in ONCE:
        return (await ONCE[name](bridge, paired, None)).calls
    async with _ready(bridge, paired) as run:
        return (await AGAIN[name](run, paired, None)).calls


@dataclass
class Outcome:
    """The result of many faults: failed checks with the output, and faults whose call was never made."""

    failures: list[str] = field(default_factory=list)
    missed: list[Fault] = field(default_factory=list)


async def outcome(
    name: str, todo: Iterable[Fault], bridges: Iterable[Bridge], paired: PairedState
) -> Outcome:
    """Run a scenario with each of these faults, on all bridges in parallel."""
    queue, found = deque(todo), Outcome()
    await asyncio.gather(*(_run_faults(name, queue, bridge, paired, found) for bridge in bridges))
    return found


async def _run_faults(
    name: str, queue: deque[Fault], bridge: Bridge, paired: PairedState, found: Outcome
) -> None:
    fault: Fault | None = None
    while queue:
        try:
            if name in ONCE:
                fault = queue.popleft()
                injector = await ONCE[name](bridge, paired, fault)
                found.missed += [fault] if injector.failed is None else []
                continue
            async with _ready(bridge, paired) as run:
                while queue and run.process.poll() is None and not run.lost_helper:
                    fault = queue.popleft()
                    injector = await AGAIN[name](run, paired, fault)
                    found.missed += [fault] if injector.failed is None else []
                    run.check_output()
        except CheckFailed as error:
            printed = bridge.printed.read_text(errors="replace")[-MOST_SHOWN:]
            found.failures.append(f"{name}: {fault}: {error}; the output was:\n{printed}")


@asynccontextmanager
async def _ready(bridge: Bridge, paired: PairedState) -> AsyncIterator[RunningDaemon]:
    """Run a paired daemon, once it serves."""
    bridge.restore(paired.state)
    bridge.configure()
    async with bridge.runs() as run:
        await _until_served(run)
        await run.verify(paired.controller, _expected_states(bridge))
        yield run


async def _until_served(run: RunningDaemon) -> None:
    run.injector.disarm()
    if not await run.until_served():
        raise CheckFailed("the daemon does not start any more")


async def _check_restart(bridge: Bridge, paired: PairedState, before: bytes) -> None:
    if bridge.is_as_restored(before):
        return  # the next start finds the same files
    await _check_identity(bridge, paired)
    async with bridge.runs() as run:
        await _until_served(run)
        await run.verify(paired.controller, _expected_states(bridge))
    await _check_identity(bridge, paired)


async def _check_identity(bridge: Bridge, paired: PairedState) -> None:
    """Check that identity and pairings are unchanged, in the state file and in its backup."""
    expected = json.loads(paired.state)
    for name in (state_file.FILE_NAME, state_file.BACKUP_NAME):
        if name == state_file.BACKUP_NAME and not (bridge.state / name).exists():
            continue  # a backup that could not be written is removed
        found = json.loads((bridge.state / name).read_bytes())
        for state in (expected, found):
            state["accessory"].pop("config_version", None)
            state["accessory"].pop("accessories_hash", None)
            state.pop("sha256", None)
        before, after = expected["iids"], found.pop("iids")
        if any(after.get(aid) != iids for aid, iids in before.items()):
            raise CheckFailed(f"{name} has other iids")
        if found | {"iids": before} != expected:
            raise CheckFailed(f"identity or pairings changed in {name}")


def _expected_states(bridge: Bridge) -> dict[str, bool]:
    """Return whether each switch is on, according to systemd."""
    return {"Lit": True, "Dark": False, "Tapped": _is_active(bridge)}


def _is_active(bridge: Bridge) -> bool:
    return bridge.host.show(f"{bridge.tapped}.service", "ActiveState") == "active"


def _of_another_version(state: bytes) -> bytes:
    contents = json.loads(state)
    contents["accessory"]["accessories_hash"] = "of another version"
    return _with_digest(contents)


def _unpaired(state: bytes) -> bytes:
    contents = json.loads(state)
    contents["accessory"] |= {name: {} for name in NOT_PAIRED}
    return _with_digest(contents)


def _with_digest(contents: dict[str, object]) -> bytes:
    del contents["sha256"]
    return json.dumps(contents | {"sha256": digest(contents)}, indent=1).encode()
