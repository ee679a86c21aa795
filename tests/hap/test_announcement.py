"""Names of a bridge and its accessories in mDNS and HomeKit, in any script."""

import re
import socket
import unicodedata
from types import SimpleNamespace
from typing import Any

import pytest
from zeroconf import ServiceInfo
from zeroconf._dns import DNSPointer
from zeroconf._protocol.incoming import DNSIncoming
from zeroconf._protocol.outgoing import DNSOutgoing
from zeroconf.const import _CLASS_IN, _FLAGS_QR_RESPONSE, _TYPE_PTR

from hkswitch.hap.announcement import MODEL, SERVICE_TYPE, announcement, host_name, instance_name
from hkswitch.model.printable import is_printable

ID = "11:22:33:68:B6:D2"
OTHER_ID = "11:22:33:68:B6:D3"

NAMES = [
    ("Homelab", "Homelab 68B6D2", "Homelab-68B6D2"),
    ("My Home Lab", "My Home Lab 68B6D2", "My-Home-Lab-68B6D2"),
    ("Bob's House", "Bob's House 68B6D2", "Bob-s-House-68B6D2"),
    ("Дом", "Дом 68B6D2", "hkswitch-68B6D2"),
    ("Дом 2", "Дом 2 68B6D2", "2-68B6D2"),
    ("家", "家 68B6D2", "hkswitch-68B6D2"),
    ("घर", "घर 68B6D2", "hkswitch-68B6D2"),
    ("दिल्ली", "दिल्ली 68B6D2", "hkswitch-68B6D2"),
    ("بيت", "بيت 68B6D2", "hkswitch-68B6D2"),
    ("Küche", "Küche 68B6D2", "Kuche-68B6D2"),
    ("Ku\u0308che", "Küche 68B6D2", "Kuche-68B6D2"),
    ("🏠", "🏠 68B6D2", "hkswitch-68B6D2"),
    ("👩\u200d🚀 Base", "👩\u200d🚀 Base 68B6D2", "Base-68B6D2"),
    ("می\u200cشود", "می\u200cشود 68B6D2", "hkswitch-68B6D2"),
    ("ශ්\u200dරී ලංකා", "ශ්\u200dරී ලංකා 68B6D2", "hkswitch-68B6D2"),
    ("\u200dLab\u200c", "Lab 68B6D2", "Lab-68B6D2"),
    ("\u200c\u200d", "hkswitch 68B6D2", "hkswitch-68B6D2"),
    ("A" * 47 + "ක්\u200dය", f"{'A' * 47}ක් 68B6D2", f"{'A' * 47}-68B6D2"),  # a joiner joins nothing there
    ("-Lab", "Lab 68B6D2", "Lab-68B6D2"),
    ("--Lab--", "Lab 68B6D2", "Lab-68B6D2"),
    ("a.b_c\\d", "a b c d 68B6D2", "a-b-c-d-68B6D2"),
    ("_hap._tcp.local.", "hap tcp local 68B6D2", "hap-tcp-local-68B6D2"),
    ("a\nb\x00c\x7fd\ud800e", "a b c d e 68B6D2", "a-b-c-d-e-68B6D2"),
    ("", "hkswitch 68B6D2", "hkswitch-68B6D2"),
    ("   ", "hkswitch 68B6D2", "hkswitch-68B6D2"),
    ("---", "hkswitch 68B6D2", "hkswitch-68B6D2"),
    ("...!?", "hkswitch 68B6D2", "hkswitch-68B6D2"),
    ("\u0301", "hkswitch 68B6D2", "hkswitch-68B6D2"),
    ("A" * 56, f"{'A' * 56} 68B6D2", f"{'A' * 56}-68B6D2"),
    ("A" * 64, f"{'A' * 56} 68B6D2", f"{'A' * 56}-68B6D2"),
    ("A" * 55 + " B", f"{'A' * 55} 68B6D2", f"{'A' * 55}-68B6D2"),
    ("Ж" * 64, f"{'Ж' * 28} 68B6D2", "hkswitch-68B6D2"),
    ("家" * 64, f"{'家' * 18} 68B6D2", "hkswitch-68B6D2"),
    ("🏠" * 64, f"{'🏠' * 14} 68B6D2", "hkswitch-68B6D2"),
    ("A" * 55 + "Ж", f"{'A' * 55} 68B6D2", f"{'A' * 55}-68B6D2"),
    ("A" * 54 + "q\u0323\u0307", f"{'A' * 54} 68B6D2", f"{'A' * 54}q-68B6D2"),  # not a q without its dots
]


