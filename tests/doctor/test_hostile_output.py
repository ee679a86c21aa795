"""Other programs may print anything: no check ends the doctor for it, and each still gives its findings."""

import importlib
import os
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hkswitch import doctor
from hkswitch.control import client
from hkswitch.doctor import (
    checks,
    clock,
    configuration,
    containers,
    context,
    firewall,
    firewalld,
    privileges,
    programs,
    service,
    sudoers,
    ufw,
    units,
)
from hkswitch.doctor.finding import Check, Finding, Verdict, fail, lines, ok
from hkswitch.doctor.programs import Completed, NotInstalled
from hkswitch.model.config import parse
from hkswitch.model.unit_state import HelperTransport
from hkswitch.network.endpoint import Endpoint

HOSTILE = {
    "nothing": "",
    "lines": "\n\n \t\n",
    "zero": "\0\x1b[2J",
    "surrogate": '"\\ud800" \ud800',
    "null": "null",
    "number": "9" * 10_000,
    "list": "[]",
    "object": "{}",
    "ruleset": '{"nftables": [null, 1, "chain", [], {"chain": null}, {"rule": {"expr": 1}}]}',
    "chain": '{"nftables": [{"chain": {"family": [], "table": {}, "name": 1, "hook": "input"}}]}',
    "rule": '{"nftables": [{"rule": {"family": "ip", "table": "a", "chain": {}, "expr": null}}]}',
    "deep": '{"nftables":' * 100_000,
    "deeper": "[" * 1_000_000,
    "properties": "MainPID=x\nLoadState=\nUnitPath=\0\n=\n==\n",
    "ufw": "Status: active\n51826/tcp ALLOW IN    ::::/999\nAnywhere DENY IN  (v6)\n",
    "firewalld": 'home\n  sources: 999.0.0.0/99 :\n  interfaces\n\trule source address="x" drop\n',
    "policies": "bad\n  target: DROP\n  ingress-zones: ANY\n  egress-zones: HOST\n\trule drop\n",
    "statement": '{"nftables": [{"chain": {"family": "ip", "table": "a", "name": "b", "hook": "input"}},'
    ' {"rule": {"family": "ip", "table": "a", "chain": "b", "expr": [{}]}}]}',
    "iptables": '-P INPUT\n-A\n-A INPUT -j\n-A INPUT -s x -p -m "',
    "quotes": "'\"" * 1000 + "`",
    "long": "x" * 1_000_000,
}

MODULES = (
    *(clock, configuration, containers, context, firewall, firewalld),
    *(privileges, service, sudoers, ufw, units),
)
"""Those that run programs."""

FIREWALLS = (("firewall-cmd",), ("ufw",), ("nft",), ("nft", "iptables"), ("iptables",), ("iptables-legacy",))

NOWHERE = Path("/nowhere")
CONTEXT = context.Context(
    config_file=NOWHERE / "config.yaml",
    state_folder=NOWHERE,
    user_id=0,
    account=context.Account("hkswitch", os.geteuid(), os.getegid()),
    config=parse(b"groups:\n  web: {units: [nginx]}\n", "config.yaml"),
    endpoint=Endpoint(("10.77.0.1",), frozenset()),
    unit={},
    bridge=client.NoDaemon(NOWHERE / "control.sock"),
)

Printing = Callable[..., list[str]]


@pytest.fixture
def printing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Printing:
    """Have programs that print something, and list those that were run."""

    def have(printed: str, code: int = 0, installed: Sequence[str] | None = None) -> list[str]:
        ran: list[str] = []

        async def run(program: str, *arguments: str) -> Completed:
            if installed is not None and program not in installed:
                raise NotInstalled(f"{program} is not installed")
            ran.append(program)
            return Completed(1 if "--query-panic" in arguments else code, printed, printed)

        for module in MODULES:
            monkeypatch.setattr(module, "run", run)
        names = tmp_path / "ip_tables_names"
        names.write_text("filter" if installed and "iptables-legacy" in installed else "")
        monkeypatch.setattr(firewall, "LEGACY_TABLES", {"ip": names})
        monkeypatch.setattr(
            firewall, "path_of", lambda program: program if program in (installed or ()) else None
        )
        return ran

    return have


