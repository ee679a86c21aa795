"""Scripts and commands that no user would write: whatever of them is understood, a shell does just that."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from hkswitch.homebridge import USUAL_PATH
from hkswitch.homebridge.commands import read
from hkswitch.homebridge.systemctl import Verb
from tests.homebridge.importing import machine

STATUSES = 1, 3, 5
"""Those with which systemctl and docker fail."""

DOCKER = """#!/bin/bash
printf "%s\\0" docker "$@" >&7
echo >&7
[ "$1" != inspect ] || { [ $FAILS = 0 ] && echo true || echo false; exit; }
exit $FAILS
"""
TO_DOCKER = {"systemctl --no-pager": "docker", "systemctl is-active": "docker top", "systemctl": "docker"}
FORMAT = "-f", "{{.State.Running}}"
RUNNING = "docker inspect -f '{{.State.Running}}'"
STATUS_BY = {"is-active": "status", "top": "status", "inspect": "status"}

EXAMPLES, LONGER = 60, 50
"""How many are drawn, and how many times more there are with --long."""

NAMES = st.sampled_from(["a", "b", "U"])
ATOMS = st.sampled_from(
    [
        *("x", "y", "start", "web", "x y", "", "a:b", "$1", "$2", "$#", "$@", "$9"),
        *("${1}", "${2}", "$a", "${b}", "$U", "${U}"),
        *("\\x", "\\$a", "{", "=", "!", "*", "$1", "$2", "on", "a.b"),
    ]
)
QUOTES = st.sampled_from(["{}", '"{}"', "'{}'", '"x{}"', "x{}y", '{}"{}"'])
WORDS = st.builds(lambda form, atom: form.replace("{}", atom), QUOTES, ATOMS)
LISTS = st.lists(WORDS, max_size=3).map(" ".join)
HOLDS = st.sampled_from(
    [
        *("[ $1 = start ]", "[ $# -eq 2 ]", '[ ! -z "$2" ]', "true", 'test "$2" != x', "! false"),
        *("[[ $1 == start ]]", '[[ "$1$2" =~ ^[a-z]+$ ]]', "[[ $2 =~ ^(web|x)$ ]]", "[ 1 -le 2 ]"),
    ]
)
VERBS = st.sampled_from(["start", "start", "start", "is-active"])
UNITS = st.lists(WORDS, min_size=1, max_size=2).map(" ".join)

SIMPLE = st.one_of(
    st.builds("systemctl {} {}".format, VERBS, UNITS),
    st.builds("systemctl {} {}".format, VERBS, UNITS),
    st.builds("sudo -n systemctl --no-pager start {}".format, UNITS),
    st.builds("{}={}".format, NAMES, WORDS),
    st.builds("{} {} > /dev/null".format, st.sampled_from(["echo", "echo", "printf"]), LISTS),
    st.builds("printf -v {} {}".format, NAMES, WORDS),
    st.builds("[ $? -{} {} ]".format, st.sampled_from(["eq", "ne", "gt"]), st.sampled_from("0135")),
    st.builds("case $? in {}) {};; esac".format, st.sampled_from("0135"), st.just("systemctl start other")),
    st.builds("[ {} {} {} ]".format, WORDS, st.sampled_from(["'=='", '"=="', "\\=="]), WORDS),
    st.builds("{}=start; systemctl ${} c".format, *[st.just("DIRSTACK")] * 2),
    st.builds("[ {} = {} ]".format, WORDS, WORDS),
    st.builds("[[ {} == {} ]]".format, WORDS, WORDS),
    st.builds("[ {} {} ]".format, st.sampled_from(["-z", "-n", "!", "! -n", ""]), WORDS),
    st.builds("test {} -{} {}".format, WORDS, st.sampled_from(["eq", "lt"]), WORDS),
    st.builds(
        "[[ {} =~ {} ]]".format, WORDS, st.sampled_from(["^(start|web|x)$", "^[a-z@]+$", "^[a-z0-9@\\._-]+$"])
    ),
    st.builds("{}=$2; systemctl start ${{a}} ${{b}} $U".format, NAMES),
    st.builds("echo {} $({})".format, WORDS, st.sampled_from(["true", "false", "exit 1"])),
    st.builds(
        "{} {} 2>/dev/null | grep -q {}".format, st.just(RUNNING), WORDS, st.sampled_from(["true", "x"])
    ),
    st.builds('[ "$({} {})" {} true ]'.format, st.just(RUNNING), WORDS, st.sampled_from(["=", "=="])),
    st.builds("f {}".format, LISTS),
    st.builds("exit {}".format, st.sampled_from(["", "0", "1", "$?"])),
    st.sampled_from(["true", "false", ":", "shift", "set -e", "set -u", "set -eu", "grep x /dev/null", "f"]),
)
BLOCKS = st.recursive(
    SIMPLE,
    lambda inner: st.one_of(
        st.builds("{}\n{}".format, inner, inner),
        st.builds("{} && {}".format, inner, inner),
        st.builds("{} || {}".format, inner, inner),
        st.builds("! {}".format, SIMPLE),
        st.builds("{{ {}; }}".format, inner),
        st.builds("({})".format, inner),
        st.builds("{} && {{ {}; }}".format, HOLDS, inner),
        st.builds("if ! {}; then exit 1; fi; {}".format, HOLDS, inner),
        st.builds("if {}; then {}; elif {}; then {}; fi".format, HOLDS, inner, HOLDS, inner),
        st.builds("case $1 in (stop) {};; (start | x) {};; esac".format, inner, inner),
        st.builds("g() {{\n{}\n}}\ng $2 $1".format, inner),
        st.builds("if {}; then {}; else {}; fi".format, inner, inner, inner),
        st.builds("if {}; then {}; fi".format, inner, inner),
        st.builds(
            "case {} in {}) {};; x|{}) {};; *) {}; esac".format, WORDS, WORDS, inner, WORDS, inner, inner
        ),
        st.builds("f() {{ {}; }}".format, inner),
    ),
    max_leaves=8,
)
PIECES = st.sampled_from(
    [
        *(
            "x",
            " ",
            "  ",
            "'",
            '"',
            "\\",
            "$",
            "$x",
            "`",
            "(",
            ")",
            "{",
            "}",
            "a,b",
            "~",
            "*",
            "?",
            "[a]",
            "#",
        ),
        *(
            "!",
            "=",
            "|",
            "&",
            ";",
            "<",
            ">",
            "2",
            "\n",
            "\t",
            "http://",
            "%",
            "^",
            ":",
            "-",
            "\u00a0",
            "\r",
            "é",
        ),
    ]
)
COMMANDS = st.lists(PIECES, max_size=8).map("".join)
LASTS = st.tuples(st.sampled_from(["\n", "\n", " && "]), st.sampled_from(["start", "is-active"]))
SCRIPTS = st.lists(BLOCKS, min_size=1, max_size=5).map("\n".join)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where bash finds a systemctl, a docker and a sudo that only say what they were called with."""
    folder = tmp_path_factory.mktemp("programs")
    set_hypothesis_home_dir(folder)
    (folder / "systemctl").write_text('#!/bin/bash\nprintf "%s\\0" "$@" >&7; echo >&7\nexit $FAILS\n')
    (folder / "docker").write_text(DOCKER)
    (folder / "sudo").write_text('#!/bin/bash\nshift\nexec "$@"\n')
    for program in folder.iterdir():
        if program.is_file():
            program.chmod(0o755)
    return folder


