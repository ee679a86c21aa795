"""A bridge's key on another host runs the helper for that bridge and nothing else: attempts to do more.

Each attempt also runs with an administrator's key, for which it succeeds: a success would be noticed.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import pytest

from hkswitch.backend.ssh_command import HOSTS_FOLDER
from hkswitch.model.installation import REMOTE_USER
from tests.host.machine import Host, eventually
from tests.host.remote_access import introduce, withdraw
from tests.host.virtual_lan import Lan, Machine

OTHER_BRIDGE: Final = "annex"
UNIT: Final = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n"
ADMIN: Final = "admin"
ADMIN_KEY: Final = "/root/admin"
BRIDGE_KEY: Final = "/root/bridge"
"""A copy of the key: ssh rejects one of its own user that the daemon's group can read."""

SUCCESS: Final = "GOT-IT"
ATTEMPTS_AT_ONCE: Final = 4
"""From ten unauthenticated connections on, sshd drops some."""

PERMISSIVE_FILE: Final = "/etc/ssh/sshd_config.d/00-permissive.conf"
PENALTIES_FILE: Final = "/etc/ssh/sshd_config.d/00-penalties.conf"
PERMISSIVE: Final = f"""\
AllowStreamLocalForwarding yes
AllowTcpForwarding yes
GatewayPorts clientspecified
PasswordAuthentication yes
PermitTunnel yes
PermitTTY yes
X11Forwarding yes
XAuthLocation /bin/true
Match User {ADMIN}
    AcceptEnv *
"""
"""What an administrator may have allowed, in a file that sshd reads before that of the bridges."""

PREPARE: Final = f"""
useradd --create-home --shell /bin/bash {ADMIN}
echo {ADMIN}:{ADMIN} | chpasswd
for home in /root /home/{ADMIN}; do
    install -d $home/.ssh
    echo "$KEY" >$home/.ssh/authorized_keys
done
install -d -o {REMOTE_USER} /nonexistent /nonexistent/.ssh  # it has no home, but one may appear
install -o {REMOTE_USER} /root/.ssh/authorized_keys /nonexistent/.ssh
echo '{ADMIN} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/admin
# So many failures make newer versions block the address.
if sshd -T | grep -q ^persourcepenalties; then echo PerSourcePenalties no >{PENALTIES_FILE}; fi
ssh-keygen -q -t ed25519 -N '' -C '' -f /root/{OTHER_BRIDGE}
hkswitch host allow {OTHER_BRIDGE} "$(cat /root/{OTHER_BRIDGE}.pub)" --yes
systemctl reload ssh.service
# It listens again only some time after this.
timeout 10 sh -c 'until ssh-keyscan -T 1 localhost 2>&1 | grep -q ^localhost; do sleep 0.1; done'"""

CLEAN_UP: Final = f"""
hkswitch host disallow {OTHER_BRIDGE} --yes
rm -rf /nonexistent /etc/sudoers.d/admin {PERMISSIVE_FILE} {PENALTIES_FILE} /root/{OTHER_BRIDGE}*
systemctl stop web.service
loginctl terminate-user {ADMIN} 2>/dev/null || true
userdel --force --remove {ADMIN} 2>/dev/null
systemctl reload ssh.service"""

KIT: Final = rf"""
mkdir "$WORK"; cd "$WORK"
trap 'kill $(jobs -p) 2>/dev/null; wait; rm -r "$WORK"' EXIT
PROVE='printf %s-%s GOT IT'  # prints what does not occur here: a refusal may quote it
options=(-F none -o StrictHostKeyChecking=yes -o HostKeyAlias="$NAME"
    -o UserKnownHostsFile={HOSTS_FOLDER}/"$NAME"/known_hosts)
with_key=("${{options[@]}}" -o BatchMode=yes -o IdentitiesOnly=yes -o ConnectTimeout=10)
bridge() {{ ssh "${{with_key[@]}}" -i "$KEY" "$@"; }}
spawn() {{ ssh "${{with_key[@]}}" -i "$KEY" "$@" & }}
there() {{ ssh "${{with_key[@]}}" -i {ADMIN_KEY} -nq root@"$ADDRESS" "$1"; }}
# Runs a check while a session is open, which says something first: hello, or whatever a helper says.
during() {{
    local check=$1
    shift
    mkfifo in
    exec 4<>in
    ssh "${{with_key[@]}}" -i "$KEY" "$@" 'echo hello; cat' <in >out 4>&- &
    until grep -q hello out || ! kill -0 $! 2>/dev/null; do sleep 0.02; done
    eval "$check"
    exec 4>&-
    wait $!
    cat out
}}
# Connects to a port, sends what a command prints, and looks for a word in the answer.
greets() {{
    timeout 3 bash -c "exec 3<>/dev/tcp/127.0.0.1/$1; ${{2:-true}} >&3; head -c 12 <&3" |
        grep -qa "${{3:-SSH-}}"
}}
until_listening() {{ until ss -Hltn "sport = :$1" | grep -q .; do sleep 0.02; done; }}
"""
"""Shell functions of all attempts, which root runs on the bridge's host."""


