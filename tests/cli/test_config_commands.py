"""`hkswitch add`, `remove` and `edit`, from the command line to the file. Here, no systemd is running."""

import os
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Final

import pytest

from hkswitch.cli import add_remote, config_change, edit
from hkswitch.cli.logs import matches_of
from hkswitch.control import client
from hkswitch.editing.config_replacement import Original
from hkswitch.editing.new_group import id_of, new_group
from hkswitch.model import config_file
from hkswitch.model.elsewhere import Elsewhere, RemoteHost
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.group import AccessoryType, Group
from hkswitch.model.unit_state import GroupState
from hkswitch.protocol.host_report import HostReport
from hkswitch.protocol.report import GroupReport, Report
from tests.support.command import HKSWITCH, run

TEXT: Final = "# mine\ngroups:\n  web:\n    units: [nginx]  # the web\n  files: {units: [smbd]}\n"
MEDIA: Final = "  media:\n    name: Media\n    units: [jellyfin]\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(TEXT)
    path.chmod(0o640)
    return path


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["jellyfin", "--name", "Media"], MEDIA),
        (["jellyfin", "--id", "media"], MEDIA),
        (["jellyfin.service", "jellyfin", "--id", "media"], MEDIA),
        (["cups"], "  cups:\n    name: Cups\n    units: [cups]\n"),
        (["wg-quick@wg0"], "  wg-quick-wg0:\n    name: Wg Quick Wg0\n    units: [wg-quick@wg0]\n"),
        (
            ["fstrim.timer", "a", "--name", "Joe's Disks", "--type", "fan", "--restart"],
            (
                '  joes-disks:\n    name: "Joe\'s Disks"\n    units: [fstrim.timer, a]\n'
                "    type: fan\n    restart: true\n"
            ),
        ),
        (["a", "--alert", "leak"], "  a:\n    name: A\n    units: [a]\n    alert: leak\n"),
        (["a", "--name", "Медиа"], '  a:\n    name: "Медиа"\n    units: [a]\n'),
        (["--container", "photos"], "  photos:\n    name: Photos\n    containers: [photos]\n"),
        (
            ["--compose", "immich", "--engine", "podman", "--id", "album", "--restart"],
            "  album:\n    name: Album\n    compose: immich\n    engine: podman\n    restart: true\n",
        ),
        (
            [
                "srv.mount",
                "--container",
                "db",
                "--container",
                "notes",
                "--container",
                "db",
                "--name",
                "Notes",
            ],
            "  notes:\n    name: Notes\n    units: [srv.mount]\n    containers: [db, notes]\n",
        ),
    ],
)
def test_a_group_is_written_and_shown(file: Path, words: list[str], lines: str) -> None:
    code, dry, errors = run("add", "--config", file, "--dry-run", *words)
    assert (code, errors, file.read_text()) == (0, "", TEXT)
    code, output, errors = run("add", "--config", file, *words)
    assert (code, errors) == (0, "")
    assert file.read_text() == TEXT + lines
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert output.startswith(dry)
    shown = [line for line in output.splitlines() if line.startswith("+") and not line.startswith("+++")]
    assert shown == [f"+{line}" for line in lines.splitlines()]
    added, not_applied = output.splitlines()[-2:]
    assert added.startswith("Added group ")
    assert not_applied == "Not applied: hkswitch reads /etc/hkswitch/config.yaml."


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["a", "b"], 64, 'cannot name a group of several units; use `--name "A Name"`'),
        (["nginx", "--id", "web"], 64, "there is one with this id; change it with `sudo hkswitch edit`, or"),
        (["x", "--id", "x", "--name", "FILES"], 78, "'FILES' is taken by the group on line 5"),
        (["x", "--name", "A/B"], 64, "is not a name, because of '/'"),
        (["x", "--id", "A B"], 64, "is not a group id"),
        (["x@"], 64, "is a template; name an instance, like 'x@one.service'"),
        (["sda.device"], 64, "cannot be started"),
        (["x", "--type", "lamp"], 64, "'lamp' is not one of"),
        (["x", "--alert", "smoke"], 64, "'smoke' is not one of"),
        ([], 64, "name a UNIT, or use --container, --compose or --host"),
        (["x", "--engine", "podman"], 64, "--engine applies only with --container or --compose"),
        (["--container", "ab", "--engine", "lxc"], 64, "'lxc' is not one of"),
        (["--container", "a/b"], 64, "is not a container's name"),
        (["--compose", "Immich", "--id", "album"], 64, "is not a compose project's name"),
        (["--container", "x"], 78, "'x' is too short"),
        (["x", "--container", "ab"], 64, 'cannot name a group of several members; use `--name "A Name"`'),
    ],
)
def test_what_cannot_be_a_group_changes_nothing(file: Path, words: list[str], code: int, reason: str) -> None:
    ended, output, errors = run("add", "--config", file, *words)
    assert (ended, output) == (code, "")
    assert reason in errors
    assert file.read_text() == TEXT


