"""The man pages say what the code has, all of it and nothing else."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docs.config_reference import sections
from hkswitch.backend.simulated_faults import CALM_SECONDS, CRASH_AFTER_SECONDS, RETURN_AFTER_SECONDS
from hkswitch.cli.main import commands as program
from hkswitch.control import STATE_FOLDER
from hkswitch.daemon.kept_alerts import MOST_TROUBLES
from hkswitch.hap import announcement
from hkswitch.model import config_reader, config_values
from hkswitch.model.config import BridgeConfig, parse
from hkswitch.model.config_keys import CONFIG_KEYS
from hkswitch.model.errors import BusUnavailable, ConfigError, Exit
from hkswitch.model.group import MOST_ACCESSORIES, AccessoryType, AlertSensor
from hkswitch.model.installation import CONFIG_FILE
from hkswitch.model.trouble import WELL_SECONDS
from hkswitch.model.unit_state import Action, JobResult, UnitResult
from hkswitch.protocol.alert_report import MOST_ALERTS
from hkswitch.protocol.helper import LONGEST_DETAIL, Alert
from hkswitch.serviceswitch import main as helper
from hkswitch.serviceswitch import trusted_files
from hkswitch.serviceswitch.audit import Audit, Caller, Decision, Denial, Effect, fields_of
from hkswitch.serviceswitch.execute import ALERT_SECONDS, COMMAND_ENVIRONMENT, Executor
from hkswitch.serviceswitch.journal import Journal
from hkswitch.serviceswitch.requester import Requester
from hkswitch.serviceswitch.samples import INTERVAL_SECONDS
from hkswitch.systemd.command import Command
from tests.support import options

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "man"
PAGES = sorted(FOLDER.iterdir())
PROGRAM, CONFIG, HELPER = (
    (FOLDER / name).read_text() for name in ("hkswitch.1", "hkswitch.yaml.5", "serviceswitch.8")
)

MACRO = re.compile(r"[A-Z][a-z]")
BLOCK = re.compile(r"^\.Bd -literal\n(.*?)^\.Ed$", re.MULTILINE | re.DOTALL)
ITEM = re.compile(r"^\.It Ic (\w+) : .*\n((?:(?!\.It |\.El).*\n)*)", re.MULTILINE)
ENTRY = re.compile(r"^\.It Xo\n\.Cm ([a-z -]+)\n(.*?)^\.Xc$", re.MULTILINE | re.DOTALL)
STATUS = re.compile(r"^\.It (\d+)$", re.MULTILINE)
INTERRUPTED = 130

COMMANDS = options.commands_seen()


def section(page: str, title: str) -> str:
    found = re.search(rf"^\.Sh {title}\n(.*?)(?=^\.Sh |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def words_of(macro: str, text: str) -> Iterator[str]:
    """What stands after a macro: up to the next one, without punctuation."""
    for line in text.splitlines():
        inside = False
        for word in line.removeprefix(".").split() if line.startswith(".") else ():
            if MACRO.fullmatch(word):
                inside = word == macro
            elif inside and word.isascii() and word not in {"|", ",", ".", "...", ":", ";"}:
                yield word


def spelt(fl: str) -> str:
    return f"-{fl}"


def flags(text: str) -> set[str]:
    return {spelt(word) for word in words_of("Fl", text)}


def prose(page: str) -> str:
    """A page's text in one line, without its macros."""
    words = (
        word
        for line in page.splitlines()
        for word in line.removeprefix(".").split()
        if not (line.startswith(".") and MACRO.fullmatch(word))
    )
    return re.sub(r" ([,.:;])(?= |$)", r"\1", " ".join(words))


def described(title: str) -> dict[str, str]:
    """The keys in a section, with what is said of them."""
    return {name: prose(text) for name, text in ITEM.findall(section(CONFIG, title))}


def synopsis(text: str) -> options.CommandSeen:
    """A command as the head of its entry has it."""
    seen: dict[str, str] = {}
    arguments: list[str] = []
    for line in text.splitlines():
        match line.removeprefix(".").split():
            case ["Op", "Fl", *spellings, "Ar", value]:
                seen |= dict.fromkeys(map(spelt, without_macros(spellings)), value)
            case ["Op", "Fl", *spellings]:
                seen |= dict.fromkeys(map(spelt, without_macros(spellings)), "")
            case ["Op", "Ar", *argument]:
                name, *more = argument
                arguments.append("".join((f"[{name}]", *more)))
            case ["Ar", *argument]:
                arguments.append("".join(argument))
            case _:
                pytest.fail(f"no rule for: {line}")
    return options.CommandSeen(seen, tuple(arguments))


def without_macros(words: list[str]) -> list[str]:
    return [word for word in words if word not in {"|", "Fl"}]


