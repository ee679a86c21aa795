"""What hap/ overrides or relies on in HAP-python is what it was when that was written."""

import hashlib
import inspect
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import pytest
from pyhap.accessory import Accessory
from pyhap.accessory_driver import AccessoryDriver
from pyhap.characteristic import Characteristic
from pyhap.encoder import AccessoryEncoder
from pyhap.hap_crypto import HAPCrypto
from pyhap.hap_event import create_hap_event
from pyhap.hap_handler import HAPServerHandler
from pyhap.hap_protocol import HAPServerProtocol
from pyhap.hap_server import HAPServer
from pyhap.hsrp import Server as SrpServer
from pyhap.iid_manager import IIDManager
from pyhap.state import State

from hkswitch.hap.connection import Connection
from hkswitch.hap.driver import Driver
from hkswitch.hap.frames import Frames
from hkswitch.hap.handler import Requests
from hkswitch.hap.iid_manager import RememberedIids
from hkswitch.hap.pair_setup import Verifier
from hkswitch.hap.server import Server

OVERRIDDEN: list[tuple[Callable[..., Any], str]] = [
    (AccessoryDriver.__init__, "caed023e4c89"),
    (AccessoryDriver.add_accessory, "b9d5560bfd04"),
    (AccessoryDriver.start, "f57751cbbffb"),
    (AccessoryDriver.async_start, "b3f58fac785c"),
    (AccessoryDriver.async_stop, "5bd0110e12ac"),
    (AccessoryDriver.async_persist, "e52a721eebb2"),
    (AccessoryDriver.async_update_advertisement, "21d27ab75b6f"),
    (AccessoryDriver.connection_lost, "7dfa6fcb267e"),
    (AccessoryDriver.finish_pair, "c8d8cfc2b22f"),
    (AccessoryDriver.pair, "2a9e233cbcee"),
    (AccessoryDriver.persist, "9e792f42dfb7"),
    (AccessoryDriver.publish, "ce824c90bab9"),
    (AccessoryDriver.unpair, "b556bc3ab416"),
    (AccessoryEncoder.persist, "b70318f1da2b"),
    (AccessoryEncoder.load_into, "1be43b954eab"),
    (State.add_paired_client, "6af3d94b7b85"),
    (State.remove_paired_client, "bcb537f805c9"),
    (HAPServer.__init__, "c417cd6bd350"),
    (HAPServer.async_start, "08975a94a2ca"),
    (HAPServer.async_stop, "c486b4399da6"),
    (HAPServer.async_cleanup_connections, "60d28a405b7e"),
    (HAPServerProtocol.__init__, "6e1ee81af0b7"),
    (HAPServerProtocol.close, "192f7393f1be"),
    (HAPServerProtocol.connection_made, "d678553130c7"),
    (HAPServerProtocol.connection_lost, "66cc5d845e52"),
    (HAPServerProtocol.check_idle, "9874a912f2e5"),
    (HAPServerProtocol.data_received, "9cf957d35e4c"),
    (HAPServerProtocol.write, "e0f186fc2138"),
    (HAPServerProtocol._process_events, "e5448c6e8bf1"),
    (HAPServerProtocol._process_one_event, "52a7c95aef1e"),
    (HAPServerProtocol._process_response, "72c08d56010e"),
    (HAPServerProtocol._handle_response_ready, "8f028f8594c3"),
    (HAPServerProtocol._handle_invalid_conn_state, "a12eb60b6601"),
    (HAPServerProtocol._hold_data, "9e909a3eaaf5"),
    (HAPServerProtocol.send_response, "1d3f3f1548e5"),
    (HAPServerProtocol._send_events, "854ebfdb616a"),
    (HAPServerHandler.__init__, "9e5bede62dc2"),
    (HAPServerHandler.dispatch, "da5c61de902f"),
    (HAPServerHandler.handle_pairing, "eda63028c533"),
    (HAPServerHandler._pairing_one, "63e47a7de0f4"),
    (HAPServerHandler._pairing_two, "a9a502506d34"),
    (HAPServerHandler._pairing_three, "89bc2a5d8d3a"),
    (HAPServerHandler._pairing_four, "c5ac65e17f75"),
    (HAPServerHandler._pairing_five, "2c6f970b0a52"),
    (HAPServerHandler.handle_pair_verify, "0e426c7583f4"),
    (HAPServerHandler._pair_verify_two, "0e9d7d81a780"),
    (HAPServerHandler.handle_pairings, "519edeb0a5b6"),
    (HAPServerHandler._handle_add_pairing, "3d1f56765869"),
    (HAPServerHandler._handle_remove_pairing, "9e7bf91711d9"),
    (HAPServerHandler.handle_get_characteristics, "0ab94cb216ba"),
    (HAPServerHandler.handle_prepare, "a9c40c58cd6c"),
    (HAPServerHandler.handle_set_characteristics, "2bfceddf356a"),
    (HAPServerHandler.send_response_with_status, "b648b0f19706"),
    (HAPServerHandler._send_tlv_pairing_response, "9946b995dae2"),
    (HAPServerHandler.handle_accessories, "92e30d49b0a3"),
    (HAPCrypto.decrypt, "3151f3a2a416"),
    (AccessoryDriver.get_accessories, "dd6119deac98"),
    (Accessory.publish, "1e2164ad07c2"),
    (Characteristic.notify, "b9352b66a08e"),
    (Characteristic.to_HAP, "cc6009a63c29"),
    (create_hap_event, "541c149fceb3"),
    (IIDManager.__init__, "da409832d158"),
    (IIDManager.assign, "2e65cf89a171"),
    (IIDManager.get_iid_for_obj, "e3c835028c3b"),
    (IIDManager.get_obj, "d04f4d9e1ad0"),
    (SrpServer.__init__, "69999fbe3103"),
    (SrpServer.set_A, "d7be4e3f842b"),
    (SrpServer._derive_premaster_secret, "8425e7f2e4f5"),
    (SrpServer._get_M, "3ea73fe385b5"),
    (SrpServer.verify, "2d5307affda5"),
]


