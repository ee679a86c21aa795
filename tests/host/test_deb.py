"""The Debian package: its contents, and how it is installed, upgraded, removed and purged."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import hkswitch
from tests.host.installation import (
    CONFIG,
    broken_program,
    expected_files,
    full_disk,
    installed_files,
    is_hello,
    leftovers,
)
from tests.host.machine import ADDRESS, FROM_WHEELS, Boot, Host, staged
from tests.host.rootfs import CHECKOUT, RELEASES
from tests.support.controller import Controller

NEWER: Final = "99.0"

NUMBERS: Final = {"bookworm": 12, "trixie": 13}
"""The numbers of the releases."""

# Paths that must not appear in a package: the checkouts, and the folder for temporary files.
PLACES: Final = ("/src/", "/var/tmp/built-here/")

OWNERS_CONFIG: Final = f"# mine\nbridge: {{address: {ADDRESS}}}\ngroups: {{web: {{units: [httpd]}}}}\n"

SERVICE: Final = "hkswitch.service"

# Prints each module whose byte code is missing, is out of date, or names another path.
LOOK_AT_BYTE_CODE: Final = """
import importlib.util, marshal, pathlib, sys
for source in pathlib.Path(sys.argv[1], "usr/lib/hkswitch/lib").rglob("*.py"):
    compiled = pathlib.Path(importlib.util.cache_from_source(source)).read_bytes()
    named = marshal.loads(compiled[16:]).co_filename
    fresh = compiled[4:12] == bytes(4) + int(source.stat().st_mtime).to_bytes(4, "little")
    if not fresh or sys.argv[1] + named != str(source):
        print(source, named)
"""


@pytest.fixture(scope="module", params=RELEASES)
def host(request: pytest.FixtureRequest, boot: Boot) -> Iterator[Host]:
    """A host without hkswitch, on which packages are built and installed."""
    with boot(request.param) as host:
        host.run("install", "-d", "-o", "nobody", "/var/tmp/built-here", "/var/tmp/debs")
        yield host


def build(host: Host, checkout: str) -> str:
    """Build the package as an unprivileged user, and return its path on the host."""
    command = (
        "env",
        *FROM_WHEELS,
        "TMPDIR=/var/tmp/built-here",
        f"{checkout}/packaging/deb",
        "/var/tmp/debs",
    )
    return host.run(*command, user="nobody", timeout_seconds=120).stdout.strip()


@pytest.fixture(scope="module")
def deb(host: Host) -> str:
    """The package of this checkout."""
    return build(host, "/src")


@pytest.fixture(scope="module")
def opened(host: Host, deb: str) -> str:
    """A folder with the unpacked package, including its control files in DEBIAN."""
    host.run("dpkg-deb", "--raw-extract", deb, "/root/opened")
    return "/root/opened"


@pytest.fixture(scope="module")
def quick(host: Host, opened: str) -> str:
    """The same package without compression, as it is installed often here."""
    package = "/var/tmp/debs/quick.deb"
    host.run("dpkg-deb", "-Znone", "--build", opened, package)
    return package


@pytest.fixture(scope="module")
def newer(host: Host, opened: str) -> str:
    """The package of a later version, which differs only in the version number."""
    host.run("cp", "-a", opened, "/root/newer")
    (module,) = host.run("find", "/root/newer", "-path", "*/hkswitch/__init__.py").stdout.split()
    host.run("sed", "-i", f's/^__version__ = .*/__version__ = "{NEWER}"/', module)
    host.run("python3", "-m", "compileall", "-q", "-s", "/root/newer", "-p", "/", module)
    host.run("sed", "-i", f"s/^Version: .*/Version: {NEWER}-1/", "/root/newer/DEBIAN/control")
    package = "/var/tmp/debs/newer.deb"
    host.run("dpkg-deb", "-Znone", "--build", "/root/newer", package)
    return package


def apt(host: Host, *argv: str, code: int = 0) -> str:
    """Run apt without prompts and network, and return its output and dpkg's."""
    quiet = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "--yes")
    done = host.run(*quiet, *argv, check=False, timeout_seconds=60)
    assert done.returncode == code, done.stdout + done.stderr
    return f"{done.stdout}{done.stderr}"


def state(host: Host) -> str:
    """Return the package's state and version, according to dpkg."""
    query = ("dpkg-query", "--show", "--showformat=${Status} ${Version}", "hkswitch")
    return host.run(*query, check=False).stdout