HOSTS_TEXT: Final = 'hosts: {nas: {ssh: nas.lan}, pi: {ssh: "ssh://pi.lan:2222"}}\n'
OF_NAS: Final = "  door:\n    host: nas\n    group: media\n"


@pytest.mark.parametrize(
    ("text", "words", "lines", "what"),
    [
        (TEXT, ["media"], "  media:\n    name: Media\n    host: nas\n", "group 'media' of the host nas"),
        (
            TEXT,
            ["nas-media", "--group", "media", "--name", "Films", "--type", "fan", "--restart"],
            (
                "  nas-media:\n    name: Films\n    host: nas\n    group: media\n    type: fan\n"
                "    restart: true\n"
            ),
            "group 'media' of the host nas",
        ),
        (
            TEXT,
            ["a", "--group", "a", "--alert", "leak"],
            "  a:\n    name: A\n    host: nas\n    alert: leak\n",
            "group 'a' of the host nas",
        ),
        ("groups:\n", ["x"], "  x:\n    name: X\n    host: nas\n", "group 'x' of the host nas"),
    ],
    ids=["same id", "other id", "id given twice", "first group"],
)
def test_a_group_of_another_host_is_written_and_shown(
    file: Path, text: str, words: list[str], lines: str, what: str
) -> None:
    file.write_text(HOSTS_TEXT + text)
    code, output, errors = run("add", "--config", file, "--host", "nas", *words)
    assert code == 0, errors
    assert file.read_text() == HOSTS_TEXT + text + lines
    assert what in output.splitlines()[-2]


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (
            ["x", "--host", "nap"],
            64,
            "no host 'nap'; the hosts are nas, pi; to add it, run `sudo hkswitch host",
        ),
        (["x", "--host", "A B"], 64, "is not the name of a host"),
        (["door", "--host", "nas"], 64, "there is one with this id"),
        (["x", "--host", "nas", "--group", "media"], 78, "is group 'media' of the host nas, as is 'door'"),
        (["x", "--host", "nas", "--group", "A B"], 64, "is not a group id"),
        (["--host", "nas"], 64, "--host takes one id, and no units or containers"),
        (["x", "y", "--host", "nas"], 64, "--host takes one id, and no units or containers"),
        (["x", "--host", "nas", "--id", "y"], 64, "--host takes one id, and no units or containers"),
        (["x", "--host", "nas", "--container", "db"], 64, "--host takes one id"),
        (["x", "--group", "y"], 64, "--group applies only with --host"),
    ],
)
def test_what_cannot_be_a_group_of_a_host_changes_nothing(
    file: Path, words: list[str], code: int, reason: str
) -> None:
    file.write_text(text := HOSTS_TEXT + TEXT + OF_NAS)
    ended, output, errors = run("add", "--config", file, *words)
    assert (ended, output) == (code, ""), errors
    assert reason in errors
    assert file.read_text() == text


def test_without_hosts_the_command_that_adds_one_is_named(file: Path) -> None:
    code, _, errors = run("add", "--config", file, "x", "--host", "nas")
    assert code == 64
    assert "no host 'nas'; to add it, run `sudo hkswitch host add nas DESTINATION`" in errors


NO_GROUP: Final = "the configuration of the host nas has no group 'media'"


