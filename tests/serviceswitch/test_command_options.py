"""Commands of groups with a user, a detached, an assumed or no state, in the helper with a fake systemd."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

import pytest

from hkswitch.model.errors import Failure
from hkswitch.model.group import MOST_DETACHED, Commands, Group
from hkswitch.model.unit_state import Action, JobResult, UnitResult
from hkswitch.serviceswitch import trusted_files
from hkswitch.serviceswitch.execute import DETACHED_SECONDS, ActionGuard, Executor
from hkswitch.serviceswitch.policy import TrustedConfig
from hkswitch.serviceswitch.trusted_files import NoSuchUser, Untrusted
from hkswitch.systemd.command import Command, Ended, ServiceResult
from hkswitch.systemd.transient import properties_of
from tests.support.waiting import eventually

TV: Final = "/home/pi/tv"
SUCCESS, FAILED = Ended(ServiceResult.SUCCESS, 0), Ended(ServiceResult.EXIT_CODE, 3)


class ScriptedSystemd:
    """A systemd whose commands end as scripted; without a script, they run on."""

    def __init__(self, **ends: Ended) -> None:
        self.ends = ends
        self.ran: list[Command] = []
        self.abandoned: list[Command] = []
        self.is_held = asyncio.Event()
        self.answers_after_seconds = 0.0
        self.held: set[str] = set()
        """The units that have processes."""

    async def execute(self, command: Command, begin: Callable[[], None], begun: Callable[[], None]) -> Ended:
        if command.unit in self.held:
            await asyncio.sleep(self.answers_after_seconds)
            return Ended(ServiceResult.EXISTS, 0, "it is already running")
        begin()
        begun()
        self.ran.append(command)
        if (end := self.ends.get(command.argv[-1])) is not None:
            return end
        try:
            await self.is_held.wait()
        except asyncio.CancelledError:
            self.abandoned.append(command)
            raise
        return SUCCESS


def group(commands: Commands, **options: Any) -> Group:  # noqa: ANN401 -- fields of a group
    return Group("tv", "TV", commands=commands, **{"timeout_seconds": 1, **options})


START, STOP = (TV, "start"), (TV, "stop")
BOTH: Final = Commands(START, STOP)
WITH_STATUS: Final = Commands(START, STOP, (TV, "status"))


def executor(systemd: ScriptedSystemd) -> Executor:
    return Executor(systemd, systemd, lambda _group, _program: None)  # type: ignore[arg-type] # only commands are run


async def do(
    systemd: ScriptedSystemd, action: Action, of: Group, guard: ActionGuard | None = None
) -> UnitResult:
    carried_out = executor(systemd)
    guarded = (guard,) if guard else ()
    [result] = await carried_out.do(action, of, carried_out.probe, 0, *guarded)
    return result


# Without a status


@pytest.mark.parametrize(
    ("end", "result"),
    [
        (SUCCESS, UnitResult(TV, JobResult.DONE)),
        (FAILED, UnitResult(TV, JobResult.FAILED, "exited with status 3")),
        (Ended(ServiceResult.TIMEOUT, 15), UnitResult(TV, JobResult.FAILED, "took longer than 1 s")),
        (
            Ended(ServiceResult.LOST, 0),
            UnitResult(TV, JobResult.FAILED, "ended while systemd was unreachable"),
        ),
        (
            Ended(ServiceResult.EXIT_CODE, 217),
            UnitResult(TV, JobResult.FAILED, "exited with status 217"),
        ),
    ],
)
@pytest.mark.parametrize("option", ["assume_state", "momentary"])
async def test_without_a_status_the_end_of_the_command_decides(
    end: Ended, result: UnitResult, option: str
) -> None:
    systemd = ScriptedSystemd(start=end)
    commands = BOTH if option == "assume_state" else Commands(START)
    assert await do(systemd, Action.START, group(commands, **{option: True})) == result
    assert [command.argv for command in systemd.ran] == [START]


@pytest.mark.parametrize(
    ("status", "detail"),
    [
        (217, "exited with status 217, like systemd if it cannot take on the user"),
        (200, "exited with status 200, like systemd if it cannot enter its directory"),
        (203, "could not be executed"),
        (201, "exited with status 201"),
    ],
)
async def test_with_a_user_a_status_of_systemds_is_explained(status: int, detail: str) -> None:
    systemd = ScriptedSystemd(start=Ended(ServiceResult.EXIT_CODE, status))
    result = await do(systemd, Action.START, group(BOTH, assume_state=True, user="pi"))
    assert result == UnitResult(TV, JobResult.FAILED, detail)


async def test_without_a_status_a_command_runs_each_time() -> None:
    systemd = ScriptedSystemd(start=SUCCESS)
    for _ in range(3):
        await do(systemd, Action.START, group(BOTH, assume_state=True))
    assert [command.argv for command in systemd.ran] == [START] * 3


# Detached


async def test_a_detached_command_that_takes_long_is_no_failure_without_a_status() -> None:
    systemd = ScriptedSystemd()
    result = await do(systemd, Action.START, group(BOTH, assume_state=True, detach=True))
    assert result == UnitResult(TV, JobResult.DONE)
    assert systemd.abandoned == systemd.ran


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (SUCCESS, UnitResult(TV, JobResult.DONE)),
        (
            Ended(ServiceResult.EXIT_CODE, 1),
            UnitResult(
                TV,
                JobResult.FAILED,
                "is still running, but after 1 s the state is still off: /home/pi/tv exited with status 1",
            ),
        ),
    ],
    ids=["on", "off"],
)
async def test_with_a_status_that_decides_while_the_command_goes_on(
    status: Ended, result: UnitResult
) -> None:
    systemd = ScriptedSystemd(status=Ended(ServiceResult.EXIT_CODE, 1))
    running = asyncio.ensure_future(do(systemd, Action.START, group(WITH_STATUS, detach=True)))
    await eventually(lambda: START in [command.argv for command in systemd.ran])
    systemd.ends["status"] = status
    assert await running == result
    assert [command.argv for command in systemd.abandoned] == [START]


@pytest.mark.parametrize("end", [SUCCESS, FAILED], ids=["success", "failure"])
async def test_a_detached_command_that_ends_in_time_is_judged_by_its_end(end: Ended) -> None:
    systemd = ScriptedSystemd(start=end)
    result = await do(systemd, Action.START, group(BOTH, assume_state=True, detach=True))
    assert result.job.success is (end is SUCCESS)
    assert systemd.abandoned == []


async def test_a_newer_request_does_not_wait_for_a_detached_command() -> None:
    systemd, is_superseded = ScriptedSystemd(), asyncio.Event()
    guard = ActionGuard(lambda: None, is_superseded.is_set)
    slow = group(BOTH, assume_state=True, detach=True, timeout_seconds=3600)
    running = asyncio.ensure_future(do(systemd, Action.START, slow, guard))
    await eventually(lambda: systemd.ran)
    is_superseded.set()
    assert await running == UnitResult(TV, JobResult.DONE)


async def test_an_action_that_is_no_longer_wanted_runs_nothing() -> None:
    def begin() -> None:
        raise Failure("overruled")

    systemd = ScriptedSystemd()
    with pytest.raises(Failure, match="overruled"):
        await do(
            systemd,
            Action.START,
            group(BOTH, assume_state=True, detach=True),
            ActionGuard(begin, lambda: True),
        )
    assert systemd.ran == []


async def test_detached_commands_have_units_of_their_own_with_a_time_limit_and_probes_have_theirs() -> None:
    systemd = ScriptedSystemd(start=SUCCESS, stop=SUCCESS, status=FAILED)
    both = group(BOTH, assume_state=True, detach=True)
    for action in (Action.START, Action.STOP):
        await do(systemd, action, both)
        systemd.held.add(systemd.ran[-1].unit)
    await executor(systemd).probe(group(WITH_STATUS, detach=True))
    *actions, probe = systemd.ran
    assert [each.unit for each in actions] == [f"hkswitch-command-tv:{n}.service" for n in (0, 1)]
    assert [(each.timeout_seconds, each.detached) for each in actions] == [(DETACHED_SECONDS, True)] * 2
    assert (probe.timeout_seconds, probe.detached) == (1, False)


async def test_so_many_detached_commands_of_a_group_run_at_once_and_no_more() -> None:
    systemd = ScriptedSystemd(start=SUCCESS)
    both = group(BOTH, assume_state=True, detach=True)
    for _ in range(MOST_DETACHED):
        assert (await do(systemd, Action.START, both)).job is JobResult.DONE
        systemd.held.add(systemd.ran[-1].unit)
    why = f"was not run: {MOST_DETACHED} earlier commands of the group still have processes"
    assert await do(systemd, Action.START, both) == UnitResult(TV, JobResult.FAILED, why)
    systemd.held.pop()
    assert (await do(systemd, Action.START, both)).job is JobResult.DONE


async def test_a_detached_command_that_systemd_has_not_begun_is_waited_for() -> None:
    systemd = ScriptedSystemd()
    systemd.held, systemd.answers_after_seconds = {"hkswitch-command-tv:0.service"}, 1.5
    both = group(BOTH, assume_state=True, detach=True)
    assert (await do(systemd, Action.START, both)).job is JobResult.DONE
    assert [command.unit for command in systemd.ran] == ["hkswitch-command-tv:1.service"]


@pytest.mark.parametrize("action", [Action.START, Action.STOP])
async def test_a_detached_command_runs_whatever_the_status_says_while_another_may_change_it(
    action: Action,
) -> None:
    status = SUCCESS if action is Action.START else Ended(ServiceResult.EXIT_CODE, 1)
    systemd = ScriptedSystemd(start=SUCCESS, stop=SUCCESS, status=status)
    assert (await do(systemd, action, group(WITH_STATUS, detach=True))).job is JobResult.DONE
    assert systemd.ran[0].argv == (TV, action.value)


async def test_a_time_limit_of_more_than_that_is_kept() -> None:
    systemd = ScriptedSystemd(start=SUCCESS)
    await do(systemd, Action.START, group(BOTH, assume_state=True, detach=True, timeout_seconds=3600))
    assert systemd.ran[0].timeout_seconds == 3600


# Properties


def properties(**options: Any) -> dict[str, Any]:  # noqa: ANN401 -- fields of a command
    made = properties_of(Command("a.service", START, {"LANG": "C.UTF-8"}, 10, **options), ["FOREIGN"])
    return {name: value for name, (_, value) in made}


def test_a_user_has_its_home_and_its_variables_and_may_gain_privileges() -> None:
    made = properties(user="pi")
    assert (made["User"], made["WorkingDirectory"]) == ("pi", "~")
    assert not {"USER", "LOGNAME", "HOME", "SHELL"} & {*made["UnsetEnvironment"]}
    assert {"FOREIGN", "TERM"} <= {*made["UnsetEnvironment"]}
    assert not {"NoNewPrivileges", "Group", "SupplementaryGroups", "PAMName"} & made.keys()


def test_another_directory_takes_the_place_of_the_home() -> None:
    assert properties(user="pi", directory="/srv")["WorkingDirectory"] == "/srv"


def test_root_has_none_of_these() -> None:
    made = properties()
    assert not {"User", "WorkingDirectory", "KillMode"} & made.keys()
    assert {"USER", "LOGNAME", "HOME", "SHELL"} <= {*made["UnsetEnvironment"]}


def test_only_the_process_of_a_detached_command_is_ended() -> None:
    assert properties(detached=True)["KillMode"] == "process"


# Trust


def refuse(program: str) -> None:
    raise Untrusted(program, "others can write it")


def trusted(is_root: Callable[[str], bool]) -> TrustedConfig:
    return TrustedConfig("config.yaml", lambda _: b"", refuse, is_root=is_root)


def test_what_another_user_runs_is_not_examined() -> None:
    trusted(lambda _: False).examine(group(BOTH, user="pi"), TV)


@pytest.mark.parametrize("user", ["", "root", "toor"])
def test_what_root_runs_under_any_name_is_examined(user: str) -> None:
    with pytest.raises(Untrusted, match="others can write it"):
        trusted(lambda name: name == "toor").examine(group(BOTH, user=user), TV)


def test_the_daemons_user_is_refused_under_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = {"hkswitch": 990, "other": 990, "pi": 1000}
    monkeypatch.setattr("pwd.getpwnam", lambda name: SimpleNamespace(pw_uid=ids[name]))
    trusted(trusted_files.is_root).examine(group(BOTH, user="pi"), TV)
    with pytest.raises(Untrusted, match="the user other is not trusted: the daemon runs as this user"):
        trusted(trusted_files.is_root).examine(group(BOTH, user="other"), TV)


def test_a_user_that_does_not_exist_is_a_denial_with_the_reason() -> None:
    assert not trusted_files.is_root("nobody")
    assert trusted_files.is_root("root")
    with pytest.raises(NoSuchUser, match=r"^there is no user 'no-such-user'; create the user, or change"):
        trusted(trusted_files.is_root).examine(group(BOTH, user="no-such-user"), TV)
