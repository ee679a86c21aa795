"""No command breaks a word in a terminal of 40 columns or more, and QR codes can be read in each of them."""

import io
import pty
import re
import shlex
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest
import segno
from rich.console import Console

from hkswitch.cli import alerts, audit, help_pages, layout, pair, qr, render
from hkswitch.cli.doctor import show_findings
from hkswitch.cli.group_table import HEADINGS as HEADING_TEXTS
from hkswitch.cli.host_table import HOST_HEADINGS
from hkswitch.cli.layout import UNLIMITED_COLUMNS, fitted
from hkswitch.cli.main import commands
from hkswitch.cli.rich_console import FittedConsole
from hkswitch.cli.styled import StyledOutput
from hkswitch.control import STATE_FOLDER
from hkswitch.doctor.finding import Check, fail, ok
from hkswitch.hap import state_file
from hkswitch.hap.setup_code import Setup
from hkswitch.model.unit_state import Action, ActiveState, GroupState, LoadState, UnitState
from hkswitch.protocol.alert_report import AlertReport
from hkswitch.protocol.host_report import HostReport
from hkswitch.protocol.report import (
    BridgeReport,
    GroupReport,
    LastAction,
    Outcome,
    PairedController,
    Report,
)
from tests.support import options
from tests.support.command import run
from tests.support.pairings import SETUP as PAIRED_SETUP
from tests.support.pairings import stored

WIDTHS = (40, 41, 47, 54, 60, 66, 72, 79, 80, 81, 100, 111, 132, 160, 200)
NOW = 1_800_000_000
PHONE = "8DE3A2C0-5D7B-4E7C-9F52-3F1B7A2D9E10"
UP = UnitState(LoadState.LOADED, ActiveState.ACTIVE, "running")
LONG_ID = "a-group-whose-id-has-the-most-characters-that-are-allowed-in-one"
LONG_UNIT = "systemd-networkd-wait-online@enp0s31f6.service"
BRIDGE = BridgeReport(
    "Homelab",
    "1.2.3",
    NOW - 7300,
    ("192.168.1.10", "fd00::1"),
    51826,
    (PairedController(PHONE, admin=True, connections=1),),
    config="/etc/hkswitch/config.yaml:12:7: groups.web.units: must not be empty",
    storage="cannot write /var/lib/hkswitch/bridge.json: No space left on device",
)
GROUPS = (
    GroupReport("web", "Web", GroupState.ON, NOW, {"nginx.service": UP}),
    GroupReport(
        "fileserver",
        "Dateien im Wohnzimmer und im Keller",
        GroupState.STARTING,
        NOW - 12,
        {"smbd.service": UP, LONG_UNIT: UP},
        LastAction(
            Action.START, PHONE, NOW - 300, Outcome.FAILED, f"{LONG_UNIT}: exited with status 1", 1234
        ),
    ),
    GroupReport(
        LONG_ID,
        "漢字の名前 漢字",
        None,
        0,
        {},
        why="the helper is not running (sudo: a password is required)",
    ),
)
ALERTS = (
    AlertReport("fileserver", "", f"{LONG_UNIT} was killed by SIGKILL", NOW, NOW + 725),
    AlertReport("web", "Web", "start failed: nginx.service exited with status 1", NOW),
)
TROUBLED = (
    GROUPS[0]._replace(trouble=ALERTS[0].reason, trouble_since_unix_seconds=NOW - 300),
    GROUPS[1]._replace(rule="gave up after 3 restarts within an hour, cannot measure memory"),
)
REPORTS = {
    "troubled": Report(BRIDGE, TROUBLED),
    "all": Report(BRIDGE, GROUPS),
    "short": Report(None, GROUPS[:1]),
    "middle": Report(BRIDGE, GROUPS[:2]),
    "none": Report(BRIDGE, ()),
    "hosts": Report(
        BRIDGE,
        (GROUPS[0], GROUPS[1]._replace(id="nas-media", host="nas", group="media")),
        (
            HostReport("nas", "ssh://hkswitch-remote@nas.example.org:2222", NOW - 7300, 0.42, "0.3.0"),
            HostReport("pi", "pi.lan", problem="ssh: connect to host pi.lan port 22: Connection timed out"),
        ),
    ),
}


