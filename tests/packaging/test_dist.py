"""`make dist`: the sdist and the wheel contain all of our files and no others, can be installed, and run."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path
from typing import Final

import pytest

from tests.packaging.building import BIN, NOT_OURS, git, version_of

ROOT: Final = Path(__file__).parents[2]
LEFT_OVERS: Final = (
    ".venv/lib/secret.py",
    ".cache/hosts/bookworm/etc/shadow",
    ".hypothesis/examples/1",
    ".mypy_cache/x.json",
    "dist/hkswitch-0.0.1.tar.gz",
    "hkswitch/__pycache__/cli.cpython-311.pyc",
)
"""Files that may be left in a checkout."""


@dataclass(frozen=True)
class Built:
    """A build: its version, its folder, the files there, and both archives."""

    version: str
    folder: Path
    files: frozenset[str]
    sdist: Path
    wheel: Path

    def unpacked(self, into: Path) -> Path:
        run("tar", "--extract", "--file", self.sdist, "--directory", into)
        return into / f"hkswitch-{self.version}"


def run(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def make_dist(folder: Path) -> None:
    run("make", "--assume-old=venv", f"BIN={BIN}", "dist", cwd=folder)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A build from a copy of the checkout with left-over files, with one commit since the version was set."""
    folder = tmp_path_factory.mktemp("checkout") / "a copy"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_OURS))
    files = frozenset(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    for name in LEFT_OVERS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("not ours")
    (folder / ".hypothesis" / ".gitignore").write_text("*\n")
    git(folder, "init", "--quiet")
    (folder / "deleted").touch()
    git(folder, "add", "hkswitch/__init__.py", "deleted")
    git(folder, "commit", "--quiet", "--message=Version")
    (folder / "deleted").unlink()
    git(folder, "init", "--quiet", "another repository")
    git(folder, "commit", "--quiet", "--allow-empty", "--message=Change")
    make_dist(folder)
    version = version_of(folder)
    assert "+1.g" in version
    sdist, wheel = (folder / "dist" / f"hkswitch-{version}{end}" for end in (".tar.gz", "-py3-none-any.whl"))
    assert sorted((folder / "dist").iterdir()) == sorted((sdist, wheel))  # older ones are gone
    return Built(version, folder, files, sdist, wheel)


def test_the_sdist_has_every_file_of_the_checkout_and_nothing_else(built: Built, tmp_path: Path) -> None:
    unpacked = built.unpacked(tmp_path)
    found = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    assert found == built.files | {"PKG-INFO", "packaging/time"}


def test_the_files_of_the_sdist_are_the_same_and_programs_can_be_run(built: Built, tmp_path: Path) -> None:
    unpacked = built.unpacked(tmp_path)
    module = unpacked / "hkswitch" / "__init__.py"
    assert f'__version__ = "{built.version}"\n' in module.read_text()
    module.write_text(module.read_text().replace(built.version, built.version.partition("+")[0]))
    for name in built.files:
        ours, theirs = built.folder / name, unpacked / name
        assert (name, theirs.read_bytes()) == (name, ours.read_bytes())
        assert (name, os.access(theirs, os.X_OK)) == (name, os.access(ours, os.X_OK))


def test_the_wheel_has_the_program_and_nothing_else(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {name for name in built.files if name.startswith("hkswitch/")}


def test_the_version_is_the_one_of_the_program(built: Built, tmp_path: Path) -> None:
    about = message_from_bytes((built.unpacked(tmp_path) / "PKG-INFO").read_bytes())
    assert about["Version"] == built.version
    assert "version" not in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_building_again_makes_the_same_and_leaves_nothing_beside_it(built: Built) -> None:
    before = built.sdist.read_bytes(), built.wheel.read_bytes()
    make_dist(built.folder)
    assert (built.sdist.read_bytes(), built.wheel.read_bytes()) == before
    assert not (built.folder / "build").exists()


# Installing


@pytest.fixture(scope="module")
def dependencies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all packages installed here except hkswitch, as tests have no network."""
    folder = tmp_path_factory.mktemp("dependencies")
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "hkswitch" not in path.name and path.suffix != ".pth":
            (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture
def environment(tmp_path: Path, dependencies: Path) -> Path:
    """A new virtual environment with access to the dependencies."""
    folder = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(f"{dependencies}\n")
    return folder


def sdist(built: Built) -> Path:
    return built.sdist


def wheel(built: Built) -> Path:
    return built.wheel


@pytest.mark.parametrize("archive", [sdist, wheel])
def test_pip_installs_it_and_it_runs(
    built: Built, environment: Path, archive: Callable[[Built], Path]
) -> None:
    pip = ("-m", "pip", "--disable-pip-version-check", f"--python={environment}/bin/python")
    options = ("--no-index", "--no-cache-dir", "--no-build-isolation")
    run(sys.executable, *pip, "install", *options, archive(built))
    programs = environment / "bin"
    assert run(programs / "hkswitch", "--version") == f"hkswitch {built.version}\n"
    assert run(programs / "serviceswitch", "--version") == f"serviceswitch {built.version}\n"
    check = (programs / "hkswitch", "check", "--config", ROOT / "config.example.yaml")
    assert run(*check, cwd=environment) == "configuration OK\n"
    where = "import hkswitch, sys; print(hkswitch.__file__.startswith(sys.prefix))"
    assert run(programs / "python", "-c", where, cwd=environment) == "True\n"
