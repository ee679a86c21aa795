"""`hkswitch diagnostics`: one text about an installation, to attach to a bug report. No secret gets into it.

What could be one is left out where the text is made: arguments of commands, comments of the configuration,
values of the environment. What remains goes through `Secrets`, which knows those of the state folder if they
may be read, and their form if not.
"""

import asyncio
import platform
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Self

from hkswitch import __version__
from hkswitch.backend.helper_transport import sudo_command
from hkswitch.cli import status
from hkswitch.doctor import page
from hkswitch.doctor.account import stored
from hkswitch.doctor.checks import examine
from hkswitch.doctor.context import UNIT, Situation, collect
from hkswitch.doctor.programs import CannotRun, run
from hkswitch.hap.state_file import Stored
from hkswitch.model.config import Config
from hkswitch.model.errors import ConfigError, Failure
from hkswitch.model.group import Argv, Group
from hkswitch.model.printable import printable
from hkswitch.network import addresses
from hkswitch.protocol.report import Report

JOURNAL_LINES: Final = 200
LIBRARIES: Final = ("HAP-python", "zeroconf", "sdbus", "cryptography", "h11", "PyYAML", "click", "rich")

HEADER: Final = """\
hkswitch diagnostics of {now}
This holds names of services, groups, users and interfaces, addresses of this machine, and log lines.
It holds no setup code, no key, no whole ID of a controller, and no argument of a command.
Read it before you give it to others."""

REMOVED: Final = "[removed]"
ID_CHARACTERS: Final = 8
SHORTEST_KEY: Final = 32

_UUID: Final = re.compile(
    r"\b([0-9A-Fa-f]{8})-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}\b"
)
_FORMS: Final = (
    re.compile(r"X-HM://[0-9A-Za-z]+"),
    re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{3}(?![\d-])"),
    re.compile(r"(?<![0-9A-Fa-f])[0-9A-Fa-f]{64,}(?![0-9A-Fa-f])"),
)
"""Of setup payloads, setup codes and keys."""

_WITH_VALUES: Final = re.compile(r"^(\s*(?:Environment|SetCredential\w*)\s*=).*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Secrets:
    """What must not be in the text, whatever else it says."""

    known: frozenset[str] = frozenset()

    @classmethod
    def of(cls, bridge: Stored) -> Self:
        """Those of a bridge: its setup code in every form, its keys, and those of its controllers."""
        code = bridge.setup.code
        keys = {text for text in _strings(bridge.accessory) if len(text) >= SHORTEST_KEY}
        return cls(frozenset({code, code.replace("-", ""), bridge.setup.payload, *keys}))

    def removed_from(self, text: str) -> str:
        """The text without them, and with the beginnings of UUIDs only, as controllers' IDs are."""
        for secret in sorted(self.known, key=len, reverse=True):
            text = re.sub(re.escape(secret), REMOVED, text, flags=re.IGNORECASE)
        for form in _FORMS:
            text = form.sub(REMOVED, text)
        return _UUID.sub(lambda found: f"{found[1][:ID_CHARACTERS]}...", text)


async def text(config_file: Path, state_folder: Path) -> str:
    """All of it. `config_file` is an absolute path."""
    situation = await collect(config_file, state_folder)
    found = stored(state_folder)[0] if situation.may_look_as_daemon else None
    secrets = Secrets.of(found) if isinstance(found, Stored) else Secrets()
    findings, versions, service, journal, report = await asyncio.gather(
        examine(situation), _versions(), _service(situation), _journal(), _status(situation)
    )
    sections = {
        "versions": versions,
        "doctor": page.lines(findings),
        "configuration": config_lines(situation.config),
        "status": report,
        "unit": service,
        "network": _network(),
        "journal": journal,
    }
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    parts = [HEADER.format(now=now), *(_section(name, lines) for name, lines in sections.items())]
    return secrets.removed_from("\n\n".join(parts))


def config_lines(config: Config | Failure) -> Iterator[str]:
    """What was read, without comments; of commands the program, and of mistakes the places."""
    if isinstance(config, ConfigError):
        for problem in config.problems:
            yield f"mistake in line {problem.line}, column {problem.column}: {problem.path}"
        return
    if isinstance(config, Failure):
        yield str(config)
        return
    bridge = config.bridge
    where = [*bridge.interfaces, *bridge.addresses] or ["the default route"]
    yield f"bridge {bridge.name}: {', '.join(where)}, port {bridge.port}"
    for group in config.groups:
        yield from _group_lines(group)


def unit_lines(cat: str) -> list[str]:
    """What `systemctl cat` prints, without the values of variables and credentials."""
    joined = cat.replace("\\\n", " ")
    return _WITH_VALUES.sub(rf"\1{REMOVED}", joined).rstrip("\n").split("\n")


def _group_lines(group: Group) -> Iterator[str]:
    actions = "/".join(sorted(group.actions))
    restart = ", with a restart switch" if group.restart else ""
    yield f"group {group.id} ({group.name}): {group.type}, {actions}{restart}"
    if group.units:
        yield f"  units: {' '.join(group.units)}"
    argvs = {"check": group.check}
    if (commands := group.commands) is not None:
        argvs = {name: getattr(commands, name) for name in ("start", "stop", "restart", "status")}
    yield from (f"  {name}: {_without_arguments(argv)}" for name, argv in argvs.items() if argv)
    if group.probe:
        yield f"  every {group.interval_seconds} s, at most {group.timeout_seconds} s"


def _without_arguments(argv: Argv) -> str:
    program, *arguments = argv
    return f"{program} ..." if arguments else program


def _section(name: str, lines: Iterable[str]) -> str:
    return "\n".join((f"== {name} ==", *(printable(line) for line in lines)))


async def _versions() -> list[str]:
    sudo, *_ = sudo_command()
    return [
        f"hkswitch {__version__}",
        f"Python {platform.python_version()}",
        f"{_release()}, Linux {platform.release()}, {platform.machine()}",
        *await _said("systemctl", "--version", most=1),
        *await _said(sudo, "--version", most=1),
        *(f"{name} {metadata.version(name)}" for name in LIBRARIES),
    ]


def _release() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "?")
    except OSError:
        return "?"


