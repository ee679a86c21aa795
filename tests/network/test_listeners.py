"""Who listens on a port: on tables, in a /proc of our own, and on this machine."""

import os
import pwd
import socket
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from hkswitch.network import listeners as module
from hkswitch.network.listeners import Listener, holder, listeners
from tests.support.ports import free_port

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
NO_USER = 4_000_000_000
ANY, LOCAL, OTHER = map(IPv4Address, ("0.0.0.0", "127.0.0.1", "127.0.0.2"))
ANY6 = IPv6Address("::")


def row(local: str, state: str = "0A", user_id: int = 0, inode: int = 1071) -> str:
    between = "00000000:00000000 00:00000000 00000000"
    return (
        f"   0: {local} 00000000:0000 {state} {between} {user_id:5}        0 {inode} 1 000000009fca78d3 100\n"
    )


@pytest.mark.parametrize(
    ("table", "found"),
    [
        pytest.param(row("00000000:1F90"), (Listener(ANY, 8080, 0, "1071"),), id="IPv4"),
        pytest.param(row("0" * 32 + ":CA72"), (Listener(ANY6, 51826, 0, "1071"),), id="IPv6"),
        pytest.param(
            row("0100007F:0050", user_id=33, inode=7) + row("0200007F:0050", inode=8),
            (Listener(LOCAL, 80, 33, "7"), Listener(OTHER, 80, 0, "8")),
            id="two on one port",
        ),
        pytest.param("", (), id="nobody"),
        pytest.param(row("0100007F:0050", "01"), (), id="a connection"),
        pytest.param(row("0100007F:0050", "06", inode=0), (), id="one that has just ended"),
    ],
)
def test_a_listener_is_a_row_in_the_state_listen(table: str, found: tuple[Listener, ...]) -> None:
    assert listeners(HEADER + table) == found
    assert listeners("") == ()


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc in which this user and an unknown one listen on 80 and 81, and root on 82 of IPv6."""
    monkeypatch.setattr(module, "PROC", tmp_path)
    net = tmp_path / "self" / "net"
    net.mkdir(parents=True)
    (net / "tcp").write_text(
        HEADER
        + row("00000000:0050", user_id=os.getuid(), inode=7)
        + row("00000000:0051", user_id=NO_USER, inode=8)
        + row("0100007F:0053", state="01", inode=10)
    )
    (net / "tcp6").write_text(HEADER + row(f"{'0' * 32}:0052", inode=9))
    return tmp_path


def process(proc: Path, number: int, name: str, *targets: str) -> None:
    (proc / str(number) / "fd").mkdir(parents=True)
    (proc / str(number) / "comm").write_text(f"{name}\n")
    for descriptor, target in enumerate(targets):
        (proc / str(number) / "fd" / str(descriptor)).symlink_to(target)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (b"nginx", "process 123 (nginx)"),
        (b"a (b) c", "process 123 (a (b) c)"),
        (b"\x1b[2J\n\xff", "process 123 (?[2J?\ufffd)"),
        (b"", "process 123"),
    ],
)
def test_a_process_is_told_by_its_number_and_a_name_that_can_be_shown(
    proc: Path, name: bytes, said: str
) -> None:
    process(proc, 123, "", "/dev/null", "socket:[7]")
    (proc / "123" / "comm").write_bytes(name + b"\n")
    assert holder(80) == said


def test_the_first_process_that_has_the_socket_is_told(proc: Path) -> None:
    process(proc, 1000, "worker", "socket:[7]")
    process(proc, 200, "master", "socket:[7]")
    process(proc, 30, "another", "socket:[77]", "pipe:[7]")
    assert holder(80) == "process 200 (master)"


def test_a_listener_of_ipv6_is_one_too(proc: Path) -> None:
    process(proc, 123, "nginx", "socket:[9]")
    assert holder(82) == "process 123 (nginx)"


@pytest.mark.parametrize(
    ("port", "said"),
    [
        pytest.param(80, f"a program of user {pwd.getpwuid(os.getuid()).pw_name}", id="a user"),
        pytest.param(81, f"a program of user {NO_USER}", id="a user without a name"),
        pytest.param(83, "", id="a connection"),
        pytest.param(84, "", id="nobody"),
    ],
)
def test_of_a_process_that_hides_the_user_is_told(proc: Path, port: int, said: str) -> None:
    process(proc, 30, "another", "socket:[77]", "pipe:[7]")
    assert holder(port) == said


def test_processes_that_end_meanwhile_are_nobody(proc: Path) -> None:
    (proc / "40").mkdir()
    (proc / "41").touch()
    (proc / "42" / "fd").mkdir(parents=True)
    (proc / "42" / "fd" / "0").touch()
    process(proc, 43, "ended", "socket:[8]")
    (proc / "43" / "comm").unlink()
    assert holder(81) == "process 43"
    assert holder(80).startswith("a program of user ")


def test_without_tables_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROC", tmp_path)
    assert holder(80) == ""


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET6, "::")]
)
def test_who_listens_on_this_machine_is_told_as_long_as_it_does(
    family: socket.AddressFamily, address: str
) -> None:
    port = free_port()
    name = Path("/proc/self/comm").read_text().strip()
    assert holder(port) == ""
    with socket.create_server((address, port), family=family):
        assert holder(port) == f"process {os.getpid()} ({name})"
    assert holder(port) == ""


def test_a_socket_that_is_bound_but_does_not_listen_is_nobody() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert holder(bound.getsockname()[1]) == ""