@pytest.fixture
def installed(host: Host, quick: str) -> Iterator[Host]:
    """A host with the package and an edited configuration; the package is purged in the end."""
    apt(host, "install", quick)
    host.write("/etc/hkswitch/config.yaml", OWNERS_CONFIG)
    yield host
    host.run("dpkg", "--purge", "hkswitch")  # a second purge is no error
    host.run("systemctl", "reset-failed", check=False)
    assert leftovers(host) == ""


@pytest.fixture
def running(installed: Host) -> Host:
    """The same host, with the daemon running and enabled."""
    installed.run("systemctl", "enable", "--quiet", "--now", SERVICE)
    return installed


def shown(host: Host) -> object:
    """Return the setup code and the rest of the bridge's identity."""
    return json.loads(host.run("hkswitch", "pair", "--json").stdout)


def version_on(host: Host) -> str:
    """Return the version of the package of this checkout: the host has no git to count commits."""
    native = hkswitch.__version__.replace("rc", "~rc")
    return f"{native}-1~deb{NUMBERS[host.release]}"


def control(host: Host, deb: str, field: str) -> str:
    return host.run("dpkg-deb", "--field", deb, field).stdout.strip()


def test_a_package_is_for_its_release_and_architecture(host: Host, deb: str) -> None:
    architecture = host.run("dpkg", "--print-architecture").stdout.strip()
    name = version_on(host).replace("~", ".")
    assert deb == f"/var/tmp/debs/hkswitch_{name}_{architecture}.deb"
    assert control(host, deb, "Version") == version_on(host)
    needs = control(host, deb, "Depends")
    assert f"python3, python{RELEASES[host.release].python}, " in needs
    assert ("systemd (>= 257)" in needs) == (host.release != "bookworm")


def test_only_root_owns_and_can_write_the_files_of_a_package(host: Host, deb: str) -> None:
    listed = host.run("dpkg-deb", "--contents", deb).stdout.splitlines()
    assert {line.split()[1] for line in listed} == {"root/root"}
    assert [line for line in listed if line[0] != "l" and "w" in line[4:10]] == []
    assert [line for line in listed if re.match(r"\S*[sS]", line)] == []


def test_nothing_in_a_package_names_where_it_was_built(host: Host, opened: str) -> None:
    patterns = (f"--regexp={place}packaging" for place in PLACES)
    named = host.run(
        "grep", "-rlF", *patterns, "--regexp=built-here", "--regexp=/src/hkswitch", opened, check=False
    )
    assert (named.returncode, named.stdout) == (1, "")


def test_byte_code_is_there_and_names_its_final_path(host: Host, opened: str) -> None:
    assert host.run("python3", "-I", "-c", LOOK_AT_BYTE_CODE, opened).stdout == ""
    assert host.run("find", opened, "-name", "*.pyc").stdout.count("\n") > 500


def test_a_configuration_is_the_only_file_of_the_owners(host: Host, opened: str) -> None:
    assert host.read(f"{opened}/DEBIAN/conffiles") == "/etc/hkswitch/config.yaml\n"
    assert host.run("find", f"{opened}/etc", "-type", "f").stdout == f"{opened}/etc/hkswitch/config.yaml\n"


def test_the_example_names_debians_services(host: Host, opened: str) -> None:
    example = host.read(f"{opened}/etc/hkswitch/config.yaml")
    assert "units: [apache2]" in example
    assert "units: [smbd, nmbd, netatalk]" in example


def test_sums_are_those_of_the_files(host: Host, opened: str) -> None:
    checked = ("sh", "-ec", 'cd "$0"; exec md5sum --check --quiet DEBIAN/md5sums', opened)
    assert host.run(*checked).stdout == ""


@pytest.mark.any_release
def test_lintian_reports_nothing(host: Host, deb: str, tmp_path: Path) -> None:
    if shutil.which("lintian") is None:
        pytest.skip("lintian is not installed")
    copy = tmp_path / Path(deb).name
    shutil.copy(f"/proc/{host.leader}/root{deb}", copy)
    strict = ("lintian", "--allow-root", "--fail-on=error,warning", "--tag-display-limit=0", str(copy))
    said = subprocess.run(
        strict, capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"}
    )
    assert (said.returncode, said.stdout) == (0, ""), f"{said.stdout}{said.stderr}"


