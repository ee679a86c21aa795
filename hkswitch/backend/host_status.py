"""How the connection to another host is, for the report. Pure: no I/O."""

from hkswitch.backend.helper_client import HelperClient
from hkswitch.model.elsewhere import RemoteHost
from hkswitch.protocol.host_report import HostReport


def report_of(host: RemoteHost, client: HelperClient, problem: str) -> HostReport:
    """Return the report on a host; `problem` is what its helper has reported."""
    if (session := client.current) is None:
        return HostReport(host.name, host.ssh, problem=client.trouble())
    seconds = session.round_trip_seconds
    return HostReport(
        host.name,
        host.ssh,
        client.connected_since_unix_seconds,
        None if seconds is None else round(seconds * 1000, 1),
        session.hello.result().version,
        "; ".join(each for each in (problem, session.missing) if each),
    )
