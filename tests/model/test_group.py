import hashlib
from types import SimpleNamespace

import pytest

from hkswitch.model.group import RESERVED_AIDS, AccessoryType, Group, aid_of


@pytest.mark.parametrize(
    ("identity", "aid"),
    [
        ("vm-guests", 713421307),
        ("fileserver", 2444361350),
        ("web", 1264474102),
        ("web:restart", 692055487),
    ],
)
def test_an_aid_never_changes(identity: str, aid: int) -> None:
    assert aid_of(identity) == aid


def test_a_group_has_two_aids() -> None:
    group = Group("web", "Web Server", ("httpd.service",), AccessoryType.OUTLET)
    assert (group.aid, group.restart_aid) == (1264474102, 692055487)


@pytest.mark.parametrize("reserved", sorted(RESERVED_AIDS))
def test_a_reserved_aid_is_never_given(reserved: int, monkeypatch: pytest.MonkeyPatch) -> None:
    first = reserved.to_bytes(4, "big") + bytes(28)

    sha256 = hashlib.sha256

    def rigged(data: bytes) -> SimpleNamespace:
        digest = first if data == b"web" else sha256(data).digest()
        return SimpleNamespace(digest=lambda: digest)

    monkeypatch.setattr(hashlib, "sha256", rigged)
    assert {0, 1, 7} == RESERVED_AIDS
    assert aid_of("web") == int.from_bytes(sha256(first).digest()[:4], "big")
