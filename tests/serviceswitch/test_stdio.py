"""Writing to descriptors that the caller has made, and may have made badly."""

import asyncio
import os
import pty
import select
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest

from hkswitch.protocol.helper import Pong, Refused, Reply, encode_message
from hkswitch.serviceswitch.states import UnsentStates
from hkswitch.serviceswitch.stdio import (
    OutputUnwritable,
    ReplyWriter,
    keep_replies_out_of_the_journal,
    print_error,
    write,
)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_everything_is_written(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    data = os.urandom(60_000)
    write(writing, data)
    assert os.read(reading, 100_000) == data


def test_a_pipe_that_nobody_reads_is_waited_for_and_given_up(pipe: tuple[int, int]) -> None:
    with pytest.raises(OutputUnwritable, match=r"not read within 0.05 s"):
        write(pipe[1], b"x" * 10**6, within_seconds=0.05)


def test_a_pipe_that_is_read_too_slowly_is_given_up_as_well(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    code = "import os, time\nwhile True: os.read(0, 4096); time.sleep(0.05)"
    slow = subprocess.Popen([sys.executable, "-c", code], stdin=reading)
    try:
        began_seconds = time.monotonic()
        with pytest.raises(OutputUnwritable):
            write(writing, b"x" * 10**6, within_seconds=0.5)
        assert time.monotonic() - began_seconds < 1
    finally:
        slow.kill()
        slow.wait()


TERMINAL = """
import sys
from hkswitch.serviceswitch import stdio
stdio.OUTPUT_READ_WITHIN_SECONDS = stdio.ERROR_READ_WITHIN_SECONDS = 0.2
try:
    stdio.write(1, b"x" * 10**6, 0.2)
except stdio.OutputUnwritable as error:
    stdio.print_error(str(error))
    sys.exit(74)
"""


@pytest.mark.parametrize("stopped", [False, True])
def test_a_terminal_without_room_is_given_up_in_time(*, stopped: bool) -> None:
    """One that takes some of it, and then no more, holds up who writes."""
    terminal, inside = pty.openpty()
    if stopped:
        termios.tcflow(inside, termios.TCOOFF)
    program = [sys.executable, "-c", TERMINAL]
    ended = subprocess.run(program, stdin=inside, stdout=inside, stderr=inside, timeout=10, check=False)
    os.close(inside)
    os.close(terminal)
    assert ended.returncode == 74


def test_a_terminal_with_room_gets_all() -> None:
    terminal, inside = pty.openpty()
    write(inside, b"all\n", within_seconds=5)
    assert os.read(terminal, 100) == b"all\r\n"
    os.close(inside)
    os.close(terminal)


@pytest.mark.parametrize("kind", ["terminal", "datagrams"])
def test_where_a_complaint_could_hang_or_reach_the_journal_there_is_none(kind: str) -> None:
    if kind == "terminal":
        other, given = pty.openpty()
    else:
        other, given = (each.detach() for each in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
    kept = os.dup(2)
    os.dup2(given, 2)
    try:
        keep_replies_out_of_the_journal()
        print_error("MESSAGE=forged")
    finally:
        os.dup2(kept, 2)
    os.set_blocking(other, False)
    with pytest.raises(BlockingIOError):
        os.read(other, 100)
    for descriptor in (other, given, kept):
        os.close(descriptor)


@pytest.mark.parametrize(
    ("kind", "refused"),
    [(socket.SOCK_DGRAM, True), (socket.SOCK_SEQPACKET, True), (socket.SOCK_STREAM, False)],
)
def test_answers_go_to_no_socket_that_may_be_the_journals(kind: socket.SocketKind, *, refused: bool) -> None:
    one, other = socket.socketpair(socket.AF_UNIX, kind)
    code = (
        "import sys; from hkswitch.serviceswitch import stdio\n"
        "try: stdio.keep_replies_out_of_the_journal()\n"
        "except stdio.OutputUnwritable: sys.exit(74)"
    )
    ended = subprocess.run([sys.executable, "-c", code], stdout=one.fileno(), check=False)
    assert (ended.returncode == 74) is refused
    one.close()
    other.close()


def test_a_pipe_without_a_reader_is_given_up() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with pytest.raises(OutputUnwritable, match="Broken pipe"):
            write(writing, b"x")
    finally:
        os.close(writing)


def test_a_full_device_and_a_descriptor_that_is_closed_are_given_up() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OutputUnwritable, match="No space left"):
        write(full, b"x")
    os.close(full)
    with pytest.raises(OutputUnwritable, match=r"Bad file descriptor|not read"):
        write(full, b"x", within_seconds=0)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", ""])
def test_nothing_takes_the_number_of_a_closed_standard_descriptor(closed: str) -> None:
    code = (
        "import os, sys; from hkswitch.serviceswitch.stdio import hold_standard_descriptors as hold; hold();"
        "sys.exit(os.open(os.devnull, os.O_RDONLY) < 3 or not all(os.fstat(number) for number in range(3)))"
    )
    subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", code], check=True)


async def test_replies_that_wait_together_are_one_write_of_about_a_pipes_buffer() -> None:
    written: list[bytes] = []

    async def take(data: bytes) -> None:
        written.append(data)

    replies = ReplyWriter(take, UnsentStates())
    many: list[Reply] = [Pong(1), *[Refused(number, "x" * 500) for number in range(2, 10)]]
    for reply in many:
        replies.send(reply)
    writing = asyncio.ensure_future(replies.keep_writing())
    await asyncio.wait_for(replies.deliver(Pong(10)), 5)
    writing.cancel()
    assert b"".join(written) == b"".join(map(encode_message, [*many, Pong(10)]))
    assert [len(data) >= select.PIPE_BUF for data in written] == [True, False]
