"""The commands, config blocks and links in the documents work, and the changelog has its format."""

import configparser
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import date
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import click
import pytest
import yaml

import hkswitch
from hkswitch.cli import demo
from hkswitch.doctor import firewalld, measuring, packet_filter, privileges, ufw
from hkswitch.doctor.finding import Verdict
from hkswitch.doctor.mdns import HAP_SERVICE_TYPE
from hkswitch.doctor.programs import Completed
from hkswitch.model import config_file
from hkswitch.model.config import BridgeConfig, parse
from hkswitch.model.group import (
    MOST_ACCESSORIES,
    RESTARTS_PER_HOUR,
    WINDOW_SECONDS,
    AlertSensor,
    Engine,
)
from hkswitch.model.installation import DAEMON_USER
from hkswitch.model.trouble import WELL_SECONDS
from hkswitch.model.unit_state import Action
from hkswitch.network.endpoint import Endpoint
from hkswitch.serviceswitch import main as helper
from hkswitch.serviceswitch.execute import ALERT_SECONDS
from hkswitch.serviceswitch.samples import INTERVAL_SECONDS
from tests.host.rootfs import RELEASES
from tests.support import options

ROOT = Path(__file__).parents[1]
TEMPLATES = sorted(ROOT.glob(".github/**/*.md"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *TEMPLATES])
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(?:sudo )?hkswitch ([a-z][^`]*)`")
LINK = re.compile(r"\]\((?!https?://)([^)#]+)\)")
ANCHORED = re.compile(r"\]\((?!https?://)([^)#]*)#([^)]+)\)")
TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def blocks(path: Path, language: str) -> list[str]:
    found = BLOCK.findall(path.read_text())
    return [
        re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)
        for indent, kind, text in found
        if kind == language
    ]


def blocks_of_all(language: str) -> list[str]:
    return [text for path in DOCUMENTS for text in blocks(path, language)]


def commands(path: Path) -> list[str]:
    """The commands in the console blocks, without sudo and redirections."""
    lines = (
        line for block in blocks(path, "console") for line in block.splitlines() if line.startswith("$ ")
    )
    return [line.removeprefix("$ ").removeprefix("sudo ").partition(" > ")[0] for line in lines]


# Blocks


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_block_has_a_language_with_a_check(path: Path) -> None:
    languages = {language for _, language, _ in BLOCK.findall(path.read_text())}
    assert languages <= {"console", "yaml", "sh", "ini", "nft", ""}
    assert all(block.startswith("$ ") for block in blocks(path, "console"))
    assert not any(line.startswith("$ ") for block in blocks(path, "") for line in block.splitlines())
    assert path.read_text().count("```") == 2 * len(BLOCK.findall(path.read_text()))


@pytest.mark.parametrize("block", blocks_of_all("yaml"))
def test_a_config_block_is_a_config(block: str) -> None:
    assert parse(block.encode(), "block").groups


@pytest.mark.parametrize("block", blocks_of_all("sh"))
def test_shellcheck_finds_nothing_in_a_script(block: str) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    checked = subprocess.run([shellcheck, "-"], input=block, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, "")


@pytest.mark.parametrize("block", blocks_of_all("ini"))
def test_a_unit_has_sections_and_settings(block: str) -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.read_string(block)
    assert unit.sections()
    assert all(value for section in unit.sections() for value in unit[section].values())


@pytest.mark.parametrize("block", blocks_of_all("nft"))
def test_nft_accepts_a_ruleset(block: str) -> None:
    """Where nft and a network of our own are available, as in CI."""
    nft = ("unshare", "--net", "nft")
    if subprocess.run([*nft, "list", "ruleset"], check=False, capture_output=True).returncode == 0:
        subprocess.run([*nft, "--check", "--file", "-"], input=block, text=True, check=True)


# Commands: each program has a rule, and no rule accepts everything


@cache
def groups() -> frozenset[str]:
    """The groups in the config blocks and in the example."""
    texts = (*blocks_of_all("yaml"), (ROOT / "config.example.yaml").read_text())
    return frozenset(group.id for text in texts for group in parse(text.encode(), "config").groups)


@cache
def units() -> frozenset[str]:
    """The installed units, by their names with and without `.service`."""
    found = (path for kind in ("service", "socket", "mount") for path in ROOT.glob(f"packaging/*.{kind}"))
    return frozenset(name for path in found for name in (path.name, path.stem))


def of_make(words: Sequence[str]) -> None:
    variables = [word.partition("=")[0] for word in words if "=" in word]
    known = f"{(ROOT / 'Makefile').read_text()}{(ROOT / 'packaging' / 'install').read_text()}"
    assert all(re.search(rf"\b{variable}\b", known) for variable in variables)
    assert len(variables) < len(words)
    subprocess.run(["make", "--dry-run", *words], cwd=ROOT, check=True, capture_output=True)


def of_checkout(words: Sequence[str]) -> None:
    assert words == []


def of_hkswitch(words: Sequence[str]) -> None:
    options.parse(words)
    if words[0] in {"start", "stop", "restart", "status"}:
        assert {word for word in words[1:] if not word.startswith("-")} <= groups()


def of_serviceswitch(words: Sequence[str]) -> None:
    action, group = words
    [actions] = re.findall(r"serviceswitch ([a-z|]+) GROUP", helper.USAGE)
    assert action in actions.split("|")
    assert group in groups()


def of_systemctl(words: Sequence[str]) -> None:
    match words:
        case ["daemon-reload"]:
            pass
        case ["enable" | "disable", "--now", "hkswitch"]:
            pass
        case ["enable", "--now", unit] if unit in {engine.unit for engine in Engine}:
            pass
        case ["enable", "--now", unit] | [
            "start" | "stop" | "restart" | "reload" | "status" | "edit" | "show",
            unit,
        ]:
            assert unit in units()
        case ["enable", "container-vpn"]:
            pass  # tests/host/test_vpn_recipe.py runs it
        case ["disable", "--now", "homebridge"]:
            pass  # tests/host/test_moving.py has such a unit
        case ["kill", "--kill-whom=main", "-s", "USR1", unit]:
            assert unit in units()
        case _:
            pytest.fail(f"no rule for these words: {words}")


def of_systemd_analyze(words: Sequence[str]) -> None:
    verb, unit = words
    assert verb in {"security", "verify"}
    assert unit in units()


def of_journalctl(words: Sequence[str]) -> None:
    option, pattern = words
    of_groups = ("hkswitch-command-web.service", "hkswitch-alert-web.service")
    assert option in {"-u", "--unit"}
    assert any(fnmatchcase(name, pattern) for name in (*units(), *of_groups))


def of_install(words: Sequence[str]) -> None:
    if words == ["-m", "600", "hkswitch.backup", "/root/hkswitch.backup"]:
        return  # tests/host/test_backup.py runs it
    assert words == ["-m", "640", "-g", DAEMON_USER, "config.yaml", str(config_file.DEFAULT)]


def of_sudoedit(words: Sequence[str]) -> None:
    assert words == [str(config_file.DEFAULT)]


def of_apt(words: Sequence[str]) -> None:
    verb, pattern = words
    made = f"./dist/hkswitch_{hkswitch.__version__}+1.gabc1234-1~deb12_amd64.deb"
    assert (verb, fnmatchcase(made, pattern)) == ("install", True)
    assert not fnmatchcase(f"./dist/hkswitch-{hkswitch.__version__}.tar.gz", pattern)


def of_dnf(words: Sequence[str]) -> None:
    verb, pattern = words
    made = f"./dist/hkswitch-{hkswitch.__version__}+1.gabc1234-1.fc43.x86_64.rpm"
    assert (verb, fnmatchcase(made, pattern)) == ("install", True)


def of_ip(words: Sequence[str]) -> None:
    assert words in (["-brief", "address"], ["-brief", "link"], ["route"])  # they change nothing
    assert subprocess.run(["ip", *words], check=True, capture_output=True).stdout


DROP_INS = "/etc/systemd/system/hkswitch.service.d"
"""The administrator's drop-ins; tests/host/conftest.py makes one with these commands."""


def of_mkdir(words: Sequence[str]) -> None:
    assert words == ["-p", DROP_INS]


def of_ln(words: Sequence[str]) -> None:
    assert words == ["-s", privileges.SOCKET_DROP_IN, DROP_INS]


def of_git(words: Sequence[str]) -> None:
    if words != ["pull"]:
        of_release_page(words)


def of_release_page(words: Sequence[str]) -> None:
    """`tests/packaging/test_release_page.py` runs them."""
    page = ROOT / "docs" / "releasing.md"
    assert words in [shlex.split(command)[1:] for command in commands(page)]


def of_avahi_browse(words: Sequence[str]) -> None:
    assert words == ["--resolve", "--terminate", HAP_SERVICE_TYPE.removesuffix(".local.")]


def of_firewall(words: Sequence[str]) -> None:
    """`test_the_firewall_commands_of_a_page_let_phones_in` has the rest."""
    assert words


def of_moving_page(words: Sequence[str]) -> None:
    """`tests/host/test_moving.py` runs them."""
    page = ROOT / "docs" / "moving.md"
    assert words in [shlex.split(command)[1:] for command in commands(page)]


def of_recipes_page(words: Sequence[str]) -> None:
    """`tests/host/test_vpn_recipe.py` runs them."""
    page = ROOT / "docs" / "recipes.md"
    assert words in [shlex.split(command)[1:] for command in commands(page)]


RULES: dict[str, Callable[[Sequence[str]], None]] = {
    ".ci/run": of_checkout,
    "cd": of_release_page,
    "apt": of_apt,
    "avahi-browse": of_avahi_browse,
    "cp": of_moving_page,
    "dnf": of_dnf,
    "docker": of_recipes_page,
    "firewall-cmd": of_firewall,
    "git": of_git,
    "grep": of_moving_page,
    "hkswitch": of_hkswitch,
    "install": of_install,
    "ip": of_ip,
    "journalctl": of_journalctl,
    "ln": of_ln,
    "make": of_make,
    "mkdir": of_mkdir,
    "nft": of_firewall,
    "rm": of_moving_page,
    "sed": of_release_page,
    "serviceswitch": of_serviceswitch,
    "sha256sum": of_release_page,
    "ssh-keygen": of_release_page,
    "sudoedit": of_sudoedit,
    "systemctl": of_systemctl,
    "systemd-analyze": of_systemd_analyze,
    "ufw": of_firewall,
}


def steps_of_moving_page() -> dict[int, list[list[str]]]:
    """The words of the commands of each step, without sudo."""
    page = (ROOT / "docs" / "moving.md").read_text().partition("\n## Move to another machine\n")[0]
    numbers, texts = (re.split(r"^(\d+)\. ", page, flags=re.MULTILINE)[start::2] for start in (1, 2))
    found = (re.findall(r"^ *\$ (?:sudo )?(.+)$", text, re.MULTILINE) for text in texts)
    return {
        int(number): [shlex.split(command) for command in each]
        for number, each in zip(numbers, found, strict=True)
    }


def check_command(command: str) -> None:
    program, *words = shlex.split(command)
    assert program in RULES, f"no rule for: {command}"
    RULES[program](words)


@pytest.mark.parametrize("command", sorted({command for path in DOCUMENTS for command in commands(path)}))
def test_a_command_exists(command: str) -> None:
    check_command(command)


@pytest.mark.parametrize(
    "command",
    [
        "make deploy",
        "make PREFIX=/usr/local",
        "make install PRFIX=/usr/local",
        "hkswitch toggle web",
        "hkswitch pair --force",
        "hkswitch start webb",
        "serviceswitch serve web",
        "serviceswitch toggle web",
        "serviceswitch status webb",
        "systemctl restart hkswitchd",
        "systemctl disable hkswitch",
        "systemctl enable --now docker.socket",
        "systemctl kill hkswitch",
        "systemd-analyze plot hkswitch",
        "journalctl -u homebridge",
        "sudoedit /etc/hkswitch/config.yml",
        "apt install ./hkswitch_*.deb",
        "apt install ./dist/*",
        "dnf install ./dist/hkswitch_*.rpm",
        "dnf remove ./dist/hkswitch-*.rpm",
        "install -m 640 config.yaml /etc/hkswitch/config.yaml",
        "install -m 644 config.yaml /etc/hkswitch/config.yaml",
        "ip link delete eth0",
        "mkdir /etc/systemd/system/hkswitch.service.d",
        "ln -s /usr/lib/hkswitch/helper-socket.conf /etc/systemd/system/hkswitch.service.d",
        "avahi-browse --resolve --terminate _http._tcp",
        ".ci/run fast",
        "git push --force",
        "git pull --force",
        "sha256sum --check SHA512SUMS",
        "ssh-keygen -Y check -f signers",
        "curl https://example.org",
        "docker network create vpn",
        "systemctl enable containers-vpn",
    ],
)
def test_a_command_that_does_not_exist_is_found(command: str) -> None:
    with pytest.raises(
        (AssertionError, ValueError, click.UsageError, subprocess.CalledProcessError, pytest.fail.Exception)
    ):
        check_command(command)


@pytest.mark.parametrize(
    "words", sorted({words for path in DOCUMENTS for words in INLINE.findall(path.read_text())})
)
def test_a_command_in_a_sentence_exists(words: str) -> None:
    with suppress(click.MissingParameter):  # a sentence may leave out what is meant
        options.parse(shlex.split(words))


def test_the_moving_page_takes_over_by_the_copy_that_it_made_before_homebridge_stopped() -> None:
    steps = steps_of_moving_page()
    (copied, stopped), (taken,) = steps[4], steps[5]
    assert (copied[0], copied[2], stopped[0]) == ("cp", "/var/lib/homebridge/config.json", "systemctl")
    assert taken[:3] == ["hkswitch", "import-homebridge", copied[3]]


@pytest.mark.parametrize(
    ("line", "script", "account"),
    [
        ("start: [/usr/local/bin/serviceswitch, start, web]", True, True),
        ("start: [/usr/sbin/runuser, -u, pi, --, /opt/on]", False, True),
        ('start: [/bin/sh, -c, "sudo /opt/on"]', False, True),
        ("user: homebridge", False, True),
        ("# on_cmd: sudo /usr/local/bin/serviceswitch start web", False, False),
        ("units: [web]", False, False),
    ],
)
def test_the_moving_page_removes_only_what_no_group_uses(line: str, script: bool, account: bool) -> None:
    def finds(words: Sequence[str]) -> bool:
        *grep, file = words
        assert file == str(config_file.DEFAULT)
        found = subprocess.run(grep, input=f"    {line}\n", text=True, capture_output=True, check=False)
        return found.returncode == 0

    searched, removed = steps_of_moving_page()[8]
    assert removed == ["rm", "/usr/local/bin/serviceswitch"]
    assert (finds(searched), finds(*steps_of_moving_page()[9])) == (script, account)


# Firewalls: the doctor judges


PORT = BridgeConfig().port
SENT = packet_filter.traffic_to(PORT, Endpoint(("192.0.2.1",), frozenset()), ("eth0",))
CLOSED_UFW = (
    "Status: active\nDefault: deny (incoming), allow (outgoing)\n\nTo  Action  From\n--  ------  ----\n"
)
CLOSED_CHAIN = {
    "chain": {
        "family": "inet",
        "table": "filter",
        "name": "input",
        "type": "filter",
        "hook": "input",
        "policy": "drop",
    }
}
TABLE = "table inet filter { chain input { type filter hook input priority filter; policy drop; }; }"
KEPT = ("--permanent", "--zone=")
SERVICES = {"mdns": "5353/udp"}


def by_ufw(typed: Sequence[Sequence[str]]) -> bool:
    """Whether the doctor finds the ports open in a ufw that was closed before."""
    rows = []
    for words in typed:
        match words:
            case ["allow", port]:
                rows.append(f"{port:<26} ALLOW IN    Anywhere")
            case ["allow", "in", "on", interface, "to", "any", "port", port, "proto", protocol]:
                rows.append(f"{f'{port}/{protocol} on {interface}':<26} ALLOW IN    Anywhere")
            case _:
                pytest.fail(f"no rule for these words: {words}")
    found = ufw.judged(Completed(0, CLOSED_UFW + "\n".join(rows)), SENT)
    return found is not None and found.verdict is Verdict.OK


def by_firewalld(typed: Sequence[Sequence[str]]) -> bool:
    """The same of a firewalld's zone."""
    ports, services = [], []
    *adding, last = typed
    assert last == ["--reload"]
    for words in adding:
        assert words[0] == "--permanent"
        added = [word.partition("=")[::2] for word in words if not word.startswith(KEPT)]
        assert len({option for option, _ in added}) == 1, "firewall-cmd takes one kind of them at a time"
        ports += [value for option, value in added if option == "--add-port"]
        services += [value for option, value in added if option == "--add-service"]
        assert len(ports) + len(services) > 0
    opened = {*ports, *(SERVICES[name] for name in services)}
    listed = f"public\n  target: default\n  ports: {' '.join(sorted(opened))}\n"
    return firewalld.judged(listed, "", SENT).verdict is Verdict.OK


def by_nftables(typed: Sequence[Sequence[str]]) -> bool:
    """The same of the chain that Debian has."""
    rules = []
    for words in typed:
        [*where, protocol, _, port, verdict] = words
        assert (where, words[-3], verdict) == (
            ["insert", "rule", "inet", "filter", "input"],
            "dport",
            "accept",
        )
        match_port = {
            "op": "==",
            "left": {"payload": {"protocol": protocol, "field": "dport"}},
            "right": int(port),
        }
        rules.append([{"match": match_port}, {"accept": None}])
    inside = [
        {"rule": {"family": "inet", "table": "filter", "chain": "input", "expr": rule}} for rule in rules
    ]
    [chain] = packet_filter.chains_of_nft(json.dumps({"nftables": [CLOSED_CHAIN, *inside]}), SENT)
    return all(chain.fates.values())


FIREWALLS = {"ufw": by_ufw, "firewall-cmd": by_firewalld, "nft": by_nftables}


def typed_at(program: str, path: Path) -> list[list[str]]:
    split = (shlex.split(command) for command in commands(path))
    return [words for first, *words in split if first == program]


def opens(program: str, typed: Sequence[Sequence[str]]) -> bool:
    return FIREWALLS[program](typed)


@pytest.mark.parametrize(
    ("program", "path"),
    [(program, path) for program in FIREWALLS for path in DOCUMENTS if typed_at(program, path)],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_the_firewall_commands_of_a_page_let_phones_in(program: str, path: Path) -> None:
    typed = typed_at(program, path)
    assert opens(program, typed)
    if program == "ufw":  # it needs one rule, and each of them is one way
        assert all(opens(program, [words]) for words in typed)


def test_every_firewall_has_commands_in_the_page_about_networks() -> None:
    assert all(typed_at(program, ROOT / "docs" / "network.md") for program in FIREWALLS)


@pytest.mark.parametrize(
    ("program", "typed"),
    [
        ("ufw", ["allow 51827/tcp"]),
        ("ufw", ["allow 51826/udp"]),
        ("ufw", ["allow in on eth0 to any port 51826 proto udp"]),
        ("firewall-cmd", ["--permanent --add-port=51826/tcp", "--reload"]),
        ("firewall-cmd", ["--permanent --add-service=mdns", "--reload"]),
        ("nft", ["insert rule inet filter input tcp dport 51826 accept"]),
        (
            "nft",
            [
                "insert rule inet filter input tcp dport 5353 accept",
                "insert rule inet filter input udp dport 51826 accept",
            ],
        ),
    ],
)
def test_commands_that_open_too_little_are_found(program: str, typed: list[str]) -> None:
    assert not opens(program, [command.split() for command in typed])


@pytest.mark.parametrize(
    ("program", "typed"),
    [
        ("ufw", ["open 51826/tcp"]),
        ("firewall-cmd", ["--add-port=51826/tcp", "--reload"]),
        ("firewall-cmd", ["--permanent --add-service=mdns --add-port=51826/tcp", "--reload"]),
        ("firewall-cmd", ["--permanent --add-port=5353/udp --add-port=51826/tcp"]),
        ("nft", ["add rule inet filter forward tcp dport 51826 accept"]),
    ],
)
def test_commands_that_a_firewall_does_not_take_are_found(program: str, typed: list[str]) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        opens(program, [command.split() for command in typed])


def test_nft_itself_takes_the_commands() -> None:
    """Where there is one, the kernel has it too, and we may: in a network of its own."""
    typed = (shlex.join(["nft", *words]) for path in DOCUMENTS for words in typed_at("nft", path))
    script = "\n".join(("set -e", f"nft '{TABLE}'", *typed))
    alone = ("unshare", "--net", "sh", "-c")
    if subprocess.run([*alone, "nft list ruleset"], check=False, capture_output=True).returncode == 0:
        subprocess.run([*alone, script], check=True, capture_output=True)


# Links


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_link_points_to_a_file(path: Path) -> None:
    missing = [link for link in LINK.findall(path.read_text()) if not (path.parent / link).exists()]
    assert missing == []


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_link_points_to_a_heading(path: Path) -> None:
    for file, anchor in ANCHORED.findall(path.read_text()):
        assert anchor in anchors(path.parent / file if file else path), f"{file}#{anchor}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_named_test_exists(path: Path) -> None:
    named = TEST.findall(path.read_text())
    missing = [
        (file, name)
        for file, name in named
        if not (ROOT / file).exists() or (name and f"def {name}(" not in (ROOT / file).read_text())
    ]
    assert missing == []


def test_every_threat_names_a_test() -> None:
    rows = [line for line in (ROOT / "docs" / "threats.md").read_text().splitlines() if line.startswith("| ")]
    attacks = [row for row in rows if not row.startswith("| attack")]
    assert attacks
    assert [row for row in attacks if not any(name for _, name in TEST.findall(row))] == []


def test_the_readme_links_to_every_document() -> None:
    linked = {(ROOT / link).resolve() for link in LINK.findall((ROOT / "README.md").read_text())}
    missing = {path for path in DOCUMENTS if path.name != "README.md"} - linked - {*TEMPLATES}
    assert missing == set()


FEATURES = re.findall(
    r"^\| ([^|]+) \| ([^|]+) \| \[[^\]]+\]\(([^)]+)\) \|$", (ROOT / "README.md").read_text(), re.MULTILINE
)
"""The rows of the README's table: a feature, how to use it, and the page about it."""


@pytest.mark.parametrize("name", sorted({*options.top_level()} - {"demo", "run"}))
def test_every_command_is_a_feature(name: str) -> None:
    said = [how for _, how, _ in FEATURES]
    assert [how for how in said if re.search(rf"`(?:hkswitch )?{name}\b", how)], said


@pytest.mark.parametrize(
    "key",
    [
        *("units", "type", "restart", "actions", "check", "commands", "user", "helper"),
        *("alert", "restart_when", "alert_command"),
    ],
)
def test_every_feature_of_a_key_is_on_the_page_that_its_row_names(key: str) -> None:
    pages = [page for _, how, page in FEATURES if re.search(rf"`{key}\b", how)]
    texts = [(ROOT / page.partition("#")[0]).read_text() for page in pages]
    assert any(re.search(rf"`?{key}:", text) for text in texts)


def test_the_readme_names_the_releases_and_pythons_that_tests_use() -> None:
    readme = (ROOT / "README.md").read_text()
    numbers = {"bookworm": "12", "trixie": "13"}
    newest_first = " and ".join(numbers[name] for name in reversed(RELEASES))
    pythons = " and ".join(release.python for release in RELEASES.values())
    assert f"| Debian {newest_first}, amd64 |" in readme
    assert f"| Python {pythons} |" in readme


@pytest.mark.parametrize(
    ("library", "where"),
    [
        ("aiohomekit", "tests/support/controller.py"),
        ("hap-controller", "tests/peer/controller.js"),
        ("homekit", "tests/peer/controller_homekit.py"),
        ("HAP-NodeJS", "tests/peer/test_against_reference.py"),
    ],
)
def test_the_readme_names_the_controllers_of_the_tests(library: str, where: str) -> None:
    assert library in (ROOT / "README.md").read_text()
    assert library in (ROOT / where).read_text()


def test_the_example_in_the_readme_allows_the_commands_in_the_readme() -> None:
    readme = ROOT / "README.md"
    groups = {group.id: group for group in parse(blocks(readme, "yaml")[0].encode(), "README.md").groups}
    asked = [
        (Action(words[1]), group_id)
        for words in map(shlex.split, commands(readme))
        if words[0] == "hkswitch" and words[1] in set(Action)
        for group_id in words[2:]
        if not group_id.startswith("-")
    ]
    assert {action for action, _ in asked} == set(Action)
    assert [item for item in asked if item[0] not in groups[item[1]].actions] == []


ALERTS = parse(blocks(ROOT / "README.md", "yaml")[1].encode(), "README.md")
"""The config of the README's section about alerts and rules."""
NUMBERS = {3: "three"}


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        ("README.md", f'"{ALERTS.groups[0].alert_name}", which opens'),
        ("README.md", f"once the group has been well for {WELL_SECONDS:.0f} seconds"),
        ("README.md", f"`alert: {AlertSensor.LEAK}`"),
        ("README.md", f'{WINDOW_SECONDS // INTERVAL_SECONDS} cycles then restart"'),
        ("README.md", f"with cycles of {INTERVAL_SECONDS} seconds"),
        ("README.md", f"After {NUMBERS[RESTARTS_PER_HOUR]} restarts within an hour, the rule gives up"),
        ("README.md", f"at most {MOST_ACCESSORIES} switches and sensors"),
        ("docs/configuration.md", f"`alert: {'`, `'.join([*AlertSensor][:2])}` or `{[*AlertSensor][2]}`"),
        ("docs/configuration.md", f"once the group has been well for {WELL_SECONDS:.0f} seconds"),
        ("docs/troubleshooting.md", f"once the group has been well for {WELL_SECONDS:.0f} seconds"),
        ("docs/configuration.md", f"one of the {MOST_ACCESSORIES}"),
        ("docs/configuration.md", f"`for_seconds` ({WINDOW_SECONDS} by default)"),
        ("docs/configuration.md", f"`at_most_per_hour` restarts ({RESTARTS_PER_HOUR} by default)"),
        ("docs/configuration.md", f"for {ALERT_SECONDS} seconds at most"),
        ("docs/configuration.md", f"`{measuring.BOOT_PARAMETERS[0]}`"),
        ("docs/configuration.md", f"`{measuring.MEMORY_PARAMETERS}`"),
    ],
)
def test_what_is_said_of_alerts_and_rules_is_in_the_code(page: str, sentence: str) -> None:
    assert sentence in (ROOT / page).read_text()


