"""What anybody could write into a config, or send as a message: it is taken or refused, and that is all.

Hypothesis draws what is right or looks alike, and changes a few things of it in several ways.
Atheris goes on from there, and follows the code. `--long` tries a million inputs, most of them by atheris.
The rules are in `tests/fuzz/rules.py`.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from hkswitch.model import config_keys
from hkswitch.model.config import BridgeConfig, Config, parse
from hkswitch.model.elsewhere import Trait
from hkswitch.model.errors import ConfigError, Exit, Problem
from hkswitch.model.group import Commands, Group
from hkswitch.model.unit_state import Action, UnitFailure, UnitResult, UnitState, Usage
from hkswitch.protocol.control import ControlRequest, Operation
from hkswitch.protocol.helper import (
    ALERT_STATES,
    CONFIRM_AT_LENGTH_MS,
    CONFIRM_MS,
    LONGEST_TOKEN,
    Alert,
    GroupUpdate,
    Hello,
    Ping,
    ProbeUpdate,
    StatesUpdate,
    encode_message,
    parse_request,
)
from hkswitch.protocol.helper_replies import LARGEST_AMOUNT, LONGEST_VERSION
from hkswitch.protocol.json_lines import LARGEST_ID, LONGEST_NAME, MalformedMessage
from hkswitch.protocol.report import LONGEST_SUB_OF_ANOTHER_HOST
from tests.fuzz.changes import (
    NUMBERS,
    ODD_YAML,
    Change,
    Words,
    change_bytes,
    change_json,
    change_yaml,
    words_of,
)
from tests.fuzz.rules import FILE, LINES, RULES, Backends, Configs, Lines, Rule, is_understood

ROOT = Path(__file__).parents[2]

CHANGED = 15
"""Inputs that are made of each that is drawn, besides itself."""

EXAMPLES, EXAMPLES_LONG = 12, dict.fromkeys(RULES, 408) | {"backends": 96}
"""How many are drawn for each test, without and with --long. The backend in Python is slow."""

FOLLOWED = {"request": 200, "config": 200}
FOLLOWED_LONG = {
    "request": 260_000,
    "question": 250_000,
    "reply": 200_000,
    "answer": 120_000,
    "config": 70_000,
}
"""How many inputs follow the code, without and with --long. Large ones take longer."""

# What is right

texts = st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), max_size=LONGEST_NAME)
names = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=LONGEST_NAME)
"""Those of a helper."""
SIMPLE: dict[object, st.SearchStrategy[Any]] = {
    str: texts,
    int: st.integers(1, LARGEST_ID),
    bool: st.booleans(),
    float: st.floats(0, LARGEST_ID),
    type(None): st.none(),
    Exit: st.sampled_from([code for code in Exit if code is not Exit.OK]),
}
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "token": st.text(st.characters(exclude_categories=["C", "Z"]), max_size=LONGEST_TOKEN),
    "confirm_ms": st.sampled_from([CONFIRM_MS, CONFIRM_AT_LENGTH_MS]),
    "code": st.from_regex(r"[0-9]{3}-[0-9]{2}-[0-9]{3}", fullmatch=True),
    "payload": st.from_regex(r"X-HM://[0-9A-Z]{13}", fullmatch=True),
    "device_id": st.from_regex(r"([0-9A-F]{2}:){5}[0-9A-F]{2}", fullmatch=True),
    **dict.fromkeys(("reason", "problem", "detail"), texts.map(str.strip)),
    "version": texts.map(lambda text: text[:LONGEST_VERSION].strip()),
    "sub": texts.map(lambda text: text[:LONGEST_SUB_OF_ANOTHER_HOST].strip()),
}
"""Fields that may be less than their types allow."""
OWN_FIELDS: dict[type, dict[str, st.SearchStrategy[Any]]] = {
    Alert: {"state": st.sampled_from(sorted(ALERT_STATES))},
    UnitFailure: {"run": st.text("0123456789abcdef", min_size=1, max_size=32)},
    UnitResult: {"unit": texts.map(str.strip)},
    Usage: {name: st.none() | st.integers(0, LARGEST_AMOUNT) for name in ("cpu_ns", "memory_bytes")}
    | {"member": names, "run": names},
    GroupUpdate: {
        "group": names,
        "token": st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=LONGEST_TOKEN),
        "units": st.lists(names, max_size=3).map(tuple),
        "actions": st.sets(st.sampled_from(Action)).map(lambda some: tuple(a for a in Action if a in some)),
        "traits": st.sets(st.sampled_from(Trait)).map(lambda some: tuple(t for t in Trait if t in some)),
    },
    StatesUpdate: {
        "units": st.dictionaries(names, st.deferred(lambda: messages(UnitState)), max_size=3),
        "probes": st.dictionaries(names, st.deferred(lambda: messages(ProbeUpdate)), max_size=3),
        "failures": st.dictionaries(
            names, st.none() | st.deferred(lambda: messages(UnitFailure)), max_size=3
        ),
    },
}
"""The same of one type."""
SAYS = {Operation.UNPAIR: ["controller"], Operation.ACT: ["action", "group"]}
"""What a question says besides what it asks."""


def messages(kind: object) -> st.SearchStrategy[Any]:
    """Every value of a type: a union of messages, a message, or a part of one."""
    if kind in SIMPLE:
        return SIMPLE[kind]
    if kind is ControlRequest:
        return st.one_of(
            *(parts(ControlRequest, SAYS.get(each, []), operation=st.just(each)) for each in Operation)
        )
    if isinstance(kind, UnionType):
        return st.one_of(*map(messages, get_args(kind)))
    if get_origin(kind) is tuple:
        return st.lists(messages(get_args(kind)[0]), max_size=3).map(tuple)
    if get_origin(kind) is Mapping:
        return st.dictionaries(*map(messages, get_args(kind)), max_size=3)
    assert isinstance(kind, type)
    if issubclass(kind, Enum):
        return st.sampled_from(list(kind))
    return parts(kind, list(get_type_hints(kind)))


def parts(kind: type, names: list[str], **others: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Values with all of these fields, and no others than the defaults."""
    hints = get_type_hints(kind)
    limited = FIELDS | OWN_FIELDS.get(kind, {})
    drawn = {name: limited[name] if name in limited else messages(hints[name]) for name in names} | others
    return st.fixed_dictionaries(drawn).map(lambda given: kind(**given))


