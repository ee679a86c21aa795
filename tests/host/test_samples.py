"""Resources and alerts on a real systemd: what the helper measures, and how it runs the alert command."""

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import pytest

from hkswitch.model.config import parse
from hkswitch.protocol.helper import Alert, Observe, encode_message
from tests.host.fake_daemon import fake_daemon
from tests.host.helper_requests import FILE
from tests.host.machine import Host, eventually
from tests.host.test_attacks import Session, by_sudo, session
from tests.host.test_audit import audited

TELL: Final = "/usr/local/bin/tell"
CONFIG: Final = f"""\
alert_command: [{TELL}, "100 %h", "$HOME"]
groups:
  burner: {{units: [burner, hot.slice], alert: contact}}
  still: {{units: [still, listening.socket]}}
"""
PROGRAM: Final = """\
#!/bin/sh
{
env -0 | sort -z | tr '\\0' '\\n' | sed 's/^/env: /'
printf 'arg: %s\\n' "$@"
grep -E '^(Uid|CapBnd|CapPrm|NoNewPrivs):' /proc/self/status | tr '\\t' ' '
for path in /home /root /etc/hkswitch/config.yaml /var/lib/hkswitch; do
    ls "$path"/. >/dev/null 2>&1 || cat "$path" >/dev/null 2>&1 || echo "no access: $path"
done
for path in /etc/x /usr/local/bin/tell /run/x /var/tmp/../lib/x; do
    (: >>"$path") 2>/dev/null || echo "read-only: $path"
done
: >/tmp/own && echo 'own /tmp'
sudo -n true 2>/dev/null || echo 'no root by sudo'
kill -0 1 2>/dev/null || echo 'no signal to init'
} 2>&1 | sed 's/^/tell: /'
"""
UNITS: Final = {
    "burner.service": """\
[Unit]
StartLimitIntervalSec=0
[Service]
Type=exec
Slice=hot.slice
Restart=always
RestartSec=2
ExecStart=/bin/sh -c 'while :; do :; done'
""",
    "still.service": "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n",
    "listening.socket": "[Socket]\nListenStream=/run/listening.sock\n",
    "listening.service": "[Service]\nExecStart=/bin/true\n",
}
REASON: Final = "burner.service: 100 % \"of\" 'it', $HOME ${HOME} \\n \\x41 %n %h ü 🚨 `id` $(id) #; exit"


class SampleRow(NamedTuple):
    """A row of a sample; `at_seconds` is that of the sample."""

    run: str
    since_seconds: float
    cpu_ns: int
    memory_bytes: int | None
    at_seconds: float


@pytest.fixture(scope="module", autouse=True)
def target(host: Host) -> Iterator[None]:
    before = host.read(FILE)
    host.write(FILE, CONFIG, mode=0o600)
    host.write(TELL, PROGRAM, mode=0o755)
    for name, text in UNITS.items():
        host.write(f"/usr/local/lib/systemd/system/{name}", text)
    host.run("systemctl", "daemon-reload")
    with fake_daemon(host):
        yield
    host.write(FILE, before)
    host.run("rm", TELL, *(f"/usr/local/lib/systemd/system/{name}" for name in UNITS))
    host.run("systemctl", "daemon-reload")


@pytest.fixture(autouse=True)
def stopped(host: Host, target: None) -> Iterator[None]:
    """Stops the units, and starts with the current end of the audit log."""
    audited(host)
    yield
    host.run("systemctl", "stop", *UNITS, "hot.slice")


@pytest.fixture
def helper(host: Host) -> Iterator[Session]:
    with session(host, *by_sudo("sudo")) as helper:
        yield helper


def sample(helper: Session, epoch: int, *groups: str) -> dict[str, SampleRow]:
    """Ask for a sample, and return its rows."""
    helper.send(encode_message(Observe(epoch, groups)).decode())
    while (reply := helper.reply())["type"] != "samples" or reply["epoch"] != epoch:
        pass
    return {row[0]: SampleRow._make((*row[1:], reply["at_seconds"])) for row in reply["usages"]}


