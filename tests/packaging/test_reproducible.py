"""Builds are reproducible: user, place and time do not affect the bytes."""

import gzip
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.packaging.building import COMMITTED, MADE, Builds, Circumstances, Kind, git
from tests.packaging.contents import differences, times

ROOT: Final = Path(__file__).parents[2]

PROGRAMS: Final = ("dpkg-deb", "git", "localedef", "rpm", "rpmbuild")

PATTERNS: Final = tuple(pattern for patterns in MADE.values() for pattern in patterns)

Pair = tuple[Path, Path]


@pytest.fixture(scope="module")
def pairs(builds: Builds) -> dict[str, Pair]:
    """The files built from both checkouts, by pattern."""
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        pytest.skip(f"needed to build all of it: {', '.join(missing)}")
    first, second = builds.of_both(Kind)
    return {pattern: (first[pattern], second[pattern]) for pattern in PATTERNS}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_two_folders_times_umasks_and_locales_make_the_same_bytes(
    pairs: dict[str, Pair], pattern: str
) -> None:
    first, second = pairs[pattern]
    assert first.name == second.name
    assert differences(pattern, first, second) == []


@pytest.mark.parametrize("pattern", PATTERNS)
def test_all_times_are_that_of_the_last_commit(pairs: dict[str, Pair], pattern: str) -> None:
    """The commit is so old that the time of a build cannot match."""
    found = times(pattern, pairs[pattern][0])
    assert {name: time for name, time in found.items() if time != COMMITTED} == {}