def test_the_rule_in_the_readme_is_the_sentence_of_monit_beside_it() -> None:
    rule = ALERTS.groups[0].restart_when
    assert rule is not None
    said = f'"if cpu > {rule.cpu_percent}% for {rule.for_seconds // INTERVAL_SECONDS} cycles then restart"'
    assert said in (ROOT / "README.md").read_text()
    assert ALERTS.alert_command[0] in (ROOT / "docs" / "recipes.md").read_text()


def test_the_demo_has_the_groups_of_the_example() -> None:
    example = parse((ROOT / "config.example.yaml").read_bytes(), "config.example.yaml")
    assert example.groups == demo.GROUPS


# Files for editors, commits, issues and pull requests


def linters() -> list[str]:
    """What `make lint` runs."""
    dry = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "--assume-old=.venv/.dev", "lint"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    lines = [line for line in dry.stdout.splitlines() if line.startswith((".venv/bin/", "make "))]
    return [
        line for line in lines if "pip" not in line.split()
    ]  # of a virtual environment that is out of date


def test_the_hooks_of_pre_commit_are_the_linters_of_make() -> None:
    [local] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert local["repo"] == "local"
    assert {(hook["language"], hook["pass_filenames"]) for hook in local["hooks"]} == {("system", False)}
    *tools, shellcheck = [hook["entry"] for hook in local["hooks"]]
    assert shellcheck == "make --no-print-directory shellcheck"
    *checked, shell = linters()
    assert tools == [line for line in checked if not line.startswith("make ")]
    assert shell.startswith(".venv/bin/shellcheck ")