class Attempt(NamedTuple):
    """A script of bash that tries something with a key, and prints SUCCESS if it works.

    `refusal`: a pattern of what ssh says then; by default, the helper answers in place of what was asked for.
    `works`: it works with an administrator's key.
    """

    script: str
    refusal: str = '"type":"hello"'
    works: bool = True


DENIED: Final = r"Permission denied \(publickey"
UNFORWARDED: Final = "channel .*open failed|stdio forwarding failed"
NO_LISTENER: Final = "remote port forwarding failed|remote forward failure"
BY_PASSWORD: Final = (
    r"printf '#!/bin/sh\necho admin\n' >ask; chmod +x ask; SSH_ASKPASS_REQUIRE=force SSH_ASKPASS=$WORK/ask "
    'ssh "${options[@]}" -n -o PubkeyAuthentication=no -o NumberOfPasswordPrompts=1 $TO "$PROVE"'
)


def listens(there: str) -> str:
    """Return a script that lets the other host listen, and checks it."""
    is_listening = r"there 'ss -Hltn \"sport = :$PORT\" | grep -q . && $PROVE'"
    return f'during "{is_listening}" -o ExitOnForwardFailure=yes -R {there} $TO'


def knows(variable: str, *options: str) -> str:
    """Return a script that checks whether a program of the session has this variable."""
    is_set = rf"there 'cat /proc/[0-9]*/environ | grep -qaz ^{variable} && $PROVE'"
    return f'during "{is_set}" {" ".join(options)} $TO'