@pytest.mark.parametrize("code", [0, 1])
@pytest.mark.parametrize("printed", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("check", [Check.SUDO, Check.PRIVILEGES, Check.HELPER, Check.CLOCK], ids=str)
async def test_a_check_finds_something_whatever_a_program_prints(
    printing: Printing, check: Check, printed: str, code: int
) -> None:
    ran = printing(printed, code)
    [found] = await checks.guarded((check,), checks.CHECKS[check,], CONTEXT)
    assert (found.check, bool(ran)) == (check, True)
    assert "\n".join(lines([found])).encode().count(b"\n") == 0


@pytest.mark.parametrize("printed", HOSTILE.values(), ids=HOSTILE)
async def test_the_properties_of_units_may_be_anything(printing: Printing, printed: str) -> None:
    ran = printing(printed)
    unit = (await context.collect(NOWHERE / "config.yaml", NOWHERE)).unit
    facts = replace(CONTEXT, unit=unit)
    for check in (Check.SERVICE, Check.PRIVILEGES):
        [found] = await checks.guarded((check,), checks.CHECKS[check,], facts)
        assert "\n".join(lines([found])).encode().count(b"\n") == 0
    assert isinstance(await configuration.hidden_folders(HelperTransport.SOCKET), dict)
    assert set(ran) == {"systemctl"}


@pytest.mark.parametrize("printed", HOSTILE.values(), ids=HOSTILE)
async def test_the_folders_and_names_of_units_may_be_anything(printing: Printing, printed: str) -> None:
    async def hints(_: context.Context) -> tuple[Finding, ...]:
        return (fail(Check.UNITS, "missing", str(await units.hints(["nginx.service"]))),)

    printing(printed)
    [found] = await checks.guarded((Check.UNITS,), hints, CONTEXT)
    assert (found.verdict, str(found)) == (Verdict.FAIL, "missing; {}")


@pytest.mark.parametrize("printed", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("installed", FIREWALLS, ids="+".join)
async def test_the_firewall_is_skipped_with_the_reason_or_judged_whatever_a_program_prints(
    printing: Printing, installed: tuple[str, ...], printed: str
) -> None:
    ran = printing(printed, 0, installed)
    [found] = await checks.guarded((Check.FIREWALL,), firewall.firewall, CONTEXT)
    assert (found.check, bool(ran)) == (Check.FIREWALL, True)
    assert "\n".join(lines([found])).encode().count(b"\n") == 0
    if "nft" in installed and printed:
        assert found.verdict is Verdict.SKIP
        assert found.what.startswith("cannot read the output of nft")


@pytest.mark.parametrize("code", [1, 2, 255])
@pytest.mark.parametrize("installed", [("firewall-cmd",), ("nft",), ("iptables",)], ids="+".join)
async def test_a_firewall_that_does_not_answer_is_skipped_with_its_words(
    printing: Printing, installed: tuple[str, ...], code: int
) -> None:
    printing("odd", code, installed)
    [found] = await firewall.firewall(CONTEXT)
    assert (found.verdict, found.what) == (Verdict.SKIP, f"{installed[0]} failed: odd")


@pytest.mark.parametrize("printed", HOSTILE.values(), ids=HOSTILE)
async def test_what_starts_at_boot_may_be_anything(printing: Printing, printed: str) -> None:
    printing(printed)
    good = ok(Check.CONTAINERS, "docker/web known to Docker")
    enabled = await containers.enabled(["docker.service"])
    assert containers.at_boot(good, ["docker.service"], enabled) == good


def test_every_module_that_runs_programs_is_among_these() -> None:
    names = [found.name for found in pkgutil.iter_modules(doctor.__path__)]
    found = {importlib.import_module(f"{doctor.__name__}.{name}") for name in names}
    assert {module for module in found if hasattr(module, "run")} == {*MODULES, programs}
