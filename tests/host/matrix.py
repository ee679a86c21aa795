"""The cells of the test matrix that CI runs: a Debian release and a transport to the helper for each file.

`make test-host` runs each test once, in the cell of its file. `make test-host-all` runs each in every cell.
"""

from typing import Final, NamedTuple

TRANSPORTS: Final = ("sudo", "socket")
"""The transports between the daemon and its helper."""

SUDO_RS: Final = "sudo-rs"
ATTACK_TRANSPORTS: Final = (*TRANSPORTS, SUDO_RS)
"""The transports for attacks, which try each implementation of sudo. Only Debian 13 has sudo-rs."""

PACKAGE_KINDS: Final = ("deb", "rpm", "make")
"""The kinds of installation that upgrades start from."""


class Cell(NamedTuple):
    """A Debian release, and one variant (a transport or a package kind) for tests that have several."""

    release: str
    variant: str = "sudo"


CELLS: Final = {
    # Debian 13 has sudo-rs beside sudo, and the drop-in for systemd 257.
    "test_attacks.py": Cell("trixie"),
    "test_audit.py": Cell("trixie"),
    "test_install.py": Cell("trixie"),
    "test_sandbox.py": Cell("trixie"),
    "test_sudo_reasons.py": Cell("trixie"),
    "test_exits.py": Cell("trixie", variant="socket"),
    # Some unit options imply NoNewPrivileges on systemd 252 only.
    "test_doctor.py": Cell("bookworm"),
    "test_helper_socket.py": Cell("bookworm"),
    # test_fresh.py builds and installs the package on Debian 13.
    "test_deb.py": Cell("bookworm"),
    # Its host has the same services as that of test_exits.py.
    "test_upgrades.py": Cell("trixie", variant="deb"),
    # These fit any release, and balance the two. Taps and faults are tested over both transports.
    "test_alerts.py": Cell("trixie"),
    "test_backup.py": Cell("trixie"),
    "test_command_line.py": Cell("bookworm"),
    "test_command_options.py": Cell("trixie"),
    "test_commands.py": Cell("trixie", variant="socket"),
    "test_daemon.py": Cell("trixie"),
    "test_failures.py": Cell("trixie"),
    "test_faults.py": Cell("bookworm"),
    "test_hostile_input.py": Cell("trixie"),
    "test_hostile_network.py": Cell("trixie"),
    "test_host_setup.py": Cell("trixie"),
    "test_idle.py": Cell("trixie"),
    "test_machine.py": Cell("bookworm"),
    "test_moving.py": Cell("trixie"),
    "test_pairings.py": Cell("trixie"),
    "test_programs.py": Cell("bookworm"),
    "test_rules.py": Cell("trixie"),
    "test_samples.py": Cell("trixie"),
    "test_soak.py": Cell("trixie"),
    "test_start_outcomes.py": Cell("bookworm"),
    "test_state_folder.py": Cell("bookworm"),
    "test_states.py": Cell("trixie", variant="socket"),
    "test_system_calls.py": Cell("trixie"),
    "test_systemd_contract.py": Cell("trixie"),
    "test_trust.py": Cell("bookworm"),
    "test_reflector.py": Cell("bookworm"),
    "test_take_over.py": Cell("trixie"),
    "test_two_hosts.py": Cell("bookworm"),
    "test_unit_names.py": Cell("trixie"),
}
"""The cell of each file whose tests are parametrized by release."""


ONLY_IN_THE_MATRIX: Final = frozenset({"test_firewalls.py", "test_container_rules.py"})
"""Files for which CI has no time: a root of their own has to be made for the first, with four firewalls, and
the containers of the second use a core each."""


def is_in_ci(file: str, release: str | None, variant: str | None) -> bool:
    """Return whether CI runs a test of this file; None stands for a test without that parameter."""
    if release is None:
        return file not in ONLY_IN_THE_MATRIX
    cell = CELLS[file]
    return release == cell.release and variant in {None, cell.variant}


def is_possible(release: str | None, variant: str | None) -> bool:
    """Return whether a release supports this variant."""
    return variant != SUDO_RS or release == "trixie"


def is_redundant(file: str, release: str | None) -> bool:
    """Return whether a test marked `any_release` already runs on another release."""
    return release not in {None, CELLS[file].release}