SMALL = b"""\
bridge: {name: Homelab, interface: [eth0, eth1], port: 51826}
alert_command: [/opt/notify, "-t"]
groups:
  a-1:
    name: File Server
    units: [smb, nmb.socket, "a@1.timer"]
    check: [/bin/true, "-x y", ""]
    actions: [start, stop, restart]
    restart: true
    alert: contact
    restart_when: {cpu_percent: 65, memory_mib: 900, for_seconds: 60, at_most_per_hour: 2}
    interval_seconds: 9
  b:
    commands:
      start: [/bin/true, a]
      stop: [/bin/true]
      status: [/bin/false]
      restart: [/bin/true]
    timeout_seconds: 3
    type: light
"""
SMALLEST = b"bridge:\n  address: [127.0.0.1, 'fe80::1%eth0']\ngroups:\n  web:\n    units:\n    - httpd\n"

EXAMPLE = (ROOT / "config.example.yaml").read_text()
COMMENTED_KEY = re.compile(r"^( *)# ([a-z_]+:\s)", re.MULTILINE)
COMMENT = re.compile(r"^\s*#.*\n|\s+#.*$|^\n", re.MULTILINE)

CONFIGS = [SMALL, SMALLEST, COMMENT.sub("", EXAMPLE).encode()]
WHOLE_EXAMPLE = COMMENT.sub("", COMMENTED_KEY.sub(r"\1\2", EXAMPLE)).encode()
"""Every key of it, also of those that exclude each other."""


def keys_of_configs() -> list[str]:
    """Every key in the tables of the parser."""
    tables = [table for name, table in vars(config_keys).items() if name.endswith("_KEYS")]
    return sorted({key.name for table in tables for key in table})


# What is drawn

ALWAYS = settings(
    database=None, deadline=None, suppress_health_check=list(HealthCheck), report_multiple_bugs=False
)


@dataclass(frozen=True)
class Drawn:
    """What is drawn for a parser, and how it is changed. Some of it is right, or there is no `near`."""

    base: st.SearchStrategy[bytes]
    change: Change
    words: Words = ()
    near: bool = True


def each(drawn: st.SearchStrategy[bytes], count: int) -> list[bytes]:
    """The same ones every time."""
    found = []

    @settings(ALWAYS, max_examples=count, derandomize=True)
    @given(drawn)
    def example(data: bytes) -> None:
        found.append(data)

    example()
    return found


def right(rule: str) -> st.SearchStrategy[bytes]:
    """What the parser takes."""
    if rule in LINES:
        return messages(LINES[rule].kinds).map(LINES[rule].encode)
    return st.sampled_from(CONFIGS)


