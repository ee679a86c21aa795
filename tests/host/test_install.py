"""packaging/install: the files it installs, their permissions, and what sudo allows the user hkswitch."""

import re
from collections.abc import Iterator
from subprocess import CompletedProcess
from typing import Final

import pytest

from hkswitch import __version__
from tests.host.installation import (
    CONFIG,
    PROGRAMS,
    broken_program,
    expected_files,
    full_disk,
    installed_files,
    leftovers,
)
from tests.host.machine import FROM_WHEELS, Boot, Host, eventually, staged

SERVE: Final = ("/usr/sbin/serviceswitch", "serve")

SUDOS: Final = {"bookworm": ("sudo",), "trixie": ("sudo", "sudo-rs")}

REFUSALS: Final = {"sudo": "a password is required", "sudo-rs": "I'm afraid I can't do that"}


STAGED: Final = "/root/staged"


@pytest.fixture(scope="module")
def spare(host: Host, boot: Boot) -> Iterator[Host]:
    """A second host with hkswitch installed, for tests that change the installation."""
    with boot(host.release) as spare:
        spare.run("cp", "-a", staged(spare), STAGED)  # tests change this copy
        install_staged(spare)
        yield spare


def install_staged(host: Host, *variables: str, check: bool = True) -> CompletedProcess[str]:
    """Install from the staged folder, which is faster than from the checkout."""
    command = ("env", f"STAGED={STAGED}", *variables, "/src/packaging/install")
    return host.run(*command, check=check, timeout_seconds=60)


AS_IF: Final = """
cd /usr/lib/hkswitch/lib/python3*/site-packages
mv hkswitch-*.dist-info hkswitch-{}.dist-info
"""
"""Makes the installation pretend to be another version."""


def first_line(installed: CompletedProcess[str]) -> str:
    return installed.stdout.splitlines()[0]


def refusal(host: Host, *argv: str, user: str = "hkswitch", sudo: str = "sudo") -> str:
    """Run a command by sudo that it must refuse, and return sudo's message."""
    done = host.run(sudo, "-n", *argv, user=user, check=False)
    assert done.returncode == 1
    assert not done.stdout
    return done.stderr


def refused(host: Host, *argv: str, user: str = "hkswitch") -> bool:
    """Return whether every implementation of sudo on the release refuses a command."""
    return all(REFUSALS[sudo] in refusal(host, *argv, user=user, sudo=sudo) for sudo in SUDOS[host.release])


def test_files_are_in_their_places(host: Host) -> None:
    assert installed_files(host) == expected_files(host)


def test_only_root_can_write_what_root_runs(host: Host) -> None:
    places = (
        "/usr/lib/hkswitch",
        "/usr/sbin/serviceswitch",
        "/usr/bin/hkswitch",
        "/etc/sudoers.d",
        "/etc/hkswitch",
    )
    others = host.run(
        "find", *places, "(", "!", "-user", "root", "-o", "-perm", "/022", ")", "!", "-type", "l"
    )
    foreign_links = host.run("find", *places, "-type", "l", "!", "-user", "root")
    assert others.stdout == ""
    assert foreign_links.stdout == ""


def test_all_users_can_read_the_programs(host: Host) -> None:
    hidden = host.run("find", "/usr/lib/hkswitch", "(", "-type", "f", "!", "-perm", "-044", ")")
    closed = host.run("find", "/usr/lib/hkswitch", "(", "-type", "d", "!", "-perm", "-055", ")")
    assert (hidden.stdout, closed.stdout) == ("", "")


def test_modules_are_compiled(host: Host) -> None:
    """The byte code must exist, as no user who runs it may write it later."""
    modules = host.run(
        "find", "/usr/lib/hkswitch", "-path", "*/hkswitch/model/__pycache__/unit_state.*.pyc"
    ).stdout
    assert modules.count("\n") == 1


def test_user_has_no_shell_and_no_home(host: Host) -> None:
    account = host.run("getent", "passwd", "hkswitch").stdout.strip().split(":")
    assert account[5:] == ["/nonexistent", "/usr/sbin/nologin"]
    assert host.run("id", "-Gn", "hkswitch").stdout == "hkswitch\n"


