"""Which addresses the bridge serves on."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from hkswitch import addresses, demo
from hkswitch.addresses import (
    NoAddress,
    NoDefaultRoute,
    default_interface,
    of_bridge,
    of_interface,
    preferred,
)
from hkswitch.core.config import BridgeConfig

HEADER = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
LAN = "eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
DEFAULT = "eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
BETTER = "wlan0\t00000000\t0100A8C0\t0003\t0\t0\t50\t00000000\t0\t0\t0\n"


@pytest.mark.parametrize(
    ("routes", "interface"),
    [
        (HEADER, None),
        (HEADER + LAN, None),
        (HEADER + LAN + DEFAULT, "eth0"),
        (HEADER + DEFAULT + BETTER, "wlan0"),
        ("", None),
    ],
)
def test_the_default_interface_is_that_of_the_default_route_with_the_lowest_metric(
    routes: str, interface: str | None
) -> None:
    assert default_interface(routes) == interface


@pytest.mark.parametrize(
    ("found", "best"),
    [
        (["192.168.1.5", "fd00::5", "fe80::1"], ["192.168.1.5"]),
        (["fd00::5", "fe80::1"], ["fd00::5"]),
        (["fe80::1"], []),
        (["169.254.3.4"], []),
        ([], []),
    ],
)
def test_addresses_that_a_phone_reaches_are_preferred_ipv4_first(found: list[str], best: list[str]) -> None:
    assert [str(address) for address in preferred(map(ip_address, found))] == best


def test_an_interface_serves_on_its_addresses() -> None:
    assert "127.0.0.1" in of_interface("lo")


def test_configured_addresses_are_taken_as_they_are() -> None:
    assert of_bridge(BridgeConfig(addresses=("10.0.0.1", "fd00::1"))) == ("10.0.0.1", "fd00::1")


def test_an_interface_that_is_not_there_is_said_with_those_that_are() -> None:
    with pytest.raises(NoAddress, match=r"no interface nope0 with an address; there are: .*lo"):
        of_bridge(BridgeConfig(interfaces=("nope0",)))


@pytest.fixture
def no_default_route(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "route").write_text(HEADER + LAN)
    monkeypatch.setattr(addresses, "ROUTES", tmp_path / "route")


def test_without_a_default_route_the_daemon_says_what_to_set(no_default_route: None) -> None:
    with pytest.raises(NoDefaultRoute, match=r"set bridge\.interface or bridge\.address"):
        of_bridge(BridgeConfig())


def test_without_a_default_route_the_demo_serves_on_loopback_and_says_so(
    no_default_route: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.addresses_of(BridgeConfig()) == ("127.0.0.1",)
    assert "no default route: serving on loopback only" in capsys.readouterr().out
