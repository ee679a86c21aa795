"""What `hkswitch doctor` says of the bridge's place in the network, its port, and the firewall's port."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from hkswitch import __version__
from hkswitch.control import STATE_FOLDER, client
from hkswitch.control.words import command
from hkswitch.doctor import firewall, firewalld, network
from hkswitch.doctor.context import Account, Context
from hkswitch.doctor.finding import Check, Finding, Verdict, ok
from hkswitch.doctor.packet_filter import Traffic
from hkswitch.model.config import BridgeConfig, Config
from hkswitch.model.errors import ConfigUnreadable, Failure
from hkswitch.network.addresses import TablesUnreadable
from hkswitch.network.choice import NoAddress, NoDefaultRoute
from hkswitch.network.endpoint import Endpoint
from hkswitch.protocol.report import BridgeReport
from tests.support.ports import free_port

OK, FAIL, WARN, TODO, SKIP = Verdict
HERE = Endpoint(("10.77.0.1", "fd00::1"), frozenset({1}))
LOOPBACK = Endpoint(("127.0.0.2", "127.0.0.3"), frozenset({1}))
BRIDGE = BridgeReport("hkswitch", __version__, 0, ("10.77.0.1",), 51826, ())
NOWHERE = BRIDGE._replace(addresses=())
DOWN = NoAddress("the interface lan0 is down", "lan0", "bring lan0 up: `sudo ip link set lan0 up`")
BARE = NoAddress(
    "the interface lan0 has no address that a phone can reach", "lan0", "assign an address to lan0"
)
NO_CONFIG = ConfigUnreadable("config.yaml", "No such file or directory")
OTHER_FOLDER = Path("/srv/second")
RELOAD = "`sudo hkswitch reload`"
RESTART = "run `sudo systemctl restart hkswitch.service`"
US = f"process {os.getpid()} ({Path('/proc/self/comm').read_text().strip()})"


def judged(finding: Finding, verdict: Verdict, words: str) -> None:
    assert (finding.verdict, words in str(finding)) == (verdict, True), str(finding)
    assert (finding.verdict in {FAIL, WARN, TODO}) <= bool(finding.advice), "what to do?"


def context_of(
    place: Endpoint | Failure,
    bridge: BridgeReport | Failure,
    port: int = 51826,
    state_folder: Path = STATE_FOLDER,
) -> Context:
    return Context(
        config_file=Path("config.yaml"),
        state_folder=state_folder,
        user_id=os.getuid(),
        account=Account("hkswitch", 4_000_000_000, 4_000_000_000),
        config=Config(BridgeConfig(port=port), ()),
        endpoint=place,
        unit={},
        bridge=bridge,
    )


NO_DAEMON = client.NoDaemon(OTHER_FOLDER / "control.sock")


# The place


@pytest.mark.parametrize(
    ("why", "bridge", "verdict", "words"),
    [
        (DOWN, None, FAIL, "lan0 is down; bring lan0 up: `sudo ip link set lan0 up`"),
        (DOWN, NOWHERE._replace(network=f"waiting for lan0: {DOWN}"), FAIL, "lan0 is down; bring"),
        (DOWN, BRIDGE, FAIL, "lan0 is down (the bridge is still on 10.77.0.1); bring lan0 up"),
        (BARE, None, FAIL, "the interface lan0 has no address that a phone can reach; assign an"),
        (
            NoDefaultRoute(),
            None,
            FAIL,
            "cannot choose an address without a default route; set bridge.interface",
        ),
        (
            NoDefaultRoute(),
            NOWHERE,
            FAIL,
            "cannot choose an address without a default route; set bridge.interface",
        ),
        (
            NoDefaultRoute(),
            BRIDGE,
            WARN,
            "cannot choose an address without a default route (the bridge is still on 10.77.0.1); set bridge",
        ),
        (TablesUnreadable(OSError(24, os.strerror(24))), BRIDGE, SKIP, "Too many open files"),
        (NO_CONFIG, BRIDGE, SKIP, "there is no valid configuration"),
    ],
)
def test_without_an_address_there_is_one_remedy_that_fits(
    why: Failure, bridge: BridgeReport | None, verdict: Verdict, words: str
) -> None:
    found = network.no_endpoint(why, bridge)
    judged(found, verdict, words)
    assert not found.advice or found.advice in {DOWN.remedy, BARE.remedy, "set bridge.interface"}
    assert "change" not in found.advice


@pytest.mark.parametrize(
    ("place", "bridge", "verdict", "words"),
    [
        (HERE, None, OK, "10.77.0.1, fd00::1 on lan0"),
        (HERE, BRIDGE._replace(addresses=("fd00::1", "10.77.0.1")), OK, "10.77.0.1, fd00::1 on lan0"),
        (
            replace(HERE, lack="lan1: it is down", remedy="bring lan1 up"),
            None,
            WARN,
            "fd00::1 on lan0, without lan1: it is down; bring lan1 up",
        ),
        (
            HERE,
            BRIDGE,
            FAIL,
            f"selects 10.77.0.1, fd00::1, but the bridge is on 10.77.0.1; run {RELOAD}",
        ),
        (
            HERE,
            BRIDGE._replace(network="trying again: cannot read"),
            FAIL,
            f"the bridge is on 10.77.0.1 (trying again: cannot read); run {RELOAD}",
        ),
        (
            HERE,
            NOWHERE._replace(network="waiting for lan9: there is none"),
            FAIL,
            f"but the bridge is on no network (waiting for lan9: there is none); run {RELOAD}",
        ),
        (HERE, NOWHERE, FAIL, "but the bridge is on no network (it is starting); run `sudo"),
        (LOOPBACK, None, WARN, "127.0.0.2, 127.0.0.3 on lan0, which no phone can reach; set bridge.int"),
        (
            LOOPBACK,
            BRIDGE._replace(addresses=LOOPBACK.addresses),
            WARN,
            "which no phone can reach; set bridge.interface",
        ),
        (Endpoint(("::1", "10.77.0.1"), frozenset({1})), None, OK, "::1, 10.77.0.1 on lan0"),
    ],
)
def test_the_bridge_serves_on_the_configured_addresses(
    place: Endpoint, bridge: BridgeReport | None, verdict: Verdict, words: str
) -> None:
    judged(network.served(place, ("lan0",), bridge, RELOAD), verdict, words)


@pytest.mark.parametrize("folder", [STATE_FOLDER, OTHER_FOLDER])
async def test_the_commands_are_for_the_bridge_that_was_asked_about(folder: Path) -> None:
    (found,) = await network.network(context_of(HERE, BRIDGE, state_folder=folder))
    judged(found, FAIL, f"run {command(folder, 'reload')}, then run the doctor again")
    (found,) = await network.port(context_of(HERE, BRIDGE._replace(port=7), state_folder=folder))
    judged(found, FAIL, "a new port takes effect after a restart")
    assert (RESTART in str(found)) == (folder == STATE_FOLDER)
    assert (str(OTHER_FOLDER) in str(found)) == (folder == OTHER_FOLDER)


# The port


@pytest.mark.parametrize(
    ("bridge", "holder", "verdict", "words"),
    [
        (BRIDGE, "process 7 (hkswitch)", OK, "the bridge listens on 51826"),
        (None, "", OK, "51826 is free"),
        (NOWHERE, "", OK, "51826 is free"),
        (
            None,
            "process 7 (nc)",
            FAIL,
            "process 7 (nc) uses 51826; stop it, or set another bridge.port with `sudo hkswitch edit`",
        ),
        (NOWHERE, "process 7 (nc)", FAIL, "process 7 (nc) uses 51826"),
        (BRIDGE, "", FAIL, f"the bridge is running, but no process listens on 51826; {RESTART}"),
        (NOWHERE._replace(port=51827), "", FAIL, "says 51826, but the bridge serves on 51827"),
    ],
)
def test_the_port_is_free_or_ours(
    bridge: BridgeReport | None, holder: str, verdict: Verdict, words: str
) -> None:
    judged(network.free_or_ours(Config(BridgeConfig(), ()), bridge, holder, RESTART), verdict, words)


class Listening:
    """A program that has a port at some addresses."""

    def __init__(self, stack: ExitStack) -> None:
        self.port = free_port()
        self._stack = stack

    def on(self, *addresses: str) -> None:
        for address in addresses:
            self._stack.enter_context(socket.create_server((address, self.port)))


@pytest.fixture
def listening() -> Iterator[Listening]:
    with ExitStack() as stack:
        yield Listening(stack)


@pytest.mark.parametrize(
    ("bound", "bridge", "verdict", "words"),
    [
        pytest.param(LOOPBACK.addresses, LOOPBACK.addresses, OK, "bridge listens on {port}", id="it serves"),
        pytest.param(
            LOOPBACK.addresses[:1], LOOPBACK.addresses[:1], OK, "bridge listens on {port}", id="on one"
        ),
        pytest.param(("127.0.0.9",), LOOPBACK.addresses, FAIL, "no process listens on {port}", id="another"),
        pytest.param(LOOPBACK.addresses, (), FAIL, "{us} uses {port}; stop it", id="it is nowhere"),
        pytest.param(("127.0.0.9",), (), OK, "{port} is free", id="taken elsewhere"),
        pytest.param(LOOPBACK.addresses, NO_DAEMON, FAIL, "{us} uses {port}; stop it", id="no daemon"),
        pytest.param(("0.0.0.0",), NO_DAEMON, FAIL, "{us} uses {port}; stop it", id="on all"),
        pytest.param((), NO_DAEMON, OK, "{port} is free", id="no daemon, and free"),
        pytest.param(
            LOOPBACK.addresses,
            client.Unreachable(STATE_FOLDER),
            SKIP,
            "{us} uses {port}, and the daemon did not answer (permission denied on",
            id="a daemon that may not be asked",
        ),
    ],
)
async def test_the_bridge_and_not_its_user_decides_whether_the_port_is_ours(
    listening: Listening,
    bound: tuple[str, ...],
    bridge: tuple[str, ...] | Failure,
    verdict: Verdict,
    words: str,
) -> None:
    listening.on(*bound)
    reported = (
        bridge if isinstance(bridge, Failure) else BRIDGE._replace(addresses=bridge, port=listening.port)
    )
    for folder in (STATE_FOLDER, OTHER_FOLDER):
        (found,) = await network.port(context_of(LOOPBACK, reported, listening.port, folder))
        judged(found, verdict, words.format(port=listening.port, us=US))


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        (
            LOOPBACK.addresses,
            f"{{us}} uses port {{port}} on 127.0.0.3; {network.FREE_PORT}",
        ),
        (("127.0.0.2",), "but the bridge is on 127.0.0.2; run `sudo hkswitch reload`"),
    ],
    ids=["taken", "free"],
)
async def test_a_port_in_use_where_the_bridge_should_serve_is_named_and_no_reload_is(
    listening: Listening, bound: tuple[str, ...], words: str
) -> None:
    listening.on(*bound)
    bridge = BRIDGE._replace(addresses=("127.0.0.2",), port=listening.port)
    (found,) = await network.network(context_of(LOOPBACK, bridge, listening.port))
    judged(found, FAIL, words.format(port=listening.port, us=US))
    assert (RELOAD in found.advice) == ("reload" in words)


# The firewall


@pytest.mark.parametrize(
    ("bridge", "port"), [(BRIDGE, 51826), (NOWHERE, 51826), (NO_DAEMON, 51999)], ids=["on", "off", "none"]
)
async def test_the_firewall_is_asked_for_the_port_that_is_served(
    monkeypatch: pytest.MonkeyPatch, bridge: BridgeReport | Failure, port: int
) -> None:
    asked: list[int] = []

    async def found(traffic: Traffic) -> Finding:
        asked.append(traffic.port)
        return ok(Check.FIREWALL, "open")

    monkeypatch.setattr(firewalld, "found", found)
    await firewall.firewall(context_of(Endpoint(("10.77.0.1",), frozenset()), bridge, 51999))
    assert asked == [port]
