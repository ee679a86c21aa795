"""What a wrapper does is read out of it as bash would do it, or not at all.

bash itself is asked, with a systemctl that only says what it was called with: it must be what was understood.
"""

import os
import subprocess
from pathlib import Path

import pytest

from hkswitch.homebridge.commands import Call, Verb
from hkswitch.homebridge.expansion import NotUnderstood
from hkswitch.homebridge.wrapper import MOST_WRAPPER_BYTES, USUAL_PATH, Wrapper, read

ARTICLE = """#!/bin/bash
case "$2" in
  fileserver) SERVICES="smb nmb netatalk" ;;
  web) SERVICES="httpd" ;;
  *) exit 1 ;;
esac
case "$1" in
  start) systemctl start $SERVICES ;;
  stop) systemctl stop $SERVICES ;;
  status) for s in $SERVICES; do systemctl is-active --quiet $s || exit 1; done ;;
esac
"""

FILESERVER = ("smb.service", "nmb.service", "netatalk.service")
WEB = ("httpd.service",)

UNDERSTOOD = {
    "the article's": ARTICLE,
    "with a usage": """#!/usr/bin/env bash
# serviceswitch ACTION GROUP
set -euo pipefail
usage() { echo "Usage: $0 {start|stop|status} GROUP" >&2; exit 64; }
[ $# -eq 2 ] || usage
ACTION="$1"
GROUP="$2"
case "$GROUP" in
fileserver) units=(smb nmb netatalk) ;;
web) units=(httpd) ;;
*) echo "unknown group: $GROUP" >&2; exit 1 ;;
esac
case "$ACTION" in
start|stop) systemctl "$ACTION" "${units[@]}" ;;
status) systemctl is-active --quiet "${units[@]}" ;;
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
    fileserver) systemctl is-active smb nmb netatalk &>/dev/null ;;
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
  for service in $services; do
    sudo -n /usr/bin/systemctl --no-pager "$action" "$service.service"
  done
else
  for service in $services; do
    if ! systemctl is-active --quiet "$service"; then
      exit 3
    fi
  done
fi
""",
    "with functions": """#!/bin/bash
SYSTEMCTL=/usr/bin/systemctl
function each {
  local verb=$1
  shift
  local unit
  for unit in "$@"
  do
    $SYSTEMCTL "$verb" "$unit" || return 1
  done
  return 0
}
services() {
  if [ "$1" = fileserver ]; then
    SERVICES=(smb nmb netatalk)
  else
    SERVICES=(httpd)
  fi
}
main() {
  [ -z "${2:-}" ] && { echo usage; exit 1; }
  services "$2"
  case "${1}" in
    start) each start "${SERVICES[@]}" ;;
    stop) each stop "${SERVICES[@]}" ;;
    status) each is-active "${SERVICES[@]}" ;;
    *) false
  esac
}
main "$@"
""",
}

FOR_ROOT = """#!/bin/bash
if [[ $EUID -ne 0 ]] || [ "$(id -u)" != 0 ]; then exec sudo "$0" "$@"; fi
readonly FILES="smb nmb netatalk" WWW='httpd'
declare -a names=()
[ "$2" == fileserver ] && names=($FILES) || names=($WWW)
exec systemctl $1 "${names[@]}"
"""

