"""`make release-page`: writes dist/RELEASE.md: the files of a release, how to verify them, and the changes.

Run it at the tag of the release, when `dist` has the signed SHA256SUMS. It exits with 1 and the reason if the
files are not those of a release. It changes no other file, and signs nothing.
"""

import hashlib
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[1]

SUMS: Final = "SHA256SUMS"
SIGNATURE: Final = "SHA256SUMS.sig"
PAGE: Final = "RELEASE.md"

UNRELEASED: Final = "Unreleased"
"""The section of the changelog that describes a candidate."""

_SUM: Final = re.compile(r"([0-9a-f]{64})  (\S+)")
_LINK: Final = re.compile(r"\[([^]]*)\]\((?!https?:)[^)]*\)")


class NoRelease(Exception):
    """The reason why a folder is not ready to be published."""


class Kind(NamedTuple):
    """A kind of file: what it is for, and the pattern of its name, with VERSION for the version."""

    purpose: str
    pattern: str
    is_required: bool = True


KINDS: Final = (
    Kind(
        "apt on {release}, {architecture}",
        r"hkswitch_VERSION-1\.(?P<release>\w[\w.]*?)_(?P<architecture>\w+)\.deb",
    ),
    Kind(
        "dnf on {release}, {architecture}",
        r"hkswitch-VERSION-1\.(?P<release>\w+)\.(?P<architecture>\w+)\.rpm",
        is_required=False,
    ),
    Kind("pip and pipx", r"hkswitch-VERSION-py3-none-any\.whl"),
    Kind("the sources, to build any of the others", r"hkswitch-VERSION\.tar\.gz"),
    Kind("the bundled Python packages (CycloneDX)", r"hkswitch-VERSION\.cdx\.json"),
)


class Artefact(NamedTuple):
    """A file of a release."""

    name: str
    purpose: str
    size_bytes: int
    sha256: str


def version_of_release(version: str) -> str:
    """Return the version of a checkout; raise `NoRelease` if it is not a release."""
    base, plus, _ = version.partition("+")
    if plus:
        raise NoRelease(f"{version} is not a release; run `git switch --detach v{base}`")
    return version


def artefacts(folder: Path, version: str) -> list[Artefact]:
    """Return the files of a release, in the order of KINDS.

    Raises:
        NoRelease: If a file is missing, foreign or changed.
    """
    sums = _sums(folder)
    names = {path.name for path in folder.iterdir()} - {SUMS, SIGNATURE, PAGE}
    if names != sums.keys():
        raise NoRelease(
            f"{SUMS} must list exactly the other files; these differ: {_names(names ^ sums.keys())}"
        )
    found = []
    for kind in KINDS:
        of_kind = [match for name in sorted(names) if (match := _matched(kind, name, version))]
        if kind.is_required and not of_kind:
            raise NoRelease(
                f"there is no file for {kind.purpose.partition(' on {')[0]}; build it, and sign {SUMS} again"
            )
        found += [
            _artefact(folder, match[0], kind.purpose.format(**match.groupdict()), sums) for match in of_kind
        ]
    if foreign := names - {each.name for each in found}:
        raise NoRelease(f"these files are not of version {version}: {_names(foreign)}")
    return found


def changes(changelog: str, version: str) -> tuple[str, str]:
    """Return the title and the text of a version's section; that of a candidate is "Unreleased"."""
    is_candidate = re.fullmatch(r"[0-9.]+", version) is None
    title = UNRELEASED if is_candidate else rf"{re.escape(version)} - (\d{{4}}-\d{{2}}-\d{{2}})"
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if found is None:
        raise NoRelease(f"CHANGELOG.md has no section for {version}, with its date")
    *day, text = found.groups()
    return (
        f"Released on {day[0]}." if day else "A candidate: please report what does not work."
    ), text.strip()


def page(version: str, files: list[Artefact], changelog: str, releasing: str) -> str:
    """Return the page. `releasing`: docs/releasing.md, from which it takes the section about verifying."""
    released, text = changes(changelog, version)
    verify = releasing.partition("\n## Verify a release\n")[2].partition("\n## ")[0].strip()
    rows = (f"| `{each.name}` | {each.purpose} | {each.size_bytes:,} | `{each.sha256}` |" for each in files)
    parts = (
        f"# hkswitch {version}",
        released,
        "## Files",
        "\n".join(("| File | For | Bytes | SHA-256 |", "|---|---|---:|---|", *rows)),
        f"`{SUMS}` lists these checksums, and `{SIGNATURE}` is its signature.",
        "## Verify them",
        _LINK.sub(r"\1", verify),
        "## Changes",
        _LINK.sub(r"\1", text),
    )
    return "\n\n".join(parts) + "\n"


def _sums(folder: Path) -> dict[str, str]:
    for name in (SUMS, SIGNATURE):
        if not (folder / name).is_file():
            raise NoRelease(f"there is no {name} in {folder}; sign the files first")
    lines = (folder / SUMS).read_text().splitlines()
    matches = [_SUM.fullmatch(line) for line in lines]
    if None in matches:
        raise NoRelease(f"{SUMS} has a malformed line")
    return {match[2]: match[1] for match in matches if match}


def _matched(kind: Kind, name: str, version: str) -> re.Match[str] | None:
    """Match a name: dpkg and rpm separate a candidate's mark, which a file has as a dot."""
    pattern = kind.pattern.replace("VERSION", re.sub(r"(a|b|rc)", r"\.?\1", re.escape(version)))
    return re.fullmatch(pattern, name)


def _artefact(folder: Path, name: str, purpose: str, sums: Mapping[str, str]) -> Artefact:
    content = (folder / name).read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if sums[name] != sha256:
        raise NoRelease(f"{name} is not the file that {SUMS} lists; sign the files again")
    return Artefact(name, purpose, len(content), sha256)


def _names(names: set[str]) -> str:
    return ", ".join(sorted(names))


def main(folder: Path) -> int:
    """Write the page for the files in `folder`; return the exit status."""
    asked = subprocess.run([ROOT / "packaging" / "version"], stdout=subprocess.PIPE, text=True, check=True)
    try:
        version = version_of_release(asked.stdout.strip())
        files = artefacts(folder, version)
        texts = [(ROOT / name).read_text() for name in ("CHANGELOG.md", "docs/releasing.md")]
        (folder / PAGE).write_text(page(version, files, *texts))
    except (NoRelease, OSError) as error:
        print(f"cannot write the release page: {error}", file=sys.stderr)
        return 1
    print(folder / PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path("dist")))
