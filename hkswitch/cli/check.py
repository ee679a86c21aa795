"""`hkswitch check`: validates the configuration.

It also warns about dangerous units, about units, container engines, users and directories that this machine
lacks, about containers of quadlets, about programs that root does not trust, about rules and an alert command
that cannot work here, and about other hosts; and if root asks, about containers that do not exist.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import click

from hkswitch.cli.check_hosts import host_warnings, unused_hosts
from hkswitch.cli.entry import in_event_loop
from hkswitch.cli.layout import say
from hkswitch.cli.options import config_option, examples
from hkswitch.model import machine
from hkswitch.model.config import Config, parse
from hkswitch.model.config_file import config_bytes
from hkswitch.model.dangerous_units import entries_of, warnings
from hkswitch.model.errors import Problem
from hkswitch.model.group import Engine, Group
from hkswitch.model.misspelt_suffixes import unit_meant
from hkswitch.model.printable import printable
from hkswitch.model.unit_state import LoadState
from hkswitch.model.yaml_nodes import Node, Position, Scalar, Sequence, read
from hkswitch.unit_names import contained, systemctl


@click.command(epilog=examples("hkswitch check", "hkswitch check --config new.yaml"))
@config_option
def check(config_file: Path) -> None:
    """Validate the configuration.

    Also warns about units that would cut off hkswitch or the machine when switched, about misspelt suffixes,
    about units, container engines, users and directories that do not exist on this machine, about containers
    of quadlets, about programs that root would run although other users can write them, about limits of
    restart_when that cannot be measured, and about an alert_command that cannot run. With sudo, also about
    containers and compose projects that do not exist. Of other hosts, it warns about missing keys, and notes
    those without groups; it does not connect to them.
    """
    contents = config_bytes(config_file)
    config = parse(contents, str(config_file))
    print_warnings(contents, config, config_file)
    _print_each("note", unused_hosts(entries_of(read(contents, [])), config), config_file)
    say("configuration OK")


def print_warnings(contents: bytes, config: Config, config_file: Path) -> None:
    """Print the warnings about a valid config on standard error, in the order of the file."""
    top = entries_of(read(contents, []))
    groups = entries_of(top["groups"])
    wanted = (*_units_of(config), *(group.engine.unit for group in config.groups if group.contained))
    states = systemctl.load_states(wanted)
    of_machine = (*_of_machine(groups, config), *_missing_units(groups, config, states))
    of_engines = (*_containers(groups, config, states), *_missing_containers(groups, config))
    of_alerts = (*_of_rules(groups, config), *_of_alert_command(top, config))
    of_hosts = host_warnings(top, config)
    all_of_them = (*warnings(contents, config), *of_machine, *of_engines, *of_alerts, *of_hosts)
    _print_each("warning", sorted(all_of_them), config_file)


def _print_each(kind: str, problems: Iterable[Problem], config_file: Path) -> None:
    """Print problems as compilers do, so that editors can jump there."""
    for found in problems:
        place = f"{config_file}:{found.line}:{found.column}"
        say(f"{place}: {kind}: {found.path}: {found.message}", err=True)


def _of_machine(groups: Mapping[str, Node], config: Config) -> Iterator[Problem]:
    """Yield what keeps this machine from running the commands of groups."""
    for group in config.groups:
        keys = entries_of(groups[group.id])
        yield from _missing(group, keys)
        if group.check or group.commands:
            yield from _refused(group, keys)


def _missing(group: Group, keys: Mapping[str, Node]) -> Iterator[Problem]:
    """Yield the user and the directory of a group that this machine does not have."""
    if group.user and (why := machine.why_no_user(group.user)):
        yield keys["user"].position.problem(why)
    if why := machine.why_no_working_directory(group):
        yield keys["directory" if group.directory else "user"].position.problem(why)


def _refused(group: Group, keys: Mapping[str, Node]) -> Iterator[Problem]:
    """Yield the user and the programs of a group that exist, and that the helper refuses."""
    from hkswitch.doctor import refused_programs as refused  # noqa: PLC0415 -- not for groups of units

    if (refusal := refused.why_no_user(group)) and not machine.why_no_user(group.user):
        yield keys["user"].position.problem(str(refusal))
    programs = dict.fromkeys(refused.programs_of_root(group))
    commands = entries_of(keys["commands"]) if group.commands else {"check": keys["check"]}
    for program, place in _programs(commands.values()):
        if programs.pop(program, ...) is None and (why := _why_refused(program)):
            yield place.problem(why)


def _programs(commands: Iterable[Node]) -> Iterator[tuple[str, Position]]:
    for command in commands:
        match command:
            case Sequence(items=(Scalar(text=program, position=place), *_)):
                yield program, place


def _why_refused(program: str) -> str:
    """Return why root does not trust a program; empty if it does, is not here, or if only root can tell."""
    from hkswitch.doctor import refused_programs as refused  # noqa: PLC0415 -- as above

    with suppress(OSError):
        if Path(program).exists() and (refusal := refused.why_no_program(program)):
            return "" if refused.is_permission_denied(refusal) else str(refusal)
    return ""


def _units_of(config: Config) -> Iterator[str]:
    return (unit for group in config.groups for unit in group.units)


def _missing_units(
    groups: Mapping[str, Node], config: Config, states: Mapping[str, LoadState]
) -> Iterator[Problem]:
    """Yield the units that systemd does not find, where it is running."""
    missing = [unit for unit in dict.fromkeys(_units_of(config)) if states.get(unit) is LoadState.NOT_FOUND]
    hints = systemctl.hints(missing)
    for group in config.groups:
        units = entries_of(groups[group.id]).get("units")
        for index, unit in enumerate(group.units):
            if unit in missing and not unit_meant(unit) and isinstance(units, Sequence):
                hint = f"; {hints[unit]}" if unit in hints else ""
                yield units.items[index].position.problem(f"{unit} does not exist{hint}")


def _containers(
    groups: Mapping[str, Node], config: Config, states: Mapping[str, LoadState]
) -> Iterator[Problem]:
    """Yield the engines that this machine lacks, each once, and the containers that only a unit can start."""
    lacking: set[Engine] = set()
    for group in config.groups:
        keys = entries_of(groups[group.id])
        place = None if group.engine in lacking else keys.get("containers") or keys.get("compose")
        state = states.get(group.engine.unit)
        if place is not None and state in {LoadState.NOT_FOUND, LoadState.MASKED}:
            lacking.add(group.engine)
            yield place.position.problem("; ".join(contained.engine_problem(group.engine, state)))
        names = keys.get("containers")
        for index, name in enumerate(group.containers if group.engine is Engine.PODMAN else ()):
            if isinstance(names, Sequence) and (unit := contained.quadlet_of(name)):
                yield names.items[index].position.problem(f"systemd runs it; {contained.advice_to_use(unit)}")


def _missing_containers(groups: Mapping[str, Node], config: Config) -> Iterator[Problem]:
    """Yield the containers and projects that their engines do not have; only root can tell."""
    wanted = [member for group in config.groups for member in group.contained]
    if not wanted or os.geteuid() != 0:
        return
    from hkswitch.doctor import containers as engines  # noqa: PLC0415 -- slow to import, and few groups have any

    states, known = in_event_loop(engines.seen_by_root(wanted))
    for group in config.groups:
        keys = entries_of(groups[group.id])
        names = keys.get("containers")
        places = [*names.items] if isinstance(names, Sequence) else []
        for member, node in zip(group.contained, (*places, keys.get("compose")), strict=False):
            found = contained.contained_of(member)
            state = states.get(member)
            if found is None or node is None or state is None or state.load is not LoadState.NOT_FOUND:
                continue
            if not contained.unit_instead(found, state):  # of which `_containers` warns
                meant = engines.meant_by(found, known)
                why = contained.why_not_found(found) + (f"; did you mean {meant}?" if meant else "")
                yield node.position.problem(why)


def _of_rules(groups: Mapping[str, Node], config: Config) -> Iterator[Problem]:
    """Yield the limits of rules that cannot be measured on this machine, and the units that do not count."""
    ruled = [group for group in config.local_groups if group.restart_when]
    if not ruled:
        return
    from hkswitch.doctor import measuring  # noqa: PLC0415 -- few groups have a rule

    kernel, outside = measuring.kernel_fault(), measuring.engines_outside(ruled)
    for group in ruled:
        keys = entries_of(groups[group.id])
        if kernel:
            for key in measuring.unmeasured_limits(group, kernel):
                place = entries_of(keys["restart_when"])[key].position
                yield place.problem(f"cannot be measured: {kernel.why}; {kernel.remedy}")
        if group.contained and group.engine in outside:
            why = "; ".join(measuring.engine_fault(group.engine))
            yield keys["restart_when"].position.problem(f"containers cannot be measured: {why}")
        if isinstance(units := keys.get("units"), Sequence):
            for unit in measuring.not_counted(group):
                place = units.items[group.units.index(unit)].position
                yield place.problem(f"restart_when does not count {unit}; only services and slices count")


def _of_alert_command(top: Mapping[str, Node], config: Config) -> Iterator[Problem]:
    """Yield why the alert command never runs, or cannot run."""
    if not config.alert_command:
        return
    from hkswitch.doctor import alert_command  # noqa: PLC0415 -- few configs have one

    place = top["alert_command"].position
    if not any(group.alert for group in config.groups):
        yield place.problem(f"never runs: no group has 'alert'; {alert_command.ADD_ALERT}")
    if fault := alert_command.why_cannot_run(config.alert_command):
        yield place.problem(printable("; ".join(fault)))  # others may have written the script
