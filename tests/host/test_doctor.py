"""`hkswitch doctor` on a real host: one fault at a time is made, and only the check that it concerns fails.

Every test compares with the same healthy lines, so a test that did not undo its fault fails the next one.
The hosts have no firewall; test_firewalls.py has one with all of them. They have no clock of their own
either: the fault is a time synchronization service that is installed and not running.
"""

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from subprocess import CompletedProcess
from typing import Final

import pytest
import pytest_asyncio

from hkswitch.doctor.finding import IF_USED, Check
from hkswitch.hap.setup_code import Setup
from tests.host.conftest import PORT
from tests.host.machine import Host, eventually
from tests.support.controller import Controller

CONFIG: Final = "/etc/hkswitch/config.yaml"
RULE: Final = "/etc/sudoers.d/hkswitch"
DROP_INS: Final = "/run/systemd/system/hkswitch.service.d"
STATE: Final = "/var/lib/hkswitch"
SERVICE: Final = "hkswitch.service"

BROKEN: Final = "#!/bin/sh\necho broken >&2\n"

MAKE_DEAF: Final = """\
import ctypes, os, socket, struct, sys
libc, pid = ctypes.CDLL(None, use_errno=True), int(sys.argv[1])
process = os.pidfd_open(pid)
nothing = ctypes.create_string_buffer(struct.pack("@HBBI", 0x06, 0, 0, 0))  # a filter that passes 0 bytes
for name in os.listdir(f"/proc/{pid}/fd"):
    if os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
        descriptor = libc.syscall(438, process, int(name), 0)  # pidfd_getfd(2)
        assert descriptor >= 0, os.strerror(ctypes.get_errno())
        taken = socket.socket(fileno=descriptor)
        of_udp = taken.type == socket.SOCK_DGRAM and taken.family == socket.AF_INET
        if of_udp and taken.getsockname()[1] == 5353:
            taken.setsockopt(socket.SOL_SOCKET, 26, struct.pack("@HP", 1, ctypes.addressof(nothing)))
"""
"""Makes the daemon's mDNS sockets receive nothing any more, as behind a firewall."""

TOOLS: Final = {"serviceswitch": BROKEN, "make_deaf": MAKE_DEAF}
UNREAD: Final = "/run/systemd/system.control"
BY_HAND: Final = f"mkdir {UNREAD}; ln -s /usr/local/lib/systemd/system/httpd.service {UNREAD}/by-hand.service"
"""systemd has not read this folder, which did not exist at its last reload."""
PLACE: Final = "install /root/tools"
RELOAD: Final = "systemctl reload hkswitch"
"""Without a reload, the daemon notices the changed file within 5 s, and the doctor reports that too."""

UNTIL_BROKEN: Final = "until hkswitch status | grep -q 'helper: unavailable (broken)'; do sleep 0.1; done"

UNTIL_AWAY: Final = "until hkswitch status | grep -q 'waiting for 10.77.0.1'; do sleep 0.1; done"
UNTIL_BACK: Final = "until hkswitch status | grep -q 'on 10.77.0.1, port'; do sleep 0.1; done"

NOT_STARTED: Final = "it has not been started yet"
"""The daemon's status before it has started its first helper."""


def doctor(host: Host, user: str | None) -> CompletedProcess[str] | None:
    """Run the doctor; return None while it is too early to check the helper."""
    done = host.run("hkswitch", "doctor", user=user, check=False)
    return None if NOT_STARTED in done.stdout else done


def examined(host: Host, user: str | None = None) -> dict[str, str]:
    """The line of each check, once a daemon that was just started has its helper or knows why not."""
    done = eventually(lambda: doctor(host, user))
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert done.returncode == (69 if any(line.startswith("FAIL") for line in lines) else 0)
    # It names the day, and the next one may begin meanwhile.
    return {line.split()[1]: re.sub(r"\b20\d\d-\d\d-\d\d\b", "today", line) for line in lines}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def healthy(daemon: Host, paired: Controller) -> AsyncIterator[dict[str, str]]:
    """The doctor's lines on a healthy host; compared again in the end."""
    for name, text in TOOLS.items():
        daemon.write(f"/root/tools/{name}", text, 0o755)
    before = examined(daemon)
    yield before
    assert examined(daemon) == before
    daemon.run("rm", "-r", "/root/tools")


MADE = [check for check in Check if check not in IF_USED]
"""The checks of a machine without other hosts."""


