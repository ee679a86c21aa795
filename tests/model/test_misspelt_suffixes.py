"""A unit whose suffix is misspelt becomes a service of that name, and is warned about."""

from pathlib import Path

import pytest

from hkswitch.model.misspelt_suffixes import unit_meant
from tests.support.command import run


@pytest.mark.parametrize(
    ("unit", "meant"),
    [
        ("nginx.servic.service", "nginx.service"),
        ("backup.time.service", "backup.timer"),
        ("wg-quick@wg0.sevrice.service", "wg-quick@wg0.service"),
        ("nginx.service", ""),
        ("nginx.socket", ""),
        ("backup.time.socket", ""),
        ("dbus-org.freedesktop.network1.service", ""),
        ("snap.app.server.service", ""),
        ("minecraft@1.21.service", ""),
    ],
)
def test_the_unit_that_was_probably_meant(unit: str, meant: str) -> None:
    assert unit_meant(unit) == meant


def test_check_warns_about_it_at_its_place(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("groups:\n  web:\n    units: [httpd, nginx.servic]\n")
    place = f"{file}:3:20: warning: groups.web.units[1]"
    warning = "this is the service nginx.servic.service; did you mean nginx.service?"
    assert run("check", "--config", file) == (0, "configuration OK\n", f"{place}: {warning}\n")
