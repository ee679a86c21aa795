"""What the doctor says of other hosts: through a real sshd on the loopback address, and by tables."""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from hkswitch import __version__
from hkswitch.backend.ssh_command import SSH, key_file, known_hosts_file
from hkswitch.doctor import bridges, checks, hosts
from hkswitch.doctor.context import Account as DaemonAccount
from hkswitch.doctor.context import Context
from hkswitch.doctor.finding import Check, Finding, Verdict, fail, ok, todo
from hkswitch.doctor.hosts import Known
from hkswitch.model.config import parse
from hkswitch.model.elsewhere import RemoteHost
from hkswitch.model.errors import Failure
from hkswitch.protocol.helper import HELPER_PROTOCOL
from hkswitch.protocol.host_report import HostReport
from hkswitch.remote import limits
from hkswitch.remote.trial import Account, TrialResult, try_host
from tests.support.ports import free_port
from tests.support.waiting import wait_until

NAS: Final = RemoteHost("nas", "nas.lan")
USED: Final = Known(NAS, {"nas-media": "media"})
UNUSED: Final = Known(NAS, {})
UP: Final = HostReport("nas", "nas.lan", 1_800_000_000, 0.4, "1.2.3")
AWAY: Final = HostReport("nas", "nas.lan", problem="the host does not respond; REMEDY (timed out)")
FINE: Final = TrialResult(
    version="1.2.3",
    missing="",
    connected_seconds=0.2,
    round_trip_ms=0.42,
    groups={"media": "t", "photos": "t"},
    config_problem="",
)


def judged(found: Finding, verdict: Verdict, what: str, advice: str) -> None:
    assert (found.check, found.verdict) == (Check.HOSTS, verdict), found
    assert what in found.what, found
    assert advice in found.advice, found


@pytest.mark.parametrize(
    ("known", "result", "verdict", "what", "advice"),
    [
        (USED, FINE, Verdict.OK, "nas: hkswitch 1.2.3, round trip 0.4 ms, 1 group", ""),
        (USED._replace(report=UP), FINE, Verdict.OK, "nas: hkswitch 1.2.3", ""),
        (UNUSED, FINE, Verdict.TODO, "nas: no group is on it", "run `sudo hkswitch add ID --host nas`"),
        (
            USED,
            FINE._replace(config_problem="config.yaml:1:1: wrong"),
            *(Verdict.FAIL, "rejects the configuration there (config.yaml:1:1: wrong)", "`hkswitch check`"),
        ),
        (
            USED,
            FINE._replace(groups={"photos": "t", "a": "t"}),
            *(Verdict.FAIL, "has no group media (nas-media here)", "its groups are a, photos"),
        ),
        (USED, FINE._replace(groups={}), Verdict.FAIL, "has no group media", "it has no groups"),
        (
            USED._replace(report=AWAY),
            FINE,
            *(Verdict.FAIL, "a test connection works, but the daemon is not connected (the host does not"),
            "run `sudo hkswitch reload`",
        ),
        (USED, FINE._replace(not_restarted=frozenset({"media"})), Verdict.OK, "nas: hkswitch 1.2.3", ""),
        (
            USED._replace(restarted=["nas-media"]),
            FINE._replace(not_restarted=frozenset({"media"})),
            *(
                Verdict.WARN,
                "nas: nas-media: its `restart` or `restart_when` has no effect",
                "the group media",
            ),
        ),
        (USED._replace(restarted=["nas-media"]), FINE, Verdict.OK, "nas: hkswitch 1.2.3", ""),
        (
            USED,
            FINE._replace(missing="it measures nothing"),
            *(Verdict.WARN, "hkswitch 1.2.3 there is another version: it measures nothing", "same version"),
        ),
        (USED, FINE._replace(clock_seconds=30), Verdict.OK, "nas: hkswitch 1.2.3", ""),
        (
            USED,
            FINE._replace(clock_seconds=31),
            *(Verdict.WARN, "its clock is 31 s ahead of the one here", "timedatectl set-ntp true"),
        ),
        (
            UNUSED,
            FINE._replace(clock_seconds=-3600),
            Verdict.WARN,
            "is 3600 s behind the one here",
            "set-ntp",
        ),
    ],
)
def test_a_host_that_answers_has_the_groups_or_a_remedy(
    known: Known, result: TrialResult, verdict: Verdict, what: str, advice: str
) -> None:
    judged(hosts.connected(known, result), verdict, what, advice)