@cache
def seeds(rule: str) -> tuple[bytes, ...]:
    """Enough of it to have every kind of message and every word."""
    return (*dict.fromkeys(each(right(rule), 60)), *(() if rule in LINES else (WHOLE_EXAMPLE, ALL_KEYS)))


ALL_KEYS = f"# {' '.join(keys_of_configs())}\n".encode()
"""Words that changes can use, without the time that it takes to refuse them."""


def like_json(words: Words) -> st.SearchStrategy[bytes]:
    """JSON of any values, with the right words in some places."""
    word = st.sampled_from(words)
    floats = st.floats() | st.sampled_from([0.0, 1.0])
    leaves = st.none() | st.booleans() | st.integers() | floats | st.text(st.characters()) | word
    values = st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(word, inner), max_leaves=12
    )
    return values.map(lambda value: json.dumps(value).encode())


def like_yaml(words: Words) -> st.SearchStrategy[bytes]:
    """Lines with keys and values, some of which may even stand there."""
    values = [*words, *ODD_YAML, "[a, b]", "[/bin/true, x]", "", ""]
    line = st.tuples(
        st.sampled_from(["", "  ", "  ", "    ", "    ", "      - ", "   "]),
        st.sampled_from([f"{word}: " for word in words] + ["", "- ", "{", "["]),
        st.sampled_from(values),
    )
    whole = st.lists(line.map("".join), max_size=12).map("\n".join)
    return whole.map(lambda text: text.encode(errors="surrogatepass"))


def drawn_for(rule: str, how: str) -> Drawn:
    words = words_of(seeds(rule))
    match how, rule in LINES:
        case "changed", True:
            return Drawn(right(rule), change_json, words)
        case "changed", False:
            return Drawn(right(rule) | st.just(WHOLE_EXAMPLE), change_yaml, words)
        case "alike", True:
            return Drawn(like_json(words), change_json, words, near=False)
        case "alike", False:
            return Drawn(like_yaml(words), change_yaml, words, near=False)
    return Drawn(st.binary(max_size=64), change_bytes, near=False)


# How it is tried