class _Terminal(io.StringIO):
    """Standard output as a terminal would be."""

    def __init__(self, encoding: str = "utf-8", *, is_terminal: bool = True) -> None:
        super().__init__()
        self._encoding, self._is_terminal = encoding, is_terminal

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return self._is_terminal


def status_text(report: Report, columns: int) -> str:
    output = io.StringIO()
    terminal = Console(file=output, width=columns, highlight=False, markup=False, emoji=False)
    render._print(render.rendered(report, NOW, columns), terminal)
    return output.getvalue()


def watched_text(report: Report, columns: int) -> str:
    output = io.StringIO()
    terminal = Console(file=output, width=columns, highlight=False, markup=False, emoji=False)
    lines = terminal.render_lines(render.rendered(report, NOW, columns), pad=False)
    return "\n".join("".join(segment.text for segment in line) for line in lines)


def doctor_text(columns: int) -> str:
    output = io.StringIO()
    terminal = Console(file=output, width=columns, highlight=False, force_terminal=True, color_system=None)
    found = (
        ok(Check.CONFIGURATION, "/etc/hkswitch/config.yaml (2 groups)"),
        fail(
            Check.FIREWALL,
            "ufw is active, and denies 51826/tcp",
            "run `sudo ufw allow 51826/tcp` and `sudo ufw allow 5353/udp`",
        ),
    )
    show_findings(found, terminal)
    return output.getvalue()


WARNING = (
    "/etc/hkswitch/config.yaml:12:7: warning: groups.fileserver.units[0]: "
    "systemd-networkd-wait-online.service does not exist; did you mean systemd-networkd.service?"
)
JOURNAL = (
    "Nov 29 12:00:00 nas serviceswitch[77]: start fileserver: requested by 8DE3A2C0 through "
    "hkswitch.service: allowed: smbd.service nmbd.service"
)
TEXTS: dict[str, Callable[[int], str]] = {
    **{f"status {name}": lambda w, r=r: status_text(r, w) for name, r in REPORTS.items()},  # type: ignore[misc]
    **{f"watch {name}": lambda w, r=r: watched_text(r, w) for name, r in REPORTS.items()},  # type: ignore[misc]
    "doctor": doctor_text,
    "check": lambda columns: fitted(WARNING, columns),
    "audit": lambda columns: fitted(JOURNAL, columns),
    "alerts": lambda columns: fitted("\n".join(alerts.lines_of(ALERTS)), columns),
    "pair --list": lambda columns: fitted(pair.list_as_text(BRIDGE.controllers), columns),
}


HEADINGS = {word for heading in (*HEADING_TEXTS, *HOST_HEADINGS) for word in heading.split()}
"""A terminal that is too narrow for a table has none of them."""


def is_laid_out(line: str, columns: int) -> bool:
    """Whether a line fits, or is a single word that fits in none."""
    return layout.cells(line) <= columns or len(line.split()) == 1


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_no_text_breaks_a_word(text: Callable[[int], str]) -> None:
    whole = {*text(1000).split()} - HEADINGS
    for columns in WIDTHS:
        lines = text(columns).splitlines()
        missing = whole - {word for line in lines for word in line.split()}
        assert {word for word in missing if layout.cells(word) <= columns - 4} == set(), columns
        assert [line for line in lines if not is_laid_out(line, columns)] == [], columns


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_status_prints_a_word_that_is_longer_than_the_terminal_in_one_piece(columns: int) -> None:
    assert LONG_ID in status_text(REPORTS["all"], columns)
    assert LONG_UNIT in status_text(REPORTS["all"], columns)