@pytest.mark.parametrize(
    ("known", "verdict", "what", "advice"),
    [
        (USED, Verdict.SKIP, "needs root", "run `sudo hkswitch doctor`"),
        (USED._replace(report=UP), Verdict.OK, "nas: connected, hkswitch 1.2.3 there", ""),
        (UNUSED._replace(report=HostReport("nas", "nas.lan")), Verdict.TODO, "no group is on it", "add ID"),
        (USED._replace(report=AWAY), Verdict.FAIL, "nas: the host does not respond", "sudo hkswitch doctor"),
        (
            USED._replace(report=UP._replace(problem="the configuration of the host nas has no group 'x'")),
            *(Verdict.FAIL, "has no group 'x'", "sudo hkswitch doctor"),
        ),
    ],
)
def test_without_rights_the_daemons_report_counts(
    known: Known, verdict: Verdict, what: str, advice: str
) -> None:
    judged(hosts.reported(known), verdict, what, advice)


@pytest.mark.parametrize(
    ("why", "what", "advice"),
    [
        (
            "cannot connect to nas: no such identity: /etc/hkswitch/hosts/nas/id_ed25519",
            "nas: there is no key for that host (no such identity: /etc/hkswitch/hosts/nas/id_ed25519)",
            "run `sudo hkswitch host add nas nas.lan` again",
        ),
        (
            "hkswitch 9.0 there and 1.0 here are too different; upgrade the older one",
            "nas: hkswitch 9.0 there and 1.0 here are too different",
            "upgrade the older one",
        ),
        (
            "cannot connect to nas: it sent what no helper sends: hello; bye",
            "nas: it sent what no helper sends: hello; bye",
            "run `sudo hkswitch host test nas` again",
        ),
    ],
)
def test_what_is_not_reproduced_here_has_its_remedy(why: str, what: str, advice: str) -> None:
    judged(hosts.unreachable(USED, why), Verdict.FAIL, what, advice)
    judged(hosts.unreachable(UNUSED, why), Verdict.WARN, what, advice)


HOSTS_OF = "hosts: {{{}}}\ngroups: {{a: {{units: [a]}}}}\n"
TWO: Final = parse(HOSTS_OF.format("nas: {ssh: nas.lan}, pi: {ssh: pi.lan}").encode(), "config.yaml")
ENOUGH: Final = {"MemoryMax": str(288 * 2**20), "TasksMax": "72", "LimitNOFILE": "1056"}


@pytest.mark.parametrize(
    ("unit", "low"),
    [
        (ENOUGH, ""),
        (dict.fromkeys(ENOUGH, "infinity"), ""),
        ({}, ""),
        (ENOUGH | {"TasksMax": "71"}, "TasksMax of hkswitch.service is too low for 2 hosts"),
        (
            {"MemoryMax": str(256 * 2**20), "TasksMax": "64", "LimitNOFILE": "1024"},
            "MemoryMax, TasksMax, LimitNOFILE of hkswitch.service are too low for 2 hosts",
        ),
    ],
    ids=["enough", "none", "unknown", "one", "as without hosts"],
)
def test_the_daemons_limits_are_enough_for_its_hosts(unit: dict[str, str], low: str) -> None:
    found = hosts.limits_fault(unit, TWO)
    assert (found is not None) == bool(low)
    if found is not None:
        judged(found, Verdict.WARN, low, "run `sudo hkswitch host add nas nas.lan` again")


def test_the_limits_that_host_add_writes_are_enough() -> None:
    text = limits.text_for(2)
    written = dict(line.split("=") for line in text.splitlines() if "=" in line)
    in_bytes = str(int(written.pop("MemoryMax").removesuffix("M")) * 2**20)
    assert written | {"MemoryMax": in_bytes} == ENOUGH


KEY: Final = str(key_file("nas"))
KNOWN: Final = str(known_hosts_file("nas"))
DAEMON_ID: Final = 101
"""The daemon's user."""


@pytest.mark.parametrize(
    ("modes", "what", "advice"),
    [
        ({KEY: (DAEMON_ID, 0o400), KNOWN: (0, 0o644)}, "", ""),
        ({KEY: (0, 0o600), KNOWN: (0, 0o600)}, "", ""),
        ({KEY: (0, 0o640)}, f"other users can read {KEY}", f"sudo chown hkswitch:root {KEY}`"),
        (
            {KEY: (0, 0o644)},
            f"other users can read {KEY}",
            f"sudo chown hkswitch:root {KEY}` and `sudo chmod 0400",
        ),
        ({KEY: (DAEMON_ID, 0o660)}, f"other users than root can change {KEY}", "sudo chmod 0400"),
        ({KEY: (999, 0o600)}, f"other users than root can change {KEY}", f"sudo chown hkswitch:root {KEY}"),
        ({KNOWN: (DAEMON_ID, 0o644)}, f"can change {KNOWN}", f"chown root:root {KNOWN}`"),
        ({KNOWN: (0, 0o664)}, f"can change {KNOWN}", f"chown root:root {KNOWN}` and `sudo chmod 0644"),
    ],
)
def test_only_root_and_the_daemon_can_read_the_key_and_only_root_the_rest(
    modes: dict[str, tuple[int, int]], what: str, advice: str
) -> None:
    found = hosts.key_fault("nas", modes, DAEMON_ID)
    assert (found is not None) == bool(what)
    if found is not None:
        judged(found, Verdict.FAIL, what, advice)