NOT_UNDERSTOOD = {
    "a program that is unknown": ("mount /srv\nsystemctl start smb", "the command 'mount /srv'"),
    "a pause": ("systemctl start smb; sleep 2; systemctl start nmb", "the command 'sleep 2'"),
    "two things": ("systemctl stop smb; systemctl start smb", "it does more than one thing"),
    "a start that depends on the state": (
        "if systemctl -q is-active smb; then echo runs; else systemctl start smb; fi; systemctl start nmb",
        "it does more than one thing",
    ),
    "nothing": ("echo done", "it does nothing with units"),
    "a refusal": ("echo no; exit 1", "it refuses these arguments"),
    "the last status": ("systemctl start smb; [ a = b ]", "it refuses these arguments"),
    "a substitution": ('systemctl start "$(cat /etc/units)"', "'$(cat /etc/units)'"),
    "backticks": ("systemctl start `cat /etc/units`", "'`cat /etc/units`'"),
    "arithmetic": ("systemctl start smb@$((1 + 1))", "'$((1 + 1))'"),
    "a pipe": ("echo smb | xargs systemctl start", "a pipe"),
    "the background": ("systemctl start smb &", "a command in the background"),
    "the environment": ("systemctl start $UNITS", "the variable '$UNITS', which is never set"),
    "the home folder": ("UNITS=~/x; systemctl start smb", "a home folder, '~'"),
    "a pattern that files could match": ("U='smb*'; systemctl start $U", "the pattern '*'"),
    "a pattern with brackets": ("case $1 in [s]tart) systemctl start smb;; esac", "the pattern '[s]tart'"),
    "an expansion of bash": ("systemctl ${1,,} smb", "'${1,,}'"),
    "a file": ("[ -e /run/x ] && exit 0; systemctl start smb", "the condition '-e /run/x'"),
    "another split": ("IFS=,; U=a,b; systemctl start $U", "the assignment to 'IFS'"),
    "a file for the output": ("systemctl start smb > /tmp/log", "the redirection '>/tmp/log'"),
    "an assignment for one command": (
        "LANG=C systemctl start smb",
        "an assignment to 'LANG' for one command",
    ),
    "an argument that is not there": ("set -u; systemctl start $3", "'$3' without a value"),
    "too few to shift": ("shift 3; systemctl start smb", "'shift 3' with 2 arguments"),
    "no end": ("f() { f; f; }; f; systemctl start smb", "it calls itself"),
    "too much": ("x=" + "y" * 3000 + "; x=$x$x; systemctl start smb", "it takes too much memory"),
    "a unit that is a pattern": ("systemctl start 'smb*'", "the command 'systemctl start smb*'"),
    "a user's unit": ("systemctl --user start smb", "the command 'systemctl --user start smb'"),
    "somebody else": ("sudo -u pi systemctl start smb", "the command 'sudo -u pi systemctl start smb'"),
    "return in no function": ("systemctl start smb; return 0", "'return' outside of a function"),
    "an argument for set": ("set errexit; systemctl start $1", "'set errexit'"),
    "another systemctl": ("/opt/systemctl start smb", "the command '/opt/systemctl start smb'"),
    "an option of set": ("set -f; systemctl start smb", "'set -f'"),
    "a source": (". /etc/default/units; systemctl start $U", "the command '. /etc/default/units'"),
    "a constant": ("readonly U=a; U=b; systemctl start $U", "the assignment to the constant 'U'"),
    "a failure that ends it": ("set -e; false; systemctl start smb", "it refuses these arguments"),
}

UNREADABLE = {
    "a here-document": ("cat <<EOF\nx\nEOF", "a here-document, '<<'"),
    "a loop with a condition": ("while true; do systemctl start smb; done", "'while'"),
    "a subshell": ("(systemctl start smb)", "'('"),
    "an arithmetic command": ("((x++))", "'('"),
    "fallthrough": ("case $1 in start) x=1;;& *) systemctl start smb;; esac", "';;&' after a command"),
    "a quote without an end": ("systemctl start 'smb", "an unterminated quote"),
    "a case without an end": ("case $1 in start) systemctl start smb;;", "the end where a word was expected"),
    "an if without an end": ("if true; then systemctl start smb", "the end where 'fi' was expected"),
    "an end without a beginning": ("systemctl start smb; fi", "'fi' at the end"),
    "Windows' line ends": ("systemctl start smb\r", "the character '\\r'"),
}


def wrapper(text: str) -> Wrapper:
    return read(USUAL_PATH, text.encode())


def bash(text: str, arguments: tuple[str, ...], folder: Path) -> tuple[int, list[list[str]]]:
    """How bash ends, and what it calls systemctl and service with."""
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