def changed(host: Host, healthy: dict[str, str]) -> dict[str, str]:
    """The lines that are not as they were."""
    return {check: line for check, line in examined(host).items() if line != healthy[check]}


def test_on_a_healthy_host_every_check_is_ok(healthy: dict[str, str]) -> None:
    assert list(healthy) == MADE
    skipped = {check for check, line in healthy.items() if not line.startswith("ok ")}
    assert skipped <= {"clock"}  # this host has none of its own
    assert healthy["configuration"] == "ok      configuration   /etc/hkswitch/config.yaml (5 groups)"


def test_for_programs_it_is_json(daemon: Host, healthy: dict[str, str]) -> None:
    shown = json.loads(daemon.run("hkswitch", "doctor", "--json").stdout)
    assert [check["check"] for check in shown["checks"]] == MADE
    assert {check["verdict"] for check in shown["checks"]} <= {"ok", "skip"}


def test_other_users_see_what_they_may_and_what_needs_sudo(daemon: Host, healthy: dict[str, str]) -> None:
    seen = examined(daemon, user="nobody")
    different = {check: line for check, line in seen.items() if line != healthy[check]}
    assert set(different) == {"state", "sudo"}
    for line in different.values():
        assert re.fullmatch(r"skip    (state|sudo) +needs root; run `sudo hkswitch doctor`", line)


def test_the_daemons_user_sees_all_that_root_does_but_what_the_bus_denies_it(
    daemon: Host, healthy: dict[str, str]
) -> None:
    seen = examined(daemon, user="hkswitch")
    different = {check: line for check, line in seen.items() if line != healthy[check]}
    assert set(different) == {"bus", "units", "service", "privileges"}
    for check in ("bus", "units"):
        assert different[check].endswith("the bus denies every call by hkswitch; run `sudo hkswitch doctor`")
    assert all(line.startswith("skip ") for line in different.values())


@dataclass(frozen=True)
class Fault:
    """What makes a check fail, what undoes that, and what the doctor says meanwhile."""

    check: Check
    make: str
    mend: str
    says: str


@contextmanager
def made(host: Host, fault: Fault) -> Iterator[None]:
    with ExitStack() as put_back:
        put_back.callback(host.run, "sh", "-ec", fault.mend)
        host.run("sh", "-ec", fault.make)
        yield


