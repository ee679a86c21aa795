"""The conversations, made from tables: each is played with hkswitch and with HAP-NodeJS."""

from typing import Final

from tests.peer.conversation import Conversation
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

ALL: Final[tuple[Conversation, ...]] = (
    *endpoints.CONVERSATIONS,
    *reads.CONVERSATIONS,
    *writes.CONVERSATIONS,
    *timed.CONVERSATIONS,
    *http.CONVERSATIONS,
    *frames.CONVERSATIONS,
    *events.CONVERSATIONS,
    *pair_verify.CONVERSATIONS,
    *pairings.CONVERSATIONS,
    *pair_setup.CONVERSATIONS,
)