def test_nothing_is_enabled(host: Host) -> None:
    assert host.run("systemctl", "is-enabled", "hkswitch.service", check=False).stdout == "disabled\n"


def test_unit_is_valid(host: Host) -> None:
    verified = host.run("systemd-analyze", "verify", "hkswitch.service", "var-lib-hkswitch.mount")
    assert verified.stdout + verified.stderr == ""


def test_sudo_rules_are_valid(host: Host) -> None:
    assert "/etc/sudoers.d/hkswitch: parsed OK" in host.run("visudo", "-c").stdout


def test_sudo_allows_the_helper(host: Host) -> None:
    for sudo in SUDOS[host.release]:
        allowed = host.run(sudo, "-n", "-l", *SERVE, user="hkswitch").stdout
        assert allowed == "/usr/sbin/serviceswitch serve\n"


@pytest.mark.parametrize(
    "argv",
    [
        ("/usr/sbin/serviceswitch",),
        (*SERVE, "extra"),
        ("/usr/sbin/serviceswitch", "serve extra"),
        ("/usr/sbin/serviceswitch", ""),
        ("serviceswitch", "start", "fileserver"),
        ("/usr/lib/hkswitch/bin/python3", *SERVE),
        ("systemctl", "start", "smb"),
        ("-s",),
        ("-u", "nobody", *SERVE),
        ("-g", "adm", *SERVE),
    ],
    ids=" ".join,
)
def test_sudo_refuses_everything_else(host: Host, argv: tuple[str, ...]) -> None:
    assert refused(host, *argv)


@pytest.mark.parametrize("option", ["-E", "PYTHONPATH=/tmp"])
def test_sudo_refuses_to_keep_the_environment(host: Host, option: str) -> None:
    assert "not allowed to" in refusal(host, option, *SERVE)


def test_sudo_refuses_other_users(host: Host) -> None:
    assert refused(host, *SERVE, user="nobody")


def test_install_again_changes_nothing_of_the_owner(spare: Host) -> None:
    spare.write("/etc/hkswitch/config.yaml", "# mine\n")
    listed = ("find", "/usr/lib/hkswitch", "-printf", "%p %U:%G %m\n")
    before = spare.run(*listed).stdout
    assert first_line(install_staged(spare)) == f"Reinstalled hkswitch {__version__}."
    assert installed_files(spare) == expected_files(spare)
    assert spare.read("/etc/hkswitch/config.yaml") == "# mine\n"
    assert sorted(spare.run(*listed).stdout.split("\n")) == sorted(before.split("\n"))


def test_files_that_only_an_older_version_had_go_away(spare: Host) -> None:
    """In any order of its file list, which depends on the locale at installation."""
    stale = "/usr/share/man/man1/hkswitch-old.1"
    spare.write(stale, "")
    relist = f"cd /usr/lib/hkswitch; (sort -r installed-files; echo {stale}) >list; mv list installed-files"
    spare.run("sh", "-ec", relist)
    spare.run("sh", "-ec", AS_IF.format("0.0.9"))
    assert first_line(install_staged(spare)) == f"Upgraded hkswitch from 0.0.9 to {__version__}."
    assert spare.run("test", "-e", stale, check=False).returncode == 1
    assert installed_files(spare) == expected_files(spare)


def test_an_older_version_over_a_newer_one_is_called_a_downgrade(spare: Host) -> None:
    spare.run("sh", "-ec", AS_IF.format("0.10.0"))
    assert first_line(install_staged(spare)) == f"Downgraded hkswitch from 0.10.0 to {__version__}."


def everything(host: Host) -> str:
    """Return the files of an installation, and others that may remain beside it."""
    placed = r"find /usr/lib/hkswitch* /etc/hkswitch /etc/sudoers.d ! -type d -printf '%p %T@ %m %s\n' | sort"
    others = "xargs sha256sum </usr/lib/hkswitch/installed-files"
    beside = "find /usr /etc -xdev -name '*.new' -o -name '*.old'"
    return host.run("sh", "-ec", f"{placed}; {others}; {beside}").stdout


