"""Several hosts on a virtual network, each with its own sshd, and ways to cut one off and bring it back."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from hkswitch.remote.granted import AUTHORIZED_KEYS
from tests.host.machine import ADDRESS, INTERFACE, Host, booted, eventually, install

T = TypeVar("T")

CENTRAL: Final = "central"
"""The host of the bridge."""

REMOTE_NAMES: Final = ("attic", "cellar", "den", "garage", "office")

HOST_KEY: Final = "/etc/ssh/ssh_host_ed25519_key"
NEW_HOST_KEY: Final = f"ssh-keygen -q -t ed25519 -N '' -C '' -f {HOST_KEY}"

_MAKE_COMMON: Final = """
rm -f /etc/ssh/ssh_host_*
: >/etc/machine-id"""
"""Prepares what all hosts of a release share: nothing that identifies one."""

_FIRST_BOOT: Final = f"""
{NEW_HOST_KEY}
systemctl --quiet enable --now ssh.service"""

_DROP_ALL: Final = f"""
nft -f - <<END
table inet cut {{
    chain in {{ type filter hook input priority 0; iifname {INTERFACE} drop; }}
    chain out {{ type filter hook output priority 0; oifname {INTERFACE} drop; }}
}}
END"""
_CHANGE_HOST_KEY: Final = f"""
mkdir -p /etc/ssh/kept
mv {HOST_KEY} {HOST_KEY}.pub /etc/ssh/kept
{NEW_HOST_KEY}"""
_RESTORE_HOST_KEY: Final = "mv -f /etc/ssh/kept/* /etc/ssh"
_END_SESSIONS: Final = """
pids=$(pgrep -u hkswitch-remote 'sshd|sshd-session' || true)
[ -z "$pids" ] || kill -KILL $pids"""
"""A stop and a restart of ssh.service leave its sessions alone (KillMode=process)."""


@dataclass(frozen=True, slots=True)
class Switch:
    """A network switch: a bridge in a network namespace of its own, which the process `pid` keeps."""

    pid: int

    def connect(self, host: Host, name: str, address: str) -> None:
        """Connect a host by a cable of this name, in place of its usual interface, which leads nowhere.

        Its MAC address follows from the IP address: it stays the same, as others remember it after a reboot.
        """
        host.run("ip", "link", "delete", INTERFACE)
        mac_address = ":".join(("02:00", *(f"{int(number):02x}" for number in address.split("."))))
        with host.network():
            peer = ("type", "veth", "peer", "name", name, "netns", str(self.pid))
            subprocess.run(("ip", "link", "add", INTERFACE, "address", mac_address, *peer), check=True)
        host.run("ip", "address", "add", f"{address}/24", "dev", INTERFACE)
        host.run("ip", "link", "set", INTERFACE, "up")
        self._ip("link", "set", name, "master", "switch", "up")

    def unplug(self, name: str) -> None:
        """Take the carrier from both ends of a cable."""
        self._ip("link", "set", name, "down")

    def plug(self, name: str) -> None:
        self._ip("link", "set", name, "up")

    def disconnect(self, name: str) -> None:
        """Remove a cable; the kernel would do so some time after a host is off."""
        subprocess.run(
            ("nsenter", f"--target={self.pid}", "--net", "ip", "link", "delete", name),
            check=False,  # it may be gone
            stderr=subprocess.DEVNULL,
        )

    def start(self) -> None:
        """Create the bridge; it forwards at once, as it has no spanning tree protocol."""
        self._ip("link", "add", "switch", "type", "bridge", "stp_state", "0", "forward_delay", "0")
        self._ip("link", "set", "switch", "up")

    def _ip(self, *arguments: str) -> None:
        subprocess.run(("nsenter", f"--target={self.pid}", "--net", "ip", *arguments), check=True)


@contextmanager
def switched_on() -> Iterator[Switch]:
    """Provide a switch without any cable."""
    command = ("setpriv", "--pdeathsig=KILL", "unshare", "--net", "sleep", "infinity")
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            own = Path("/proc/self/ns/net").readlink()
            eventually(lambda: Path(f"/proc/{process.pid}/ns/net").readlink() != own)
            switch = Switch(process.pid)
            switch.start()
            yield switch
        finally:
            process.kill()


@dataclass(frozen=True, slots=True)
class Images:
    """What hosts boot from: root folders by release, folders to mount, and a folder for changed files."""

    roots: Mapping[str, Path]
    read_only: Mapping[str, Mapping[str, Path]]
    """Folders of the test machine by mount point, for each release."""
    options: Sequence[str]
    folder: Path

    def common(self, release: str) -> Path:
        """Return the folder with the changes to a root folder that all hosts of the release have."""
        return self.folder / release


@dataclass(slots=True, eq=False)
class Machine:
    """A host that can be powered off: its files outlive that, as those of a real machine do.

    They are kept in a folder of its own over those of its release, which stay unchanged. A new boot has
    another `Host`, and so another hostname and other namespaces, but the same keys and configuration.
    """

    name: str
    release: str
    address: str
    switch: Switch
    images: Images
    _running: ExitStack = field(default_factory=ExitStack)
    _host: Host | None = None
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    """The kernel powers a host off when the thread that booted it exits (PR_SET_PDEATHSIG)."""

    @property
    def host(self) -> Host:
        """The booted host."""
        assert self._host is not None, f"{self.name} is off"
        return self._host

    @property
    def is_on(self) -> bool:
        return self._host is not None

    def power_on(self) -> None:
        """Boot, and connect to the network before services that wait for it are needed."""
        self._thread.submit(self._boot).result()

    def power_off(self) -> None:
        """Shut down in order: sshd says goodbye to its clients."""
        self._host = None
        self._thread.submit(self._running.close).result()
        self.switch.disconnect(self.name)

    def cut_power(self) -> None:
        """Stop at once: no packet leaves the host any more."""
        self.switch.unplug(self.name)
        os.kill(self.host.leader, signal.SIGKILL)
        self.power_off()

    def close(self) -> None:
        """Stop for good, and at once: its files are not needed any more."""
        if self.is_on:
            self.cut_power()
        self._thread.shutdown()

    def shell(self, script: str) -> str:
        """Run a script of the shell as root, and return its output."""
        return self.host.run("sh", "-ec", script).stdout

    def _boot(self) -> None:
        root, common = self.images.roots[self.release], self.images.common(self.release)
        own = self.images.folder / self.name
        own.mkdir(exist_ok=True)
        layers = (root, own) if own == common else (root, common, own)
        options = ("--volatile=no", f"--overlay={':'.join(map(str, layers))}:/", *self.images.options)
        log = self.images.folder / f"{self.name}.log"
        running = booted(self.release, root, self.images.read_only[self.release], log, options)
        host = self._running.enter_context(running)
        self.switch.connect(host, self.name, self.address)
        self._host = host


@dataclass(frozen=True, slots=True)
class Cut:
    """A way to cut a host off and to bring it back."""

    begin: Callable[[Machine], object]
    end: Callable[[Machine], object]
    is_power_off: bool = False
    is_retried_late: bool = False
    """The daemon makes the next attempt minutes later, unless a reload asks for it."""


def _unplug(machine: Machine) -> None:
    machine.switch.unplug(machine.name)


def _plug(machine: Machine) -> None:
    machine.switch.plug(machine.name)


def _script(text: str) -> Callable[[Machine], object]:
    return lambda machine: machine.shell(text)


def _with_new_sessions(change: str) -> Callable[[Machine], object]:
    """Change what only new sessions notice, and end the current ones."""
    return _script(f"{change}\nsystemctl restart ssh.service\n{_END_SESSIONS}")


CUTS: Final[Mapping[str, Cut]] = {
    "link down": Cut(_unplug, _plug),
    "nft drop": Cut(_script(_DROP_ALL), _script("nft delete table inet cut")),
    "sshd stopped": Cut(
        _script(f"systemctl stop ssh.service\n{_END_SESSIONS}"), _script("systemctl start ssh.service")
    ),
    "shut down": Cut(Machine.power_off, Machine.power_on, is_power_off=True),
    "power cut": Cut(Machine.cut_power, Machine.power_on, is_power_off=True),
    "host key changed": Cut(_with_new_sessions(_CHANGE_HOST_KEY), _with_new_sessions(_RESTORE_HOST_KEY)),
    "key refused": Cut(
        _with_new_sessions(f"mv {AUTHORIZED_KEYS} {AUTHORIZED_KEYS}.kept"),
        _script(f"mv {AUTHORIZED_KEYS}.kept {AUTHORIZED_KEYS}"),
        is_retried_late=True,
    ),
}
"""The ways to cut a host off, by name."""


@dataclass(frozen=True, slots=True)
class Lan:
    """A network of hosts with hkswitch and sshd."""

    central: Machine
    remotes: tuple[Machine, ...]

    @property
    def machines(self) -> tuple[Machine, ...]:
        return (self.central, *self.remotes)

    def on_each(self, do: Callable[[Machine], T], machines: Sequence[Machine] = ()) -> list[T]:
        """Do something on all hosts at once, or on some."""
        chosen = machines or self.machines
        with ThreadPoolExecutor(len(chosen)) as threads:
            return list(threads.map(do, chosen))


@contextmanager
def powered_on(images: Images, central: str, releases: Sequence[str]) -> Iterator[Lan]:
    """Boot the central host, and a remote one of each of these releases, and install hkswitch on them."""
    with switched_on() as switch:
        remotes = tuple(
            Machine(name, release, f"10.77.0.{number}", switch, images)
            for number, (name, release) in enumerate(zip(REMOTE_NAMES, releases, strict=False), start=11)
        )
        lan = Lan(Machine(CENTRAL, central, ADDRESS, switch, images), remotes)
        for release in {machine.release for machine in lan.machines}:
            _make_common(Machine(release, release, ADDRESS, switch, images))
        try:
            lan.on_each(_boot_first)
            yield lan
        finally:
            lan.on_each(Machine.close)


@contextmanager
def in_memory(folder: Path) -> Iterator[Path]:
    """Keep the files of a folder in memory, and drop them in the end: a disk would take seconds for both."""
    subprocess.run(("mount", "--types=tmpfs", "--options=mode=0755", "tmpfs", str(folder)), check=True)
    try:
        yield folder
    finally:
        subprocess.run(("umount", "--lazy", str(folder)), check=True)


def _make_common(machine: Machine) -> None:
    """Install hkswitch once for all hosts of a release: each installation takes time and space."""
    machine.power_on()
    try:
        install(machine.host)
        machine.shell(_MAKE_COMMON)
        machine.power_off()
    finally:
        machine.close()


def _boot_first(machine: Machine) -> None:
    machine.power_on()
    machine.shell(_FIRST_BOOT)
