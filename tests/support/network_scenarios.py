"""A bridge on a changing network, with a phone at the end of each cable: the scenarios of `test_moves.py`.

Run it with `unshare --net --mount`: it runs each scenario, and prints the failures as JSON.
"""

import asyncio
import gc
import json
import logging
import os
import re
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from hkswitch.backend.simulated import SimulatedHost
from hkswitch.cli import reload, status
from hkswitch.control import socket_of
from hkswitch.daemon import location
from hkswitch.daemon.service import serve
from hkswitch.daemon.serving import ServedBridge
from hkswitch.doctor import mdns as doctor_mdns
from hkswitch.doctor import network as doctor_network
from hkswitch.doctor.context import Account, Context
from hkswitch.doctor.finding import Check
from hkswitch.hap import advertiser
from hkswitch.model.config import BridgeConfig, Config
from hkswitch.model.errors import Failure
from hkswitch.model.group import Group
from hkswitch.network import addresses
from hkswitch.network.endpoint import Endpoint
from hkswitch.protocol.report import BridgeReport
from tests.support.cables import (
    ESTABLISHED,
    LISTEN,
    PORT,
    Cable,
    at,
    begin,
    has_mdns,
    is_alive,
    is_ended,
    run,
    without_cables,
)
from tests.support.waiting import PATIENCE_SECONDS, eventually

WEB: Final = Group("web", "Web", ("httpd.service",))


@dataclass
class Bridge:
    """A daemon in this process, which serves simulated switches on the network that it finds."""

    folder: Path
    config: Config
    told: list[str] = field(default_factory=list)
    front: ServedBridge | None = None

    async def read(self) -> Config:
        return self.config

    @property
    def restart(self) -> str:
        return "`sudo systemctl restart hkswitch`"

    def reloading(self) -> None:
        """Ignore this: the tests themselves reload."""

    def find(self, bridge: BridgeConfig, before: Endpoint | None) -> Endpoint:
        return addresses.endpoint_of(bridge, before)

    def waiting(self, why: str) -> None:
        self.told.append(why)

    def serving(self, config: Config, place: Endpoint, front: ServedBridge, trouble: str) -> None:
        del config
        self.front = front
        self.told.append(f"on {place}" + (f"; {trouble}" if trouble else ""))

    async def reload(self, **network: tuple[str, ...]) -> str:
        """Choose another network, and return the note."""
        self.config = replace(self.config, bridge=chosen(**network))
        return await asyncio.to_thread(reload.request_reload, self.folder)

    async def status(self) -> BridgeReport:
        report = await asyncio.to_thread(status.from_daemon, self.folder)
        assert report is not None
        assert report.bridge is not None
        return report.bridge

    async def is_at(self, *ips: str) -> None:
        """Wait until it serves there, and check that all sources agree; reports may predate a move."""
        where = f"on {', '.join(ips)}"
        await eventually(
            lambda: self.told and self.told[-1].partition(";")[0] == where and at(LISTEN) == set(ips)
        )
        assert (await self.status()).addresses == ips

    async def waits(self, why: str) -> None:
        """Wait until it is offline, and check that it gives the reason and leaves nothing open."""
        await eventually(lambda: self.told and self.told[-1].startswith(why))
        bridge = await self.status()
        assert bridge.addresses == ()
        assert bridge.network.startswith(why), bridge.network
        assert at(LISTEN) == at(ESTABLISHED) == set()
        await eventually(lambda: not has_mdns())


async def network_in(watched: Iterator[status.WatchedReport]) -> str:
    """Return what the bridge waits for, from the next report of `hkswitch status --watch`."""
    bridge = (await asyncio.to_thread(next, watched)).report.bridge
    assert bridge is not None
    return bridge.network


def chosen(interfaces: tuple[str, ...] = (), addresses: tuple[str, ...] = ()) -> BridgeConfig:
    return BridgeConfig(name="Test", port=PORT, interfaces=interfaces, addresses=addresses)


@asynccontextmanager
async def bridge(**network: tuple[str, ...]) -> AsyncIterator[Bridge]:
    """Provide a bridge with this network config within the block."""
    with tempfile.TemporaryDirectory() as folder:
        made = Bridge(Path(folder), Config(chosen(**network), (WEB,)))
        running = asyncio.create_task(serve(made.config, SimulatedHost((WEB,)), made.folder, made))
        await eventually(lambda: running.done() or (socket_of(made.folder).exists() and made.told))
        try:
            yield made
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(running, PATIENCE_SECONDS)
    assert not at(LISTEN)
    assert not has_mdns()