def without_help(options_seen: dict[str, str]) -> dict[str, str]:
    return {option: value for option, value in options_seen.items() if option not in {"-h", "--help"}}


ENTRIES = {name: synopsis(head) for name, head in ENTRY.findall(section(PROGRAM, "COMMANDS"))}


# hkswitch.1


def test_every_command_has_an_entry_and_every_entry_is_a_command() -> None:
    assert ENTRIES.keys() == COMMANDS.keys()


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_an_entry_has_the_options_and_arguments_of_its_command(name: str) -> None:
    assert ENTRIES[name].options == without_help(COMMANDS[name].options)
    assert ENTRIES[name].arguments == COMMANDS[name].arguments


def test_every_option_is_described_and_every_option_that_is_named_exists() -> None:
    everything = {option for seen in (options.program_seen(), *COMMANDS.values()) for option in seen.options}
    items = "\n".join(line for line in PROGRAM.splitlines() if line.startswith(".It Fl "))
    assert flags(items) == everything
    assert flags(PROGRAM) == everything


def test_every_command_that_is_named_exists() -> None:
    assert set(words_of("Cm", PROGRAM)) == {word for name in COMMANDS for word in name.split()}


def typed() -> list[str]:
    """The command lines of hkswitch in all pages and at the end of each help."""
    shown = re.findall(r"^\.Dl [$#] (?:sudo )?hkswitch (.+)$", f"{PROGRAM}{CONFIG}{HELPER}", re.MULTILINE)
    helps = (program, *map(options.command, options.commands_seen()))
    lines = (line.removeprefix("sudo ") for command in helps for line in options.examples(command))
    return sorted(
        {*shown, *(line.removeprefix("hkswitch ") for line in lines if line.startswith("hkswitch "))}
    )


@pytest.mark.parametrize("arguments", typed())
def test_an_example_is_a_command_line_that_the_program_takes(arguments: str) -> None:
    options.parse(shlex.split(arguments.partition(" > ")[0]))


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_help_of_a_command_has_examples(name: str) -> None:
    command = options.command(name)
    assert options.examples(command)
    assert "\n\n  Examples:\n    " in command.get_help(options.context(name))


def test_the_exit_codes_are_all_that_there_are() -> None:
    listed = [int(code) for code in STATUS.findall(section(PROGRAM, "EXIT STATUS"))]
    assert listed == [*sorted(Exit), INTERRUPTED]


# hkswitch.yaml.5


KEYS = {title: [key.name for key in keys] for title, keys in sections("DESCRIPTION", CONFIG_KEYS)}


def test_every_key_is_described_and_nothing_else() -> None:
    assert {title: [*described(title)] for title in KEYS} == KEYS


def test_every_key_that_is_named_exists() -> None:
    every = {name for names in KEYS.values() for name in names}
    assert set(words_of("Ic", CONFIG)) == every
    assert set(words_of("Ic", HELPER)) <= every


def test_every_section_that_is_named_exists() -> None:
    for page in PAGES:
        text = page.read_text()
        assert all(section(text, title) for title in words_of("Sx", text))


UNITS = parse(b"groups: {vm-guests: {units: [a], check: [/bin/true]}}", "units").groups[0]
COMMANDS_GROUP = parse(
    b"groups: {g: {commands: {start: [/bin/a], stop: [/bin/b], status: [/bin/c]}}}", "commands"
).groups[0]
WITH_RESTART = parse(b"groups: {g: {units: [a], restart: true}}", "restart").groups[0]


def test_the_name_that_is_made_from_an_id_is_so() -> None:
    assert f"Default: made from the id, like {UNITS.name} from {UNITS.id}." in described("GROUPS")["name"]


def test_what_is_said_of_defaults_in_words_is_so() -> None:
    assert (BridgeConfig().interfaces, BridgeConfig().addresses) == ((), ())
    assert UNITS.actions == COMMANDS_GROUP.actions == {Action.START, Action.STOP}
    assert WITH_RESTART.actions == {Action.START, Action.STOP, Action.RESTART}
    assert (UNITS.interval_seconds, COMMANDS_GROUP.interval_seconds) == (30, 5)
    assert "Default: 30 for a check, 5 for a status command." in described("GROUPS")["interval_seconds"]
    assert UNITS.commands is None
    assert WITH_RESTART.check == ()
    assert COMMANDS_GROUP.commands is not None
    assert COMMANDS_GROUP.commands.restart == ()
    assert UNITS.timeout_seconds == COMMANDS_GROUP.timeout_seconds


