"""What is done to a daemon while one of its system calls fails, and what must be true after it.

Each scenario returns what saw the calls: a run without a fault tells which there are.
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
from tests.host.injected import EXTRA, Bridge, Master, Run, Wrong
from tests.host.injection import Call, Fault, Injector
from tests.host.machine import ADDRESS
from tests.support.controller import Controller
from tests.support.waiting import PATIENCE_SECONDS

NOT_PAIRED: Final = ("paired_clients", "client_properties", "client_uuid_to_bytes")

AFTER_TAP_SECONDS: Final = 0.5
"""For the unit's job, and for what the helper watches after it; a helper that failed does not tell."""

MOST_SHOWN: Final = 4000

_GONE: Final = (HomeKitException, TimeoutError, OSError)


async def mastered(bridge: Bridge) -> Master:
    """A new bridge with a pairing."""
    bridge.restore(None)
    async with bridge.runs() as run:
        run.injector.disarm()
        await run.until_served()
        controller = await Controller.pair(ADDRESS, bridge.port, bridge.setup_code())
        await controller.close()
    return Master((bridge.state / state_file.FILE_NAME).read_bytes(), controller)


async def start(bridge: Bridge, master: Master, fault: Fault | None) -> Injector:
    """Start a daemon that has a pairing."""
    return await _started(bridge, master, master.state, fault)


async def upgrade(bridge: Bridge, master: Master, fault: Fault | None) -> Injector:
    """Start one on the state of another version, whose accessories were others."""
    return await _started(bridge, master, _of_another_version(master.state), fault)


async def _started(bridge: Bridge, master: Master, state: bytes, fault: Fault | None) -> Injector:
    bridge.restore(state)
    async with bridge.runs(fault) as run:
        if await run.until_served():
            await run.verify(master.controller, _truth(bridge))
        run.injector.disarm()
    await _well_after_a_restart(bridge, master, state)
    return run.injector


async def stop(bridge: Bridge, master: Master, fault: Fault | None) -> Injector:
    """Stop one."""
    bridge.restore(master.state)
    async with bridge.runs() as run:
        await _begun(run)
        run.injector.arm(fault)
        run.kill(signal.SIGTERM)
        await run.until_ended()
        run.injector.disarm()
    await _well_after_a_restart(bridge, master, master.state)
    return run.injector


async def pair(bridge: Bridge, master: Master, fault: Fault | None) -> Injector:
    """Pair a controller: it keeps what it was told it has, and otherwise it can pair again."""
    bridge.restore(_unpaired(master.state))
    controller: Controller | None = None
    async with bridge.runs() as run:
        await _begun(run)
        run.injector.arm(fault)
        with suppress(*_GONE):
            async with asyncio.timeout(PATIENCE_SECONDS):
                controller = await Controller.pair_only(ADDRESS, bridge.port, bridge.setup_code())
        if controller is not None:
            await run.verify(controller, _truth(bridge))
        run.injector.disarm()
    async with bridge.runs() as next_run:
        await _begun(next_run)
        if controller is None:
            try:
                controller = await Controller.pair_only(ADDRESS, bridge.port, bridge.setup_code())
            except _GONE as error:
                raise Wrong(f"a controller that could not pair never can: {error!r}") from error
        await next_run.verify(controller, _truth(bridge))
        await controller.close()
    return run.injector


async def tap(run: Run, master: Master, fault: Fault | None) -> Injector:
    """Switch a group of a daemon that runs on, or off."""
    phone = run.bridge.again(master.controller)
    await phone.look()
    run.injector.arm(fault)
    on = not _is_active(run.bridge)
    try:
        with suppress(*_GONE):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await phone.write("Tapped", on=on)
    finally:
        await phone.close()
    await asyncio.sleep(AFTER_TAP_SECONDS)
    await run.verify(master.controller, _truth(run.bridge), moving={"Tapped"})
    run.injector.disarm()
    await _same(run.bridge, master)
    return run.injector


async def reload_(run: Run, master: Master, fault: Fault | None) -> Injector:
    """Reload a config that has one group more or less; the next reload succeeds."""
    bridge = run.bridge
    has_extra = EXTRA not in (bridge.seen / "config.yaml").read_text()
    bridge.configure(EXTRA if has_extra else "")
    run.injector.arm(fault)
    with suppress(Failure):  # which is a sentence
        await asyncio.to_thread(reload.request_reload, bridge.state)
    run.injector.disarm()
    try:
        await asyncio.to_thread(reload.request_reload, bridge.state)
    except Failure as failure:
        raise Wrong(f"the next reload fails: {failure}") from failure
    await run.verify(master.controller, _truth(bridge) | ({"Extra": False} if has_extra else {}))
    await _same(bridge, master)
    return run.injector


Once = Callable[[Bridge, Master, Fault | None], Awaitable[Injector]]
Again = Callable[[Run, Master, Fault | None], Awaitable[Injector]]
ONCE: Final[dict[str, Once]] = {"start": start, "upgrade": upgrade, "stop": stop, "pair": pair}
"""Those that have a daemon of their own."""
AGAIN: Final[dict[str, Again]] = {"tap": tap, "reload": reload_}
"""Those that one daemon can take one after the other."""


