"""The keys of the config: one entry for each key, with its kind, default and description. Pure: no I/O.

The parser, config.example.yaml and the manual page follow these tables: `make reference` writes the texts
into both files, and a test fails while they differ. A new key needs an entry here, and a field of the same
name in the value class of its section. Longer explanations belong in the manual page, below the generated
lines, because root's helper loads this module.
"""

from hkswitch.model import config_values as values
from hkswitch.model.config_reader import CommandLine, Entries, Key, ListOf, Section
from hkswitch.model.group import (
    CHECK_INTERVAL_SECONDS,
    RESTARTS_PER_HOUR,
    STATUS_INTERVAL_SECONDS,
    TIMEOUT_SECONDS,
    WINDOW_SECONDS,
    AccessoryType,
    AlertSensor,
    Commands,
    Engine,
    RestartWhen,
)
from hkswitch.model.unit_state import Action, HelperTransport

BRIDGE_KEYS = (
    Key("name", values.name, "The bridge's name while you add it in the Home app.", "hkswitch"),
    Key(
        "interface",
        ListOf(values.interface, or_one=True),
        "The network interface to serve on, or a list of them.",
        default_text="the interface of the default route",
        field="interfaces",
    ),
    Key(
        "address",
        ListOf(values.address, or_one=True),
        "The IPv4 or IPv6 address to serve on, or a list of them, instead of an interface.",
        instead_of="interface",
        field="addresses",
    ),
    Key("port", values.port, "The TCP port, 1024 to 65535.", 51826),
)

UNLESS_EXCLUDED = "none; required unless actions or momentary excludes it"

COMMANDS_KEYS = (
    Key("start", CommandLine(), "Turns the group on.", default_text=UNLESS_EXCLUDED),
    Key("stop", CommandLine(), "Turns the group off.", default_text=UNLESS_EXCLUDED),
    Key(
        "status",
        CommandLine(),
        "Exits with 0 if the group is on, with 1 to 125 if it is off.",
        default_text="none; required unless assume_state or momentary is set",
    ),
    Key("restart", CommandLine(), "Restarts the group."),
)

CONTAINED = ("containers", "compose")

HOST_KEYS = (
    Key(
        "ssh",
        values.ssh_destination,
        "The SSH destination, [USER@]HOST or ssh://[USER@]HOST:PORT; the default user is hkswitch-remote.",
        required=True,
    ),
)

RESTART_WHEN_KEYS = (
    Key(
        "cpu_percent",
        values.cpu_percent,
        "The limit of CPU time, of all units and containers together; 100 is one core.",
        default=None,
        default_text="none; this or memory_mib is required",
    ),
    Key(
        "memory_mib",
        values.memory_mib,
        "The limit of memory and swap in MiB, without the page cache.",
        default=None,
        default_text="none; this or cpu_percent is required",
    ),
    Key(
        "for_seconds",
        values.for_seconds,
        "How long a limit must be exceeded without a break, 15 to 86400 seconds.",
        WINDOW_SECONDS,
    ),
    Key(
        "at_most_per_hour",
        values.at_most_per_hour,
        "How many restarts are allowed within an hour, 1 to 60; then the rule gives up.",
        RESTARTS_PER_HOUR,
    ),
)

