"""What the daemon's reports say about groups. Pure."""

from hkswitch.protocol.report import GroupReport, Outcome


def runs(group: GroupReport) -> bool:
    """Whether a request for the group is under way."""
    return group.last_action is not None and group.last_action.outcome is Outcome.RUNNING
