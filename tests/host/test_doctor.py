"""`hkswitch doctor` on a real host: each point is made wrong by itself, and it alone is then said to be.

Every test compares with the same healthy lines, so a test that did not put things back fails the next one.
No host has a firewall: a stand-in on the PATH prints what nft does. None has a clock of its own either: what
is made wrong is that a service which keeps one right is there, and does not run.
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

from hkswitch.doctor.finding import Point
from hkswitch.hap.setup_code import Setup
from tests.host.conftest import PORT
from tests.host.machine import Host, eventually
from tests.support.controller import Controller

CONFIG: Final = "/etc/hkswitch/config.yaml"
RULE: Final = "/etc/sudoers.d/hkswitch"
DROP_INS: Final = "/run/systemd/system/hkswitch.service.d"
STATE: Final = "/var/lib/hkswitch"
SERVICE: Final = "hkswitch.service"

NFT: Final = """\
#!/bin/sh
cat <<'JSON'
{"nftables": [{"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
{"table": {"family": "inet", "name": "filter", "handle": 1}},
{"chain": {"family": "inet", "table": "filter", "name": "input", "handle": 1, "type": "filter",
"hook": "input", "prio": 0, "policy": "drop"}},
{"rule": {"family": "inet", "table": "filter", "chain": "input", "handle": 4, "expr": [{"match": {"op": "==",
"left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": 5353}}, {"accept": null}]}}]}
JSON
"""
"""What nft 1.0.6 prints where mDNS is let in, and nothing else."""

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
"""Has the daemon's mDNS sockets hear nothing any more, as behind a firewall."""

TOOLS: Final = {"nft": NFT, "serviceswitch": BROKEN, "make_deaf": MAKE_DEAF}
UNREAD: Final = "/run/systemd/system.control"
BY_HAND: Final = f"mkdir {UNREAD}; ln -s /usr/local/lib/systemd/system/httpd.service {UNREAD}/by-hand.service"
"""Of a folder that was not there when it last looked, systemd has read nothing."""
PLACE: Final = "install /root/tools"
RELOAD: Final = "systemctl reload hkswitch"
"""Otherwise the daemon notices within 5 s that the file is another one, and the doctor says that too."""

UNTIL_BROKEN: Final = "until hkswitch status | grep -q 'helper: not there (broken)'; do sleep 0.1; done"

UNTIL_AWAY: Final = "until hkswitch status | grep -q 'waiting for 10.77.0.1'; do sleep 0.1; done"
UNTIL_BACK: Final = "until hkswitch status | grep -q 'on 10.77.0.1, port'; do sleep 0.1; done"

NOT_STARTED: Final = "it was not started yet"
"""What the daemon says of its first helper before it has started one."""


def doctor(host: Host, user: str | None) -> CompletedProcess[str] | None:
    """What the doctor says; None while it is too early to ask about the helper."""
    done = host.run("hkswitch", "doctor", user=user, check=False)
    return None if NOT_STARTED in done.stdout else done


def examined(host: Host, user: str | None = None) -> dict[str, str]:
    """The line of each point, once a daemon that was just started has its helper or knows why not."""
    done = eventually(lambda: doctor(host, user))
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert done.returncode == (69 if any(line.startswith("WRONG") for line in lines) else 0)
    # It names the day, and the next one may begin meanwhile.
    return {line[6:].partition(":")[0]: re.sub(r"\b20\d\d-\d\d-\d\d\b", "today", line) for line in lines}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def healthy(daemon: Host, paired: Controller) -> AsyncIterator[dict[str, str]]:
    """What is said of a host on which all is well, and again at the end."""
    for name, text in TOOLS.items():
        daemon.write(f"/root/tools/{name}", text, 0o755)
    before = examined(daemon)
    yield before
    assert examined(daemon) == before
    daemon.run("rm", "-r", "/root/tools")


def changed(host: Host, healthy: dict[str, str]) -> dict[str, str]:
    """The lines that are not as they were."""
    return {point: line for point, line in examined(host).items() if line != healthy[point]}


def test_on_a_healthy_host_nothing_is_wrong(healthy: dict[str, str]) -> None:
    assert list(healthy) == list(Point)
    open_points = {point for point, line in healthy.items() if not line.startswith("ok    ")}
    assert open_points <= {"clock"}  # this host has none of its own
    assert healthy["configuration"] == "ok    configuration: /etc/hkswitch/config.yaml, 5 groups"


def test_for_programs_it_is_json(daemon: Host, healthy: dict[str, str]) -> None:
    shown = json.loads(daemon.run("hkswitch", "doctor", "--json").stdout)
    assert [point["point"] for point in shown["points"]] == list(Point)
    assert {point["verdict"] for point in shown["points"]} <= {"ok", "unknown"}


def test_others_see_what_they_may_and_are_told_what_needs_sudo(daemon: Host, healthy: dict[str, str]) -> None:
    seen = examined(daemon, user="nobody")
    different = {point: line for point, line in seen.items() if line != healthy[point]}
    assert set(different) == {"state", "sudoers"}
    for line in different.values():
        assert re.fullmatch(r"\?     .*: cannot tell: .*; run it with sudo", line)


def test_the_daemons_user_sees_all_that_root_does_but_what_the_bus_denies_it(
    daemon: Host, healthy: dict[str, str]
) -> None:
    seen = examined(daemon, user="hkswitch")
    different = {point: line for point, line in seen.items() if line != healthy[point]}
    assert set(different) == {"bus", "units", "service", "no-new-privileges"}
    for point in ("bus", "units"):
        why = "the bus denies the user hkswitch everything; run it with sudo"
        assert different[point].endswith(f"cannot tell: {why}")
    assert all(line.startswith("?") for line in different.values())


@dataclass(frozen=True)
class Fault:
    """What makes a point wrong, what puts it back, and what is then said."""

    point: Point
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
        Point.TRUST,
        f"chmod o+w {CONFIG}",
        f"chmod o-w {CONFIG}; {RELOAD}",
        "config.yaml is not trusted: other users can write it (mode 0646); try: chmod go-w",
    ),
    Fault(
        Point.USER,
        "groupmod --new-name=other hkswitch",
        "groupmod --new-name=hkswitch other",
        "there is no group hkswitch; `sudo systemd-sysusers hkswitch.conf` makes it",
    ),
    Fault(
        Point.STATE,
        f"chmod 0755 {STATE}",
        f"chmod 0700 {STATE}",
        f"{STATE} has mode 0755, and holds keys; `sudo chmod 0700 {STATE}`",
    ),
    Fault(
        Point.STATE,
        f"cp -a {STATE}/bridge.json /root/kept; echo >>{STATE}/bridge.json.new; mv {STATE}/bridge.json.new "
        f"{STATE}/bridge.json",
        f"mv /root/kept {STATE}/bridge.json",
        "its backup is used; look after the disk",
    ),
    Fault(
        Point.SUDOERS,
        f"mv {RULE} {RULE}.conf",
        f"mv {RULE}.conf {RULE}",
        f"sudo reads no file whose name has a dot .* `sudo mv {RULE}.conf {RULE}`",
    ),
    Fault(
        Point.SUDOERS,
        f"echo 'hkswitch ALL=(ALL) ALL' >{RULE}-later; chmod 0440 {RULE}-later",
        f"rm {RULE}-later",
        "a later rule has sudo ask hkswitch for a password; `sudo -l -U hkswitch`",
    ),
    Fault(
        Point.SUDOERS,
        f"echo 'Defaults setenv' >{RULE}-later; chmod 0440 {RULE}-later",
        f"rm {RULE}-later",
        "set variables of the helper's, by which it runs anything as root; add `Defaults!/usr/sbin/servicesw",
    ),
    Fault(
        Point.HELPER,
        f"mv /usr/sbin/serviceswitch /root/kept; {PLACE}/serviceswitch /usr/sbin/serviceswitch;"
        f"kill -KILL $(pgrep -x serviceswitch); {UNTIL_BROKEN}",
        f"mv /root/kept /usr/sbin/serviceswitch; systemctl restart {SERVICE}",
        "the daemon has no helper (broken); `journalctl -u hkswitch.service` says why",
    ),
    Fault(
        Point.UNITS,
        "systemctl mask --quiet --runtime libvirt-guests",
        "systemctl unmask --quiet --runtime libvirt-guests",
        "libvirt-guests.service of group vm-guests is masked; `sudo systemctl unmask` it",
    ),
    Fault(
        Point.UNITS,
        f"sed -i 's/units: .nginx./units: [ngnix]/' {CONFIG}; {RELOAD}",
        f"sed -i 's/units: .ngnix./units: [nginx]/' {CONFIG}; {RELOAD}",
        "ngnix.service of group real-web is not-found; did you mean nginx.service?",
    ),
    Fault(
        Point.UNITS,
        f"sed -i 's/units: .nginx./units: [by-hand]/' {CONFIG}; {BY_HAND}; {RELOAD}",
        f"sed -i 's/units: .by-hand./units: [nginx]/' {CONFIG}; rm -r {UNREAD}; {RELOAD}",
        f"by-hand.service of group real-web is not-found; systemd has not read {UNREAD}/by-hand.service yet: "
        "`sudo systemctl daemon-reload`",
    ),
    Fault(
        Point.CONFIGURATION,
        f"sed -i 's/units: .nginx./units: [dbus]/' {CONFIG}; {RELOAD}",
        f"sed -i 's/units: .dbus./units: [nginx]/' {CONFIG}; {RELOAD}",
        "dbus.service: stopping it cuts hkswitch and most other services off from systemd; unless you want",
    ),
    Fault(
        Point.PORT,
        f"sed -i 's/^bridge:/&\\n  port: 51827/' {CONFIG}; {RELOAD}",
        f"sed -i '/port: 51827/d' {CONFIG}; {RELOAD}",
        "the configuration says 51827, and the bridge serves on 51826; `sudo systemctl restart",
    ),
    Fault(
        Point.FIREWALL,
        f"{PLACE}/nft /usr/local/bin/nft",
        "rm /usr/local/bin/nft",
        "table inet filter, chain input drops 51826/tcp; `sudo nft insert rule inet filter input",
    ),
    Fault(
        Point.CLOCK,
        "ln -s /usr/local/lib/systemd/system/httpd.service /run/systemd/system/ntpsec.service;"
        "systemctl daemon-reload",
        "rm /run/systemd/system/ntpsec.service; systemctl daemon-reload",
        "and nothing keeps it right; `sudo timedatectl set-ntp true`",
    ),
    Fault(
        Point.MDNS,
        "python3 /root/tools/make_deaf $(systemctl show --property=MainPID --value hkswitch.service)",
        f"systemctl restart {SERVICE}",
        "nobody answers for the bridge on 10.77.0.1 within 3 s; let 5353/udp in and out",
    ),
)