@pytest.mark.parametrize(
    ("state", "why", "host", "said"),
    [
        (GroupState.ON, "", HostReport("nas", "nas.lan", 1_800_000_000), "nas-media is on.\n"),
        (GroupState.OFF, "", HostReport("nas", "nas.lan", 1_800_000_000), "nas-media is off.\n"),
        (
            None,
            "the host nas is not connected (ssh: denied)",
            HostReport("nas", "nas.lan", problem="that host refuses the key; REMEDY (ssh: denied)"),
            "not connected: that host refuses the key; REMEDY (ssh: denied); run `sudo hkswitch host",
        ),
        (
            None,
            NO_GROUP,
            HostReport("nas", "nas.lan", 1_800_000_000, problem=NO_GROUP),
            f"{NO_GROUP}; add it there, or correct `group` here",
        ),
    ],
    ids=["on", "off", "away", "no such group there"],
)
def test_the_first_state_of_a_group_of_another_host_is_printed_or_why_there_is_none(  # noqa: PLR0917
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    state: GroupState | None,
    why: str,
    host: HostReport,
    said: str,
) -> None:
    place = Elsewhere(RemoteHost("nas", "nas.lan"), "media")
    group = Group("nas-media", "Media", elsewhere=place)
    unknown = GroupReport(group.id, "Media", None, 0, {}, why="not connected", host="nas", group="media")
    reports = iter([Report(None, (unknown,), (HostReport("nas", "nas.lan", problem="it is starting"),))])
    last = Report(None, (unknown._replace(state=state, why=why),), (host,))
    monkeypatch.setattr(client, "ask_report", lambda _: next(reports, last))
    monkeypatch.setattr(add_remote, "STATE_WITHIN_SECONDS", 0.2)
    add_remote.say_state(group)
    shown = capsys.readouterr()
    assert said in (shown.out if state else shown.err)
    assert not (shown.err if state else shown.out)


def test_a_dangerous_unit_is_added_with_a_warning(file: Path) -> None:
    code, _, errors = run("add", "--config", file, "ssh")
    assert code == 0
    assert f"{file}:8:13: warning: groups.ssh.units[0]: ssh.service: stopping it can lock you out" in errors


def test_groups_are_removed_and_what_that_costs_is_said(file: Path) -> None:
    code, output, errors = run("remove", "--config", file, "web", "web")
    assert (code, errors) == (0, "")
    assert file.read_text() == "# mine\ngroups:\n  files: {units: [smbd]}\n"
    assert "-    units: [nginx]  # the web" in output.splitlines()
    assert output.splitlines()[-3:] == [
        (
            "After the reload, the Home app forgets the accessory, with its room, scenes and automations; "
            "adding the group again does not restore them."
        ),
        "Removed web.",
        "Not applied: hkswitch reads /etc/hkswitch/config.yaml.",
    ]


def test_what_the_removal_of_several_groups_costs_is_said_of_all_of_them(file: Path) -> None:
    file.write_text(TEXT + MEDIA)
    code, output, errors = run("remove", "--dry-run", "--config", file, "web", "media")
    assert (code, errors) == (0, "")
    assert output.endswith(
        "forgets the accessories, with their rooms, scenes and automations; adding the groups again does not "
        "restore them.\n"
    )


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["wbe"], 64, "there is no group 'wbe'; did you mean web?"),
        (["web", "none"], 64, "there is no group 'none'; the groups are web, files"),
        (["web", "files"], 64, "cannot remove group 'files', the last one"),
        (["--dry-run", "web"], 0, ""),
    ],
)
def test_a_refused_removal_changes_nothing(file: Path, words: list[str], code: int, reason: str) -> None:
    ended, _, errors = run("remove", "--config", file, *words)
    assert (ended, reason in errors, file.read_text()) == (code, True, TEXT)


@pytest.mark.parametrize("command", [("add", "x"), ("remove", "web")])
def test_a_config_with_mistakes_is_left_alone(file: Path, command: tuple[str, str]) -> None:
    file.write_text("groups:\n  web: {unit: [x]}\n")
    code, output, errors = run(command[0], "--config", file, command[1])
    assert (code, output) == (78, "")
    assert errors.startswith(f"{file}:2:9: groups.web.unit: unknown key 'unit'")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("File Server", "file-server"),
        ("Joe's TV", "joes-tv"),
        ("Café 2", "cafe-2"),
        ("--", ""),
        ("Медиа", ""),
        ("x" * 70, "x" * 64),
    ],
)
def test_an_id_is_made_of_a_name(text: str, found: str) -> None:
    assert id_of(text) == found


def test_a_unit_without_a_letter_needs_an_id() -> None:
    with pytest.raises(Failure, match="use `--id`"):
        new_group([":.service"], None, None, AccessoryType.SWITCH, restart=False)


def test_escape_sequences_in_the_file_do_not_reach_the_terminal() -> None:
    original = Original(Path("x"), b"a\x1b[31m\n")
    assert list(config_change.change(original, b"a\x1b[31m\nb\n"))[3:] == [" a?[31m", "+b"]


# Edit


