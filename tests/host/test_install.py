"""What packaging/install puts onto a host, who may write it, and what sudo lets the user hkswitch do."""

import re
from collections.abc import Iterator
from typing import Final

import pytest

import hkswitch
from tests.host.machine import Boot, Host, install
from tests.host.root import CHECKOUT

PLACED: Final = {
    "/etc/hkswitch": "root:root 755",
    "/etc/hkswitch/config.yaml": "root:root 644",
    "/etc/sudoers.d/hkswitch": "root:root 440",
    "/usr/bin/hkswitch": "root:root 755",
    "/usr/lib/hkswitch": "root:root 755",
    "/usr/lib/systemd/system/hkswitch.service": "root:root 644",
    "/usr/lib/sysusers.d/hkswitch.conf": "root:root 644",
    "/usr/sbin/serviceswitch": "root:root 755",
    "/usr/share/bash-completion/completions/hkswitch": "root:root 644",
    "/usr/share/fish/vendor_completions.d/hkswitch.fish": "root:root 644",
    "/usr/share/man/man1/hkswitch.1": "root:root 644",
    "/usr/share/man/man5/hkswitch.yaml.5": "root:root 644",
    "/usr/share/man/man8/serviceswitch.8": "root:root 644",
    "/usr/share/zsh/vendor-completions/_hkswitch": "root:root 644",
}

SERVE: Final = ("/usr/sbin/serviceswitch", "serve")

HELLO: Final = f'{{"type":"hello","version":"{hkswitch.__version__}"}}\n'

SUDOS: Final = {"bookworm": ("sudo",), "trixie": ("sudo", "sudo-rs")}

REFUSALS: Final = {"sudo": "a password is required", "sudo-rs": "I'm afraid I can't do that"}

LIFE: Final = frozenset({"User", "Group", "Type", "NotifyAccess", "ExecStart", "TimeoutStopSec", "KillMode"})
"""Options that say how the daemon runs, not within what; so do Restart*, State* and Runtime*."""


def sandbox_options() -> tuple[str, ...]:
    """Every other option of [Service] in the unit, so that a new one is tried too."""
    unit = (CHECKOUT / "packaging/hkswitch.service").read_text()
    service = unit.partition("[Service]\n")[2].partition("\n[")[0].splitlines()
    options = (line for line in service if line and not line.startswith("#"))
    return tuple(option for option in options if not is_life(option.partition("=")[0]))


def is_life(key: str) -> bool:
    return key in LIFE or key.startswith(("Restart", "State", "Runtime"))


@pytest.fixture(scope="module")
def spare(host: Host, boot: Boot) -> Iterator[Host]:
    """A second host with hkswitch installed, for tests that change the installation."""
    with boot(host.release) as spare:
        install(spare)
        yield spare


def placed(host: Host) -> dict[str, str]:
    """The files of the installation that are there, with owner and mode."""
    listed = host.run("stat", "--format=%n %U:%G %a", *PLACED, check=False).stdout.splitlines()
    return dict(line.split(" ", 1) for line in listed)


def refusal(host: Host, *argv: str, user: str = "hkswitch", sudo: str = "sudo") -> str:
    """What sudo says to a command that it must not run."""
    done = host.run(sudo, "-n", *argv, user=user, check=False)
    assert done.returncode == 1
    assert not done.stdout
    return done.stderr


def refused(host: Host, *argv: str, user: str = "hkswitch") -> bool:
    """Whether there is no rule for a command, in every implementation of sudo that the release has."""
    return all(REFUSALS[sudo] in refusal(host, *argv, user=user, sudo=sudo) for sudo in SUDOS[host.release])


def test_files_are_in_their_places(host: Host) -> None:
    assert placed(host) == PLACED


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


def test_everybody_can_read_the_programs(host: Host) -> None:
    hidden = host.run("find", "/usr/lib/hkswitch", "(", "-type", "f", "!", "-perm", "-044", ")")
    closed = host.run("find", "/usr/lib/hkswitch", "(", "-type", "d", "!", "-perm", "-055", ")")
    assert (hidden.stdout, closed.stdout) == ("", "")


def test_modules_are_compiled(host: Host) -> None:
    """Nobody may write the byte code later, so it must be there."""
    modules = host.run("find", "/usr/lib/hkswitch", "-path", "*/hkswitch/core/__pycache__/model.*.pyc").stdout
    assert modules.count("\n") == 1


def test_user_has_no_shell_and_no_home_yet(host: Host) -> None:
    account = host.run("getent", "passwd", "hkswitch").stdout.strip().split(":")
    assert account[5:] == ["/var/lib/hkswitch", "/usr/sbin/nologin"]
    assert host.run("id", "-Gn", "hkswitch").stdout == "hkswitch\n"


def test_nothing_is_enabled(host: Host) -> None:
    assert host.run("systemctl", "is-enabled", "hkswitch.service", check=False).stdout == "disabled\n"


def test_unit_is_valid(host: Host) -> None:
    verified = host.run("systemd-analyze", "verify", "hkswitch.service")
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


@pytest.mark.parametrize("option", sandbox_options())
def test_helper_starts_within(host: Host, option: str) -> None:
    assert helper_says(host, option) == HELLO


