"""The pairings in the state folder, for the command line when no daemon runs. Knows no HAP-python."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from hkswitch.hap import state_file
from hkswitch.hap.setup_code import UnknownController
from hkswitch.model.errors import Failure
from hkswitch.protocol.control import SetupInfo
from hkswitch.protocol.report import PairedController


@dataclass(eq=False)
class NoBridgeYet(Failure):
    """There is no state file. Only who asks knows whether the service is meant, and sets another remedy."""

    folder: Path
    remedy: str = "start the hkswitch that has this folder first"

    def __str__(self) -> str:
        return f"there is no bridge in {self.folder} yet: {self.remedy}"


@dataclass(frozen=True, slots=True)
class StoredPairings:
    """The pairings of the bridge in a folder. Every method raises `Failure`; changes need its lock."""

    folder: Path

    def setup_info(self) -> SetupInfo:
        """What is needed to pair."""
        with state_file.as_owner(self.folder):
            return self._stored().setup_info

    def controllers(self) -> tuple[PairedController, ...]:
        """Who is paired; nobody is connected to a file."""
        with state_file.as_owner(self.folder):
            return self._stored().controllers

    def unpair(self, controller_id: str | None) -> None:
        """Remove a controller, or all (None); also the rest if no admin is left."""
        with self._alone() as stored:
            ids = [controller.id for controller in stored.controllers]
            if controller_id is not None and controller_id not in ids:
                raise UnknownController(controller_id, ids)
            state_file.write(self.folder, stored.without(controller_id))

    def reset_attempts(self) -> None:
        """Forget the failed attempts to pair."""
        with self._alone() as stored:
            state_file.write(self.folder, replace(stored, failed_attempts=0))

    @contextmanager
    def _alone(self) -> Iterator[state_file.Stored]:
        with state_file.as_owner(self.folder):
            self._stored()  # where there is nothing, the lock would make a folder
            with state_file.locked(self.folder):
                stored = self._stored()
                stored.warn_of_unknown_keys()
                yield stored

    def _stored(self) -> state_file.Stored:
        stored = state_file.read(self.folder)
        if stored is None:
            raise NoBridgeYet(self.folder)
        return stored