def test_a_full_disk_leaves_the_installation(spare: Host) -> None:
    install_staged(spare)
    before = everything(spare)
    with full_disk(spare, "/usr/share/fish/vendor_completions.d"):
        failed = install_staged(spare, check=False)
    assert failed.returncode == 1
    assert "No space left on device" in failed.stderr
    assert failed.stderr.endswith("hkswitch: Installation failed (see above); nothing was changed.\n")
    assert everything(spare) == before


@pytest.mark.parametrize("by", ["exit 1", "kill -TERM $(ps -o ppid= $PPID)"], ids=["an error", "a signal"])
def test_an_interrupted_installation_restores_the_files(spare: Host, by: str) -> None:
    install_staged(spare)
    spare.run(
        "sh", "-c", "echo '# mine' >>/usr/lib/systemd/system/hkswitch.service; touch /usr/lib/hkswitch/mine"
    )
    before = everything(spare)
    with broken_program(spare, "systemd-sysusers", f"#!/bin/sh\n{by}\n"):
        failed = install_staged(spare, check=False)
    assert failed.returncode == 1
    assert failed.stderr.endswith(
        "Installation failed (see above); the previous version has been restored.\n"
    )
    assert everything(spare) == before
    install_staged(spare)


def test_a_failed_first_installation_leaves_nothing(spare: Host) -> None:
    spare.run("/src/packaging/uninstall", "--purge")
    try:
        with broken_program(spare, "systemd-sysusers"):
            failed = install_staged(spare, check=False)
        assert failed.returncode == 1
        assert leftovers(spare) == ""
    finally:
        install_staged(spare)


def test_a_rule_that_visudo_refuses_is_not_placed(spare: Host) -> None:
    before = everything(spare)
    with broken_program(spare, "visudo"):
        failed = install_staged(spare, check=False)
    assert failed.returncode == 1
    assert re.fullmatch(
        r"hkswitch: cannot install the sudo rule: \S+/visudo rejects it; \S+/hkswitch is unchanged\n",
        failed.stderr,
    )
    assert everything(spare) == before


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        ("rm usr/lib/hkswitch/installed-files", "cannot find an installation for /usr in /root/spoilt"),
        ("chmod o+w usr/bin/hkswitch", "cannot trust /root/spoilt"),
        ("chown nobody usr/lib/hkswitch/lib", "cannot trust /root/spoilt"),
    ],
)
def test_a_staged_folder_that_others_could_have_changed_is_refused(
    spare: Host, spoil: str, sentence: str
) -> None:
    spare.run("sh", "-ec", f"cp -a {STAGED} /root/spoilt; cd /root/spoilt; {spoil}")
    try:
        refused = install_staged(spare, "STAGED=/root/spoilt", check=False)
    finally:
        spare.run("rm", "-rf", "/root/spoilt")
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"hkswitch: {sentence}")


@pytest.mark.parametrize("spoil", ["chmod o+w", "chmod g+w", "chmod +t,o+w", "chown nobody"], ids=str)
def test_a_staged_folder_below_one_that_others_can_change_is_refused(spare: Host, spoil: str) -> None:
    spare.run("sh", "-ec", f"mkdir -p /root/above/in; cp -a {STAGED} /root/above/in; {spoil} /root/above")
    spare.run("ln", "-s", "/root/above/in/staged", "/root/link")
    try:
        for staged in ("/root/above/in/staged", "/root/link"):
            refused = install_staged(spare, f"STAGED={staged}", check=False)
            assert refused.returncode == 1
            assert refused.stderr == (
                "hkswitch: cannot trust /root/above/in/staged: /root/above must be owned by root, "
                "and not writable by others\n"
            )
    finally:
        spare.run("rm", "-rf", "/root/above", "/root/link")


def test_failed_install_leaves_the_installation(spare: Host) -> None:
    failed = spare.run("env", "PIP_NO_INDEX=1", "/src/packaging/install", check=False)
    assert failed.returncode == 1
    assert "cannot build hkswitch from the locked packages" in failed.stderr
    assert installed_files(spare) == expected_files(spare)
    spare.run("/usr/lib/hkswitch/bin/python3", "-I", "-c", "import hkswitch.serviceswitch")
    assert (
        spare.run("find", "/usr/lib", "-maxdepth", "1", "-name", "hkswitch*").stdout == "/usr/lib/hkswitch\n"
    )


