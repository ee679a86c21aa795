"""`hkswitch diagnostics`: a report about an installation, to attach to a bug report. It contains no secrets.

It never includes arguments of commands, comments of the configuration or values of environment variables.
`Secrets` removes the setup code, keys and IDs from the rest: by pattern, and also by value if the state
folder is readable.
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

import click

from hkswitch import __version__
from hkswitch.backend.sudo_command import sudo_command
from hkswitch.cli import status
from hkswitch.cli.entry import in_event_loop
from hkswitch.cli.layout import say
from hkswitch.cli.options import config_option, examples, state_option
from hkswitch.doctor.account import stored
from hkswitch.doctor.checks import check_all
from hkswitch.doctor.context import Context, collect
from hkswitch.doctor.finding import lines
from hkswitch.doctor.programs import CannotRun, run
from hkswitch.hap.state_file import Stored
from hkswitch.model.config import Config
from hkswitch.model.errors import ConfigError, Failure
from hkswitch.model.group import Argv, Group
from hkswitch.model.installation import DAEMON_UNIT
from hkswitch.model.printable import printable
from hkswitch.network import addresses
from hkswitch.protocol.report import Report

JOURNAL_LINES: Final = 200
LIBRARIES: Final = ("HAP-python", "zeroconf", "sdbus", "cryptography", "h11", "PyYAML", "click", "rich")

HEADER: Final = """\
hkswitch diagnostics, {now}
Contains names of services, containers, groups, hosts, users and interfaces, addresses of this machine, logs.
Contains no setup codes, keys, complete controller IDs or command arguments.
Read it before you share it."""

REPLACEMENT: Final = "[removed]"
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
"""Patterns of setup payloads, setup codes and keys, in this order."""

_WITH_VALUES: Final = re.compile(r"^(\s*(?:Environment|SetCredential\w*)\s*=).*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Secrets:
    """Values that the text must not contain."""

    known: frozenset[str] = frozenset()

    @classmethod
    def of(cls, bridge: Stored) -> Self:
        """Return a bridge's secrets: its setup code in every form, its keys, and its controllers' keys."""
        code = bridge.setup.code
        keys = {text for text in _strings(bridge.accessory) if len(text) >= SHORTEST_KEY}
        return cls(frozenset({code, code.replace("-", ""), bridge.setup.payload, *keys}))

    def removed_from(self, text: str) -> str:
        """Return the text without the secrets, and with UUIDs (IDs of controllers) cut short."""
        for secret in sorted(self.known, key=len, reverse=True):
            text = re.sub(re.escape(secret), REPLACEMENT, text, flags=re.IGNORECASE)
        for form in _FORMS:
            text = form.sub(REPLACEMENT, text)
        return _UUID.sub(lambda found: f"{found[1][:ID_CHARACTERS]}...", text)


@click.command(epilog=examples("sudo hkswitch diagnostics > diagnostics.txt"))
@config_option
@state_option
def diagnostics(config_file: Path, state_folder: Path) -> None:
    """Print details for a bug report.

    Contains the findings of `hkswitch doctor`, versions, the configuration, the status and the last log
    lines, but no secrets.
    """
    say(in_event_loop(collect_text(config_file.absolute(), state_folder)))


async def collect_text(config_file: Path, state_folder: Path) -> str:
    """Return the whole report. `config_file` is an absolute path."""
    context = await collect(config_file, state_folder)
    found = stored(state_folder)[0] if context.has_daemon_rights else None
    secrets = Secrets.of(found) if isinstance(found, Stored) else Secrets()
    findings, versions, service, journal, debug_log, report = await asyncio.gather(
        check_all(context),
        versions_with(context.config),
        _service(context),
        _journal("emerg..info"),
        _journal("debug..debug"),
        _status(context),
    )
    sections = {
        "versions": versions,
        "doctor": lines(findings),
        "configuration": config_lines(context.config),
        "status": report,
        "unit": service,
        "network": _network(),
        "journal": journal,
        "debug log": debug_log,
    }
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    parts = [HEADER.format(now=now), *(_section(name, lines) for name, lines in sections.items())]
    return secrets.removed_from("\n\n".join(parts))


def config_lines(config: Config | Failure) -> Iterator[str]:
    """Yield the configuration without comments and arguments; if it is invalid, the places of its errors."""
    if isinstance(config, ConfigError):
        for problem in config.problems:
            yield f"error at line {problem.line}, column {problem.column}: {problem.path}"
        return
    if isinstance(config, Failure):
        yield str(config)
        return
    bridge = config.bridge
    where = [*bridge.interfaces, *bridge.addresses] or ["the default route"]
    yield f"bridge {bridge.name}: {', '.join(where)}, port {bridge.port}"
    if config.alert_command:
        yield f"alert_command: {_without_arguments(config.alert_command)}"
    for host in config.hosts:
        yield f"host {host.name}: {host.ssh}"
    for group in config.groups:
        yield from _group_lines(group)


def unit_lines(cat: str) -> list[str]:
    """Return the output of `systemctl cat` without the values of variables and credentials."""
    joined = cat.replace("\\\n", " ")
    return _WITH_VALUES.sub(rf"\1{REPLACEMENT}", joined).rstrip("\n").split("\n")


def _group_lines(group: Group) -> Iterator[str]:
    actions = "/".join(sorted(group.actions))
    restart = ", with a restart switch" if group.restart else ""
    sensor = f", with a {group.alert} sensor" if group.alert else ""
    place = f"{group.elsewhere}" if group.elsewhere else actions  # the config there has the actions
    yield f"group {group.id} ({group.name}): {group.type}, {place}{restart}{sensor}"
    if group.restart_when:
        limits = (
            f"{key} {value}" for key, value in group.restart_when._asdict().items() if value is not None
        )
        yield f"  restart_when: {', '.join(limits)}"
    if group.units:
        yield f"  units: {' '.join(group.units)}"
    if group.contained:
        yield f"  containers: {' '.join(group.contained)}"
    argvs = {"check": group.check}
    if (commands := group.commands) is not None:
        argvs = {name: getattr(commands, name) for name in ("start", "stop", "restart", "status")}
    yield from (f"  {name}: {_without_arguments(argv)}" for name, argv in argvs.items() if argv)
    if group.probe:
        yield f"  every {group.interval_seconds} s, timeout {group.timeout_seconds} s"


def _without_arguments(argv: Argv) -> str:
    program, *arguments = argv
    return f"{program} ..." if arguments else program


def _section(name: str, lines: Iterable[str]) -> str:
    return "\n".join((f"== {name} ==", *(printable(line) for line in lines)))


async def versions_with(config: Config | Failure) -> list[str]:
    """Return the versions of everything that takes part, with ssh and engines if the config needs them."""
    sudo, *_ = sudo_command()
    groups, hosts = ((), ()) if isinstance(config, Failure) else (config.groups, config.hosts)
    engines = dict.fromkeys(group.engine for group in groups if group.contained)
    return [
        f"hkswitch {__version__}",
        f"Python {platform.python_version()}",
        f"{_release()}, Linux {platform.release()}, {platform.machine()}",
        *await _output_of("systemctl", "--version", most=1),
        *await _output_of(sudo, "--version", most=1),
        *(await _output_of("ssh", "-V", most=1) if hosts else ()),
        *[line for engine in engines for line in await _output_of(engine, "--version", most=1)],
        *(f"{name} {metadata.version(name)}" for name in LIBRARIES),
    ]


def _release() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "?")
    except OSError:
        return "?"


async def _service(context: Context) -> list[str]:
    unit, process = context.unit, context.main_pid
    shown = [str(unit)] if isinstance(unit, Failure) else [f"{name}={value}" for name, value in unit.items()]
    cat = "\n".join(await _output_of("systemctl", "cat", DAEMON_UNIT))
    return [*shown, "", *unit_lines(cat), "", *(_limits(process) if process else ())]


def _limits(process: int) -> list[str]:
    try:
        limits = Path(f"/proc/{process}/limits").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return [f"limits of process {process}: {error.strerror}"]
    return limits.rstrip("\n").split("\n")


async def _journal(priorities: str) -> list[str]:
    """Return the daemon's last lines of these priorities (journalctl(1))."""
    options = ("--no-pager", "--output=short-iso", f"--lines={JOURNAL_LINES}", f"--unit={DAEMON_UNIT}")
    return await _output_of("journalctl", *options, f"--priority={priorities}")


