"""`make outdated`: an outdated pin needs a reason, and a reason needs an outdated pin."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from release import outdated
from release.outdated import (
    Reason,
    ReasonsError,
    RegistryError,
    Versions,
    kept,
    npm_pins,
    pins,
    problems,
    read_reasons,
)

LOCK = """\
cffi==2.1.1 ; platform_python_implementation != 'PyPy' and sys_platform == 'linux' \\
    --hash=sha256:046b
h11==0.16.0 \\
    --hash=sha256:4e35
numpy==2.2.6 ; python_full_version < '3.12' \\
    --hash=sha256:1163
numpy==2.4.0 ; python_full_version >= '3.12' \\
    --hash=sha256:d70e
"""

OLD = "older than"
IDLE = "no longer held at"


def versions(**found: str) -> Versions:
    return {name: frozenset(each.split()) for name, each in found.items()}


def test_a_pin_is_read_with_its_version_and_without_its_marker() -> None:
    assert pins(LOCK, "h11==0.16.0\nclick==8.5.1 \\\n") == versions(
        cffi="2.1.1", h11="0.16.0", numpy="2.2.6 2.4.0", click="8.5.1"
    )


def test_each_lock_of_the_project_is_checked() -> None:
    found = {
        str(lock.relative_to(outdated.ROOT))
        for folder in ("requirements", "tests", "bench", "packaging", "release", "docs")
        for pattern in ("*.lock", "package-lock.json")
        for lock in (outdated.ROOT / folder).rglob(pattern)
    }
    looked_at = {str(lock.relative_to(outdated.ROOT)) for lock in (*outdated.LOCKS, *outdated.NPM_LOCKS)}
    assert looked_at == found


def test_the_packages_of_package_json_are_read_from_npms_locks() -> None:
    for lock in outdated.NPM_LOCKS:
        wanted = json.loads(lock.with_name("package.json").read_text())
        named = {f"npm:{name}" for kind in wanted if kind.endswith("ependencies") for name in wanted[kind]}
        assert npm_pins(lock.read_text()).keys() == named != set()


def test_every_line_of_the_locks_that_names_a_package_is_read() -> None:
    for lock in outdated.LOCKS:
        named = {line.partition("==")[0] for line in lock.read_text().splitlines() if line[0] not in " #"}
        assert set(pins(lock.read_text())) == named != set()


@pytest.mark.parametrize(
    ("pinned", "newest", "reasons", "found"),
    [
        ({"h11": "0.16.0"}, {"h11": "0.16.0"}, {}, []),
        ({"h11": "0.9.0"}, {"h11": "0.16.0"}, {}, [("h11 0.9.0", OLD)]),
        ({"h11": "0.9.0"}, {"h11": "0.9.0.post1"}, {}, [("h11 0.9.0", OLD)]),
        ({"h11": "0.9.0"}, {"h11": "0.16.0"}, {"h11": "0.9.0"}, []),
        ({"h11": "0.9.0"}, {"h11": "0.16.0"}, {"h11": "0.8.0"}, [("h11 0.9.0", OLD), ("h11", IDLE)]),
        ({"h11": "0.9.0"}, {"h11": "0.16.0"}, {"h12": "0.9.0"}, [("h11 0.9.0", OLD), ("h12", IDLE)]),
        ({"h11": "0.16.0"}, {"h11": "0.16.0"}, {"h11": "0.16.0"}, [("h11", IDLE)]),
        ({"h11": "0.16.0"}, {"h11": "0.16.0"}, {"click": "8.0"}, [("click", IDLE)]),
        # a pre-release, and a withdrawn release: both newer than the registry's newest
        ({"h11": "0.17.0rc1"}, {"h11": "0.16.0"}, {}, []),
        ({"h11": "0.16.0"}, {"h11": "0.15.0"}, {}, []),
        # compared as versions, not as text
        ({"h11": "0.9.0"}, {"h11": "0.10.0"}, {}, [("h11 0.9.0", OLD)]),
        ({"h11": "0.10.0"}, {"h11": "0.9.0"}, {}, []),
        # the newest release for one version of Python is older
        ({"numpy": "2.2.6 2.4.0"}, {"numpy": "2.2.6 2.4.0"}, {}, []),
        ({"numpy": "2.2.6 2.3.0"}, {"numpy": "2.2.6 2.4.0"}, {}, [("numpy 2.3.0", OLD)]),
        ({"numpy": "2.2.6"}, {"numpy": "2.4.0"}, {}, [("numpy 2.2.6", OLD)]),
        ({"a": "1", "b": "1"}, {"a": "2", "b": "2"}, {"b": "1"}, [("a 1", OLD)]),
    ],
)
def test_an_outdated_pin_needs_a_reason_and_a_reason_an_outdated_pin(
    pinned: dict[str, str],
    newest: dict[str, str],
    reasons: dict[str, str],
    found: Sequence[tuple[str, str]],
) -> None:
    why = {name: Reason(held, "because") for name, held in reasons.items()}
    lines = list(problems(versions(**pinned), versions(**newest), why))
    assert [
        (line.startswith(start), words in line) for line, (start, words) in zip(lines, found, strict=True)
    ] == [(True, True)] * len(found)


def test_held_packages_are_listed_with_their_reasons() -> None:
    why = {"h11": Reason("0.9.0", "0.16 is too big")}
    assert list(kept(versions(h11="0.9.0", click="1"), versions(h11="0.16.0", click="2"), why)) == [
        "h11 0.9.0 is older than 0.16.0: 0.16 is too big"
    ]


def test_a_package_that_the_registry_left_out_is_an_error() -> None:
    with pytest.raises(RegistryError, match="h11"):
        list(problems(versions(h11="0.16.0"), versions(click="1"), {}))


@pytest.mark.parametrize(
    "text",
    [
        '[h11]\nheld = "1"',
        '[h11]\nwhy = "because"',
        '[h11]\nheld = "1"\nwhy = " "',
        '[h11]\nheld = ""\nwhy = "because"',
        '[h11]\nheld = 1\nwhy = "because"',
        '[h11]\nheld = "1"\nwhy = "because"\nuntil = "2"',
        'h11 = "1"',
        "[h11",
    ],
)
def test_a_reason_that_lacks_something_is_an_error(text: str) -> None:
    with pytest.raises(ReasonsError):
        read_reasons(text)


def test_the_reasons_of_the_project_are_of_packages_that_are_held() -> None:
    pinned = {
        **pins(*(lock.read_text() for lock in outdated.LOCKS)),
        **npm_pins(*(lock.read_text() for lock in outdated.NPM_LOCKS)),
    }
    reasons = read_reasons(outdated.REASONS.read_text())
    assert {name: reason.held for name, reason in reasons.items() if reason.held not in pinned[name]} == {}


# The program, with fake uv and npm commands

NPM_LOCK = {
    "packages": {
        "": {"dependencies": {"@a/hap": "1.0.0"}},
        "node_modules/@a/hap": {"version": "1.0.0"},
        "node_modules/what-it-requires": {"version": "0.1.0"},
    }
}


def latest(version: str, name: str = "@a/hap") -> str:
    return json.dumps({name: {"wanted": version, "latest": version, "dependent": "x"}})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a package of each kind at 1.0; uv prints `answer`, and npm prints `npm-answer`."""
    for name in ("runtime", "build", "dev"):
        (tmp_path / f"{name}.lock").write_text("h11==1.0 \\\n    --hash=sha256:00\n")
    (tmp_path / "held.toml").touch()
    (tmp_path / "uv").write_text('#!/bin/sh\ncd "${0%/*}" || exit\ncat >asked\ncat answer\n')
    (tmp_path / "uv").chmod(0o755)
    (tmp_path / "package-lock.json").write_text(json.dumps(NPM_LOCK))
    (tmp_path / "npm").write_text(
        f"#!/bin/sh\ncp package.json {tmp_path}/npm-asked\ncat {tmp_path}/npm-answer\nexit 1\n"
    )
    (tmp_path / "npm").chmod(0o755)
    (tmp_path / "npm-answer").write_text(latest("1.0.0"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(outdated, "NPM_LOCKS", (tmp_path / "package-lock.json",))
    monkeypatch.setattr(outdated, "ROOT", tmp_path)
    monkeypatch.setattr(outdated, "LOCKS", tuple(tmp_path.glob("*.lock")))
    monkeypatch.setattr(outdated, "REASONS", tmp_path / "held.toml")
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    return tmp_path


HELD = '[h11]\nheld = "1.0"\nwhy = "1.1 is slow"'


@pytest.mark.parametrize(
    ("answer", "reason", "expected"),
    [
        ("h11==1.0\n", "", (0, "")),
        ("h11==1.1\n", HELD, (0, "h11 1.0 is older than 1.1: 1.1 is slow\n")),
        ("h11==1.1\n", "", (1, "h11 1.0 is older than 1.1: run `make lock`, or add a reason to held.toml\n")),
        ("h11==1.0\n", HELD, (1, "h11 is no longer held at 1.0: remove its reason from held.toml\n")),
    ],
)
def test_the_exit_code_is_0_only_if_each_outdated_pin_has_a_reason(
    project: Path, capsys: pytest.CaptureFixture[str], answer: str, reason: str, expected: tuple[int, str]
) -> None:
    (project / "answer").write_text(answer)
    (project / "held.toml").write_text(reason)
    assert (outdated.main(), *capsys.readouterr()) == (*expected, "")


NPM_HELD = '["npm:@a/hap"]\nheld = "1.0.0"\nwhy = "2 is slow"'


@pytest.mark.parametrize(
    ("answer", "reason", "expected"),
    [
        ("0.9.0", "", (0, "")),
        ("1.0.0-beta.1", "", (0, "")),
        ("2.0.0", NPM_HELD, (0, "npm:@a/hap 1.0.0 is older than 2.0.0: 2 is slow\n")),
        ("2.0.0", "", (1, "npm:@a/hap 1.0.0 is older than 2.0.0: change package.json and run")),
        (
            "1.0.0",
            NPM_HELD,
            (1, "npm:@a/hap is no longer held at 1.0.0: remove its reason from held.toml\n"),
        ),
    ],
)
def test_npms_packages_need_their_reasons_too(
    project: Path, capsys: pytest.CaptureFixture[str], answer: str, reason: str, expected: tuple[int, str]
) -> None:
    (project / "answer").write_text("h11==1.0\n")
    (project / "npm-answer").write_text(latest(answer))
    (project / "held.toml").write_text(reason)
    code, start = expected
    assert outdated.main() == code
    assert capsys.readouterr().out.startswith(start)
    assert json.loads((project / "npm-asked").read_text()) == {"dependencies": {"@a/hap": "*"}}


def test_without_npm_nothing_can_be_compared(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "answer").write_text("h11==1.0\n")
    (project / "npm").unlink()
    monkeypatch.setattr(outdated, "NPM_COMMAND", (str(project / "npm"),))
    assert outdated.main() == 2
    assert "npm: No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"answer": "h11==1.0\n", "npm-answer": '{"error": {"code": "ENOTFOUND"}}'}, "npm: "),
        ({"answer": "h11==1.0\n", "npm-answer": ""}, "npm: "),
        ({"answer": "h11==1.0\n", "npm-answer": "[1]"}, "npm: "),
        ({"answer": "h11==1.0\n", "npm-answer": latest("new")}, "npm: "),
        (
            {"answer": "h11==1.0\n", "npm-answer": latest("1.0.0", "other")},
            "did not return the newest release of npm:@a/hap",
        ),
        ({"answer": ""}, "the registry did not return the newest release of h11"),
        ({}, "answer"),  # cat fails, like uv without a network
        ({"answer": "h11==1.0\n", "held.toml": "[h11]"}, "h11 must have `held` and `why`"),
    ],
)
def test_the_exit_code_is_2_if_nothing_can_be_compared(
    project: Path, capsys: pytest.CaptureFixture[str], files: dict[str, str], sentence: str
) -> None:
    for name, text in files.items():
        (project / name).write_text(text)
    assert outdated.main() == 2
    captured = capsys.readouterr()
    assert (captured.out, sentence in captured.err) == ("", True)


def test_the_registry_gets_only_names(project: Path) -> None:
    (project / "answer").write_text("h11==1.0\n")
    assert outdated.main() == 0
    assert (project / "asked").read_text() == "h11"


def test_the_real_uv_accepts_the_options() -> None:
    """Without packages, uv does not contact the registry."""
    uv = Path(sys.executable).with_name("uv")
    asked = subprocess.run([uv, *outdated.NEWEST, "-"], input="", capture_output=True, text=True, check=False)
    assert (asked.returncode, pins(asked.stdout)) == (0, {})
