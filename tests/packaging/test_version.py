"""packaging/version: each commit makes a newer version, by the rules of Python, dpkg and rpm."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest
from packaging.version import Version

from tests.packaging.building import git, without_git

ROOT: Final = Path(__file__).parents[2]
MODULE: Final = "hkswitch/__init__.py"

HISTORY: Final = ("0.1.0", "", "", "0.2.0rc1", "", "0.2.0rc2", "0.2.0", *("",) * 11, "0.10.0")
"""The version that each commit sets; most set none."""


class Sources:
    """A folder of sources with the script."""

    def __init__(self, folder: Path, version: str) -> None:
        self.folder = folder
        for place in ("packaging", "hkswitch"):
            (folder / place).mkdir(parents=True)
        for script in ("version", "history"):
            shutil.copy(ROOT / "packaging" / script, folder / "packaging")
        self.set(version)

    def set(self, version: str) -> None:
        (self.folder / MODULE).write_text(f'"""Text."""\n\n__version__ = "{version}"\n')

    def commit(self, version: str = "") -> None:
        if version:
            self.set(version)
        git(self.folder, "add", "--all")
        git(self.folder, "commit", "--quiet", "--allow-empty", f"--message={version or 'Change'}")

    def git(self, *argv: str | Path) -> None:
        git(self.folder, *argv)

    def run(self, *argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.folder / "packaging" / "version", *argv],
            cwd="/",
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def version(self, *argv: str) -> str:
        done = self.run(*argv)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()

    def head(self) -> str:
        shown = ("git", "rev-parse", "HEAD")
        asked = subprocess.run(
            shown, cwd=self.folder, capture_output=True, text=True, check=True, env=without_git()
        )
        return asked.stdout[:7]


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    """A repository whose only commit sets the version 0.2.0."""
    sources = Sources(tmp_path / "a folder", "0.2.0")
    sources.git("init", "--quiet", "--initial-branch=main")
    sources.commit()
    return sources


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """The version of each commit of HISTORY, for Python and for dpkg and rpm, oldest first."""
    sources = Sources(tmp_path_factory.mktemp("history") / "sources", "")
    sources.git("init", "--quiet")
    found = []
    for version in HISTORY:
        sources.commit(version)
        found.append((sources.version(), sources.version("native")))
    return found


def newer_for_python(older: str, newer: str) -> bool:
    return Version(older) < Version(newer)


def newer_for_dpkg(older: str, newer: str) -> bool:
    compare = ("dpkg", "--compare-versions", f"{older}-1~deb12", "lt", f"{newer}-1~deb12")
    return subprocess.run(compare, check=False).returncode == 0


def newer_for_rpm(older: str, newer: str) -> bool:
    lua = f'%{{lua: print(rpm.vercmp("{older}", "{newer}"))}}'
    return subprocess.run(["rpm", "--eval", lua], check=True, capture_output=True, text=True).stdout == "-1\n"


@pytest.mark.parametrize(
    ("program", "form", "is_newer"),
    [("python3", 0, newer_for_python), ("dpkg", 1, newer_for_dpkg), ("rpm", 1, newer_for_rpm)],
)
def test_each_commit_makes_a_newer_version(
    history: list[tuple[str, str]], program: str, form: int, is_newer: Callable[[str, str], bool]
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"there is no {program}")
    versions = [forms[form] for forms in history]
    assert [pair for pair in pairwise(versions) if not is_newer(*pair)] == []
    assert [pair for pair in pairwise(versions) if is_newer(*reversed(pair))] == []


def test_the_number_of_commits_starts_anew_with_each_version(history: list[tuple[str, str]]) -> None:
    plain = [re.sub(r"\.g[0-9a-f]{7}$", "", version) for version, _ in history]
    rows = [*("0.1.0", "0.1.0+1", "0.1.0+2"), *("0.2.0rc1", "0.2.0rc1+1"), "0.2.0rc2", "0.2.0"]
    assert plain == [*rows, *(f"0.2.0+{number}" for number in range(1, 12)), "0.10.0"]


def test_the_package_for_a_newer_release_is_newer() -> None:
    if shutil.which("dpkg") is None:
        pytest.skip("there is no dpkg")
    names = ("0.2.0-1~deb12", "0.2.0-1~deb13", "0.2.0-1", "0.2.0+1.gabc1234-1~deb12")
    for older, newer in pairwise(names):
        assert subprocess.run(["dpkg", "--compare-versions", older, "lt", newer], check=False).returncode == 0


# Which sources


def one_more(sources: Sources) -> None:
    sources.commit()


def tagged_later(sources: Sources) -> None:
    sources.commit()
    sources.git("tag", "v0.2.0")


def another_tag(sources: Sources) -> None:
    sources.commit()
    sources.git("tag", "v0.1.0")


def not_committed(sources: Sources) -> None:
    """The next version, in the working tree only."""
    sources.commit()
    sources.set("0.3.0")


def other_changes(sources: Sources) -> None:
    (sources.folder / "another").write_text("file")


def no_history(sources: Sources) -> None:
    shutil.rmtree(sources.folder / ".git")


def written_by_a_build(sources: Sources) -> None:
    no_history(sources)
    sources.set("0.2.0+12.gabc1234")


def an_sdist_in_a_repository(sources: Sources) -> None:
    written_by_a_build(sources)
    sources.git("init", "--quiet")
    sources.commit()
    sources.commit()


def below_a_repository(sources: Sources) -> None:
    sources.commit()
    (sources.folder / ".git").rename(sources.folder.parent / ".git")


def no_commits(sources: Sources) -> None:
    no_history(sources)
    sources.git("init", "--quiet")


def set_on_a_branch(sources: Sources) -> None:
    """Counts what was merged after the commit that set the version: two on main, and the merge."""
    sources.git("branch", "next")
    sources.commit()
    sources.commit()
    sources.git("checkout", "--quiet", "next")
    sources.commit("0.3.0")
    sources.git("checkout", "--quiet", "main")
    sources.git("merge", "--quiet", "--no-edit", "--no-ff", "next")


def set_by_a_merge(sources: Sources) -> None:
    """As the resolution of a conflict, in no other commit."""
    sources.git("checkout", "--quiet", "-b", "next")
    sources.commit("0.3.0")
    sources.git("checkout", "--quiet", "main")
    sources.commit("0.2.1")
    sources.git("merge", "--quiet", "--no-commit", "--strategy=ours", "next")
    sources.commit("0.4.0")
    sources.commit()


def line_rewritten(sources: Sources, text: str) -> None:
    sources.commit()
    (sources.folder / MODULE).write_text(text)


def moved(sources: Sources) -> None:
    """The line moves, and gets a comment later."""
    line_rewritten(sources, '__version__ = "0.2.0"\n\n"""Text."""\n')
    sources.commit()
    line_rewritten(sources, '__version__ = "0.2.0"  # the next one\n')
    sources.commit()


def comment_not_committed(sources: Sources) -> None:
    line_rewritten(sources, '__version__ = "0.2.0"  # the next one\n')


def binary_for_git(sources: Sources) -> None:
    sources.commit()
    (sources.folder / ".git" / "info" / "attributes").write_text("*.py binary\n")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (one_more, "0.2.0+1.g"),
        (moved, "0.2.0+4.g"),
        (comment_not_committed, "0.2.0+1.g"),
        (binary_for_git, "0.2.0+1.g"),
        (set_by_a_merge, "0.4.0+1.g"),
        (another_tag, "0.2.0+1.g"),
        (set_on_a_branch, "0.3.0+3.g"),
        (other_changes, "0.2.0"),
        (tagged_later, "0.2.0"),
        (not_committed, "0.3.0"),
        (no_history, "0.2.0"),
        (below_a_repository, "0.2.0"),
        (no_commits, "0.2.0"),
        (written_by_a_build, "0.2.0+12.gabc1234"),
        (an_sdist_in_a_repository, "0.2.0+12.gabc1234"),
    ],
)
def test_the_version_is_of_the_sources(
    sources: Sources, change: Callable[[Sources], None], expected: str
) -> None:
    change(sources)
    assert sources.version() == (f"{expected}{sources.head()}" if expected.endswith(".g") else expected)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give the checkout to another user")
def test_root_counts_the_commits_in_the_checkout_of_a_user(sources: Sources, tmp_path: Path) -> None:
    """As for `sudo make install`: git distrusts such a checkout, and a link to it once more."""
    sources.commit()
    expected = f"0.2.0+1.g{sources.head()}\n"
    subprocess.run(["chown", "--recursive", "nobody", sources.folder], check=True)
    (tmp_path / "link").symlink_to(sources.folder)
    for place in (sources.folder, tmp_path / "link"):
        asked = [place / "packaging" / "version"]
        assert subprocess.run(asked, check=True, capture_output=True, text=True).stdout == expected


def test_a_build_writes_its_version_into_its_sources(sources: Sources, tmp_path: Path) -> None:
    sources.commit()
    copy = tmp_path / "copy.py"
    shutil.copy(sources.folder / MODULE, copy)
    sources.version("write", str(copy))
    assert copy.read_text() == f'"""Text."""\n\n__version__ = "0.2.0+1.g{sources.head()}"\n'


def rows_of_releasing_page() -> list[list[str]]:
    page = (ROOT / "docs" / "releasing.md").read_text()
    return [
        re.findall(r"`([^`]+)`", row)[-3:]
        for row in re.findall(r"^\| [^|]*(?:set|later).*", page, re.MULTILINE)
    ]


@pytest.mark.parametrize(("version", "deb", "rpm"), rows_of_releasing_page())
def test_the_page_has_the_versions_of_packages(sources: Sources, version: str, deb: str, rpm: str) -> None:
    native = sources.version("native", version)
    assert (deb, rpm) == (f"{native}-1~deb13", f"{native}-1")
    assert ("~" in native) == ("rc" in version)


def test_the_page_shows_a_candidate_and_a_release_each_with_later_commits() -> None:
    versions = [row[0] for row in rows_of_releasing_page()]
    assert versions == ["0.2.0rc1", "0.2.0rc1+3.gabc1234", "0.2.0", "0.2.0+12.gabc1234"]


@pytest.mark.parametrize("version", ["", "0.2.0.dev1", "0.2.0-1", "v0.2.0", "0.2.0+dirty", "0.2.0; reboot"])
def test_a_version_that_does_not_sort_is_refused(sources: Sources, version: str) -> None:
    sources.set(version)
    for argv in ((), ("native",), ("write", "/nowhere")):
        refused = sources.run(*argv)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith(
            f"hkswitch: cannot use the version {version} in {MODULE}; set it to "
        )


def test_a_shallow_clone_is_refused_unless_it_is_a_release(sources: Sources, tmp_path: Path) -> None:
    """It would count too few commits."""
    sources.commit()
    sources.commit()
    clone = Sources(tmp_path / "clones", "0.2.0")
    shutil.rmtree(clone.folder)
    git(tmp_path, "clone", "--quiet", "--depth=2", f"file://{sources.folder}", clone.folder)
    refused = clone.run()
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "this clone is shallow; run `git fetch --unshallow`" in refused.stderr
    clone.git("tag", "v0.2.0")
    assert clone.version() == "0.2.0"
    clone.git("tag", "--delete", "v0.2.0")
    clone.git("fetch", "--quiet", "--unshallow")
    assert clone.version() == f"0.2.0+2.g{sources.head()}"


def test_a_missing_git_is_reported(sources: Sources, tmp_path: Path) -> None:
    sources.commit()
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("bash", "dirname", "grep", "cut"):
        (programs / name).symlink_to(str(shutil.which(name)))
    done = sources.run(PATH=str(programs))
    assert (done.returncode, done.stdout) == (0, "0.2.0\n")
    assert done.stderr == "hkswitch: git is missing, so the version is 0.2.0, whatever the commit\n"


@pytest.mark.parametrize("variable", ["GIT_DIR", "GIT_OBJECT_DIRECTORY", "GIT_SHALLOW_FILE"])
def test_the_environment_cannot_name_another_repository(
    sources: Sources, tmp_path: Path, variable: str
) -> None:
    """As in a hook of that one."""
    sources.commit()
    git(tmp_path, "init", "--quiet", "--bare", "other.git")
    done = sources.run(**{variable: str(tmp_path / "other.git")})
    assert (done.stdout, done.stderr) == (f"0.2.0+1.g{sources.head()}\n", "")


def test_a_copy_of_a_linked_worktree_is_reported(sources: Sources) -> None:
    shutil.rmtree(sources.folder / ".git")
    (sources.folder / ".git").write_text("gitdir: /nowhere\n")
    done = sources.run()
    assert (done.returncode, done.stdout) == (0, "0.2.0\n")
    assert re.fullmatch(
        r"hkswitch: git cannot read the history \(fatal: .*\), so the version is 0\.2\.0, .*\n", done.stderr
    )


@pytest.fixture
def owned_by_another(sources: Sources) -> Sources:
    if os.geteuid() != 0:
        pytest.skip("only root can give files to another user")
    sources.commit()
    for path in (sources.folder, *sources.folder.rglob("*")):
        os.chown(path, 65534, 65534, follow_symlinks=False)
    return sources


def test_root_counts_in_a_checkout_of_another_user_behind_a_link(
    owned_by_another: Sources, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(owned_by_another.folder)
    command = [link / "packaging" / "version"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SUDO_")}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert re.fullmatch(r"0\.2\.0\+1\.g[0-9a-f]{7}\n", done.stdout), done.stderr


def test_root_runs_nothing_of_another_users_git_configuration(
    owned_by_another: Sources, tmp_path: Path
) -> None:
    """Not even for the objects that a partial clone lacks: that user fetches them."""
    trap, sprung = tmp_path / "trap", tmp_path / "sprung"
    trap.write_text(f"#!/bin/sh\ntouch {sprung}\n")
    trap.chmod(0o755)
    settings = {
        "remote.origin.url": f"ext::{trap}",
        "remote.origin.promisor": "true",
        "remote.origin.partialclonefilter": "blob:none",
        "protocol.ext.allow": "always",
        "extensions.partialClone": "origin",
        "core.repositoryFormatVersion": "1",
        "log.showSignature": "true",
        **dict.fromkeys(
            (
                "core.fsmonitor",
                "core.sshCommand",
                "core.pager",
                "diff.external",
                "diff.x.textconv",
                "gpg.program",
            ),
            str(trap),
        ),
    }
    for name, value in settings.items():
        command = ("git", "config", "--file", owned_by_another.folder / ".git" / "config", name, value)
        subprocess.run(command, check=True)
    (owned_by_another.folder / ".git" / "info" / "attributes").write_text("*.py diff=x\n")
    assert owned_by_another.run().stdout.startswith("0.2.0+1.g")
    for file in (owned_by_another.folder / ".git" / "objects").glob("??/*"):
        kind = subprocess.run(
            ("git", "-c", "safe.directory=*", "cat-file", "-t", file.parent.name + file.name),
            cwd=owned_by_another.folder,
            env=without_git(),
            capture_output=True,
            text=True,
            check=True,
        )
        if kind.stdout == "blob\n":
            file.unlink()
    sprung.unlink(missing_ok=True)
    refused = owned_by_another.run()
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "cannot count the commits since version 0.2.0: git failed (see above); run" in refused.stderr
    assert not sprung.exists()


# What a build makes, and where


@pytest.mark.parametrize(
    ("others", "left"), [((), ()), (("a_0.1_x.deb", "a_0.2.rc1_y.deb"), ()), (("b.txt",), ("b.txt",))]
)
def test_a_folder_keeps_only_the_newest_file_of_a_kind(
    tmp_path: Path, others: tuple[str, ...], left: tuple[str, ...]
) -> None:
    """As the documents install it by a pattern."""
    folder = tmp_path / "dist folder"
    folder.mkdir()
    for name in (*others, "a_0.2+3.g1.deb12_x.deb"):
        (folder / name).write_text("old")
    made = tmp_path / "a_0.2+3.g1~deb12_x.deb"
    made.write_text("new")
    command = (ROOT / "packaging" / "deliver", made, folder, "a_*.deb")
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert said == f"{folder / 'a_0.2+3.g1.deb12_x.deb'}\n"
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        **dict.fromkeys(left, "old"),
        "a_0.2+3.g1.deb12_x.deb": "new",
    }


@pytest.mark.parametrize("left", [(), (".new.a_0.1_x.deb", "a_0.1_x.deb")])
def test_a_full_disk_leaves_no_half_file(tmp_path: Path, left: tuple[str, ...]) -> None:
    """Nor does it cost the older ones; what a killed build left is deleted by the next one."""
    folder = tmp_path / "dist"
    folder.mkdir()
    for name in left:
        (folder / name).write_text("old")
    made = tmp_path / "a_0.2_x.deb"
    made.write_bytes(bytes(1_000_000))
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "mv").write_text(
        '#!/bin/sh\nhead -c 1000 "$2" >"$3"\necho "mv: No space left on device" >&2\nexit 1\n'
    )
    (programs / "mv").chmod(0o755)
    command = (ROOT / "packaging" / "deliver", made, folder, "a_*.deb")
    full = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
    failed = subprocess.run(command, check=False, capture_output=True, text=True, env=full)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "hkswitch: cannot write " in failed.stderr
    assert sorted(path.name for path in folder.iterdir()) == sorted(left)
    subprocess.run(command, check=True, capture_output=True)
    assert [path.name for path in folder.iterdir()] == ["a_0.2_x.deb"]
