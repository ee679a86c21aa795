"""What Homebridge's folder says about a bridge and its switches, and what cannot be taken over."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from hkswitch.homebridge.bridge_identity import Client
from hkswitch.homebridge.bridges import starts
from hkswitch.homebridge.identifiers import uuid_of
from hkswitch.homebridge.imported import Left, Origin
from hkswitch.homebridge.take_over import TakeOver, take_over
from hkswitch.model.errors import Exit, Failure
from tests.support.homebridge_folder import RECORDED, Seen

MAIN, CHILD = "CC:22:3D:E3:CE:30", "0E:8A:11:22:33:44"
IDENTITY, IDS = "persist/AccessoryInfo.CC223DE3CE30.json", "persist/IdentifierCache.CC223DE3CE30.json"
CACHED = "accessories/cachedAccessories"
ORIGINS: Final = {
    "file-server": Origin("File Server", "File Server"),
    "web-more": Origin("web & more", "Web More"),
    "printer": Origin("Printer", "Printer"),
}

Files = dict[str, bytes]
Json = Any
"""The contents of a JSON file."""


def files(name: str = "main") -> Files:
    """Return the files of a recorded folder."""
    folder = RECORDED / name
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def taken(
    of: Mapping[str, bytes], origins: Mapping[str, Origin] = ORIGINS, left: tuple[Left, ...] = ()
) -> TakeOver:
    return take_over(of["config.json"], "config.json", origins, of.get, left)


def edited(of: Files, file: str, edit: Callable[[Any], object]) -> Files:
    """Return the files with a change in one."""
    body = json.loads(of[file])
    edit(body)
    return of | {file: json.dumps(body).encode()}


@pytest.mark.parametrize(
    ("text", "uuid"),
    [
        ("web", "ca84d134-3b96-4baa-8137-c943ed1860e5"),
        ("HomeBridge", "f6f986a8-ae40-4f38-aa34-4b232ed91fca"),
        ("", "da39a3ee-5e6b-44b0-9325-5bfef9560189"),
        ("é", "bf15be71-7ac1-4b08-8b4f-1c4566928258"),
        ("\N{ELECTRIC LIGHT BULB}", "76bf0cfe-568f-4152-80bb-8f8071b392f7"),
        ("\ud800", "9bdb7727-6c18-452e-9fb0-67820472812f"),  # half of a pair
        ("x\udfffy", "419cc488-e3cd-4672-a7d8-86103f20bfe2"),
    ],
)
def test_a_uuid_is_made_of_the_name_as_homebridge_does(text: str, uuid: str) -> None:
    assert uuid_of(text) == uuid


@pytest.mark.parametrize(
    ("name", "username", "aids", "free"), [("main", MAIN, (2, 7, 8), 9), ("child", CHILD, (2, 3, 4), 5)]
)
def test_a_recorded_folder_is_read(name: str, username: str, aids: tuple[int, ...], free: int) -> None:
    found = taken(files(name))
    assert (found.bridge.username, found.bridge.is_child) == (username, name == "child")
    assert [(each.identity, each.configured_name, each.aid) for each in found.switches] == [
        (identity, origin.name, aid) for (identity, origin), aid in zip(ORIGINS.items(), aids, strict=True)
    ]
    assert found.switches[0][3:] == ("File Server", "Acme", "Rack 1", "A-1", False)
    assert found.switches[1].name == "web & more"
    assert found.first_free_aid == free
    assert found.notes == ()
    admin, user = Seen.read(RECORDED / name).pairings
    assert found.identity.clients == tuple(
        Client(each["iOSPairingId"], each["iOSDeviceLTPK"], is_admin)
        for each, is_admin in ((admin, True), (user, False))
    )
    assert found.identity.public_key == admin["AccessoryLTPK"]


def test_every_id_that_there_was_is_kept_with_what_it_meant() -> None:
    found = taken(files()).iids
    assert found.keys() == {1, 2, 7, 8}
    assert found[1]["A2"] == 2_000_000_008
    assert [*found[2]][-3:] == ["49", "49.23", "49.25"]


def ids_with(**more: int) -> Files:
    uuid = uuid_of("File Server")
    return edited(
        files(), IDS, lambda body: body["cache"].update({f"{uuid}|{k}": v for k, v in more.items()})
    )


def test_ids_that_are_used_no_more_stay_out_of_use() -> None:
    apple = "{:0>8}-0000-1000-8000-0026BB765291".format
    more = {
        "nextIID": 20,
        apple("43"): 11,
        f"{apple('43')}|{apple('25')}": 12,
        f"{apple('49')}|left": 13,
        f"{apple('49')}|left|{apple('25')}": 14,
        "E863F007-079E-48FF-8F27-9C2605A29F52": 15,
    }
    found = taken(ids_with(**more)).iids[2]
    assert {iid for what, iid in found.items() if what.startswith("0.")} == {*range(11, 20)}
    assert found["49.25"] == 10


def test_the_texts_come_from_the_cache_or_without_it_from_the_config() -> None:
    cached = files()
    assert taken(cached).switches == taken(cached | {CACHED: b"[]"}).switches
    assert taken(cached).switches == taken({k: v for k, v in cached.items() if k != CACHED}).switches


@pytest.mark.parametrize(
    ("given", "served"),
    [
        (None, "Default-SerialNumber"),
        ("", "Default-SerialNumber"),
        ("1", "Default-SerialNumber"),
        ("12", "12"),
        (12, "12"),
        (True, "Default-SerialNumber"),
        ("s" * 65, "s" * 64),
        ("\ud800\ud800", "Default-SerialNumber"),
    ],
)
def test_a_text_of_the_config_is_what_homebridge_makes_of_it(given: object, served: str) -> None:
    def edit(body: Json) -> None:
        body["platforms"][0]["switches"][0]["serial"] = given

    found = taken(edited(files(), "config.json", edit) | {CACHED: b"[]"})
    assert found.switches[0].serial_number == served


def test_a_switch_that_homebridge_has_not_served_is_new() -> None:
    found = taken(files(), ORIGINS | {"new": Origin("New", "New")})
    assert [switch.identity for switch in found.switches] == [*ORIGINS]
    assert found.notes == ("'New' is new in the Home app: Homebridge has not served it yet",)


def test_a_switch_that_would_lose_its_room_is_refused_with_the_reason() -> None:
    left = (Left("File Server", "its on_cmd is invalid"), Left("Never Served", "it switches nothing"))
    with pytest.raises(Failure) as caught:
        taken(files(), {"printer": ORIGINS["printer"]}, left)
    assert str(caught.value) == (
        "cannot take over the bridge: it would lose switches that were not imported, with their rooms and "
        "automations ('File Server': its on_cmd is invalid; 'web & more'); "
        "correct their commands in a copy of config.json and import that, or remove them from it"
    )


@pytest.mark.parametrize("left", [(), (Left("Never Served", "it switches nothing"),)])
def test_a_switch_that_phones_do_not_know_or_that_was_removed_from_the_config_is_no_reason(
    left: tuple[Left, ...],
) -> None:
    def without_two(body: Json) -> None:
        del body["platforms"][0]["switches"][:2]

    found = taken(edited(files(), "config.json", without_two), {"printer": ORIGINS["printer"]}, left)
    assert [switch.identity for switch in found.switches] == ["printer"]


def test_of_two_groups_of_one_switch_the_later_gets_its_ids_as_in_the_plugin() -> None:
    found = taken(files(), ORIGINS | {"printer-2": Origin("Printer", "Printer 2")})
    assert [switch.identity for switch in found.switches] == ["file-server", "web-more", "printer-2"]


LIGHTBULB: Final = "00000043-0000-1000-8000-0026BB765291"


def dimmable(*, dim_cmd: str) -> Files:
    """Return the files with a printer that is a dimmable light."""

    def as_light(body: Json) -> None:
        old, new = f"{uuid_of('Printer')}|{SWITCH_ON.split('|')[1]}", f"{uuid_of('Printer')}|{LIGHTBULB}"
        body["cache"] = {key.replace(old, new): number for key, number in body["cache"].items()}

    def with_dim_cmd(body: Json) -> None:
        for block in body["platforms"][0]["switches"]:
            block.update({"dim_cmd": dim_cmd} if block["name"] == "Printer" else {})

    return edited(edited(files(), IDS, as_light), "config.json", with_dim_cmd)


def test_a_dimmable_light_is_a_new_switch_and_its_ids_stay_out_of_use() -> None:
    found = taken(dimmable(dim_cmd="lamp %s"))
    assert [switch.identity for switch in found.switches] == ["file-server", "web-more"]
    assert found.notes == ("'Printer' is new in the Home app: its dim_cmd made it a light",)
    light = found.iids[8]
    assert {what.partition(".")[0] for what in light} == {"0", "3E"}
    assert {*light.values()} == {*range(1, max(light.values()) + 1)}
    assert found.first_free_aid == 9


def test_a_light_without_a_dim_cmd_is_damaged() -> None:
    with pytest.raises(Failure, match="'Printer' has no switch"):
        taken(dimmable(dim_cmd=""))


# Other accessories

LAMP: Final = {"plugin": "homebridge-others", "UUID": uuid_of("lamp"), "displayName": "Kitchen Lamp"}
OLD: Final = LAMP | {"plugin": "homebridge-cmdswitch2"}


def with_accessory(body: Json) -> None:
    body["cache"][uuid_of("lamp")] = 9


def with_lamp(body: Json) -> None:
    body.append(LAMP)


def with_old(body: Json) -> None:
    body.append(OLD)


def block(kind: str, **more: object) -> Callable[[Any], None]:
    return lambda body: body[kind].append(more)


def also(*changes: tuple[str, Callable[[Any], object]]) -> Files:
    found = edited(files(), IDS, with_accessory)
    for file, change in changes:
        found = edited(found, file, change)
    return found


CFG: Final = "config.json"
FOREIGN: Final[dict[str, tuple[Files, str]]] = {
    "in the cache": (also((CACHED, with_lamp)), "'Kitchen Lamp' of homebridge-others"),
    "of a platform": (also((CFG, block("platforms", platform="Hue", name="Lights"))), "Hue 'Lights'"),
    "of an accessory": (also((CFG, block("accessories", accessory="Fan"))), "Fan"),
}
NOT_FOREIGN: Final[dict[str, Files]] = {
    "an old switch of the plugin": also((CACHED, with_old)),
    "one of which nothing is left": also(),
    "Homebridge's own interface": also((CFG, block("platforms", platform="config", name="Config"))),
    "on a bridge of its own": also((CFG, block("platforms", platform="Hue", _bridge={"username": CHILD}))),
    "a platform without accessories": edited(files(), CFG, block("platforms", platform="Hue")),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_accessories_of_other_plugins_are_named_and_refused(what: str) -> None:
    of, name = FOREIGN[what]
    with pytest.raises(Failure) as caught:
        taken(of)
    assert str(caught.value) == (
        f"cannot take over the bridge: {MAIN} also has accessories of other plugins ({name}), "
        "which hkswitch cannot serve; move the other plugins to child bridges in Homebridge first, "
        "where phones must pair again, or import without --take-over"
    )


@pytest.mark.parametrize("what", NOT_FOREIGN)
def test_what_is_no_accessory_of_another_plugin_is_no_reason(what: str) -> None:
    assert len(taken(NOT_FOREIGN[what]).switches) == 3


def test_the_ids_of_accessories_that_are_gone_stay_out_of_use() -> None:
    found = taken(NOT_FOREIGN["one of which nothing is left"])
    assert (9 in found.iids, found.first_free_aid) == (True, 10)


# States that no command can tell


def remembered(plugin: str = "homebridge-cmdswitch2", **context: object) -> Files:
    def edit(body: Json) -> None:
        [printer] = [each for each in body if each["displayName"] == "Printer"]
        printer["context"].update(context)
        printer.update(plugin=plugin)

    return edited(files(), CACHED, edit)


@pytest.mark.parametrize(
    ("of", "was_on"),
    [
        (remembered(state=True), True),
        (remembered(state=True, polling=True), True),
        (remembered(state=False), False),
        (remembered(state=1), False),
        (remembered(state=None), False),
        (remembered(state=True, on_cmd="another"), False),
        (remembered(state=True, off_cmd=None), False),
        (remembered(state=True, plugin="homebridge-other"), False),
        (edited(files(), CACHED, lambda body: [each.pop("context") for each in body]), False),
        (edited(files(), CACHED, lambda body: [each.update(context=[]) for each in body]), False),
    ],
)
def test_a_switch_was_on_if_the_plugin_says_so_of_the_same_commands(of: Files, was_on: bool) -> None:
    assert [each.was_on for each in taken(of).switches] == [False, False, was_on]


# The bridge


def of_bridge(**more: object) -> Files:
    return edited(files(), CFG, lambda body: body["bridge"].update(more))


def on_two(body: Json) -> None:
    body["platforms"].append(body["platforms"][0] | {"_bridge": {"username": CHILD}})


def without_bridge(body: Json) -> None:
    del body["bridge"]


def test_the_bridges_texts_are_those_of_its_block() -> None:
    found = taken(of_bridge(manufacturer="Acme", model="Hub", serialNumber="H-1")).bridge
    assert found[3:] == ("Acme", "Hub", "H-1")
    assert taken(of_bridge()).bridge[3:] == ("homebridge.io", "homebridge", MAIN)


def test_without_a_block_it_is_homebridges_default() -> None:
    assert taken(edited(files(), CFG, without_bridge)).bridge.username == MAIN


def no_admin(body: Json) -> None:
    body["pairedClientsPermission"] = dict.fromkeys(body["pairedClients"], 0)


def unpaired(body: Json) -> None:
    body.update(pairedClients={}, pairedClientsPermission={})


def without(*gone: str) -> Files:
    return {name: contents for name, contents in files().items() if name not in gone}


REFUSED: Final[dict[str, tuple[Files, str]]] = {
    "two bridges": (edited(files(), CFG, on_two), f"its cmdSwitch2 switches are on {MAIN}, {CHILD}"),
    "no MAC": (of_bridge(username="none"), "'NONE' is not a bridge's username"),
    "never paired": (edited(files(), IDENTITY, unpaired), "no admin is paired with CC:22:3D:E3:CE:30"),
    "no admin": (edited(files(), IDENTITY, no_admin), "no admin is paired with CC:22:3D:E3:CE:30"),
    "another folder": (without(IDENTITY), f"{IDENTITY} does not exist"),
    "no ids": (without(IDS), f"{IDS} does not exist"),
    "another username": (of_bridge(username=CHILD), "persist/AccessoryInfo.0E8A11223344.json does not exist"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_taken_over_is_one_sentence(what: str) -> None:
    of, why = REFUSED[what]
    with pytest.raises(Failure) as caught:
        taken(of)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code is Exit.CONFIG


def test_a_bridge_none_of_whose_switches_was_imported_is_refused() -> None:
    def only_new(body: Json) -> None:
        body["platforms"][0]["switches"] = [{"name": "New"}]

    with pytest.raises(Failure, match="has none of its switches"):
        taken(edited(files(), "config.json", only_new), {"new": Origin("New", "New")})


def test_a_controller_without_permissions_is_an_admin_as_in_homebridge() -> None:
    def old(body: Json) -> None:
        del body["pairedClientsPermission"], body["setupID"]

    found = taken(edited(files(), IDENTITY, old)).identity
    assert [client.is_admin for client in found.clients] == [True, True]
    assert found.setup_id == ""


@pytest.mark.parametrize(
    ("config", "started"),
    [
        ({"bridge": {"username": MAIN}}, True),
        ({"bridge": {"username": MAIN.lower()}}, True),
        ({}, True),  # Homebridge's default
        ({"bridge": {"username": CHILD}, "platforms": [{"_bridge": {"username": MAIN}}]}, True),
        ({"bridge": {"username": CHILD}, "accessories": [{"_bridge": {"username": MAIN}}]}, True),
        ({"bridge": {"username": CHILD}}, False),
        ({"bridge": {"username": CHILD}, "platforms": [{"platform": "cmdSwitch2"}]}, False),
        ({"bridge": {"username": CHILD}, "platforms": [{"_bridge": 1}, 2]}, False),
    ],
)
def test_homebridge_starts_the_bridges_of_its_config(config: object, started: bool) -> None:
    assert starts(config, MAIN) is started


# Damage


def identity(**more: object) -> Files:
    return edited(files(), IDENTITY, lambda body: body.update(more))


def cache(**more: object) -> Files:
    return edited(files(), IDS, lambda body: body["cache"].update(more))


SWITCH_ON: Final = "|00000049-0000-1000-8000-0026BB765291|00000025-0000-1000-8000-0026BB765291"


def without_on(body: Json) -> None:
    del body["cache"][uuid_of("Printer") + SWITCH_ON]


DAMAGED: Final[dict[str, tuple[Files, str]]] = {
    "an empty file": (files() | {IDENTITY: b""}, f"{IDENTITY} is damaged (not JSON)"),
    "half a file": (files() | {IDS: files()[IDS][:2000]}, f"{IDS} is damaged (not JSON)"),
    "bytes": (files() | {CACHED: b"\xff"}, f"{CACHED} is damaged (not JSON)"),
    "a list": (files() | {IDENTITY: b"[]"}, "a part of the identity is missing"),
    "no public key": (identity(signPk=None), "a part of the identity is missing"),
    "a short key": (identity(signSk="ab"), "its keys are invalid"),
    "two keys": (identity(signPk="ab" * 32), "its keys are invalid"),
    "a setup code": (identity(pincode="03145154"), "its setup code is invalid"),
    "a setup ID": (identity(setupID="abcd"), "its setup ID is invalid"),
    "a name": (identity(displayName=""), "its name is invalid"),
    "pairings": (identity(pairedClients=[]), "a part of the identity is missing"),
    "a pairing's key": (identity(pairedClients={"A": "0"}), "the pairing 'A' is invalid"),
    "a pairing's ID": (identity(pairedClients={"a b": "ab" * 32}), "the pairing 'a b' is invalid"),
    "permissions": (identity(pairedClientsPermission=[]), "its pairings are invalid"),
    "a permission": (
        identity(pairedClients={"A": "ab" * 32}, pairedClientsPermission={"A": 2}),
        "the pairing 'A' is invalid",
    ),
    "one twice": (identity(pairedClients={"A": "ab" * 32, "a": "ab" * 32}), "one controller is paired twice"),
    "a version": (identity(configVersion=0), "the config version must be a number from 1"),
    "a version that is true": (identity(configVersion=True), "the config version must be a number from 1"),
    "no cache": (files() | {IDS: b"{}"}, "it has no ids"),
    "an id that is text": (cache(a="1"), "'a' must be a number from 1"),
    "one aid twice": (cache(**{uuid_of("x"): 2}), "two accessories have the same aid"),
    "the bridge's aid": (cache(**{uuid_of("x"): 1}), "two accessories have the same aid"),
    "no UUID": (cache(x=30), "an accessory has no UUID"),
    "an iid twice": (ids_with(x=10), "one iid stands for two characteristics"),
    "a large iid": (ids_with(x=1001), "an accessory has invalid iids"),
    "the iid 1": (ids_with(x=1), "an accessory has invalid iids"),
    "a switch without On": (edited(files(), IDS, without_on), "'Printer' has no switch"),
    "no bridge": (edited(files(), IDS, lambda body: body["cache"].clear()), "no ids of the bridge itself"),
    "no list": (files() | {CACHED: b"{}"}, "it has no list of accessories"),
    "no accessory": (files() | {CACHED: b"[1]"}, "an accessory has no plugin, UUID or name"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_file_is_named_with_the_reason(what: str) -> None:
    of, why = DAMAGED[what]
    with pytest.raises(Failure) as caught:
        taken(of)
    assert why in str(caught.value)
    assert str(caught.value).startswith("cannot take over the bridge: ")
    assert str(caught.value).endswith(
        "; restore it from a backup, or import without --take-over and pair again"
    )
    assert caught.value.exit_code is Exit.DAMAGED


def test_the_recordings_have_no_files_of_other_machines() -> None:
    assert {path.name for path in Path(RECORDED).iterdir()} == {"main", "child", "article"}
