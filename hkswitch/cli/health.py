"""The problems that `hkswitch status` ends with, each with its remedy. Cheap: from the report and file names.

It needs neither root nor the network; the doctor examines everything.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from hkswitch import __version__
from hkswitch.control import STATE_FOLDER
from hkswitch.model.unit_state import LoadState, UnitState
from hkswitch.protocol.report import STARTING, BridgeReport, GroupReport, Report, is_contained

RESTART: Final = "run `sudo systemctl restart hkswitch`"
DOCTOR: Final = "run `sudo hkswitch doctor`"

MOST_UNITS_NAMED: Final = 5
MOST_TROUBLES_NAMED: Final = 5
MOST_HOSTS_NAMED: Final = 5
_BROKEN: Final = frozenset({LoadState.NOT_FOUND, LoadState.MASKED, LoadState.BAD_SETTING, LoadState.ERROR})


def problems(report: Report) -> list[str]:
    """Return the problems of the service's bridge and its groups; none if all is well."""
    bridge = () if report.bridge is None else _of_bridge(report.bridge)
    return [*bridge, *_of_hosts(report), *_of_members(report), *_of_troubles(report)]


def _of_bridge(bridge: BridgeReport) -> Iterator[str]:
    """Yield what is wrong with the daemon; the lines about the bridge have the reasons."""
    if bridge.version != __version__:
        yield f"version {bridge.version} is running, but version {__version__} is installed; {RESTART}"
    if bridge.helper:
        yield f"the helper is unavailable; {DOCTOR}"
    if bridge.config:
        yield "the configuration on disk is not applied; run `hkswitch check`, then `sudo hkswitch reload`"
    if bridge.storage:
        yield f"hkswitch cannot write to {STATE_FOLDER}; free some space, or {DOCTOR}"
    if bridge.identity:
        yield "another bridge has the same identity; stop that one"
    if bridge.network and bridge.network != STARTING:
        yield f"the bridge waits for a network; {DOCTOR}"


def _of_hosts(report: Report) -> Iterator[str]:
    """Yield the hosts with a problem; the lines about hosts have the reasons."""
    names = [host.name for host in report.hosts if host.problem and report.bridge is not None]
    for name in names[:MOST_HOSTS_NAMED]:
        yield f"host {name} has a problem; run `sudo hkswitch host test {name}`"
    if (more := len(names) - MOST_HOSTS_NAMED) > 0:
        yield f"and {more} more of these; {DOCTOR}"


def _of_members(report: Report) -> Iterator[str]:
    """Yield the members that cannot be used, each problem with its first group; only the first of many."""
    broken: dict[tuple[str, str], tuple[GroupReport, str, UnitState]] = {}
    for group in report.groups:
        for member, state in group.units.items():
            if subject := _broken_part(member, state):
                broken.setdefault((group.host, subject), (group, member, state))
    if broken and _is_unused_example(report):
        yield "these are the example groups; replace them with `sudo hkswitch add`"
        return
    for group, member, state in islice(broken.values(), MOST_UNITS_NAMED):
        there = f"{member} is {state} on {group.host}; there, {DOCTOR}"
        yield f"group {group.id}: {there if group.host else _problem_of_member(member, state)}"
    if (more := len(broken) - MOST_UNITS_NAMED) > 0:
        yield f"and {more} more of these; {DOCTOR}"


def _of_troubles(report: Report) -> Iterator[str]:
    """Yield the groups in trouble; the lines below the groups have the reasons. Only the first of many."""
    troubled = [group for group in report.groups if group.trouble]
    for group in troubled[:MOST_TROUBLES_NAMED]:
        logs = f"run `sudo hkswitch logs {group.group or group.id}`"
        yield f"group {group.id} is in trouble; {f'on {group.host}, ' if group.host else ''}{logs}"
    if (more := len(troubled) - MOST_TROUBLES_NAMED) > 0:
        yield f"and {more} more of these; run `hkswitch alerts`"
    for group in report.groups:
        if group.rule and not group.trouble and _has_given_up(group.rule):  # it has no sensor
            yield f"the rule of {group.id} {group.rule}; run `sudo hkswitch restart {group.id}`"


def _has_given_up(rule: str) -> bool:
    from hkswitch.model.restart_rule_events import GIVEN_UP  # noqa: PLC0415 -- few groups have a rule

    return rule.startswith(GIVEN_UP)


def _broken_part(member: str, state: UnitState) -> str:
    """Return what tells a problem from others, empty if there is none: an engine that is off has one."""
    if not is_contained(member):
        return member if state.load in _BROKEN else ""
    problem = _problem_of_contained(member, state)
    return member if problem and state.load is not LoadState.UNAVAILABLE else problem


def _problem_of_member(member: str, state: UnitState) -> str:
    return _problem_of_contained(member, state) or _problem_of(member, state.load)


def _problem_of_contained(member: str, state: UnitState) -> str:
    """Return why a container or compose project cannot be used, and the remedy; empty if it can."""
    from hkswitch.unit_names.contained import contained_of, problem_of  # noqa: PLC0415 -- few groups have one

    contained = contained_of(member)
    return "; ".join((problem_of(contained, state) if contained else None) or ())


def _is_unused_example(report: Report) -> bool:
    """Whether these are the groups of the example, one without any unit: `add` replaces such a group."""
    from hkswitch.editing.example import is_example  # noqa: PLC0415 -- most reports have no broken unit

    return is_example({group.id: tuple(group.units) for group in report.groups}) and any(
        all(state.load is LoadState.NOT_FOUND for state in group.units.values()) for group in report.groups
    )


def _problem_of(unit: str, load: LoadState) -> str:
    import shlex  # noqa: PLC0415 -- as above

    typed = shlex.quote(unit)  # such as srv-my\x2ddata.mount, whose backslash a shell would drop
    match load:
        case LoadState.NOT_FOUND:
            return f"{unit} does not exist; {_why_not_found(unit)}"
        case LoadState.MASKED:
            return f"{unit} is masked; run `sudo systemctl unmask {typed}`"
    return f"systemd cannot load {unit}; `systemctl status {typed}` gives the reason"


def _why_not_found(unit: str) -> str:
    from hkswitch.unit_names import unit_files  # noqa: PLC0415 -- as above

    folders = unit_files.UNIT_FOLDERS
    hint = unit_files.hint(unit, folders, unit_files.installed(folders))
    if hint.endswith("?"):
        return f"{hint} Correct it with `sudo hkswitch edit`"
    return hint or "install the package that provides it, or remove it with `sudo hkswitch edit`"