def test_it_is_installed_and_nothing_is_started(host: Host, deb: str) -> None:
    apt(host, "install", deb)
    try:
        assert installed_files(host) == expected_files(host)
        for unit in (SERVICE, "serviceswitch.socket"):
            assert host.run("systemctl", "is-enabled", unit, check=False).stdout == "disabled\n"
            assert host.run("systemctl", "is-active", unit, check=False).stdout == "inactive\n"
        assert "/etc/sudoers.d/hkswitch: parsed OK" in host.run("visudo", "-c").stdout
        # No daemon runs and there is no input: which of the two the helper notices first is chance.
        helper = host.run("sudo", "-n", "/usr/sbin/serviceswitch", "serve", user="hkswitch", check=False)
        assert is_hello(helper.stdout)
        host.run("hkswitch", "check")
    finally:
        apt(host, "purge", "hkswitch")


async def test_an_upgrade_a_downgrade_and_a_reinstallation_keep_pairings_and_say_so(
    running: Host, quick: str, newer: str
) -> None:
    before = shown(running)
    assert isinstance(before, dict)
    with running.network():
        phone = await Controller.pair(ADDRESS, 51826, before["setup_code"])
        older, later = version_on(running), f"{NEWER}-1"
        for argv, did, version in (
            ((newer,), f"Upgraded hkswitch from {older} to {later}", later),
            (("--allow-downgrades", quick), f"Downgraded hkswitch from {later} to {older}", older),
            (("--reinstall", quick), f"Reinstalled hkswitch {older}", older),
        ):
            process = running.show(SERVICE, "MainPID")
            if "--allow-downgrades" in argv:
                assert "Packages were downgraded" in apt(running, "install", quick, code=100)  # apt asks
            said = apt(running, "install", *argv)
            kept = "the configuration and the pairings are unchanged"
            assert f"hkswitch: {did} and restarted it; {kept}.\n" in said
            assert state(running) == f"install ok installed {version}"
            assert running.run("systemctl", "is-active", SERVICE).stdout == "active\n"
            assert running.show(SERVICE, "MainPID") != process
            assert version.partition("-")[0] in running.run("hkswitch", "--version").stdout
            assert shown(running) == {**before, "paired": True}
            assert running.read("/etc/hkswitch/config.yaml") == OWNERS_CONFIG
            assert installed_files(running) == expected_files(running)
            again = phone.again()  # with the keys of the pairing
            assert len(await again.accessories()) == 2
            await again.close()
        await phone.close()


def test_an_upgrade_starts_nothing_that_did_not_run(running: Host, newer: str) -> None:
    running.run("systemctl", "stop", SERVICE)
    assert f" to {NEWER}-1; the configuration and" in apt(running, "install", newer)
    assert running.run("systemctl", "is-active", SERVICE, check=False).stdout == "inactive\n"


@pytest.mark.any_release
def test_a_version_that_does_not_start_is_installed_and_reported(running: Host, newer: str) -> None:
    running.write("/etc/hkswitch/config.yaml", "groups: nonsense\n")
    said = apt(running, "install", newer)
    assert (
        "hkswitch: The new version is installed but does not start; run `systemctl status hkswitch`.\n"
        in said
    )
    assert state(running) == f"install ok installed {NEWER}-1"


def test_a_removal_stops_it_and_leaves_the_owners_files(running: Host, quick: str) -> None:
    before = shown(running)
    apt(running, "remove", "hkswitch")
    assert installed_files(running).keys() == CONFIG.keys()
    assert running.read("/etc/hkswitch/config.yaml") == OWNERS_CONFIG
    assert running.run("pgrep", "--uid", "hkswitch", check=False).returncode == 1
    assert running.run("mountpoint", "/var/lib/hkswitch", check=False).returncode == 32
    apt(running, "install", quick)
    running.run("systemctl", "start", SERVICE)
    assert shown(running) == before
    assert running.read("/etc/hkswitch/config.yaml") == OWNERS_CONFIG


def test_a_purge_leaves_nothing(running: Host) -> None:
    running.run("install", "-d", "/etc/systemd/system/hkswitch.service.d")
    running.run(
        *(
            "ln",
            "-s",
            "/usr/lib/hkswitch/systemd/helper-socket.conf",
            "/etc/systemd/system/hkswitch.service.d",
        )
    )
    running.run("sh", "-ec", "echo '# mine' >>/etc/sudoers.d/hkswitch; usermod -aG hkswitch nobody")
    said = apt(running, "purge", "hkswitch")
    assert "hkswitch: The sudo rule /etc/sudoers.d/hkswitch was edited; only a purge deletes it.\n" in said
    assert "userdel" not in said, "no warning about what the next step does"
    assert leftovers(running) == ""
    assert state(running) == ""
    for database in ("passwd", "group"):
        assert running.run("getent", database, "hkswitch", check=False).returncode == 2


