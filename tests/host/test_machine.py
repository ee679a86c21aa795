"""The test kit itself: each host has its own network, and the test helpers work as documented."""

import socket
import struct
import threading
from pathlib import Path

import pytest

from tests.host.machine import Host, eventually


def test_network_is_entered_by_one_thread_and_left(host: Host) -> None:
    def namespace() -> Path:
        return Path("/proc/thread-self/ns/net").readlink()

    before = namespace()
    others: list[Path] = []
    with host.network():
        within = namespace()
        with socket.create_server((host.address, 0)) as server:
            socket.create_connection(server.getsockname(), timeout=2).close()
        thread = threading.Thread(target=lambda: others.append(namespace()))
        thread.start()
        thread.join()

    assert within != before
    assert others == [within]
    assert namespace() == before


def test_multicast_is_received_in_the_host(host: Host) -> None:
    group = "224.0.0.251"
    membership = struct.pack("4s4s", socket.inet_aton(group), socket.inet_aton(host.address))
    with (
        host.network(),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as speaker,
    ):
        listener.bind(("", 5353))
        listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        listener.settimeout(2)
        speaker.sendto(b"hello", (group, 5353))
        assert listener.recv(64) == b"hello"


def test_run_tells_what_failed(host: Host) -> None:
    with pytest.raises(AssertionError, match=r"exited with 3: because"):
        host.run("sh", "-c", "echo because; exit 3")
    with pytest.raises(AssertionError, match=r"longer than 0\.1 s"):
        host.run("sleep", "infinity", timeout_seconds=0.1)
    assert host.run("id", "-un", user="nobody").stdout == "nobody\n"
    assert host.run("cat", input="text").stdout == "text"


def test_popen_talks_and_ends(host: Host) -> None:
    with host.popen("cat", user="nobody") as cat:
        assert cat.stdin is not None
        assert cat.stdout is not None
        cat.stdin.write("line\n")
        cat.stdin.flush()
        assert cat.stdout.readline() == "line\n"
    eventually(lambda: host.run("pgrep", "-x", "cat", check=False).returncode == 1)


def test_stub_units_start_and_fail_like_services(host: Host, stub_units: tuple[str, ...]) -> None:
    host.run("systemctl", "start", *stub_units)
    host.unit("httpd.service", "[Service]\nType=exec\nExecStart=/bin/false\n")
    assert host.run("systemctl", "restart", "httpd.service", check=False).returncode in {0, 1}
    eventually(lambda: host.show("httpd.service", "ActiveState") == "failed")


def test_stub_units_are_stopped_again(host: Host, stub_units: tuple[str, ...]) -> None:
    assert {host.show(unit, "ActiveState") for unit in stub_units} == {"inactive"}
