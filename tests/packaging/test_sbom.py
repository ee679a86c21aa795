"""The SBOM lists the packages of the runtime lock, and is valid CycloneDX."""

import json
import re
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.packaging.building import BIN, Builds, Kind

ROOT: Final = Path(__file__).parents[2]
LOCK: Final = ROOT / "requirements" / "runtime.lock"

ENTRY: Final = re.compile(r"^(\S+)==(\S+) .*\\\n((?: +--hash=.*\n?)+)", re.MULTILINE)


class Package(NamedTuple):
    """A locked package, as pip would install it."""

    name: str
    version: str
    hashes: frozenset[str]


@pytest.fixture(scope="module")
def sbom(builds: Builds) -> Path:
    return builds.of_one(Kind.SBOM)["*.cdx.json"]


def locked() -> set[Package]:
    """Parse the lock independently of the tool."""
    return {
        Package(name, version, frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", hashes)))
        for name, version, hashes in ENTRY.findall(LOCK.read_text())
    }


def listed(document: Path) -> set[Package]:
    components = json.loads(document.read_text())["components"]
    packages = {
        Package(component["name"], component["version"], frozenset(hashes_of(component)))
        for component in components
    }
    assert len(packages) == len(components)
    return packages


def hashes_of(component: dict[str, list[dict[str, list[dict[str, str]]]]]) -> set[str]:
    hashes = [each for link in component["externalReferences"] for each in link.get("hashes", [])]
    assert {each["alg"] for each in hashes} == {"SHA-256"}
    return {each["content"] for each in hashes}


def test_its_components_are_the_packages_of_the_runtime_lock(sbom: Path) -> None:
    assert len(locked()) == LOCK.read_text().count("==") - LOCK.read_text().count(" == ")
    assert all(package.hashes for package in locked())
    assert listed(sbom) == locked()


def test_each_component_has_the_address_that_advisories_name_it_by(sbom: Path) -> None:
    components = json.loads(sbom.read_text())["components"]
    assert {component["purl"] for component in components} == {
        f"pkg:pypi/{package.name}@{package.version}" for package in locked()
    }


def test_it_is_of_this_program_and_version(builds: Builds, sbom: Path) -> None:
    about = json.loads(sbom.read_text())["metadata"]["component"]
    assert (about["name"], about["version"]) == ("hkswitch", builds.version)
    assert sbom.name == f"hkswitch-{builds.version}.cdx.json"


def test_it_is_valid_cyclonedx(sbom: Path) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(sbom.read_text()) is None


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('"bomFormat": "CycloneDX"', '"bomFormat": "CycloneDY"'),
        ('"alg": "SHA-256"', '"alg": "SHA-257"'),
        ('"purl":', '"parl":'),
    ],
)
def test_the_validator_refuses_what_is_not(sbom: Path, right: str, wrong: str) -> None:
    text = sbom.read_text()
    assert right in text
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text.replace(right, wrong)) is not None


def test_it_names_no_run(sbom: Path) -> None:
    """A serial number would differ in each build."""
    document = json.loads(sbom.read_text())
    assert "serialNumber" not in document
    assert {each["name"] for each in document["metadata"]["properties"]} == {"cdx:reproducible"}


@pytest.mark.parametrize(
    ("argv", "sentence"), [((), "packaging/sbom FOLDER"), (("/nowhere",), "there is no folder /nowhere")]
)
def test_a_document_needs_a_folder(argv: tuple[str, ...], sentence: str) -> None:
    refused = subprocess.run(
        [ROOT / "packaging" / "sbom", *argv],
        env={"PATH": f"{BIN}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert sentence in refused.stderr
