"""The helper's messages as lines of the debug log. Pure: no I/O.

They omit the tokens of groups. A request that is denied while the config is invalid quotes its mistake, as
the log does anyway.
"""

from hkswitch.model.unit_state import UnitResult, in_words
from hkswitch.protocol.helper import (
    Accepted,
    Alert,
    Complete,
    ConfigUpdate,
    DaemonMessage,
    Finished,
    GroupUpdate,
    Hello,
    Lost,
    Observe,
    Refused,
    Reply,
    Request,
    StatesUpdate,
)


def described(message: DaemonMessage | Reply) -> str:
    """Return a message in a few words; empty for pings and pongs, which carry no information."""
    match message:
        case Request(request_id, action, group):
            return f"request {request_id}: {action} {group}"
        case Alert(request_id, group):
            return f"request {request_id}: alert {group}"
        case Observe(epoch):
            return f"report all states (epoch {epoch})"
        case Accepted(request_id):
            return f"request {request_id}: accepted"
        case Finished(request_id, units, superseded):
            results = ", ".join(map(_result, units))
            return f"request {request_id}: {'superseded' if superseded else 'finished'}: {results}"
        case Refused(request_id, reason):
            return f"request {request_id}: refused: {reason}"
        case Hello() | GroupUpdate() | StatesUpdate() | Complete() | Lost() | ConfigUpdate():
            return _report(message)
    return ""


def _report(report: Hello | GroupUpdate | StatesUpdate | Complete | Lost | ConfigUpdate) -> str:
    match report:
        case Hello(version):
            return f"hello from version {version}"
        case GroupUpdate(_, group, token, units):
            return f"group {group}: {', '.join(units)}" if token else f"group {group} does not exist"
        case StatesUpdate(_, units, probes, failures):
            results = [f"{group}: probe {probe.verdict or 'pending'}" for group, probe in probes.items()]
            results += [each.reason for each in failures.values() if each is not None]
            return f"states: {', '.join(in_words(units) + results)}"
        case Complete():
            return "all states reported"
        case Lost(_, reason):
            return f"systemd is unavailable: {reason}"
        case ConfigUpdate(problem):
            return "config rejected" if problem else "config accepted"


def _result(result: UnitResult) -> str:
    return f"{result.unit}={result.job}" + (f" ({result.detail})" if result.detail else "")
