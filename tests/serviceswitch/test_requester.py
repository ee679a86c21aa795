"""The requesters that the helper admits."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest

from hkswitch.model.errors import Exit, Failure
from hkswitch.model.unit_state import HelperTransport
from hkswitch.serviceswitch.policy import Refusal
from hkswitch.serviceswitch.requester import Requester, admit, admit_by_config, each_line

PIPE = Requester(is_pipe=True)


@pytest.mark.parametrize(
    ("requester", "daemon_uid"),
    [(PIPE, 990), (PIPE, None), (Requester(peer_uid=990), 990)],
    ids=str,
)
def test_a_pipe_and_the_daemons_connection_are_admitted(requester: Requester, daemon_uid: int | None) -> None:
    admit(requester, daemon_uid)


@pytest.mark.parametrize(
    ("requester", "daemon_uid", "code"),
    [
        (Requester(), 990, Exit.USAGE),
        (Requester(), None, Exit.USAGE),
        (Requester(peer_uid=0), 990, Exit.DENIED),  # root has the command line
        (Requester(peer_uid=1000), 990, Exit.DENIED),
        (Requester(peer_uid=65534), 990, Exit.DENIED),
        (Requester(peer_uid=990), None, Exit.DENIED),
        (Requester(peer_uid=0), None, Exit.DENIED),
    ],
    ids=str,
)
def test_all_others_are_refused(requester: Requester, daemon_uid: int | None, code: Exit) -> None:
    with pytest.raises(Failure) as refused:
        admit(requester, daemon_uid)
    assert refused.value.exit_code is code


DAEMON, OTHER = 990, 1000


@pytest.mark.parametrize(
    ("requester", "by_uid", "helper"),
    [
        (PIPE, DAEMON, "sudo"),
        (PIPE, OTHER, "socket"),  # a rule of the administrator's own
        (PIPE, 0, "socket"),
        (Requester(peer_uid=DAEMON), DAEMON, "socket"),
        (Requester(peer_uid=DAEMON), DAEMON, "sudo"),
    ],
    ids=str,
)
def test_a_transport_that_the_config_allows_is_admitted(
    requester: Requester, by_uid: int, helper: str
) -> None:
    admit_by_config(requester, by_uid, DAEMON, HelperTransport(helper))


def test_a_pipe_of_the_daemons_user_is_refused_where_the_config_names_the_socket() -> None:
    with pytest.raises(Refusal, match="`helper: socket`"):
        admit_by_config(PIPE, DAEMON, DAEMON, HelperTransport.SOCKET)


LOOK = """
from hkswitch.serviceswitch.requester import Requester
import sys
sys.stderr.write(str(Requester.of_standard_input().is_pipe))
"""
Ends = tuple[int, int]


def two_pipes() -> Ends:
    (taken, _), (_, told) = os.pipe(), os.pipe()
    return taken, told


def one_pipe() -> Ends:
    return os.pipe()


def both_ends_of_the_input() -> Ends:
    taken, told = two_pipes()
    return os.open(f"/proc/self/fd/{taken}", os.O_RDWR), told


def both_ends_of_the_output() -> Ends:
    taken, told = two_pipes()
    return taken, os.open(f"/proc/self/fd/{told}", os.O_RDWR)


def a_pipe_and_a_file() -> Ends:
    return two_pipes()[0], os.open(os.devnull, os.O_WRONLY)


def one_socket_pair() -> Ends:
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


@pytest.fixture
def nothing_stays_open() -> Iterator[None]:
    """What a test opens is closed."""
    before = descriptors()
    yield
    for descriptor in descriptors() - before:
        with suppress(OSError):  # it was for the look itself
            os.close(descriptor)


def descriptors() -> set[int]:
    return {int(path.name) for path in Path("/proc/self/fd").iterdir()}


@pytest.mark.usefixtures("nothing_stays_open")
@pytest.mark.parametrize(
    ("ends", "is_pipe"),
    [
        (two_pipes, True),
        (a_pipe_and_a_file, True),
        (one_pipe, False),
        (both_ends_of_the_input, False),
        (both_ends_of_the_output, False),
        (one_socket_pair, False),
    ],
)
def test_a_pipe_is_one_whose_end_the_helper_would_see(ends: Callable[[], Ends], is_pipe: bool) -> None:
    given, taken = ends()
    done = subprocess.run(
        (sys.executable, "-c", LOOK), stdin=given, stdout=taken, stderr=subprocess.PIPE, check=True
    )
    assert done.stderr == str(is_pipe).encode()


@pytest.mark.parametrize(
    ("silence_seconds", "suspended_seconds", "read"),
    [(10, 0, 3), (10, 9.9, 3), (10, 10.1, 1), (10, 3600, 1), (None, 3600, 3)],
)
async def test_what_a_suspended_host_had_received_before_is_not_carried_out_later(
    silence_seconds: float | None, suspended_seconds: float, read: int
) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(b"one\ntwo\nthree\n")
    reader.feed_eof()
    now = [0.0]
    lines = []
    with suppress(Failure) if read == 1 else nullcontext():
        async for line in each_line(reader, silence_seconds, lambda: now[0]):
            lines.append(line)
            if len(lines) == 1:
                now[0] += suspended_seconds
    assert len(lines) == read