ETH0, ETH1 = Cable("eth0", 1), Cable("eth1", 2)
NOT_THERE = "waiting for eth9: there is no interface eth9; available interfaces: eth0"


async def a_reload_to_an_interface_that_is_not_there_leaves_the_old_one_at_once() -> None:
    ETH0.lay().listen()
    async with bridge(interfaces=("eth0",)) as own:
        await own.is_at(ETH0.ip)
        await ETH0.is_answered()
        await eventually(lambda: ETH0.heard)
        session = await ETH0.session()
        assert await own.reload(interfaces=("eth9",)) == NOT_THERE
        await is_ended(session)
        await own.waits(NOT_THERE)
        assert await ETH0.is_refused()
        assert await ETH0.asked() == ["refused"]
        await eventually(lambda: ETH0.heard[-1:] == [f"-{ETH0.ip}"])
        run("link set eth0 down", "link set eth0 name eth9", "link set eth9 up")
        await own.is_at(ETH0.ip)
        await ETH0.is_answered()
    run("link delete eth9")


async def a_reload_to_an_address_that_is_not_there_leaves_the_old_one_at_once() -> None:
    ETH0.lay().listen()
    async with bridge(addresses=(ETH0.ip,)) as own:
        await ETH0.is_answered()
        session = await ETH0.session()
        why = "waiting for 10.1.0.7: no interface that is up has the address 10.1.0.7"
        assert await own.reload(addresses=("10.1.0.7",)) == why
        await is_ended(session)
        await own.waits(why)
        assert await ETH0.asked() == ["refused"]
        assert ETH0.heard[-1:] == [f"-{ETH0.ip}"]
        run("address add 10.1.0.7/24 dev eth0")
        await own.is_at("10.1.0.7")
        await eventually(lambda: ETH0.heard[-1:] == ["10.1.0.7"])
        assert await own.reload(addresses=(ETH0.ip,)) == ""
        await own.is_at(ETH0.ip)


async def a_reload_to_another_interface_says_goodbye_on_the_old_one_only() -> None:
    ETH0.lay().listen()
    ETH1.lay().listen()
    async with bridge(interfaces=("eth0",)) as own:
        await ETH0.is_answered()
        session = await ETH0.session()
        assert await own.reload(interfaces=("eth1",)) == ""
        await is_ended(session)
        await own.is_at(ETH1.ip)
        await ETH1.is_answered()
        assert await ETH0.is_refused()
        await eventually(lambda: ETH1.heard)
        assert ETH0.heard[-1:] == [f"-{ETH0.ip}"]
        assert set(ETH1.heard) == {ETH1.ip}
        ETH0.heard.clear()
        await own.reload(interfaces=("eth1", "eth0"))
        await own.is_at(ETH1.ip, ETH0.ip)
        kept = await ETH1.session()
        await ETH0.is_answered()
        await own.reload(interfaces=("eth1",))
        await own.is_at(ETH1.ip)
        assert await is_alive(kept)
        assert any(heard.startswith("-") for heard in ETH0.heard)
        assert not any(heard.startswith("-") for heard in ETH1.heard)


async def an_address_that_goes_is_left_and_one_that_comes_back_is_announced() -> None:
    ETH0.lay().listen()
    async with bridge(interfaces=("eth0",)) as own:
        await ETH0.is_answered()
        await ETH0.session()
        run(f"address delete {ETH0.ip}/24 dev eth0")
        await own.waits("waiting for eth0: the interface eth0 has no address that a phone can reach")
        assert not any(heard.startswith("-") for heard in ETH0.heard), "nothing was left to send it from"
        ETH0.heard.clear()
        run(f"address add {ETH0.ip}/24 dev eth0")
        await own.is_at(ETH0.ip)
        await eventually(lambda: ETH0.heard[-1:] == [ETH0.ip])
        await ETH0.session()


async def an_interface_that_is_down_is_left_until_it_is_up() -> None:
    ETH0.lay()
    async with bridge(interfaces=("eth0",)) as own:
        await ETH0.is_answered()
        watched = status.watch_reports(own.folder, ())
        assert (await network_in(watched)) == ""
        run("link set eth0 down")
        while not (why := await network_in(watched)):
            pass
        assert why.startswith("waiting for eth0: ")
        await own.waits("waiting for eth0: the interface eth0 is down")
        run("link set eth0 up")
        await own.is_at(ETH0.ip)
        await ETH0.is_answered()


