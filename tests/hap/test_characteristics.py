"""PUT /characteristics over a real connection: each item gets its own status, and nothing else is harmed."""

import asyncio
from typing import Any

import pytest
from aiohomekit.exceptions import HttpErrorResponse

from hkswitch.model.group import aid_of
from tests.hap.conftest import Served
from tests.support.controller import Controller

WEB = aid_of("web")
NAME_IID = 5
UNKNOWN_AID = 4242


async def put(controller: Controller, *items: dict[str, Any], **more: int) -> dict[str, Any]:
    await controller.pairing.connection.ensure_connection()
    body = {"characteristics": list(items), **more}
    return await controller.pairing.connection.put_json("/characteristics", body)


def on_of(controller: Controller) -> dict[str, Any]:
    aid, iid = controller.switches["Web Server"].on
    return {"aid": aid, "iid": iid}


@pytest.mark.parametrize("value", [True, 1])
async def test_true_and_one_are_on(controller: Controller, value: object) -> None:
    assert await put(controller, {**on_of(controller), "value": value}) == {}
    assert await controller.read("Web Server") is True


@pytest.mark.parametrize("value", ["true", 2, -1, 1.0, [], {}, [True], "on"])
async def test_what_is_not_a_boolean_is_an_invalid_value(controller: Controller, value: object) -> None:
    item = on_of(controller)
    answer = await put(controller, {**item, "value": value})
    assert answer == {"characteristics": [{**item, "status": -70410}]}
    assert await controller.read("Web Server") is False


@pytest.mark.parametrize(
    ("item", "status"),
    [
        ({"aid": UNKNOWN_AID, "iid": 9, "value": True}, -70409),
        ({"aid": WEB, "iid": 4242, "value": True}, -70409),
        ({"aid": WEB, "iid": 1, "value": True}, -70409),
        ({"aid": UNKNOWN_AID, "iid": 9, "ev": True}, -70409),
        ({"aid": WEB, "iid": NAME_IID, "value": "My Name"}, -70404),
        ({"aid": WEB, "iid": NAME_IID, "ev": True}, -70406),
    ],
)
async def test_a_bad_item_is_an_error_for_that_item_only(
    controller: Controller, item: dict[str, Any], status: int
) -> None:
    good = on_of(controller)
    answer = await put(controller, item, {**good, "value": True})
    assert answer == {
        "characteristics": [
            {"aid": item["aid"], "iid": item["iid"], "status": status},
            {**good, "status": 0},
        ]
    }
    assert await controller.read("Web Server") is True


@pytest.mark.parametrize("body", ["[]", "{}", '{"characteristics": 1}', '{"characteristics": [1]}', "{"])
async def test_a_malformed_body_is_a_bad_request_and_the_connection_goes_on(
    controller: Controller, body: str
) -> None:
    await controller.pairing.connection.ensure_connection()
    with pytest.raises(HttpErrorResponse) as caught:
        await controller.pairing.connection.put("/characteristics", body.encode())
    assert caught.value.response.code == 400
    assert await controller.read("Web Server") is False


async def test_a_timed_write_that_was_not_prepared_is_refused(controller: Controller) -> None:
    item = on_of(controller)
    answer = await put(controller, {**item, "value": True}, pid=77)
    assert answer == {"characteristics": [{**item, "status": -70410}]}
    assert await controller.read("Web Server") is False


async def prepare(controller: Controller, **body: int) -> dict[str, Any]:
    await controller.pairing.connection.ensure_connection()
    return await controller.pairing.connection.put_json("/prepare", body)


async def test_a_timed_write_is_done_once(controller: Controller) -> None:
    item = on_of(controller)
    assert await prepare(controller, ttl=60_000, pid=77) == {"status": 0}
    assert await put(controller, {**item, "value": True}, pid=77) == {}
    assert await controller.read("Web Server") is True
    answer = await put(controller, {**item, "value": False}, pid=77)
    assert answer == {"characteristics": [{**item, "status": -70410}]}
    assert await controller.read("Web Server") is True


async def test_a_timed_write_that_is_too_late_is_refused(controller: Controller, served: Served) -> None:
    item = on_of(controller)
    assert await prepare(controller, ttl=60_000, pid=77) == {"status": 0}
    for connection in served.bridge._driver.http_server.connections.values():
        connection.timed_writes._now_seconds = lambda: asyncio.get_running_loop().time() + 30
    answer = await put(controller, {**item, "value": True}, pid=77)
    assert answer == {"characteristics": [{**item, "status": -70410}]}
    assert await controller.read("Web Server") is False


async def test_a_controller_that_is_gone_when_its_write_ends_harms_nobody(
    controller: Controller, other: Controller, served: Served
) -> None:
    writing = asyncio.create_task(controller.write("Slow Server", on=True))
    assert await other.read("Web Server") is False  # the write was sent before this
    await controller.close()
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await other.until_on_is("Slow Server", on=True)
    assert await other.event("Slow Server") is True


async def test_an_outlet_is_in_use_while_it_is_on(controller: Controller) -> None:
    assert await controller.write("Some Outlet", on=True) == 0
    accessories = await controller.look()
    outlet = next(a for a in accessories if a["aid"] == aid_of("outlet"))
    values = [
        c.get("value") for s in outlet["services"] for c in s["characteristics"] if c["format"] == "bool"
    ]
    assert values.count(True) == 2
