"""A controller that is PyPI's homekit: does what controller.js does. Runs in a venv of its own, without ours.

argv: address, port, setup code, serial number of a switch.
"""
# ruff: noqa: ANN001, ANN201, ANN202, BLE001, T201 -- a program without our types, which tells by printing
# mypy: ignore-errors

import json
import sys

import ed25519
from homekit.controller import controller as library
from homekit.controller.ip_implementation import IpPairing

address, port, code, serial = sys.argv[1:]
library.find_device_ip_and_port = lambda _: {"ip": address, "port": int(port)}  # it knows, and asks no mDNS
OTHER_ID = "0000000C-2222-4333-8444-555555555555"


def found(accessories):
    for accessory in accessories:
        every = [each for service in accessory["services"] for each in service["characteristics"]]
        short = {each["type"].upper().split("-")[0].lstrip("0"): each for each in every}
        if short["30"]["value"] == serial:
            return accessory["aid"], short["25"]["iid"]
    raise LookupError(serial)


def refused(ask):
    try:
        ask()
    except Exception:
        return True
    return False


def main():
    saw = {}
    controller = library.Controller()
    saw["wrongCode"] = refused(lambda: controller.perform_pairing("wrong", "", "111-22-333"))
    controller.perform_pairing("own", "", code)
    own = controller.get_pairings()["own"]
    on = found(own.list_accessories_and_characteristics())

    def read(by):
        return bool(by.get_characteristics([on])[on]["value"])

    saw["before"] = read(own)
    own.put_characteristics([(*on, True)])
    saw["after"] = read(own)

    told = []
    print("listening", flush=True)
    own.get_events([on], told.extend, max_events=1, max_seconds=20)
    saw["event"] = tuple(told[0][:2]) == on

    secret, public = ed25519.create_keypair()
    known = own._get_pairing_data()

    def other():
        keys = {
            "iOSPairingId": OTHER_ID,
            "iOSDeviceLTSK": secret.to_ascii(encoding="hex").decode()[:64],
            "iOSDeviceLTPK": public.to_bytes().hex(),
        }
        return IpPairing({**known, **keys})

    saw["beforeAdded"] = refused(lambda: read(other()))
    own.add_pairing(OTHER_ID, public.to_bytes().hex(), "User")
    saw["second"] = type(read(other())).__name__.replace("bool", "boolean")
    saw["secondLists"] = refused(lambda: other().list_pairings())
    controller.remove_pairing("own", OTHER_ID)
    saw["afterRemoved"] = refused(lambda: read(other()))
    controller.get_pairings()["own"] = own
    controller.remove_pairing("own")
    saw["afterUnpaired"] = refused(lambda: read(IpPairing(dict(known))))
    print(json.dumps(saw))


main()
