"""What a test host is made of: a Debian root folder and the locked wheels, made once and kept in .cache."""

import fcntl
import hashlib
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).parents[2]
LOCKS: Final = tuple(CHECKOUT / "requirements" / name for name in ("runtime.lock", "build.lock"))
CACHE: Final = CHECKOUT / ".cache"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Release:
    """A Debian release, and what of it a host needs, beside what its `base` has."""

    name: str
    suite: str
    python: str
    packages: tuple[str, ...]
    base: "Release | None" = None

    @property
    def layer(self) -> tuple[str, ...]:
        """What mmdebstrap adds to the base."""
        return (
            "--quiet",
            "--dpkgopt=force-unsafe-io",  # a fifth faster; whoever pulls the plug makes another
            f"--include={','.join(self.packages)}",
            *(f"--customize-hook={hook}" for hook in _HOOKS),
            self.suite,
        )

    @property
    def recipe(self) -> str:
        """All that says what is in the root."""
        base = "" if self.base is None else self.base.recipe
        return "\n".join((base, *self.layer))


_PLAIN: Final = ("dbus", "iproute2", "procps", "python3", "python3-venv", "sudo", "systemd", "systemd-sysv")

_SERVICES: Final = ("avahi-daemon", "avahi-utils", "nginx-light", "samba")

_HOOKS: Final = (
    # nspawn gives each host a name and an identity of its own, if the root has none
    ': > "$1/etc/machine-id"; rm -f "$1/etc/hostname"',
    # nothing starts by itself: some services wait for ever for a network, and timers disturb
    'echo "disable *" > "$1/usr/lib/systemd/system-preset/00-nothing.preset"',
    'chroot "$1" systemctl --quiet preset-all',
    'rm "$1/usr/lib/systemd/system-preset/00-nothing.preset"',
    # a fifth of all time went into what systemd asks at each daemon-reload about disks and consoles
    'mkdir -p "$1/etc/systemd/system-generators"',
    (
        'cd "$1/usr/lib/systemd/system-generators"; for generator in systemd-*; do '
        'ln -sf /dev/null "$1/etc/systemd/system-generators/$generator"; done'
    ),
)

_TRIXIE: Final = Release("plain-trixie", "trixie", "3.13", _PLAIN)
"""What all hosts of Debian 13 have in common: installed once, as that is most of the work."""

RELEASES: Final = {
    release.name: release
    for release in (
        Release("bookworm", "bookworm", "3.11", (*_PLAIN, *_SERVICES)),
        Release("trixie", "trixie", "3.13", (*_SERVICES, "sudo-rs"), base=_TRIXIE),
    )
}

RECIPES: Final = Release(
    "recipes",
    "trixie",
    "3.13",
    (
        "busybox-static",
        "crun",
        "docker-cli",
        "docker.io",
        "iputils-ping",
        "libvirt-clients",
        "libvirt-daemon",
        "podman",
        "wireguard-go",
        "wireguard-tools",
    ),
    base=_TRIXIE,
)
"""What the recipes of docs/recipes.md need, which the other hosts are quicker without."""

FRESH: Final = Release("fresh", "trixie", "3.13", ("git", "make"), base=_TRIXIE)
"""A machine of somebody who has heard of hkswitch today."""

FIREWALLS: Final = Release(
    "firewalls", "trixie", "3.13", ("firewalld", "iptables", "nftables", "ufw"), base=RELEASES["trixie"]
)
"""A host with every firewall, none of which runs."""

OPEN: Final = {
    name: Release(
        f"open-{name}",
        release.suite,
        release.python,
        ("at", "cron", "openssh-client", "openssh-server", "polkitd"),
        base=release,
    )
    for name, release in RELEASES.items()
}
"""Hosts with the services of others that a daemon which was taken over would turn to."""


def root_folder(release: Release, say: Say) -> Path:
    """The root folder of a release, made if there is none of this recipe yet."""

    def make(folder: Path) -> None:
        start: tuple[str, ...] = ("--variant=minbase",)
        if release.base is not None:
            base = root_folder(release.base, say)
            start = (
                "--variant=custom",
                f'--setup-hook=tar -C {base} --exclude="./dev/*" -c . | tar -C "$1" -x',
            )
        _run("mmdebstrap", *start, *release.layer, str(folder))

    return _cached(CACHE / "hosts", release.name, release.recipe, make, say)


def wheels_folder(release: Release, say: Say) -> Path:
    """All that an installation needs, as wheels for the release's Python."""
    return _downloaded(release.python, release, LOCKS, (), say)


def packages_folder(release: Release, say: Say) -> Path:
    """All that `make test` installs with the release's Python, and what builds those without a wheel."""
    locks = (*LOCKS, CHECKOUT / "requirements" / "dev.lock")
    return _downloaded("dev", release, locks, ("setuptools", "wheel"), say)


def _downloaded(
    family: str, release: Release, locks: tuple[Path, ...], builders: tuple[str, ...], say: Say
) -> Path:
    """What the locks hold for the release's Python, whichever this program's own is."""
    recipe = (
        # the locks name everything, and pip finds out dependencies for its own Python only
        *("--no-deps", "--implementation=cp", f"--python-version={release.python}"),
        *(f"--abi={abi}" for abi in (f"cp{release.python.replace('.', '')}", "abi3", "none")),
        *(f"--platform=manylinux_2_{minor}_{platform.machine()}" for minor in range(17, 37)),
    )
    download = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download")

    def make(folder: Path) -> None:
        locked = (f"--requirement={lock}" for lock in locks)
        _run(*download, "--require-hashes", f"--dest={folder}", *recipe, *locked)
        if builders:
            _run(*download, f"--dest={folder}", *builders)

    texts = "\n".join(lock.read_text() for lock in locks)
    return _cached(CACHE / "wheels", family, "\n".join((*recipe, texts)), make, say)


def _cached(folder: Path, family: str, recipe: str, make: Callable[[Path], None], say: Say) -> Path:
    """What the recipe makes, under its family's name: whole or not there, and the family's only one."""
    finished = folder / f"{family}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / f"{family}.lock"):
        if not finished.exists():
            for stale in folder.glob(f"{family}-*"):
                _remove(stale)
            started_seconds = time.monotonic()
            say(f"making {finished.relative_to(CHECKOUT)} ...")
            unfinished = folder / f"{family}-unfinished"
            try:
                make(unfinished)
                unfinished.rename(finished)
            finally:
                _remove(unfinished)
            say(f"made {finished.relative_to(CHECKOUT)} in {time.monotonic() - started_seconds:.0f} s")
    return finished


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove(folder: Path) -> None:
    _run("rm", "-rf", "--one-file-system", str(folder))


def _run(*argv: str) -> None:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{argv[0]} exited with {done.returncode}:\n{done.stderr[-4000:]}")