@pytest.fixture(scope="module", autouse=True)
def settled(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Hypothesis writes nothing into the tree."""
    set_hypothesis_home_dir(tmp_path_factory.mktemp("hypothesis"))


def inputs(data: bytes, numbers: bytes, drawn: Drawn) -> Iterator[bytes]:
    """What is drawn, and its changes."""
    yield data
    for start in range(0, len(numbers), NUMBERS):
        yield drawn.change(data, numbers[start : start + NUMBERS], drawn.words)


def fuzz(rule: Rule, drawn: Drawn, often: int, *, same: bool, shortest: bool = True) -> None:
    """Draw so often, the same or something else each time, and try it in all its changes."""
    taken: dict[bool, int] = {True: 0, False: 0}
    phases = [Phase.generate, Phase.shrink] if shortest else [Phase.generate]

    @settings(ALWAYS, max_examples=often, derandomize=same, phases=phases)
    @given(drawn.base, st.binary(min_size=CHANGED * NUMBERS, max_size=CHANGED * NUMBERS))
    def example(data: bytes, numbers: bytes) -> None:
        for one in inputs(data, numbers, drawn):
            try:
                taken[rule(one)] += 1
            except Exception as error:
                error.add_note(f"input: {one[:4000]!r}")
                raise

    example()
    assert sum(taken.values()) >= often * (CHANGED + 1)
    assert all(taken.values()) or not drawn.near


WAYS = ["changed", "alike", "bytes"]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("how", WAYS)
def test_whatever_comes_is_taken_or_refused_as_documented(rule: str, how: str, long: bool) -> None:
    often = EXAMPLES_LONG[rule] if long else EXAMPLES
    fuzz(RULES[rule], drawn_for(rule, how), often, same=not long)


@pytest.mark.parametrize("rule", LINES)
def test_every_message_survives_the_wire(rule: str, long: bool) -> None:
    lines = LINES[rule]

    @settings(ALWAYS, max_examples=1000 if long else 100, derandomize=not long)
    @given(messages(lines.kinds))
    def survives(message: object) -> None:
        heard = lines.parse(lines.encode(message))
        assert (type(heard), heard) == (type(message), message)

    survives()


@pytest.mark.parametrize("data", CONFIGS)
def test_what_is_changed_is_a_config(data: bytes) -> None:
    assert Configs(parse)(data)


def test_what_is_changed_has_every_key() -> None:
    assert set(words_of(seeds("config"))) >= set(keys_of_configs())


# Inputs that follow the code


def follow(rule: str, runs: int, folder: Path, begin: tuple[bytes, ...]) -> subprocess.CompletedProcess[str]:
    """Let atheris begin with these inputs. What breaks a rule is in `folder` then."""
    if not find_spec("atheris"):
        pytest.skip("atheris has no wheel for this machine")
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, data in enumerate(begin):
        (corpus / str(number)).write_bytes(data)
    options = [f"-runs={runs}", "-seed=1", "-len_control=0", "-timeout=60", "-rss_limit_mb=1024"]
    command = [sys.executable, "-m", "tests.fuzz.guided", rule, *options, f"-artifact_prefix={folder}/"]
    return subprocess.run(
        [*command, "-max_len=4096" if rule in LINES else "-max_len=700", "-print_final_stats=1", corpus],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=900,
        check=False,
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "runs" in metafunc.fixturenames:
        runs = FOLLOWED_LONG if metafunc.config.getoption("--long") else FOLLOWED
        metafunc.parametrize(("rule", "runs"), runs.items(), ids=runs)


def test_what_follows_the_code_is_taken_or_refused_as_documented(
    rule: str, runs: int, tmp_path: Path
) -> None:
    ended = follow(rule, runs, tmp_path, seeds(rule))
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert (ended.returncode, found) == (0, {}), ended.stdout[-3000:] + ended.stderr[-3000:]
    assert f"stat::number_of_executed_units: {runs}" in ended.stderr


def test_who_follows_the_code_finds_what_nobody_would_guess(tmp_path: Path) -> None:
    ended = follow("broken", 200_000, tmp_path, (b"guess",))
    [found] = [path.read_bytes() for path in tmp_path.iterdir() if path.is_file()]
    assert ended.returncode != 0
    assert found.startswith(b"FUZZ")


def test_a_long_run_tries_every_parser_and_a_million_inputs() -> None:
    assert FOLLOWED_LONG.keys() | {"backends"} == EXAMPLES_LONG.keys()
    drawn = sum(EXAMPLES_LONG.values()) * len(WAYS) * (CHANGED + 1)
    assert drawn + sum(FOLLOWED_LONG.values()) > 1_000_000


# What breaks the rules


def raising(error: Exception) -> Callable[..., Any]:
    def parse_badly(*_: object) -> None:
        raise error

    return parse_badly


def giving(what: object) -> Callable[..., Any]:
    return lambda *_: what


BROKEN_LINES: dict[str, Lines] = {
    "another exception": Lines(raising(KeyError("id")), encode_message, Ping),
    "a recursion without end": Lines(raising(RecursionError()), encode_message, Ping),
    "a reason that a terminal obeys": Lines(raising(MalformedMessage("\x1b[2J")), encode_message, Ping),
    "no reason": Lines(raising(MalformedMessage("")), encode_message, Ping),
    "an id that is none": Lines(raising(MalformedMessage("no", -1)), encode_message, Ping),
    "nothing": Lines(giving(None), encode_message, Ping),
    "a message of the other side": Lines(giving(Hello("1")), encode_message, Ping),
    "two lines": Lines(giving(Ping(1)), giving(b"ping\nping\n"), Ping),
    "a guess at what was meant": Lines(giving(Ping(True)), encode_message, Ping),
    "less than what was said": Lines(giving(Ping(1)), giving(b'{"ping":1,"ping":1}\n'), Ping),
    "another value than another version's": Lines(
        giving(Ping(1)), giving(b'{"ping":1}\n'), Ping, keeps=is_understood
    ),
    "a key that another version did not write": Lines(
        giving(Ping(7)), giving(b'{"ping":7,"id":7}\n'), Ping, keeps=is_understood
    ),
    "lost on the wire": Lines(
        parse_request, lambda ping: encode_message(ping._replace(id=ping.id + 1)), Ping
    ),
    "refused on the wire": Lines(
        parse_request, lambda ping: encode_message(ping._replace(id=-ping.id)), Ping
    ),
}


@pytest.mark.parametrize("broken", BROKEN_LINES)
def test_a_parser_of_lines_that_breaks_a_rule_is_found(broken: str) -> None:
    with pytest.raises((AssertionError, KeyError, RecursionError, MalformedMessage)):
        BROKEN_LINES[broken](encode_message(Ping(7)))


def with_problems(*problems: Problem, file: str = FILE) -> Callable[..., Any]:
    return raising(ConfigError(file, problems))


RIGHT = Group(id="web", name="Web", units=("httpd.service",))
BRIDGE = BridgeConfig()
START = ("/bin/true",)


def with_groups(*groups: Group, bridge: BridgeConfig = BRIDGE) -> Callable[..., Any]:
    return giving(Config(bridge, groups))


BROKEN_CONFIGS = {
    "another exception": raising(KeyError("groups")),
    "no problem": with_problems(),
    "a problem above the file": with_problems(Problem(0, 1, "", "no")),
    "a problem left of the file": with_problems(Problem(1, 0, "", "no")),
    "a problem below the file": with_problems(Problem(4, 1, "", "no")),
    "a problem right of the end": with_problems(Problem(3, 2, "", "no")),
    "a problem right of its line": with_problems(Problem(1, 7, "", "no")),
    "problems in disorder": with_problems(Problem(2, 1, "", "no"), Problem(1, 1, "", "no")),
    "a message that a terminal obeys": with_problems(Problem(1, 1, "", "\x1b[2J")),
    "a path that a terminal obeys": with_problems(Problem(1, 1, "\r", "no")),
    "no message": with_problems(Problem(1, 1, "", "")),
    "another file": with_problems(Problem(1, 1, "", "no"), file="passwd"),
    "no group": with_groups(),
    "a group twice": with_groups(RIGHT, RIGHT),
    "more than HomeKit allows": with_groups(*(replace(RIGHT, id=str(number)) for number in range(150))),
    "a port that needs a privilege": with_groups(RIGHT, bridge=BridgeConfig(port=80)),
    "an interface that is a path": with_groups(RIGHT, bridge=BridgeConfig(interfaces=("../eth0",))),
    "a name of the bridge in two lines": with_groups(RIGHT, bridge=BridgeConfig(name="a\nb")),
    "an id that is a path": with_groups(replace(RIGHT, id="../web")),
    "an id with the end of a line": with_groups(replace(RIGHT, id="web\n")),
    "a name in two lines": with_groups(replace(RIGHT, name="a\nb")),
    "neither units nor commands": with_groups(replace(RIGHT, units=())),
    "a unit that is a path": with_groups(replace(RIGHT, units=("/etc/httpd.service",))),
    "a unit with the end of a line": with_groups(replace(RIGHT, units=("httpd.service\n",))),
    "a unit without its suffix": with_groups(replace(RIGHT, units=("httpd",))),
    "a unit that cannot be started": with_groups(replace(RIGHT, units=("sda.device",))),
    "a template": with_groups(replace(RIGHT, units=("a@.service",))),
    "a unit with too long a name": with_groups(replace(RIGHT, units=("a" * 248 + ".service",))),
    "a unit twice": with_groups(replace(RIGHT, units=RIGHT.units * 2)),
    "a program that is searched for": with_groups(replace(RIGHT, check=("true",))),
    "a program in another folder": with_groups(replace(RIGHT, check=("/bin/../true",))),
    "an argument with an escape": with_groups(replace(RIGHT, check=("/bin/true", "\x1b"))),
    "units and commands": with_groups(replace(RIGHT, commands=Commands(START, START, START))),
    "no command to stop": with_groups(replace(RIGHT, units=(), commands=Commands(START, (), START))),
    "no time": with_groups(replace(RIGHT, interval_seconds=0)),
}


@pytest.mark.parametrize("broken", BROKEN_CONFIGS)
def test_a_parser_of_configs_that_breaks_a_rule_is_found(broken: str) -> None:
    assert Configs(giving(Config(BRIDGE, (RIGHT,))))(b"a: b\nc")
    with pytest.raises((AssertionError, KeyError)):
        Configs(BROKEN_CONFIGS[broken])(b"a: b\nc")


def test_backends_that_disagree_are_found() -> None:
    configs = iter([Config(BRIDGE, (replace(RIGHT, name=name),)) for name in "AABB"])
    with pytest.raises(AssertionError):
        Backends(lambda *_: next(configs))(b"")


def trusting(line: bytes) -> Ping:
    """A parser that takes others at their word."""
    try:
        body = json.loads(line)
    except ValueError:
        raise MalformedMessage("not a line of JSON") from None
    if body.keys() != {"ping"}:
        raise MalformedMessage("unexpected key")
    return Ping(int(body["ping"]))


def test_a_parser_that_trusts_is_found_by_what_is_drawn() -> None:
    with pytest.raises(
        (AssertionError, AttributeError, TypeError, ValueError, OverflowError, RecursionError)
    ):
        fuzz(
            Lines(trusting, encode_message, Ping),
            drawn_for("request", "changed"),
            EXAMPLES,
            same=True,
            shortest=False,
        )
