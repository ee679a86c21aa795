"""What the documents say of states, a full disk and a downgrade is so, and stands where a user looks."""

import re
import shutil
from pathlib import Path

import pytest

from hkswitch.cli import backup, render, reset, restore
from hkswitch.containers.answers import Container
from hkswitch.containers.members import Member, unavailable
from hkswitch.control import STATE_FOLDER
from hkswitch.hap import state_file, state_writer
from hkswitch.hap.state_file import BACKUP_NAME, FILE_NAME, StateTooNew
from hkswitch.hap.state_format import FORMAT_VERSION, USUAL_FORMAT_VERSION
from hkswitch.hap.stored_pairings import StoredPairings
from hkswitch.model.errors import Exit
from hkswitch.model.group import Group
from hkswitch.model.unit_state import ActiveState, GroupState, LoadState, ProbeResult, UnitState
from hkswitch.protocol.report import BridgeReport, GroupReport
from tests.support.accessory_database import RECORDED, bridge_of, pair

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MANUAL = (ROOT / "docs" / "man" / "hkswitch.1").read_text()
TROUBLES = dict(
    re.findall(
        r"^\| ([^|]+) \| ([^|]+) \|$", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE
    )
)

UP = UnitState(LoadState.LOADED, ActiveState.ACTIVE, "running")
DOWN = UnitState(LoadState.LOADED, ActiveState.INACTIVE, "dead")
STARTING = UnitState(LoadState.LOADED, ActiveState.ACTIVATING, "start")
STOPPING = UnitState(LoadState.LOADED, ActiveState.DEACTIVATING, "stop")
FAILED = UnitState(LoadState.LOADED, ActiveState.FAILED, "failed")
MASKED = UnitState(LoadState.MASKED, ActiveState.INACTIVE, "dead")


def trouble(symptom: str) -> str:
    """The advice of the only row whose symptom has these words."""
    [found] = [advice for seen, advice in TROUBLES.items() if symptom in seen]
    return str(found)


# States

EXPLAINED = dict(re.findall(r"^\.It Li (\w+)( 1/2)?$", MANUAL.partition("The states are:")[2], re.MULTILINE))


def test_the_manual_explains_every_state_and_no_other() -> None:
    assert EXPLAINED.keys() == {*(state.value for state in GroupState), "unknown"}
    assert [state for state, share in EXPLAINED.items() if share] == ["partial"]


@pytest.mark.parametrize(
    ("units", "verdict", "shown"),
    [
        ((UP, UP), ProbeResult.ON, "on"),
        ((UP, UP), None, "unknown"),
        ((UP, UP), ProbeResult.UNAVAILABLE, "unknown"),
        ((UP, UP), ProbeResult.OFF, "partial 2/2"),
        ((UP, DOWN), None, "partial 1/2"),
        ((DOWN, UP), ProbeResult.ON, "partial 1/2"),
        ((UP, STARTING), None, "starting"),
        ((STARTING, DOWN), None, "off"),
        ((UP, STOPPING), None, "stopping"),
        ((FAILED, STOPPING), None, "failed"),
        ((DOWN, DOWN), ProbeResult.ON, "off"),
        ((UP, MASKED), None, "missing"),
    ],
)
def test_a_state_is_shown_as_the_documents_explain_it(
    units: tuple[UnitState, UnitState], verdict: ProbeResult | None, shown: str
) -> None:
    states = dict(zip(("a.service", "b.service"), units, strict=True))
    group = Group("web", "Web", tuple(states), check=("/bin/true",))
    report = GroupReport("web", "Web", group.state(states, verdict), 0, states)
    assert render._state(report, 0) == shown
    assert shown.partition(" ")[0] in EXPLAINED
    if "partial" in shown:
        assert f".Li {shown}" in MANUAL or f".It Li {shown}" in MANUAL
        assert not group.state(states, verdict).on  # type: ignore[union-attr] # it is partial


CONTAINER = Container("0" * 64, "photos", "running")
PAUSED = CONTAINER._replace(name="ml", status="paused")
ENDED = CONTAINER._replace(name="db", status="exited", exit_status=137)
JOB = CONTAINER._replace(name="migrate", status="exited")
OF_CONTAINERS = (
    (ROOT / "docs" / "man" / "hkswitch.yaml.5")
    .read_text()
    .partition(".Sh CONTAINERS")[2]
    .partition("\n.El")[0]
)