def faults(name: str, calls: Iterable[Call]) -> Iterator[Fault]:
    """A fault for each call of a scenario, and for each error that it may have.

    A file of Python's has one error, as any has the same effect. An upgrade is a start but for its state.
    asyncio's C module is left out: several modules import it, which do not fit together if one alone fails.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for call in calls:
        counts[call[:2]] += 1
        if "/_asyncio." in call.file or (name == "upgrade" and "/state" not in call.file):
            continue
        for error in call.errors[: 1 if "/lib/" in call.file else None]:
            yield Fault(call.program, call.kind, counts[call[:2]], error)


async def calls_of(name: str, bridge: Bridge, master: Master) -> list[Call]:
    """The calls of a scenario, none of which fails."""
    if name in ONCE:
        return (await ONCE[name](bridge, master, None)).seen
    async with _ready(bridge, master) as run:
        return (await AGAIN[name](run, master, None)).seen


@dataclass
class Outcome:
    """What came of faults: what went wrong, with what was printed, and the faults whose call never came."""

    wrong: list[str] = field(default_factory=list)
    missed: list[Fault] = field(default_factory=list)


async def outcome(name: str, todo: Iterable[Fault], bridges: Iterable[Bridge], master: Master) -> Outcome:
    """Take all these faults, on the bridges side by side."""
    left, came = deque(todo), Outcome()
    await asyncio.gather(*(_take(name, left, bridge, master, came) for bridge in bridges))
    return came


async def _take(name: str, left: deque[Fault], bridge: Bridge, master: Master, came: Outcome) -> None:
    fault: Fault | None = None
    while left:
        try:
            if name in ONCE:
                fault = left.popleft()
                injector = await ONCE[name](bridge, master, fault)
                came.missed += [fault] if injector.failed is None else []
                continue
            async with _ready(bridge, master) as run:
                while left and run.process.poll() is None and not run.lost_helper:
                    fault = left.popleft()
                    injector = await AGAIN[name](run, master, fault)
                    came.missed += [fault] if injector.failed is None else []
                    run.look()
        except Wrong as error:
            printed = bridge.printed.read_text(errors="replace")[-MOST_SHOWN:]
            came.wrong.append(f"{name}: {fault}: {error}; it printed:\n{printed}")


@asynccontextmanager
async def _ready(bridge: Bridge, master: Master) -> AsyncIterator[Run]:
    """A daemon that serves and has a pairing."""
    bridge.restore(master.state)
    bridge.configure()
    async with bridge.runs() as run:
        await _begun(run)
        await run.verify(master.controller, _truth(bridge))
        yield run


async def _begun(run: Run) -> None:
    run.injector.disarm()
    if not await run.until_served():
        raise Wrong("it does not start any more")


async def _well_after_a_restart(bridge: Bridge, master: Master, before: bytes) -> None:
    if bridge.is_as_restored(before):
        return  # the next start finds what this one found
    await _same(bridge, master)
    async with bridge.runs() as run:
        await _begun(run)
        await run.verify(master.controller, _truth(bridge))
    await _same(bridge, master)


async def _same(bridge: Bridge, master: Master) -> None:
    """See whether identity and pairings are what they were, in the file and in its backup."""
    expected = json.loads(master.state)
    for name in (state_file.FILE_NAME, state_file.BACKUP_NAME):
        if name == state_file.BACKUP_NAME and not (bridge.state / name).exists():
            continue  # one that could not be written is removed
        found = json.loads((bridge.state / name).read_bytes())
        for state in (expected, found):
            state["accessory"].pop("config_version", None)
            state["accessory"].pop("accessories_hash", None)
            state.pop("sha256", None)
        before, after = expected["iids"], found.pop("iids")
        if any(after.get(aid) != iids for aid, iids in before.items()):
            raise Wrong(f"{name} has other iids")
        if found | {"iids": before} != expected:
            raise Wrong(f"another identity or other pairings are in {name}")


def _truth(bridge: Bridge) -> dict[str, bool]:
    """On of each switch, by systemd."""
    return {"Lit": True, "Dark": False, "Tapped": _is_active(bridge)}


def _is_active(bridge: Bridge) -> bool:
    return bridge.host.show(f"{bridge.tapped}.service", "ActiveState") == "active"


def _of_another_version(state: bytes) -> bytes:
    contents = json.loads(state)
    contents["accessory"]["accessories_hash"] = "of another version"
    return _sealed(contents)


def _unpaired(state: bytes) -> bytes:
    contents = json.loads(state)
    contents["accessory"] |= {name: {} for name in NOT_PAIRED}
    return _sealed(contents)


def _sealed(contents: dict[str, object]) -> bytes:
    del contents["sha256"]
    return json.dumps(contents | {"sha256": digest(contents)}, indent=1).encode()
