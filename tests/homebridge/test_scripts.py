"""The effect of a script is read out of it as bash would have it, or not at all.

bash itself is asked, with a systemctl that only records its arguments: they must be what was understood.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

from hkswitch.homebridge import USUAL_PATH, read_script
from hkswitch.homebridge.commands import CommandEffect, read
from hkswitch.homebridge.scripts import MOST_SCRIPT_BYTES, Script
from hkswitch.homebridge.systemctl import Verb
from tests.homebridge.importing import WRAPPER, machine

FILESERVER = ("smb.service", "nmb.service", "netatalk.service")
WEB = ("httpd.service",)

UNDERSTOOD = {
    "with variables": WRAPPER.decode(),
    "with a usage": """#!/usr/bin/env bash
# serviceswitch ACTION GROUP
set -euo errexit
usage() { echo "Usage: $0 {start|stop|status} GROUP" >&2; exit 64; }
[ $# -eq 2 ] || usage
ACTION="$1"
GROUP="$2"
case "$GROUP" in
fileserver) units="smb nmb netatalk" ;;
web) units=httpd ;;
*) echo "unknown group: $GROUP" >&2; exit 1 ;;
esac
case "$ACTION" in
start|stop) systemctl "$ACTION" $units ;;
status) systemctl status $units >/dev/null ;;
*) usage ;;
esac
""",
    "with a colon": """#!/bin/bash
case "$1:$2" in
  start:fileserver) systemctl start smb nmb netatalk;;
  stop:fileserver) systemctl stop smb nmb netatalk;;
  status:fileserver) systemctl -q is-active smb && systemctl -q is-active nmb &&
    systemctl -q is-active netatalk;;
  start:web) systemctl start httpd;;
  stop:web) systemctl stop httpd;;
  status:web) systemctl -q is-active httpd;;
  *) exit 1;;
esac
exit $?
""",
    "with a space": """#!/bin/sh
case "$1 $2" in
  (start*fileserver) systemctl start smb nmb netatalk;;
  ("stop fileserver") systemctl stop smb nmb netatalk;;
  ("status fileserver") systemctl status smb nmb netatalk > /dev/null 2>&1;;
  (*\\ web) systemctl $1 httpd;;
esac
""",
    "nested": """#!/bin/bash
case $1 in
start)
  case $2 in
    fileserver)
      systemctl start smb
      systemctl start nmb
      systemctl start netatalk
      ;;
    web) service httpd start
  esac
  ;;
stop)
  case $2 in
    fileserver) systemctl stop smb nmb netatalk ;;
    web) service httpd stop ;;
  esac
  ;;
status)
  case $2 in
    fileserver) (systemctl -q is-active smb && systemctl -q is-active nmb) &&
      systemctl is-active netatalk &>/dev/null ;;
    web) service httpd status ;;
  esac
esac
""",
    "with if": """#!/bin/bash -e
action=$1; shift
if [ "$1" = "fileserver" ]; then
  services="smb nmb"
  services="$services netatalk"
elif [[ $1 == web ]]; then
  services=httpd
else
  exit 1
fi
if test "$action" != status; then
  sudo -n /usr/bin/systemctl --no-pager "$action" $services
elif ! systemctl status $services > /dev/null; then
  exit 3
fi
""",
    "with functions": """#!/bin/bash
