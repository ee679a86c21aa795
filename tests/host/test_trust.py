"""Which configuration root believes: real files, the real program, as root."""

from collections.abc import Iterator

import pytest

from tests.host.machine import Host

FOLDER = "/etc/hkswitch"
FILE = f"{FOLDER}/config.yaml"


@pytest.fixture(autouse=True)
def config_is_put_back(host: Host) -> Iterator[None]:
    host.run("cp", "-a", FOLDER, "/root/hkswitch.before")
    yield
    host.run("rm", "-rf", FOLDER)
    host.run("mv", "/root/hkswitch.before", FOLDER)
    host.run("chmod", "0755", "/etc")
    host.run("chown", "root", "/etc")


def status_of_web(host: Host) -> tuple[int, str]:
    done = host.run("/usr/sbin/serviceswitch", "status", "web", check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "change",
    [
        "true",
        f"chmod 0600 {FILE}",
        f"chmod 0444 {FILE}",
        f"chmod 0700 {FOLDER}",
        f"ln {FILE} /root/second-name",
    ],
)
def test_a_config_that_only_root_can_write_is_believed(host: Host, change: str) -> None:
    host.run("sh", "-c", change)
    code, errors = status_of_web(host)
    host.run("rm", "-f", "/root/second-name")
    assert (code, errors) == (3, "")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            f"chmod 0666 {FILE}",
            f"{FILE} is not trusted: others than root can write it (mode 0666); try: chmod go-w",
        ),
        (
            f"chmod 0664 {FILE}",
            f"{FILE} is not trusted: others than root can write it (mode 0664); try: chmod go-w",
        ),
        (f"chown hkswitch {FILE}", f"{FILE} is not trusted: its owner is uid"),
        (f"chmod 0777 {FOLDER}", f"{FOLDER} is not trusted: others than root can write it (mode 0777)"),
        (f"chmod 1777 {FOLDER}", f"{FOLDER} is not trusted: others than root can write it (mode 1777)"),
        (f"chown hkswitch {FOLDER}", f"{FOLDER} is not trusted: its owner is uid"),
        ("chmod 0775 /etc", "/etc is not trusted: others than root can write it (mode 0775)"),
        ("chown hkswitch /etc", "/etc is not trusted: its owner is uid"),
        (
            f"mv {FILE} /root/real.yaml; ln -s /root/real.yaml {FILE}",
            f"{FILE} is not trusted: it is a symbolic link",
        ),
        (
            f"mv {FOLDER} /root/real; ln -s /root/real {FOLDER}",
            f"{FOLDER} is not trusted: it is a symbolic link",
        ),
        (f"rm {FILE}; mkfifo {FILE}", f"{FILE} is not trusted: it is not a file"),
        (f"rm {FILE}; mkdir {FILE}", f"{FILE} is not trusted: it is not a file"),
        (f"truncate --size=2M {FILE}", f"{FILE} is not trusted: it is larger than 1048576 bytes"),
    ],
)
def test_a_config_that_others_could_have_written_is_denied(host: Host, change: str, sentence: str) -> None:
    host.run("sh", "-c", change)
    code, errors = status_of_web(host)
    host.run("rm", "-rf", "/root/real", "/root/real.yaml")
    assert (code, errors.count("\n")) == (77, 1)
    assert errors.startswith(f"serviceswitch: {sentence}")


def test_a_missing_config_is_said(host: Host) -> None:
    host.run("rm", FILE)
    assert status_of_web(host) == (
        78,
        f"serviceswitch: {FILE} does not exist; the configuration belongs there\n",
    )


@pytest.mark.parametrize(
    "environment",
    [
        "PYTHONPATH=/tmp/evil",
        "PYTHONHOME=/tmp/evil",
        "PYTHONSTARTUP=/tmp/evil/hkswitch.py",
        "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/tmp/evil/bus",
        "PATH=/tmp/evil",
    ],
)
def test_the_environment_changes_nothing(host: Host, environment: str) -> None:
    host.run("mkdir", "-p", "/tmp/evil")
    host.write("/tmp/evil/hkswitch.py", "print('evil'); raise SystemExit(99)")
    done = host.run(
        "env", "--chdir=/tmp/evil", environment, "/usr/sbin/serviceswitch", "status", "web", check=False
    )
    host.run("rm", "-rf", "/tmp/evil")
    assert (done.returncode, done.stderr) == (3, "")


def test_nobody_but_root_is_served(host: Host) -> None:
    done = host.run("/usr/sbin/serviceswitch", "status", "web", user="hkswitch", check=False)
    assert (done.returncode, done.stderr) == (77, "serviceswitch: only root may do this; try it with sudo\n")
