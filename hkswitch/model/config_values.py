"""Converts single config values from scalars; raises ValueError with the reason. Pure: no I/O."""

import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final, TypeVar
from unicodedata import bidirectional, category, combining, normalize

from hkswitch.model.group import AccessoryType, AlertSensor, Engine
from hkswitch.model.installation import DAEMON_USER, HOST_NAME
from hkswitch.model.printable import FILLERS, without_invisible
from hkswitch.model.unit_state import Action, HelperTransport
from hkswitch.model.yaml_nodes import Scalar, not_text, shown

MOST_NAME: Final = 64
MOST_ARGUMENT: Final = 4096
MOST_INTERVAL_SECONDS: Final = 24 * 60 * 60
MOST_TIMEOUT_SECONDS: Final = 60 * 60
LEAST_WINDOW_SECONDS: Final = 15
"""As long as the helper waits between two samples."""

_LAYOUT: Final = str.maketrans("\n\t", "  ")
"""The invisible characters that an argument may have, such as the lines of a shell script."""

T = TypeVar("T")
Convert = Callable[[Scalar], T]
Choice = TypeVar("Choice", AccessoryType, Action, AlertSensor, Engine, HelperTransport)

_GROUP_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_NAME_CLASSES = re.compile(r"[LA][MV]*([ ']*[LA][MV]*)*")  # Apple's rule, in character classes
_JOINER = re.compile("(?<=[AM])\u200c(?=A)|(?<=V)[\u200c\u200d](?=[LA])|(?<=L)\u200d(?=V)")
_VIRAMA = 9  # the combining class
_POSITIVE_NUMBER = re.compile(r"[1-9][0-9]{0,5}")
_INTERFACE = re.compile(r"(?!\.\.?$)[!-.0-~]{1,15}")
_CONTAINER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]{0,127}")
_SSH = re.compile(
    r"(?P<url>ssh://)?([A-Za-z0-9_][A-Za-z0-9_.-]{0,31}@)?"
    r"([A-Za-z0-9][A-Za-z0-9_.-]{0,252}|(?(url)\[)[0-9A-Fa-f]*:[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?(?(url)\]))"
    r"(?(url)(:[1-9][0-9]{0,4})?/?)"
)
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,30}")
_PROGRAM = re.compile(r"(/(?!\.\.?(/|$))[^/]+)+")

# As in systemd's unit_name_is_valid(). Units of types without instances load only under the names below.
_UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]{1,255}")
_PATH = re.compile(r"-|(?![.-])((^|-)(?!\.\.?(-|$))([A-Za-z0-9:_.]|\\x[0-9a-f]{2})+)+")
_SLICE = re.compile(r"-|(?!-)((^|-)[^@-]+)+")
_SUFFIXES = (".service", ".socket", ".target", ".timer", ".mount", ".automount", ".swap", ".path", ".slice")
_UNSTARTABLE = (".device", ".scope")
_WITHOUT_INSTANCES = {
    **dict.fromkeys(("mount", "automount", "swap"), (_PATH, "`systemd-escape -p` prints a path's name")),
    "slice": (_SLICE, "a slice has no '@', no '-' at the start or end, and no two '-' in a row"),
}


def _text(scalar: Scalar) -> str:
    if not scalar.is_text:
        raise ValueError(not_text(scalar))
    return scalar.text


def _like(pattern: re.Pattern[str], what: str, rule: str) -> Convert[str]:
    def convert(scalar: Scalar) -> str:
        text = _text(scalar)
        if not pattern.fullmatch(text):
            raise ValueError(f"{shown(text)} is not {what}; {rule}")
        return text

    return convert


group_id = _like(_GROUP_ID, "a group id", "use at most 64 of a-z, 0-9 and '-', without '-' at the start")
interface = _like(_INTERFACE, "an interface", "at most 15 characters without slashes and spaces are allowed")
container = _like(
    _CONTAINER,
    "a container's name",
    "at most 128 letters, digits and '_', '.', '-' are allowed, with a letter or digit first",
)
project = _like(
    _PROJECT,
    "a compose project's name",
    "at most 128 of a-z, 0-9, '_' and '-' are allowed, with a letter or digit first",
)
host = _like(HOST_NAME, "the name of a host", "use at most 32 of a-z, 0-9 and '-', without '-' at the start")
# TRUST: the daemon passes it to ssh as an argument, which must not be an option.
ssh_destination = _like(
    _SSH,
    "an SSH destination",
    "write [USER@]HOST or ssh://[USER@]HOST:PORT; /etc/hkswitch/ssh_config has the rest",
)


