"""What `make test-peer` downloads: as the locks have it, by hash, into .cache; none of npm's scripts run."""

import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final

NPM: Final = Path(__file__).with_name("npm")
HOMEKIT: Final = Path(__file__).with_name("homekit.lock")
CACHE: Final = Path(__file__).parents[2] / ".cache"
CPU: Final = {"x86_64": "x64", "aarch64": "arm64"}


def downloaded() -> Path:
    """The folder with node_modules."""
    return _made(NPM / "package-lock.json", _install_npm)


def venv() -> Path:
    """A venv with PyPI's homekit, of which a part is compiled."""
    return _made(HOMEKIT, _install_homekit)


def _made(lock: Path, install: Callable[[Path], None]) -> Path:
    """The folder that `install` made of this lock, once."""
    finished = CACHE / "test-peer" / sha256(lock.read_bytes()).hexdigest()[:12]
    done = finished / "installed"
    if not done.exists():
        shutil.rmtree(finished, ignore_errors=True)
        finished.mkdir(parents=True)
        install(finished)
        done.touch()
    return finished


def _install_npm(folder: Path) -> None:
    shutil.copytree(NPM, folder, dirs_exist_ok=True)
    _run(folder, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")


def _install_homekit(folder: Path) -> None:
    _run(folder, sys.executable, "-m", "venv", str(folder))
    pip = (str(folder / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check")
    _run(folder, *pip, "install", "--require-hashes", "--requirement", str(HOMEKIT))


def _run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True, stdin=subprocess.DEVNULL, capture_output=True)


def node(modules: Path) -> Path:
    """The Node.js of this machine's processor."""
    return modules / f"node-linux-{CPU[platform.machine()]}" / "bin" / "node"