@pytest.mark.parametrize(
    ("argv", "user", "sentence"),
    [
        ((), "nobody", r"not running as root"),
        (
            ("PYTHON=/tmp/old",),
            None,
            r"cannot use /tmp/old: it is 3\.9\.2; set PYTHON=... to Python 3\.11 or newer",
        ),
        (("PYTHON=python3.0",), None, r"cannot find python3\.0; .*PYTHON="),
        (("PYTHON=/opt/foreign/python3",), None, r"/opt/foreign must be owned by root"),
        (("PATH=/nowhere",), None, r"cannot find systemd-sysusers"),
        (("PREFIX=/opt/hkswitch",), None, r"PREFIX must be /usr or /usr/local, not /opt/hkswitch"),
        (
            ("PREFIX=/usr/local",),
            None,
            r"another hkswitch is installed in /usr; run `sudo make uninstall PREFIX=/usr` first",
        ),
        (("DESTDIR=staged",), "nobody", r"DESTDIR must be the absolute path"),
        (
            (f"DESTDIR={STAGED}",),
            None,
            rf"cannot stage in {STAGED}: it already has an installation; use an empty folder",
        ),
    ],
    ids=[
        *("not root", "old python", "no python", "python of somebody else", "no systemd"),
        *("no such prefix", "two prefixes", "a relative folder", "a folder in use"),
    ],
)
def test_install_reports_why_it_cannot_run(
    spare: Host, argv: tuple[str, ...], user: str | None, sentence: str
) -> None:
    spare.write("/tmp/old", "#!/bin/sh\necho 3.9.2\nexit 1\n", 0o755)
    spare.run("sh", "-ec", "install -D /usr/bin/python3 /opt/foreign/python3; chown nobody /opt/foreign")
    refused = spare.run("env", *argv, "/bin/bash", "/src/packaging/install", user=user, check=False)
    assert refused.returncode == 1
    assert re.fullmatch(rf"hkswitch: .*{sentence}.*\n", refused.stderr)
    assert installed_files(spare) == expected_files(spare)


def test_a_prefix_that_others_can_write_is_refused(spare: Host) -> None:
    spare.run("/src/packaging/uninstall")
    spare.run("chmod", "g+w", "/usr/local/lib")
    try:
        refused = spare.run("env", "PREFIX=/usr/local", "/src/packaging/install", check=False)
    finally:
        spare.run("chmod", "g-w", "/usr/local/lib")
        install_staged(spare)
    assert refused.returncode == 1
    assert "/usr/local/lib must be owned by root" in refused.stderr


@pytest.mark.parametrize(
    ("folder", "lack"),
    [
        ("/usr/lib/{}/ensurepip", "/usr/bin/python3 has no venv module"),
        ("/usr/share/python-wheels", "/usr/bin/{} has no pip for its venv"),
    ],
    ids=["module", "pip"],
)
def test_install_says_that_venv_is_missing(spare: Host, folder: str, lack: str) -> None:
    version = spare.run(
        "python3", "-c", "import sys; print('python%d.%d' % sys.version_info[:2])"
    ).stdout.strip()
    spare.run("mv", folder.format(version), "/root/away")
    refused = spare.run("/src/packaging/install", check=False)
    spare.run("mv", "/root/away", folder.format(version))
    assert refused.stderr == f"hkswitch: {lack.format(version)}; install it (Debian: python3-venv)\n"


PATHS_IN_USR: Final = r"""
cd /usr/local
grep -rnE --include='*.py' --include='*.md' \
    '/usr/(bin/hkswitch|sbin/serviceswitch|lib/hkswitch|share/doc/hkswitch)\b' \
    lib/hkswitch/lib/python3*/site-packages/hkswitch share/doc/hkswitch || test $? = 1"""
"""Prints what an installation in /usr/local would suggest or describe of one in /usr."""