GROUP_KEYS = (
    Key(
        "name",
        values.name,
        "The name when it is added in the Home app: letters, digits, spaces and apostrophes.",
        "",
        "made from the id, like Vm Guests from vm-guests",
    ),
    Key(
        "units",
        ListOf(values.unit),
        "Units to start and stop. They start in parallel; ordering comes from the units themselves (After=).",
        required=True,
    ),
    Key(
        "containers",
        ListOf(values.container),
        "Containers to start and stop, by their names; the engine must have them already.",
        beside="units",
    ),
    Key(
        "compose",
        values.project,
        "A compose project whose containers are started and stopped, by its name.",
        "",
        "none",
        beside="units",
    ),
    Key(
        "engine",
        values.one_of(Engine),
        "The engine of the containers: docker or podman, which must run as root.",
        Engine.DOCKER,
        only_with=CONTAINED,
    ),
    Key(
        "commands",
        Section(COMMANDS_KEYS, Commands),
        "Commands to run in place of units and containers.",
        default=None,
        instead_of="units",
    ),
    Key(
        "host",
        values.host,
        "The host that runs the group, one of 'hosts'; its config says what the group is, and its actions.",
        "",
        "this machine",
        instead_of="units",
    ),
    Key(
        "group",
        values.group_id,
        "The id of the group on that host.",
        "",
        "the same id",
        only_with=("host",),
    ),
    Key(
        "check",
        CommandLine(),
        "A command that must exit with 0 for the group to be on; its units and containers must be up, too.",
        only_with=("units", *CONTAINED),
        remedy="a group of commands has 'status' for that",
    ),
    Key(
        "type",
        values.one_of(AccessoryType),
        "The accessory type in the Home app: switch, outlet, light or fan.",
        AccessoryType.SWITCH,
    ),
    Key(
        "actions",
        ListOf(values.one_of(Action)),
        "The actions that any client may request: start, stop, restart.",
        default_text="start and stop, and restart if a switch or a rule needs it",
    ),
    Key("restart", values.boolean, "If true, adds a second switch, which restarts the group.", default=False),
    Key(
        "alert",
        values.one_of(AlertSensor),
        "Adds a sensor that detects trouble: contact, occupancy, or leak, which is loud.",
        default=None,
        default_text="no sensor",
    ),
    Key(
        "restart_when",
        Section(RESTART_WHEN_KEYS, RestartWhen),
        "Restarts the group while it is on and exceeds one of these limits.",
        default=None,
        default_text="no rule",
        only_with=("units", *CONTAINED, "host"),
        remedy="the resources of commands cannot be measured",
    ),
    Key(
        "interval_seconds",
        values.interval_seconds,
        "The interval of the check or the status command, 1 to 86400 seconds.",
        CHECK_INTERVAL_SECONDS,
        f"{CHECK_INTERVAL_SECONDS} for a check, {STATUS_INTERVAL_SECONDS} for a status command",
        only_with=("check", "commands"),
    ),
    Key(
        "timeout_seconds",
        values.timeout_seconds,
        "The time limit of a command, and of an action until check or status confirms it, 1 to 3600 seconds.",
        TIMEOUT_SECONDS,
        only_with=("check", "commands"),
    ),
    Key(
        "user",
        values.user,
        "The user that runs the commands, in its home directory and with its groups.",
        "",
        "root",
        only_with=("commands",),
    ),
    Key(
        "directory",
        values.directory,
        "The absolute path of the directory in which that user runs the commands.",
        "",
        "the user's home directory",
        only_with=("user",),
        remedy="add that if the group has commands, or remove this key",
    ),
    Key(
        "detach",
        values.boolean,
        "If true, an action may outlive its time limit, for up to 600 seconds, and leave processes running.",
        default=False,
        only_with=("commands",),
    ),
    Key(
        "assume_state",
        values.boolean,
        "If true, there is no status command: the last action that succeeded stands for the state.",
        default=False,
        only_with=("commands",),
    ),
    Key(
        "momentary",
        values.boolean,
        "If true, the only command, start or stop, runs at each tap, and the switch then turns itself back.",
        default=False,
        only_with=("commands",),
    ),
)

CONFIG_KEYS = (
    Key(
        "bridge",
        Section(BRIDGE_KEYS),
        "The bridge's name, network and port.",
        {},
        "the defaults of its keys",
    ),
    Key(
        "helper",
        values.one_of(HelperTransport),
        "The transport to the root helper: sudo, or socket, which needs serviceswitch.socket.",
        HelperTransport.SUDO,
    ),
    Key(
        "alert_command",
        CommandLine(),
        "A command to run once for each trouble of a group with 'alert', as a temporary unprivileged user.",
        default_text="none",
    ),
    Key(
        "hosts",
        Entries(values.host, HOST_KEYS, "host"),
        "Other machines with hkswitch, by their names, whose groups this bridge shows, too.",
        default_text="none",
    ),
    Key(
        "groups",
        Entries(values.group_id, GROUP_KEYS, "group"),
        "The groups by their ids; at least one.",
        required=True,
    ),
)