async def an_interface_that_is_deleted_is_left_and_one_of_its_name_is_joined() -> None:
    ETH0.lay()
    async with bridge(interfaces=("eth0",)) as own:
        await ETH0.is_answered()
        await ETH0.session()
        ETH0.cut()
        await own.waits("waiting for eth0: there is no interface eth0")
        ETH0.lay()
        await own.is_at(ETH0.ip)
        await ETH0.is_answered()
        ETH0.cut()  # and so fast that it was never seen to be gone
        ETH0.lay().listen()
        await eventually(lambda: ETH0.heard)
        await ETH0.is_answered()
        assert at(LISTEN) == {ETH0.ip}


async def an_interface_that_is_renamed_is_left_until_it_has_its_name_again() -> None:
    ETH0.lay()
    async with bridge(interfaces=("eth0",)) as own:
        await ETH0.is_answered()
        run("link set eth0 down", "link set eth0 name other0", "link set other0 up")
        await own.waits("waiting for eth0: there is no interface eth0; available interfaces: other0")
        assert await ETH0.is_refused()
        run("link set other0 down", "link set other0 name eth0", "link set eth0 up")
        await own.is_at(ETH0.ip)


async def of_two_interfaces_the_one_that_goes_costs_the_other_nothing() -> None:
    ETH0.lay().listen()
    ETH1.lay()
    async with bridge(interfaces=("eth0", "eth1")) as own:
        await own.is_at(ETH0.ip, ETH1.ip)
        await ETH0.is_answered()
        session = await ETH0.session()
        ETH1.cut()
        await own.is_at(ETH0.ip)
        why = "waiting for eth1: there is no interface eth1; available interfaces: eth0"
        assert (await own.status()).network == why
        assert own.told[-1] == f"on {ETH0.ip}; {why}"
        assert await own.reload(interfaces=("eth0", "eth1")) == why
        assert await is_alive(session)
        ETH1.lay()
        await own.is_at(ETH0.ip, ETH1.ip)
        assert (await own.status()).network == ""
        assert await is_alive(session)
        assert not any(heard.startswith("-") for heard in ETH0.heard)


async def of_two_addresses_the_one_that_goes_costs_the_other_nothing() -> None:
    ETH0.lay(ipv6=True)
    async with bridge(addresses=(ETH0.ip, ETH0.ip6)) as own:
        await own.is_at(ETH0.ip, ETH0.ip6)
        session = await ETH0.session()
        run(f"address delete {ETH0.ip6}/64 dev eth0")
        await own.is_at(ETH0.ip)
        assert (await own.status()).network.startswith(f"waiting for {ETH0.ip6}: no interface")
        assert await is_alive(session)
        run(f"address add {ETH0.ip6}/64 dev eth0 nodad")
        await own.is_at(ETH0.ip, ETH0.ip6)
        run(f"address delete {ETH0.ip}/24 dev eth0")
        await own.is_at(ETH0.ip6)
        run(f"address delete {ETH0.ip6}/64 dev eth0")
        await own.waits(f"waiting for {ETH0.ip} or {ETH0.ip6}: no interface that is up has the address")


async def the_bridge_goes_with_the_default_route_and_stays_without_one() -> None:
    async with bridge() as own:
        await own.waits("waiting for the network: cannot choose an address without a default route")
        ETH0.lay().listen()
        ETH1.lay()
        run("route add default dev eth0")
        await own.is_at(ETH0.ip)
        await ETH0.is_answered()
        run("route delete default")
        await eventually(lambda: "; waiting for the network: " in own.told[-1])
        await own.is_at(ETH0.ip)
        await ETH0.is_answered()
        run("route add default dev eth1")
        await own.is_at(ETH1.ip)
        assert await ETH0.is_refused()
        assert ETH0.heard[-1:] == [f"-{ETH0.ip}"]
        run("route delete default", f"address delete {ETH1.ip}/24 dev eth1")
        await own.waits("waiting for the network")
        run(f"address add {ETH1.ip}/24 dev eth1", "route add default dev eth1")
        await own.is_at(ETH1.ip)
        run("route delete default")
        await eventually(lambda: "; waiting for the network: " in own.told[-1])
        await own.reload(interfaces=("eth0",))
        await own.reload()
        await own.waits("waiting for the network")  # what was chosen by name is not chosen any more


