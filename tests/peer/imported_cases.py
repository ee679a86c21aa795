"""Cases of tests/homebridge/cases for a real host: their stub programs, their taps, and what differs. Pure.

A stub logs how it was called, and then does as little as the case needs.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

STUBS: Final = "/srv/stubs"
LOG: Final = f"{STUBS}/log"
UNIT_STUB: Final = f"{STUBS}/unit"
"""The stub that units call when they have started and stopped."""

_FIELD, _RECORD = "\x1f", "\x1e"
_TAP: Final = "tap"

_HEAD: Final = f"""\
#!/bin/sh
separator=$(printf '\\037')
log() {{
    line="$(id -un)$separator$(pwd -P)$separator${{HOME-none}}$separator$0"
    for word; do line="$line$separator$word"; done
    printf '%s\\036' "$line" >>{LOG}
}}
log "$@"
cd {STUBS}
"""

ON, ON_AGAIN, OFF, OFF_AGAIN = "on", "on again", "off", "off again"
NOT_RUN: Final = "not run"
TAPS: Final = (ON, ON_AGAIN, OFF, OFF_AGAIN)


class Case(NamedTuple):
    """A case: the body of each stub by its path, units, sudo's rules, and what a phone sees."""

    stubs: Mapping[str, str] = {}
    units: tuple[str, ...] = ()
    slow_units: tuple[str, ...] = ()
    sudo: tuple[str, ...] = ()
    probes: str = "$^"
    """A regular expression of the calls that only ask for a state."""
    shows: Mapping[tuple[str, str], bool] = {}
    """The states that switches show after a tap, unless that is the state that was tapped."""
    plugin_shows: Mapping[tuple[str, str], bool] = {}
    """The same with the plugin, where that is another."""
    taps: Mapping[str, tuple[str, ...]] = {}
    """The taps of switches that do not get all of TAPS."""
    at_once: frozenset[str] = frozenset()
    """Switches whose shell starts several programs at once, so that their order is left to chance."""
    copies: Mapping[str, str] = {}
    """Root-owned copies of programs that hkswitch denies."""

    @property
    def all_stubs(self) -> dict[str, str]:
        """The bodies of the stubs and of their copies."""
        return {**self.stubs, **{copy: self.stubs[path] for path, copy in self.copies.items()}}


GLOW: Final = "/home/jo/bulbs/Glow-E27-v4/glow.sh"
PLUG_UP, PLUG_DOWN, PLUG_ASK = (f"/home/jo/plug-{verb}.sh" for verb in ("up", "down", "ask"))
SYSTEMCTL: Final = "/usr/bin/systemctl"

