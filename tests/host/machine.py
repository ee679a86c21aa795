"""A booted Debian host: runs commands there, and handles its files, units, journal and network."""

import asyncio
import ctypes
import errno
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from tests.support.waiting import PATIENCE_SECONDS

ADDRESS: Final = "10.77.0.1"
INTERFACE: Final = "lan0"

STAGING: Final = "/staged"
"""A folder shared by all hosts of a test run."""

FROM_WHEELS: Final = ("PIP_NO_INDEX=1", "PIP_FIND_LINKS=/wheels")
"""Environment that makes pip install the locked packages from a folder of the host."""

SYNC_JOURNAL: Final = """
mark=$(cat /proc/sys/kernel/random/uuid)
printf 'MESSAGE=%s\\nSYSLOG_IDENTIFIER=settled\\n' "$mark" | logger --journald
until journalctl --quiet --output=cat --lines=1 --identifier=settled | grep -q "$mark"; do sleep 0.02; done"""
"""Shell commands that wait until journald has received everything sent so far: up to systemd 257,
`journalctl --sync` only writes what was received to disk."""

Found = TypeVar("Found")

_ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}
_AS_USER: Final = (*("sh", "-c", 'exec setpriv --reuid "$0" --regid "$(id -g "$0")" --init-groups -- "$@"'),)
_BRIDGES_PORTS: Final = "51826-51999"
"""Ports reserved so that no connection gets one as its source port: a controller in the host's network
that keeps trying to reach a stopped bridge would one day get the bridge's port, and connect to itself."""
_LAN: Final = f"""
ip link add {INTERFACE} type veth peer name wire0
ip link set wire0 addrgenmode none
ip link set wire0 up
ip address add {ADDRESS}/24 dev {INTERFACE}
ip link set {INTERFACE} up
ip route add default dev {INTERFACE}
echo {_BRIDGES_PORTS} >/proc/sys/net/ipv4/ip_local_reserved_ports
"""
_REPLACE: Final = 'install -D --mode="$0" /dev/stdin "$1.new"; mv -fT "$1.new" "$1"'
_IN_CGROUP: Final = ("sh", "-ec", 'echo $$ >"$0/cgroup.procs"; exec "$@"')
_TIMED_OUT: Final = 124  # timeout(1)
_PAUSES_SECONDS: Final = (0.02, 0.1)
"""The first and the longest pause between two quick checks. Checks start programs, and so load the host."""
_BOOT_SECONDS: Final = 30
_POWER_OFF_SECONDS: Final = 15
_CLONE_NEWNET: Final = 0x40000000
_numbers = itertools.count(1)


def eventually(condition: Callable[[], Found | None], *, timeout_seconds: float = PATIENCE_SECONDS) -> Found:
    """Wait until the condition is true, and return its value; fail after the timeout."""
    deadline_seconds = time.monotonic() + timeout_seconds
    pauses_seconds = _pauses_seconds()
    while not (found := condition()):
        assert time.monotonic() < deadline_seconds, f"not within {timeout_seconds} s; last value: {found!r}"
        time.sleep(next(pauses_seconds))
    return found


async def eventually_async(
    condition: Callable[[], Found | None], *, timeout_seconds: float = PATIENCE_SECONDS
) -> Found:
    """Like `eventually`, but let the event loop run meanwhile."""
    deadline_seconds = time.monotonic() + timeout_seconds
    pauses_seconds = _pauses_seconds()
    while not (found := condition()):
        assert time.monotonic() < deadline_seconds, f"not within {timeout_seconds} s; last value: {found!r}"
        await asyncio.sleep(next(pauses_seconds))
    return found


def _pauses_seconds() -> Iterator[float]:
    """Yield the pauses between checks: each is at least as long as the check before it, but for the first."""
    pause_seconds, longest_seconds = _PAUSES_SECONDS
    checking_since_seconds = time.monotonic()
    while True:
        now_seconds = time.monotonic()
        due_seconds = max(pause_seconds, now_seconds - checking_since_seconds)
        checking_since_seconds = now_seconds + due_seconds
        yield due_seconds
        pause_seconds = min(pause_seconds * 1.5, longest_seconds)


