"""A switchboard and the alerts as the only observers of a host, without rules."""

from hkswitch.daemon.alerts import Alerts
from hkswitch.daemon.switchboard import Switchboard
from hkswitch.model.switch_events import Observed
from hkswitch.model.unit_state import Sample


class ObservingBoard(Switchboard):
    """A switchboard that passes the states of groups on, and ignores their resources."""

    alerts: Alerts | None = None

    def observed(self, group_id: str, observed: Observed) -> None:
        if self.alerts is not None:
            self.alerts.observed(group_id, observed)
        super().observed(group_id, observed)

    def sampled(self, group_id: str, sample: Sample) -> None:
        """Ignore a sample."""