@pytest.mark.parametrize("fault", ALONE, ids=lambda fault: f"{fault.point}: {fault.says[:40]}")
def test_a_point_that_is_wrong_is_said_and_no_other(
    daemon: Host, healthy: dict[str, str], fault: Fault
) -> None:
    with made(daemon, fault):
        says = changed(daemon, healthy)
    if fault.point is Point.TRUST:
        says.pop(Point.CONFIGURATION, None)  # what root does not believe is not in force, if that was noticed
    assert list(says) == [fault.point]
    word = "warn " if fault.point is Point.CONFIGURATION else "WRONG"
    assert re.match(rf"{word} {fault.point}: .*{literally(fault.says)}", says[fault.point]), says


def literally(says: str) -> str:
    """All but `.*`."""
    return ".*".join(map(re.escape, says.split(".*")))


WITH_OTHERS: Final = (
    (
        Fault(
            Point.CONFIGURATION, f"echo 'oops: 1' >>{CONFIG}", f"sed -i '/oops/d' {CONFIG}", "has 1 mistake"
        ),
        {"trust", "units", "network", "port", "mdns", "firewall"},
    ),
    (
        Fault(
            Point.NETWORK,
            f"ip link set lan0 down; {UNTIL_AWAY}",
            f"ip link set lan0 up; ip route replace default dev lan0; {UNTIL_BACK}",
            "no interface that is up has the address 10.77.0.1; bring lan0 up",
        ),
        {"port", "mdns"},
    ),
    (
        Fault(
            Point.SERVICE, f"systemctl stop {SERVICE}", f"systemctl start {SERVICE}", "does not run; `sudo"
        ),
        {"no-new-privileges", "port", "mdns"},
    ),
)


