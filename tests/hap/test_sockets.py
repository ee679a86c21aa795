"""Sockets receive only from the chosen interfaces, in a network namespace of the test."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hkswitch.hap import sockets
from tests.support.ports import free_port

LOOPBACK = socket.if_nametoindex("lo")
PROGRAM = Path(__file__).parents[1] / "support" / "socket_filter.py"


@pytest.fixture(scope="module")
def heard_by_way() -> dict[str, str]:
    """Return what each kind of socket received on each path, between two machines on two cables."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and iproute2")
    done = subprocess.run(
        ["unshare", "--net", "--mount", sys.executable, PROGRAM],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return dict(line.split(": ") for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("way", "heard"),
    [
        ("tcp by the chosen interface", "yes"),
        ("tcp from this machine itself", "yes"),
        ("tcp to the same address by the other interface", "no"),
        ("tcp6 by the chosen interface", "yes"),
        ("tcp6 from this machine itself", "yes"),
        ("tcp6 to the same address by the other interface", "no"),
        ("udp by the chosen interface", "yes"),
        ("udp by the other interface", "no"),
        ("multicast by the chosen interface", "yes"),
        ("multicast by the other interface", "no"),
        ("udp6 by the chosen interface", "yes"),
        ("udp6 by the other interface", "no"),
        ("udp from this machine itself", "yes"),
        ("udp from 172.31.9.9", "yes"),
        ("udp from 172.32.0.1", "no"),  # from beyond a router
        ("multicast from 172.31.9.9", "yes"),
        ("multicast from 172.32.0.1", "yes"),
        ("udp6 from fd07-7-8--9", "yes"),
        ("udp6 from fd07-8--1", "no"),
        ("udp6 from fd01-0-0-1--1", "no"),
        ("udp to a socket of both by the chosen interface", "yes"),
        ("udp to a socket of both from 172.32.0.1", "no"),
    ],
)
def test_a_socket_hears_what_comes_by_its_interfaces_and_nothing_else(
    heard_by_way: dict[str, str], way: str, heard: str
) -> None:
    assert heard_by_way[way] == heard


async def test_a_listening_socket_is_on_its_address_only() -> None:
    port = free_port()
    with sockets.listening_socket("127.0.0.1", port, LOOPBACK) as made:
        assert made.getsockname() == ("127.0.0.1", port)
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.2", port)


@pytest.mark.parametrize(
    ("address", "why"),
    [("192.0.2.1", "assign"), ("2001:db8::1", "assign"), ("no address", "not known")],
)
def test_an_address_that_is_not_here_is_an_error_and_leaves_no_socket(address: str, why: str) -> None:
    with pytest.raises(OSError, match=why):
        sockets.listening_socket(address, free_port(), LOOPBACK)


def test_a_busy_port_is_an_error() -> None:
    port = free_port()
    with sockets.listening_socket("127.0.0.1", port, LOOPBACK), pytest.raises(OSError, match="in use"):
        sockets.listening_socket("127.0.0.1", port, LOOPBACK)
