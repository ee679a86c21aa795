"""Connections by the system's ssh to an sshd of this test: what it says of failures, and what is accepted.

tests/host/test_host_setup.py has the failures that need a second host. The helper is a script here.
"""

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from hkswitch import __version__
from hkswitch.backend.ssh_command import (
    ALIVE_INTERVAL_SECONDS,
    HOSTS_FOLDER,
    SSH_CONFIG,
    key_file,
    known_hosts_file,
    ssh_command,
)
from hkswitch.backend.ssh_reasons import SSH_REASONS, SshProblem, hint, problem_of, telling_line
from hkswitch.model.errors import Exit, Failure
from hkswitch.remote import host_key
from hkswitch.remote.keys import known_hosts_line, parse_public_key
from hkswitch.remote.trial import Account, try_host
from tests.host.machine import eventually
from tests.support.ports import free_port

NAME: Final = "nas"
SSHD: Final = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
pytestmark = pytest.mark.skipif(SSHD is None, reason="needs openssh-server")

HELPER: Final = """\
import json, sys
say = lambda **message: print(json.dumps(message), flush=True)
for line in open({script!r}).read().splitlines():
    print(line, flush=True)
for line in sys.stdin:
    message = json.loads(line)
    if "ping" in message:
        say(type="pong", id=message["ping"])
    elif "observe" in message:
        for group, token in (("media", "5e1f"), ("gone", "")):
            say(type="group", epoch=message["observe"], group=group, token=token, units=["a.service"])
        say(type="complete", epoch=message["observe"])
"""
HELLO: Final = {"type": "hello", "version": "9.8.7", "protocol": 3}


@dataclass(frozen=True)
class Loopback:
    """The two sides: the settings of the bridge, and the folder of the server."""

    settings: Path
    server: Path
    port: int

    @property
    def destination(self) -> str:
        return f"ssh://{pwd.getpwuid(os.geteuid()).pw_name}@127.0.0.1:{self.port}"

    def says(self, *lines: str) -> None:
        """Have the helper begin with these lines."""
        (self.server / "script").write_text("".join(f"{line}\n" for line in lines))

    def fails(self, destination: str = "") -> str:
        """Connect as the daemon does, and return the line that says why it failed."""
        config = (self.settings / SSH_CONFIG.name).exists()
        command = ssh_command(
            NAME,
            destination or self.destination,
            has_config=config,
            settings=self.settings,
            connect_timeout_seconds=1,
        )
        done = subprocess.run(command, input="", capture_output=True, text=True, check=False, timeout=20)
        assert done.returncode != 0, done.stdout
        return telling_line(done.stderr.splitlines())


