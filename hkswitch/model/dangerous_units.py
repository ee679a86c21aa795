"""Units that hkswitch or the machine depends on. Switching them causes only a warning. Pure: no I/O.

The helper does not import this module: it allows whatever the configuration lists.
"""

from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from hkswitch.model.config import Config
from hkswitch.model.errors import Problem
from hkswitch.model.group import Engine, Group
from hkswitch.model.installation import DAEMON_UNIT, HELPER_SLICE
from hkswitch.model.misspelt_suffixes import unit_meant
from hkswitch.model.unit_state import Action
from hkswitch.model.yaml_nodes import Mapping, Node, Sequence, read


class _Danger(NamedTuple):
    """The effect of these actions on these units; a template stands for its instances."""

    actions: frozenset[Action]
    why: str
    names: tuple[str, ...]


class DangerousUnit(NamedTuple):
    """A unit of a group, its index in the group, and the effect of switching it."""

    group_id: str
    unit_index: int
    unit: str
    why: str

    def __str__(self) -> str:
        return f"{self.unit}: {self.why}"


class MisspeltUnit(NamedTuple):
    """A unit of a group, its index in the group, and the unit that was probably meant."""

    group_id: str
    unit_index: int
    unit: str
    meant: str

    def __str__(self) -> str:
        return f"this is the service {self.unit}; did you mean {self.meant}?"


_IF_STOPPED: Final = frozenset({Action.STOP})
_IF_STOPPED_OR_RESTARTED: Final = frozenset({Action.STOP, Action.RESTART})
_IF_STARTED: Final = frozenset({Action.START})

_DANGERS: Final = (
    _Danger(
        _IF_STOPPED_OR_RESTARTED,
        "stopping it stops hkswitch itself, and no switch can start it again",
        (
            *(DAEMON_UNIT, "serviceswitch.socket", "serviceswitch@.service"),
            *(HELPER_SLICE, "var-lib-hkswitch.mount"),
        ),
    ),
    _Danger(
        _IF_STOPPED_OR_RESTARTED,
        "stopping it cuts hkswitch and most other services off from systemd",
        ("dbus.service", "dbus.socket", "dbus-broker.service"),
    ),
    _Danger(
        _IF_STOPPED,
        "stopping it stops nearly everything on this machine, hkswitch included",
        (
            *("-.slice", "system.slice", "sysinit.target", "-.mount", "usr.mount", "etc.mount", "var.mount"),
            *("var-lib.mount", "run.mount", "dev.mount", "proc.mount", "sys.mount"),
        ),
    ),
    _Danger(
        _IF_STARTED,
        "starting it turns this machine off or restarts it, and hkswitch with it",
        (
            *("poweroff.target", "reboot.target", "halt.target", "kexec.target", "soft-reboot.target"),
            *("shutdown.target", "final.target", "umount.target", "exit.target", "ctrl-alt-del.target"),
            *("runlevel0.target", "runlevel6.target", "systemd-poweroff.service", "systemd-reboot.service"),
            *("systemd-halt.service", "systemd-kexec.service", "systemd-soft-reboot.service"),
            "systemd-exit.service",
        ),
    ),
    _Danger(
        _IF_STARTED,
        "starting it puts this machine to sleep, and no switch can wake it",
        (
            *("sleep.target", "suspend.target", "hibernate.target", "hybrid-sleep.target"),
            *("suspend-then-hibernate.target", "systemd-suspend.service", "systemd-hibernate.service"),
            *("systemd-hybrid-sleep.service", "systemd-suspend-then-hibernate.service"),
        ),
    ),
    _Danger(
        _IF_STARTED,
        "starting it stops nearly everything except a shell on the console, hkswitch included",
        (
            *("rescue.target", "rescue.service", "emergency.target", "emergency.service"),
            *("runlevel1.target", "initrd-switch-root.target", "initrd-switch-root.service"),
        ),
    ),
    _Danger(
        _IF_STOPPED,
        "stopping it can cut this machine off from the network, and your phone from hkswitch",
        (
            *("NetworkManager.service", "systemd-networkd.service", "systemd-networkd.socket"),
            *("networking.service", "network.service", "ifup@.service", "dhcpcd.service", "dhcpcd@.service"),
            *(
                "dhclient.service",
                "dhclient@.service",
                "connman.service",
                "wicked.service",
                "wickedd.service",
            ),
            *("netctl@.service", "iwd.service", "wpa_supplicant.service", "wpa_supplicant@.service"),
            "dbus-org.freedesktop.network1.service",
        ),
    ),
    _Danger(
        _IF_STOPPED,
        "stopping it can lock you out of a machine without a screen",
        ("ssh.service", "ssh.socket", "sshd.service", "sshd.socket", "dropbear.service", "dropbear.socket"),
    ),
    _Danger(
        _IF_STOPPED,
        "stopping it makes logins and sudo hang or fail",
        ("systemd-logind.service", "dbus-org.freedesktop.login1.service"),
    ),
    _Danger(
        _IF_STOPPED,
        "stopping it loses log lines, including those about hkswitch's own actions",
        (
            *("systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket"),
            "systemd-journald-audit.socket",
        ),
    ),
    _Danger(
        _IF_STOPPED,
        "stopping it keeps new disks, network cards and other devices from being set up",
        ("systemd-udevd.service", "systemd-udevd-control.socket", "systemd-udevd-kernel.socket"),
    ),
)