def edited(
    file: Path,
    script: str,
    answers: str = "",
    variable: str = "EDITOR",
    output: int | IO[bytes] = subprocess.PIPE,
) -> tuple[int, str, str]:
    """Edit with a shell script, which gets the copy's path as its last argument."""
    copies = file.with_name("copies")
    copies.mkdir(exist_ok=True)
    editor = file.with_name("my editor")
    editor.write_text(f"#!/bin/sh\n{script}\n")
    editor.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name not in edit.VARIABLES}
    done = subprocess.run(
        [HKSWITCH, "edit", "--config", file],
        env={**environment, variable: f"'{editor}' --wait", "TMPDIR": str(copies)},
        input=answers,
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=20,
    )
    assert {each.name for each in file.parent.iterdir()} <= {"config.yaml", "my editor", "seen", "copies"}
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("variable", edit.VARIABLES)
def test_a_valid_copy_replaces_the_config(file: Path, variable: str) -> None:
    folder = file.parent
    looking = f'[ "$1" = --wait ]; stat -c "%a %u" "$2" "${{2%/*}}" >{folder}/seen'
    script = f'{looking}; printf "  x: {{units: [x]}}\\n" >>"$2"'
    code, output, errors = edited(file, script, variable=variable)
    assert (code, errors) == (0, "")
    assert file.read_text() == TEXT + "  x: {units: [x]}\n"
    assert "+  x: {units: [x]}" in output.splitlines()
    uid = os.geteuid()
    assert (folder / "seen").read_text() == f"600 {uid}\n700 {uid}\n"


MISTAKE: Final = 'echo "  y: {unit: [x]}" >>"$2"'
PROBLEM: Final = "config.yaml:6:7: groups.y.unit: unknown key 'unit'; did you mean 'units'?"


@pytest.mark.parametrize(
    ("script", "answers", "code", "said"),
    [
        ("", "", 0, ""),
        (MISTAKE, "", 78, PROBLEM),
        (MISTAKE, "d\n", 78, "the changes were discarded"),
        (MISTAKE, "what\ndiscard\n", 78, "[E]dit again, or [d]iscard the changes? The configuration"),
        (MISTAKE, "e\nd\n", 78, "groups.y: duplicate key 'y'"),
        ('echo x >"$2"; exit 3', "", 69, "failed (status 3); nothing was changed"),
        ('rm "$2"', "", 78, "No such file or directory"),
        (
            f'if [ -e {{0}}/seen ]; then sed -i s/unit:/units:/ "$2"; else touch {{0}}/seen; {MISTAKE}; fi',
            "\n",
            0,
            "",
        ),
    ],
)
def test_a_copy_with_mistakes_is_never_installed(
    file: Path, script: str, answers: str, code: int, said: str
) -> None:
    ended, _, errors = edited(file, script.replace("{0}", str(file.parent)), answers)
    assert (ended, said in errors) == (code, True), errors
    if "sed" in script:
        assert file.read_text() == TEXT + "  y: {units: [x]}\n"
    else:
        assert file.read_text() == TEXT


def test_a_config_with_mistakes_can_be_repaired(file: Path) -> None:
    file.write_text("groups: {web: {unit: [x]}}\n")
    assert edited(file, 'sed -i s/unit:/units:/ "$2"')[0] == 0
    assert file.read_text() == "groups: {web: {units: [x]}}\n"


CHANGE: Final = 'echo "# better" >>"$2"'


@pytest.mark.parametrize(
    ("script", "answers", "code", "said"),
    [
        (f"echo '# by hand' >>{{0}}/config.yaml; {CHANGE}", "", 73, "it changed in the meantime; try again"),
        (f"{CHANGE}; rm {{0}}/config.yaml", "", 78, "No such file or directory"),
        (f"{CHANGE}; ln {{0}}/config.yaml {{0}}/seen", "", 73, "it has 2 hard links"),
        (f"{CHANGE}; kill -9 $$", "", 69, "failed (status -9); nothing was changed"),
        (f"{CHANGE}; exit 1", "", 69, "failed (status 1); nothing was changed"),
        (f"{CHANGE}; {MISTAKE}", "what\n", 78, "standard input ended without an answer; nothing was changed"),
        (f"{CHANGE}; {MISTAKE}", "d\n", 78, None),
        ("exit 1", "", 69, None),
        (f"{CHANGE}; echo '# better' >>{{0}}/config.yaml; exit 1", "", 69, None),
    ],
)
def test_a_changed_copy_is_lost_only_if_it_is_discarded(
    file: Path, script: str, answers: str, code: int, said: str | None
) -> None:
    folder = file.parent
    ended, _, errors = edited(file, script.replace("{0}", str(folder)), answers)
    assert ended == code
    if said is None:
        assert "your version" not in errors
        assert not [*(folder / "copies").iterdir()]
        return
    assert said in errors
    kept = Path(errors.strip().rpartition("; your version is in ")[2])
    assert kept.read_text().startswith(f"{TEXT}# better\n")
    assert [stat.S_IMODE(each.stat().st_mode) for each in (kept, kept.parent)] == [0o600, 0o700]
    assert not file.exists() or "# better" not in file.read_text()


