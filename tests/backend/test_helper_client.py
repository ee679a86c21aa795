"""The daemon's end of the helper's pipe, with helpers that die, lie, hang or are refused by sudo."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from hkswitch.backend import helper_client as helper_module
from hkswitch.backend import helper_session
from hkswitch.backend.helper_client import Helper
from hkswitch.backend.helper_session import HelperGone, RequestRefused
from hkswitch.backend.helper_transport import Process
from hkswitch.backend.sudo import SUDOERS_RULE, explain
from hkswitch.model.unit_state import Action, JobResult, UnitResult
from hkswitch.protocol.helper import Finished
from tests.support.waiting import eventually

HELLO = 'say({"type": "hello", "version": "1"})'
PROGRAM = """\
import json, os, sys, time
def say(reply): print(json.dumps(reply), flush=True)
def asked(): return json.loads(sys.stdin.readline())
"""


def ignore() -> None:
    """Of no interest that it was accepted."""


Start = Callable[[str], Awaitable[Helper]]


@pytest_asyncio.fixture(loop_scope="module")
async def start(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """Start a `Helper` on a small program; all end with the test."""
    monkeypatch.setattr(helper_module, "BACK_OFF_SECONDS", (0.01,))
    monkeypatch.setattr(helper_session, "ANSWER_WITHIN_SECONDS", 0.3)
    monkeypatch.setattr(helper_module, "READY_WITHIN_SECONDS", 2)
    running: list[asyncio.Task[None]] = []

    async def begin(code: str) -> Helper:
        helper = Helper(Process([sys.executable, "-c", PROGRAM + code]))
        running.append(asyncio.create_task(helper.keep_running()))
        return helper

    yield begin
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def ready(helper: Helper) -> None:
    await eventually(lambda: helper.is_ready)


async def test_a_request_returns_how_it_finished(start: Start) -> None:
    helper = await start(f"""
{HELLO}
request = asked()
say({{"type": "accepted", "id": request["id"]}})
result = {{"unit": request["group"], "job": "done", "detail": request["action"], "job_id": 7}}
say({{"type": "finished", "id": request["id"], "units": [result], "superseded": False}})
asked()
""")
    await ready(helper)
    units = (UnitResult("web", JobResult.DONE, "stop", 7),)
    assert await helper.request(Action.STOP, "web", ignore) == Finished(1, units)


async def test_a_request_without_a_helper_fails_at_once() -> None:
    with pytest.raises(HelperGone, match="not started yet"):
        await Helper(Process(["true"])).request(Action.START, "web", ignore)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("asked(); sys.exit(0)", "it ended"),
        ("asked(); sys.stderr.write('some reason\\n'); sys.exit(69)", "some reason"),
        ("asked(); os.kill(os.getpid(), 9)", "it ended"),
        ("asked(); print('garbage', flush=True); asked()", "it sent garbage: not a line of JSON"),
        ("asked(); print('x' * 300000, flush=True); asked()", "it sent garbage"),
        ("asked(); time.sleep(60)", "it did not answer within 0.3 s"),
        ("say({'type': 'accepted', 'id': asked()['id']}); sys.exit(0)", "it ended"),
    ],
)
async def test_a_request_to_a_helper_that_goes_wrong_fails(start: Start, code: str, why: str) -> None:
    helper = await start(f"{HELLO}\n{code}")
    await ready(helper)
    with pytest.raises(HelperGone) as caught:
        await helper.request(Action.START, "web", ignore)
    assert why in caught.value.why


async def test_a_refusal_is_told(start: Start) -> None:
    helper = await start(
        f'{HELLO}\nsay({{"type": "refused", "id": asked()["id"], "reason": "denied: no"}}); asked()'
    )
    await ready(helper)
    with pytest.raises(RequestRefused, match="denied: no"):
        await helper.request(Action.START, "web", ignore)


async def test_a_helper_that_ended_is_started_again(start: Start, tmp_path: Path) -> None:
    lives = tmp_path / "lives"
    helper = await start(f"{HELLO}\nopen({str(lives)!r}, 'a').write('x')\nsys.exit(0)")
    await eventually(lambda: lives.exists() and len(lives.read_text()) >= 3)
    assert not helper.is_ready or lives.exists()


async def test_a_command_that_does_not_exist_is_said(caplog: pytest.LogCaptureFixture) -> None:
    helper = Helper(Process(["/nonexistent/sudo"]))
    running = asyncio.create_task(helper.keep_running())
    await eventually(lambda: "/nonexistent/sudo: No such file or directory" in caplog.text)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_same_trouble_is_logged_once(
    start: Start, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    lives = tmp_path / "lives"
    await start(f"open({str(lives)!r}, 'a').write('x'); sys.exit(0)")
    await eventually(lambda: lives.exists() and len(lives.read_text()) >= 4)
    assert caplog.text.count("the helper ended (it ended)") == 1


@pytest.mark.parametrize(
    ("complaint", "advice"),
    [
        ("sudo: a password is required", SUDOERS_RULE),
        ("sudo-rs: I'm sorry hkswitch. I'm afraid I can't do that", SUDOERS_RULE),
        (
            'sudo: The "no new privileges" flag is set, which prevents sudo from running as root.',
            "NoNewPrivileges",
        ),
        (
            (
                "sudo: If sudo is running in a container, you may need to adjust the container configuration "
                "to disable the flag."
            ),
            "NoNewPrivileges",
        ),
        ("sudo must be owned by uid 0 and have the setuid bit set", "NoNewPrivileges"),
        ("it ended", "it is started again"),
    ],
)
def test_the_log_says_what_to_do(complaint: str, advice: str) -> None:
    assert advice in explain(complaint)
    assert complaint in explain(complaint)


async def test_a_request_that_takes_long_is_waited_for_while_the_helper_answers_pings(start: Start) -> None:
    helper = await start(f"""
{HELLO}
request = asked()
say({{"type": "accepted", "id": request["id"]}})
for _ in range(2):
    say({{"type": "pong", "id": asked()["ping"]}})