_UNITS_OF_ENGINES: Final = {
    Engine.DOCKER: ("docker.service", "docker.socket"),
    Engine.PODMAN: ("podman.socket",),
}
_WHY_WITHOUT_ENGINE: Final = (
    "stopping it makes this group's containers unknown, so the switch cannot start it again"
)

_BY_NAME: Final = {name: danger for danger in _DANGERS for name in danger.names}


def why_dangerous(unit: str, actions: Collection[Action]) -> str:
    """Return why these actions on a unit are dangerous; empty if they are not."""
    stem, _, kind = unit.rpartition(".")
    prefix, at, _ = stem.partition("@")
    danger = _BY_NAME.get(f"{prefix}{at}.{kind}")
    return danger.why if danger and not danger.actions.isdisjoint(actions) else ""


def dangerous_units(config: Config) -> Iterator[DangerousUnit]:
    """Yield all dangerous units in the order of the file."""
    for group in config.groups:
        for index, unit in enumerate(group.units):
            if why := why_dangerous(unit, group.actions) or _why_without_engine(unit, group):
                yield DangerousUnit(group.id, index, unit, why)


def _why_without_engine(unit: str, group: Group) -> str:
    is_engine = bool(group.contained) and unit in _UNITS_OF_ENGINES[group.engine]
    return _WHY_WITHOUT_ENGINE if is_engine and Action.STOP in group.actions else ""


def warnings(data: bytes, config: Config) -> Iterator[Problem]:
    """Yield dangerous and misspelt units as problems, with their positions in `data`, `config`'s source."""
    groups = entries_of(entries_of(read(data, []))["groups"])
    all_found: list[DangerousUnit | MisspeltUnit] = [*dangerous_units(config), *_misspelt(config)]
    for found in all_found:
        units = entries_of(groups[found.group_id])["units"]
        if isinstance(units, Sequence):
            yield units.items[found.unit_index].position.problem(str(found))


def _misspelt(config: Config) -> Iterator[MisspeltUnit]:
    for group in config.groups:
        for index, unit in enumerate(group.units):
            if meant := unit_meant(unit):
                yield MisspeltUnit(group.id, index, unit, meant)


def entries_of(node: Node) -> dict[str, Node]:
    """Return the values of a mapping by their keys; none of any other node."""
    return {key.text: value for key, value in node.entries} if isinstance(node, Mapping) else {}