def test_a_unit_has_the_cpu_time_of_its_run_since_its_start(host: Host, helper: Session) -> None:
    def counted_ns() -> int:
        """What the kernel has counted."""
        stat = host.read("/sys/fs/cgroup/hot.slice/burner.service/cpu.stat")
        return int(stat.split()[1]) * 1000

    host.run("systemctl", "start", "still", "listening.socket")
    before_seconds = time.monotonic()  # the host's clock, too
    host.run("systemctl", "start", "burner")
    started_seconds = time.monotonic()
    outer_ns = counted_ns()
    rows = sample(helper, 1, "burner", "still")
    inner_ns = counted_ns()
    assert rows.keys() == {"burner.service", "hot.slice"}  # nothing else has processes
    first = rows["burner.service"]
    assert first.run == host.show("burner.service", "InvocationID")
    assert before_seconds < first.since_seconds < started_seconds < first.at_seconds < time.monotonic()
    assert first.memory_bytes is None  # these hosts have no memory controller
    time.sleep(2)
    inner_ns = counted_ns() - inner_ns
    rows = sample(helper, 2, "burner")
    second = rows["burner.service"]
    outer_ns = counted_ns() - outer_ns
    assert (second.run, second.since_seconds) == (first.run, first.since_seconds)
    assert 0 < inner_ns <= second.cpu_ns - first.cpu_ns <= outer_ns
    cores = (second.cpu_ns - first.cpu_ns) / 1e9 / (second.at_seconds - first.at_seconds)
    assert cores < 1.1  # and as much as that, unless other tests share its core
    assert rows["hot.slice"].cpu_ns > first.cpu_ns
    assert rows["hot.slice"].run != second.run


def test_a_new_run_has_a_counter_and_a_start_of_its_own_and_what_is_down_has_none(
    host: Host, helper: Session
) -> None:
    host.run("systemctl", "start", "burner")
    first = sample(helper, 1, "burner")["burner.service"]
    time.sleep(0.5)
    restarting_seconds = time.monotonic()
    host.run("systemctl", "restart", "burner")
    second = sample(helper, 2, "burner")["burner.service"]
    assert second.run not in {"", first.run}
    assert second.since_seconds > restarting_seconds
    assert second.cpu_ns / 1e9 <= (second.at_seconds - second.since_seconds) * 1.1
    crashed_seconds = time.monotonic()
    host.run("systemctl", "kill", "--signal=KILL", "burner")
    assert "burner.service" not in sample(helper, 3, "burner")  # it waits for its next start
    eventually(lambda: host.show("burner.service", "SubState") == "running")
    third = sample(helper, 4, "burner")["burner.service"]
    assert third.run not in {"", first.run, second.run}
    assert third.since_seconds > crashed_seconds + 1.9  # not when systemd began to wait
    assert third.cpu_ns / 1e9 <= (third.at_seconds - third.since_seconds) * 1.1
    host.run("systemctl", "stop", "burner", "hot.slice")
    assert sample(helper, 5, "burner", "still", "none") == {}


# The alert command


def alert(group: str = "burner", *, config: str = CONFIG, reason: str = REASON) -> str:
    found = parse(config.encode(), FILE).group(group)
    token = found.token if found else "none"
    return encode_message(Alert(1, group, token, "failed", reason)).decode()


def answered(helper: Session) -> Mapping[str, Any]:
    """Return the reply that ends a request."""
    while (reply := helper.reply())["type"] == "accepted":
        pass
    return reply