ALONE: Final = (
    Fault(
        Check.TRUST,
        f"chmod o+w {CONFIG}",
        f"chmod o-w {CONFIG}; {RELOAD}",
        f"config.yaml is not trusted: other users can write it (mode 0646); run `sudo chmod go-w {CONFIG}`",
    ),
    Fault(
        Check.USER,
        "groupmod --new-name=other hkswitch",
        "groupmod --new-name=hkswitch other",
        "there is no group hkswitch; run `sudo systemd-sysusers hkswitch.conf`",
    ),
    Fault(
        Check.USER,
        "groupadd docker; usermod --append --groups=docker hkswitch",
        "groupdel docker",
        "so the daemon could become root; run `sudo gpasswd -d hkswitch docker` and",
    ),
    Fault(
        Check.STATE,
        f"chmod 0755 {STATE}",
        f"chmod 0700 {STATE}",
        f"{STATE} has mode 0755, but contains keys; run `sudo chmod 0700 {STATE}`",
    ),
    Fault(
        Check.STATE,
        f"cp -a {STATE}/bridge.json /root/kept; echo >>{STATE}/bridge.json.new; mv {STATE}/bridge.json.new "
        f"{STATE}/bridge.json",
        f"mv /root/kept {STATE}/bridge.json",
        "using its backup; check the disk",
    ),
    Fault(
        Check.SUDO,
        f"mv {RULE} {RULE}.conf",
        f"mv {RULE}.conf {RULE}",
        f"sudo ignores files whose name contains a dot .* `sudo mv {RULE}.conf {RULE}`",
    ),
    Fault(
        Check.SUDO,
        f"echo 'hkswitch ALL=(ALL) ALL' >{RULE}-later; chmod 0440 {RULE}-later",
        f"rm {RULE}-later",
        "a later rule makes sudo ask hkswitch for a password; `sudo -l -U hkswitch`",
    ),
    Fault(
        Check.SUDO,
        f"echo 'Defaults setenv' >{RULE}-later; chmod 0440 {RULE}-later",
        f"rm {RULE}-later",
        "environment variables, and so run anything as root; add `Defaults!/usr/sbin/serviceswitch !setenv`",
    ),
    Fault(
        Check.HELPER,
        f"mv /usr/sbin/serviceswitch /root/kept; {PLACE}/serviceswitch /usr/sbin/serviceswitch;"
        f"kill -KILL $(pgrep -x serviceswitch); {UNTIL_BROKEN}",
        f"mv /root/kept /usr/sbin/serviceswitch; systemctl restart {SERVICE}",
        "the daemon has no helper (broken); `sudo journalctl -u hkswitch.service` gives the reason",
    ),
    Fault(
        Check.UNITS,
        "systemctl mask --quiet --runtime libvirt-guests",
        "systemctl unmask --quiet --runtime libvirt-guests",
        "is masked; run `sudo systemctl unmask libvirt-guests.service`, or remove it from the configuration",
    ),
    Fault(
        Check.UNITS,
        f"sed -i 's/units: .nginx./units: [ngnix]/' {CONFIG}; {RELOAD}",
        f"sed -i 's/units: .ngnix./units: [nginx]/' {CONFIG}; {RELOAD}",
        "ngnix.service (group real-web) does not exist; did you mean nginx.service?",
    ),
    Fault(
        Check.UNITS,
        f"sed -i 's/units: .nginx./units: [by-hand]/' {CONFIG}; {BY_HAND}; {RELOAD}",
        f"sed -i 's/units: .by-hand./units: [nginx]/' {CONFIG}; rm -r {UNREAD}; {RELOAD}",
        f"by-hand.service (group real-web) does not exist; systemd has not read {UNREAD}/by-hand.service "
        "yet: run `sudo systemctl daemon-reload`",
    ),
    Fault(
        Check.RULES,
        f"sed -i 's/units: .nginx./&\\n    restart_when: {{memory_mib: 900}}/' {CONFIG}; {RELOAD}",
        f"sed -i '/restart_when/d' {CONFIG}; {RELOAD}",
        "the rule of real-web cannot measure memory_mib: the kernel's memory controller is off; add "
        "`cgroup_enable=memory cgroup_memory=1` to the end of the kernel's command line, and reboot",
    ),
    Fault(
        Check.ALERTS,
        f"sed -i 's/units: .nginx./&\\n    alert: contact/' {CONFIG};"
        f"sed -i '1i alert_command: [/root/notify]' {CONFIG}; {RELOAD}",
        f"sed -i '/alert/d' {CONFIG}; {RELOAD}",
        "the alert command cannot see /root/notify: its sandbox hides /root; move it to /usr/local/bin",
    ),
    Fault(
        Check.CONFIGURATION,
        f"sed -i 's/units: .nginx./units: [dbus]/' {CONFIG}; {RELOAD}",
        f"sed -i 's/units: .dbus./units: [nginx]/' {CONFIG}; {RELOAD}",
        "dbus.service: stopping it cuts hkswitch and most other services off from systemd; unless you want",
    ),
    Fault(
        Check.PORT,
        f"sed -i 's/^bridge:/&\\n  port: 51827/' {CONFIG}; {RELOAD}",
        f"sed -i '/port: 51827/d' {CONFIG}; {RELOAD}",
        "the configuration says 51827, but the bridge serves on 51826; run `sudo systemctl restart",
    ),
    Fault(
        Check.CLOCK,
        "ln -s /usr/local/lib/systemd/system/httpd.service /run/systemd/system/ntpsec.service;"
        "systemctl daemon-reload",
        "rm /run/systemd/system/ntpsec.service; systemctl daemon-reload",
        "and no time synchronization service is running; run `sudo timedatectl set-ntp true`",
    ),
    Fault(
        Check.MDNS,
        "python3 /root/tools/make_deaf $(systemctl show --property=MainPID --value hkswitch.service)",
        f"systemctl restart {SERVICE}",
        "the bridge did not answer mDNS on 10.77.0.1 within 3 s; allow 5353/udp in both directions",
    ),
)


@pytest.mark.parametrize("fault", ALONE, ids=lambda fault: f"{fault.check}: {fault.says[:40]}")
def test_a_fault_fails_its_own_check_and_no_other(
    daemon: Host, healthy: dict[str, str], fault: Fault
) -> None:
    with made(daemon, fault):
        # For a moment, the doctor may still hear an announcement of a bridge that was just paired.
        says = eventually(lambda: changed(daemon, healthy))
    if fault.check is Check.TRUST:
        says.pop(Check.CONFIGURATION, None)  # what root does not believe is not in force, if that was noticed
    assert list(says) == [fault.check]
    verdict = "warn" if fault.check is Check.CONFIGURATION else "FAIL"
    assert re.match(rf"{verdict} +{fault.check} +.*{literally(fault.says)}", says[fault.check]), says