def test_the_line_length_of_editors_is_the_one_of_the_formatter() -> None:
    editors = configparser.ConfigParser()
    editors.read_string(f"[top]\n{(ROOT / '.editorconfig').read_text()}")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert editors.getint("*.py", "max_line_length") == project["tool"]["ruff"]["line-length"]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_the_targets_in_a_template_exist(path: Path) -> None:
    for target in re.findall(r"`make ([^`]+)`", path.read_text()):
        of_make(shlex.split(target))


def test_a_bug_report_asks_for_the_diagnostics_and_the_debug_log() -> None:
    typed = commands(ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.md")
    assert typed == [
        "hkswitch diagnostics",
        "systemctl kill --kill-whom=main -s USR1 hkswitch",
        "journalctl -u hkswitch",
    ]


@pytest.mark.parametrize("path", sorted(ROOT.glob(".github/ISSUE_TEMPLATE/*")), ids=lambda path: path.name)
def test_an_issue_template_has_a_name_and_a_purpose(path: Path) -> None:
    _, head, _ = path.read_text().split("---\n", 2)
    assert yaml.safe_load(head).keys() == {"name", "about", "labels"}


# The changelog


UNRELEASED = "Unreleased"
SECTIONS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
RELEASE = re.compile(r"(\d+)\.(\d+)\.(\d+) - (\d{4}-\d{2}-\d{2})")


def mistakes(changelog: str, version: str) -> Iterator[str]:
    """Deviations from Keep a Changelog; `version` is the version of the program."""
    head, *parts = re.split(r"^## ", changelog, flags=re.MULTILINE)
    if not head.startswith("# Changelog\n") or "keepachangelog.com" not in head:
        yield "the head"
    titles = [part.partition("\n")[0] for part in parts]
    top, *others = titles or [""]
    if top != UNRELEASED and not top.startswith(f"{version} - "):
        yield "what is on top"
    released = [RELEASE.fullmatch(title) for title in (others if top in {UNRELEASED, ""} else titles)]
    if None in released:
        yield "a title"
    versions = [tuple(int(number) for number in each.groups()[:3]) for each in released if each]
    days = [date.fromisoformat(each[4]) for each in released if each]
    if versions != sorted(set(versions), reverse=True) or days != sorted(days, reverse=True):
        yield "the order of versions and days"
    for title, part in zip(titles, parts, strict=True):
        yield from (f"{title}: {mistake}" for mistake in mistakes_of(part.partition("\n")[2]))


def mistakes_of(part: str) -> Iterator[str]:
    """Deviations in the section of a version."""
    before, *sections = re.split(r"^### ", part, flags=re.MULTILINE)
    if before.strip():
        yield "text before its sections"
    names = [section.partition("\n")[0] for section in sections]
    if names != [name for name in SECTIONS if name in names]:
        yield "a section"
    for section in sections:
        lines = [line for line in section.splitlines()[1:] if line]
        if not lines or not lines[0].startswith("- ") or not all(line[:2] in {"- ", "  "} for line in lines):
            yield "an entry"


def test_the_changelog_has_its_format() -> None:
    assert list(mistakes((ROOT / "CHANGELOG.md").read_text(), hkswitch.__version__)) == []


HEAD = "# Changelog\n\nAfter [Keep a Changelog](https://keepachangelog.com/en/1.1.0/).\n\n"
FIRST = "## 0.1.0 - 2026-11-01\n\n### Added\n\n- One.\n"
SECOND = "## 0.2.0 - 2026-12-01\n\n### Changed\n\n- Two\n  lines.\n\n### Fixed\n\n- Three.\n\n"


@pytest.mark.parametrize(
    ("changelog", "mistake"),
    [
        (f"{HEAD}{SECOND}{FIRST}", None),
        (f"{HEAD}## Unreleased\n\n### Added\n\n- New.\n\n{SECOND}{FIRST}", None),
        (f"{HEAD}## Unreleased\n\n{SECOND}{FIRST}", None),
        (f"# Changes\n\n{SECOND}", "the head"),
        (HEAD, "what is on top"),
        (f"{HEAD}{FIRST}", "what is on top"),
        (f"{HEAD}{SECOND}## Unreleased\n\n", "a title"),
        (f"{HEAD}{SECOND}## 0.1\n\n", "a title"),
        (f"{HEAD}## Unreleased\n\n{FIRST}\n{SECOND}", "the order of versions and days"),
        (f"{HEAD}{SECOND}{FIRST.replace('2026', '2027')}", "the order of versions and days"),
        (f"{HEAD}{SECOND.replace('Fixed', 'Mended')}", "0.2.0 - 2026-12-01: a section"),
        (f"{HEAD}{SECOND.replace('Fixed', 'Added')}", "0.2.0 - 2026-12-01: a section"),
        (f"{HEAD}{SECOND.replace('- Three.', 'Three.')}", "0.2.0 - 2026-12-01: an entry"),
        (f"{HEAD}{SECOND.replace('- Three.', '')}", "0.2.0 - 2026-12-01: an entry"),
        (f"{HEAD}{SECOND.replace('### Changed', 'Much.')}", "0.2.0 - 2026-12-01: text before its sections"),
    ],
)
def test_a_mistake_in_a_changelog_is_found(changelog: str, mistake: str | None) -> None:
    assert list(mistakes(changelog, "0.2.0")) == ([] if mistake is None else [mistake])