def test_a_key_has_a_default_or_is_required() -> None:
    said = {
        (title, key): text
        for title in ("BRIDGE", "GROUPS", "COMMANDS")
        for key, text in described(title).items()
    }
    assert {place for place, text in said.items() if "Default: " not in text} == {
        place for place, text in said.items() if "Required" in text
    }


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("groups", "bridge: {port: 51826}"),
        ("units", "groups: {g: {name: G}}"),
        ("start", "groups: {g: {commands: {stop: [/bin/a], status: [/bin/b]}}}"),
        ("stop", "groups: {g: {commands: {start: [/bin/a], status: [/bin/b]}}}"),
        ("status", "groups: {g: {commands: {start: [/bin/a], stop: [/bin/b]}}}"),
    ],
)
def test_a_key_that_is_required_is(key: str, text: str) -> None:
    everything = {name: said for title in ("GROUPS", "COMMANDS") for name, said in described(title).items()}
    assert "required" in everything.get(key, prose(section(CONFIG, "DESCRIPTION"))).casefold()
    with pytest.raises(ConfigError, match=f"the key '{key}' is missing"):
        parse(text.encode(), "config")


@pytest.mark.parametrize(
    "sentence",
    [
        f"with at most {trusted_files.LARGEST_FILE_BYTES} bytes.",
        f"at most {MOST_ACCESSORIES} accessories",
        f"cut at {len(announcement.instance_name('n' * 64, '11:22:33:44:55:66').partition(' ')[0])} bytes",
        f"has at most {config_values.MOST_NAME} characters, and begins",
        f"Its name has at most {config_values.MOST_NAME} characters",
        f"A list has at most {config_reader.MOST_LIST_ITEMS} items",
        f"1 to {config_values.MOST_INTERVAL_SECONDS} seconds",
        f"1 to {config_values.MOST_TIMEOUT_SECONDS} seconds",
        f"with at most {config_values.MOST_ARGUMENT} characters",
        f"and counts as one of the {MOST_ACCESSORIES}.",
        f"once the group has been well for {WELL_SECONDS:.0f} seconds",
        f"for {ALERT_SECONDS} seconds at most.",
        f"one line of at most {LONGEST_DETAIL} characters",
        f"are measured every {INTERVAL_SECONDS} seconds",
    ],
)
def test_a_limit_is_the_one_of_the_code(sentence: str) -> None:
    assert sentence in prose(CONFIG)


def test_the_port_of_the_demo_is_the_default_one() -> None:
    assert f"The TCP port, 1024 to 65535, by default {BridgeConfig().port}." in prose(PROGRAM)


def test_the_faults_of_the_demo_come_when_the_page_says() -> None:
    crash, back, calm = (
        int(seconds) for seconds in (CRASH_AFTER_SECONDS, RETURN_AFTER_SECONDS, CALM_SECONDS)
    )
    page = prose(PROGRAM)
    assert f"crashes {crash} seconds after each start, and comes back after {back} seconds." in page
    assert f"it exceeds the limits from {calm} seconds after each start on" in page


def test_the_number_of_alerts_is_the_one_of_the_code() -> None:
    assert MOST_TROUBLES == MOST_ALERTS
    assert f"The daemon keeps the last {MOST_ALERTS} alerts" in prose(PROGRAM)


def test_types_and_actions_are_those_of_the_code() -> None:
    texts = described("GROUPS")
    *types, last = AccessoryType
    assert f"the Home app: {', '.join(types)} or {last}. " in texts["type"]
    assert f"may request: {', '.join(Action)}. " in texts["actions"]
    *sensors, last_sensor = AlertSensor
    assert f"detects trouble: {', '.join(sensors)}, or {last_sensor}, " in texts["alert"]


def test_the_environment_of_a_command_is_the_one_of_the_code() -> None:
    shown = re.search(r"^\.Bd -unfilled\n(.*?)^\.Ed$", CONFIG, re.MULTILINE | re.DOTALL)
    assert shown
    given = dict(line.split("=", 1) for line in shown[1].splitlines())
    assert given == {**COMMAND_ENVIRONMENT, "HKSWITCH_GROUP": "(the id of the group)"}


async def test_the_environment_of_the_alert_command_is_the_one_of_the_code() -> None:
    commands: list[Command] = []

    class Recorder:
        async def execute(self, command: Command, *_: object) -> None:
            commands.append(command)
            raise BusUnavailable("recorded")

    recorder: Any = Recorder()
    executor = Executor(recorder, recorder, lambda *_: None)
    with pytest.raises(BusUnavailable):
        await executor.alert(("/bin/a",), Alert(1, "web", "", "failed", "web.service failed"), lambda: None)
    item = dict(ITEM.findall(section(CONFIG, "DESCRIPTION")))["alert_command"]
    assert sorted(words_of("Ev", item)) == sorted(commands[0].environment)
    assert "journal of hkswitch-alert-GROUP" in prose(item).replace("Ql ", "")
    assert commands[0].unit == "hkswitch-alert-web.service"