def test_a_rule_that_visudo_refuses_stops_an_upgrade_before_it_began(running: Host, newer: str) -> None:
    process = running.show(SERVICE, "MainPID")
    with broken_program(running, "visudo"):
        refused = apt(running, "install", newer, code=100)
    assert re.search(r"^hkswitch: cannot install the sudo rule: \S+/visudo rejects it", refused, re.MULTILINE)
    assert state(running) == f"install ok installed {version_on(running)}"
    assert installed_files(running) == expected_files(running)
    assert running.show(SERVICE, "MainPID") == process


@pytest.mark.any_release
def test_a_full_disk_keeps_the_previous_version(running: Host, newer: str) -> None:
    before = shown(running)
    with full_disk(running, "/usr/share/doc/hkswitch"):
        refused = apt(running, "install", newer, code=100)
    assert "No space left on device" in refused
    assert state(running) == f"install ok installed {version_on(running)}"
    assert installed_files(running) == expected_files(running)
    running.run("systemctl", "restart", SERVICE)
    assert shown(running) == before


@pytest.mark.any_release
def test_a_rule_is_never_where_a_user_can_swap_it(installed: Host) -> None:
    place = ("env", "TMPDIR=/nonexistent", "/usr/share/hkswitch/place-rule")  # that of a user, after `su`
    installed.run(*place)
    assert installed.run("ls", "-A", "/var/lib/serviceswitch").stdout == "sudoers\n"
    with full_disk(installed, "/var/lib/serviceswitch"):
        refused = installed.run(*place, check=False)
        left = installed.run("ls", "/var/lib/serviceswitch").stdout
    assert refused.returncode == 1
    assert refused.stderr.endswith(
        "cannot write the sudo rule (see above); /etc/sudoers.d/hkswitch is unchanged\n"
    )
    assert left == "filling\n"


@pytest.mark.any_release
def test_a_rule_that_cannot_be_written_keeps_the_previous_one(installed: Host) -> None:
    installed.run("rm", "-r", "/var/lib/serviceswitch")  # or a missing rule counts as removed
    with full_disk(installed, "/etc/sudoers.d"):
        refused = installed.run("/usr/share/hkswitch/place-rule", check=False)
        left = installed.run("ls", "/etc/sudoers.d").stdout
    assert refused.returncode == 1
    assert refused.stderr.endswith(
        "hkswitch: cannot write the sudo rule (see above); /etc/sudoers.d/hkswitch is unchanged\n"
    )
    assert left == "filling\n"


@pytest.mark.any_release
@pytest.mark.parametrize("prefix", ["/usr", "/usr/local"])
def test_it_is_not_installed_beside_another_one(host: Host, deb: str, prefix: str) -> None:
    host.write(f"{prefix}/lib/hkswitch/installed-files", "")
    refused = apt(host, "install", deb, code=100)
    host.run("rm", "-r", f"{prefix}/lib/hkswitch")
    there = f"hkswitch: another hkswitch is installed in {prefix}"
    assert f"{there}; run `sudo make uninstall PREFIX={prefix}` first" in refused
    assert leftovers(host) == ""