@pytest.mark.parametrize(("name", "instance", "host"), NAMES)
def test_a_bridge_of_any_name_has_an_instance_and_a_host_name(name: str, instance: str, host: str) -> None:
    assert (instance_name(name, ID), host_name(name, ID)) == (instance, host)


@pytest.mark.parametrize("name", [name for name, _, _ in NAMES])
def test_an_instance_name_is_a_label_of_printable_text(name: str) -> None:
    instance = instance_name(name, ID)
    assert len(instance.encode()) <= 63
    assert is_printable(instance)
    assert instance == unicodedata.normalize("NFC", instance)
    assert not set(instance) & set("._\\")
    assert instance[0] not in " -"


@pytest.mark.parametrize("name", [name for name, _, _ in NAMES])
def test_a_host_name_is_a_label_of_ascii_letters_digits_and_hyphens_inside(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", host_name(name, ID))


@pytest.mark.parametrize("name", [name for name, _, _ in NAMES])
def test_two_bridges_of_one_name_do_not_clash(name: str) -> None:
    assert instance_name(name, ID).casefold() != instance_name(name, OTHER_ID).casefold()
    assert host_name(name, ID).casefold() != host_name(name, OTHER_ID).casefold()


def announced(name: str, *, paired: bool = False) -> ServiceInfo:
    addresses = ["192.0.2.1", "2001:db8::1"]
    state = SimpleNamespace(
        mac=ID, setup_id="7OSX", config_version=3, paired=paired, addresses=addresses, port=51826
    )
    return announcement(name, state)


@pytest.mark.parametrize("name", [name for name, _, _ in NAMES])
def test_what_is_announced_survives_the_wire(name: str) -> None:
    info = announced(name)
    out = DNSOutgoing(_FLAGS_QR_RESPONSE)
    out.add_answer_at_time(DNSPointer(SERVICE_TYPE, _TYPE_PTR, _CLASS_IN, 120, info.name), 0)
    for record in (info.dns_service(), info.dns_text(), *info.dns_addresses()):
        out.add_answer_at_time(record, 0)
    (packet,) = out.packets()
    answers: dict[str, Any] = {type(each).__name__: each for each in DNSIncoming(packet).answers()}
    assert answers["DNSPointer"].alias == f"{instance_name(name, ID)}.{SERVICE_TYPE}"
    assert answers["DNSService"].server == f"{host_name(name, ID)}.local."
    assert answers["DNSService"].name == info.name
    assert answers["DNSAddress"].name == info.server


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("name", [name for name, _, _ in NAMES])
def test_the_text_record_has_the_model_and_never_the_name(name: str, paired: bool) -> None:
    said = {
        key.decode(): (value or b"").decode()
        for key, value in announced(name, paired=paired).properties.items()
    }
    same = {"md": MODEL, "pv": "1.1", "id": ID, "c#": "3", "s#": "1", "ff": "0", "ci": "2", "sh": "hLT8wA=="}
    assert said == same | {"sf": "0" if paired else "1"}


def test_all_addresses_are_announced() -> None:
    assert announced("Homelab").parsed_addresses() == ["192.0.2.1", "2001:db8::1"]
    assert announced("Homelab").addresses == [socket.inet_aton("192.0.2.1")]