@pytest.mark.parametrize("block", BLOCK.findall(f"{PROGRAM}{CONFIG}{HELPER}"))
def test_a_config_block_is_a_config(block: str) -> None:
    assert parse(block.encode(), "block").groups


def test_there_is_a_config_block() -> None:
    assert BLOCK.findall(CONFIG)


# serviceswitch.8


def test_the_actions_of_the_helper_are_those_of_its_usage() -> None:
    actions = re.findall(r"serviceswitch ([a-z|]+)", helper.USAGE)
    items = re.findall(r"^\.It Cm (\w+)$", section(HELPER, "DESCRIPTION"), re.MULTILINE)
    assert items == "|".join(actions).split("|")
    assert set(words_of("Cm", HELPER)) == set(items)
    assert flags(HELPER) == set(re.findall(r"--[a-z]+", helper.USAGE))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["start", "web"], Exit.DENIED),
        (["stop", "web"], Exit.DENIED),
        (["restart", "web"], Exit.DENIED),
        (["status", "web"], Exit.DENIED),
        (["serve"], Exit.DENIED),
        (["--help"], Exit.OK),
        (["--version"], Exit.OK),
        (["reload", "web"], Exit.USAGE),
        (["serve", "web"], Exit.USAGE),
        (["start"], Exit.USAGE),
        (["-h"], Exit.USAGE),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_helper_takes_what_its_page_says(
    arguments: list[str], code: Exit, capfd: pytest.CaptureFixture[str]
) -> None:
    def read(file: str) -> bytes:
        raise AssertionError(file)

    word = arguments[0].removeprefix("-")
    named = {*words_of("Cm", HELPER), *words_of("Fl", HELPER)}
    assert (word in named) == (code is not Exit.USAGE or word in {"serve", "start"})
    audit = Audit(Caller(1000), Journal())
    assert helper.run(arguments, helper.Facts(1000, Requester(), None), read, audit) == code


def test_the_fields_of_the_audit_are_those_of_the_code() -> None:
    decision = Decision("start", "web", 1, by_rule=True)
    everything = (
        decision,
        Denial("no", "start", "web", left_out=1, by_rule=True),
        Effect(decision, "failed", (UnitResult("a.service", JobResult.DONE),), 1),
    )
    assert all(all(each) for each in everything)
    written = [fields_of(each, Caller(uid=1, login_uid=1)) for each in everything]
    names = {name for fields in written for name in fields if name.startswith("HKSWITCH_")}
    listed = list(words_of("Ev", HELPER))
    assert (set(listed), len(listed)) == (names, len(names))
    assert {fields["SYSLOG_IDENTIFIER"] for fields in written} == {"serviceswitch"}
    assert "SYSLOG_IDENTIFIER=serviceswitch" in HELPER


def test_the_exit_codes_of_the_helper_are_those_of_its_modules() -> None:
    modules = (ROOT / "hkswitch" / "serviceswitch").glob("*.py")
    used = {Exit[name] for module in modules for name in re.findall(r"\bExit\.([A-Z_]+)", module.read_text())}
    listed = [int(code) for code in STATUS.findall(section(HELPER, "EXIT STATUS"))]
    assert listed == sorted(used | {BusUnavailable.exit_code, ConfigError.exit_code})


# All of them


def test_the_config_is_where_the_pages_say() -> None:
    assert all(f".It Pa {CONFIG_FILE}\n" in section(page, "FILES") for page in (PROGRAM, CONFIG, HELPER))


def test_the_state_is_where_the_page_says() -> None:
    assert f".It Pa {STATE_FOLDER}\n" in section(PROGRAM, "FILES")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_that_is_referred_to_exists(page: Path) -> None:
    referred = re.findall(r"^\.Xr (\S+) (\d)", page.read_text(), re.MULTILINE)
    ours = {f"{name}.{number}" for name, number in referred if "switch" in name}
    others = {other.name for other in PAGES} - {page.name}
    assert ours == others


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_has_the_title_of_its_file(page: Path) -> None:
    name, _, number = page.name.rpartition(".")
    assert f".Dt {name.upper()} {number}\n" in page.read_text()
    assert section(page.read_text(), "NAME").startswith(f".Nm {name}\n")


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="there is no mandoc; CI has it")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_renders_without_a_warning(page: Path) -> None:
    linted = subprocess.run(
        ["mandoc", "-Tlint", "-Wwarning", page], capture_output=True, text=True, check=False, timeout=20
    )
    assert (linted.returncode, linted.stdout + linted.stderr) == (0, "")
