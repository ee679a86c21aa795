"""What the doctor and `check` say of rules that cannot measure, and of alert commands that cannot run."""

import asyncio
import os
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Self

import pytest

from hkswitch.cli import check
from hkswitch.containers import connection
from hkswitch.doctor import alert_command, measuring
from hkswitch.doctor.context import Context
from hkswitch.doctor.finding import Check, fail
from hkswitch.model.config import Config, parse
from hkswitch.model.errors import BusUnavailable, Failure
from hkswitch.model.group import AlertSensor, Engine
from hkswitch.model.unit_state import ActiveState, LoadState, UnitState
from hkswitch.systemd.units import Systemd
from hkswitch.unit_names import systemctl

ID: Final = "0123456789abcdef" * 4
UP: Final = UnitState(LoadState.LOADED, ActiveState.ACTIVE, "running")
OFF: Final = UnitState(LoadState.LOADED, ActiveState.INACTIVE, "dead")

MEMORY: Final = "{memory_mib: 900}"
BOTH: Final = "{cpu_percent: 65, memory_mib: 900}"
CPU: Final = "{cpu_percent: 65}"
AT_END: Final = "add `cgroup_enable=memory cgroup_memory=1` to the end of"
NO_MEMORY: Final = f"the kernel's memory controller is off; {AT_END} the kernel's command line, and reboot"
ONLY: Final = "only services and slices count"
OF_DOCKER: Final = (
    'Docker uses the cgroup driver cgroupfs; set `"exec-opts": ["native.cgroupdriver=systemd"]` in '
    "/etc/docker/daemon.json, and run `sudo systemctl restart docker.service`"
)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine with systemd and cgroup v2 that counts memory, in a folder that all users can open."""
    with TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        put_in_place(folder, monkeypatch)
        yield folder


def put_in_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "cgroup").mkdir()
    (folder / "cgroup" / "cgroup.controllers").write_text("cpuset cpu io memory hugetlb pids\n")
    monkeypatch.setattr(measuring, "CGROUPS", folder / "cgroup")
    monkeypatch.setattr(measuring, "RUNNING", folder)
    monkeypatch.setattr(measuring, "BOOT_PARAMETERS", (folder / "firmware", folder / "cmdline.txt"))
    monkeypatch.setattr(systemctl, "RUNNING", folder / "none")
    monkeypatch.setattr(alert_command, "HIDDEN_FOLDERS", (str(folder / "home"),))


def without_memory(machine: Path) -> None:
    (machine / "cgroup" / "cgroup.controllers").write_text("cpuset cpu io memory_recursiveprot pids\n")


def context_of(config: Config | Failure, user_id: int = 4242) -> Context:
    gone = BusUnavailable("gone")
    return Context(Path("/c.yaml"), Path("/nowhere"), user_id, None, config, gone, gone, gone)


def config_of(groups: str, top: str = "") -> Config:
    return parse(f"{top}groups: {{{groups}}}".encode(), "c.yaml")


def warned(capsys: pytest.CaptureFixture[str], groups: str, top: str = "") -> list[str]:
    """The warnings of `check`, without the file."""
    text = f"{top}groups: {{{groups}}}"
    check.print_warnings(text.encode(), parse(text.encode(), "c.yaml"), Path("c.yaml"))
    return [line.removeprefix("c.yaml:") for line in capsys.readouterr().err.splitlines()]


# Rules


@pytest.mark.parametrize(
    ("made", "fault"),
    [
        ("", None),
        ("rm cgroup.controllers", "does not use cgroup v2; add `systemd.unified_cgroup_hierarchy=1` to"),
        ("echo cpu io pids >cgroup.controllers", f"is off; {AT_END} the kernel's command line, and reboot"),
        (
            "echo memory_x >cgroup.controllers; touch ../firmware",
            f"{AT_END} the line in MACHINE/firmware, and",
        ),
        ("echo >cgroup.controllers; touch ../cmdline.txt", f"{AT_END} the line in MACHINE/cmdline.txt, and"),
        ("echo >cgroup.controllers; touch ../cmdline.txt ../firmware", "the line in MACHINE/firmware, and"),
    ],
)
def test_a_kernel_that_counts_no_memory_is_found_with_the_remedy_for_its_boot_loader(
    machine: Path, made: str, fault: str | None
) -> None:
    assert os.system(f"cd {machine}/cgroup && {{ {made or ':'}; }}") == 0
    found = measuring.kernel_fault()
    assert (found is None) == (fault is None)
    assert (fault or "").replace("MACHINE", str(machine)) in "; ".join(found[1:] if found else ())


def test_where_systemd_does_not_run_nothing_is_said_of_memory(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_memory(machine)
    monkeypatch.setattr(measuring, "RUNNING", machine / "none")
    assert measuring.kernel_fault() is None


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        (f"web: {{units: [a], restart_when: {CPU}}}", []),
        ("web: {units: [a]}", []),
        (
            f"web: {{units: [a], restart_when: {MEMORY}}}",
            [f"1:55: warning: groups.web.restart_when.memory_mib: cannot be measured: {NO_MEMORY}"],
        ),
        (
            f"web: {{units: [srv.mount, a, b.slice, c.socket], restart_when: {CPU}}}",
            [
                f"1:24: warning: groups.web.units[0]: restart_when does not count srv.mount; {ONLY}",
                f"1:47: warning: groups.web.units[3]: restart_when does not count c.socket; {ONLY}",
            ],
        ),
        ("web: {units: [srv.mount, c.socket]}", []),
        (
            f"web: {{containers: [photos], restart_when: {CPU}}}",
            [f"1:52: warning: groups.web.restart_when: containers cannot be measured: {OF_DOCKER}"],
        ),
        (f"web: {{containers: [photos], engine: podman, restart_when: {CPU}}}", []),
        ("web: {containers: [photos]}", []),
    ],
)
def test_check_warns_about_limits_that_cannot_be_measured(
    machine: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    groups: str,
    said: list[str],
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    without_memory(machine)
    (machine / "cgroup" / "docker" / ID).mkdir(parents=True)
    assert warned(capsys, groups) == said


def test_without_cgroup_v2_no_limit_can_be_measured(
    machine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine / "cgroup" / "cgroup.controllers").unlink()
    why = "this machine does not use cgroup v2; add `systemd.unified_cgroup_hierarchy=1` to the kernel's"
    assert [
        line.partition(why)[0] for line in warned(capsys, f"web: {{units: [a], restart_when: {BOTH}}}")
    ] == [
        "1:56: warning: groups.web.restart_when.cpu_percent: cannot be measured: ",
        "1:72: warning: groups.web.restart_when.memory_mib: cannot be measured: ",
    ]
    groups = config_of(
        f"web: {{units: [a], restart_when: {BOTH}}}, b: {{units: [b], restart_when: {CPU}}}"
    ).groups
    said = str(measuring.measured(groups, measuring.kernel_fault(), []))
    assert said.startswith(f"the rule of web, b cannot measure cpu_percent and memory_mib: {why}")


@pytest.mark.parametrize(
    ("folder", "outside"),
    [
        (f"docker/{ID}", [Engine.DOCKER]),
        (f"libpod_parent/libpod-{ID}", [Engine.PODMAN]),
        (f"system.slice/docker-{ID}.scope", []),
        (f"machine.slice/libpod-{ID}.scope", []),
        (f"docker/{ID[1:]}", []),
        ("docker/buildkit", []),
        (f"libpod_parent/conmon-{ID}", []),
    ],
)
def test_a_container_without_a_scope_of_systemd_is_seen_by_any_user(
    machine: Path, folder: str, outside: list[Engine]
) -> None:
    (machine / "cgroup" / folder).mkdir(parents=True)
    rule = f"restart_when: {CPU}"
    config = config_of(f"a: {{containers: [photos], {rule}}}, b: {{compose: album, engine: podman, {rule}}}")
    assert measuring.engines_outside(config.groups) == outside
    assert measuring.engines_outside(config_of("a: {containers: [photos]}").groups) == []


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (Failure("no"), "skip: there is no valid configuration"),
        (config_of("web: {units: [a]}"), "ok: no group has a rule"),
        (
            config_of(f"web: {{units: [a, b.mount], restart_when: {CPU}}}, db: {{units: [c]}}"),
            "ok: systemd counts the resources of 1 group with a rule, but not those of b.mount (group web)",
        ),
        (
            config_of(
                f"web: {{units: [a], restart_when: {MEMORY}}}, db: {{units: [c], restart_when: {CPU}}}"
            ),
            f"FAIL: the rule of web cannot measure memory_mib: {NO_MEMORY}",
        ),
        (
            config_of(f"web: {{containers: [photos], restart_when: {CPU}}}"),
            f"FAIL: the rule of web cannot measure containers: {OF_DOCKER}",
        ),
        (
            config_of(f"web: {{containers: [photos], restart_when: {MEMORY}}}"),
            (
                "FAIL: the rule of web cannot measure memory_mib: the kernel's memory controller is off; "
                "the rule of web cannot measure containers: Docker uses the cgroup driver cgroupfs; "
                "add `cgroup_enable="
            ),
        ),
    ],
)
async def test_the_doctor_judges_what_rules_can_measure(
    machine: Path, config: Config | Failure, said: str
) -> None:
    without_memory(machine)
    (machine / "cgroup" / "docker" / ID).mkdir(parents=True)
    [found] = await measuring.rules(context_of(config))
    assert found.check is Check.RULES
    assert f"{found.verdict}: {found}".startswith(said)


@pytest.mark.parametrize(
    ("user_id", "docker", "body", "fails"),
    [
        (0, UP, b'{"CgroupDriver": "cgroupfs", "CgroupVersion": "2"}', True),
        (0, UP, b'{"CgroupDriver": "systemd"}', False),
        (0, UP, b"[1]", False),
        (0, UP, b"not JSON", False),
        (0, OFF, b'{"CgroupDriver": "cgroupfs"}', False),
        (0, None, b'{"CgroupDriver": "cgroupfs"}', False),
        (4242, UP, b'{"CgroupDriver": "cgroupfs"}', False),
    ],
)
async def test_root_asks_a_running_engine_for_its_cgroup_driver(  # noqa: PLR0917
    machine: Path,
    monkeypatch: pytest.MonkeyPatch,
    user_id: int,
    docker: UnitState | None,
    body: bytes,
    fails: bool,
) -> None:
    class Bus:
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...

        async def states(self, units: list[str]) -> dict[str, UnitState]:
            return dict.fromkeys(units, docker or OFF)

    async def connect() -> Bus:
        if docker is None:
            raise BusUnavailable("gone")
        return Bus()

    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + body)
        writer.close()

    monkeypatch.setattr(Systemd, "connect", connect)
    monkeypatch.setattr(connection, "SOCKETS", dict.fromkeys(Engine, str(machine / "engine.sock")))
    config = config_of(f"web: {{containers: [photos], restart_when: {CPU}}}")
    async with await asyncio.start_unix_server(answer, machine / "engine.sock"):
        [found] = await measuring.rules(context_of(config, user_id))
    assert str(found).endswith(OF_DOCKER) is fails
    assert [line.split()[:2] for line in asked] == [[b"GET", b"/info"]] * (user_id == 0 and docker is UP)


# The alert command


@pytest.mark.parametrize(
    ("made", "command", "fault"),
    [
        ("echo '#!/bin/sh' >notify; chmod 755 notify", "MACHINE/notify", None),
        ("cp /bin/true notify; chmod 711 notify", "MACHINE/notify", None),
        (":", "/bin/sh -c 'exit 1'", None),
        ("touch script", "/bin/sh MACHINE/script", None),
        (":", "MACHINE/notify", "MACHINE/notify does not exist; create it, or correct `alert_command`"),
        ("mkdir notify", "MACHINE/notify", "MACHINE/notify is not a file; correct"),
        (
            "echo '#!/bin/sh' >notify; chmod 750 notify",
            "MACHINE/notify",
            "rights, but other users cannot run MACHINE/notify; run `sudo chmod o+rx MACHINE/notify`",
        ),
        (
            "echo '#!/bin/sh' >notify; chmod 754 notify",
            "MACHINE/notify",
            "other users cannot run MACHINE/notify; run `sudo chmod o+rx MACHINE/notify`",
        ),
        (
            "echo '#!/bin/sh' >notify; chmod 751 notify",
            "MACHINE/notify",
            "other users cannot read MACHINE/notify; run `sudo chmod o+rx MACHINE/notify`",
        ),
        (
            "cp /bin/true notify; chmod 744 notify",
            "MACHINE/notify",
            "other users cannot run MACHINE/notify; run `sudo chmod o+x MACHINE/notify`",
        ),
        (
            "mkdir -m 750 in; cp /bin/true in/notify",
            "MACHINE/in/notify",
            "other users cannot open MACHINE/in; run `sudo chmod o+x MACHINE/in`",
        ),
        (
            "mkdir -m 755 home; cp /bin/true home/notify",
            "MACHINE/home/notify",
            "cannot see MACHINE/home/notify: its sandbox hides MACHINE/home; move it to /usr/local/bin",
        ),
        (
            "mkdir home; cp /bin/true home/notify; ln -s home/notify notify",
            "MACHINE/notify",
            "cannot see MACHINE/notify: its sandbox hides MACHINE/home",
        ),
        (
            "echo '#! MACHINE/home/python -u' >notify; chmod 755 notify",
            "MACHINE/notify",
            "cannot see MACHINE/home/python: its sandbox hides MACHINE/home",
        ),
        (
            "echo '#!MACHINE/gone' >notify; chmod 755 notify",
            "MACHINE/notify",
            "MACHINE/gone does not exist",
        ),
        ("echo '#!MACHINE/notify' >notify; chmod 755 notify", "MACHINE/notify", None),
        (":", "/bin/sh MACHINE/home/script", "cannot see MACHINE/home/script: its sandbox hides"),
    ],
)
def test_an_alert_command_that_cannot_run_is_found(
    machine: Path, monkeypatch: pytest.MonkeyPatch, made: str, command: str, fault: str | None
) -> None:
    made = made.replace("MACHINE", str(machine))
    assert os.system(f"umask 022; cd {machine} && {{ {made}; }}") == 0
    program, *arguments = command.replace("MACHINE", str(machine)).split()
    found = alert_command.why_cannot_run((program, *arguments))
    assert (found is None) == (fault is None), found
    assert (fault or "").replace("MACHINE", str(machine)) in "; ".join(found or ())


ALERT: Final = "web: {units: [a], alert: contact}"
NONE: Final = "web: {units: [a]}"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (Failure("no"), "skip: there is no valid configuration"),
        (config_of(NONE), "ok: no group has an alert"),
        (config_of(ALERT), "ok: 1 group with a sensor"),
        (
            config_of(ALERT, "alert_command: [/bin/true]\n"),
            "ok: 1 group with a sensor; each trouble runs /bin/true",
        ),
        (
            config_of(NONE, "alert_command: [/bin/true]\n"),
            "warn: `alert_command` never runs: no group has `alert`; add `alert: contact` to a group with",
        ),
        (
            config_of(ALERT, "alert_command: [/nonexistent/x]\n"),
            "FAIL: /nonexistent/x does not exist; create it, or correct `alert_command`",
        ),
    ],
)
async def test_the_doctor_judges_the_alert_command(config: Config | Failure, said: str) -> None:
    [found] = await alert_command.alerts(context_of(config))
    assert found.check is Check.ALERTS
    assert f"{found.verdict}: {found}".startswith(said)


@pytest.mark.parametrize(
    ("groups", "top", "said"),
    [
        (ALERT, "alert_command: [/bin/true]\n", ""),
        (ALERT, "", ""),
        (NONE, "", ""),
        (
            NONE,
            "alert_command: [/bin/true]\n",
            "never runs: no group has 'alert'; add `alert: contact` to a group with `sudo hkswitch edit`",
        ),
        (
            ALERT,
            "alert_command: [/nonexistent/x, y]\n",
            "/nonexistent/x does not exist; create it, or correct `alert_command`",
        ),
    ],
)
def test_check_warns_about_an_alert_command_that_never_runs_or_cannot(
    capsys: pytest.CaptureFixture[str], groups: str, top: str, said: str
) -> None:
    found = warned(capsys, groups, top)
    assert found == ([f"1:16: warning: alert_command: {said}"] if said else [])


def test_a_script_that_others_wrote_cannot_draw_on_roots_terminal(
    machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = machine / "notify"
    script.write_bytes(b"#!/\x1b[2J\xff/x\x00y z\n")
    script.chmod(0o755)
    top = f"alert_command: [{script}]\n"
    [line] = warned(capsys, ALERT, top)
    assert line.endswith("/?[2J\ufffd/x does not exist; create it, or correct `alert_command`")
    fault = alert_command.why_cannot_run((str(script),))
    assert fault is not None
    assert str(fail(Check.ALERTS, *fault)).startswith("/?[2J")


def test_the_sensor_that_the_doctor_suggests_exists() -> None:
    assert re.findall(r"`alert: (\w+)`", alert_command.ADD_ALERT) == [AlertSensor.CONTACT]
