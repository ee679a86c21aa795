"""The failures of members, and which ends of containers somebody requested. Pure: no I/O.

Engines say little about that. Docker tells of a signal that it was asked to send, before it tells of the end;
Podman keeps that a user stopped a container. If in doubt, the end was requested.
"""

import signal
from collections.abc import Callable, Collection, Sequence
from typing import Final

from hkswitch.containers.answers import Change, Container
from hkswitch.containers.members import Member, state_of
from hkswitch.model.unit_state import UnitFailure, UnitHealth

IsRequested = Callable[[Container], bool]

_BY_SIGNAL: Final = 128
"""Added to the number of a signal in an exit status."""

_ASKED_TO_END: Final = frozenset({_BY_SIGNAL + signal.SIGTERM, _BY_SIGNAL + signal.SIGINT})
"""Exit statuses after signals that ask a program to end, as the shutdown of the machine does."""

_HARMLESS: Final = frozenset(
    str(each.value) for each in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)
)
"""Signals for which many programs reload something, instead of ending."""


class DockerEnds:
    """The containers that ended without a request, by the events of one stream."""

    def __init__(self) -> None:
        """Knows no end before the first event: in doubt, they were requested."""
        self._requested: set[str] = set()
        self._crashed: set[str] = set()

    def note(self, change: Change) -> None:
        """Apply an event."""
        match change.action:
            case "kill" if change.signal not in _HARMLESS:
                self._requested.add(change.id)
            case "die" if change.id not in self._requested:
                self._crashed.add(change.id)
            case "stop":  # comes a moment before "die", or after it
                self._requested.add(change.id)
                self._crashed.discard(change.id)
            case "start" | "destroy":
                self._requested.discard(change.id)
                self._crashed.discard(change.id)

    def is_requested(self, container: Container) -> bool:
        """Tell whether a container that has ended may have been stopped."""
        return container.id not in self._crashed


def has_failed(container: Container) -> bool:
    """Tell whether a container ended with a failure."""
    return bool(container.exit_status) and not state_of(container).is_running


def failure_of(
    member: Member, containers: Sequence[Container], restarted: Collection[str], is_requested: IsRequested
) -> UnitFailure | None:
    """Return the failure of a member, from its containers as they are now; None if it has not failed.

    `restarted` are the IDs of those that their engine restarted just now. Of a project, one that failed by
    itself counts first.
    """
    failures = [
        failure._replace(reason=f"{_name_of(member, each)} {failure.reason}")
        for each in containers
        if (failure := _failure(each, restarted, is_requested))
    ]
    return min(failures, key=lambda failure: failure.is_requested, default=None)


def _name_of(member: Member, container: Container) -> str:
    return f"{member.full_name}: {container.name}" if member.is_project else member.full_name


def _failure(
    container: Container, restarted: Collection[str], is_requested: IsRequested
) -> UnitFailure | None:
    run = f"{container.id[:12]} {container.started}"
    if container.id in restarted or container.status == "restarting":
        again = "again and again" if container.restarts > 1 else "because it ended"
        return UnitFailure(run, is_requested=False, reason=f"restarts {again}")
    if has_failed(container):
        is_asked = container.exit_status in _ASKED_TO_END or is_requested(container)
        return UnitFailure(run, is_asked, _why_ended(container))
    if state_of(container).health is UnitHealth.FAILED:
        return UnitFailure(run, is_requested=False, reason=f"is {state_of(container).sub}")
    return None


def _why_ended(container: Container) -> str:
    if container.is_out_of_memory:
        return "ran out of memory"
    if container.exit_status == _BY_SIGNAL + signal.SIGKILL:
        return "was killed by SIGKILL"
    return f"exited with status {container.exit_status}"
