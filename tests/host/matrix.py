"""The cells of the test matrix that CI runs: for each file, a Debian release and a way to the helper; pure.

`make test-host` runs each test once, in the cell of its file. `make test-host-all` runs it in every cell.
"""

from typing import Final, NamedTuple

WAYS: Final = ("sudo", "socket")
"""How the daemon may get at its helper."""

SUDO_RS: Final = "sudo-rs"
ATTACK_WAYS: Final = (*WAYS, SUDO_RS)
"""The same for attacks, which are tried with each sudo. Only Debian 13 has sudo-rs."""

PACKAGES: Final = ("deb", "rpm", "make")
"""How hkswitch may have been installed that is upgraded."""


class Cell(NamedTuple):
    """A Debian release, and a way to the helper, or of upgrading, for tests that try several."""

    release: str
    way: str = "sudo"


CELLS: Final = {
    # Debian 13 has sudo-rs beside sudo, and the drop-in for systemd 257.
    "test_attacks.py": Cell("trixie"),
    "test_audit.py": Cell("trixie"),
    "test_install.py": Cell("trixie"),
    "test_sandbox.py": Cell("trixie"),
    "test_sudo_reasons.py": Cell("trixie"),
    "test_exits.py": Cell("trixie", way="socket"),
    # Some options of units imply NoNewPrivileges on systemd 252 only.
    "test_doctor.py": Cell("bookworm"),
    "test_helper_socket.py": Cell("bookworm"),
    # test_fresh.py builds and installs the package on Debian 13.
    "test_deb.py": Cell("bookworm"),
    # Its host is like that of test_exits.py.
    "test_upgrades.py": Cell("trixie", way="deb"),
    # Any release would do for these: they balance the two. Taps and faults are tried by both ways.
    "test_command_line.py": Cell("bookworm"),
    "test_commands.py": Cell("trixie", way="socket"),
    "test_daemon.py": Cell("trixie"),
    "test_faults.py": Cell("bookworm"),
    "test_hostile_input.py": Cell("trixie"),
    "test_hostile_network.py": Cell("trixie"),
    "test_idle.py": Cell("trixie"),
    "test_machine.py": Cell("bookworm"),
    "test_pairings.py": Cell("trixie"),
    "test_programs.py": Cell("bookworm"),
    "test_soak.py": Cell("trixie"),
    "test_start_outcomes.py": Cell("bookworm"),
    "test_state_folder.py": Cell("bookworm"),
    "test_states.py": Cell("trixie", way="socket"),
    "test_system_calls.py": Cell("trixie"),
    "test_systemd_contract.py": Cell("trixie"),
    "test_trust.py": Cell("bookworm"),
    "test_reflector.py": Cell("bookworm"),
    "test_two_hosts.py": Cell("bookworm"),
    "test_unit_names.py": Cell("trixie"),
}
"""The cell of each file whose tests are parametrized over releases."""


def is_in_ci(file: str, release: str | None, way: str | None) -> bool:
    """Tell whether CI runs a test of this file; None is for a test that has no such parameter."""
    if release is None:
        return True
    cell = CELLS[file]
    return release == cell.release and way in {None, cell.way}


def is_possible(release: str | None, way: str | None) -> bool:
    """Tell whether a release has this way."""
    return way != SUDO_RS or release == "trixie"


def is_redundant(file: str, release: str | None) -> bool:
    """Tell whether a test that is marked `any_release` has its run on another release."""
    return release not in {None, CELLS[file].release}
