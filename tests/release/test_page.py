"""`make release-page`: the page lists exactly the signed files of a version, and refuses any other folder."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from release import page
from release.page import NoRelease, artefacts, changes, version_of_release

ROOT: Final = Path(__file__).parents[2]
RELEASING: Final = (ROOT / "docs" / "releasing.md").read_text()

DEB: Final = "hkswitch_{}-1.deb13_amd64.deb"
NAMES: Final = (
    "hkswitch_{}-1.deb12_amd64.deb",
    DEB,
    "hkswitch-{}-1.fc43.x86_64.rpm",
    "hkswitch-{}-py3-none-any.whl",
    "hkswitch-{}.tar.gz",
    "hkswitch-{}.cdx.json",
)

CHANGELOG: Final = """\
# Changelog

## Unreleased

### Added

- Tomorrow's.

## 0.2.0 - 2026-12-24

### Fixed

- A [page](docs/page.md), and a [site](https://example.org).

## 0.1.0 - 2026-11-01

### Added

- Yesterday's.
"""


def signed(folder: Path, version: str = "0.2.0") -> Path:
    """Write the files of a release, and what the signing commands leave."""
    for name in NAMES:
        (folder / name.format(version)).write_text(f"the content of {name}")
    sign(folder)
    return folder


def sign(folder: Path) -> None:
    files = sorted(folder.glob("hkswitch*"))
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
    (folder / page.SUMS).write_text(sums)
    (folder / page.SIGNATURE).write_text("a signature")


@pytest.mark.parametrize(("version", "named"), [("0.2.0", "0.2.0"), ("0.2.0rc1", "0.2.0.rc1")])
def test_a_page_lists_every_file_with_its_purpose_and_checksum(
    tmp_path: Path, version: str, named: str
) -> None:
    """In a file name, dpkg's tilde of a candidate is a dot."""
    signed(tmp_path)
    for path in tmp_path.glob("hkswitch*"):
        path.rename(
            tmp_path / path.name.replace("0.2.0", named if path.suffix in {".deb", ".rpm"} else version)
        )
    sign(tmp_path)
    written = page.page(version, artefacts(tmp_path, version), CHANGELOG, RELEASING)
    for line in (tmp_path / page.SUMS).read_text().splitlines():
        sha256, name = line.split()
        assert re.search(
            rf"^\| `{re.escape(name)}` \| [^|]+ \| [0-9,]+ \| `{sha256}` \|$", written, re.MULTILINE
        )
    assert written.count("\n| `") == len(NAMES)
    assert "apt on deb13, amd64" in written
    assert "dnf on fc43, x86_64" in written


def test_a_page_tells_how_to_verify_and_what_changed_and_needs_no_other_file(tmp_path: Path) -> None:
    written = page.page("0.2.0", artefacts(signed(tmp_path), "0.2.0"), CHANGELOG, RELEASING)
    assert written.startswith("# hkswitch 0.2.0\n\nReleased on 2026-12-24.\n")
    assert "$ ssh-keygen -Y verify -f signers -I hkswitch -n hkswitch-release " in written
    assert "$ sha256sum --check --ignore-missing --strict SHA256SUMS" in written
    assert "- A page, and a [site](https://example.org)." in written
    assert "Yesterday's" not in written
    assert "Tomorrow's" not in written
    assert re.findall(r"\]\((?!https?:)", written) == []


@pytest.mark.parametrize(
    ("version", "day", "text"),
    [
        ("0.2.0", "Released on 2026-12-24.", "### Fixed"),
        ("0.1.0", "Released on 2026-11-01.", "### Added\n\n- Yesterday's."),
        ("0.3.0rc1", "A candidate: please report what does not work.", "### Added\n\n- Tomorrow's."),
    ],
)
def test_the_changes_are_those_of_the_version(version: str, day: str, text: str) -> None:
    found = changes(CHANGELOG, version)
    assert found[0] == day
    assert found[1].startswith(text)


@pytest.mark.parametrize(
    ("version", "changelog"),
    [
        ("0.3.0", CHANGELOG),
        ("0.2", CHANGELOG),
        ("0.2.0", CHANGELOG.replace(" - 2026-12-24", "")),
        ("0.2.0rc1", ""),
    ],
)
def test_a_version_without_a_section_is_refused(version: str, changelog: str) -> None:
    with pytest.raises(NoRelease, match=r"CHANGELOG.md has no section for "):
        changes(changelog, version)


@pytest.mark.parametrize("version", ["0.2.0+12.gabc1234", "0.2.0rc1+1.gabc1234"])
def test_a_commit_that_is_no_release_is_refused(version: str) -> None:
    with pytest.raises(NoRelease, match=rf"run `git switch --detach v{version.partition('+')[0]}`"):
        version_of_release(version)
    assert version_of_release(version.partition("+")[0]) == version.partition("+")[0]


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name.format("0.2.0")).unlink()


def without_signed(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        without(name)(folder)
        sign(folder)

    return change


def changed(folder: Path) -> None:
    (folder / DEB.format("0.2.0")).write_text("other")


def another_file(folder: Path) -> None:
    (folder / "notes.txt").write_text("other")


def another_version(folder: Path) -> None:
    (folder / DEB.format("0.1.0")).write_text("other")
    sign(folder)


def a_version_between_releases(folder: Path) -> None:
    (folder / DEB.format("0.2.0+1.gabc1234")).write_text("other")
    sign(folder)


def malformed(folder: Path) -> None:
    (folder / page.SUMS).write_text("not a sum\n")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without(page.SUMS), "there is no SHA256SUMS in "),
        (without(page.SIGNATURE), "there is no SHA256SUMS.sig in "),
        (malformed, "malformed line"),
        (without(DEB), "these differ: hkswitch_0.2.0-1.deb13_amd64.deb"),
        (another_file, "these differ: notes.txt"),
        (changed, "hkswitch_0.2.0-1.deb13_amd64.deb is not the file that SHA256SUMS lists"),
        (another_version, "not of version 0.2.0: hkswitch_0.1.0-1.deb13_amd64.deb"),
        (a_version_between_releases, r"not of version 0.2.0: hkswitch_0.2.0\+1.gabc1234-1.deb13_amd64.deb"),
        *((without_signed(name), "there is no file for ") for name in NAMES[3:]),
    ],
)
def test_a_folder_that_is_not_a_signed_release_is_refused(
    tmp_path: Path, change: Callable[[Path], None], sentence: str
) -> None:
    signed(tmp_path)
    change(tmp_path)
    with pytest.raises(NoRelease, match=sentence):
        artefacts(tmp_path, "0.2.0")


@pytest.mark.parametrize("name", [NAMES[0], NAMES[2]])
def test_a_package_for_one_release_of_a_distribution_may_be_missing(tmp_path: Path, name: str) -> None:
    without_signed(name)(signed(tmp_path))
    assert len(artefacts(tmp_path, "0.2.0")) == len(NAMES) - 1


def test_the_reason_goes_to_standard_error_and_no_page_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "version_of_release", lambda _: "0.2.0")
    assert page.main(tmp_path) == 1
    assert capsys.readouterr().err.startswith("cannot write the release page: there is no SHA256SUMS in ")
    assert list(tmp_path.iterdir()) == []