OURS = (Driver, Server, Connection, Requests, Verifier, Frames, RememberedIids)


def overrides(ours: type[Any]) -> Iterator[tuple[str, Any, Any]]:
    """The name of each method that HAP-python has too, with ours and with HAP-python's."""
    bases = [base for base in ours.__mro__ if base.__module__.startswith("pyhap.")]
    for own in (each for each in ours.__mro__ if each.__module__.startswith("hkswitch.")):
        for name, method in vars(own).items():
            theirs = next((vars(base)[name] for base in bases if name in vars(base)), None)
            if inspect.isfunction(theirs):
                yield name, method, theirs


def test_the_version_is_the_one_that_was_read() -> None:
    assert version("HAP-python") == "5.2.0"


@pytest.mark.parametrize(("method", "digest"), OVERRIDDEN, ids=[each.__qualname__ for each, _ in OVERRIDDEN])
def test_what_is_overridden_or_relied_on_is_what_was_read(method: Callable[..., Any], digest: str) -> None:
    source = hashlib.sha256(inspect.getsource(method).encode()).hexdigest()[:12]
    assert source == digest, f"read {method.__qualname__} again, and what hap/ makes of it"


@pytest.mark.parametrize("ours", OURS)
def test_every_override_has_a_contract(ours: type[Any]) -> None:
    contracts = {method for method, _ in OVERRIDDEN}
    assert [name for name, _, theirs in overrides(ours) if theirs not in contracts] == []


@pytest.mark.parametrize("ours", OURS)
def test_every_override_says_what_is_wrong_with_the_original(ours: type[Any]) -> None:
    methods = {name: method for name, method, _ in overrides(ours) if name != "__init__"}
    assert [name for name, method in methods.items() if "HAP-python" not in inspect.getsource(method)] == []


@pytest.mark.parametrize("ours", [each for each in OURS if each is not Frames])
def test_overrides_are_found(ours: type[Any]) -> None:
    assert [name for name, _, _ in overrides(ours)]
