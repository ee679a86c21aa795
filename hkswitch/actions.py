"""`hkswitch start`, `stop` and `restart`: asks the daemon, or root's helper where there is none."""

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

from hkswitch.control import client, socket_of
from hkswitch.core.control import Ask, Question, Status
from hkswitch.core.errors import Exit, Failure
from hkswitch.core.model import Action, Meaning
from hkswitch.core.report import GroupReport, printable
from hkswitch.hosts.sudo import HELPER

LAST_LINES: Final = 5
"""Of a failed unit's journal."""


async def act(word: str, groups: Sequence[str], state_folder: Path, *, wait: bool) -> Exit:
    """Do an action on groups, side by side, and say what failed; returns the first such exit code."""
    action = Action(word)
    doing = (_act(action, group_id, state_folder, wait=wait) for group_id in dict.fromkeys(groups))
    with _spinner(f"{word} {' '.join(groups)}") if wait else nullcontext():
        codes = await asyncio.gather(*doing)
    return next((code for code in codes if code is not Exit.OK), Exit.OK)


async def _act(action: Action, group_id: str, state_folder: Path, *, wait: bool) -> Exit:
    path = socket_of(state_folder)
    try:
        await client.act(path, action, group_id, wait=wait)
    except client.NoDaemon as failure:
        return await _act_as_root(action, group_id, failure)
    except Failure as failure:
        _say(f"hkswitch: {failure}")
        if failure.exit_code is Exit.UNAVAILABLE:
            await _say_why(path, group_id)
        return failure.exit_code
    return Exit.OK


async def _act_as_root(action: Action, group_id: str, failure: client.NoDaemon) -> Exit:
    if os.geteuid() != 0:
        _say(f"hkswitch: {failure}, or use sudo")
        return failure.exit_code
    helper = await asyncio.create_subprocess_exec(HELPER[0], action, group_id)
    return Exit(await helper.wait())


async def _say_why(path: Path, group_id: str) -> None:
    """The last lines of what failed, as far as this user may read the journal."""
    report = await client.ask(path, Question(Ask.STATUS))
    assert isinstance(report, Status)  # noqa: S101 -- client.ask has looked
    for group in report.report.groups:
        if group.id == group_id:
            for unit in failed_units(group):
                lines = await _last_lines(unit)
                _say("\n".join([f"The last lines of {unit}:", *(f"  {line}" for line in lines)]))


def failed_units(group: GroupReport) -> tuple[str, ...]:
    """Whose journals say why an action failed."""
    failed = [unit for unit, state in group.units.items() if state.meaning is Meaning.FAILED]
    return tuple(failed) if group.units else (f"hkswitch-command-{group.id}.service",)


async def _last_lines(unit: str) -> list[str]:
    options = ("--quiet", "--no-pager", "--output=cat", f"--lines={LAST_LINES}", f"--unit={unit}")
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        journal = await asyncio.create_subprocess_exec(
            "journalctl", *options, stdin=null, stdout=pipe, stderr=null
        )
    except OSError:
        return []
    text, _ = await journal.communicate()
    return [printable(line) for line in text.decode(errors="replace").splitlines()]


def _spinner(what: str) -> AbstractContextManager[object]:
    """On a terminal, something that moves."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console  # noqa: PLC0415 -- a script does not wait for it

    return Console(stderr=True, highlight=False).status(f"{what} ...")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