CASES: Final[Mapping[str, Case]] = {
    # Through its wrapper: units.
    "article": Case(
        units=("libvirt-guests", "nmb", "netatalk", "httpd"),
        slow_units=("smb",),
        sudo=("/usr/local/bin/serviceswitch",),
    ),
    # As Homebridge's user, without a state.
    "ble-bulbs": Case(stubs={GLOW: ""}),
    # As root, without a state. One of the commands fails.
    "radio-sockets": Case(
        stubs={"/srv/radio/transmit": '[ "$*" != "5 4 4 2" ] || exit 3'},
        sudo=("/srv/radio/transmit",),
        shows={("Coffee Corner", OFF): True, ("Coffee Corner", OFF_AGAIN): True},
    ),
    # With a state, as Homebridge's user. The start takes longer than the timeout.
    "remote-stars": Case(
        stubs={
            "/usr/local/bin/ssh": """\
case $* in
*/begin.sh) sleep 6; touch stars; log finished ;;
*/dark.sh) rm -f stars ;;
*/running.pid) test -e stars ;;
esac""",
        },
        probes="/usr/local/bin/ssh .* test -f",
    ),
    # As root, with a state that is a pipe with sudo in it.
    "plug-mixed": Case(
        stubs={
            PLUG_UP: "touch plug",
            PLUG_DOWN: "rm -f plug",
            PLUG_ASK: "if test -e plug; then echo UP; else echo DOWN; fi",
        },
        sudo=(PLUG_UP, PLUG_DOWN, PLUG_ASK),
        probes=PLUG_ASK,
        copies={path: path.replace("/home/jo/", "/usr/local/libexec/") for path in (PLUG_UP, PLUG_DOWN)},
    ),
    # As Homebridge's user, with a state that is a pipe.
    "greek-plugs": Case(
        stubs={
            "/home/jo/blue/plug.sh": """\
case $2 in
up) touch "plug-$1" ;;
down) rm -f "plug-$1" ;;
ask) if test -e "plug-$1"; then echo UP; else echo DOWN; fi ;;
esac""",
        },
        probes="/home/jo/blue/plug.sh .* ask",
    ),
    # With the shell's syntax, in the background, and sudo in it.
    "wake-screen": Case(
        stubs={"/usr/local/bin/xset": "", "/usr/local/bin/chvt": ""},
        sudo=("/usr/local/bin/chvt",),
        at_once=frozenset({"Hall Screen"}),
    ),
    # Only a start, as root; a state as Homebridge's user, which is always Off.
    "barrier": Case(
        stubs={"/usr/local/bin/python": "", "/home/jo/Desktop/never.sh": "exit 1"},
        sudo=("/usr/local/bin/python",),
        probes="/home/jo/Desktop/never.sh",
        shows={("Barrier", ON): False, ("Barrier", ON_AGAIN): False},
    ),
    # Units without a wrapper, and beside them commands, one of them momentary.
    "extra-inline-units": Case(
        stubs={
            "/etc/init.d/chime": f'#!/bin/sh\nexec {SYSTEMCTL} "$1" chime.service',
            "/usr/local/bin/irsend": "",
            "/srv/lamp/set": 'echo "$1" >lamp',
            "/srv/lamp/lit": "test -e lamp && ! grep -qx 0 lamp",
        },
        units=(*("nmbd", "smb", "cups", "fetchmail", "zigbee-bridge", "chime", "motion", "motioneye"),),
        slow_units=("smbd", "mosquitto"),
        sudo=(SYSTEMCTL, "/usr/sbin/service", "/usr/bin/sh", "/etc/init.d/chime"),
        probes="/srv/lamp/lit",
        shows={(name, tap): True for name in ("Cameras", "All Quiet") for tap in (OFF, OFF_AGAIN)},
        plugin_shows={("All Quiet", tap): False for tap in (OFF, OFF_AGAIN, ON)},
        taps={"All Quiet": (OFF, OFF_AGAIN, ON)},
    ),
}


class Difference(NamedTuple):
    """What hkswitch does differently on purpose; patterns as in the shell."""

    case: str
    switch: str
    tap: str
    what: str
    why: str

    def explains(self, found: "Found") -> bool:
        patterns = (self.case, self.switch, self.tap, self.what)
        return all(map(fnmatchcase, (found.case, found.switch, found.tap, found.what), patterns))


AT_ONCE: Final = "units of a group start and stop at once; what must wait for what is in the units (After=)"
RESTS: Final = (
    "a momentary switch rests at On, which runs nothing; the plugin tries that too, but then runs the"
    " missing command, which Node.js rejects, so its switch stays off"
)
OF_ROOT: Final = (
    "the helper runs root's commands in / and without HOME; sudo kept the folder, and set root's home"
)

DIFFERENCES: Final[tuple[Difference, ...]] = (
    Difference("article", "fileserver", ON, "order", AT_ONCE),
    Difference("article", "fileserver", OFF, "order", AT_ONCE),
    Difference("extra-inline-units", "Shares", ON, "order", AT_ONCE),
    Difference("extra-inline-units", "Shares", OFF, "order", AT_ONCE),
    Difference("extra-inline-units", "Broker", ON, "order", AT_ONCE),
    Difference("extra-inline-units", "All Quiet", "*", "shown", RESTS),
    Difference("extra-inline-units", "All Quiet", ON, "answer", RESTS),
    *(Difference(case, "*", "*", "place", OF_ROOT) for case in ("radio-sockets", "plug-mixed", "barrier")),
)


