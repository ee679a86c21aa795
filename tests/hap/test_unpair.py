"""A removed controller is disconnected at once, and receives nothing more."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import pytest_asyncio
from aiohomekit.exceptions import HomeKitException
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hkswitch.backend.simulated import ACTIVE
from hkswitch.hap import state_file
from hkswitch.model.errors import Failure
from tests.hap.conftest import GROUPS, Served
from tests.support.controller import Controller
from tests.support.raw_session import KEY, NAME, raw_session
from tests.support.waiting import eventually
from tests.world.http_reader import request


@pytest_asyncio.fixture(loop_scope="module")
async def admin(unpaired: Served) -> AsyncIterator[Controller]:
    """The first controller, on a connection of its own."""
    controller = await unpaired.pair()
    yield controller
    await controller.close()


async def add(admin: Controller, *, is_admin: bool) -> Controller:
    """Add another controller as the first one, as when a home is shared."""
    key, identity = Ed25519PrivateKey.generate(), str(uuid4()).upper()
    await admin.add(identity, key.public_key().public_bytes_raw(), "Admin" if is_admin else "User")
    other = admin.again()
    other.pairing.pairing_data |= {"iOSPairingId": identity, "iOSDeviceLTSK": key.private_bytes_raw().hex()}
    other.pairing._pairing_data = other.pairing.pairing_data
    return other


def identity(controller: Controller) -> str:
    return str(controller.pairing.pairing_data["iOSPairingId"]).upper()


async def test_from_the_controller_and_all_its_connections_are_closed(
    unpaired: Served, admin: Controller
) -> None:
    second = admin.again()
    assert await second.read("Web Server") is False
    is_closed = second.closing()
    await admin.unpair()
    await eventually(is_closed)
    assert unpaired.bridge.controllers() == ()
    await second.close()


async def test_from_the_host_and_its_connections_are_closed(unpaired: Served, admin: Controller) -> None:
    assert await admin.read("Web Server") is False
    is_closed = admin.closing()
    unpaired.bridge.unpair(identity(admin))
    await eventually(is_closed)
    assert not unpaired.bridge.paired
    stored = state_file.read(unpaired.state_folder)
    assert stored is not None
    assert not stored.paired


async def test_the_last_admin_takes_the_others_along(unpaired: Served, admin: Controller) -> None:
    other = await add(admin, is_admin=False)
    assert await other.read("Web Server") is False
    is_closed = other.closing()
    assert [(c.admin, c.connections) for c in unpaired.bridge.controllers()] == [(True, 1), (False, 1)]
    unpaired.bridge.unpair(identity(admin))
    await eventually(is_closed)
    assert unpaired.bridge.controllers() == ()
    await other.close()


async def test_the_others_stay_connected_while_there_is_an_admin(unpaired: Served, admin: Controller) -> None:
    other = await add(admin, is_admin=True)
    assert await other.read("Web Server") is False
    unpaired.bridge.unpair(identity(admin))
    assert await other.read("Web Server") is False
    assert [controller.id for controller in unpaired.bridge.controllers()] == [identity(other)]
    await other.close()


async def test_a_user_may_not_add_or_remove(unpaired: Served, admin: Controller) -> None:
    other = await add(admin, is_admin=False)
    with pytest.raises(HomeKitException):
        await other.pairing.remove_pairing(identity(admin))
    with pytest.raises(HomeKitException):
        await add(other, is_admin=True)
    assert [controller.admin for controller in unpaired.bridge.controllers()] == [True, False]
    await other.close()


async def test_a_removed_controller_gets_no_session_any_more(unpaired: Served, admin: Controller) -> None:
    unpaired.bridge.unpair(None)
    fresh = admin.again()
    with pytest.raises(HomeKitException):
        await fresh.connect_once()
    await fresh.close()


async def test_a_session_is_told_nothing_more_once_its_pairing_is_removed(unpaired: Served) -> None:
    """Not even changes that were pending before."""
    unpaired.bridge._driver.pair(NAME, KEY.public_key().public_bytes_raw(), b"\1")
    (tile,) = unpaired.bridge._tiles.values()
    ids = {"aid": tile.aid, "iid": tile.iid_manager.get_iid(tile.on)}
    async with raw_session(unpaired.address, unpaired.port) as session:
        subscribe = request("PUT", "/characteristics", {"characteristics": [{**ids, "ev": True}]})
        assert (await session.ask(subscribe)).status == 204
        unpaired.host.change(dict.fromkeys(GROUPS[1].units, ACTIVE))
        unpaired.bridge.unpair(None)
        while await session.receive():
            pass
    assert session.heard == []


async def test_it_can_be_paired_again_with_the_same_code(unpaired: Served, admin: Controller) -> None:
    await admin.unpair()
    assert not unpaired.bridge.setup_info().paired
    again = await unpaired.pair()
    assert await again.read("Web Server") is False
    await again.close()


async def test_who_is_not_paired_cannot_be_removed(unpaired: Served, admin: Controller) -> None:
    with pytest.raises(Failure, match="no paired controller"):
        unpaired.bridge.unpair("11111111-2222-4333-8444-555555555555")
    assert unpaired.bridge.paired


async def test_an_admin_that_would_leave_nobody_in_charge_stays_one(
    unpaired: Served, admin: Controller
) -> None:
    own_key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(admin.pairing.pairing_data["iOSDeviceLTSK"]))
    with pytest.raises(HomeKitException):
        await admin.add(identity(admin), own_key.public_key().public_bytes_raw(), "User")
    assert [controller.admin for controller in unpaired.bridge.controllers()] == [True]


async def test_a_pairing_gets_no_other_key(unpaired: Served, admin: Controller) -> None:
    with pytest.raises(HomeKitException):
        await admin.add(identity(admin), b"k" * 32, "Admin")
    fresh = admin.again()
    assert await fresh.read("Web Server") is False
    await fresh.close()


@pytest.mark.parametrize("key", [b"", b"short", b"k" * 33])
async def test_a_pairing_with_a_key_that_is_none_is_refused_and_leaves_no_trace(
    unpaired: Served, admin: Controller, key: bytes
) -> None:
    with pytest.raises(HomeKitException):
        await admin.add(str(uuid4()), key, "User")
    assert len(unpaired.bridge.controllers()) == 1
    unpaired.bridge.reset_attempts()  # writes the state
    assert state_file.read(unpaired.state_folder) is not None