async def _status(context: Context) -> list[str]:
    try:
        found = status.from_daemon(context.state_folder)
        report = found or await status.from_systemd(context.config_file)
    except ConfigError:
        return ["the configuration is invalid, and the daemon is not running"]
    except Failure as failure:
        return [str(failure)]
    return status.report_as_json(without_config_text(report)).split("\n")


def without_config_text(report: Report) -> Report:
    """Return the report without quotes from an invalid configuration: they may contain a secret."""
    if report.bridge is None or not report.bridge.config:
        return report
    groups = tuple(group._replace(why="") for group in report.groups)
    return Report(report.bridge._replace(config="not applied"), groups)


def _network() -> list[str]:
    machine = addresses.this_machine()
    return [
        *(f"interface {name}: flags {flags:#x}" for name, flags in sorted(machine.links.items())),
        *(f"address {each} on {each.label}" for each in machine.addresses),
        f"default routes: {', '.join(machine.defaults) or 'none'}",
    ]


async def _output_of(program: str, *arguments: str, most: int | None = None) -> list[str]:
    """Return the output of a program, or the reason why there is none."""
    try:
        ran = await run(program, *arguments)
    except CannotRun as failure:
        return [str(failure)]
    if not ran.output.strip():
        return [f"{Path(program).name}: {ran.last_line}"]
    return ran.output.rstrip("\n").split("\n")[:most]


def _strings(value: Any) -> Iterator[str]:  # noqa: ANN401 -- JSON
    """Yield all strings in JSON except the keys of objects."""
    match value:
        case str():
            yield value
        case dict():
            for item in value.values():
                yield from _strings(item)
        case list():
            for item in value:
                yield from _strings(item)