async def a_port_that_another_has_at_a_new_address_costs_the_old_one_nothing() -> None:
    ETH0.lay().listen()
    ETH1.lay()
    async with bridge(interfaces=("eth0",)) as own:
        await ETH0.is_answered()
        session = await ETH0.session()
        with socket.create_server((ETH1.ip, PORT)):
            note = await own.reload(interfaces=("eth0", "eth1"))
            why = rf"cannot serve HomeKit on {ETH1.ip}, port {PORT}: process {os.getpid()} \(.+\) uses it"
            assert re.fullmatch(f"retrying: {why}", note), note
            assert (await own.status()).addresses == (ETH0.ip,)
            assert (await own.status()).network == note
            assert await is_alive(session)
            await ETH0.is_answered()
            note = await own.reload(interfaces=("eth1",))
            await is_ended(session)
            assert (await own.status()).addresses == ()
            assert await ETH0.asked() == ["refused"]
        await own.is_at(ETH1.ip)


@contextmanager
def held(family: socket.AddressFamily, *, shared: bool) -> Iterator[None]:
    """Hold the port of mDNS within the block, as Avahi does with or without disallow-other-stacks."""
    with socket.socket(family, socket.SOCK_DGRAM) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, shared)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
        if family == socket.AF_INET6:
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        holder.bind(("", 5353))
        yield


async def doctor_says(own: Bridge) -> dict[Check, str]:
    """What the doctor finds about the network of this bridge."""
    config, account = own.config, Account("hkswitch", 0, 0)
    context = Context(
        config_file=own.folder / "config.yaml",
        state_folder=own.folder,
        user_id=0,
        account=account,
        config=config,
        endpoint=addresses.endpoint_of(config.bridge, None),
        unit=Failure("there is no systemd"),
        bridge=await own.status(),
    )
    found = [*await doctor_network.network(context), *await doctor_mdns.mdns(context)]
    return {finding.check: f"{finding.verdict}: {finding}" for finding in found}


async def a_program_that_does_not_share_the_port_of_mdns_is_named_and_waited_for() -> None:
    ETH0.lay(ipv6=True).listen()
    us = f"process {os.getpid()} ({Path('/proc/self/comm').read_text().strip()})"
    taken = f"{us} does not share port 5353/udp; stop it, or have it share the port"
    for address, family in (
        (ETH0.ip, socket.AF_INET),
        (ETH0.ip6, socket.AF_INET6),
        (ETH0.ip6, socket.AF_INET),
    ):
        why = f"retrying: cannot announce the bridge on {address}: {taken}"
        with ExitStack() as holding:
            holding.enter_context(held(family, shared=False))
            async with bridge(addresses=(address,)) as own:
                await eventually(lambda: own.told and own.told[-1] == why)  # noqa: B023 -- of this round
                report = await own.status()
                assert (report.addresses, report.network) == ((), why)
                assert await ETH0.is_refused()
                assert await doctor_says(own) == {
                    Check.NETWORK: "skip: the bridge is not served while it cannot use mDNS; see mdns below",
                    Check.MDNS: f"FAIL: {taken}",
                }
                holding.close()
                await own.is_at(address)
                if address == ETH0.ip:
                    await ETH0.is_answered()


async def a_program_that_shares_the_port_of_mdns_or_has_that_of_ipv6_is_not_in_the_way() -> None:
    ETH0.lay()
    for family, shared in ((socket.AF_INET, True), (socket.AF_INET6, False)):
        with ExitStack() as holding:
            holding.enter_context(held(family, shared=shared))
            async with bridge(interfaces=("eth0",)) as own:
                await own.is_at(ETH0.ip)
                assert (await doctor_says(own))[Check.NETWORK] == f"ok: {ETH0.ip} on eth0"
                holding.close()