def test_helper_starts_within_all_of_them(host: Host) -> None:
    assert helper_says(host, *sandbox_options()) == HELLO


def test_helper_does_not_start_without_new_privileges(host: Host) -> None:
    """Why the unit leaves so much off; and the tests above would notice."""
    assert "no new privileges" in helper_says(host, "NoNewPrivileges=yes")


def helper_says(host: Host, *options: str) -> str:
    """Start the helper by sudo from a unit with these options. Its stdin ends at once, and so does it."""
    properties = (f"--property={option}" for option in ("User=hkswitch", "Group=hkswitch", *options))
    unit = ("systemd-run", "--quiet", "--wait", "--pipe", "--collect", *properties)
    done = host.run(*unit, "sudo", "-n", *SERVE, check=False)
    return f"{done.stdout}{done.stderr}"


def test_install_again_changes_nothing_of_the_owner(spare: Host) -> None:
    spare.write("/etc/hkswitch/config.yaml", "# mine\n")
    listed = ("find", "/usr/lib/hkswitch", "-printf", "%p %U:%G %m\n")
    before = spare.run(*listed).stdout
    install(spare)
    assert placed(spare) == PLACED
    assert spare.read("/etc/hkswitch/config.yaml") == "# mine\n"
    assert sorted(spare.run(*listed).stdout.split("\n")) == sorted(before.split("\n"))


def test_failed_install_leaves_the_installation(spare: Host) -> None:
    failed = spare.run("env", "PIP_NO_INDEX=1", "/src/packaging/install", check=False)
    assert failed.returncode == 1
    assert "could not be made" in failed.stderr
    assert placed(spare) == PLACED
    spare.run("/usr/lib/hkswitch/bin/python3", "-I", "-c", "import hkswitch.serviceswitch")
    assert (
        spare.run("find", "/usr/lib", "-maxdepth", "1", "-name", "hkswitch*").stdout == "/usr/lib/hkswitch\n"
    )


@pytest.mark.parametrize(
    ("argv", "user", "sentence"),
    [
        ((), "nobody", r"This must run as root"),
        (("PYTHON=/tmp/old",), None, r"Python 3\.11 or newer is needed, and /tmp/old is 3\.9\.2: .*PYTHON="),
        (("PYTHON=python3.0",), None, r"There is no python3\.0: .*PYTHON="),
        (("PYTHON=/opt/foreign/python3",), None, r"/opt/foreign must be root's"),
        (("PATH=/nowhere",), None, r"There is no sudo"),
    ],
    ids=["not root", "old python", "no python", "python of somebody else", "no sudo"],
)
def test_install_says_why_it_cannot(
    spare: Host, argv: tuple[str, ...], user: str | None, sentence: str
) -> None:
    spare.write("/tmp/old", "#!/bin/sh\necho 3.9.2\nexit 1\n", 0o755)
    spare.run("sh", "-ec", "install -D /usr/bin/python3 /opt/foreign/python3; chown nobody /opt/foreign")
    refused = spare.run("env", *argv, "/bin/bash", "/src/packaging/install", user=user, check=False)
    assert refused.returncode == 1
    assert re.fullmatch(rf"install: .*{sentence}.*\n", refused.stderr)


def test_install_says_that_venv_is_missing(spare: Host) -> None:
    version = spare.run(
        "python3", "-c", "import sys; print('python%d.%d' % sys.version_info[:2])"
    ).stdout.strip()
    spare.run("mv", f"/usr/lib/{version}/ensurepip", "/root/ensurepip")
    refused = spare.run("/src/packaging/install", check=False)
    spare.run("mv", "/root/ensurepip", f"/usr/lib/{version}/ensurepip")
    assert (
        refused.stderr == "install: /usr/bin/python3 has no venv module: install it (Debian: python3-venv).\n"
    )


def test_uninstall_keeps_the_owners_files(spare: Host) -> None:
    spare.write("/var/lib/hkswitch/pairing", "keep\n")
    try:
        spare.run("/src/packaging/uninstall")
        assert set(placed(spare)) == {"/etc/hkswitch", "/etc/hkswitch/config.yaml"}
        assert spare.read("/var/lib/hkswitch/pairing") == "keep\n"
        spare.run("id", "hkswitch")
        assert refused(spare, *SERVE)
        spare.run("/src/packaging/uninstall")  # twice is no mistake
    finally:
        install(spare)


def test_purge_leaves_nothing(spare: Host) -> None:
    spare.write("/var/lib/hkswitch/pairing", "go\n")
    try:
        spare.run("/src/packaging/uninstall", "--purge")
        names = ("-iname", "*hkswitch*", "-o", "-iname", "*serviceswitch*")
        assert spare.run("find", "/etc", "/usr", "/var/lib", "-xdev", *names).stdout == ""
        assert spare.run("getent", "passwd", "hkswitch", check=False).returncode == 2
        assert spare.run("getent", "group", "hkswitch", check=False).returncode == 2
    finally:
        install(spare)


def test_uninstall_refuses_what_it_does_not_know(spare: Host) -> None:
    assert spare.run("/src/packaging/uninstall", "--all", check=False).returncode == 1
    assert placed(spare) == PLACED