def test_a_table_is_shown_as_soon_as_it_fits() -> None:
    has_table = ["\ngroup  " in status_text(REPORTS["middle"], columns) for columns in WIDTHS]
    assert has_table == sorted(has_table)
    assert (has_table[0], has_table[-1]) == (False, True)


@pytest.mark.parametrize("name", ["", *options.commands_seen()])
def test_no_help_breaks_a_word(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    wide = help_of(name).split()
    for columns in WIDTHS:
        monkeypatch.setenv("COLUMNS", str(columns))
        lines = help_of(name).splitlines()
        assert [word for line in lines for word in line.split() if word != "\\"] == wide, columns
        assert [line for line in lines if layout.cells(line) > columns] == [], columns


def help_of(name: str) -> str:
    context = options.context(name) if name else help_pages.HelpContext(commands, info_name="hkswitch")
    return context.command.get_help(context)


def test_a_broken_example_is_still_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    _, _, example = help_of("import-homebridge").partition("Examples:\n")
    assert example.count("\n") == 2
    assert shlex.split(example.replace("\\\n", "")) == shlex.split(
        "hkswitch import-homebridge '~/.homebridge/config.json' -o new.yaml"
    )


@pytest.mark.parametrize(
    ("line", "columns", "lines"),
    [
        ("fits", 40, ["fits"]),
        ("stop it, or run `make demo PORT=51827`", 30, ["stop it, or run", "  `make demo PORT=51827`"]),
        (
            "`a command that is longer than the line`",
            20,
            ["`a command that is", "  longer than the", "  line`"],
        ),
        ("  web-server is-not-broken", 16, ["  web-server", "    is-not-broken"]),
        ("x" * 50 + " y", 40, ["x" * 50, "  y"]),
        ("漢字 " * 8 + "漢字", 40, ["漢字 " * 7 + "漢字", "  漢字"]),
        ("", 40, [""]),
    ],
)
def test_lines_break_between_words(line: str, columns: int, lines: list[str]) -> None:
    assert layout.wrapped(line, columns) == lines


@pytest.mark.parametrize(
    ("columns", "expected"), [("200", 200), ("40", 40), ("7", 40), ("0", 80), ("x", 80), ("", 80)]
)
def test_the_width_of_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: str, expected: int) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert layout.columns_of(_Terminal()) == expected
    assert layout.columns_of(_Terminal(is_terminal=False)) is None


@pytest.mark.parametrize(("columns", "expected"), [("0", 57), ("²", 57), ("-1", 57), ("", 57), ("60", 60)])
def test_a_width_that_is_none_leaves_that_of_the_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: str, expected: int
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    main, other = pty.openpty()
    with open(main, "wb"), open(other, "w") as stream:  # noqa: PTH123 -- descriptors, not paths
        termios.tcsetwinsize(stream, (24, 57))
        assert layout.columns_of(stream) == expected


@pytest.mark.parametrize("lines", ["", "0", "²", "9" * 9])
@pytest.mark.parametrize(
    ("columns", "expected"), [("200", 200), ("40", 40), ("7", 40), ("0", 80), ("²", 80), ("-5", 80)]
)
def test_tables_have_the_width_of_all_other_output(
    monkeypatch: pytest.MonkeyPatch, columns: str, lines: str, expected: int
) -> None:
    """By rules of its own, rich prints nothing, 80 columns, or a traceback."""
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("LINES", lines)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr("sys.stdout", output := _Terminal())
    terminal = FittedConsole()
    assert (terminal.width, terminal.height) == (expected, 25)
    render.show_report(REPORTS["all"], terminal, STATE_FOLDER)
    shown = output.getvalue().split("\n")
    assert [line for line in shown if layout.cells(line) > expected and len(line.split()) > 1] == []
    assert shown[0].startswith("Homelab: running")
    monkeypatch.setattr("sys.stdout", _Terminal(is_terminal=False))
    assert FittedConsole().width == UNLIMITED_COLUMNS