def test_a_change_that_cannot_be_shown_is_kept(file: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        code, _, errors = edited(file, CHANGE, output=full)
    assert code == 74
    assert Path(errors.strip().rpartition("; your version is in ")[2]).read_text() == f"{TEXT}# better\n"
    assert file.read_text() == TEXT


def test_a_copy_that_was_not_written_is_not_the_users(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = file.with_name("copies")
    copies.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))

    def full(copy: Path, data: bytes) -> None:
        with copy.open("wb") as opened:
            opened.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        edit.edit_copy(Original(file, TEXT.encode()), ["/bin/true"])
    assert not [*copies.iterdir()]


def test_two_cannot_edit_at_once(file: Path) -> None:
    code, _, errors = edited(
        file, f"{HKSWITCH} remove web --config {file} 2>{file.parent}/seen; echo $? >>{file.parent}/seen"
    )
    assert (code, errors) == (0, "")
    assert (file.parent / "seen").read_text() == (
        f"hkswitch: cannot change {file}: another hkswitch command is changing it; "
        "wait until that has ended\n69\n"
    )
    assert file.read_text() == TEXT


@pytest.mark.parametrize(
    ("environment", "command"),
    [
        ({"SUDO_EDITOR": "a -x", "VISUAL": "b", "EDITOR": "c"}, ["a", "-x"]),
        ({"SUDO_EDITOR": "", "VISUAL": "b", "EDITOR": "c"}, ["b"]),
        ({"EDITOR": "'my editor' --wait"}, ["my editor", "--wait"]),
        ({"EDITOR": "'"}, None),
    ],
)
def test_the_editor_is_the_one_that_sudoedit_would_take(
    environment: dict[str, str], command: list[str] | None
) -> None:
    if command is None:
        with pytest.raises(Failure, match="cannot read EDITOR"):
            edit.editor(environment)
    else:
        assert edit.editor(environment) == command


def test_without_an_editor_it_is_said_how_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edit, "SEARCH_PATH", "/nonexistent")
    with pytest.raises(Failure, match="sudo EDITOR=nano hkswitch edit"):
        edit.editor({})
    with pytest.raises(Failure, match="cannot start the editor /nonexistent"):
        edit._run(["/nonexistent"], Path("x"))


# Applying


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ("", "reloaded\n"),
        ("a note", "reloaded: a note\n"),
        (client.NoDaemon(Path("/run/hkswitch/control.sock")), f"{config_change.NOT_RUNNING}\n"),
        (Failure("not reloaded: no", Exit.CONFIG), None),
    ],
)
def test_the_daemon_applies_the_services_config_or_the_next_command_is_named(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outcome: str | Failure,
    said: str | None,
) -> None:
    def reload(_: Path) -> str:
        if isinstance(outcome, Failure):
            raise outcome
        return outcome

    monkeypatch.setattr(config_change, "request_reload", reload)
    if said is None:
        with pytest.raises(
            Failure, match=r"config.yaml is changed, but not applied: not reloaded: no$"
        ) as caught:
            config_change.apply_change(config_file.DEFAULT)
        assert caught.value.exit_code is Exit.CONFIG
    else:
        config_change.apply_change(config_file.DEFAULT)
        assert capsys.readouterr().out == said


# Logs


def test_the_log_of_a_group_is_that_of_its_units_and_of_the_helper() -> None:
    unit = list(matches_of("web", ("nginx.service",)))
    assert unit == [
        *("_SYSTEMD_UNIT=nginx.service", "+", "_PID=1", "UNIT=nginx.service", "+", "_UID=0"),
        *("COREDUMP_UNIT=nginx.service", "MESSAGE_ID=fc2e22bc6ee647b6b90729ab34a250b1", "+", "_UID=0"),
        *("OBJECT_SYSTEMD_UNIT=nginx.service", "+", "_UID=0", "_SYSTEMD_SLICE=system-serviceswitch.slice"),
        *("_TRANSPORT=journal", "SYSLOG_IDENTIFIER=serviceswitch", "HKSWITCH_GROUP=web"),
    ]
    commands = list(matches_of("vm", ()))
    assert "_SYSTEMD_UNIT=hkswitch-command-vm.service" in commands
    assert "_SYSTEMD_UNIT=hkswitch-command-vm:31.service" in commands
