"""What to run on the host of a group that another host runs: its units and logs are there. Pure: no I/O."""

from hkswitch.model.unit_state import Action
from hkswitch.protocol.report import GroupReport


def log_there(host: str, group: str) -> str:
    """Return how to see the log of a group; `group` is its id there."""
    return f"on {host}, `sudo hkswitch logs {group}` shows the log"


def audit_there(host: str, group: str) -> str:
    """Return how to see what the helper did with a group; `group` is its id there."""
    return f"on {host}, `sudo hkswitch audit {group}` shows what its helper did"


def allow_there(action: Action, host: str, group: str) -> str:
    """Return how to allow an action that is not in the actions of a group there."""
    how = f"run `sudo hkswitch edit` on {host}, and add it to the `actions` of group {group}"
    without = "; if it has none, set `actions: [start, stop, restart]`" if action is Action.RESTART else ""
    return f"to allow {action}, {how}{without}"


def reason_there(group: GroupReport) -> str:
    """Return where the reason is for which an action on a group failed, or what to do about its host."""
    if group.state is None:
        return f"run `sudo hkswitch host test {group.host}`"
    return log_there(group.host, group.group)