async def _service(situation: Situation) -> list[str]:
    unit, process = situation.unit, situation.main_process
    shown = [str(unit)] if isinstance(unit, Failure) else [f"{name}={value}" for name, value in unit.items()]
    cat = "\n".join(await _said("systemctl", "cat", UNIT))
    return [*shown, "", *unit_lines(cat), "", *(_limits(process) if process else ())]


def _limits(process: int) -> list[str]:
    try:
        limits = Path(f"/proc/{process}/limits").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return [f"limits of process {process}: {error.strerror}"]
    return limits.rstrip("\n").split("\n")


async def _journal() -> list[str]:
    options = ("--no-pager", "--output=short-iso", f"--lines={JOURNAL_LINES}", f"--unit={UNIT}")
    return await _said("journalctl", *options)


async def _status(situation: Situation) -> list[str]:
    try:
        found = status.from_daemon(situation.state_folder)
        report = found or await status.from_systemd(situation.config_file)
    except ConfigError:
        return ["the configuration has mistakes, and there is no daemon"]
    except Failure as failure:
        return [str(failure)]
    return status.as_json(without_config_text(report)).split("\n")


def without_config_text(report: Report) -> Report:
    """The report without what it may quote from a configuration with mistakes: that may be a secret."""
    if report.bridge is None or not report.bridge.config:
        return report
    groups = tuple(group._replace(why="") for group in report.groups)
    return Report(report.bridge._replace(config="not in force"), groups)


def _network() -> list[str]:
    machine = addresses.this_machine()
    return [
        *(f"interface {name}: flags {flags:#x}" for name, flags in sorted(machine.links.items())),
        *(f"address {each} on {each.label}" for each in machine.addresses),
        f"default routes: {', '.join(machine.defaults) or 'none'}",
    ]


async def _said(program: str, *arguments: str, most: int | None = None) -> list[str]:
    """What a program prints, or why it does not."""
    try:
        ran = await run(program, *arguments)
    except CannotRun as failure:
        return [str(failure)]
    if not ran.output.strip():
        return [f"{Path(program).name}: {ran.complaint}"]
    return ran.output.rstrip("\n").split("\n")[:most]


def _strings(value: Any) -> Iterator[str]:  # noqa: ANN401 -- JSON
    """All text in JSON, but the keys of objects."""
    match value:
        case str():
            yield value
        case dict():
            for item in value.values():
                yield from _strings(item)
        case list():
            for item in value:
                yield from _strings(item)