async def a_flapping_network_leaves_nothing_behind() -> None:
    addresses.SETTLE_SECONDS = 0.003  # type: ignore[misc] # so that much of it is followed
    ETH0.lay(ipv6=True)
    ETH1.lay()
    async with bridge(interfaces=("eth0", "eth1")) as own:
        await own.is_at(ETH0.ip, ETH1.ip, ETH0.ip6)
        await ETH0.is_answered()
        await eventually(lambda: not is_announcing())
        before = quiet()
        down, up = "link set eth0 down", "link set eth0 up"
        away, back = f"address delete {ETH1.ip}/24 dev eth1", f"address add {ETH1.ip}/24 dev eth1"
        for _ in range(25):
            await asyncio.to_thread(run, down, up, away)
            await asyncio.to_thread(run, down, "link set eth0 name x0", "link set x0 up", back)
            await asyncio.to_thread(run, "link set x0 down", "link set x0 name eth0", up)
            await asyncio.to_thread(ETH0.cut)
            await asyncio.to_thread(ETH0.lay, ipv6=True)
        await own.is_at(ETH0.ip, ETH1.ip, ETH0.ip6)
        await ETH0.is_answered()
        await ETH1.is_answered()
        await eventually(lambda: not is_announcing())
        assert quiet() == before
    addresses.SETTLE_SECONDS = 0.02  # type: ignore[misc]


def quiet() -> tuple[int, list[str]]:
    """Return the number of this process's descriptors, and its tasks."""
    gc.collect()
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 -- names are enough
    return descriptors, sorted(map(_name, asyncio.all_tasks()))


def is_announcing() -> bool:
    return any(name.startswith("Advertiser.") for name in map(_name, asyncio.all_tasks()))


def _name(task: asyncio.Task[Any]) -> str:
    return getattr(task.get_coro(), "__qualname__", "?")


SCENARIOS: Final[tuple[Callable[[], Awaitable[None]], ...]] = (
    a_reload_to_an_interface_that_is_not_there_leaves_the_old_one_at_once,
    a_reload_to_an_address_that_is_not_there_leaves_the_old_one_at_once,
    a_reload_to_another_interface_says_goodbye_on_the_old_one_only,
    an_address_that_goes_is_left_and_one_that_comes_back_is_announced,
    an_interface_that_is_down_is_left_until_it_is_up,
    an_interface_that_is_deleted_is_left_and_one_of_its_name_is_joined,
    an_interface_that_is_renamed_is_left_until_it_has_its_name_again,
    of_two_interfaces_the_one_that_goes_costs_the_other_nothing,
    of_two_addresses_the_one_that_goes_costs_the_other_nothing,
    the_bridge_goes_with_the_default_route_and_stays_without_one,
    a_port_that_another_has_at_a_new_address_costs_the_old_one_nothing,
    a_program_that_does_not_share_the_port_of_mdns_is_named_and_waited_for,
    a_program_that_shares_the_port_of_mdns_or_has_that_of_ipv6_is_not_in_the_way,
    a_flapping_network_leaves_nothing_behind,
)


class Alarming(logging.Handler):
    """A handler for log records that a network change must not cause."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.levelno >= logging.ERROR:
            self.found.append(self.format(record))


async def played(scenario: Callable[[], Awaitable[None]]) -> str:
    """Run a scenario, and return the failure, empty if there is none."""
    alarming = Alarming()
    logging.getLogger().addHandler(alarming)
    try:
        async with asyncio.timeout(3 * PATIENCE_SECONDS):
            await scenario()
    except Exception:  # noqa: BLE001 -- it is printed
        return traceback.format_exc()
    finally:
        logging.getLogger().removeHandler(alarming)
        for cable in (ETH0, ETH1):
            cable.forget()
        without_cables()
    return "\n".join(alarming.found)


def main() -> None:
    """Run all scenarios, or the named ones."""
    begin()
    logging.getLogger("zeroconf").setLevel(logging.ERROR)  # as logs.py has it
    addresses.SETTLE_SECONDS = 0.02  # type: ignore[misc]
    advertiser.PROBE_SECONDS = 0.02  # type: ignore[misc]
    advertiser.ANNOUNCED_AFTER_SECONDS = (0.0, 0.1, 0.1)  # type: ignore[misc]
    location.LOCATION_RETRY_SECONDS = 0.2  # type: ignore[misc]
    wanted = sys.argv[1:]
    scenarios = [each for each in SCENARIOS if not wanted or getattr(each, "__name__", "") in wanted]
    wrong = {getattr(each, "__name__", ""): asyncio.run(played(each)) for each in scenarios}
    print(json.dumps(wrong))  # noqa: T201 -- a program


if __name__ == "__main__":
    main()
