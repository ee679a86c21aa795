"""`hkswitch alerts`: which alerts it lists, how, and what it says if there are none."""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hkswitch.cli import alerts
from hkswitch.control import SOCKET_NAME
from hkswitch.control.server import served
from hkswitch.model.unit_state import GroupState
from hkswitch.protocol.alert_report import AlertReport
from hkswitch.protocol.report import GroupReport, Report
from tests.support.command import run
from tests.support.pairings import NotedPairings, folder_for_all_users

EVENING = 1_796_076_840  # 2026-11-30 22:14 UTC
OPEN = AlertReport("nas", "NAS", "start failed: nas.service exited with status 1", EVENING)
WEB = AlertReport("web", "Web", "web.service was killed by SIGKILL", EVENING - 86_400, EVENING - 86_400 + 725)
GONE = AlertReport("fileserver", "", "smb.service failed", 0, 30)
GROUPS = tuple(GroupReport(each, each, GroupState.ON, 0, {}) for each in ("web", "nas", "quiet"))


def daemon(*found: AlertReport) -> NotedPairings:
    return NotedPairings(alerts=found, shown=Report(None, GROUPS))


LINES = {
    OPEN: "2026-11-30 22:14  nas  start failed: nas.service exited with status 1  (open)",
    WEB: "2026-11-29 22:14  web  web.service was killed by SIGKILL  (ended after 12 min)",
    GONE: "1970-01-01 00:00  fileserver  smb.service failed  (ended after 30 s)",
}
UNKNOWN = "hkswitch: there is no group {}; {}\n"


@pytest.fixture
def folder() -> Iterator[Path]:
    with folder_for_all_users() as folder:
        yield folder


def shown(*found: AlertReport) -> str:
    """The lines, one below the other, with the groups as wide as the longest of them."""
    longest = max(len(each.group) for each in found)
    return "".join(
        LINES[each].replace(f"  {each.group}  ", f"  {each.group:{longest}}  ", 1) + "\n" for each in found
    )


@pytest.mark.parametrize(
    ("arguments", "ended"),
    [
        ([], (0, shown(OPEN, WEB, GONE), "")),
        (["web"], (0, shown(WEB), "")),
        (["web", "nas", "web"], (0, shown(OPEN, WEB), "")),
        (["fileserver"], (0, shown(GONE), "")),  # its alerts outlive it
        (["quiet"], (0, "No alerts for quiet.\n", "")),
        (["quiet", "web"], (0, shown(WEB), "")),
        (["none"], (64, "", UNKNOWN.format("'none'", "the groups are web, nas, quiet"))),
        (["web", "webb"], (64, "", UNKNOWN.format("'webb'", "did you mean web?"))),
        ([""], (64, "", UNKNOWN.format("''", "the groups are web, nas, quiet"))),
    ],
    ids=str,
)
async def test_the_last_alerts_are_listed(
    folder: Path, arguments: list[str], ended: tuple[int, str, str]
) -> None:
    async with served(folder / SOCKET_NAME, daemon(OPEN, WEB, GONE)):
        options = ("--state-dir", folder)
        assert await asyncio.to_thread(run, "alerts", *arguments, *options, TZ="UTC") == ended


async def test_a_daemon_without_alerts_says_so(folder: Path) -> None:
    async with served(folder / SOCKET_NAME, daemon()):
        ended = await asyncio.to_thread(run, "alerts", "--state-dir", folder)
        assert ended == (0, f"{alerts.NONE_YET}\n", "")


@pytest.mark.parametrize(("arguments", "found"), [([], [OPEN, WEB, GONE]), (["web"], [WEB]), (["quiet"], [])])
async def test_programs_get_json(folder: Path, arguments: list[str], found: list[AlertReport]) -> None:
    async with served(folder / SOCKET_NAME, daemon(OPEN, WEB, GONE)):
        options = ("--json", "--state-dir", folder)
        code, output, errors = await asyncio.to_thread(run, "alerts", *arguments, *options)
    assert (code, errors) == (0, "")
    assert json.loads(output) == {
        "version": 1,
        "alerts": [
            {
                "group": each.group,
                "name": each.name,
                "reason": each.reason,
                "began_unix_seconds": each.began_unix_seconds,
                "ended_unix_seconds": each.ended_unix_seconds,
            }
            for each in found
        ],
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
async def test_any_local_user_may_list_the_alerts(folder: Path) -> None:
    """Also with a name that no group of theirs has: asking for it reads the status, which they may, too."""
    nobody = 65534
    async with served(folder / SOCKET_NAME, daemon(OPEN, WEB, GONE)):

        def as_nobody() -> tuple[AlertReport, ...]:
            os.seteuid(nobody)
            return alerts.of_groups({"web", "quiet"}, folder)

        try:
            assert await asyncio.to_thread(as_nobody) == (WEB,)
        finally:
            os.seteuid(0)


def test_without_a_daemon_there_are_no_alerts(tmp_path: Path) -> None:
    code, output, errors = run("alerts", "--state-dir", tmp_path)
    assert (code, output) == (69, "")
    assert errors.startswith(f"hkswitch: no daemon is listening on {tmp_path / SOCKET_NAME}; ")


@pytest.mark.parametrize(
    ("alert", "line"),
    [
        (OPEN._replace(began_unix_seconds=2**70), "unknown time  nas  "),
        (WEB._replace(ended_unix_seconds=0), "(ended after 0 s)"),  # the clock was set back
    ],
)
def test_an_odd_time_is_no_traceback(alert: AlertReport, line: str) -> None:
    [shown] = alerts.lines_of([alert])
    assert line in shown