say({{"type": "finished", "id": request["id"], "units": [], "superseded": False}})
asked()
""")
    await ready(helper)
    assert await helper.request(Action.START, "web", ignore) == Finished(1, ())


async def test_a_helper_that_hangs_during_a_job_is_given_up(start: Start) -> None:
    helper = await start(f"{HELLO}\nsay({{'type': 'accepted', 'id': asked()['id']}}); time.sleep(60)")
    await ready(helper)
    with pytest.raises(HelperGone, match="did not answer within"):
        await helper.request(Action.START, "web", ignore)
    await eventually(lambda: not helper.is_ready)


async def test_accepted_is_called_when_the_request_was_handed_over_and_not_before(start: Start) -> None:
    helper = await start(f"""
{HELLO}
say({{"type": "accepted", "id": asked()["id"]}})
say({{"type": "refused", "id": asked()["id"], "reason": "denied"}})
asked()
""")
    await ready(helper)
    accepted: list[str] = []
    first = asyncio.create_task(helper.request(Action.START, "web", lambda: accepted.append("first")))
    await eventually(lambda: accepted == ["first"])
    with pytest.raises(RequestRefused):
        await helper.request(Action.START, "web", lambda: accepted.append("second"))
    assert accepted == ["first"]
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)


async def test_a_helper_that_waits_to_be_started_again_is_started_now(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper_module, "BACK_OFF_SECONDS", (60,))
    lives = tmp_path / "lives"
    helper = await start(f"open({str(lives)!r}, 'a').write('x'); sys.exit(0)")
    await eventually(lives.exists)
    for count in (2, 3):

        def lived(count: int = count) -> bool:
            helper.start_now()
            return len(lives.read_text()) >= count

        await eventually(lived)