ATTEMPTS: Final[Mapping[str, Attempt]] = {
    # Programs
    "a shell": Attempt('echo "$PROVE" | bridge -T $TO'),
    "a login shell": Attempt('echo "$PROVE" | bridge $TO "exec sh -l"'),
    "a command": Attempt('bridge -n $TO "$PROVE"'),
    "a command after another": Attempt('bridge -n $TO "true; $PROVE"'),
    "a command that the shell substitutes": Attempt('bridge -n $TO "echo \\$($PROVE)"'),
    "a command on a second line": Attempt("bridge -n $TO $'true\\n'\"$PROVE\""),
    "a program as root": Attempt("bridge -n $TO \"sudo -n sh -c '$PROVE'\""),
    "an action by the helper's command line": Attempt(
        'bridge -n $TO "sudo -n serviceswitch start web"; there "systemctl is-active web" && $PROVE'
    ),
    "the helper as another bridge": Attempt(
        f'bridge -n $TO "sudo -n /usr/sbin/serviceswitch serve --for {OTHER_BRIDGE}";'
        f'there "journalctl -q HKSWITCH_BRIDGE={OTHER_BRIDGE} | grep . && $PROVE"',
        works=False,
    ),
    "a second command of a connection": Attempt(
        'spawn -N -M -S mux $TO; until [ -S mux ]; do sleep 0.02; done; ssh -F none -n -S mux $TO "$PROVE"'
    ),
    # Files
    "a copy from there": Attempt(
        'scp "${with_key[@]}" -O -i $KEY $TO:/etc/os-release . ; [ -s os-release ] && $PROVE', "type"
    ),
    "a copy to there": Attempt(
        'echo x >$ID; scp "${with_key[@]}" -O -i $KEY $ID $TO:/tmp; there "[ -e /tmp/$ID ] && $PROVE"', "type"
    ),
    "a copy from there by SFTP": Attempt(
        'scp "${with_key[@]}" -s -i $KEY $TO:/etc/os-release . ; [ -s os-release ] && $PROVE',
        "Received message too long",
    ),
    "a copy to there by SFTP": Attempt(
        'echo x >$ID; echo put $ID /tmp | sftp "${with_key[@]}" -b - -i $KEY $TO;'
        'there "[ -e /tmp/$ID ] && $PROVE"',
        "Received message too long",
    ),
    "the subsystem sftp": Attempt(
        r"{ printf '\0\0\0\5\1\0\0\0\3'; for i in {1..200}; do [ -s out ] && break; sleep 0.02; done; } |"
        r"bridge -s $TO sftp >out; head -c 5 out | grep -qa $'\2' && $PROVE; cat out"
    ),
    "a subsystem that is not there": Attempt(
        "bridge -n -s $TO netconf", "subsystem request failed", works=False
    ),
    # Forwarding
    "a port there": Attempt(
        "spawn -N -L $PORT:127.0.0.1:22 $TO; until_listening $PORT; greets $PORT && $PROVE", UNFORWARDED
    ),
    "a socket there": Attempt(
        "spawn -N -L $PORT:/run/dbus/system_bus_socket $TO; until_listening $PORT;"
        r"greets $PORT 'printf \\0AUTH\\r\\n' REJECTED && $PROVE",
        UNFORWARDED,
    ),
    "any port there by a proxy": Attempt(
        "spawn -N -D $PORT $TO; until_listening $PORT;"
        r"greets $PORT 'printf \\4\\1\\0\\26\\177\\0\\0\\1\\0' && $PROVE",
        UNFORWARDED,
    ),
    "standard input and output to a port there": Attempt(
        "bridge -n -W 127.0.0.1:22 $TO | head -c 4 | grep -q SSH- && $PROVE", UNFORWARDED
    ),
    "a jump to another host": Attempt(
        "bridge -n -W $CENTRAL:$PORT $TO 2>&1 | tee out; grep -q refused out && $PROVE", UNFORWARDED
    ),
    "a port there to here": Attempt(listens("$PORT:127.0.0.1:22"), NO_LISTENER),
    "a port there for all its network": Attempt(listens("0.0.0.0:$PORT:127.0.0.1:22"), NO_LISTENER),
    "a proxy there to here": Attempt(listens("$PORT"), NO_LISTENER),
    "a socket there to here": Attempt(
        "during \"there '[ -S /tmp/$ID ] && $PROVE'\" "
        "-o ExitOnForwardFailure=yes -R /tmp/$ID:127.0.0.1:22 $TO",
        NO_LISTENER,
    ),
    "an agent": Attempt(f'eval "$(ssh-agent)" >&2; {knows("SSH_AUTH_SOCK=", "-A")}; kill $SSH_AGENT_PID'),
    "X11": Attempt(
        f"export DISPLAY=:0; {knows('DISPLAY=', '-Y')}", "X11 forwarding request failed on channel"
    ),
    "a tunnel": Attempt("bridge -n -w any $TO true", "open failed|Tunnel", works=False),
    # Sessions
    "a terminal": Attempt('bridge -n -tt $TO "[ -t 0 ] && $PROVE"', "PTY allocation request failed"),
    "a library to load": Attempt(knows("LD_PRELOAD=/tmp/$ID", "-o SetEnv=LD_PRELOAD=/tmp/$ID")),
    "a program that asks for a password": Attempt(
        f"export SUDO_ASKPASS=/tmp/$ID; {knows('SUDO_ASKPASS=/tmp/$ID', '-o SendEnv=SUDO_ASKPASS')}"
    ),
    "a locale for the helper": Attempt(
        "export LC_ALL=tr_TR; during \"there 'cat /proc/\\$(pgrep -xo serviceswitch)/environ | "
        "grep -qaz ^LC_ALL=tr_TR && $PROVE'\" -o SendEnv=LC_ALL $TO",
        works=False,
    ),
    # Other users, and other ways to authenticate
    "root": Attempt('bridge -n root@$ADDRESS "$PROVE"', DENIED),
    "another user": Attempt(f'bridge -n {ADMIN}@$ADDRESS "$PROVE"', DENIED),
    "the daemon's user": Attempt('bridge -n hkswitch@$ADDRESS "$PROVE"', DENIED, works=False),
    "a key in the home of its user": Attempt(
        f'ssh "${{with_key[@]}}" -n -i {ADMIN_KEY} {REMOTE_USER}@$ADDRESS "$PROVE"', DENIED, works=False
    ),
    "a password": Attempt(BY_PASSWORD, r"Permission denied \(publickey\)"),
}


