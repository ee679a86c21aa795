"""CI runs a host test once at most, in its cell of tests/host/matrix.py; each host belongs to one process."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.host.matrix import (
    ATTACK_TRANSPORTS,
    CELLS,
    ONLY_IN_THE_MATRIX,
    PACKAGE_KINDS,
    ROWS_IN_CI,
    TRANSPORTS,
    Cell,
    is_in_ci,
    is_possible,
    is_redundant,
)
from tests.host.rootfs import RELEASES
from tests.host.scheduling import ENGINE_HOST, OWN_HOSTS, SLOWEST_FIRST, position, scope

ROOT = Path(__file__).parents[1]
OF_THE_MATRIX = re.compile(
    rf"(?<=[\[-])({'|'.join((*RELEASES, *reversed(ATTACK_TRANSPORTS), *PACKAGE_KINDS))})(-|(?=\]))"
)


COLLECT = """
import sys
import pytest

class Marked:
    def pytest_collection_finish(self, session):
        for item in session.items:
            marks = [mark for mark in ("host", "ci") if item.get_closest_marker(mark)]
            print("::".join(("MARKED", *marks, item.nodeid)))

sys.exit(pytest.main(["--collect-only", "-qq", "-m", "host", "tests/host"], plugins=[Marked()]))
"""


def collected() -> tuple[Counter[str], Counter[str]]:
    """Count the host tests, and those in CI, by name without the parameters of the matrix."""
    command = (sys.executable, "-c", COLLECT)
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = [
        (OF_THE_MATRIX.sub("", line).replace("[]", "").partition("tests/")[2], "::ci::" in line)
        for line in listed.splitlines()
        if line.startswith("MARKED::host::")
    ]
    return Counter(name for name, _ in names), Counter(name for name, in_ci in names if in_ci)


def function(name: str) -> str:
    """Return the names of a test's file and function, as tests/host/matrix.py has them."""
    return name.removeprefix("host/").partition("[")[0]


def test_ci_runs_each_host_test_exactly_once_but_those_for_which_it_has_no_time() -> None:
    whole, in_ci = collected()
    cells = [
        (release, variant)
        for release in RELEASES
        for variant in ATTACK_TRANSPORTS
        if is_possible(release, variant)
    ]
    assert max(whole.values()) == max(len(cells), len(RELEASES) * len(PACKAGE_KINDS))
    assert {*in_ci.values()} == {1}
    rows, left_out = Counter(map(function, whole)), Counter(map(function, whole.keys() - in_ci.keys()))
    files = {test: test.partition("::")[0] for test in rows}
    assert {*files, *files.values()} >= ONLY_IN_THE_MATRIX
    wholly = {test: rows[test] for test, file in files.items() if {test, file} & ONLY_IN_THE_MATRIX}
    partly = {test: rows[test] - len(range(0, rows[test], step)) for test, step in ROWS_IN_CI.items()}
    assert not wholly.keys() & partly.keys()
    assert left_out == wholly | partly


@pytest.mark.parametrize(
    ("test", "row", "expected"),
    [
        ("test_rules.py::test_a_unit_that_burns_a_core_is_restarted_in_time", 0, False),
        ("test_rules.py::test_another", 0, True),
        ("test_rules.py::test_another", 1, True),
        ("test_firewalls.py::test_any", 0, False),
        *((test, 0, True) for test in ROWS_IN_CI),
        *((test, 1, False) for test in ROWS_IN_CI),
        *((test, step, True) for test, step in ROWS_IN_CI.items()),
    ],
)
def test_ci_leaves_out_whole_files_tests_and_rows(test: str, row: int, expected: bool) -> None:
    cell = CELLS.get(test.partition("::")[0], Cell(RELEASES["trixie"].name))
    assert is_in_ci(test, cell.release, cell.variant, row) is expected