_user = _like(
    _USER,
    "a user name",
    "at most 31 letters, digits and '_', '.', '-' are allowed, with a letter or '_' first",
)


def user(scalar: Scalar) -> str:
    """Convert the name of a user who may run commands."""
    text = _user(scalar)
    # TRUST: the daemon could write what it then runs outside its sandbox.
    if text == DAEMON_USER:
        raise ValueError(f"{shown(text)} is the daemon's own user, which must not run anything else")
    return text


def name(scalar: Scalar) -> str:
    """Convert the name of a bridge or a group, in any script, to its composed form (NFC)."""
    text = normalize("NFC", _text(scalar))
    found = character_classes(text)
    if len(text) <= MOST_NAME and _NAME_CLASSES.fullmatch(found):
        return text
    bad = next((char for char, kind in zip(text, found, strict=True) if kind not in "LAMV '"), "")
    because = f", because of {shown(bad)} (U+{ord(bad):04X})" if bad else ""
    rule = "letters, digits, spaces and apostrophes (') are allowed, with a letter or digit at each end"
    raise ValueError(f"{shown(text)} is not a name{because}; at most {MOST_NAME} {rule}")


def character_classes(text: str) -> str:
    """Replace letters and digits with `L` or `A`, and marks with `M` or `V`; keep other characters.

    A joiner counts as a mark where letters depend on it (UAX #31, 2.3): between Arabic letters (`A`), and
    next to a virama (`V`), as in Sinhala.
    """
    return _JOINER.sub("M", "".join(map(_kind, text)))


def _kind(char: str) -> str:
    if char.isalnum() and char not in FILLERS:
        return "A" if bidirectional(char) == "AL" else "L"
    # A variation selector is a mark, too, but it can turn a character into an emoji.
    if category(char) not in {"Mn", "Mc"} or "\ufe00" <= char <= "\ufe0f":
        return char
    return "V" if combining(char) == _VIRAMA else "M"


def spoken_form(name: str) -> str:
    """Return a name as Siri hears it; Siri cannot tell names with the same spoken form apart."""
    return " ".join(without_invisible(name).casefold().split())


def unit(scalar: Scalar) -> str:
    """Convert to a full unit name (systemd.unit(5)); a name without a known suffix is a service."""
    text = _text(scalar)
    if text.endswith(_UNSTARTABLE):
        raise ValueError(f"{shown(text)} cannot be started; allowed types: {', '.join(_SUFFIXES)}")
    unit = text if text.endswith(_SUFFIXES) else f"{text}.service"
    stem, _, kind = unit.rpartition(".")
    prefix, at, instance = stem.partition("@")
    if not (prefix and _UNIT.fullmatch(unit)):
        rule = r"at most 255 letters, digits and :_.\@- are allowed"
        raise ValueError(f"{shown(text)} is not a unit; {rule}, with a name before '@' and the suffix")
    shape, rule = _WITHOUT_INSTANCES.get(kind, (_UNIT, ""))
    if not shape.fullmatch(stem) or unit == "-.automount":
        raise ValueError(f"{shown(text)} is not a {kind} unit; {rule}")
    if at and not instance:
        example = shown(f"{prefix}@one.{kind}")
        raise ValueError(f"{shown(text)} is a template; name an instance, like {example}")
    return unit


def address(scalar: Scalar) -> str:
    """Convert a host's address to its canonical form. A link-local IPv6 address needs an interface."""
    text = _text(scalar)
    _, percent, scope = text.partition("%")
    try:
        found = ip_address(text)
    except ValueError:
        found = None
    if not found or (percent and not _INTERFACE.fullmatch(scope)):
        rule = "write an IPv4 or IPv6 address, like 192.168.1.10 or fe80::1%eth0"
        raise ValueError(f"{shown(text)} is not an address; {rule}")
    if found.is_unspecified or found.is_multicast or str(found) == "255.255.255.255":
        raise ValueError(f"{shown(text)} is not a host address")
    if found.version == 6 and found.is_link_local and not percent:
        hint = f"write it with its interface, like {shown(f'{found}%eth0')}"
        raise ValueError(f"{shown(text)} is a link-local address; {hint}")
    if percent and not found.is_link_local:
        raise ValueError(f"{shown(text)} needs no interface; write {shown(text.partition('%')[0])}")
    return str(found)