@pytest.mark.any_release
@pytest.mark.parametrize("program", ["install", "uninstall"])
def test_make_leaves_a_package_to_apt(installed: Host, program: str) -> None:
    refused = installed.run(f"/src/packaging/{program}", check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("hkswitch: the Debian package hkswitch is installed; ")
    assert installed_files(installed) == expected_files(installed)


@pytest.mark.any_release
@pytest.mark.parametrize(
    ("argv", "sentence"), [((), "packaging/deb FOLDER"), (("/nowhere",), "there is no folder /nowhere")]
)
def test_a_build_reports_what_it_needs(host: Host, argv: tuple[str, ...], sentence: str) -> None:
    refused = host.run("/src/packaging/deb", *argv, check=False)
    assert refused.returncode == 1
    assert sentence in refused.stderr


# A release upgrade of Debian

NEXT_RELEASE: Final = """
mkdir -p /root/next/python3 /root/next/python3.99
cd /root/next
cat >python3.99/control <<'CONTROL'
Package: python3.99
Version: 3.99.0-1
Architecture: all
Maintainer: Tests <tests@hkswitch.invalid>
Description: the Python of the next release
CONTROL
sed 's/^Package: .*/Package: python3\\nDepends: python3.99/' python3.99/control >python3/control
for name in python3 python3.99; do
    mkdir $name/DEBIAN
    mv $name/control $name/DEBIAN
    dpkg-deb --build $name $name.deb >&2
    dpkg-deb --field $name.deb
    printf 'Filename: ./%s\\nSize: %s\\nSHA256: %s\\n\\n' \
        $name.deb "$(stat --format=%s $name.deb)" "$(sha256sum $name.deb | cut -d' ' -f1)"
done >Packages
mv /etc/apt/sources.list /root/next/former
echo 'deb [trusted=yes] file:/root/next ./' >/etc/apt/sources.list
"""
"""Makes apt's sources those of a release with another Python, which no longer has the former one."""


@pytest.mark.any_release
def test_a_release_upgrade_keeps_the_package_with_the_python_that_it_needs(installed: Host) -> None:
    installed.run("sh", "-ec", NEXT_RELEASE)
    try:
        apt(installed, "update")
        done = apt(installed, "--simulate", "-q=1", "full-upgrade")
    finally:
        installed.run("sh", "-ec", "mv /root/next/former /etc/apt/sources.list; rm -r /root/next")
    assert re.search(r"^Inst python3 .*\(3\.99\.0-1 ", done, re.MULTILINE), done
    assert not re.search(r"^Remv (hkswitch|python3\.\d+) ", done, re.MULTILINE), done


# Without sudo

NO_SUDO: Final = "hkswitch: sudo is not installed, so set `helper: socket`"


@pytest.fixture
def without_sudo(host: Host, boot: Boot, quick: str) -> Iterator[Host]:
    """Another host, which has no sudo. `quick` is the package there too."""
    with boot(host.release) as bare:
        bare.run("install", "-d", "/var/tmp/debs")
        shutil.copy(f"/proc/{host.leader}/root{quick}", f"/proc/{bare.leader}/root{quick}")
        implementations = ("sudo",) if host.release == "bookworm" else ("sudo", "sudo-rs")
        bare.run("env", "SUDO_FORCE_REMOVE=yes", "dpkg", "--purge", *implementations)
        yield bare


def commands_without_sudo() -> list[str]:
    """Return the commands by which the documents change to the socket, but for the editor."""
    text = (CHECKOUT / "docs" / "sandbox.md").read_text().partition("\n## Without sudo\n")[2]
    return re.findall(r"^\$ sudo (.*)$", text, re.MULTILINE)


def test_it_is_installed_and_runs_without_sudo(without_sudo: Host, quick: str) -> None:
    bare = without_sudo
    assert NO_SUDO in apt(bare, "install", quick)
    bare.write("/etc/hkswitch/config.yaml", f"helper: socket\n{OWNERS_CONFIG}")
    bare.unit("httpd.service", "[Service]\nExecStart=/bin/sleep infinity\n")
    for command in commands_without_sudo():
        bare.run("sh", "-ec", command)
    bare.run("hkswitch", "start", "web")
    assert bare.show("httpd.service", "ActiveState") == "active"
    said = apt(bare, "install", "--reinstall", quick)
    assert "sudo" not in said
    assert bare.run("test", "-e", "/etc/sudoers.d/hkswitch", check=False).returncode == 1
    # When sudo comes later, the next upgrade installs the rule, because no administrator removed it.
    for program in ("/usr/bin/sudo", "/usr/sbin/visudo"):
        bare.write(program, "#!/bin/sh\n", 0o755)
    assert "The sudo rule was removed" not in apt(bare, "install", "--reinstall", quick)
    assert bare.run("test", "-e", "/etc/sudoers.d/hkswitch", check=False).returncode == 0
    bare.run("rm", "/usr/bin/sudo", "/usr/sbin/visudo")
    apt(bare, "purge", "hkswitch")
    assert leftovers(bare) == ""
    staged_install = ("env", f"STAGED={staged(bare)}", "/src/packaging/install")
    done = bare.run(*staged_install, timeout_seconds=60)
    assert NO_SUDO in done.stderr
    assert "sudo " not in done.stdout
    bare.run("/src/packaging/uninstall", "--purge")
    assert leftovers(bare) == ""
