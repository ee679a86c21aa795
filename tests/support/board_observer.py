"""A switchboard as the only observer of a host, without rules."""

from hkswitch.daemon.switchboard import Switchboard
from hkswitch.model.unit_state import Sample


class ObservingBoard(Switchboard):
    """A switchboard that ignores the resources of groups."""

    def sampled(self, group_id: str, sample: Sample) -> None:
        """Ignore a sample."""