def literally(says: str) -> str:
    """Escape everything but `.*`."""
    return ".*".join(map(re.escape, says.split(".*")))


WITH_OTHERS: Final = (
    (
        Fault(Check.CONFIGURATION, f"echo 'oops: 1' >>{CONFIG}", f"sed -i '/oops/d' {CONFIG}", "has 1 error"),
        {"trust", "units", "containers", "rules", "alerts", "network", "port", "mdns", "firewall"},
    ),
    (
        Fault(
            Check.NETWORK,
            f"ip link set lan0 down; {UNTIL_AWAY}",
            f"ip link set lan0 up; ip route replace default dev lan0; {UNTIL_BACK}",
            "no interface that is up has the address 10.77.0.1; bring lan0 up",
        ),
        {"port", "mdns"},
    ),
    (
        Fault(
            Check.SERVICE,
            f"systemctl enable --quiet {SERVICE}; systemctl stop {SERVICE}",
            f"systemctl disable --quiet {SERVICE}; systemctl start {SERVICE}",
            "is not running; run `sudo",
        ),
        {"privileges", "port", "mdns"},
    ),
)


@pytest.mark.parametrize(("fault", "others"), WITH_OTHERS, ids=lambda row: str(getattr(row, "check", "")))
def test_a_check_that_depends_on_a_failed_one_is_skipped_or_ok(
    daemon: Host, healthy: dict[str, str], fault: Fault, others: set[str]
) -> None:
    with made(daemon, fault):
        says = changed(daemon, healthy)
    assert [check for check, line in says.items() if line.startswith("FAIL")] == [fault.check]
    assert re.match(rf"FAIL +{fault.check} +.*{literally(fault.says)}", says[fault.check]), says
    assert set(says) <= {fault.check, *others}


def test_after_a_change_to_the_socket_only_a_restart_helps_and_is_advised(
    daemon: Host, healthy: dict[str, str]
) -> None:
    change = Fault(
        Check.CONFIGURATION,
        f"sed -i 's/^helper: sudo/helper: socket/' {CONFIG}; ! {RELOAD}",
        f"sed -i 's/^helper: socket/helper: sudo/' {CONFIG}; {RELOAD}",
        "but the current file has `helper: socket`; run `sudo systemctl restart hkswitch.service`",
    )
    with made(daemon, change):
        says = changed(daemon, healthy)
        denied = daemon.run("hkswitch", "start", "web", check=False)
    assert re.match(rf"FAIL +configuration +.*{literally(change.says)}", says["configuration"]), says
    assert denied.returncode == 69
    assert denied.stderr.endswith("run `sudo systemctl restart hkswitch`\n")


def test_a_daemon_that_was_never_enabled_has_a_step_left_and_no_fault(
    daemon: Host, healthy: dict[str, str]
) -> None:
    with made(daemon, Fault(Check.SERVICE, f"systemctl stop {SERVICE}", f"systemctl start {SERVICE}", "")):
        says = changed(daemon, healthy)
    started_by = f"run `sudo systemctl enable --now {SERVICE}`"
    assert says.pop("service") == f"todo    service         {SERVICE} is not enabled; {started_by}"
    assert {line.split()[0] for line in says.values()} <= {"ok", "skip"}


def test_without_a_bus_the_helper_responds_and_the_units_are_skipped(
    daemon: Host, healthy: dict[str, str]
) -> None:
    stop = Fault(
        Check.BUS,
        "systemctl stop dbus.socket dbus.service",
        f"systemctl restart dbus.socket; systemctl restart {SERVICE}",
        "",
    )
    with made(daemon, stop):
        says = changed(daemon, healthy)
    assert "`sudo systemctl start dbus.socket`" in says.pop("bus")
    assert says.pop("units").startswith("skip ")
    assert set(says) <= {"clock"}