def made_key(file: Path, kind: str = "ed25519") -> str:
    """Make a key, and return its public part."""
    subprocess.run(("ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", file), check=True)
    return " ".join(file.with_name(f"{file.name}.pub").read_text().split()[:2])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    settings, server = tmp_path_factory.mktemp("bridge"), tmp_path_factory.mktemp("server")
    both = Loopback(settings, server, free_port())
    key_file(NAME, settings).parent.mkdir(parents=True)
    key = made_key(key_file(NAME, settings))
    (server / "helper.py").write_text(HELPER.format(script=str(server / "script")))
    command = f"{sys.executable} -I {server / 'helper.py'}"
    (server / "keys").write_text(f'restrict,command="{command}" {key}\n')
    host = parse_public_key(made_key(server / "host"))
    made_key(server / "host2", "ecdsa")
    known_hosts_file(NAME, settings).write_text(known_hosts_line(NAME, host))
    (server / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{both.port}\nHostKey {server}/host\nHostKey {server}/host2\nPidFile none\n"
        f"AuthorizedKeysFile {server}/keys\nStrictModes no\nUsePAM no\nAuthenticationMethods publickey\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # as the service does
    assert SSHD is not None
    with subprocess.Popen(
        (SSHD, "-D", "-e", "-f", server / "sshd_config"), stderr=subprocess.DEVNULL
    ) as sshd:
        try:
            eventually(lambda: accepts(both.port))
            yield both
        finally:
            sshd.terminate()


def accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@pytest.fixture
def loopback(prepared: Loopback) -> Iterator[Loopback]:
    """Both sides as they should be; what a test changes in their files is undone."""
    folders = (prepared.settings, prepared.server)
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    before = {file: file.read_bytes() for file in files}
    prepared.says(json.dumps(HELLO))
    yield prepared
    for folder in folders:
        for file in {each for each in folder.rglob("*") if each.is_file()} - before.keys():
            file.unlink()
    for file, contents in before.items():
        file.write_bytes(contents)


async def tried(loopback: Loopback) -> object:
    return await try_host(NAME, loopback.destination, Account(), loopback.settings)


# The trial


async def test_a_trial_shows_version_and_groups(loopback: Loopback) -> None:
    result = await try_host(NAME, loopback.destination, Account(), loopback.settings)
    assert (result.version, result.missing, dict(result.groups)) == ("9.8.7", "", {"media": "5e1f"})
    assert 0 < result.round_trip_ms < result.connected_seconds * 1000
    loopback.says(json.dumps({**HELLO, "protocol": 2}), json.dumps({"type": "config", "problem": "a\x1b[2J"}))
    result = await try_host(NAME, loopback.destination, Account(), loopback.settings)
    assert "restart_when" in result.missing
    assert result.config_problem == "a?[2J"


async def test_a_trial_shows_the_groups_that_cannot_be_restarted(loopback: Loopback) -> None:
    def group(name: str, *actions: str) -> str:
        told = {"token": "1", "units": [], "actions": actions, "traits": [], "timeout_seconds": 10}
        return json.dumps({"type": "group", "epoch": 1, "group": name, **told})

    loopback.says(json.dumps(HELLO), group("web", "start", "stop"), group("db", "start", "restart"))
    result = await try_host(NAME, loopback.destination, Account(), loopback.settings)
    assert (sorted(result.groups), sorted(result.not_restarted)) == (["db", "media", "web"], ["web"])


def a_group(number: int) -> str:
    return json.dumps({"type": "group", "epoch": 1, "group": f"g{number}", "token": "5e1f", "units": []})


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["This account is currently not available."], "the account there has no shell"),
        (["\x1b[2J" * 100], r"it sent what no helper sends: \?\[2J"),
        (["{" * 2_000_000], "it sent what no helper sends"),
        ([json.dumps({**HELLO, "protocol": 99})], f"9.8.7 there and {__version__} here are too different"),
        ([json.dumps({"type": "refused", "id": None, "reason": "no"})] * 25_000, "more than 20000 messages"),
        ([json.dumps(HELLO), *map(a_group, range(150))], "more groups than a configuration can have"),
    ],
    ids=["a shell", "escapes", "an endless line", "another protocol", "many messages", "many groups"],
)
async def test_a_host_that_says_something_else_fails_the_trial(
    loopback: Loopback, lines: list[str], says: str
) -> None:
    loopback.says(*lines)
    with pytest.raises(Failure, match=says) as failed:
        await tried(loopback)
    assert len(str(failed.value)) < 500
    assert str(failed.value).isprintable()


async def test_a_trial_needs_the_daemons_account(loopback: Loopback) -> None:
    with pytest.raises(Failure, match="there is no user hkswitch") as failed:
        await try_host(NAME, loopback.destination, None, loopback.settings)
    assert failed.value.exit_code is Exit.CONFIG


# The host's key


def test_the_best_key_of_a_host_is_fetched_without_authentication(loopback: Loopback, tmp_path: Path) -> None:
    file = tmp_path / "fetched"
    expected = parse_public_key((loopback.server / "host.pub").read_text())
    (loopback.server / "keys").write_text("")
    assert host_key.fetch(NAME, loopback.destination, file, loopback.settings) == expected
    assert not file.exists()
    plain = loopback.destination.replace("ssh://", "").rpartition(":")[0]
    (loopback.settings / SSH_CONFIG.name).write_text(f"Port {loopback.port}\n")
    assert host_key.fetch(NAME, plain, file, loopback.settings) == expected
    (loopback.settings / SSH_CONFIG.name).write_text("HostName nas.invalid\n")
    with pytest.raises(Failure, match="the name of the host does not resolve"):
        host_key.fetch(NAME, plain, file, loopback.settings)


# Failures


class Fault(NamedTuple):
    """A cause of a failed connection, and the words of ssh for it."""

    words: str
    make: Callable[[Loopback], object]
    problem: SshProblem = SshProblem.SETTING


def other_key(loopback: Loopback) -> None:
    own = (key_file(NAME, loopback.settings).with_name("id_ed25519.pub")).read_text()
    known_hosts_file(NAME, loopback.settings).write_text(known_hosts_line(NAME, parse_public_key(own)))


def ssh_config(text: str) -> Callable[[Loopback], object]:
    return lambda loopback: (loopback.settings / SSH_CONFIG.name).write_text(text)


