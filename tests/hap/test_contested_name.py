"""The bridge keeps its name while a conflict is only possible."""

from hkswitch.hap.advertiser import Advertiser
from tests.hap.test_mdns_conflicts import address, announced, meanwhile, ours, probe, response, said
from tests.support.mdns import NAME, OTHER, Said, hear, info
from tests.support.waiting import eventually

__all__ = ["ours", "said"]


async def test_a_contested_name_stays_ours_in_doubt_though_something_else_changes(
    ours: Advertiser,
    said: Said,
) -> None:
    await announced(ours, said)
    probes = len(said.probes)
    hear(ours, response(address(OTHER)))
    await eventually(lambda: len(said.probes) > probes)
    ours.announce(info())  # as after a reload, or when a controller was paired
    await meanwhile(lambda: hear(ours, probe(address("200.0.0.1"))), lambda: len(said.announcements) > 3)
    assert set(said.names) == {NAME}