@dataclass(frozen=True, slots=True)
class Host:
    """A booted host. `leader` is the PID of its init process on the test machine."""

    release: str
    name: str
    leader: int

    @property
    def address(self) -> str:
        """The address on the host's network, reachable only within `network()`."""
        return ADDRESS

    def run(
        self,
        *argv: str,
        user: str | None = None,
        input: str | None = None,  # noqa: A002 -- the name that subprocess.run has for it
        check: bool = True,
        timeout_seconds: float = 30,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program until it exits, in a clean environment. Without `input`, its stdin is empty."""
        limited = ("timeout", "--kill-after=1", f"{timeout_seconds:g}", *argv)
        command = self._command(*limited, user=user)
        done = subprocess.run(
            command, env=_ENVIRONMENT, input=input or "", capture_output=True, text=True, check=False
        )
        assert done.returncode != _TIMED_OUT, (
            f"{argv} took longer than {timeout_seconds:g} s: {_output(done)}"
        )
        assert not check or done.returncode == 0, f"{argv} exited with {done.returncode}: {_output(done)}"
        return done

    @contextmanager
    def popen(self, *argv: str, user: str | None = None) -> Iterator[subprocess.Popen[str]]:
        """Start a program with pipes for stdin and stdout; kill it and its children in the end."""
        with subprocess.Popen(
            self._command(*argv, user=user),
            env=_ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                yield process
            finally:
                with suppress(ProcessLookupError):  # it has exited
                    os.killpg(process.pid, signal.SIGKILL)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file owned by root, and create its folders; replace a file or link atomically."""
        self.run("sh", "-ec", _REPLACE, f"{mode:o}", path, input=text)

    def read(self, path: str) -> str:
        """Return the text of a file."""
        return self.run("cat", path).stdout

    def unit(self, name: str, text: str) -> None:
        """Write a unit file in /etc. The caller must remove it."""
        self.write(f"/etc/systemd/system/{name}", text)
        self.run("systemctl", "daemon-reload")

    def remove_unit(self, name: str) -> None:
        """Remove a unit file written by `unit`, and its drop-ins."""
        path = f"/etc/systemd/system/{name}"
        self.run("rm", "-rf", path, f"{path}.d")
        self.run("systemctl", "daemon-reload")

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit, as systemd prints it."""
        return self.run("systemctl", "show", f"--property={name}", "--value", unit).stdout.strip()

    def journal(self, unit: str) -> str:
        """Return what a unit has logged, and what systemd has logged about it."""
        return self.journalctl(f"--unit={unit}", "--output=cat")

    def journalctl(self, *options: str) -> str:
        """Return the journal, once journald has received everything sent so far."""
        return self.run(
            "sh", "-ec", f'{SYNC_JOURNAL}; journalctl --no-pager --quiet "$@"', "sh", *options
        ).stdout

    @contextmanager
    def network(self) -> Iterator[None]:
        """Move the calling thread, with the sockets and threads it creates, into the host's network.

        Existing threads stay outside, so use addresses: names may be resolved in another thread.
        """
        with (
            Path("/proc/thread-self/ns/net").open() as outside,
            Path(f"/proc/{self.leader}/ns/net").open() as inside,
        ):
            _enter_network(inside.fileno())
            try:
                yield
            finally:
                _enter_network(outside.fileno())

    def _command(self, *argv: str, user: str | None) -> tuple[str, ...]:
        as_user = (*_AS_USER, user) if user else ()
        return ("nsenter", f"--target={self.leader}", "--all", "--", *as_user, *argv)


@contextmanager
def connected(one: Host, other: Host, links: Mapping[str, tuple[str, str]]) -> Iterator[None]:
    """Connect two hosts by veth pairs. `links`: the address of each host, by the interface name on both.

    Meanwhile, the hosts lack their usual interface, which leads nowhere.
    """
    for host in (one, other):
        host.run("ip", "link", "delete", INTERFACE)
    try:
        for interface, addresses in links.items():
            _connect(one, other, interface, addresses)
        yield
    finally:
        for interface in links:
            one.run("ip", "link", "delete", interface, check=False)  # it may not have been created
        for host in (one, other):
            host.run("sh", "-ec", _LAN)


def _connect(one: Host, other: Host, interface: str, addresses: tuple[str, str]) -> None:
    """Create a veth pair inside the hosts, so that the test machine's network never has an end of it."""
    with one.network():
        peer = ("type", "veth", "peer", "name", interface, "netns", str(other.leader))
        subprocess.run(("ip", "link", "add", interface, *peer), env=_ENVIRONMENT, check=True)
    for host, address in zip((one, other), addresses, strict=True):
        host.run("ip", "address", "add", f"{address}/24", "dev", interface)
        host.run("ip", "link", "set", interface, "up")


Boot = Callable[[str], AbstractContextManager[Host]]
"""Boots a host of the release with this name, without hkswitch."""


def staged(host: Host) -> str:
    """Return the folder for STAGED=. One host of each Debian creates it in a test run, as pip is slow."""
    script = f"""
    . /etc/os-release
    tree={STAGING}/$VERSION_CODENAME
    echo $tree
    exec 9>$tree.lock
    flock 9
    test -e $tree && exit
    DESTDIR=$tree.new /src/packaging/install >&2
    mv $tree.new $tree"""
    return host.run("env", *FROM_WHEELS, "sh", "-ec", script, timeout_seconds=240).stdout.strip()


def install(host: Host) -> None:
    """Install hkswitch like a user, but from the staged folder."""
    host.run("env", f"STAGED={staged(host)}", "/src/packaging/install", timeout_seconds=120)


@contextmanager
def booted(
    release: str, root: Path, read_only: Mapping[str, Path], log: Path, options: Sequence[str] = ()
) -> Iterator[Host]:
    """Boot a host from a root folder, which stays unchanged.

    `read_only`: folders of the test machine, by mount point. `options`: further options of systemd-nspawn.
    """
    name = f"{release}-{os.getpid()}-{next(_numbers)}"
    cgroup = _own_cgroup() / name
    command = (
        *("setpriv", "--pdeathsig=TERM", *_IN_CGROUP, str(cgroup)),
        *("systemd-nspawn", "--quiet", f"--directory={root}"),
        *("--volatile=overlay", "--boot", "--register=no", "--keep-unit", "--private-network"),
        *(f"--machine={name}", f"--hostname={name}", "--console=pipe"),
        *(f"--bind-ro={ours}:{theirs}" for theirs, ours in read_only.items()),
        *options,
    )
    with (
        _new_cgroup(cgroup),
        log.open("wb") as output,
        subprocess.Popen(
            command,
            env=_ENVIRONMENT | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as nspawn,
    ):
        try:
            yield _wait_for_boot(release, name, nspawn, log)
        finally:
            _power_off(nspawn)


def _own_cgroup() -> Path:
    """Return the folder of the cgroup (version 2) of this process."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    mounted = next(mount[1] for mount in mounts if mount[2] == "cgroup2")
    cgroups = (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines())
    return Path(mounted + next(path for number, _, path in cgroups if number == "0"))


@contextmanager
def _new_cgroup(folder: Path) -> Iterator[None]:
    """Create a cgroup for one host. In a shared one, units of the same name would conflict."""
    folder.mkdir()
    try:
        yield
    finally:
        eventually(lambda: _remove(folder))


def _remove(cgroup: Path) -> bool:
    """Remove a cgroup tree; return False while killed processes in it have not exited yet."""
    try:
        for emptied, _, _ in os.walk(cgroup, topdown=False):
            Path(emptied).rmdir()
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


def _wait_for_boot(release: str, name: str, nspawn: subprocess.Popen[bytes], log: Path) -> Host:
    def leader() -> int | None:
        assert nspawn.poll() is None, f"{name} did not boot:\n{log.read_text(errors='replace')[-4000:]}"
        return _leader(nspawn.pid)

    host = Host(release, name, eventually(leader, timeout_seconds=_BOOT_SECONDS))
    eventually(lambda: _has_booted(host), timeout_seconds=_BOOT_SECONDS)
    host.write("/etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {name}\n")
    host.run("sh", "-ec", _LAN)
    return host


def _leader(nspawn: int) -> int | None:
    """Return the child of systemd-nspawn that is PID 1 in its namespace, once it runs systemd."""
    for child in Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split():
        process = Path("/proc", child)
        in_host = next(
            line for line in (process / "status").read_text().splitlines() if line.startswith("NSpid:")
        )
        if in_host.split()[-1] == "1" and (process / "comm").read_text() == "systemd\n":
            return int(child)
    return None


def _has_booted(host: Host) -> bool:
    state = host.run("systemctl", "is-system-running", check=False).stdout.strip()
    assert state != "degraded", host.run("systemctl", "list-units", "--state=failed").stdout
    return state == "running"


def _power_off(nspawn: subprocess.Popen[bytes]) -> None:
    leader = _leader(nspawn.pid) if nspawn.poll() is None else None
    if leader is not None:
        os.kill(leader, signal.SIGRTMIN + 4)  # systemd: power off
    try:
        nspawn.wait(_POWER_OFF_SECONDS if leader else 0)
    except subprocess.TimeoutExpired:
        nspawn.kill()
        if leader is not None:
            os.kill(leader, signal.SIGKILL)


def _enter_network(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns is in Python 3.12
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _output(done: subprocess.CompletedProcess[str]) -> str:
    return f"{done.stdout}{done.stderr}".strip()