def drawn(*, long: bool) -> settings:
    return settings(
        max_examples=EXAMPLES * (LONGER if long else 1),
        derandomize=not long,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_words_of_a_command_are_those_that_a_program_gets(folder: Path, long: bool, shell: str) -> None:
    split = 0

    @drawn(long=long)
    @given(COMMANDS)
    def check(text: str) -> None:
        nonlocal split
        words = read(f"said {text}", machine({})).argv
        if not words or words[0] == "/bin/sh":
            return
        split += 1
        script = "said() { printf '%s\\0' said \"$@\"; }\n" + f"said {text}"
        ended = subprocess.run(
            [shell, "-c", script], cwd=folder, capture_output=True, timeout=20, check=False
        )
        assert tuple(ended.stdout.decode().split("\0")[1:-1]) == words[1:], text

    check()
    assert split > EXAMPLES // 10


def test_what_is_understood_is_what_shells_do(folder: Path, long: bool) -> None:
    understood = 0

    @drawn(long=long)
    @given(SCRIPTS, LASTS, st.sampled_from(["bash", "sh"]), st.booleans())
    def check(body: str, last: tuple[str, str], shell: str, docker: bool) -> None:
        nonlocal understood
        then, verb = last
        text = f"#!/bin/{shell}\na=x U=web\n{body}{then}systemctl {verb} last\n"
        for old, new in TO_DOCKER.items() if docker else ():
            text = text.replace(old, new)
        effect = read(f"sudo {USUAL_PATH} start web", machine({USUAL_PATH: text.encode()})).effect
        if not effect.call and not effect.is_constant:
            return
        understood += 1
        status, calls = run(shell, text, folder, fails=0)
        if effect.call:
            assert status == 0, text
            assert {verb for verb, _ in calls} == {effect.call.verb}, text
            assert {unit for _, unit in calls} == set(effect.call.members), text
        for fails in STATUSES:
            status_of_failures, calls_of_failures = run(shell, text, folder, fails=fails)
            if effect.call:
                assert calls_of_failures <= calls, text
                assert status_of_failures or effect.call.verb is not Verb.STATUS, text
            if effect.is_constant:
                assert bool(status) == bool(status_of_failures), text

    check()
    assert understood > EXAMPLES // 10


def run(shell: str, text: str, folder: Path, *, fails: int) -> tuple[int, set[tuple[str, str]]]:
    """How the shell ends, and each verb and each unit, if all calls of systemctl end with `fails`."""
    script = folder / "script"
    script.write_text(f"exec 7>{folder}/log\n{text}")
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "FAILS": str(fails)}
    ended = subprocess.run(
        [shell, str(script), "start", "web"],
        env=environment,
        cwd=folder,
        capture_output=True,
        timeout=20,
        check=False,
    )
    calls = set()
    for line in (folder / "log").read_text().splitlines():
        verb, *names = [word for word in line.split("\0")[:-1] if word != "--no-pager"]
        if verb == "docker":
            verb, *names = names
            calls |= {(STATUS_BY.get(verb, verb), f"docker/{name}") for name in names if name not in FORMAT}
        else:
            calls |= {
                (STATUS_BY.get(verb, verb), f"{name.removesuffix('.service')}.service") for name in names
            }
    return ended.returncode, calls
