"""Builds and caches what a test host boots from: a Debian root file system, and the locked wheels."""

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

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Release:
    """A Debian release, and the packages that a host needs on top of its `base`."""

    name: str
    suite: str
    python: str
    packages: tuple[str, ...]
    base: "Release | None" = None

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments by which mmdebstrap adds to the base."""
        return (
            "--quiet",
            "--dpkgopt=force-unsafe-io",  # a fifth faster; after a power cut, the root is built again
            f"--include={','.join(self.packages)}",
            *(f"--customize-hook={hook}" for hook in _HOOKS),
            self.suite,
        )

    @property
    def recipe(self) -> str:
        """Everything that determines the contents; the cache key is made from it."""
        base = "" if self.base is None else self.base.recipe
        return "\n".join((base, *self.arguments))


_COMMON: Final = ("dbus", "iproute2", "procps", "python3", "python3-venv", "sudo", "systemd", "systemd-sysv")

_SERVICES: Final = ("avahi-daemon", "avahi-utils", "nginx-light", "samba")

_HOOKS: Final = (
    # without these, nspawn gives each host its own name and machine ID
    ': > "$1/etc/machine-id"; rm -f "$1/etc/hostname"',
    # no unit is enabled: some services wait forever for a network, and timers disturb tests
    'echo "disable *" > "$1/usr/lib/systemd/system-preset/00-nothing.preset"',
    'chroot "$1" systemctl --quiet preset-all',
    'rm "$1/usr/lib/systemd/system-preset/00-nothing.preset"',
    # generators for disks and consoles took a fifth of the total time, as each daemon-reload runs them
    'mkdir -p "$1/etc/systemd/system-generators"',
    (
        'cd "$1/usr/lib/systemd/system-generators"; for generator in systemd-*; do '
        'ln -sf /dev/null "$1/etc/systemd/system-generators/$generator"; done'
    ),
)

_TRIXIE: Final = Release("plain-trixie", "trixie", "3.13", _COMMON)
"""The common base of all Debian 13 hosts: installed once, as it takes most of the time."""

RELEASES: Final = {
    release.name: release
    for release in (
        Release("bookworm", "bookworm", "3.11", (*_COMMON, *_SERVICES)),
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
        "curl",
        "docker-cli",
        "docker-compose",
        "docker.io",
        "iputils-ping",
        "libvirt-clients",
        "libvirt-daemon",
        "nftables",
        "podman",
        "wireguard-go",
        "wireguard-tools",
    ),
    base=_TRIXIE,
)
"""The host for docs/recipes.md and for containers, with packages that would slow the other hosts down."""

FRESH: Final = Release("fresh", "trixie", "3.13", ("git", "make"), base=_TRIXIE)
"""The machine of a new user, before hkswitch is installed."""

FIREWALLS: Final = Release(
    "firewalls", "trixie", "3.13", ("firewalld", "iptables", "nftables", "ufw"), base=RELEASES["trixie"]
)
"""A host with every firewall, none of which runs."""

WITH_SERVICES: Final = {
    name: Release(
        f"services-{name}",
        release.suite,
        release.python,
        ("at", "cron", "nftables", "openssh-client", "openssh-server", "polkitd"),
        base=release,
    )
    for name, release in RELEASES.items()
}
"""Hosts with other services that a compromised daemon might use to leave its sandbox."""


def root_folder(release: Release, report: Report) -> Path:
    """Return the root folder of a release; build it unless the cache has one of this recipe."""

    def make(folder: Path) -> None:
        start: tuple[str, ...] = ("--variant=minbase",)
        if release.base is not None:
            base = root_folder(release.base, report)
            start = (
                "--variant=custom",
                f'--setup-hook=tar -C {base} --exclude="./dev/*" -c . | tar -C "$1" -x',
            )
        _run("mmdebstrap", *start, *release.arguments, str(folder))

    return _cached(CACHE / "hosts", release.name, release.recipe, make, report)


def wheels_folder(release: Release, report: Report) -> Path:
    """Return a folder with everything that an installation needs, as wheels for the release's Python."""
    return _downloaded(release.python, release, LOCKS, (), report)


def packages_folder(release: Release, report: Report) -> Path:
    """Return a folder with all packages of `make test`, and the build tools of those without a wheel."""
    locks = (*LOCKS, CHECKOUT / "requirements" / "dev.lock")
    return _downloaded("dev", release, locks, ("setuptools", "wheel"), report)


def _downloaded(
    family: str, release: Release, locks: tuple[Path, ...], builders: tuple[str, ...], report: Report
) -> Path:
    """Download what the locks pin, for the release's Python rather than for the one that runs this."""
    recipe = (
        # the locks are complete, and pip resolves dependencies only for the Python that runs it
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
    return _cached(CACHE / "wheels", family, "\n".join((*recipe, texts)), make, report)


def _cached(folder: Path, family: str, recipe: str, make: Callable[[Path], None], report: Report) -> Path:
    """Return the cached folder of a recipe; build it atomically if it is missing, and remove older ones."""
    finished = folder / f"{family}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / f"{family}.lock"):
        if not finished.exists():
            for stale in folder.glob(f"{family}-*"):
                _remove(stale)
            started_seconds = time.monotonic()
            report(f"creating {finished.relative_to(CHECKOUT)} ...")
            unfinished = folder / f"{family}-unfinished"
            try:
                make(unfinished)
                unfinished.rename(finished)
            finally:
                _remove(unfinished)
            report(f"created {finished.relative_to(CHECKOUT)} in {time.monotonic() - started_seconds:.0f} s")
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
