"""The parts of HAP-python, zeroconf and h11 that hap/ overrides or relies on have not changed.

foreign.py finds them in the code. `python -m tests.hap.foreign` rewrites the table: run it only after reading
the changes and their effect on our code.
"""

import ast
import inspect
from collections.abc import Iterator
from importlib.metadata import version
from itertools import pairwise
from typing import Any

import pytest

from hkswitch.daemon.sensors import SensorAccessory
from hkswitch.daemon.tiles import TileAccessory
from hkswitch.hap.advertiser import Advertiser
from hkswitch.hap.connection import FrameCipher, HapConnection
from hkswitch.hap.database import RememberedIids
from hkswitch.hap.driver import Driver
from hkswitch.hap.handler import RequestHandler
from hkswitch.hap.pair_setup import Verifier
from hkswitch.hap.responder import Responder
from hkswitch.hap.server import Server
from tests.hap import foreign

OURS = [each for file in foreign.modules() for each in foreign.classes(file)]
OF_HAP_PYTHON = [each for each in OURS if foreign.theirs(each)[0].startswith("pyhap.")]


@pytest.fixture(scope="module")
def contract() -> dict[str, str]:
    return foreign.contract()


def overrides(ours: type[Any]) -> Iterator[tuple[str, str]]:
    """The name of each method, property and constant that HAP-python has too, and what ours says of it."""
    source = inspect.getsource(ours)
    [node] = ast.parse(source).body
    assert isinstance(node, ast.ClassDef)
    names = {name for base in foreign.theirs(ours) for name in foreign.definitions().get(base, {})}
    for statement, behind in pairwise([*node.body, ast.Pass()]):
        match statement:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                pass
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                pass
            case _:
                continue
        said = ast.get_source_segment(source, statement) or ""
        if isinstance(behind, ast.Expr):
            said += ast.get_source_segment(source, behind) or ""
        if name in names:
            yield name, said


def test_the_version_is_the_one_that_was_read() -> None:
    assert version("HAP-python") == "5.2.0"


def test_what_is_used_is_defined_as_it_was_read(contract: dict[str, str]) -> None:
    written = foreign.written()
    changed = {name for name, digest in contract.items() if written.get(name, digest) != digest}
    assert changed == set(), "read these again, and what ours makes of them"


def test_all_that_is_used_was_read_and_nothing_else_is_written_down(contract: dict[str, str]) -> None:
    assert contract.keys() - foreign.written().keys() == set(), "read these, and what ours makes of them"
    assert foreign.written().keys() - contract.keys() == set(), "these are used no more"


@pytest.mark.parametrize(
    "name",
    [
        "pyhap.accessory.Accessory.available",
        "pyhap.accessory_driver.AccessoryDriver.persist",
        "pyhap.hap_crypto.HAPCrypto.LENGTH_LENGTH",
        "pyhap.hap_crypto.HAPCrypto.MIN_BLOCK_LENGTH",
        "pyhap.hap_crypto.HAPCrypto._crypt_in_buffer",
        "pyhap.hap_crypto.HAP_CRYPTO.TAG_LENGTH",
        "pyhap.hap_handler.HAPResponse.pairing_changed",
        "pyhap.hap_handler.HAPServerHandler.HANDLERS",
        "pyhap.hap_handler.HAPServerHandler.client_uuid",
        "pyhap.hap_protocol.HAPServerProtocol._held_bytes",
        "pyhap.hap_protocol.HAPServerProtocol.last_activity",
        "pyhap.hap_protocol.HAPServerProtocol.peername",
        "pyhap.hap_server.HAPServer._connection_cleanup",
        "pyhap.hsrp.Server.Kb",
        "pyhap.state.State.uuid_to_bytes",
        "zeroconf._core.Zeroconf._interfaces",
        "zeroconf._core.Zeroconf.question_history",
        "zeroconf._engine.AsyncEngine.readers",
        "zeroconf._history.QuestionHistory.add_question_at_time",
        "zeroconf._transport._WrappedTransport.interface_key",
        "h11._connection.Connection.their_state",
        "h11._connection.Connection.trailing_data",
    ],
)
def test_uses_of_every_kind_are_found(contract: dict[str, str], name: str) -> None:
    assert (name in contract) is (name != "h11._connection.Connection.their_state")  # not used


def test_every_class_that_derives_from_theirs_is_found() -> None:
    known = {
        Advertiser,
        HapConnection,
        Driver,
        FrameCipher,
        RememberedIids,
        RequestHandler,
        Responder,
        Server,
        Verifier,
    }
    assert known | {SensorAccessory, TileAccessory} <= {*OURS}
    assert all(any(overrides(each)) for each in known & {*OF_HAP_PYTHON})


@pytest.mark.parametrize("ours", OF_HAP_PYTHON)
def test_every_override_says_what_is_wrong_with_the_original(ours: type[Any]) -> None:
    said = {name: words for name, words in overrides(ours) if name != "__init__"}
    assert [name for name, words in said.items() if "HAP-python" not in words] == []


@pytest.mark.parametrize(
    ("before", "after", "is_same"),
    [
        ("A = 1", "\nA = 1\n", True),
        ("class A(B):\n    x = 1", "class A(B):\n    x = 2", True),  # x has a line of its own if it is used
        ("class A(B):\n    x = 1", "class A(C):\n    x = 1", False),
        ("@a\nclass A:\n    x = 1", "@b\nclass A:\n    x = 1", False),
        ("@a\ndef f(): return 1", "@b\ndef f(): return 1", False),
        ("A = 1", "A = 2", False),
        ("def f(): return 1", "def f(): return 2", False),
        ("self.a: int = 1", "self.a: int | None = 1", False),
    ],
)
def test_a_definition_is_another_one_if_it_says_something_else(
    before: str, after: str, is_same: bool
) -> None:
    digests = {foreign.digest(foreign.parsed(text).body) for text in (before, after)}
    assert (len(digests) == 1) is is_same
