"""Writing to descriptors that the caller has made, and may have made badly."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from hkswitch.serviceswitch.stdio import Unheard, write


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
    with pytest.raises(Unheard, match=r"nothing was read within 0.05 s"):
        write(pipe[1], b"x" * 10**6, within_seconds=0.05)


def test_a_pipe_without_a_reader_is_given_up() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with pytest.raises(Unheard, match="Broken pipe"):
            write(writing, b"x")
    finally:
        os.close(writing)


def test_a_full_device_and_a_descriptor_that_is_closed_are_given_up() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(Unheard, match="No space left"):
        write(full, b"x")
    os.close(full)
    with pytest.raises(Unheard, match=r"Bad file descriptor|nothing was read"):
        write(full, b"x", within_seconds=0)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", ""])
def test_nothing_takes_the_number_of_a_closed_standard_descriptor(closed: str) -> None:
    code = (
        "import os, sys; from hkswitch.serviceswitch.stdio import hold_standard_descriptors as hold; hold();"
        "sys.exit(os.open(os.devnull, os.O_RDONLY) < 3 or not all(os.fstat(number) for number in range(3)))"
    )
    subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", code], check=True)