@pytest.mark.parametrize(
    ("folder_mode", "key_mode", "is_daemons", "closed"),
    [
        (0o750, 0o400, True, ""),
        (0o755, 0o644, True, ""),
        (0o700, 0o400, True, "nas"),
        (0o740, 0o400, True, "nas"),
        (0o750, 0o240, True, "key"),
        (0o750, 0o400, False, "nas"),
    ],
)
def test_the_daemon_can_read_its_key(
    tmp_path: Path, folder_mode: int, key_mode: int, is_daemons: bool, closed: str
) -> None:
    folder, key = tmp_path / "nas", tmp_path / "nas/key"
    folder.mkdir()
    key.touch()
    for path, mode in ((key, key_mode), (folder, folder_mode)):
        path.chmod(mode)
    found = {str(path): path.stat() for path in (folder, key)}
    daemon = key.stat().st_uid, folder.stat().st_gid + (not is_daemons)
    fault = hosts.closed_fault("nas", found, daemon)
    assert (fault is not None) == bool(closed)
    if fault is not None:
        expected = {"nas": "0750", "key": "0400"}[closed]
        judged(fault, Verdict.FAIL, f"the daemon cannot read {tmp_path}", f"sudo chmod {expected} ")
        assert fault.what.endswith(closed)


@pytest.mark.parametrize(
    ("owner", "mode", "what"),
    [
        (0, 0o440, ""),
        (0, 0o444, "has mode 0444"),
        (0, 0o660, "has mode 0660"),
        (1000, 0o440, "is not owned by root"),
    ],
)
def test_a_file_that_lets_bridges_in_is_roots(owner: int, mode: int, what: str) -> None:
    fault = bridges.mode_fault(Path("/etc/sudoers.d/x"), owner, mode, 0o440)
    assert (fault is not None) == bool(what)
    if fault is not None:
        assert what in fault[0]
        assert fault[1].endswith("`sudo chmod 0440 /etc/sudoers.d/x`")


NOT_ENABLED: Final = todo(Check.SERVICE, "hkswitch.service is not enabled", "run X")
NOT_PAIRED: Final = todo(Check.PAIRING, "not paired yet", "run Y")
ALLOWED: Final = ok(Check.BRIDGES, "1 bridge allowed: homelab")


@pytest.mark.parametrize(
    ("findings", "left"),
    [
        ((NOT_ENABLED, ALLOWED, NOT_PAIRED), ["ok", "ok", "skip"]),
        ((NOT_ENABLED, NOT_PAIRED), ["todo", "todo"]),
        ((NOT_ENABLED, fail(Check.BRIDGES, "x", "y"), NOT_PAIRED), ["todo", "FAIL", "todo"]),
        ((ok(Check.SERVICE, "running"), ALLOWED, NOT_PAIRED), ["ok", "ok", "todo"]),
        ((fail(Check.SERVICE, "x", "y"), ALLOWED, NOT_PAIRED), ["FAIL", "ok", "todo"]),
    ],
)
def test_a_machine_for_other_bridges_needs_none_of_its_own(
    findings: tuple[Finding, ...], left: list[str]
) -> None:
    found = checks.for_other_bridges(findings)
    assert [finding.check for finding in found] == [finding.check for finding in findings]
    assert [finding.verdict for finding in found] == left


# Through a real sshd

DAEMON: Final = DaemonAccount("hkswitch", 4242, 4242)

HELPER: Final = """\
import json, sys, time
def say(kind, **keys): print(json.dumps({"type": kind, **keys}), flush=True)
now = {"unix_seconds": int(time.time()) + AHEAD} if AHEAD else {}
say("hello", version=VERSION, protocol=PROTOCOL, **now)
say("config", problem=PROBLEM)
for line in sys.stdin:
    asked = json.loads(line)
    if "ping" in asked: say("pong", id=asked["ping"])
    if "observe" in asked:
        for group in GROUPS: say("group", epoch=1, group=group, token="t", units=[], **TRAITS)
        say("complete", epoch=1)
"""


