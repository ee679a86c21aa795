"""Handles requests about pairings, for the daemon or for a state folder that no daemon uses."""

from typing import Protocol

from hkswitch.model.errors import Failure
from hkswitch.protocol.control import (
    Controllers,
    ControlReply,
    ControlRequest,
    ErrorReply,
    Operation,
    Progress,
    SetupInfo,
)
from hkswitch.protocol.report import PairedController


class Pairings(Protocol):
    """The pairings of a running bridge, or of one on disk. Every method raises `Failure`."""

    def setup_info(self) -> SetupInfo:
        """Return the data that a phone needs to pair."""

    def controllers(self) -> tuple[PairedController, ...]:
        """Return the paired controllers."""

    def unpair(self, controller_id: str | None) -> None:
        """Remove the pairing of a controller, or all pairings (None)."""

    def reset_attempts(self) -> None:
        """Reset the failed pairing attempts."""


def do(request: ControlRequest, pairings: Pairings) -> ControlReply:
    """Carry out a request about pairings; raises `Failure`."""
    match request.operation:
        case Operation.CONTROLLERS:
            return Controllers(pairings.controllers())
        case Operation.SETUP:
            return pairings.setup_info()
        case Operation.UNPAIR:
            pairings.unpair(request.controller)
        case Operation.RESET_ATTEMPTS:
            pairings.reset_attempts()
        case Operation.STATUS | Operation.WATCH | Operation.ALERTS | Operation.ACT | Operation.RELOAD:
            raise AssertionError(request)  # these need the daemon
    return Progress.DONE


def reply_to(request: ControlRequest, pairings: Pairings) -> ControlReply:
    """Carry out a request about pairings; return its reply, also for a failure."""
    try:
        return do(request, pairings)
    except Failure as failure:
        return ErrorReply(failure.exit_code, str(failure))