@pytest.mark.parametrize(
    ("containers", "shown"),
    [
        ([CONTAINER], "on"),
        ([CONTAINER._replace(health="healthy")], "on"),
        ([CONTAINER._replace(health="starting")], "starting"),
        ([CONTAINER._replace(health="unhealthy")], "failed"),
        ([CONTAINER._replace(status="restarting")], "failed"),
        ([PAUSED], "partial"),
        ([CONTAINER, PAUSED], "partial"),
        ([CONTAINER, ENDED], "partial"),
        ([ENDED], "off"),
        ([CONTAINER, JOB], "on"),
        ([JOB], "off"),
        ([CONTAINER, JOB._replace(restarts_itself=True)], "partial"),
        ([], "missing"),
        ([CONTAINER._replace(unit="wiki.service")], "on"),  # a label of Docker's means no quadlet
        (None, "missing"),
    ],
)
def test_a_project_is_shown_as_the_manual_explains_it(containers: list[Container] | None, shown: str) -> None:
    group = Group("album", "Album", compose="immich")
    [member] = map(Member.of, group.contained)
    found = unavailable("docker.service is inactive") if containers is None else member.state(containers)
    state = group.state({member.full_name: found}, None)
    assert state is not None
    assert render._state(GroupReport("album", "Album", state, 0, {member.full_name: found}), 0) == shown
    assert re.findall(r"^\.It (\w+)$", OF_CONTAINERS, re.MULTILINE) == [
        *("starting", "failed", "partial", "off", "missing")
    ]


@pytest.mark.parametrize(
    "state", [found.value for found in (LoadState.UNAVAILABLE, ActiveState.PARTIAL, ActiveState.FAILING)]
)
def test_the_manual_has_the_words_that_only_containers_have(state: str) -> None:
    of_json = MANUAL.partition("values of\n.Li load\n")[2].partition("\n.Pp\n")[0]
    assert f".Li {state}\n" in of_json


def test_the_table_of_symptoms_explains_the_numbers() -> None:
    advice = trouble('"partial 1/2"')
    assert "One of the group's two units is active" in advice
    assert '"partial 2/2", the check fails' in advice


# A disk that takes nothing


def test_the_table_of_symptoms_says_where_a_full_disk_is_seen() -> None:
    advice = trouble("A new group is missing")
    bridge = BridgeReport("H", "1", 0, (), 1, (), storage="x")
    (shown,) = (
        str(line) for line in render._bridge_lines(bridge, 0, Path("/nowhere")) if "not written" in str(line)
    )
    assert f'"{shown.partition(" (")[0]}"' in advice
    for words in (
        "`hkswitch status`",
        "`sudo journalctl -u hkswitch`",
        f"`{STATE_FOLDER}`",
        "full or read-only",
    ):
        assert words in advice
    assert "every minute" in advice
    assert state_writer.WRITE_AGAIN_SECONDS == 60
    assert "every minute" in state_writer.REMEDY


# A downgrade


async def test_what_a_newer_version_wrote_is_refused_and_the_documents_say_what_to_do(tmp_path: Path) -> None:
    newer = StateTooNew(STATE_FOLDER / FILE_NAME, FORMAT_VERSION + 1)
    advice = trouble("After a downgrade")
    assert newer.exit_code is Exit.DAMAGED
    assert "a newer version of hkswitch wrote it" in str(newer)
    assert "`hkswitch restore`" in str(newer)
    assert "`sudo hkswitch restore FILE`" in advice
    assert "`sudo hkswitch reset`" in advice
    assert "Install the newer version again" in advice
    assert f"and exits with status {Exit.DAMAGED.value}: make a backup before an upgrade" in MANUAL
    assert "Before an upgrade, run `sudo hkswitch backup FILE`" in README


@pytest.mark.parametrize("helps", ["restore", "reset", None])
async def test_a_backup_from_before_the_upgrade_is_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, helps: str | None
) -> None:
    """A version is played whose format is lower by one: this one, and a folder of the next."""
    monkeypatch.setattr(restore, "still_answers", lambda _id, _port: "")
    group = Group("web", "Web", ("a.service",))
    pair(bridge_of(tmp_path / "state", group))
    config = tmp_path / "config.yaml"
    config.write_text("groups: {web: {units: [a]}}")
    backup.backup.callback(tmp_path / "b", config, tmp_path / "state")  # type: ignore[misc]
    for name in (FILE_NAME, BACKUP_NAME):
        newer = tmp_path / "state" / name
        newer.write_text(
            newer.read_text().replace(
                f'"version": {USUAL_FORMAT_VERSION}', f'"version": {FORMAT_VERSION + 1}'
            )
        )
    if helps == "restore":
        restore.restore.callback(tmp_path / "b", config, tmp_path / "state")  # type: ignore[misc]
        assert len(StoredPairings(tmp_path / "state").controllers()) == 1
        assert bridge_of(tmp_path / "state", group).paired
    elif helps == "reset":
        reset.reset.callback(tmp_path / "state", yes=True)  # type: ignore[misc]
        assert not bridge_of(tmp_path / "state", group).paired
    else:
        with pytest.raises(StateTooNew):
            state_file.read(tmp_path / "state")


async def test_an_upgrade_takes_what_the_older_format_had(tmp_path: Path) -> None:
    for name in (FILE_NAME, BACKUP_NAME):
        shutil.copy(RECORDED / "format-1.json", tmp_path / name)
    assert bridge_of(tmp_path, Group("web", "Web", ("a.service",))).paired