def _number(what: str, least: int, most: int) -> Convert[int]:
    def convert(scalar: Scalar) -> int:
        found = int(scalar.text) if not scalar.is_text and _POSITIVE_NUMBER.fullmatch(scalar.text) else 0
        if not least <= found <= most:
            raise ValueError(f"must be {what} from {least} to {most}, in plain digits without quotes")
        return found

    return convert


port = _number("a number", 1024, 65535)  # lower ports need privilege
interval_seconds = _number("a number of seconds", 1, MOST_INTERVAL_SECONDS)
timeout_seconds = _number("a number of seconds", 1, MOST_TIMEOUT_SECONDS)
for_seconds = _number("a number of seconds", LEAST_WINDOW_SECONDS, MOST_INTERVAL_SECONDS)
cpu_percent = _number("a number", 1, 100_000)
memory_mib = _number("a number", 1, 999_999)
at_most_per_hour = _number("a number", 1, 60)


def boolean(scalar: Scalar) -> bool:
    """Convert `true` or `false`."""
    if not scalar.is_text and scalar.text in {"true", "false"}:
        return scalar.text == "true"
    word = scalar.text.lower()
    meant = "true" if word in {"true", "yes", "on"} else "false" if word in {"false", "no", "off"} else ""
    hint = f"; write {meant}, in lower case and without quotes" if meant else ""
    raise ValueError(f"must be true or false{hint}")


def one_of(kind: type[Choice]) -> Convert[Choice]:
    """Return a conversion to a member of `kind` by its value."""

    def convert(scalar: Scalar) -> Choice:
        choices = {member.value: member for member in kind}
        if scalar.empty:
            raise ValueError(not_text(scalar))
        if scalar.text not in choices:  # no quotes would make a choice of `true`
            raise ValueError(unknown("value", scalar.text, tuple(choices)))
        return choices[scalar.text]

    return convert


def unknown(what: str, text: str, allowed: tuple[str, ...]) -> str:
    """Return the error message for `text`, which is not one of `allowed`."""
    close = closest(text, allowed)
    hint = f"did you mean {shown(close)}?" if close else f"allowed {what}s: {', '.join(allowed)}"
    return f"unknown {what} {shown(text)}; {hint}"


def closest(text: str, allowed: tuple[str, ...], least: float = 0.6) -> str:
    """Return the allowed value that `text` is probably meant to be, or empty; `least` is difflib's cutoff."""
    from difflib import SequenceMatcher, get_close_matches  # noqa: PLC0415 -- only a mistake needs it

    def likeness(value: str) -> float:
        # The beginning tells more: 'state' is 'status', although it has more in common with 'start'.
        return SequenceMatcher(None, text, value).ratio() + value.startswith(text[:4]) / 5

    return max(get_close_matches(text, allowed, cutoff=least), key=likeness, default="")


def argument(scalar: Scalar) -> str:
    """Convert a command's argument, which is passed on unchanged, without a shell."""
    text = _text(scalar)
    if len(text) > MOST_ARGUMENT:
        raise ValueError(f"is too long; at most {MOST_ARGUMENT} characters are allowed")
    if not text.translate(_LAYOUT).isprintable():
        raise ValueError(f"{shown(text)} has an invisible character; remove it")
    return text


def directory(scalar: Scalar) -> str:
    """Convert the absolute path of a directory, without `//`, `.` and `..`."""
    text = argument(scalar)
    if not _PROGRAM.fullmatch(text) or not text.isprintable():
        raise ValueError(f"{shown(text)} is not the absolute path of a directory, without '//', '.' and '..'")
    return text


def program(scalar: Scalar) -> str:
    """Convert the absolute path of a program, without `//`, `.` and `..`."""
    text = argument(scalar)
    if not _PROGRAM.fullmatch(text) or not text.isprintable():
        hint = "write its absolute path, like /usr/bin/docker, without '//', '.' and '..'"
        words = "; a command is a list of words, without a shell" if " " in text else ""
        raise ValueError(f"{shown(text)} is not the path of a program; {hint}{words}")
    return text
