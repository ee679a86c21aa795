"""The scenarios, made from tables: each is played with hkswitch and with HAP-NodeJS."""

from typing import Final

from tests.peer.scenario import Scenario
from tests.peer.tables import (
    endpoints,
    events,
    frames,
    http,
    pair_setup,
    pair_verify,
    pairings,
    reads,
    timed,
    writes,
)

ALL: Final[tuple[Scenario, ...]] = (
    *endpoints.SCENARIOS,
    *reads.SCENARIOS,
    *writes.SCENARIOS,
    *timed.SCENARIOS,
    *http.SCENARIOS,
    *frames.SCENARIOS,
    *events.SCENARIOS,
    *pair_verify.SCENARIOS,
    *pairings.SCENARIOS,
    *pair_setup.SCENARIOS,
)
