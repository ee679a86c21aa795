"""The commands of docs/releasing.md work, with a temporary key and real builds."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.packaging.building import MADE, Builds, Kind, git

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "releasing.md").read_text()

PASSPHRASE: Final = "throw away"
TAG: Final = "v0.2.0"

BLOCK: Final = re.compile(r"^ *```console\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def section(heading: str) -> str:
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def typed(heading: str) -> list[str]:
    """Return the commands below a heading, as typed by a reader."""
    blocks = BLOCK.findall(section(heading))
    return ["\n".join(line.partition("$ ")[2] for line in block.splitlines()) for block in blocks]


def with_word(heading: str, word: str) -> str:
    """Return the only block that contains a word."""
    [block] = [block for block in typed(heading) if word in block]
    return block


KEY: Final = with_word("The key", "ssh-keygen")
TAGGED: Final = with_word("Make a release", "tag --sign")
SIGNED: Final = with_word("Make a release", "-Y sign")
VERIFIED: Final = with_word("Verify a release", "-Y verify")
TAG_VERIFIED: Final = with_word("Verify a release", "verify-tag")


@dataclass(frozen=True)
class Maintainer:
    """A maintainer with a home folder, a checkout, and a passphrase for ssh-keygen."""

    home: Path
    checkout: Path
    environment: Mapping[str, str]

    def types(self, block: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=folder or self.checkout,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )


def maintainer(folder: Path, of: Path) -> Maintainer:
    """Create a maintainer whose key is among the signers of the checkout."""
    (folder / "home" / ".ssh").mkdir(parents=True)
    (folder / "ask").write_text(f"#!/bin/sh\necho '{PASSPHRASE}'\n")
    (folder / "ask").chmod(0o700)
    git(folder, "clone", "--quiet", of, "checkout")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "SSH_"))}
    made = Maintainer(
        folder / "home",
        folder / "checkout",
        environment
        | {"HOME": str(folder / "home"), "SSH_ASKPASS": str(folder / "ask"), "SSH_ASKPASS_REQUIRE": "force"}
        | {"GIT_COMMITTER_NAME": "Tests", "GIT_COMMITTER_EMAIL": "tests@hkswitch.invalid"},
    )
    done = made.types(KEY)
    assert done.returncode == 0, done.stderr
    return made


@dataclass(frozen=True)
class Release:
    """The files that users download, with the signers that they trust."""

    maintainer: Maintainer
    folder: Path

    def verified(self) -> subprocess.CompletedProcess[str]:
        return self.maintainer.types(VERIFIED, self.folder)


@pytest.fixture(scope="module")
def signer(builds: Builds, tmp_path_factory: pytest.TempPathFactory) -> Maintainer:
    """A maintainer who has made a release of a real build by the page's commands."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("there is no ssh-keygen")
    built = builds.of_one(Kind.DIST) | builds.of_one(Kind.SBOM)
    signer = maintainer(tmp_path_factory.mktemp("signer"), builds.usual.checkout)
    (signer.checkout / "dist").mkdir()
    for path in built.values():
        shutil.copy(path, signer.checkout / "dist")
    for block in (TAGGED, SIGNED):
        done = signer.types(block)
        assert done.returncode == 0, done.stderr
    return signer


@pytest.fixture
def release(signer: Maintainer, tmp_path: Path) -> Release:
    """A downloaded copy of the release."""
    folder = tmp_path / "downloads"
    shutil.copytree(signer.checkout / "dist", folder)
    shutil.copy(signer.checkout / "packaging" / "signers", folder)
    return Release(signer, folder)


def test_what_was_signed_is_verified(release: Release) -> None:
    verified = release.verified()
    assert verified.returncode == 0, verified.stderr
    signature, *files = verified.stdout.splitlines()
    [said] = re.findall(r"prints `([^`]*)`", section("Verify a release"))
    assert signature.startswith(said)
    assert files == [f"{path.name}: OK" for path in sorted(release.folder.glob("hkswitch*"))]
    assert len(files) == sum(len(MADE[kind]) for kind in (Kind.DIST, Kind.SBOM))


def test_one_of_the_files_is_enough(release: Release) -> None:
    [wheel] = release.folder.glob("*.whl")
    for path in release.folder.glob("hkswitch*"):
        if path != wheel:
            path.unlink()
    assert release.verified().stdout.splitlines()[1:] == [f"{wheel.name}: OK"]