@pytest.mark.parametrize(("fault", "others"), WITH_OTHERS, ids=lambda row: str(getattr(row, "point", "")))
def test_what_depends_on_it_is_left_open_and_not_called_wrong(
    daemon: Host, healthy: dict[str, str], fault: Fault, others: set[str]
) -> None:
    with made(daemon, fault):
        says = changed(daemon, healthy)
    assert [point for point, line in says.items() if line.startswith("WRONG")] == [fault.point]
    assert re.match(rf"WRONG {fault.point}: .*{literally(fault.says)}", says[fault.point]), says
    assert set(says) <= {fault.point, *others}


def test_without_a_bus_the_helper_answers_and_the_units_are_left_open(
    daemon: Host, healthy: dict[str, str]
) -> None:
    stop = Fault(
        Point.BUS,
        "systemctl stop dbus.socket dbus.service",
        f"systemctl restart dbus.socket; systemctl restart {SERVICE}",
        "",
    )
    with made(daemon, stop):
        says = changed(daemon, healthy)
    assert "`sudo systemctl start dbus.socket`" in says.pop("bus")
    assert says.pop("units").startswith("?     ")
    assert set(says) <= {"clock"}


@pytest.mark.parametrize("option", ["NoNewPrivileges=yes", "ProtectClock=yes"])
def test_no_new_privileges_are_seen_in_the_daemon_and_in_its_unit_while_it_is_stopped(
    daemon: Host, healthy: dict[str, str], option: str
) -> None:
    """Whether an option implies it depends on systemd: then without the helper."""
    drop_in = Fault(
        Point.PRIVILEGES,
        f"mkdir {DROP_INS}; printf '[Service]\\n{option}\\n' >{DROP_INS}/x.conf;"
        f"systemctl daemon-reload; systemctl restart {SERVICE}",
        f"rm -r {DROP_INS}; systemctl daemon-reload; systemctl restart {SERVICE}",
        "",
    )
    with made(daemon, drop_in):
        says = changed(daemon, healthy)
        daemon.run("systemctl", "stop", SERVICE)
        stopped = changed(daemon, healthy)[Point.PRIVILEGES]
    named = f"{option} in {DROP_INS}/x.conf; remove it, `sudo systemctl daemon-reload` and restart"
    if option == "ProtectClock=yes" and Point.HELPER not in says:
        assert says == {}
        assert stopped == "ok    no-new-privileges: no option of the unit implies it with this systemd"
        return
    assert set(says) == {Point.PRIVILEGES, Point.HELPER}
    assert (
        f"it is set for the daemon, so that sudo cannot start the helper: {named}" in says[Point.PRIVILEGES]
    )
    assert f"sudo could not start the helper: {named}" in stopped