class OtherHost(NamedTuple):
    """A host that is this machine: sshd on a port of the loopback address, and the bridge's files for it."""

    folder: Path
    ssh: str
    sshd: "subprocess.Popen[bytes]"

    @property
    def settings(self) -> Path:
        return self.folder / "bridge"

    def serve(self, command: str) -> None:
        """Have the key's forced command be this one."""
        public = (self.settings / "hosts/nas/id_ed25519.pub").read_text()
        (self.folder / "authorized_keys").write_text(f'restrict,command="{command}" {public}')

    def helper(
        self,
        groups: tuple[str, ...] = ("media",),
        problem: str = "",
        protocol: int = HELPER_PROTOCOL,
        ahead_seconds: int = 0,
    ) -> None:
        """Have the forced command be a helper that tells these groups; without a time unless it differs."""
        values = {"VERSION": __version__, "PROTOCOL": protocol, "PROBLEM": problem, "GROUPS": groups}
        values["AHEAD"] = ahead_seconds
        traits = {"actions": ["start"], "traits": [], "timeout_seconds": 10}
        head = "".join(f"{name} = {value!r}\n" for name, value in {**values, "TRAITS": traits}.items())
        script = self.folder / "helper.py"
        script.write_text(head + HELPER)
        self.serve(f"exec {sys.executable} {script}")


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtherHost]:
    program = shutil.which("sshd", path="/usr/sbin:/usr/bin")
    if program is None or not os.access(SSH, os.X_OK):
        pytest.skip("needs sshd and ssh")
    folder, port = tmp_path_factory.mktemp("sshd"), free_port()
    ours = folder / "bridge/hosts/nas"
    ours.mkdir(parents=True)
    for file in (folder / "host_key", folder / "other_key", ours / "id_ed25519"):
        subprocess.run(
            ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "homelab", "-f", file), check=True
        )
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nPidFile none\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nUsePAM no\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nPermitRootLogin forced-commands-only\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    command = (program, "-D", "-e", "-f", folder / "config")
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        user = pwd.getpwuid(os.getuid()).pw_name
        host = OtherHost(folder, f"ssh://{user}@127.0.0.1:{port}", process)
        try:
            assert process.stderr is not None
            wait_until(lambda: b"listening" in process.stderr.readline())  # type: ignore[union-attr]
            yield host
        finally:
            process.kill()


@pytest.fixture
def other(sshd: OtherHost, monkeypatch: pytest.MonkeyPatch) -> OtherHost:
    """A host that is all right, and that this user can reach as the daemon's user would."""
    sshd.helper()
    trust(sshd, "host_key")
    monkeypatch.setattr(hosts, "try_host", partial(try_host, account=Account(), settings=sshd.settings))
    return sshd


def trust(host: OtherHost, key: str) -> None:
    """Accept a key as the host's."""
    kind, encoded, *_ = (host.folder / f"{key}.pub").read_text().split()
    known_hosts_file("nas", host.settings).write_text(f"nas {kind} {encoded}\n")


def empty(file: Path) -> None:
    file.write_text("")


def no_listener(host: OtherHost) -> RemoteHost:
    return RemoteHost("nas", host.ssh.rpartition(":")[0] + f":{free_port()}")


