"""A helper of sudo's moves into a unit of its own, and decides nothing before."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import pytest

from hkswitch.model.errors import BusUnavailable
from hkswitch.serviceswitch.journal import Journal as RealJournal
from hkswitch.serviceswitch.journal import NotRecorded
from hkswitch.serviceswitch.own_unit import ATTEMPTS, OwnUnit, _is_in_slice, _is_of_session
from hkswitch.systemd.transient import Scope
from tests.serviceswitch.journal import Journal, journal

if TYPE_CHECKING:
    from hkswitch.systemd.units import Systemd

__all__ = ["journal"]

NAME = f"serviceswitch-{os.getpid()}"


@pytest.mark.parametrize(
    ("line", "own"),
    [
        ("0::/system.slice/system-serviceswitch.slice/serviceswitch-7.scope", True),
        ("0::/system.slice/system-serviceswitch.slice/serviceswitch@0-7-995.service", True),
        ("1:name=systemd:/system.slice/system-serviceswitch.slice/serviceswitch-7.scope", True),
        ("0::/../system-serviceswitch.slice/serviceswitch-7.scope", True),  # seen from hkswitch.service
        ("0::/system.slice/hkswitch.service", False),
        ("0::/", False),
        ("0::/system.slice/system-serviceswitch.slice", False),
        ("0::/system.slice/serviceswitch-7.scope", False),
        ("0::/user.slice/user-995.slice/user@995.service/system-serviceswitch.slice/x.service", False),
        ("0::/user.slice/user-9.slice/system.slice/system-serviceswitch.slice/x.service", False),
        ("0::/system.slice/hkswitch.service/system.slice/system-serviceswitch.slice/x.scope", False),
        ("5:cpu:/", False),
    ],
)
def test_only_units_in_the_slice_that_systemd_made_are_its_own(line: str, *, own: bool) -> None:
    assert _is_in_slice(line) is own


@pytest.mark.parametrize(
    ("line", "is_so"),
    [
        ("0::/user.slice/user-0.slice/session-c1.scope", True),
        ("0::/../../user.slice/user-0.slice/session-4.scope", True),  # seen from hkswitch.service
        ("1:name=systemd:/user.slice/user-0.slice/session-4.scope", True),
        ("0::/system.slice/hkswitch.service", False),
        ("0::/", False),
        ("0::/system.slice/system-serviceswitch.slice/serviceswitch-7.scope", False),
        ("0::/user.slice/user-0.slice/session-4.scope/x.service", False),
    ],
)
def test_only_a_scope_of_logind_is_a_session(line: str, *, is_so: bool) -> None:
    assert _is_of_session(line) is is_so


@dataclass
class FakeSystemd:
    """Says the next of its answers when it is asked for a scope; an empty one means that it is made."""

    answers: list[str]
    moves: bool = True
    scopes: list[Scope] = field(default_factory=list)
    has_moved: bool = False
    is_lost: bool = False

    async def enter(self, scope: Scope) -> str:
        self.scopes.append(scope)
        if self.is_lost:
            raise BusUnavailable("the connection was lost")
        answer = self.answers.pop(0)
        self.has_moved = not answer and self.moves
        return answer


@pytest.fixture
def sending(journal: Journal) -> Iterator[RealJournal]:
    with RealJournal(journal.path) as sending:
        yield sending


def own_unit(sending: RealJournal, systemd: FakeSystemd) -> OwnUnit:
    return OwnUnit(sending, has_moved=lambda: systemd.has_moved)


async def moved(own: OwnUnit, systemd: FakeSystemd) -> None:
    await own.move(cast("Systemd", systemd))


LINE = {"MESSAGE": "start"}
EXISTS = "Unit serviceswitch-7.scope was already loaded or has a fragment file."


@pytest.mark.parametrize("refusals", range(ATTEMPTS))
async def test_it_takes_another_name_where_one_is_taken(sending: RealJournal, refusals: int) -> None:
    systemd = FakeSystemd([EXISTS] * refusals + [""])
    await moved(own_unit(sending, systemd), systemd)
    names = [f"{NAME}.scope", f"{NAME}-1.scope", f"{NAME}-2.scope"]
    assert [scope.name for scope in systemd.scopes] == names[: refusals + 1]
    await sending.record(LINE)


async def test_a_process_that_has_a_unit_of_its_own_is_not_moved(sending: RealJournal) -> None:
    systemd = FakeSystemd([], has_moved=True)
    own = own_unit(sending, systemd)
    await sending.record(LINE)
    await moved(own, systemd)
    assert systemd.scopes == []


async def test_before_it_has_moved_it_records_nothing(sending: RealJournal, journal: Journal) -> None:
    own_unit(sending, FakeSystemd([""]))
    with pytest.raises(NotRecorded, match="the helper is not yet in its own unit"):
        await sending.record(LINE)
    assert journal.read_all() == []


@pytest.mark.parametrize(
    ("systemd", "why"),
    [
        (FakeSystemd(["Access denied"] * ATTEMPTS), "Access denied"),
        (FakeSystemd([""], moves=False), "not moved within 0.05 s"),
    ],
    ids=["refused", "not moved"],
)
async def test_one_that_cannot_be_moved_goes_on_and_says_why_it_decides_nothing(
    sending: RealJournal, systemd: FakeSystemd, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hkswitch.serviceswitch.own_unit.MOVED_WITHIN_SECONDS", 0.05)
    await moved(own_unit(sending, systemd), systemd)
    with pytest.raises(NotRecorded, match=rf"systemd did not move the helper into its own unit \({why}\)"):
        await sending.record(LINE)


async def test_the_next_connection_tries_again(sending: RealJournal) -> None:
    systemd = FakeSystemd(["Access denied"] * ATTEMPTS + [""])
    own = own_unit(sending, systemd)
    await moved(own, systemd)
    await moved(own, systemd)
    await sending.record(LINE)


async def test_a_connection_that_is_lost_meanwhile_is_no_reason_to_give_up(sending: RealJournal) -> None:
    systemd = FakeSystemd([""], is_lost=True)
    own = own_unit(sending, systemd)
    with pytest.raises(BusUnavailable):
        await moved(own, systemd)
    systemd.is_lost = False
    await moved(own, systemd)
    await sending.record(LINE)


async def each(*lines: bytes) -> AsyncIterator[bytes]:
    for line in lines:
        yield line


async def test_no_line_is_taken_before_it_has_moved(sending: RealJournal) -> None:
    systemd = FakeSystemd([""])
    own = own_unit(sending, systemd)
    lines = own.after_move(each(b"one", b"two"))
    first = asyncio.ensure_future(anext(lines))
    await asyncio.sleep(0.05)
    assert not first.done()
    await moved(own, systemd)
    assert [await first, *[line async for line in lines]] == [b"one", b"two"]


async def test_while_systemd_hangs_lines_are_taken_after_a_moment(
    sending: RealJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hkswitch.serviceswitch.own_unit.LINES_WAIT_SECONDS", 0.05)
    own = own_unit(sending, FakeSystemd([""]))
    assert [line async for line in own.after_move(each(b"one"))] == [b"one"]
    with pytest.raises(NotRecorded, match="not yet in its own unit"):
        await sending.record(LINE)