def test_a_stopped_daemons_port_and_helper_are_tried(daemon: Host, healthy: dict[str, str]) -> None:
    taker = f"import signal, socket; s = socket.create_server(('', {PORT})); signal.pause()"
    away = Fault(
        Point.PORT,
        f"systemctl stop {SERVICE}; mv {RULE} /root/kept",
        f"mv /root/kept {RULE}; systemctl stop taker; systemctl start {SERVICE}",
        "",
    )
    with made(daemon, away):
        daemon.run("systemd-run", "--quiet", "--unit=taker", "--collect", "python3", "-c", taker)
        eventually(lambda: f":{PORT}" in daemon.run("ss", "-lnt").stdout)
        says = changed(daemon, healthy)
    wrong = {point for point, line in says.items() if line.startswith("WRONG")}
    assert wrong == {Point.PORT, Point.SERVICE, Point.SUDOERS}
    assert re.search(r"process \d+ \(python3\) has 51826; stop that, or set bridge\.port", says[Point.PORT])
    assert f"there is no {RULE}; write this line into it" in says[Point.SUDOERS]
    assert Point.HELPER not in says  # root starts it, and no sudo is between them


# Diagnostics, while somebody is paired


def test_diagnostics_of_a_paired_bridge_hold_no_secret(daemon: Host, healthy: dict[str, str]) -> None:
    stored = json.loads(daemon.read(f"{STATE}/bridge.json"))
    accessory = stored["accessory"]
    setup = Setup(stored["setup"]["code"], stored["setup"]["id"])
    [(phone, phone_key)] = accessory["paired_clients"].items()
    planted = (
        f"code {setup.code} payload {setup.payload} key {phone_key} digits {setup.code.replace('-', '')}"
    )
    line = f"MESSAGE=planted {planted}\nOBJECT_SYSTEMD_UNIT={SERVICE}\n"
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
        assert "ok    configuration: /etc/hkswitch/config.yaml, 5 groups" in text
    assert "hkswitch.service - Apple Home switches" in said[None]


# The last one: it ends the pairing


async def test_a_bridge_that_nobody_is_paired_with_is_said(
    daemon: Host, healthy: dict[str, str], paired: Controller
) -> None:
    await paired.close()
    daemon.run("hkswitch", "unpair", "--all")
    says = changed(daemon, healthy)
    code = json.loads(daemon.run("hkswitch", "pair", "--json").stdout)["setup_code"]
    again = await Controller.pair(daemon.address, PORT, code)
    await again.close()
    assert says == {"paired": "WRONG paired: with nobody; `sudo hkswitch pair` shows the code to scan"}
