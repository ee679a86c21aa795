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
set -uf
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
  ("start fileserver") systemctl start smb nmb netatalk;;
  ("stop fileserver") systemctl stop smb nmb netatalk;;
  ("status fileserver") systemctl status smb nmb netatalk > /dev/null 2>&1;;
  (start\\ web|'stop web'|"status"" web") systemctl $1 httpd;;
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
      systemctl is-active netatalk >/dev/null 2>&1 ;;
    web) service httpd status ;;
  esac
esac
""",
    "with if": """#!/bin/bash
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
else
  systemctl status $services > /dev/null
  exit $?
fi
""",
    "with functions": """#!/bin/bash
SYSTEMCTL=/usr/bin/systemctl
function act {
  verb=$1
  shift
  ( $SYSTEMCTL "$verb" "$@" )
}
main() {
  [ -z "$2" ] && { echo usage; exit 1; }
  [ ! $# -ge 2 ] || [ "" = "$1" ] || echo "$@"
  [[ "$1" =~ ^(start|stop|status)$ ]] && [[ $1 =~ ^[a-z@\\._-]+$ ]] || exit 2
  if [ "$2" = fileserver ]; then
    act $1 smb nmb netatalk
  else
    act $1 httpd
  fi
}
main "$@"
""",
}

DEPENDS = "it depends on how a program ends"
CHANGE = "in a subshell, or after a program and '&&'"
NMB = "systemctl start nmb"

NOT_UNDERSTOOD = {
    "a program that is unknown": ("mount /srv\nsystemctl start smb", "it runs other programs, too"),
    "a pause": ("systemctl start smb; sleep 2; systemctl start nmb", "it runs other programs, too"),
    "two things": ("systemctl stop smb; systemctl start smb", "it does more than one thing"),
    "a start that depends on the state": (
        "if systemctl -q is-active smb; then echo runs; else systemctl start smb; fi; systemctl start nmb",
        DEPENDS,
    ),
    "a state by an if": ("if systemctl -q is-active smb; then exit 0; fi; exit 1", DEPENDS),
    "a state turned round": ("! systemctl -q is-active smb", DEPENDS),
    "a second choice": ("systemctl start smb || systemctl start smbd", DEPENDS),
    "a second choice by if": ("if ! systemctl start smb; then systemctl start smbd; fi", DEPENDS),
    "a second choice by $?": (
        'systemctl start smb; [ "$?" -ne 0 ] && systemctl start smbd; true',
        "the value of '$?' is unknown",
    ),
    "a failure that does not matter": ("systemctl start smb || true", DEPENDS),
    "nothing": ("echo done", "it does nothing with units or containers"),
    "a refusal": ("echo no; exit 1", "it refuses these arguments"),
    "the last status": ("systemctl start smb; [ a = b ]", "it refuses these arguments"),
    "the status of the last unit": (
        "systemctl is-active smb; systemctl is-active nmb",
        "its exit status does not depend on its units or containers alone",
    ),
    "the status of the first unit": (
        "systemctl is-active smb && { systemctl is-active nmb; echo both; }",
        "its exit status does not depend on its units or containers alone",
    ),
    "a test after a program": (
        "systemctl start smb && [ a = b ]",
        "a command that fails if a program succeeds",
    ),
    "an end after a program": (f"systemctl start smb && exit 0; {NMB}", f"'exit' {CHANGE}"),
    "an end of a subshell": (f"(exit 0); {NMB}", f"'exit' {CHANGE}"),
    "a variable of a subshell": ("(u=a); systemctl start $u", f"the assignment to 'u' {CHANGE}"),
    "a variable after a program": (f"{NMB} && u=a; {NMB}", f"the assignment to 'u' {CHANGE}"),
    "a function of a subshell": (f"(f() {{ {NMB}; }}; f)", f"a function {CHANGE}"),
    "arguments of a subshell": (f"(shift; {NMB})", f"'shift' {CHANGE}"),
    "options of a subshell": (f"(set -e); {NMB}", f"'set' {CHANGE}"),
    "a substitution": ('systemctl start "$(cat /etc/units)"', "the value of '$(cat /etc/units)' is unknown"),
    "a program in a message": ('systemctl start smb; echo "$(date)"', "it runs other programs, too"),
    "a message in a message": (
        'systemctl start smb; echo "$(echo x | awk "{print (\\$0)}") $1"',
        "it runs other programs, too",
    ),
    "the environment": ("systemctl start $UNITS", "the value of '$UNITS' is unknown"),
    "the environment in a message": (f'echo "$UNITS"; {NMB}', "the value of '$UNITS' is unknown"),
    "the home folder": ("UNITS=~/x; systemctl start smb", "the pattern '~'"),
    "a pattern that files could match": ("U='smb*'; systemctl start $U", "the pattern '*'"),
    "a pattern with brackets": ("case $1 in [s]tart) systemctl start smb;; esac", "the pattern '['"),
    "a pattern with an asterisk": ("case $1 in st*) systemctl start smb;; esac", "the pattern '*'"),
    "an expression that is unknown": (
        "[[ $1 =~ ^s.*t$ ]]; systemctl start smb",
        "the expression '^s.*t$'",
    ),
    "an expression for a backslash": (
        "[[ 'a\\' =~ ^[a\\.]+$ ]]; systemctl start smb",
        "the expression '^[a\\.]+$'",
    ),
    "a comparison of no numbers": (f"[ $1 -eq 08 ] || {NMB}", "the number 'start'"),
    "a condition of bash": (f"[[ -n $1 ]] && {NMB}", "a condition in [[ ]]"),
    "a negation of bash": (f"[[ ! = $1 ]] || {NMB}", "a condition in [[ ]]"),
    "a file": ("[ -e /run/x ] && exit 0; systemctl start smb", "the condition '-e /run/x'"),
    "a condition of one word": (f"[ x ] && {NMB}", "the condition 'x'"),
    "another split": ("IFS=,; U=a,b; systemctl start $U", "the assignment to 'IFS'"),
    "a value of bash": ("RANDOM=5; systemctl start a$RANDOM", "the assignment to 'RANDOM'"),
    "words that run together": ('U="a b"; systemctl start x$U', "the words of 'a b'"),
    "arguments that run together": ('systemctl start "x$@"', "the value of '$@' is unknown"),
    "a file for the output": ("systemctl start smb > /tmp/log", "the redirection '>/tmp/log'"),
    "an input": ("systemctl start smb < /dev/null", "the redirection '</dev/null'"),
    "an assignment for one command": ("x=C systemctl start smb", "an assignment for one command"),
    "an argument that is not there": ("systemctl start $3", "the value of '$3' is unknown"),
    "an argument that is not there for a message": (
        'echo "on $3"; systemctl start smb',
        "the value of '$3' is unknown",
    ),
    "too few to shift": ("shift; shift; shift; systemctl start smb", "the command 'shift'"),
    "no end": ("f() { f; f; }; f; systemctl start smb", "it is nested too deeply"),
    "too much": ("x=" + "y" * 3000 + "; x=$x$x; systemctl start smb", "it takes too much memory"),
    "too many arguments": (
        'f() { set -f; }; f "$@"' + ' "$@"' * 900 + "; systemctl start smb",
        "it takes too much memory",
    ),
    "a unit that is a pattern": ("systemctl start 'smb*'", "it runs other programs, too"),
    "a user's unit": ("systemctl --user start smb", "it runs other programs, too"),
    "somebody else": ("sudo -u pi systemctl start smb", "it runs other programs, too"),
    "return": ("systemctl start smb; return 0", "the command 'return 0'"),
    "a status of another program": ("mount; [ $? = 32 ]", "the value of '$?' is unknown"),
    "a status in a case": (
        "systemctl start smb; case $? in 1) /opt/alarm;; esac",
        "the value of '$?' is unknown",
    ),
    "a status of systemctl in a shell": (
        "bash -c 'systemctl start smb'; [ $? = 1 ] && systemctl start smbd; true",
        "the value of '$?' is unknown",
    ),
    "a status that is no number": (f"{NMB}; exit $1", "an argument of 'exit'"),
    "a status that is too large": (f"{NMB}; exit 256", "an argument of 'exit'"),
    "printf for a variable": (
        "verb=start; printf -v verb stop; systemctl $verb smb",
        "the command 'printf -v verb stop'",
    ),
    "printf for a variable, by a variable": (
        "o=-v; verb=start; printf $o verb stop; systemctl $verb smb",
        "the command 'printf -v verb stop'",
    ),
    "printf that fails": ("printf %d x; systemctl start smb", "the command 'printf %d x'"),
    "a function that exit calls": (
        "exit() { systemctl start smbd; }; systemctl start smb; exit $?",
        "a function 'exit'",
    ),
    "a folder as a verb": ("DIRSTACK=start; systemctl $DIRSTACK smb", "the assignment to 'DIRSTACK'"),
    "a command in a prompt": (
        "PS4='$(systemctl stop smb)'; set -x; systemctl start smb",
        "the assignment to 'PS4'",
    ),
    "an argument for set": ("set errexit; systemctl start $1", "the command 'set errexit'"),
    "a source": (". /etc/default/units; systemctl start $U", "the command '. /etc/default/units'"),
    "a failure that may end it": ("set -e; systemctl start smb", "a command that can fail, after 'set -e'"),
    "a test that may end it": ("set -e; [ a = b ]; echo", "a command that can fail, after 'set -e'"),
    "a text for eval": ("eval systemctl start smb", "the command 'eval systemctl start smb'"),
}

NOT_POSIX = {
    "a condition": ("[[ a == a ]] && systemctl start smb", "'[['"),
    "a comparison": ("[ a == a ]; systemctl start smb", "'=='"),
    "a function": ("function f { systemctl start smb; }; f", "'function'"),
}

IN_PLACE = {
    "a semicolon too many": ("; systemctl start smb", ";"),
    "an empty block": ("f() { }; systemctl start smb", "}"),
    "an empty branch": ("if true; then fi; systemctl start smb", "fi"),
    "a branch that ends in &&": ("if true; then true && fi; systemctl start smb", "fi"),
    "a here-document": ("cat <<EOF\nx\nEOF", "<"),
    "a loop": ("while true; do systemctl start smb; done", "while"),
    "an arithmetic command": ("((x++))", "("),
    "a negation of a negation": ("! ! true; systemctl start smb", "!"),
    "fallthrough": ("case $1 in start) x=1;;& *) systemctl start smb;; esac", "&"),
    "an end in a case": ("case $1 in start) systemctl start smb; fi;; esac", "fi"),
    "an end without a beginning": ("systemctl start smb; fi", "fi"),
    "a second condition in brackets": ("[[ a == b && c == d ]]", "&&"),
    "an expression that begins anywhere": ("[[ $1 =~ start ]] && systemctl start smb", "start"),
    "an expression elsewhere": ("echo [[ x =~ ^;systemctl start smb", "^;systemctl"),
    "a pipe": ("echo smb | xargs systemctl start", "|"),
    "the background": ("systemctl start smb &", "&"),
    "an output, as in bash alone": ("systemctl start smb &> /dev/null", "&"),
    "an output of a block": ("{ systemctl start smb; } > /dev/null", ">"),
}

UNREADABLE = {
    "a quote without an end": ("systemctl start 'smb", "'smb"),
    "a case without an end": ("case $1 in start) systemctl start smb;;", ""),
    "an if without an end": ("if true; then systemctl start smb", ""),
    "Windows' line ends": ("systemctl start smb\r", "\r"),
    "arithmetic": ("systemctl start smb@$((1 + 1))", "$((1 + 1))"),
    "arithmetic in a message": ('echo "$((x += 1))"', '"$((x += 1))"'),
    "backticks": ("systemctl start `cat /etc/units`", "`cat /etc/units`"),
    "an expansion of bash": ("systemctl ${1,,} smb", "${1,,} smb"),
    "a case in a substitution": ("echo $(case x in x) a;; esac)", "$(case x in x) a;; esac)"),
    "a substitution in a substitution": ("echo $(echo $(date))", "$(echo $(date))"),
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
    assert (call.verb, call.members) == (Verb(action), units)
    status, calls = bash(text, (action, group), tmp_path)
    assert (status, recorded(calls)) == (0, {(action, unit) for unit in units})


def test_a_script_that_wants_root_has_it_by_sudo_only() -> None:
    text = b'#!/bin/bash\nif [ "$(id -u)" -ne 0 ]; then exit 1; fi\nsystemctl $1 smb\n'
    assert effect(text, "start").call
    why = "the value of '$(id -u)' is unknown"
    assert read(f"{USUAL_PATH} start", machine({USUAL_PATH: text})).effect.why == why
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
    assert found.effect.call.members == WEB


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


@pytest.mark.parametrize(("body", "sign"), [pytest.param(*row, id=name) for name, row in IN_PLACE.items()])
def test_a_script_with_something_unsupported_is_not_understood(body: str, sign: str) -> None:
    found = effect(f"#!/bin/bash\n{body}", "start", "web")
    assert found == CommandEffect(None, False, f"it has {sign!r} in an unsupported place")
    after_an_end = effect(f"#!/bin/bash\nif false; then\n{body}\nfi; systemctl start smb\nexit 0", "start")
    assert after_an_end.call is None


@pytest.mark.parametrize(("body", "text"), [pytest.param(*row, id=name) for name, row in UNREADABLE.items()])
def test_a_script_with_something_unknown_is_not_understood(body: str, text: str) -> None:
    found = effect(f"#!/bin/bash\n{body}", "start", "web")
    why = f"it contains something unsupported: '{text}'" if text else "it ends too early"
    assert found == CommandEffect(None, False, why)


@pytest.mark.parametrize(("body", "sign"), [pytest.param(*row, id=name) for name, row in NOT_POSIX.items()])
def test_a_script_of_sh_has_no_syntax_of_bash(body: str, sign: str) -> None:
    found = effect(f"#!/bin/sh\n{body}", "start", "web")
    assert found.why == f"{sign}, which not every sh has"
    assert effect(f"#!/bin/bash\n{body}", "start", "web").call
    assert read(f"sudo sh {USUAL_PATH}", machine({USUAL_PATH: b"#!/bin/bash\ntrue\n"})).effect.call is None


def test_a_comparison_of_bash_is_one_in_quotes_too() -> None:
    text = '[ "$1" "==" on ] || systemctl start smb'
    assert effect(f"#!/bin/sh\n{text}", "off").why == "'==', which not every sh has"
    assert effect(f"#!/bin/bash\n{text}", "off").call


def test_a_name_of_a_function_is_one_in_every_shell() -> None:
    found = effect("#!/bin/sh\na-b() { systemctl start smb; }\na-b")
    assert found.why == "a function 'a-b'"


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
        pytest.param(b"#!/bin/bash -e\n", "its first line names an unsupported shell", id="an option"),
    ],
)
def test_a_file_that_is_no_script_is_not_understood(contents: bytes | None, why: str) -> None:
    assert read_script(USUAL_PATH, contents) == Script(USUAL_PATH, why=why)
    assert effect(contents or b"", "start").call is None


@pytest.mark.parametrize("opening", ["{ ", "(a;", "if ", "case x in x) ", "f() { "])
def test_a_script_that_is_nested_too_deeply_is_not_understood(opening: str) -> None:
    assert effect(f"#!/bin/bash\n{opening * 5000}").why == "it is nested too deeply"


def test_a_run_without_an_end_is_given_up() -> None:
    doubling = "".join(f"f{n}() {{ f{n + 1}; f{n + 1}; }}\n" for n in range(30))
    text = f"#!/bin/bash\n{doubling}f30() {{ :; }}\nf0\nsystemctl start smb\n"
    assert effect(text, "start", "web").why == "it takes too long"


@pytest.mark.parametrize(
    "question",
    [
        f"""[ "$(docker inspect -f '{{{{.State.Running}}}}' {"x" * 50})" = true ]""",
        f"docker ps | grep{' x' * 50}",
    ],
)
def test_questions_without_an_end_are_given_up(question: str) -> None:
    doubling = "".join(f"f{n}() {{ f{n + 1}; f{n + 1}; }}\n" for n in range(10))
    text = f"#!/bin/bash\n{doubling}f10() {{ {question}; }}\nf0\n"
    assert effect(text, "status", "web").why == "it takes too long"


def test_what_is_never_reached_need_not_be_understood() -> None:
    text = "#!/bin/bash\nif [ $# -lt 2 ]; then cat > $LOG; eval exit; fi\nsystemctl start smb\n"
    call = effect(text, "start", "web").call
    assert call
    assert call.members == ("smb.service",)
