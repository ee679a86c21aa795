"""Each scenario goes with hkswitch as with HAP-NodeJS, but for what the list of differences explains."""

import pytest
import pytest_asyncio

from tests.peer import packages
from tests.peer.bridge_pairs import Comparison, run_all
from tests.peer.compare import unexplained, unused
from tests.peer.differences import DIFFERENCES
from tests.peer.tables import ALL


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def played(tmp_path_factory: pytest.TempPathFactory) -> list[Comparison]:
    packages.downloaded()
    return await run_all(ALL, tmp_path_factory.mktemp("peers"))


def test_every_difference_is_in_the_list(played: list[Comparison]) -> None:
    found = unexplained((each for one in played for each in one.differences), DIFFERENCES)
    assert not found, "\n" + "\n".join(map(str, found))


def test_every_entry_of_the_list_is_a_difference_that_there_is(played: list[Comparison]) -> None:
    found = unused([each for one in played for each in one.differences], DIFFERENCES)
    assert not found, "no such difference any more:\n" + "\n".join(f"{each}" for each in found)


def test_most_scenarios_go_the_same(played: list[Comparison]) -> None:
    assert [one.name for one in played] == [each.name for each in ALL]
    same = [one.name for one in played if not one.differences]
    assert len(same) >= 380