def said(calls: list[list[str]]) -> set[tuple[str, str]]:
    """What systemctl was called with: each verb and each unit."""
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
def test_what_a_wrapper_does_is_what_bash_does(
    text: str, group: str, units: tuple[str, ...], action: str, tmp_path: Path
) -> None:
    assert wrapper(text).call((action, group)) == Call(Verb(action), units)
    status, calls = bash(text, (action, group), tmp_path)
    assert (status, said(calls)) == (0, {(action, unit) for unit in units})


def test_a_wrapper_that_makes_itself_root_is_one_that_is_root() -> None:
    assert wrapper(FOR_ROOT).call(("start", "fileserver")) == Call(Verb.START, FILESERVER)
    assert wrapper(FOR_ROOT).call(("stop", "web")) == Call(Verb.STOP, WEB)


@pytest.mark.parametrize("arguments", [("start", "nobody"), ("frobnicate", "web"), ("start",), ()])
@pytest.mark.parametrize("text", [ARTICLE, UNDERSTOOD["with a usage"]])
def test_what_a_wrapper_refuses_is_not_understood(text: str, arguments: tuple[str, ...]) -> None:
    with pytest.raises(NotUnderstood):
        wrapper(text).call(arguments)


@pytest.mark.parametrize(
    ("body", "why"), [pytest.param(*row, id=name) for name, row in NOT_UNDERSTOOD.items()]
)
def test_what_is_not_certain_is_not_understood(body: str, why: str) -> None:
    with pytest.raises(NotUnderstood) as caught:
        wrapper(f"#!/bin/bash\n{body}\n").call(("start", "web"))
    assert str(caught.value) == why


@pytest.mark.parametrize(("body", "why"), [pytest.param(*row, id=name) for name, row in UNREADABLE.items()])
def test_a_script_with_something_unknown_is_not_understood(body: str, why: str) -> None:
    found = wrapper(f"#!/bin/bash\n{body}")
    assert found.why == f"it contains something unsupported: {why}"
    with pytest.raises(NotUnderstood, match="unsupported"):
        found.call(("start", "web"))


@pytest.mark.parametrize(
    ("contents", "why"),
    [
        pytest.param(None, "it could not be read", id="no file"),
        pytest.param(b"\x7fELF\xff", "it is not text", id="a program"),
        pytest.param(b"", "its first line names an unsupported shell", id="empty"),
        pytest.param(b"systemctl start x\n", "its first line names an unsupported shell", id="no shell"),
        pytest.param(b"#!/usr/bin/python3\n", "its first line names an unsupported shell", id="Python"),
        pytest.param(b"#!/bin/zsh\n", "its first line names an unsupported shell", id="zsh"),
        pytest.param(b"#!/bin/bash\n" + b"#" * MOST_WRAPPER_BYTES, "it is too large", id="too large"),
        pytest.param(b"#!/bin/bash\n" + b"{ " * 5000, "it is nested too deeply", id="too deep"),
        pytest.param(b"#!/bin/bash\n" + b"$(" * 5000, "it is nested too deeply", id="too deep in words"),
    ],
)
def test_a_file_that_is_no_wrapper_is_not_understood(contents: bytes | None, why: str) -> None:
    assert read(USUAL_PATH, contents) == Wrapper(USUAL_PATH, None, why)


def test_a_run_without_an_end_is_given_up() -> None:
    doubling = "".join(f"f{n}() {{ f{n + 1}; f{n + 1}; }}\n" for n in range(30))
    with pytest.raises(NotUnderstood, match="it takes too long"):
        wrapper(f"#!/bin/bash\n{doubling}f30() {{ :; }}\nf0\nsystemctl start smb\n").call(("start", "web"))


def test_a_loop_goes_over_what_there_was_when_it_began() -> None:
    text = "#!/bin/bash\nfor unit; do shift; systemctl start $unit; done\n"
    assert wrapper(text).call(("a", "b", "c")) == Call(Verb.START, ("a.service", "b.service", "c.service"))


def test_what_is_never_reached_need_not_be_understood() -> None:
    text = "#!/bin/bash\nif [ $# -lt 2 ]; then cat /etc/motd | less; exit 1; fi\nsystemctl start smb\n"
    assert wrapper(text).call(("start", "web")) == Call(Verb.START, ("smb.service",))
