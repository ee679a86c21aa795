"""What homekit/hardening.py overrides in HAP-python is still what it was when the override was written."""

import hashlib
import inspect
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest
from pyhap.accessory_driver import AccessoryDriver
from pyhap.encoder import AccessoryEncoder
from pyhap.hap_handler import HAPServerHandler
from pyhap.hap_protocol import HAPServerProtocol
from pyhap.hap_server import HAPServer

OVERRIDDEN: list[tuple[Callable[..., Any], str]] = [
    (AccessoryDriver.__init__, "84a2741131f5"),
    (AccessoryDriver.async_start, "632fe61251bd"),
    (AccessoryDriver.async_stop, "a7c066f5c909"),
    (AccessoryDriver.async_persist, "2485be9e7220"),
    (AccessoryDriver.persist, "d003a363d601"),
    (AccessoryDriver.load, "31688d77dae4"),
    (AccessoryEncoder.persist, "73ac73095fe6"),
    (AccessoryEncoder.load_into, "6573634ce755"),
    (HAPServer.async_start, "08975a94a2ca"),
    (HAPServerProtocol.close, "ec8d011299e7"),
    (HAPServerProtocol.connection_made, "976b4950b126"),
    (HAPServerProtocol._process_one_event, "421422dc7415"),
    (HAPServerProtocol._process_response, "2c31f030c3a8"),
    (HAPServerProtocol._handle_response_ready, "96dc1592d21f"),
    (HAPServerProtocol._send_events, "96cdc205dac2"),
    (HAPServerProtocol.queue_event, "02185b59c654"),
    (HAPServerProtocol._event_queue_with_active_subscriptions, "86068b7ae08c"),
    (HAPServerHandler.handle_set_characteristics, "00987ae631f5"),
]


def test_the_version_is_the_one_that_was_read() -> None:
    assert version("HAP-python") == "5.0.0"


@pytest.mark.parametrize(
    ("method", "digest"), OVERRIDDEN, ids=[method.__qualname__ for method, _ in OVERRIDDEN]
)
def test_an_overridden_method_is_what_was_read(method: Callable[..., Any], digest: str) -> None:
    source = hashlib.sha256(inspect.getsource(method).encode()).hexdigest()[:12]
    assert source == digest, f"read {method.__qualname__} again, and its override in homekit/hardening.py"
