"""What hap/ overrides or relies on in HAP-python is what it was when that was written."""

import hashlib
import inspect
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from pyhap.accessory_driver import AccessoryDriver
from pyhap.encoder import AccessoryEncoder
from pyhap.hap_handler import HAPServerHandler
from pyhap.hap_protocol import HAPServerProtocol
from pyhap.hap_server import HAPServer
from pyhap.hsrp import Server as SrpServer
from pyhap.state import State

OVERRIDDEN: list[tuple[Callable[..., Any], str]] = [
    (AccessoryDriver.__init__, "84a2741131f5"),
    (AccessoryDriver.add_accessory, "a9376bb78b4b"),
    (AccessoryDriver.async_start, "632fe61251bd"),
    (AccessoryDriver.async_stop, "a7c066f5c909"),
    (AccessoryDriver.async_persist, "2485be9e7220"),
    (AccessoryDriver.async_update_advertisement, "07a029033b43"),
    (AccessoryDriver.connection_lost, "a018a9955d62"),
    (AccessoryDriver.finish_pair, "19ed6436f150"),
    (AccessoryDriver.pair, "f8ce8be13b7a"),
    (AccessoryDriver.persist, "d003a363d601"),
    (AccessoryDriver.publish, "1493e772135b"),
    (AccessoryDriver.unpair, "91aafaec0205"),
    (AccessoryEncoder.persist, "73ac73095fe6"),
    (AccessoryEncoder.load_into, "6573634ce755"),
    (State.add_paired_client, "6af3d94b7b85"),
    (State.remove_paired_client, "147d805fff2b"),
    (HAPServer.__init__, "ca213f158be4"),
    (HAPServer.async_start, "08975a94a2ca"),
    (HAPServer.async_stop, "32a13306adf1"),
    (HAPServer.async_cleanup_connections, "04bdba196bb5"),
    (HAPServerProtocol.__init__, "4b4cd16703f8"),
    (HAPServerProtocol.close, "ec8d011299e7"),
    (HAPServerProtocol.connection_made, "976b4950b126"),
    (HAPServerProtocol.connection_lost, "cba837e02181"),
    (HAPServerProtocol.check_idle, "97388b658d3d"),
    (HAPServerProtocol.data_received, "7fe38995acc3"),
    (HAPServerProtocol.write, "d265fac2ca46"),
    (HAPServerProtocol._process_events, "bc110045eda8"),
    (HAPServerProtocol._process_one_event, "421422dc7415"),
    (HAPServerProtocol._process_response, "2c31f030c3a8"),
    (HAPServerProtocol._handle_response_ready, "96dc1592d21f"),
    (HAPServerProtocol._handle_invalid_conn_state, "78dd04f2517c"),
    (HAPServerProtocol._send_events, "96cdc205dac2"),
    (HAPServerProtocol.queue_event, "02185b59c654"),
    (HAPServerProtocol._event_queue_with_active_subscriptions, "86068b7ae08c"),
    (HAPServerHandler.__init__, "7854bb7b207c"),
    (HAPServerHandler.dispatch, "c3c78bf6e18b"),
    (HAPServerHandler.handle_pairing, "5091d98e76df"),
    (HAPServerHandler._pairing_one, "63e47a7de0f4"),
    (HAPServerHandler._pairing_two, "f612b8282a51"),
    (HAPServerHandler._pairing_three, "6d41c724f65f"),
    (HAPServerHandler._pairing_four, "c5ac65e17f75"),
    (HAPServerHandler._pairing_five, "06ed6dca8918"),
    (HAPServerHandler.handle_pair_verify, "dbd3995e64f2"),
    (HAPServerHandler._pair_verify_two, "b72fe1e50327"),
    (HAPServerHandler.handle_pairings, "bc70dc1c64bb"),
    (HAPServerHandler._handle_add_pairing, "ee1e5a9c074b"),
    (HAPServerHandler._handle_remove_pairing, "ef6cbce4a438"),
    (HAPServerHandler.handle_get_characteristics, "c2a4a326bbe6"),
    (HAPServerHandler.handle_prepare, "ee538a8ac757"),
    (HAPServerHandler.handle_set_characteristics, "00987ae631f5"),
    (HAPServerHandler.send_response_with_status, "b648b0f19706"),
    (HAPServerHandler._send_tlv_pairing_response, "9946b995dae2"),
    (SrpServer.__init__, "36e452da02e9"),
    (SrpServer.set_A, "d74ffe562b6b"),
    (SrpServer._derive_premaster_secret, "a576a22cc063"),
    (SrpServer._get_M, "a1001d86ca06"),
    (SrpServer.verify, "23282fe257b9"),
]


def test_the_version_is_the_one_that_was_read() -> None:
    assert version("HAP-python") == "5.0.0"


def test_an_overridden_method_is_what_was_read() -> None:
    for method, digest in OVERRIDDEN:
        source = hashlib.sha256(inspect.getsource(method).encode()).hexdigest()[:12]
        assert source == digest, f"read {method.__qualname__} again, and what hap/ makes of it"
