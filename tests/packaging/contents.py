"""Lists the contents of release files with their times, to find the differences between two builds."""

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

Contents = Mapping[str, str]
"""A description of each member, by name."""

RPM_FILE = ("FILENAMES", "FILEMODES:perms", "FILEMTIMES", "FILESIZES", "FILEDIGESTS", "FILEINODES")

ODD_RPM_TAGS = ("Sha1header", "Sha256header", "Sigmd5", "Payloaddigest", "Payloaddigestalt")
"""Digests, which differ whenever anything else does."""


def run(*command: str | Path) -> bytes:
    return subprocess.run(command, check=True, capture_output=True).stdout


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def of_tar(packed: bytes) -> Iterator[tuple[str, str, int]]:
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for place, member in enumerate(archive):
            content = archive.extractfile(member) if member.isfile() else None
            about = (
                f"number {place}, mode {member.mode:o}, owner {member.uid}:{member.gid}"
                f" {member.uname}:{member.gname}, link {member.linkname!r},"
                f" sha256 {digest(content.read() if content else b'')}, {member.pax_headers}"
            )
            yield member.name, about, int(member.mtime)


def of_sdist(path: Path) -> Iterator[tuple[str, str, int]]:
    yield "gzip's header", path.read_bytes()[:4].hex(), int.from_bytes(path.read_bytes()[4:8], "little")
    yield from of_tar(gzip.decompress(path.read_bytes()))


def of_wheel(path: Path) -> Iterator[tuple[str, str, int]]:
    with zipfile.ZipFile(path) as archive:
        for place, member in enumerate(archive.infolist()):
            about = (
                f"number {place}, mode {member.external_attr >> 16:o}, sha256 {digest(archive.read(member))}"
            )
            yield member.filename, about, zip_time(member)


def zip_time(member: zipfile.ZipInfo) -> int:
    """Return a zip member's time, in steps of two seconds and without time zone (hatchling uses UTC)."""
    return int(run("date", "--utc", "--date={}-{}-{} {}:{}:{}".format(*member.date_time), "+%s"))


def of_deb(path: Path) -> Iterator[tuple[str, str, int]]:
    """Read the ar members (the version and two archives), each of which has a header of 60 bytes."""
    content = path.read_bytes()
    place = len(b"!<arch>\n")
    while place < len(content):
        header = content[place : place + 60].decode()
        size = int(header[48:58])
        name = header[:16].rstrip()
        yield f"ar's {name}", f"owner {header[28:40]}, mode {header[40:48]}", int(header[16:28])
        place += 60 + size + size % 2
    for option in ("--ctrl-tarfile", "--fsys-tarfile"):
        for name, about, time in of_tar(run("dpkg-deb", option, path)):
            yield f"{option} {name}", about, time


def of_rpm(path: Path) -> Iterator[tuple[str, str, int]]:
    form = "[" + "\\t".join(f"%{{{tag}}}" for tag in RPM_FILE) + "\\n]"
    for line in run("rpm", "--query", f"--queryformat={form}", "--package", path).decode().splitlines():
        name, mode, time, *others = line.split("\t")
        yield name, f"mode {mode}, {others}", int(time)
    built = (
        run("rpm", "--query", "--queryformat=%{BUILDTIME} %{BUILDHOST}", "--package", path).decode().split()
    )
    yield "the header's time and host", built[1], int(built[0])
    for tag in run("rpm", "--query", "--xml", "--package", path).decode().split("<rpmTag ")[1:]:
        name = tag.split('"')[1]
        if name not in ODD_RPM_TAGS:
            yield f"tag {name}", tag, int(built[0])


def of_sbom(path: Path) -> Iterator[tuple[str, str, int]]:
    document = json.loads(path.read_text())
    stamp = document["metadata"]["timestamp"]
    time = int(run("date", f"--date={stamp}", "+%s"))
    yield from ((key, json.dumps(value), time) for key, value in document.items())


READERS = {
    "*.tar.gz": of_sdist,
    "*.whl": of_wheel,
    "*.deb": of_deb,
    "*.rpm": of_rpm,
    "*.cdx.json": of_sbom,
}


def members(pattern: str, path: Path) -> Contents:
    return {name: f"{about}, time {time}" for name, about, time in READERS[pattern](path)}


def times(pattern: str, path: Path) -> dict[str, int]:
    return {name: time for name, _, time in READERS[pattern](path)}


def differences(pattern: str, first: Path, second: Path) -> list[str]:
    """Return the members in which two files differ; nothing if the files are identical."""
    if first.read_bytes() == second.read_bytes():
        return []
    one, other = members(pattern, first), members(pattern, second)
    differing = [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]
    return [f"{name}: {one.get(name)} / {other.get(name)}" for name in differing] or [
        "only the compression differs"
    ]
