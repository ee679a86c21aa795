"""What to do about an interface or an address that is not there: one thing, which helps in that case."""

from ipaddress import ip_address

import pytest

from hkswitch.model.config import BridgeConfig
from hkswitch.network.choice import Address, Machine, NoAddress, choose, lack

UP, LOOPBACK, MULTICAST = 0x1, 0x8, 0x1000
ETHERNET = UP | MULTICAST
HERE = Machine(
    {"lo": UP | LOOPBACK, "eth0": ETHERNET, "bare0": ETHERNET, "down0": MULTICAST},
    (Address("eth0", ip_address("10.0.0.1")), Address("down0", ip_address("10.0.0.9"))),
)
BRING_UP = "bring down0 up: `sudo ip link set down0 up`"


@pytest.mark.parametrize(
    ("wanted", "remedy"),
    [
        pytest.param({"interfaces": ("bare0",)}, "assign an address to bare0", id="up, without an address"),
        pytest.param({"interfaces": ("down0",)}, BRING_UP, id="down"),
        pytest.param({"interfaces": ("down0:1",)}, BRING_UP, id="an alias of one that is down"),
        pytest.param(
            {"interfaces": ("eth9",)}, "connect eth9, or change bridge.interface", id="no such interface"
        ),
        pytest.param(
            {"interfaces": ("bare0", "down0")}, f"assign an address to bare0 and {BRING_UP}", id="two"
        ),
        pytest.param({"addresses": ("10.0.0.9",)}, BRING_UP, id="an address of one that is down"),
        pytest.param(
            {"addresses": ("10.0.0.7",)},
            "assign 10.0.0.7 to an interface that is up, or change bridge.address",
            id="an address that is nowhere",
        ),
        pytest.param({}, "set bridge.interface", id="no default route, and nothing set"),
    ],
)
def test_what_is_missing_has_a_remedy_that_fits(wanted: dict[str, tuple[str, ...]], remedy: str) -> None:
    config = BridgeConfig(**wanted)  # type: ignore[arg-type] # a table of keys
    with pytest.raises(NoAddress) as alone:
        choose(config, HERE)
    beside = lack(config, HERE)
    assert beside is not None
    assert (alone.value.remedy, beside.remedy) == (remedy, remedy)


@pytest.mark.parametrize("wanted", [{"interfaces": ("eth0",)}, {"addresses": ("10.0.0.1",)}])
def test_what_is_there_has_no_remedy(wanted: dict[str, tuple[str, ...]]) -> None:
    assert lack(BridgeConfig(**wanted), HERE) is None  # type: ignore[arg-type] # a table of keys


@pytest.mark.parametrize("name", ["eth9", "down0"])
def test_only_interfaces_that_could_be_chosen_instead_are_offered(name: str) -> None:
    with pytest.raises(NoAddress, match=r"; available interfaces: bare0, eth0$"):
        choose(BridgeConfig(interfaces=(name,)), HERE)
