"""`hkswitch add`: writes a new group of units and containers into the configuration."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from hkswitch.cli.add_remote import host_in, remote_group, say_state
from hkswitch.cli.config_change import apply_change, dry_run_option, make_change, show_change, to_change
from hkswitch.cli.entry import in_event_loop
from hkswitch.cli.layout import say
from hkswitch.cli.options import config_option, examples
from hkswitch.editing.example import is_example
from hkswitch.editing.new_group import new_group, unit_of
from hkswitch.editing.splice import with_group
from hkswitch.model.config import parse
from hkswitch.model.errors import ConfigError, Exit, Failure
from hkswitch.model.group import AccessoryType, AlertSensor, Engine, Group
from hkswitch.model.unit_state import LoadState
from hkswitch.unit_names import systemctl


@click.command(
    epilog=examples(
        'sudo hkswitch add smbd nmbd --name "File Server"',
        "sudo hkswitch add nginx --restart --dry-run",
        "sudo hkswitch add --container photos",
        "sudo hkswitch add nas-media --host nas --group media",
    )
)
@click.argument("units", nargs=-1, metavar="[UNIT]...")
@click.option("--container", "containers", multiple=True, metavar="NAME", help="Add a container, repeatable")
@click.option("--compose", default="", metavar="PROJECT", help="Add the containers of a compose project")
@click.option(
    "--engine",
    type=click.Choice([each.value for each in Engine]),
    metavar="ENGINE",
    help="Engine of the containers: docker or podman [docker]",
)
@click.option("--host", metavar="HOST", help="Add a group of this host; UNIT is then the group's id here")
@click.option("--group", "id_there", metavar="ID", help="Its id on that host [the same]")
@click.option("--name", metavar="NAME", help="Name in the Home app [made from the id]")
@click.option(
    "--id", "group_id", metavar="ID", help="Id of the group [made from the name, the unit or the container]"
)
@click.option(
    "--type",
    "kind",
    type=click.Choice([each.value for each in AccessoryType]),
    default=AccessoryType.SWITCH.value,
    metavar="TYPE",
    help="switch, outlet, light or fan [switch]",
)
@click.option("--restart", is_flag=True, help="Add a second switch, which restarts the group")
@click.option(
    "--alert",
    type=click.Choice([each.value for each in AlertSensor]),
    metavar="SENSOR",
    help="Add a sensor that detects trouble: contact, occupancy or leak",
)
@dry_run_option
@config_option
def add(  # noqa: PLR0913 -- one for each option
    *,
    units: tuple[str, ...],
    containers: tuple[str, ...],
    compose: str,
    engine: str | None,
    host: str | None,
    id_there: str | None,
    name: str | None,
    group_id: str | None,
    kind: str,
    config_file: Path,
    restart: bool,
    alert: str | None,
    dry_run: bool,
) -> None:
    """Add a group of units and containers, or of another host.

    Writes the group into the configuration, where everything else stays as it is, shows the change, and
    reloads the daemon. Groups of the example configuration are replaced, unless one of their units exists.
    `hkswitch edit` covers everything else, such as checks and commands. A host is one that `hkswitch host
    add` has added; the configuration there says what the group is.
    """
    sensor = AlertSensor(alert) if alert else None
    if host is not None:
        if len(units) != 1 or containers or compose or engine or group_id:
            raise click.UsageError("--host takes one id, and no units or containers")
        group = remote_group(
            units[0], host, id_there, name, AccessoryType(kind), restart=restart, alert=sensor
        )
    else:
        _check_usage(units, containers, compose, engine, id_there)
        group = new_group(
            tuple(dict.fromkeys(map(unit_of, units))),
            name,
            group_id,
            AccessoryType(kind),
            restart=restart,
            alert=sensor,
            containers=tuple(dict.fromkeys(containers)),
            compose=compose,
            engine=Engine(engine or Engine.DOCKER),
        )
    check_units(group.units)
    check_containers(group)
    with to_change(config_file, dry_run=dry_run) as original:
        if group.elsewhere is not None:
            place = group.elsewhere._replace(host=host_in(original.data, group.elsewhere.host.name))
            group = replace(group, elsewhere=place)
        replaced = _of_example(original.data, str(config_file))
        data = with_group(original.data, str(config_file), group, replaced)
        show_change(original, data)
        if dry_run:
            return
        make_change(original, data)
    instead = f", in place of the example groups ({', '.join(replaced)})" if replaced else ""
    say(f"Added {_described(group)}{instead}.")
    if apply_change(config_file) and group.elsewhere is not None:
        say_state(group)


def _check_usage(
    units: Sequence[str], containers: Sequence[str], compose: str, engine: str | None, id_there: str | None
) -> None:
    """Raise `UsageError` for options that do not make a group of this machine."""
    if id_there is not None:
        raise click.UsageError("--group applies only with --host")
    if not (units or containers or compose):
        raise click.UsageError("name a UNIT, or use --container, --compose or --host")
    if engine and not (containers or compose):
        raise click.UsageError("--engine applies only with --container or --compose")


def check_units(units: Sequence[str]) -> None:
    """Raise `Failure` if systemd does not find one of these units; it must be running to tell."""
    states = systemctl.load_states(units)
    missing = [unit for unit, state in states.items() if state is LoadState.NOT_FOUND]
    if missing:
        hints = {**systemctl.hints(missing), **containers_instead(missing)}
        reasons = (
            f"{unit} does not exist" + (f"; {hints[unit]}" if unit in hints else "") for unit in missing
        )
        raise Failure(f"cannot add the group: {', and '.join(reasons)}", Exit.USAGE)
    for unit, state in states.items():
        if state is LoadState.MASKED:
            unmask = f"sudo systemctl unmask {shlex.quote(unit)}"
            note = f"{unit} is masked; run `{unmask}`, or it cannot be started"
            say(f"hkswitch: {note}", err=True)


def containers_instead(units: Sequence[str]) -> dict[str, str]:
    """Return how to add the containers that have the names of these services; only root can tell."""
    stems = {unit: unit.removesuffix(".service") for unit in units if unit.endswith(".service")}
    if not stems or os.geteuid() != 0:
        return {}
    from hkswitch.doctor import containers  # noqa: PLC0415 -- slow to import, and only a mistake needs it

    wanted = {f"{engine}/{stem}": (unit, engine) for unit, stem in stems.items() for engine in Engine}
    states, _ = in_event_loop(containers.seen_by_root(wanted))
    more = {Engine.DOCKER: "", Engine.PODMAN: " --engine podman"}
    found = {wanted[member] for member, state in states.items() if state.load is LoadState.LOADED}
    return {
        unit: f"there is a container of that name: use `--container {shlex.quote(stems[unit])}{more[engine]}`"
        for unit, engine in sorted(found, reverse=True)  # Docker's is the last, and so wins
    }


def check_containers(group: Group) -> None:
    """Raise `Failure` if the engine has no such container, or if a unit runs it; only root can tell."""
    if not group.contained or os.geteuid() != 0:
        return
    from hkswitch.doctor import containers  # noqa: PLC0415 -- slow to import, and few groups have any
    from hkswitch.unit_names import contained as words  # noqa: PLC0415 -- as above

    states, known = in_event_loop(containers.seen_by_root(group.contained))
    unavailable: dict[str, None] = {}
    for member, state in states.items():
        contained = words.contained_of(member)
        if contained is None or (problem := words.problem_of(contained, state)) is None:
            continue
        if state.load is LoadState.UNAVAILABLE:
            unavailable["; ".join(problem)] = None
            continue
        users = containers.users_of_engines()
        if unit := words.unit_running(contained, state):
            hint = f"run `sudo hkswitch add {shlex.quote(unit)}`"
        elif has_service(contained.name):
            hint = f"for the service of that name, run `sudo hkswitch add {shlex.quote(contained.name)}`"
        elif meant := containers.meant_by(contained, known):
            hint = f"did you mean {meant}?"
        elif contained.engine in users:
            hint = containers.rootless_note(contained.engine, users)
        else:
            hint = words.where_listed(contained)
        raise Failure(f"cannot add the group: {problem[0]}; {hint}", Exit.USAGE)
    for note in unavailable:
        say(f"hkswitch: {note}", err=True)


def has_service(container: str) -> bool:
    """Return whether there is a service of this name, such as that of a quadlet."""
    unit = f"{container}.service"
    return systemctl.load_states([unit]).get(unit) is LoadState.LOADED


def _of_example(data: bytes, file: str) -> tuple[str, ...]:
    """Return the ids of those groups of the example configuration of which no unit exists."""
    try:
        config = parse(data, file)
    except ConfigError:
        return ()  # it may be without groups; otherwise it is refused
    units = {group.id: group.units for group in config.groups}
    if not is_example(units):
        return ()
    missing = {*systemctl.missing(unit for each in units.values() for unit in each)}
    return tuple(group_id for group_id, each in units.items() if missing.issuperset(each))


def _described(group: Group) -> str:
    what = str(group.elsewhere) if group.elsewhere is not None else ", ".join(group.members)
    return f'group {group.id} ("{group.name}" in the Home app): {what}'
