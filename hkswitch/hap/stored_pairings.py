"""The pairings in the state folder, for the command line while no daemon runs. Imports no HAP-python."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from hkswitch.hap import state_file
from hkswitch.hap.setup_code import unknown_controller
from hkswitch.model.errors import Failure
from hkswitch.protocol.control import SetupInfo
from hkswitch.protocol.report import PairedController


@dataclass(eq=False)
class NoBridgeYet(Failure):
    """A folder without a state file. The caller replaces the remedy if it is the service's folder."""

    folder: Path
    remedy: str = "start the daemon for this folder first"

    def __str__(self) -> str:
        return f"there is no bridge in {self.folder} yet; {self.remedy}"


@dataclass(frozen=True, slots=True)
class StoredPairings:
    """The pairings of the bridge in a folder.

    Every method raises `Failure`; changes take the folder's lock.
    """

    folder: Path

    def setup_info(self) -> SetupInfo:
        """Return the setup code and whether pairing is possible."""
        with state_file.as_owner(self.folder):
            return self._stored().setup_info

    def controllers(self) -> tuple[PairedController, ...]:
        """Return the paired controllers, without connections."""
        with state_file.as_owner(self.folder):
            return self._stored().controllers

    def unpair(self, controller_id: str | None) -> None:
        """Remove a controller, or all (None). If no admin is left, remove the others too."""
        with self._alone() as stored:
            ids = [controller.id for controller in stored.controllers]
            if controller_id is not None and controller_id not in ids:
                raise unknown_controller(controller_id, ids)
            state_file.write(self.folder, stored.without(controller_id))

    def reset_attempts(self) -> None:
        """Reset the failed pairing attempts."""
        with self._alone() as stored:
            state_file.write(self.folder, replace(stored, failed_attempts=0))

    @contextmanager
    def _alone(self) -> Iterator[state_file.Stored]:
        with state_file.as_owner(self.folder):
            self._stored()  # before the lock, which would create a missing folder
            with state_file.locked(self.folder):
                stored = self._stored()
                stored.warn_of_unknown_keys()
                yield stored

    def _stored(self) -> state_file.Stored:
        stored = state_file.read(self.folder)
        if stored is None:
            raise NoBridgeYet(self.folder)
        return stored