@pytest.mark.parametrize(
    ("environment", "is_terminal", "has_styles"),
    [
        ({}, True, True),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, True, True),
        ({"NO_COLOR": "1"}, True, True),  # bold and dim are no colors
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "0"}, False, True),
        ({"TTY_COMPATIBLE": "1"}, False, True),
        ({"TTY_COMPATIBLE": "1", "FORCE_COLOR": ""}, True, True),
        ({}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"TERM": "Unknown", "FORCE_COLOR": "1"}, False, False),
        ({"FORCE_COLOR": ""}, True, False),
        ({"TTY_COMPATIBLE": "0", "FORCE_COLOR": "1"}, True, False),
        ({"TTY_COMPATIBLE": "2"}, False, False),
    ],
)
def test_status_prints_the_bytes_that_rich_would_print(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], is_terminal: bool, has_styles: bool
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("time.time", lambda: NOW)
    for columns in ("40", "80", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        for report in REPORTS.values():
            shown = []
            for make in (FittedConsole, lambda: StyledOutput(sys.stdout)):
                monkeypatch.setattr("sys.stdout", output := _Terminal(is_terminal=is_terminal))
                terminal = make()
                render.show_report(report, terminal, STATE_FOLDER)
                render.show_problems(["a problem, with `a command` as its remedy", "another"], terminal)
                shown.append(output.getvalue())
            assert shown[0] == shown[1]
            assert ("\x1b[1" in shown[1]) is has_styles


@pytest.mark.parametrize(
    ("term", "is_terminal", "force_color", "replaces"),
    [
        ("xterm", True, None, True),
        ("dumb", True, None, False),
        ("unknown", True, None, False),
        ("xterm", True, "", False),
        ("xterm", False, "1", False),
        ("dumb", False, "1", False),
    ],
)
def test_each_report_is_shown_even_if_none_can_replace_another(
    monkeypatch: pytest.MonkeyPatch, term: str, is_terminal: bool, force_color: str | None, replaces: bool
) -> None:
    """On a dumb terminal, rich would show none; in a colored pipe, it would move the cursor."""
    monkeypatch.setenv("TERM", term)
    if force_color is None:
        monkeypatch.delenv("FORCE_COLOR", raising=False)
    else:
        monkeypatch.setenv("FORCE_COLOR", force_color)
    monkeypatch.setattr("sys.stdout", output := _Terminal(is_terminal=is_terminal))
    render.show_reports([(REPORTS["short"], False)] * 2, FittedConsole(), STATE_FOLDER)
    assert ("\x1b[?1049h" in output.getvalue()) is replaces
    assert output.getvalue().count("nginx.service active") == 2


def test_an_audit_on_a_terminal_is_broken_between_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    journalctl = tmp_path / "journalctl"
    journalctl.write_text(f"#!/bin/sh\nprintf '%s\\n' '{JOURNAL}'; printf '\\033[2J'; exit 3\n")
    journalctl.chmod(0o755)
    monkeypatch.setattr(audit, "JOURNALCTL", str(journalctl))
    monkeypatch.setattr(audit, "columns_of", lambda _: 40)
    monkeypatch.setattr(layout, "columns_of", lambda _: 40)
    with pytest.raises(SystemExit) as ended:
        audit.show_journal(None)
    assert ended.value.code == 3
    assert capsys.readouterr().out == f"{fitted(JOURNAL, 40)}\n?[2J\n"


# QR codes

SETUP = Setup("518-08-582", "7OSX")
BRIGHT, BLACK = "\x1b[48;5;231m", "\x1b[48;5;16m"
BOTH = re.compile(r"^\x1b\[38;5;231;48;5;16m(.*)\x1b\[0m$")


def halves(line: str) -> list[list[bool]]:
    """Two rows of modules; what a glyph fills is light."""
    return [[character not in filled for character in line] for filled in ("▀█", "▄█")]


def decoded(lines: list[str], form: qr.Form) -> list[list[bool]]:
    """Read the modules back, as a camera would see them in a terminal."""
    match form:
        case qr.Form.BLOCKS:
            return [row for line in lines for row in halves(line)]
        case qr.Form.BLOCKS_IN_COLOR:
            inner = [found[1] for line in lines if (found := BOTH.match(line))]
            return [row for line in inner for row in halves(line)]
        case qr.Form.SPACES_IN_COLOR:
            assert {*re.sub(r"\x1b\[[\d;]*m", "", "".join(lines))} == {" "}
            return [[color == "16" for color in re.findall(r"\x1b\[48;5;(\d+)m  ", line)] for line in lines]
        case qr.Form.SIGNS:
            pairs = [re.findall("..", line) for line in lines]
            assert {pair for line in pairs for pair in line} == {"##", "  "}
            return [[pair == "  " for pair in line] for line in pairs]


@pytest.mark.parametrize("form", qr.Form)
def test_each_drawing_has_the_modules_and_the_quiet_zone_of_the_code(form: qr.Form) -> None:
    expected = [[*map(bool, row)] for row in segno.make(SETUP.payload, micro=False).matrix_iter(border=4)]
    read = decoded(qr.qr_lines(SETUP.payload, form), form)
    assert read[: len(expected)] == expected
    assert not any(any(row) for row in read[len(expected) :])  # half a line more of the quiet zone


@pytest.mark.parametrize(
    ("encoding", "is_terminal", "environment", "form"),
    [
        ("utf-8", True, {}, qr.Form.BLOCKS_IN_COLOR),
        ("cp437", True, {}, qr.Form.BLOCKS_IN_COLOR),
        ("utf-8", False, {}, qr.Form.BLOCKS),
        ("utf-8", True, {"NO_COLOR": "1"}, qr.Form.BLOCKS),
        ("utf-8", True, {"TERM": "dumb"}, qr.Form.BLOCKS),
        ("utf-8", True, {"TERM": "unknown"}, qr.Form.BLOCKS),
        ("latin-1", True, {}, qr.Form.SPACES_IN_COLOR),
        ("ascii", True, {}, qr.Form.SPACES_IN_COLOR),
        ("iso8859-15", False, {}, qr.Form.SIGNS),
        ("ascii", True, {"NO_COLOR": "1"}, qr.Form.SIGNS),
    ],
)
def test_the_form_is_one_that_the_output_can_show(
    monkeypatch: pytest.MonkeyPatch,
    encoding: str,
    is_terminal: bool,
    environment: dict[str, str],
    form: qr.Form,
) -> None:
    for name, value in ({"NO_COLOR": "", "TERM": "xterm"} | environment).items():
        monkeypatch.setenv(name, value)
    assert qr.form_for(_Terminal(encoding, is_terminal=is_terminal)) is form
    "\n".join(qr.qr_lines(SETUP.payload, form)).encode(encoding)


@pytest.mark.parametrize(
    ("encoding", "columns", "is_drawn"),
    [("utf-8", 40, True), ("ascii", 57, False), ("ascii", 58, True), ("latin-1", 40, False)],
)
def test_a_code_that_is_wider_than_the_terminal_is_not_drawn(
    monkeypatch: pytest.MonkeyPatch,
    encoding: str,
    columns: int,
    is_drawn: bool,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    text = qr.invitation(SETUP, _Terminal(encoding), STATE_FOLDER)
    assert ("\x1b" in text, "run `sudo hkswitch pair --png FILE`" in text.replace("\n  ", " ")) == (
        is_drawn,
        not is_drawn,
    )
    assert "518-08-582" in text


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_pair_works_without_unicode(tmp_path: Path, encoding: str) -> None:
    state_file.write(tmp_path, stored())
    code, output, errors = run("pair", "--state-dir", tmp_path, PYTHONIOENCODING=encoding)
    assert (code, errors) == (0, "")
    assert "\n".join(qr.qr_lines(PAIRED_SETUP.payload, qr.Form.SIGNS)) in output