@pytest.mark.parametrize(
    ("file", "release", "variant", "expected"),
    [
        ("test_attacks.py", "trixie", None, True),
        ("test_attacks.py", "bookworm", None, False),
        ("test_attacks.py", "trixie", "sudo", True),
        ("test_attacks.py", "trixie", "socket", False),
        ("test_attacks.py", "trixie", "sudo-rs", False),
        ("test_commands.py", "trixie", "socket", True),
        ("test_commands.py", "trixie", "sudo", False),
        ("test_commands.py", "bookworm", "socket", False),
        ("test_doctor.py", "bookworm", None, True),
        ("test_doctor.py", "trixie", None, False),
        ("test_upgrades.py", "trixie", "deb", True),
        ("test_upgrades.py", "trixie", "make", False),
        ("test_fresh.py", None, None, True),
    ],
)
def test_a_test_is_in_ci_in_the_cell_of_its_file_only(
    file: str, release: str | None, variant: str | None, expected: bool
) -> None:
    assert is_in_ci(f"{file}::test_x", release, variant) is expected


@pytest.mark.parametrize(
    ("file", "release", "expected"),
    [
        ("test_trust.py", "bookworm", False),
        ("test_trust.py", "trixie", True),
        ("test_install.py", "trixie", False),
        ("test_install.py", "bookworm", True),
    ],
)
def test_any_release_tests_run_on_the_release_of_ci(file: str, release: str, expected: bool) -> None:
    assert is_redundant(file, release) is expected


@pytest.mark.parametrize(
    ("release", "variant", "expected"),
    [
        ("trixie", "sudo-rs", True),
        ("bookworm", "sudo-rs", False),
        ("bookworm", "sudo", True),
        ("bookworm", "socket", True),
        ("bookworm", None, True),
        (None, None, True),
    ],
)
def test_sudo_rs_is_tried_where_it_exists(release: str | None, variant: str | None, expected: bool) -> None:
    assert is_possible(release, variant) is expected


def test_ci_covers_every_release_and_variant() -> None:
    assert {cell.release for cell in CELLS.values()} == {*RELEASES}
    assert {cell.variant for cell in CELLS.values()} == {*TRANSPORTS, PACKAGE_KINDS[0]}


def test_each_host_file_has_a_cell_or_hosts_of_its_own() -> None:
    assert CELLS.keys() | {*OWN_HOSTS, *ENGINE_HOST} == {
        path.name for path in ROOT.glob("tests/host/test_*.py")
    }


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("test_faults.py::test_x[bookworm]", "test_programs.py::test_y[bookworm-a - b]", True),
        ("test_deb.py::test_x[bookworm]", "test_deb.py::test_y[bookworm]", True),
        ("test_fresh.py::test_x", "test_fresh.py::test_y", True),
        ("test_attacks.py::test_x[trixie]", "test_sandbox.py::test_y[trixie]", True),
        ("test_faults.py::test_x[bookworm]", "test_faults.py::test_x[trixie]", False),
        ("test_attacks.py::test_x[trixie]", "test_faults.py::test_x[trixie]", False),
        ("test_attacks.py::test_x[trixie]", "test_sudo_reasons.py::test_x[trixie]", False),
        ("test_attacks.py::test_x[trixie]", "test_attacks.py::test_x[bookworm]", False),
        ("test_deb.py::test_x[bookworm]", "test_faults.py::test_x[bookworm]", False),
        ("test_fresh.py::test_x", "test_recipes.py::test_x", False),
        ("test_compose.py::test_x", "test_containers.py::test_y[docker]", True),
        ("test_containers.py::test_x[podman]", "test_recipes.py::test_x", False),
    ],
)
def test_all_tests_of_a_host_run_in_one_process(one: str, other: str, together: bool) -> None:
    assert (scope(f"tests/host/{one}") == scope(f"tests/host/{other}")) is together


def test_each_group_of_tests_in_ci_has_its_place_in_the_order() -> None:
    of_cells = [position(f"tests/host/{file}::test_x[{cell.release}]") for file, cell in CELLS.items()]
    of_files = [position(f"tests/host/{file}::test_x") for file in (*OWN_HOSTS, *ENGINE_HOST)]
    assert {*of_cells, *of_files} == {*range(len(SLOWEST_FIRST))}


@pytest.mark.parametrize("test", ["test_daemon.py::test_x", "test_sudo_reasons.py::test_x[bookworm]"])
def test_other_groups_come_last(test: str) -> None:
    assert position(f"tests/host/{test}") == len(SLOWEST_FIRST)


def test_other_tests_do_not_import_the_host_kit() -> None:
    loaded = "import sys, tests.conftest; print(*(name for name in sys.modules if 'tests.host' in name))"
    done = subprocess.run(
        (sys.executable, "-c", loaded), cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "\n"
