"""The cells of the test matrix that CI runs: a Debian release and a transport to the helper for each file.

`make test-host` runs a test at most once, in the cell of its file: for some tests, CI has no time.
`make test-host-all` runs each in every cell.
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
    "test_host_key.py": Cell("trixie"),
    "test_host_setup.py": Cell("trixie"),
    "test_hosts.py": Cell("trixie"),
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


ONLY_IN_THE_MATRIX: Final = frozenset(
    {
        # A root of its own has to be made, with four firewalls.
        "test_firewalls.py",
        # These use whole cores, which CI's other tests need.
        "test_container_rules.py",
        "test_rules.py::test_a_unit_that_burns_a_core_is_restarted_in_time",
        # tests/remote has root's file, without a host in between.
        "test_host_setup.py::test_a_host_behind_another_is_reached_by_roots_ssh_config",
        # It waits for a helper that the daemon cannot reach.
        "test_hosts.py::test_a_tap_that_a_cut_held_up_is_not_carried_out_when_the_host_is_back",
        # These boot a host for one test.
        "test_alerts.py::test_a_reboot_is_no_alert_and_an_open_one_stays_open",
        "test_failures.py::test_a_shutdown_fails_no_unit_that_nobody_requested",
    }
)
"""Files and tests for which CI has no time."""

ROWS_IN_CI: Final = {
    # A release's sudo does not change, and our part of it is read from its messages in tests/backend.
    "test_sudo_reasons.py::test_the_log_and_the_status_show_the_remedy_and_it_makes_the_switch_work": 3,
    # A phone gets the outcome of each; these report the same to root and to users.
    "test_start_outcomes.py::test_the_helpers_command_reports_the_outcome_of_a_start": 2,
    "test_start_outcomes.py::test_hkswitch_reports_the_outcome_of_a_start": 3,
    # All kinds of packages run the same program.
    "test_upgrades.py::test_an_upgrade_closes_the_escapes_of_an_old_installation_and_nothing_else": 3,
    "test_upgrades.py::test_a_removal_and_another_installation_keep_the_decision": 5,
    # tests/hap/test_hostile_state.py has more of them.
    "test_hostile_input.py::test_root_gets_a_readable_error_whatever_is_planted_in_the_state_folder": 2,
}
"""Long tables of which CI runs a part: the first row, and each one that is this many rows after another."""


def is_in_ci(test: str, release: str | None, variant: str | None, row: int = 0) -> bool:
    """Return whether CI runs a test, named by its file and function.

    None stands for a test without that parameter. `row` counts from zero: the tests of the function that
    differ in other parameters.
    """
    file = test.partition("::")[0]
    if {file, test} & ONLY_IN_THE_MATRIX or row % ROWS_IN_CI.get(test, 1) != 0:
        return False
    if release is None:
        return True
    cell = CELLS[file]
    return release == cell.release and variant in {None, cell.variant}


def is_possible(release: str | None, variant: str | None) -> bool:
    """Return whether a release supports this variant."""
    return variant != SUDO_RS or release == "trixie"


def is_redundant(file: str, release: str | None) -> bool:
    """Return whether a test marked `any_release` already runs on another release."""
    return release not in {None, CELLS[file].release}
