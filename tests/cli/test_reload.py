"""`hkswitch reload`: what came of it is an exit code and a line, so that systemctl can tell it."""

import asyncio
from pathlib import Path

import pytest

from hkswitch.cli import reload
from hkswitch.control import SOCKET_NAME
from hkswitch.control.client import NoAnswer, NoDaemon
from hkswitch.control.server import served
from hkswitch.model.errors import ConfigError, Problem
from tests.support.command import run
from tests.support.pairings import Broken, NotedPairings

MISTAKES = ConfigError("/etc/x.yaml", (Problem(1, 1, "groups", "no"), Problem(2, 1, "bridge", "no")))


@pytest.mark.parametrize(
    ("daemon", "ended"),
    [
        (NotedPairings(), (0, "reloaded\n", "")),
        (
            NotedPairings(note="changes to bridge.port take effect after `sudo systemctl restart hkswitch`"),
            (
                0,
                "reloaded: changes to bridge.port take effect after `sudo systemctl restart hkswitch`\n",
                "",
            ),
        ),
        (
            NotedPairings(error=MISTAKES),
            (78, "", "hkswitch: not reloaded: /etc/x.yaml:1:1: groups: no; /etc/x.yaml:2:1: bridge: no\n"),
        ),
        (
            NotedPairings(error=Broken()),
            (73, "", "hkswitch: not reloaded: cannot write /ä; : No space left on device\n"),
        ),
    ],
    ids=["done", "noted", "mistakes", "broken"],
)
async def test_a_reload_says_what_came_of_it(
    tmp_path: Path, daemon: NotedPairings, ended: tuple[int, str, str]
) -> None:
    async with served(tmp_path / SOCKET_NAME, daemon):
        assert await asyncio.to_thread(run, "reload", "--state-dir", tmp_path) == ended


def test_without_a_daemon_nothing_is_reloaded(tmp_path: Path) -> None:
    code, output, errors = run("reload", "--state-dir", tmp_path)
    assert (code, output) == (69, "")
    assert errors == (
        f"hkswitch: no daemon is listening on {tmp_path / SOCKET_NAME}; start the daemon for this folder\n"
    )
    with pytest.raises(NoDaemon):
        reload.request_reload(tmp_path)


async def test_a_daemon_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "RELOADED_WITHIN_SECONDS", 0.2)

    class Hanging(NotedPairings):
        async def reload(self) -> str:
            await asyncio.Event().wait()
            raise AssertionError

    async with served(tmp_path / SOCKET_NAME, Hanging()):
        with pytest.raises(NoAnswer, match=r"no answer within 0\.2 s"):
            await asyncio.to_thread(reload.request_reload, tmp_path)


@pytest.mark.parametrize("arguments", [["web"], ["--config", "x"], ["--json"]], ids=" ".join)
def test_a_reload_is_of_the_whole_configuration_of_the_daemon(arguments: list[str]) -> None:
    assert run("reload", *arguments)[0] == 64