@pytest.mark.any_release
def test_another_prefix_works_and_leaves_nothing_in_usr(spare: Host) -> None:
    local = ("env", *FROM_WHEELS, "PREFIX=/usr/local")
    spare.run("/src/packaging/uninstall", "--purge")
    try:
        installed = spare.run(*local, "/src/packaging/install", timeout_seconds=120)
        assert first_line(installed) == f"Installed hkswitch {__version__}."
        moved = {path.replace("/usr/", "/usr/local/") for path in PROGRAMS} | set(CONFIG)
        moved = {path.replace("vendor-completions", "site-functions") for path in moved}
        moved = {path.replace("/usr/local/share/dbus-1", "/etc/dbus-1") for path in moved}
        assert spare.run("ls", "-d", *moved).returncode == 0
        assert installed_files(spare).keys() == {
            *CONFIG,
            "/etc/sudoers.d/hkswitch",
            "/var/lib/serviceswitch/sudoers",
        }
        assert spare.run("busctl", "list", user="hkswitch", check=False).returncode == 1
        assert spare.run("sh", "-c", PATHS_IN_USR).stdout == ""
        helper = ("sudo", "-n", "/usr/local/sbin/serviceswitch", "serve")
        assert spare.run(*helper, user="hkswitch", check=False).stdout.startswith('{"type":"hello"')
        spare.run("systemctl", "start", "hkswitch.service")
        running = "/usr/local/lib/hkswitch/bin/python3 -I -m hkswitch.serviceswitch serve"
        eventually(lambda: running in spare.run("ps", "-e", "-o", "args=").stdout)
        spare.run("systemctl", "reload", "hkswitch.service")
        spare.run(*local, "/src/packaging/uninstall", "--purge")
        assert leftovers(spare) == ""
    finally:
        spare.run("systemctl", "stop", "hkswitch.service", check=False)
        install_staged(spare)


def test_uninstall_keeps_the_owners_files(spare: Host) -> None:
    spare.write("/var/lib/hkswitch/pairing", "keep\n")
    try:
        spare.run("/src/packaging/uninstall")
        assert spare.run("mountpoint", "/var/lib/hkswitch", check=False).returncode == 32
        assert set(installed_files(spare)) == set(CONFIG)
        assert spare.read("/var/lib/hkswitch/pairing") == "keep\n"
        spare.run("id", "hkswitch")
        assert refused(spare, *SERVE)
        spare.run("/src/packaging/uninstall")  # a second run is no error
    finally:
        install_staged(spare)


def test_purge_leaves_nothing(spare: Host) -> None:
    spare.write("/var/lib/hkswitch/pairing", "go\n")
    try:
        spare.run("sh", "-ec", "echo '# mine' >>/etc/sudoers.d/hkswitch; usermod -aG hkswitch nobody")
        said = spare.run("/src/packaging/uninstall", "--purge").stderr
        assert (
            said == "hkswitch: The sudo rule /etc/sudoers.d/hkswitch was edited; only a purge deletes it.\n"
        )
        assert leftovers(spare) == ""
        assert spare.run("getent", "passwd", "hkswitch", check=False).returncode == 2
        assert spare.run("getent", "group", "hkswitch", check=False).returncode == 2
    finally:
        install_staged(spare)


def test_uninstall_from_a_folder_leaves_the_system(spare: Host) -> None:
    spare.run("cp", "-a", STAGED, "/root/other")
    spare.run("env", "DESTDIR=/root/other", "/src/packaging/uninstall")
    left = spare.run("find", "/root/other", "-type", "f").stdout.split()
    spare.run("rm", "-rf", "/root/other")
    assert left == ["/root/other/etc/hkswitch/config.yaml"]
    assert installed_files(spare) == expected_files(spare)


@pytest.mark.parametrize("variables", [("--all",), ("--purge", "DESTDIR=/root/other")], ids=" ".join)
def test_uninstall_refuses_what_it_does_not_know(spare: Host, variables: tuple[str, ...]) -> None:
    option, *environment = variables
    assert spare.run("env", *environment, "/src/packaging/uninstall", option, check=False).returncode == 1
    assert installed_files(spare) == expected_files(spare)