FAULTS: Final = {
    "no name": Fault("Could not resolve hostname", ssh_config("HostName nas.invalid\n"), SshProblem.AWAY),
    "no server": Fault("Connection refused", ssh_config("HostName 127.0.0.2\n"), SshProblem.AWAY),
    "an unknown key": Fault(
        "host key is known for", lambda both: known_hosts_file(NAME, both.settings).write_text("")
    ),
    "a changed key": Fault("REMOTE HOST", other_key, SshProblem.CHANGED_HOST_KEY),
    "a refused key": Fault(
        "Permission denied (", lambda both: (both.server / "keys").write_text(""), SshProblem.REFUSED_KEY
    ),
    "a damaged key": Fault("Load key ", lambda both: key_file(NAME, both.settings).write_text("x")),
    "no key": Fault("no such identity", lambda both: key_file(NAME, both.settings).unlink()),
    "no cipher": Fault("Unable to negotiate with", ssh_config("Ciphers 3des-cbc\n")),
}


@pytest.mark.parametrize("name", FAULTS)
def test_ssh_says_why_it_fails_and_the_remedy_is_known(loopback: Loopback, name: str) -> None:
    fault = FAULTS[name]
    fault.make(loopback)
    why = loopback.fails()
    (reason,) = (each for each in SSH_REASONS if each.words.startswith(fault.words))
    assert reason.words in why
    assert hint(why, NAME) == f"{reason.cause}; {reason.remedy.replace('NAME', NAME)}"
    assert problem_of(why) is fault.problem


@contextmanager
def server(answer: Callable[[socket.socket], object]) -> Iterator[int]:
    """Run a server that is no sshd; `answer` gets its first connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                connection, _ = listening.accept()
                with connection:
                    answer(connection)

        serving = threading.Thread(target=serve)
        serving.start()
        try:
            yield listening.getsockname()[1]
        finally:
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            serving.join()


ENDS: Final[dict[str, Callable[[socket.socket], object]]] = {
    "kex_exchange_identification": lambda _: None,
    "timed out during banner exchange": lambda connection: connection.recv(10_000, socket.MSG_WAITALL),
    "Connection": lambda connection: connection.sendall(b"SSH-2.0-x\r\n"),
}
"""What a server does that is no sshd, by the words of ssh for it."""
PROBLEMS: Final = (SshProblem.CLOSED, SshProblem.AWAY, SshProblem.CLOSED)


@pytest.mark.parametrize(
    ("words", "answer", "problem"),
    [(words, answer, problem) for (words, answer), problem in zip(ENDS.items(), PROBLEMS, strict=True)],
    ids=["it closes", "it is silent", "it closes later"],
)
def test_a_server_that_ends_or_stalls_is_tried_again(
    loopback: Loopback, words: str, answer: Callable[[socket.socket], object], problem: SshProblem
) -> None:
    with server(answer) as port:
        why = loopback.fails(f"ssh://127.0.0.1:{port}")
    assert words in why
    assert problem_of(why) is problem
    assert hint(why)


def test_root_decides_the_rest_but_not_what_the_daemon_relies_on(loopback: Loopback) -> None:
    """ssh -G prints what counts: options on the command line take precedence over root's file."""
    (loopback.settings / SSH_CONFIG.name).write_text(
        "Port 2222\nProxyJump gate\nStrictHostKeyChecking no\nForwardAgent yes\nServerAliveInterval 300\n"
        "LocalForward 8080 localhost:80\nPasswordAuthentication yes\nControlMaster auto\nEscapeChar ~\n"
        "UserKnownHostsFile /dev/null\nHostKeyAlias x\nUser root\nBatchMode no\n"
        "RemoteCommand id\nRequestTTY yes\n"
    )
    command = ssh_command(NAME, "nas.lan", has_config=True, settings=loopback.settings)
    printed = subprocess.run(
        (command[0], "-G", *command[1:]), capture_output=True, text=True, check=True
    ).stdout
    found = dict(line.partition(" ")[::2] for line in printed.splitlines())
    expected = {
        "port": "2222",
        "proxyjump": "gate",
        "stricthostkeychecking": "true",
        "forwardagent": "no",
        "serveraliveinterval": str(ALIVE_INTERVAL_SECONDS),
        "clearallforwardings": "yes",
        "passwordauthentication": "no",
        "controlmaster": "false",
        "userknownhostsfile": str(loopback.settings / HOSTS_FOLDER.name / NAME / "known_hosts"),
        "hostkeyalias": NAME,
        "user": "hkswitch-remote",
        "batchmode": "yes",
        "escapechar": "none",
        "requesttty": "false",
    }
    assert {key: found.get(key) for key in expected} == expected
    assert "remotecommand" not in found