def other_file(release: Release) -> None:
    [wheel] = release.folder.glob("*.whl")
    wheel.write_bytes(wheel.read_bytes() + b"\n")


def other_sums(release: Release) -> None:
    """Replace a file, with correct checksums."""
    other_file(release)
    subprocess.run("sha256sum hkswitch* > SHA256SUMS", shell=True, cwd=release.folder, check=True)


def other_key(release: Release) -> None:
    """Sign with a key that is not among the signers."""
    other_sums(release)
    other = maintainer(release.folder.parent, release.maintainer.checkout)
    (release.folder / "SHA256SUMS.sig").unlink()
    (other.checkout / "dist").symlink_to(release.folder)
    done = other.types(SIGNED)
    assert done.returncode == 0, done.stderr
    assert (release.folder / "SHA256SUMS.sig").exists()


def no_signature(release: Release) -> None:
    (release.folder / "SHA256SUMS.sig").unlink()


def signature_for_another_purpose(release: Release) -> None:
    other_purpose = SIGNED.replace("-n hkswitch-release", "-n file")
    (release.folder / "SHA256SUMS.sig").unlink()
    assert release.maintainer.types(other_purpose.replace("cd dist\n", ""), release.folder).returncode == 0


def no_signers_yet(release: Release) -> None:
    shutil.copy(ROOT / "packaging" / "signers", release.folder)


def no_file(release: Release) -> None:
    for path in release.folder.glob("hkswitch*"):
        path.unlink()


def malformed_sums(release: Release) -> None:
    """Sign checksums that have a malformed line."""
    with (release.folder / "SHA256SUMS").open("a") as sums:
        sums.write("not a sum\n")
    (release.folder / "SHA256SUMS.sig").unlink()
    sign = SIGNED.splitlines()[-1]
    assert release.maintainer.types(sign, release.folder).returncode == 0


@pytest.mark.parametrize(
    ("attack", "signed"),
    [
        (other_file, True),
        (other_sums, False),
        (other_key, False),
        (no_signature, False),
        (signature_for_another_purpose, False),
        (no_signers_yet, False),
        (no_file, True),
        (malformed_sums, True),
    ],
)
def test_what_was_not_signed_fails(attack: Callable[[Release], None], signed: bool, release: Release) -> None:
    attack(release)
    verified = release.verified()
    assert verified.returncode != 0
    assert ("Good" in verified.stdout) == signed


# Tags


@pytest.fixture
def tag_of_another(signer: Maintainer, tmp_path: Path) -> Iterator[None]:
    """Replaces the tag by one with a key that is not among the signers."""
    other = maintainer(tmp_path, signer.checkout)
    assert other.types(f"git tag --delete {TAG}").returncode == 0
    done = other.types(TAGGED)
    assert done.returncode == 0, done.stderr
    restored = signer.types(f"git rev-parse {TAG}").stdout
    git(signer.checkout, "fetch", "--quiet", "--force", other.checkout, f"+refs/tags/{TAG}:refs/tags/{TAG}")
    yield
    git(signer.checkout, "update-ref", f"refs/tags/{TAG}", restored.strip())


def test_a_signed_tag_is_verified(signer: Maintainer) -> None:
    assert TAG in TAGGED
    verified = signer.types(TAG_VERIFIED)
    assert verified.returncode == 0, verified.stderr
    assert 'Good "git" signature for hkswitch' in verified.stderr


@pytest.mark.usefixtures("tag_of_another")
def test_a_tag_of_another_key_fails(signer: Maintainer) -> None:
    assert signer.types(TAG_VERIFIED).returncode != 0


def test_the_key_that_the_page_makes_has_a_passphrase(signer: Maintainer) -> None:
    asked = ("ssh-keygen", "-y", "-P", "", "-f", signer.home / ".ssh" / "hkswitch-release")
    assert subprocess.run(asked, capture_output=True, check=False).returncode != 0


def test_what_is_built_again_is_compared_with_what_is_in_a_release() -> None:
    """The page rebuilds the files that are signed; test_reproducible.py proves that they are identical."""
    built = with_word("Build it yourself", "make").splitlines()
    assert built[-1] == with_word("Make a release", "make dist")