def test_the_alert_command_has_no_rights_and_gets_exactly_these_words(host: Host, helper: Session) -> None:
    since = host.journalctl("--show-cursor", "--lines=0").split()[-1]
    helper.send(alert())
    reply = answered(helper)
    assert reply["units"] == [{"unit": TELL, "job": "done", "detail": ""}]
    lines = host.journalctl(f"--after-cursor={since}", "--output=cat").splitlines()
    printed = [line.removeprefix("tell: ") for line in lines if line.startswith("tell: ")]
    assert [line for line in printed if line.startswith(("env: ", "arg: "))] == [
        "env: HKSWITCH_GROUP=burner",
        f"env: HKSWITCH_REASON={REASON}",
        "env: HKSWITCH_STATE=failed",
        "env: LANG=C.UTF-8",
        "env: PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "env: PWD=/",  # by the shell
        "arg: 100 %h",
        "arg: $HOME",
    ]
    [uids] = [line.split()[1:] for line in printed if line.startswith("Uid:")]
    assert len({*uids}) == 1
    assert 61184 <= int(uids[0]) <= 65519  # no user has one of these (systemd.exec(5), DynamicUser=)
    rights = [line for line in printed if not line.startswith(("env: ", "arg: ", "Uid:"))]
    assert rights == [
        "CapPrm: 0000000000000000",
        "CapBnd: 0000000000000000",
        "NoNewPrivs: 1",
        *(
            f"no access: {path}"
            for path in ("/home", "/root", "/etc/hkswitch/config.yaml", "/var/lib/hkswitch")
        ),
        *(f"read-only: {path}" for path in ("/etc/x", TELL, "/run/x", "/var/tmp/../lib/x")),
        "own /tmp",
        "no root by sudo",
        "no signal to init",
    ]
    uid = host.run("id", "-u", "hkswitch").stdout.strip()
    messages = [f"allowed for uid {uid}: alert burner", f"done for uid {uid}: alert burner: {TELL} done"]
    assert [line["MESSAGE"] for line in audited(host)] == messages
    starting = next(index for index, line in enumerate(lines) if line.startswith("Starting hkswitch-alert-"))
    assert lines.index(messages[0]) < starting < lines.index(messages[1])


REFUSED: Final = {
    "a group without a sensor": (CONFIG, alert("still")),
    "an unknown group": (CONFIG, alert("burner.service")),
    "an outdated token": (CONFIG.replace("hot.slice", "still"), alert()),
    "no sensor any longer": (CONFIG.replace(", alert: contact", ""), alert()),
    "no command": (CONFIG.replace("alert_command", "#"), alert()),
    "a config that is invalid": ("groups: [", alert()),
    "a reason of two lines": (CONFIG, alert(reason="a\nHKSWITCH_GROUP=other")),
    "a command of its own": (CONFIG, f'{alert()[:-2]},"command":["/bin/sh"]}}\n'),
    "an endless reason": (CONFIG, alert(reason="x" * 501)),
}


def test_an_alert_that_the_config_does_not_allow_runs_nothing_and_is_audited(
    host: Host, helper: Session
) -> None:
    since = host.journalctl("--show-cursor", "--lines=0").split()[-1]
    for what, (config, line) in REFUSED.items():
        host.write(FILE, config, mode=0o600)
        helper.send(line)
        assert answered(helper)["type"] == "refused", what
    host.write(FILE, CONFIG, mode=0o600)
    counted: list[int] = []

    def denials() -> bool:  # at most one line a second, which counts the others
        counted.extend(1 + int(line.get("HKSWITCH_LEFT_OUT", 0)) for line in audited(host))
        return sum(counted) == len(REFUSED)

    eventually(denials)
    assert "hkswitch-alert-" not in host.journalctl(f"--after-cursor={since}", "--output=cat")


def test_a_flood_of_alerts_runs_one_at_a_time(host: Host, helper: Session) -> None:
    host.write("/run/tell", '#!/bin/sh\necho "ran"\nexec sleep 1\n', mode=0o755)
    host.write(FILE, CONFIG.replace(TELL, "/run/tell"), mode=0o600)
    since = host.journalctl("--show-cursor", "--lines=0").split()[-1]
    began_seconds = time.monotonic()
    helper.send(alert() * 300)
    results = [answered(helper)["units"][0] for _ in range(300)]
    took_seconds = time.monotonic() - began_seconds
    host.run("rm", "/run/tell")
    host.write(FILE, CONFIG, mode=0o600)
    assert sum(result["job"] == "done" for result in results) <= 1 + took_seconds
    assert {result["detail"] for result in results} == {"", "was not run: it is already running"}
    ran = host.journalctl(f"--after-cursor={since}", "--output=cat").splitlines().count("ran")
    assert ran <= 1 + took_seconds
    assert len(audited(host)) == 600
