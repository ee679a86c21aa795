"""The RPM package: its files, its scripts, and rpmlint's result. These tests do not install it."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.host.rootfs import CHECKOUT
from tests.packaging.building import Builds, Kind, python_version

PROGRAMS: Final = ("rpm", "rpmbuild", "rpmlint")

FILES: Final = {
    "/etc/hkswitch": "drwxr-xr-x",
    "/etc/hkswitch/config.yaml": "-rw-r--r--",
    "/etc/sudoers.d/hkswitch": "-r--r-----",
    "/usr/bin/hkswitch": "-rwxr-xr-x",
    "/usr/lib/hkswitch": "drwxr-xr-x",
    "/usr/lib/hkswitch/systemd/helper-socket.conf": "-rw-r--r--",
    "/usr/lib/systemd/system/hkswitch.service": "-rw-r--r--",
    "/usr/lib/systemd/system/multi-user.target.wants/var-lib-hkswitch.mount": "lrwxrwxrwx",
    "/usr/lib/systemd/system/serviceswitch.socket": "-rw-r--r--",
    "/usr/lib/systemd/system/serviceswitch@.service": "-rw-r--r--",
    "/usr/lib/systemd/system/var-lib-hkswitch.mount": "-rw-r--r--",
    "/usr/lib/sysusers.d/hkswitch.conf": "-rw-r--r--",
    "/usr/sbin/serviceswitch": "-rwxr-xr-x",
    "/usr/share/bash-completion/completions/hkswitch": "-rw-r--r--",
    "/usr/share/dbus-1/system.d/hkswitch.conf": "-rw-r--r--",
    "/usr/share/fish/vendor_completions.d/hkswitch.fish": "-rw-r--r--",
    "/usr/share/hkswitch/account": "-rwxr-xr-x",
    "/usr/share/hkswitch/place-rule": "-rwxr-xr-x",
    "/usr/share/hkswitch/sudoers": "-rw-r--r--",
    "/usr/share/man/man1/hkswitch.1.gz": "-rw-r--r--",
    "/usr/share/man/man5/hkswitch.yaml.5.gz": "-rw-r--r--",
    "/usr/share/man/man8/serviceswitch.8.gz": "-rw-r--r--",
    "/usr/share/zsh/site-functions/_hkswitch": "-rw-r--r--",
}

ENVIRONMENT: Final = "/usr/lib/hkswitch/"

TAGS: Final = ("FILENAMES", "FILEMODES:perms", "FILEUSERNAME", "FILEGROUPNAME", "FILEFLAGS:fflags")

SCRIPTS: Final = {
    "PREIN": ": >/var/lib/serviceswitch/sudoers\n",
    "POSTIN": "/usr/share/hkswitch/account secure\n/usr/share/hkswitch/place-rule\n",
    "PREUN": 'disable --now "$unit"',
    "POSTUN": "try-restart hkswitch.service",
}


@pytest.fixture(scope="module")
def rpm(builds: Builds) -> Path:
    """The package, as built by `make rpm`, but with the wheels of the test hosts."""
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        pytest.skip(f"needed to build the package: {', '.join(missing)}")
    package = builds.of_one(Kind.RPM)["*.rpm"]
    assert list((builds.usual.checkout.parent).glob("tmp.*")) == []  # the build folder has been removed
    return package


def query(rpm: Path, form: str) -> str:
    command = ("rpm", "--query", f"--queryformat={form}", "--package", str(rpm))
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def files(rpm: Path) -> dict[str, list[str]]:
    """Return mode, user, group and flags of each file, by path."""
    form = "[" + "\t".join(f"%{{{tag}}}" for tag in TAGS) + "\n]"
    rows = (line.split("\t") for line in query(rpm, form).splitlines())
    return {path: rest for path, *rest in rows}


def test_it_is_of_this_version_and_for_one_python(builds: Builds, rpm: Path) -> None:
    assert query(rpm, "%{NAME}-%{VERSION}-%{RELEASE}").startswith(f"hkswitch-{builds.native_version}-1")
    requirements = query(rpm, "[%{REQUIRENAME} %{REQUIREFLAGS:depflags} %{REQUIREVERSION}\n]").splitlines()
    assert f"python(abi) = {python_version()}" in [line.strip().replace("  ", " ") for line in requirements]


def test_it_brings_and_needs_no_library_of_its_environment(rpm: Path) -> None:
    names = query(rpm, "[%{REQUIRENAME}\n][%{PROVIDENAME}\n]").splitlines()
    assert [name for name in names if ".so" in name or name.startswith("/usr/lib/hkswitch")] == []


def test_its_files_are_in_their_places(rpm: Path) -> None:
    documents = ("/usr/share/doc/hkswitch", "/usr/share/licenses/")
    drop_in = "/usr/lib/systemd/system/hkswitch.service.d"  # where systemd is 257 or newer
    others = {path: row[0] for path, row in files(rpm).items() if not path.startswith((*documents, drop_in))}
    wanted = {path: mode for path, mode in others.items() if path in FILES}
    assert wanted == FILES
    assert [path for path in others if path not in FILES and not path.startswith(ENVIRONMENT)] == [
        "/usr/share/hkswitch"
    ]


def test_it_has_the_documents_that_it_names_and_needs_no_sudo(rpm: Path) -> None:
    documents = {path.removeprefix("/usr/share/doc/hkswitch/") for path in files(rpm)}
    assert documents >= {
        "README.md",
        "CHANGELOG.md",
        "config.example.yaml",
        "docs/sandbox.md",
        "docs/sudo.md",
    }
    requirements = query(rpm, "[%{REQUIRENAME}\n]").splitlines()
    assert "sudo" not in requirements
    assert query(rpm, "[%{RECOMMENDNAME}\n]") == "sudo\n"


def test_only_root_can_write_them_and_none_changes_the_user(rpm: Path) -> None:
    for path, (mode, user, group, _) in files(rpm).items():
        assert (user, group) == ("root", "root"), path
        assert mode[0] == "l" or not {mode[5], mode[8]} & {"w"}, path
        assert not {mode[3], mode[6]} & {"s", "S"}, path


def test_the_configuration_is_the_owners_and_the_rule_is_not_unpacked(rpm: Path) -> None:
    """rpm would write the rule under a name that sudo reads, before visudo has checked it."""
    flags = {path: row[3] for path, row in files(rpm).items() if path.startswith("/etc/") and row[3]}
    assert flags == {"/etc/hkswitch/config.yaml": "cn", "/etc/sudoers.d/hkswitch": "g"}


def test_the_example_names_fedoras_services(rpm: Path) -> None:
    example = (CHECKOUT / "config.example.yaml").read_bytes()
    digests = dict(line.split("\t") for line in query(rpm, "[%{FILENAMES}\t%{FILEDIGESTS}\n]").splitlines())
    assert digests["/etc/hkswitch/config.yaml"] == hashlib.sha256(example).hexdigest()
    assert b"units: [httpd]" in example
    assert b"units: [smb, nmb, " in example


@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck_finds_nothing_in_its_scripts(rpm: Path, script: str) -> None:
    text = query(rpm, f"%{{{script}}}\n")
    assert SCRIPTS[script] in text
    shellcheck = (str(Path(sys.executable).with_name("shellcheck")), "--shell=sh", "-")
    checked = subprocess.run(shellcheck, input=text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, "")


def test_rpmlint_reports_nothing(rpm: Path) -> None:
    config = CHECKOUT / "packaging" / "rpmlint.toml"
    command = ("rpmlint", "--config", str(config), str(rpm))
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "1 packages and 0 specfiles checked; 0 errors, 0 warnings" in said.stdout, said.stdout


@pytest.mark.parametrize(
    ("argv", "sentence"), [((), "packaging/rpm FOLDER"), (("/nowhere",), "there is no folder /nowhere")]
)
def test_a_build_reports_what_it_needs(argv: tuple[str, ...], sentence: str) -> None:
    refused = subprocess.run(
        [CHECKOUT / "packaging" / "rpm", *argv], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert sentence in refused.stderr