@pytest.mark.parametrize("option", ["NoNewPrivileges=yes", "ProtectClock=yes"])
def test_no_new_privileges_are_seen_in_the_daemon_and_in_its_unit_while_it_is_stopped(
    daemon: Host, healthy: dict[str, str], option: str
) -> None:
    """Which options imply it depends on systemd's version; where they do, there is no helper."""
    drop_in = Fault(
        Check.PRIVILEGES,
        f"mkdir {DROP_INS}; printf '[Service]\\n{option}\\n' >{DROP_INS}/x.conf;"
        f"systemctl daemon-reload; systemctl restart {SERVICE}",
        f"rm -r {DROP_INS}; systemctl daemon-reload; systemctl restart {SERVICE}",
        "",
    )
    with made(daemon, drop_in):
        says = changed(daemon, healthy)
        daemon.run("systemctl", "stop", SERVICE)
        stopped = changed(daemon, healthy)[Check.PRIVILEGES]
    named = f"{option} in {DROP_INS}/x.conf; remove it, then run `sudo systemctl daemon-reload` and"
    if option == "ProtectClock=yes" and Check.HELPER not in says:
        assert says == {}
        said = "with this version of systemd, no unit setting enables NoNewPrivileges"
        assert stopped == f"ok      privileges      {said}"
        return
    assert set(says) == {Check.PRIVILEGES, Check.HELPER}
    assert (
        f"NoNewPrivileges is set for the daemon, so sudo cannot start the helper: {named}"
        in says[Check.PRIVILEGES]
    )
    assert f"sudo could not start the helper: {named}" in stopped


def test_a_stopped_daemons_port_and_helper_are_tried(daemon: Host, healthy: dict[str, str]) -> None:
    taker = f"import signal, socket; s = socket.create_server(('', {PORT})); signal.pause()"
    away = Fault(
        Check.PORT,
        f"systemctl enable --quiet {SERVICE}; systemctl stop {SERVICE}; mv {RULE} /root/kept",
        f"mv /root/kept {RULE}; systemctl stop taker; systemctl disable --quiet {SERVICE}; "
        f"systemctl start {SERVICE}",
        "",
    )
    with made(daemon, away):
        daemon.run("systemd-run", "--quiet", "--unit=taker", "--collect", "python3", "-c", taker)
        eventually(lambda: f":{PORT}" in daemon.run("ss", "-lnt").stdout)
        says = changed(daemon, healthy)
    failed = {check for check, line in says.items() if line.startswith("FAIL")}
    assert failed == {Check.PORT, Check.SERVICE, Check.SUDO}
    assert re.search(
        r"process \d+ \(python3\) uses 51826; stop it, or set another bridge\.port", says[Check.PORT]
    )
    assert f"{RULE} does not exist; create it with mode 0440 and this line" in says[Check.SUDO]
    assert Check.HELPER not in says  # root starts it, and no sudo is between them


# Diagnostics of a paired bridge


def test_diagnostics_of_a_paired_bridge_hold_no_secret(daemon: Host, healthy: dict[str, str]) -> None:
    stored = json.loads(daemon.read(f"{STATE}/bridge.json"))
    accessory = stored["accessory"]
    setup = Setup(stored["setup"]["code"], stored["setup"]["id"])
    [(phone, phone_key)] = accessory["paired_clients"].items()
    planted = (
        f"code {setup.code} payload {setup.payload} key {phone_key} digits {setup.code.replace('-', '')}"
    )
    line = f"MESSAGE=planted {planted}\nPRIORITY=6\nOBJECT_SYSTEMD_UNIT={SERVICE}\n"
    daemon.run("logger", "--journald", input=line)
    assert planted in daemon.journalctl()
    said = {
        user: daemon.run("hkswitch", "diagnostics", user=user).stdout for user in (None, "hkswitch", "nobody")
    }
    assert "planted " in said[None], "the journal line that is to be filtered"
    secrets = {
        *(setup.code, setup.code.replace("-", ""), setup.payload, phone, phone_key),
        *(accessory["private_key"], accessory["public_key"], accessory["client_uuid_to_bytes"][phone]),
    }
    for text in said.values():
        assert [secret for secret in secrets if secret.lower() in text.lower()] == []
        assert f"{phone[:8].upper()}..." in text
        assert "ok      configuration   /etc/hkswitch/config.yaml (5 groups)" in text
    assert "hkswitch.service - Apple Home switches" in said[None]


# This test comes last, as it ends the pairing


async def test_a_bridge_without_pairings_has_a_step_left_and_no_fault(
    daemon: Host, healthy: dict[str, str], paired: Controller
) -> None:
    await paired.close()
    daemon.run("hkswitch", "unpair", "--all")
    says = changed(daemon, healthy)
    code = json.loads(daemon.run("hkswitch", "pair", "--json").stdout)["setup_code"]
    again = await Controller.pair(daemon.address, PORT, code)
    await again.close()
    assert says == {"pairing": "todo    pairing         not paired yet; run `sudo hkswitch pair`"}
