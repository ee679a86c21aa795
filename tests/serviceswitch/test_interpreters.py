"""What runs a script is looked at like the script: it is refused where others could have written it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hkswitch.serviceswitch.trusted_files import MOST_INTERPRETERS, Untrusted, interpreter_of, program

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.mark.parametrize(
    ("contents", "interpreter"),
    [
        (b"#!/bin/sh\nexit\n", "/bin/sh"),
        (b"#! \t/bin/sh -e x\nexit\n", "/bin/sh"),
        (b"#!/bin/sh\t-e\n", "/bin/sh"),
        (b"#!/usr/bin/env python3\n", "/usr/bin/env"),
        (b"#!/bin/sh", "/bin/sh"),
        (b"#!/bin/sh\0/home/alice/sh\n", "/bin/sh"),
        (b"#!/bin/../home/alice/sh\n", "/bin/../home/alice/sh"),
        (b"#!/" + b"a" * 300, "/" + "a" * 253),
        (b"\x7fELF\2\1\1", None),
        (b"# !/bin/sh\n", None),
        (b" #!/bin/sh\n", None),
        (b"#", None),
        (b"", None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_the_interpreter_is_what_the_kernel_starts(
    tmp_path: Path, contents: bytes, interpreter: str | None
) -> None:
    file = tmp_path / "program"
    file.write_bytes(contents)
    assert interpreter_of(str(file)) == interpreter


@pytest.mark.parametrize(
    "contents",
    [
        b"#!\n",
        b"#!",
        b"#!   \t \n/bin/sh\n",
        b"#!sh\n",
        b"#!./sh\n",
        b"#!\0/bin/sh\n",
        b"#!/bin/sh\r\n",
        b"#!/bin/\x1b[2Jsh\n",
        b"#!/bin/\xff\n",
        "#!/bin/shé\n".encode(),
    ],
    ids=str,
)
def test_a_first_line_that_names_none_is_refused(tmp_path: Path, contents: bytes) -> None:
    file = tmp_path / "program"
    file.write_bytes(contents)
    with pytest.raises(Untrusted, match="its first line does not name an interpreter by its absolute path"):
        interpreter_of(str(file))


def test_a_missing_program_is_refused_with_the_remedy() -> None:
    with pytest.raises(Untrusted, match=r"^/usr/nosuch .* not exist; install it, or fix the path$"):
        program("/usr/nosuch/program")


@pytest.mark.parametrize(
    ("name", "why"), [("none", "none does not exist$"), ("link", "it is a symbolic link")]
)
def test_what_is_not_there_any_more_or_became_a_link_is_refused(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "link").symlink_to("/bin/sh")
    with pytest.raises(Untrusted, match=why):
        interpreter_of(str(tmp_path / name))


@pytest.fixture
def roots() -> Iterator[Path]:
    """A folder where only root can have written anything."""
    folder = Path("/opt/hkswitch-test-interpreters")
    if Path("/opt").stat().st_uid != 0 or Path("/opt").stat().st_mode & 0o022:
        pytest.skip("/opt is not root's alone here")
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def script(file: Path, interpreter: Path | str, mode: int = 0o755) -> Path:
    file.write_text(f"#!{interpreter}\nexit 0\n")
    file.chmod(mode)
    return file


@needs_root
def test_a_script_is_trusted_when_its_interpreter_is(roots: Path) -> None:
    (roots / "sh").symlink_to("/bin/sh")
    program(str(script(roots / "direct", "/bin/sh")))
    program(str(script(roots / "link", roots / "sh")))
    program(str(script(roots / "env", "/usr/bin/env sh")))


@needs_root
def test_a_script_is_refused_with_an_interpreter_that_others_can_write(roots: Path) -> None:
    shell = roots / "sh"
    shutil.copy("/bin/sh", shell)
    trusted = script(roots / "script", shell)
    program(str(trusted))
    os.chown(shell, 1000, 0)
    with pytest.raises(Untrusted) as caught:
        program(str(trusted))
    assert str(caught.value) == (
        f"{trusted} is not trusted: its interpreter {shell} is not trusted: "
        f"its owner is uid 1000, not root; run `sudo chown root {shell}`"
    )


@needs_root
@pytest.mark.parametrize("interpreter", ["/opt/none/sh", "/etc/passwd", "/etc", "/tmp/sh", "/usr"])
def test_a_script_is_refused_with_an_interpreter_that_is_no_program_of_roots(
    roots: Path, interpreter: str
) -> None:
    with pytest.raises(Untrusted, match=f"^{roots}/script is not trusted: its interpreter "):
        program(str(script(roots / "script", interpreter)))


@needs_root
def test_scripts_for_one_another_are_trusted_as_far_as_the_kernel_starts_them(roots: Path) -> None:
    before: Path | str = "/bin/sh"
    trusted = []
    for number in range(MOST_INTERPRETERS + 3):
        before = script(roots / str(number), before)
        trusted.append(is_trusted(before))
        if trusted[-1]:
            subprocess.run([before], check=True)
    assert trusted == [True] * MOST_INTERPRETERS + [False] * 3


def is_trusted(file: Path) -> bool:
    try:
        program(str(file))
    except Untrusted:
        return False
    return True


@needs_root
def test_a_script_that_is_its_own_interpreter_is_refused(roots: Path) -> None:
    with pytest.raises(Untrusted, match="too many nested interpreters"):
        program(str(script(roots / "self", roots / "self")))
