"""Too few file descriptors: a sentence, and an exit code after which systemd restarts the daemon."""

import re
import subprocess
from pathlib import Path

import pytest

from hkswitch.model.errors import Exit
from tests.support.command import HKSWITCH
from tests.support.ports import free_port

UNIT = Path(__file__).parents[2] / "packaging" / "hkswitch.service"
NOT_RESTARTED = {Exit.DAMAGED, Exit.DENIED, Exit.CONFIG}


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text(f"bridge: {{address: 127.0.0.1, port: {free_port()}}}\ngroups: {{web: {{units: [a]}}}}\n")
    return file


def ended(limit: str, *arguments: str | Path) -> tuple[int, str]:
    """The exit code of hkswitch with this option of ulimit, and what it wrote to standard error."""
    done = subprocess.run(
        ["sh", "-c", f'ulimit {limit}; exec "$@"', "sh", HKSWITCH, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=20,
        env={"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"},
    )
    return done.returncode, done.stderr


def test_after_these_exit_codes_systemd_does_not_restart_the_daemon() -> None:
    (codes,) = re.findall(r"^RestartPreventExitStatus=(.*)$", UNIT.read_text(), re.MULTILINE)
    assert {Exit(int(code)) for code in codes.split()} == NOT_RESTARTED


# With fewer, Python does not start; with more, the daemon serves.
@pytest.mark.parametrize("descriptors", range(5, 9))
def test_a_daemon_without_descriptors_may_be_restarted(
    config_file: Path, tmp_path: Path, descriptors: int
) -> None:
    arguments = ("run", "--config", config_file, "--state-dir", tmp_path / "state")
    code, errors = ended(f"-n {descriptors}", *arguments)
    assert code in {Exit.UNAVAILABLE, Exit.CANNOT_WRITE}
    assert re.fullmatch(r"hkswitch: cannot .*: Too many open files", errors.splitlines()[-1])