SYSTEMCTL=/usr/bin/systemctl
function act {
  verb=$1
  shift
  ( $SYSTEMCTL "$verb" "$@" ) || return 1
  return 0
}
main() {
  [ -z "$2" ] && { echo usage; exit 1; }
  [[ "$1" =~ ^(start|stop|status)$ ]] || exit 2
  if [ "$2" = fileserver ]; then
    act $1 smb nmb netatalk
  else
    act $1 httpd
  fi
}
main "$@"
""",
}

NOT_UNDERSTOOD = {
    "a program that is unknown": ("mount /srv\nsystemctl start smb", "it runs other programs, too"),
    "a pause": ("systemctl start smb; sleep 2; systemctl start nmb", "it runs other programs, too"),
    "two things": ("systemctl stop smb; systemctl start smb", "it does more than one thing"),
    "a start that depends on the state": (
        "if systemctl -q is-active smb; then echo runs; else systemctl start smb; fi; systemctl start nmb",
        "it does more than one thing",
    ),
    "a second choice": (
        "systemctl start smb || systemctl start smbd",
        "it does something else if a unit fails",
    ),
    "a second choice by if": (
        "if ! systemctl start smb; then systemctl start smbd; fi",
        "it does something else if a unit fails",
    ),
    "a second choice by $?": (
        'systemctl start smb; [ "$?" -ne 0 ] && systemctl start smbd; true',
        "the exit status of a program that failed",
    ),
    "nothing": ("echo done", "it does nothing with units"),
    "a refusal": ("echo no; exit 1", "it refuses these arguments"),
    "the last status": ("systemctl start smb; [ a = b ]", "it refuses these arguments"),
    "a substitution": ('systemctl start "$(cat /etc/units)"', "'$(cat /etc/units)'"),
    "a program in a message": ('systemctl start smb; echo "$(date)"', "it runs other programs, too"),
    "arithmetic in a message": ('systemctl start smb; echo "$((x += 1))"', "'$((x += 1))'"),
    "backticks": ("systemctl start `cat /etc/units`", "'`cat /etc/units`'"),
    "arithmetic": ("systemctl start smb@$((1 + 1))", "'$((1 + 1))'"),
    "a pipe": ("echo smb | xargs systemctl start", "it runs other programs, too"),
    "the background": ("systemctl start smb &", "a command in the background"),
    "the environment": ("systemctl start $UNITS", "the variable '$UNITS', which is never set"),
    "a variable of a subshell": ("(u=a); systemctl start $u", "the variable '$u', which is never set"),
    "the home folder": ("UNITS=~/x; systemctl start smb", "a home folder, '~'"),
    "a pattern that files could match": ("U='smb*'; systemctl start $U", "the pattern '*'"),
    "a pattern with brackets": ("case $1 in [s]tart) systemctl start smb;; esac", "the pattern '[s]tart'"),
    "an expression that is unknown": ("[[ $1 =~ s.*t ]]; systemctl start smb", "the expression 's.*t'"),
    "an expansion of bash": ("systemctl ${1,,} smb", "'${1,,}'"),
    "a file": ("[ -e /run/x ] && exit 0; systemctl start smb", "the condition '-e /run/x'"),
    "another split": ("IFS=,; U=a,b; systemctl start $U", "the assignment to 'IFS'"),
    "a value of bash": ("RANDOM=5; systemctl start a$RANDOM", "the assignment to 'RANDOM'"),
    "words that run together": ('U="a b"; systemctl start x$U', "the words of 'xa b'"),
    "a file for the output": ("systemctl start smb > /tmp/log", "the redirection '>/tmp/log'"),
    "an assignment for one command": (
        "LANG=C systemctl start smb",
        "an assignment to 'LANG' for one command",
    ),
    "an argument that is not there": ("set -u; systemctl start $3", "'$3' without a value"),
    "too few to shift": ("shift; shift; shift; systemctl start smb", "the command 'shift'"),
    "no end": ("f() { f; f; }; f; systemctl start smb", "it calls itself"),
    "too much": ("x=" + "y" * 3000 + "; x=$x$x; systemctl start smb", "it takes too much memory"),
    "too many ways": ("systemctl start a || true\n" * 7, "it depends on too much"),
    "a unit that is a pattern": ("systemctl start 'smb*'", "it runs other programs, too"),
    "a user's unit": ("systemctl --user start smb", "it runs other programs, too"),
    "somebody else": ("sudo -u pi systemctl start smb", "it runs other programs, too"),
    "return in no function": ("systemctl start smb; return 0", "'return' outside of a function"),
    "a status of another program": ("mount; [ $? = 32 ]", "the exit status of a program that failed"),
    "a status of systemctl": (
        "systemctl start smb; if [ $? -eq 1 ]; then systemctl start smbd; fi",
        "the exit status of a program that failed",
    ),
    "a status in a case": (
        "systemctl start smb; case $? in 1) /opt/alarm;; esac",
        "the exit status of a program that failed",
    ),
    "a status of systemctl in a shell": (
        "bash -c 'systemctl start smb'; [ $? = 1 ] && systemctl start smbd; true",
        "the exit status of a program that failed",
    ),
    "printf for a variable": (
        "verb=start; printf -v verb stop; systemctl $verb smb",
        "an option or a format of 'printf'",
    ),
    "printf for a variable, by a variable": (
        "o=-v; verb=start; printf $o verb stop; systemctl $verb smb",
        "an option or a format of 'printf'",
    ),
    "printf in quotes": (
        "verb=start; 'printf' -v verb stop; systemctl $verb smb",
        "the command 'printf -v verb stop'",
    ),
    "printf that fails": ("set -e; printf %d x; systemctl start smb", "an option or a format of 'printf'"),
    "an argument that is not there for a message": (
        'set -u; echo "on $3"; systemctl start smb',
        "'$3' without a value",
    ),
    "a function that exit calls": (
        "exit() { systemctl start smbd; }; systemctl start smb; exit $?",
        "a function in the place of 'exit'",
    ),
    "a folder as a verb": ("DIRSTACK=start; systemctl $DIRSTACK smb", "the assignment to 'DIRSTACK'"),
    "a command in a prompt": (
        "PS4='$(systemctl stop smb)'; set -x; systemctl start smb",
        "the assignment to 'PS4'",
    ),
    "an argument for set": ("set errexit; systemctl start $1", "'set errexit'"),
    "a source": (". /etc/default/units; systemctl start $U", "the command '. /etc/default/units'"),
    "a failure that ends it": ("set -e; false; systemctl start smb", "it refuses these arguments"),
    "a text for eval": ("eval systemctl start smb", "the command 'eval systemctl start smb'"),
}

NOT_POSIX = {
    "an output": ("systemctl start smb &> /dev/null", "'&>'"),
    "a condition": ("[[ -n x ]]; systemctl start smb", "'[['"),
    "a comparison": ("[ a == a ]; systemctl start smb", "'=='"),
    "a function": ("function f { systemctl start smb; }; f", "'function'"),
}

UNREADABLE = {
    "a semicolon too many": ("; systemctl start smb", "';' in this place"),
    "an empty block": ("f() { }; systemctl start smb", "'}' in this place"),
    "an empty branch": ("if true; then fi; systemctl start smb", "'fi' in this place"),
    "a here-document": ("cat <<EOF\nx\nEOF", "a here-document, '<<'"),
    "a loop": ("while true; do systemctl start smb; done", "'while' in this place"),
    "an arithmetic command": ("((x++))", "'(' in this place"),
    "fallthrough": ("case $1 in start) x=1;;& *) systemctl start smb;; esac", "';;&' in this place"),
    "a quote without an end": ("systemctl start 'smb", "an unterminated quote"),
    "a case without an end": ("case $1 in start) systemctl start smb;;", "it ends too early"),
    "an if without an end": ("if true; then systemctl start smb", "it ends too early"),
    "an end without a beginning": ("systemctl start smb; fi", "'fi' in this place"),
    "Windows' line ends": ("systemctl start smb\r", "the character '\\r'"),
    "an array": ("units=(smb nmb); systemctl start smb", "'(' in this place"),
    "a condition without an end": ("[[ a == b && c == d ]]", "a condition in [[ ]]"),
}


def effect(text: str | bytes, *arguments: str) -> CommandEffect:
    """The effect of a script with these arguments, run by root."""
    contents = text if isinstance(text, bytes) else text.encode()
    words = " ".join(f"'{argument}'" for argument in arguments)
    return read(f"sudo {USUAL_PATH} {words}", machine({USUAL_PATH: contents})).effect


def bash(text: str, arguments: tuple[str, ...], folder: Path) -> tuple[int, list[list[str]]]:
    """How bash ends, and the arguments of systemctl and service."""
    log = folder / "log"
    log.write_text("")
    for name in ("systemctl", "service"):
        fake = folder / name
        fake.write_text(f'#!/bin/bash\nprintf "%s\\0" {name} "$@" >> {log}; echo >> {log}\n')
        fake.chmod(0o755)
    sudo = folder / "sudo"
    sudo.write_text('#!/bin/bash\n[ "$1" = -n ] && shift\nexec "$@"\n')
    sudo.chmod(0o755)
    script = folder / "script"
    script.write_text(text.replace("/usr/bin/systemctl", str(folder / "systemctl")))
    environment = {"PATH": f"{folder}:{os.environ['PATH']}"}
    program = "bash" if "bash" in text.partition("\n")[0] else "sh"
    options = ["-e"] if text.startswith("#!/bin/bash -e") else []
    ended = subprocess.run(
        [program, *options, str(script), *arguments],
        env=environment,
        capture_output=True,
        timeout=20,
        check=False,
    )
    calls = [line.split("\0")[:-1] for line in log.read_text().splitlines()]
    return ended.returncode, calls


def recorded(calls: list[list[str]]) -> set[tuple[str, str]]:
    """Each verb and each unit of the recorded calls."""
    found = set()
    for name, *arguments in calls:
        words = [word for word in arguments if not word.startswith("-")]
        verb, units = (words[-1], words[:-1]) if name == "service" else (words[0], words[1:])
        verb = "status" if verb == "is-active" else verb
        found |= {(verb, unit.removesuffix(".service") + ".service") for unit in units}
    return found


@pytest.mark.parametrize("action", ["start", "stop", "status"])
@pytest.mark.parametrize(("group", "units"), [("fileserver", FILESERVER), ("web", WEB)])
@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in UNDERSTOOD.items()])
def test_the_effect_of_a_script_is_that_in_bash(
    text: str, group: str, units: tuple[str, ...], action: str, tmp_path: Path
) -> None:
    call = effect(text, action, group).call
    assert call
    assert (call.verb, call.units) == (Verb(action), units)
    status, calls = bash(text, (action, group), tmp_path)
    assert (status, recorded(calls)) == (0, {(action, unit) for unit in units})


def test_a_script_that_wants_root_has_it_by_sudo_only() -> None:
    text = b'#!/bin/bash\nif [ "$(id -u)" -ne 0 ]; then exit 1; fi\nsystemctl $1 smb\n'
    assert effect(text, "start").call
    assert read(f"{USUAL_PATH} start", machine({USUAL_PATH: text})).effect.why == "'$(id -u)'"
    assert read(f"{USUAL_PATH} start", machine({USUAL_PATH: text}, user="root")).effect.call


@pytest.mark.parametrize(
    "text",
    [
        f"sudo {USUAL_PATH} start web",
        "serviceswitch start web",
        f"bash {USUAL_PATH} start web",
        f"sh -c '{USUAL_PATH} start web'",
    ],
)
def test_a_script_is_found_however_it_is_called(text: str) -> None:
    found = read(text, machine({USUAL_PATH: WRAPPER}))
    assert found.effect.call
    assert found.effect.call.units == WEB


@pytest.mark.parametrize("arguments", [("start", "nobody"), ("frobnicate", "web"), ("start",), ()])
@pytest.mark.parametrize("text", [WRAPPER.decode(), UNDERSTOOD["with a usage"]])
def test_arguments_that_a_script_refuses_have_no_effect(text: str, arguments: tuple[str, ...]) -> None:
    assert effect(text, *arguments).call is None


@pytest.mark.parametrize(
    ("body", "why"), [pytest.param(*row, id=name) for name, row in NOT_UNDERSTOOD.items()]
)
def test_what_is_not_certain_has_no_effect(body: str, why: str) -> None:
    assert effect(f"#!/bin/bash\n{body}\n", "start", "web")._replace(is_constant=False) == CommandEffect(
        None, False, why
    )


@pytest.mark.parametrize(("body", "why"), [pytest.param(*row, id=name) for name, row in UNREADABLE.items()])
def test_a_script_with_something_unknown_is_not_understood(body: str, why: str) -> None:
    found = effect(f"#!/bin/bash\n{body}", "start", "web")
    assert found == CommandEffect(None, False, f"it contains something unsupported: {why}")


@pytest.mark.parametrize(("body", "sign"), [pytest.param(*row, id=name) for name, row in NOT_POSIX.items()])
def test_a_script_of_sh_has_no_syntax_of_bash(body: str, sign: str) -> None:
    found = effect(f"#!/bin/sh\n{body}", "start", "web")
    assert found.why == f"it contains something unsupported: {sign}, which not every sh has"
    assert effect(f"#!/bin/bash\n{body}", "start", "web").call
    assert read(f"sudo sh {USUAL_PATH}", machine({USUAL_PATH: b"#!/bin/bash\ntrue\n"})).effect.call is None


def test_a_comparison_of_bash_is_one_in_quotes_too() -> None:
    text = '[ "$1" "==" on ] || systemctl start smb'
    assert effect(f"#!/bin/sh\n{text}", "off").why == "'==', which not every sh has"
    assert effect(f"#!/bin/bash\n{text}", "off").call


def test_a_name_of_a_function_is_one_in_every_shell() -> None:
    found = effect("#!/bin/sh\na-b() { systemctl start smb; }\na-b")
    assert found.why == "it contains something unsupported: '(' in this place"


@pytest.mark.parametrize("shell", [("bash", "compgen -v"), ("dash", "set")])
def test_a_variable_that_a_shell_sets_itself_is_not_assigned(shell: tuple[str, str]) -> None:
    program, text = shell
    ended = subprocess.run([program, "-c", text], env={}, capture_output=True, text=True, check=True)
    names = [name for name in re.split(r"[=\n]", ended.stdout) if re.fullmatch(r"[A-Z]\w+", name)]
    assert "IFS" in names
    for name in [*names, "_", "MAPFILE", "COMPREPLY", "COPROC", "OPTARG", "REPLY", "FUNCNAME", "HISTCMD"]:
        assert effect(f"#!/bin/sh\n{name}=start; systemctl start smb").why == f"the assignment to '{name}'"


@pytest.mark.parametrize(
    ("contents", "why"),
    [
        pytest.param(None, "it could not be read", id="no file"),
        pytest.param(b"\x7fELF\xff", "it is not text", id="a program"),
        pytest.param(b"", "its first line names an unsupported shell", id="empty"),
        pytest.param(b"systemctl start x\n", "its first line names an unsupported shell", id="no shell"),
        pytest.param(b"#!/usr/bin/python3\n", "its first line names an unsupported shell", id="Python"),
        pytest.param(b"#!/bin/zsh\n", "its first line names an unsupported shell", id="zsh"),
        pytest.param(b"#!/bin/bash\n" + b"#" * MOST_SCRIPT_BYTES, "it is too large", id="too large"),
        *(
            pytest.param(
                b"#!/bin/bash\n" + opening * 5000,
                "it contains something unsupported: it is nested too deeply",
                id=f"too deep with {opening.decode()}",
            )
            for opening in (b"{ ", b"(a;", b"$(", b"if ", b"! ", b'"$(', b"case x in x) ", b"f() { ")
        ),
    ],
)
def test_a_file_that_is_no_script_is_not_understood(contents: bytes | None, why: str) -> None:
    assert read_script(USUAL_PATH, contents) == Script(USUAL_PATH, None, why)


def test_a_run_without_an_end_is_given_up() -> None:
    doubling = "".join(f"f{n}() {{ f{n + 1}; f{n + 1}; }}\n" for n in range(30))
    text = f"#!/bin/bash\n{doubling}f30() {{ :; }}\nf0\nsystemctl start smb\n"
    assert effect(text, "start", "web").why == "it takes too long"


def test_what_is_never_reached_need_not_be_understood() -> None:
    text = "#!/bin/bash\nif [ $# -lt 2 ]; then cat /etc/motd | less; exit 1; fi\nsystemctl start smb\n"
    call = effect(text, "start", "web").call
    assert call
    assert call.units == ("smb.service",)