def test_the_size_that_a_deb_states_is_that_of_its_files(pairs: dict[str, Pair]) -> None:
    """Like dpkg-gencontrol: files count in whole KiB, and everything else counts as one."""
    deb = pairs["*.deb"][0]
    with tarfile.open(fileobj=io.BytesIO(output("dpkg-deb", "--fsys-tarfile", deb))) as archive:
        size = sum(-(-member.size // 1024) if member.isfile() else 1 for member in archive)
    stated = int(output("dpkg-deb", "--field", deb, "Installed-Size"))
    assert stated == size


def test_a_deb_has_the_version_of_its_commit_and_its_release(builds: Builds, pairs: dict[str, Pair]) -> None:
    deb = pairs["*.deb"][0]
    version = output("dpkg-deb", "--field", deb, "Version").decode().strip()
    assert re.fullmatch(re.escape(f"{builds.native_version}-1~") + r"[a-z]+[0-9.]*", version)
    assert "+1.g" in version
    assert deb.name.startswith(f"hkswitch_{version.replace('~', '.')}_")


def output(*command: str | Path) -> bytes:
    return subprocess.run(command, check=True, capture_output=True).stdout


# An sdist is as good as the checkout


def test_an_unpacked_sdist_makes_the_same_bytes(
    builds: Builds, pairs: dict[str, Pair], long: bool, tmp_path: Path
) -> None:
    """With --long, all kinds of files."""
    sdist = pairs["*.tar.gz"][0]
    output("tar", "--extract", "--touch", "--file", sdist, "--directory", tmp_path)  # with new times
    unpacked = Circumstances(tmp_path / "a folder", 0o022, builds.usual.environment)
    (tmp_path / f"hkswitch-{builds.version}").rename(unpacked.checkout)
    for kind in Kind if long else (Kind.DIST,):
        for pattern, made in unpacked.make(kind).items():
            assert differences(pattern, pairs[pattern][0], made) == [], pattern


# Where the time is from


def checkout(folder: Path) -> None:
    """Create a repository with one commit, at COMMITTED."""
    git(folder, "init", "--quiet")
    git(folder, "commit", "--quiet", "--allow-empty", "--message=All")


def below_a_checkout(folder: Path) -> None:
    checkout(folder.parent)


def of_an_sdist(folder: Path) -> None:
    (folder / "packaging" / "time").write_text("1700000000\n")


def sdist_in_a_checkout(folder: Path) -> None:
    checkout(folder)
    of_an_sdist(folder)


def released(folder: Path) -> None:
    (folder / "CHANGELOG.md").write_text(
        "# C\n\n## Unreleased\n\n## 0.2.0 - 2026-12-24\n\n## 0.1.0 - 2026-11-24\n"
    )


def never_released(folder: Path) -> None:
    (folder / "CHANGELOG.md").write_text("# C\n\n## Unreleased\n\n- On 2026-12-24.\n")


def checkout_without_commits(folder: Path) -> None:
    git(folder, "init", "--quiet")
    released(folder)


def with_scripts(folder: Path) -> None:
    (folder / "packaging").mkdir(parents=True)
    for script in ("same-bytes", "history"):
        shutil.copy(ROOT / "packaging" / script, folder / "packaging")


@pytest.mark.parametrize(
    ("sources", "given", "time"),
    [
        ((checkout,), {}, COMMITTED),
        ((checkout,), {"SOURCE_DATE_EPOCH": "1600000000"}, 1600000000),
        ((checkout,), {"SOURCE_DATE_EPOCH": ""}, COMMITTED),
        ((checkout, released), {}, COMMITTED),
        ((sdist_in_a_checkout,), {}, COMMITTED),
        ((of_an_sdist, released), {}, 1700000000),
        ((of_an_sdist,), {"SOURCE_DATE_EPOCH": "1600000000"}, 1600000000),
        ((released, below_a_checkout), {}, 1798070400),
        ((released,), {"TZ": "ODD-13:45"}, 1798070400),
        ((checkout_without_commits,), {}, 1798070400),
        ((never_released,), {}, 1580601600),
    ],
)
def test_the_time_is_of_the_sources_and_of_nothing_else(
    sources: tuple[Callable[[Path], None], ...], given: dict[str, str], time: int, tmp_path: Path
) -> None:
    folder = tmp_path / "sources"
    with_scripts(folder)
    for source in sources:
        source(folder)
    script = '. packaging/same-bytes; printf "%s\\n" "$SOURCE_DATE_EPOCH" "$(umask)" "$LC_ALL" "$TZ"'
    environment = {key: value for key, value in os.environ.items() if key != "SOURCE_DATE_EPOCH"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment | given,
        umask=0o077,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == (f"{time}\n0022\nC\nUTC0\n", "")


@pytest.mark.parametrize("given", ["abc", "-5", "1e3", " ", "4294967296", "99999999999999999999", "0x10"])
def test_a_time_that_archives_cannot_have_is_refused(given: str, tmp_path: Path) -> None:
    with_scripts(tmp_path)
    (tmp_path / "CHANGELOG.md").touch()
    command = ["bash", "-euo", "pipefail", "-c", ". packaging/same-bytes; echo built"]
    environment = os.environ | {"SOURCE_DATE_EPOCH": given}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"hkswitch: cannot use SOURCE_DATE_EPOCH={given}; unset it, or ")


# A difference is found, and named


def tar(folder: Path, name: str, *, when: int = 0, mode: int = 0o644, content: bytes = b"") -> Path:
    path = folder / name
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("inside")
        member.mtime, member.mode, member.size = when, mode, len(content)
        archive.addfile(member, io.BytesIO(content))
    path.write_bytes(gzip.compress(packed.getvalue(), mtime=0))
    return path


def wheel(folder: Path, name: str, *, when: int = 0, mode: int = 0o644, content: bytes = b"") -> Path:
    path = folder / name
    with zipfile.ZipFile(path, "w") as archive:
        member = zipfile.ZipInfo("inside", (2026, 1, 1, 0, 0, when))
        member.external_attr = mode << 16
        archive.writestr(member, content)
    return path


def deb(folder: Path, name: str, *, when: int = 0, mode: int = 0o644, content: bytes = b"") -> Path:
    tree = folder / f"{name}.tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        "Package: inside\nVersion: 1\nArchitecture: all\nMaintainer: T <t@hkswitch.invalid>\nDescription: T\n"
    )
    (tree / "inside").write_bytes(content)
    (tree / "inside").chmod(mode)
    for path in (*tree.rglob("*"), tree):
        os.utime(path, (0, 0))
    os.utime(tree / "inside", (when, when))
    path = folder / name
    environment = os.environ | {"SOURCE_DATE_EPOCH": "1000"}
    build = ("dpkg-deb", "-Znone", "--root-owner-group", "--build", tree, path)
    subprocess.run(build, check=True, capture_output=True, env=environment)
    return path


def sbom(folder: Path, name: str, *, when: int = 0, mode: int = 0o644, content: bytes = b"") -> Path:
    path = folder / name
    stamp = f"2026-01-01T00:00:{when:02}Z"
    path.write_text(json.dumps({"metadata": {"timestamp": stamp}, "inside": [mode, content.decode()]}))
    return path


@pytest.mark.parametrize(
    ("pattern", "build"), [("*.tar.gz", tar), ("*.whl", wheel), ("*.deb", deb), ("*.cdx.json", sbom)]
)
@pytest.mark.parametrize(
    ("changed", "named"),
    [({"when": 4}, True), ({"mode": 0o600}, True), ({"content": b"x"}, True), ({}, False)],
)
def test_what_differs_is_found_and_named(
    pattern: str, build: Callable[..., Path], changed: dict[str, object], named: bool, tmp_path: Path
) -> None:
    if build is deb and shutil.which("dpkg-deb") is None:
        pytest.skip("there is no dpkg-deb")
    first, second = build(tmp_path, "first"), build(tmp_path, "second", **changed)
    found = differences(pattern, first, second)
    assert any("inside" in line for line in found) == named
    assert bool(found) == named