@pytest.fixture(scope="module")
def remote(lan: Lan) -> Iterator[Machine]:
    """The host to which the key gives access. It allows others much, and has a second bridge."""
    remote, central = lan.remotes[0], lan.central
    introduce(central, remote)
    central.shell(f"install -m 0600 {HOSTS_FOLDER}/{remote.name}/id_ed25519 {BRIDGE_KEY}")
    central.shell(f"ssh-keygen -q -t ed25519 -N '' -C '' -f {ADMIN_KEY}")
    key = central.host.read(f"{ADMIN_KEY}.pub").strip()
    remote.host.write(PERMISSIVE_FILE, PERMISSIVE)
    remote.host.unit("web.service", UNIT)
    remote.host.write("/etc/hkswitch/config.yaml", "groups: {web: {units: [web]}}\n")
    remote.shell(f"KEY='{key}'\n{PREPARE}")
    yield remote
    remote.shell(CLEAN_UP)
    withdraw(central, remote)
    central.shell(f"rm {BRIDGE_KEY} {ADMIN_KEY}*")


@pytest.fixture(scope="module")
def host(lan: Lan) -> Host:
    return lan.central.host


class Outcome(NamedTuple):
    """What an attempt printed with the bridge's key, and with an administrator's."""

    of_bridge: str
    of_admin: str


@pytest.fixture(scope="module")
def outcomes(lan: Lan, remote: Machine) -> Mapping[str, Outcome]:
    """The outcome of each attempt. The administrator's come last, as some would be seen by others."""
    with ThreadPoolExecutor(ATTEMPTS_AT_ONCE) as threads:
        of_bridge = threads.map(lambda name: run(lan, remote, name, as_admin=False), ATTEMPTS)
        by_bridge = dict(zip(ATTEMPTS, of_bridge, strict=True))
        remote.shell("systemctl stop web.service")
        working = [name for name, attempt in ATTEMPTS.items() if attempt.works]
        of_admin = threads.map(lambda name: run(lan, remote, name, as_admin=True), working)
        by_admin = dict(zip(working, of_admin, strict=True))
    return {name: Outcome(printed, by_admin.get(name, "")) for name, printed in by_bridge.items()}


def run(lan: Lan, remote: Machine, name: str, *, as_admin: bool) -> str:
    """Make an attempt, and return everything that it printed."""
    number = 2 * [*ATTEMPTS].index(name) + as_admin
    variables = {
        "ID": f"attempt-{number}",
        "WORK": f"/tmp/attempt-{number}",
        "PORT": str(20000 + number),
        "NAME": remote.name,
        "ADDRESS": remote.address,
        "CENTRAL": lan.central.address,
        "KEY": ADMIN_KEY if as_admin else BRIDGE_KEY,
        "TO": f"{ADMIN}@{remote.address}" if as_admin else f"{REMOTE_USER}@{remote.address}",
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    script = "\n".join((*lines, KIT, ATTEMPTS[name].script))
    done = lan.central.host.run("bash", "-c", script, check=False, timeout_seconds=20)
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", ATTEMPTS)
def test_the_key_does_nothing_but_run_the_helper(outcomes: Mapping[str, Outcome], name: str) -> None:
    attempt, outcome = ATTEMPTS[name], outcomes[name]
    assert SUCCESS not in outcome.of_bridge
    assert re.search(attempt.refusal, outcome.of_bridge), outcome.of_bridge
    assert (SUCCESS in outcome.of_admin) is attempt.works, outcome.of_admin


def test_the_audit_there_names_the_bridge_whatever_was_asked_for(
    outcomes: Mapping[str, Outcome], remote: Machine, lan: Lan
) -> None:
    lines = remote.host.journalctl("SYSLOG_IDENTIFIER=serviceswitch", "_UID=0", "--output=json").splitlines()
    audited = [json.loads(line) for line in lines]
    by_others = [line["MESSAGE"] for line in audited if "HKSWITCH_BRIDGE" not in line]
    assert all("start web" in message for message in by_others)  # by the administrator
    assert {line["HKSWITCH_BRIDGE"] for line in audited if "HKSWITCH_BRIDGE" in line} == {lan.central.name}


def test_the_attempts_leave_no_program_there(outcomes: Mapping[str, Outcome], remote: Machine) -> None:
    listing = (
        "ps -e -o user:32=,args= | grep -E '^hkswitch|serviceswitch' | grep -Ev 'grep|systemd --user|sd-pam'"
    )
    eventually(lambda: remote.shell(f"{listing} || true") == "")
    assert remote.shell("systemctl list-units --no-legend 'hkswitch-remote-*'") == ""