class Call(NamedTuple):
    """A call of a stub: who ran which program with which arguments, in which folder, and with which home."""

    user: str
    argv: tuple[str, ...]
    folder: str
    home: str

    @property
    def command(self) -> str:
        return f"{self.user}: {self.text}"

    @property
    def text(self) -> str:
        return " ".join(self.argv)

    @property
    def place(self) -> str:
        return f"{self.user}: {self.argv[0]} in {self.folder}, HOME={self.home}"


class Tapped(NamedTuple):
    """A tap, and what came of it."""

    failed: bool
    shown: bool
    calls: tuple[Call, ...] = ()


class Found(NamedTuple):
    """Something that the two did not do alike."""

    case: str
    switch: str
    tap: str
    what: str
    plugin: object
    ours: object

    def __str__(self) -> str:
        where = f"{self.case}: {self.switch}, {self.tap}: {self.what}"
        return f"{where}\n    the plugin: {self.plugin}\n    hkswitch:   {self.ours}"


def stub(body: str) -> str:
    """Return the text of a stub program; a whole program stays as it is, and logs nothing."""
    return f"{body}\n" if body.startswith("#!") else f"{_HEAD}{body}\n"


def unit(*, slow: bool = False) -> str:
    """Return a unit that logs when it has started and stopped."""
    pauses = "ExecStartPre=/bin/sleep 0.5\nExecStop=/bin/sleep 0.5\n" if slow else ""
    return (
        "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=exec\nExecStart=/bin/sleep infinity\n"
        f"{pauses}ExecStartPost={UNIT_STUB} started %n\nExecStopPost={UNIT_STUB} stopped %n\n"
    )


def mark(switch: str, tap: str) -> str:
    """Return the record that begins a tap in the log."""
    return _FIELD.join((_TAP, switch, tap)) + _RECORD


def calls(log: str) -> dict[tuple[str, str], list[Call]]:
    """Return the calls of a log after each tap; those before the first are under two empty texts."""
    found: dict[tuple[str, str], list[Call]] = {("", ""): []}
    current = found["", ""]
    for record in log.split(_RECORD)[:-1]:
        first, *fields = record.split(_FIELD)
        if first == _TAP:
            current = found.setdefault((fields[0], fields[1]), [])
        else:
            current.append(Call(first, tuple(fields[2:]), *fields[:2]))
    return found


def actions(case: Case, found: Iterable[Call]) -> tuple[Call, ...]:
    """Return the calls that do something, with copies under the name of the original."""
    originals = {copy: path for path, copy in case.copies.items()}
    named = (
        call._replace(argv=(originals.get(call.argv[0], call.argv[0]), *call.argv[1:])) for call in found
    )
    return tuple(call for call in named if not _is_probe(case, call))


def probes(case: Case, found: Iterable[Call]) -> set[str]:
    """Return the calls that only ask for a state."""
    return {call.command for call in found if _is_probe(case, call)}


def _is_probe(case: Case, call: Call) -> bool:
    return re.match(case.probes, call.text) is not None


def compare(name: str, switch: str, tap: str, plugin: Tapped, ours: Tapped) -> Iterator[Found]:
    """Yield everything that differs at a tap."""

    def found(what: str, theirs: object, own: object) -> Iterator[Found]:
        if theirs != own:
            yield Found(name, switch, tap, what, theirs, own)

    commands, own = ([call.command for call in each.calls] for each in (plugin, ours))
    if switch in CASES[name].at_once:
        commands, own = sorted(commands), sorted(own)
    what = "commands"
    if not own:
        what = NOT_RUN
    elif sorted(own) == sorted(commands):
        what = "order"
    yield from found(what, tuple(commands), tuple(own))
    if sorted(own) == sorted(commands):
        yield from found(
            "place", *(tuple(sorted({call.place for call in each.calls})) for each in (plugin, ours))
        )
    yield from found("answer", plugin.failed, ours.failed)
    yield from found("shown", plugin.shown, ours.shown)