FAULTS: Final[dict[str, tuple[Callable[[OtherHost], RemoteHost | None], Verdict, str, str]]] = {
    "all right": (lambda _: None, Verdict.OK, f"nas: hkswitch {__version__}, round trip ", ""),
    "group unknown there": (
        lambda host: host.helper(groups=("photos",)),
        *(Verdict.FAIL, "has no group media (nas-media here)", "its groups are photos"),
    ),
    "configuration rejected there": (
        lambda host: host.helper(problem="config.yaml:1:1: wrong"),
        *(Verdict.FAIL, "rejects the configuration there (config.yaml:1:1: wrong)", "`hkswitch check`"),
    ),
    "older version there": (
        lambda host: host.helper(protocol=2),
        *(Verdict.WARN, "another version: it measures nothing", "install the same version there"),
    ),
    "far newer version there": (
        lambda host: host.helper(protocol=99),
        *(Verdict.FAIL, "are too different", "upgrade the older one"),
    ),
    "another time there": (
        lambda host: host.helper(ahead_seconds=-7200),
        *(Verdict.WARN, "nas: its clock is 7", "run `sudo timedatectl set-ntp true` where the time is wrong"),
    ),
    "refused key": (
        lambda host: empty(host.folder / "authorized_keys"),
        *(
            Verdict.FAIL,
            "the key was refused for another account than hkswitch-remote (",
            "leave out the user",
        ),
    ),
    "changed host key": (
        lambda host: trust(host, "other_key"),
        *(Verdict.FAIL, "the host has another key than the one that you accepted (", "host add nas ssh://"),
    ),
    "host key never accepted": (
        lambda host: empty(known_hosts_file("nas", host.settings)),
        *(Verdict.FAIL, "the key of the host was never accepted (", "run `sudo hkswitch host add nas ssh://"),
    ),
    "no sudo rule there": (
        lambda host: host.serve("echo 'sudo: a password is required' >&2; exit 1"),
        *(
            Verdict.FAIL,
            "sudo there has no rule that lets this bridge start the helper (sudo: a",
            "includedir",
        ),
    ),
    "not installed there": (
        lambda host: host.serve("PATH=/nowhere serviceswitch serve"),
        *(Verdict.FAIL, "hkswitch is not installed there (", "install it there"),
    ),
    "something else there": (
        lambda host: host.serve("echo Welcome to nas; cat"),
        *(Verdict.FAIL, "it sent what no helper sends: Welcome to nas", "run `sudo hkswitch host test nas`"),
    ),
    "escape sequences there": (
        lambda host: host.serve(r"printf '\033[2Jsudo: a password is required\n' >&2; exit 1"),
        *(Verdict.FAIL, "(?[2Jsudo: a password is required)", "includedir"),
    ),
    "not reachable": (
        no_listener,
        *(Verdict.FAIL, "no SSH server listens there (", "`sudo systemctl enable --now ssh` (Debian)"),
    ),
}


@pytest.mark.parametrize(("spoil", "verdict", "what", "advice"), FAULTS.values(), ids=FAULTS)
async def test_the_doctor_connects_as_the_daemon_does_and_tells_the_remedy(
    other: OtherHost,
    spoil: Callable[[OtherHost], RemoteHost | None],
    verdict: Verdict,
    what: str,
    advice: str,
) -> None:
    host = spoil(other) or RemoteHost("nas", other.ssh)
    [found] = await hosts.hosts(context_with(host))
    judged(found, verdict, what, advice)


def context_with(host: RemoteHost) -> Context:
    """The facts as the daemon's user sees them, with one host that runs the group nas-media."""
    text = f"hosts: {{nas: {{ssh: '{host.ssh}'}}}}\ngroups: {{nas-media: {{host: nas, group: media}}}}\n"
    gone, config = Failure("there is none"), parse(text.encode(), "config.yaml")
    nowhere = Path("/nowhere")
    return Context(nowhere, nowhere, DAEMON.user_id, DAEMON, config, gone, gone, gone)


async def test_hosts_are_tried_at_the_same_time(other: OtherHost) -> None:
    context = context_with(RemoteHost("nas", other.ssh))
    assert not isinstance(context.config, Failure)
    many = tuple(RemoteHost(f"h{number}", other.ssh) for number in range(3))
    found = await hosts.hosts(replace(context, config=replace(context.config, hosts=many)))
    assert [each.what.partition(":")[0] for each in found] == ["h0", "h1", "h2"]
    assert {each.verdict for each in found} == {Verdict.WARN}  # no group is on them
    assert all("never accepted" in each.what for each in found)


@pytest.mark.parametrize(
    ("file", "contents", "what"),
    [
        ("", "", ""),
        ("id_ed25519", None, "this bridge has no usable key for it"),
        ("id_ed25519", "damaged", "this bridge has no usable key for it"),
        ("id_ed25519.pub", None, "this bridge has no usable key for it"),
        ("known_hosts", None, "was never accepted, or is damaged"),
        ("known_hosts", "pi ssh-ed25519 AAAA\n", "was never accepted, or is damaged"),
    ],
)
def test_the_files_for_a_host_are_there_and_whole(
    other: OtherHost, tmp_path: Path, file: str, contents: str | None, what: str
) -> None:
    shutil.copytree(other.settings, tmp_path, dirs_exist_ok=True)
    if file:
        (tmp_path / "hosts/nas" / file).unlink()
    if contents:
        (tmp_path / "hosts/nas" / file).write_text(contents)
    found = hosts.files_fault(NAS, tmp_path)
    if what:
        assert found is not None
        judged(found, Verdict.FAIL, what, "run `sudo hkswitch host add nas nas.lan`")
    elif os.geteuid() == 0:
        assert found is None
