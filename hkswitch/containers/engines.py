"""The container engines: looks at the containers of members, and starts and stops them. Runs as root."""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

from hkswitch.containers.answers import (
    Container,
    EngineUnavailable,
    parse_container,
    parse_error,
    parse_ids,
    parse_stopped_by_user,
)
from hkswitch.containers.connection import (
    DONE,
    DONE_BEFORE,
    Begin,
    Connect,
    EngineConnection,
    UnitStates,
    connect,
)
from hkswitch.containers.members import Member, state_of, unavailable
from hkswitch.model.group import Engine
from hkswitch.model.unit_state import Action, JobResult, LoadState, UnitResult, UnitState

ACT_SECONDS: Final = 90
"""The time limit of a start, and of a stop beyond the container's own time, as systemd has for services."""

LONGEST_STOP_SECONDS: Final = 3600

MOST_STOPS: Final = 20
STOP_AGAIN_SECONDS: Final = 0.1
"""Between the stops of a container that was between two runs; each may come at such a moment."""

Look = tuple[UnitState, Sequence[Container]]
"""The state of a member, and its containers as they are now."""

_T = TypeVar("_T")


class Engines:
    """The container engines of this machine, for members by their full names, as systemd is for units."""

    def __init__(self, unit_states: UnitStates, connect: Connect = connect) -> None:
        """Acts on a container only once the last action on it has ended, whichever group that was for."""
        self.connections = {engine: EngineConnection(engine, unit_states, connect) for engine in Engine}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def look(self, member: Member) -> Look:
        """Return the state of a member, and its containers as they are now."""
        connection = self.connections[member.engine]
        try:
            # An engine takes the beginning of an ID for a name: so list by the name, and ask by whole IDs.
            ids = parse_ids(await connection.get(f"/containers/json?{member.query}"))
            paths = (f"/containers/{each}/json" for each in ids)
            found = [parse_container(body) for path in paths if (body := await connection.get(path))]
        except EngineUnavailable as why:
            return unavailable(why), []
        found = [container for container in found if member.has(container)]
        return member.state(found), found

    async def stopped_by_user(self, container: Container) -> bool:
        """Return whether a user of Podman stopped a container; if in doubt, that is so."""
        try:
            found = await self.connections[Engine.PODMAN].get(
                f"/v4.0.0/libpod/containers/{container.id}/json"
            )
            return not found or parse_stopped_by_user(found)
        except EngineUnavailable:
            return True

    async def states(self, members: Iterable[str]) -> dict[str, UnitState]:
        """Return the states of members now."""
        names = list(members)
        looks = await asyncio.gather(*(self.look(Member.of(name)) for name in names))
        return {name: state for name, (state, _) in zip(names, looks, strict=True)}

    async def run(
        self, action: Action, members: Iterable[str], confirm_seconds: float, begin: Begin
    ) -> tuple[UnitResult, ...]:
        """Perform an action on members at once; a restart affects only what runs.

        What was started must be up `confirm_seconds` later. Calls `begin` before each request.
        """
        named = [Member.of(member) for member in members]
        looks = await asyncio.gather(*map(self.look, named))
        # A container that has a network of its own begins before those that wait for it in `_act`.
        by_network = sorted(zip(named, looks, strict=True), key=lambda each: any(map(_joins, each[1][1])))
        # The next request goes on when `begin` is called, so all containers have to be waited for by then.
        return tuple(
            await _all(
                self._act_on(action, member, look, confirm_seconds, begin) for member, look in by_network
            )
        )

    async def _act_on(
        self, action: Action, member: Member, look: Look, confirm_seconds: float, begin: Begin
    ) -> UnitResult:
        state, found = look
        if state.load is not LoadState.LOADED:
            return UnitResult(member.full_name, JobResult.REFUSED, state.sub)
        if action is Action.START:
            is_down = not any(state_of(each).is_running for each in found)
            wanted = found if is_down else member.counted(found)
            # Docker calls a container running until it has stopped.
            found = [each for each in wanted if each.status != "running" or each.id in self._locks]
        elif action is Action.RESTART:
            found = [each for each in found if state_of(each).is_running]
        found = sorted(found, key=_joins)
        ends = await _all(self._act(action, member, each, begin) for each in found)
        started = {each.id: each.name for each, end in zip(found, ends, strict=True) if end == ""}
        failed = {each.name: end for each, end in zip(found, ends, strict=True) if end}
        if failed or not started:
            return _result(member, failed)
        await asyncio.sleep(confirm_seconds)
        state, found = await self.look(member)
        now = {each.id: each for each in found}
        failed = {name: f"is gone ({state})" for each, name in started.items() if each not in now}
        left = [now[each] for each in started if each in now]
        failed |= {each.name: "restarts again and again" for each in left if each.restarts}
        down = [each for each in left if not (each.restarts or state_of(each).is_running)]
        failed |= {each.name: state_of(each).sub for each in down if each.exit_status}
        return _result(member, failed, {each.name: state_of(each).sub for each in down})

    async def _act(self, action: Action, member: Member, container: Container, begin: Begin) -> str | None:
        """Return why the engine did not do it; empty if it started the container, None if it need not run."""
        connection = self.connections[member.engine]
        async with self._locks.setdefault(container.id, asyncio.Lock()):
            if action is not Action.STOP and (other := self._locks.get(container.network_of)):
                async with other:  # Docker starts it only once the container with its network runs
                    pass
            try:
                if action is not Action.START and not await _stop(connection, container, begin):
                    return None  # a restart starts nothing that did not run
                if action is not Action.STOP:
                    await _post(connection, container, "start", begin)
            except EngineUnavailable as why:
                return str(why)
        return None if action is Action.STOP else ""


async def _stop(connection: EngineConnection, container: Container, begin: Begin) -> bool:
    """Stop a container, and return whether it ran; raises `EngineUnavailable`.

    Between a crash and the restart, podman says that it does not run, and then restarts it all the same.
    """
    for _ in range(MOST_STOPS):
        if await _post(connection, container, "stop", begin) == DONE:
            return True
        found = await connection.get(f"/containers/{container.id}/json") if container.restarts_itself else b""
        if not found or parse_container(found).status not in {"stopped", "running"}:
            break
        await asyncio.sleep(STOP_AGAIN_SECONDS)
    return False


async def _post(connection: EngineConnection, container: Container, verb: str, begin: Begin) -> int:
    """Return the status of an answer that is no refusal; otherwise raises `EngineUnavailable`."""
    seconds = ACT_SECONDS + min(max(container.stop_seconds, 0), LONGEST_STOP_SECONDS)
    status, body = await connection.ask("POST", f"/containers/{container.id}/{verb}", seconds, begin)
    if status not in {DONE, DONE_BEFORE}:
        said = parse_error(body).replace(container.id, container.name)  # podman has no name for it
        raise EngineUnavailable(said or f"{connection.engine} answered with status {status}")
    return status


def _joins(container: Container) -> bool:
    return bool(container.network_of)


async def _all(acts: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Run acts to their ends, and raise the first exception."""
    tasks = [asyncio.ensure_future(act) for act in acts]
    await asyncio.gather(*tasks, return_exceptions=True)
    return [task.result() for task in tasks]


def _result(member: Member, failed: Mapping[str, str], ended: Mapping[str, str] = {}) -> UnitResult:
    """Return a result from words about containers by their names, which a single container does not need."""
    said = failed or ended
    words = ", ".join(f"{name}: {text}" if member.is_project else text for name, text in said.items())
    if failed:
        return UnitResult(member.full_name, JobResult.FAILED, f"failed: {words}")
    return UnitResult(member.full_name, JobResult.DONE, words)
