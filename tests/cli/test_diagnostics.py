"""What `hkswitch diagnostics` prints holds no secret. tests/host/ looks at a paired bridge's."""

from pathlib import Path

import pytest

from hkswitch.cli import diagnostics, status
from hkswitch.cli.diagnostics import REPLACEMENT, Secrets
from hkswitch.hap import state_file
from hkswitch.hap.setup_code import Setup
from hkswitch.model.config import parse
from hkswitch.model.errors import ConfigError
from hkswitch.protocol.report import BridgeReport, GroupReport, Report
from tests.support.command import run

SETUP = Setup("031-45-154", "ABCD")
PHONE = "8de3a2c0-5d7b-4e7c-9f52-3f1b7a2d9e10"
KEYS = {name: f"{name.encode().hex():0<64}" for name in ("private_key", "public_key", "of phone")}
STORED = state_file.Stored(
    SETUP,
    {
        "mac": "AA:BB:CC:DD:EE:FF",
        "config_version": 1,
        "paired_clients": {PHONE: KEYS["of phone"]},
        "client_properties": {PHONE: {"permissions": 1}},
        "client_uuid_to_bytes": {PHONE: PHONE.upper().encode().hex()},
        "private_key": KEYS["private_key"],
        "public_key": KEYS["public_key"],
    },
)
KNOWN, BLIND = Secrets.of(STORED), Secrets()

CONFIG = """\
# s3cret-comment
bridge: {name: Homelab, interface: eth0, port: 51827}
alert_command: [/usr/bin/curl, https://ntfy.example.org/s3cret-topic]
groups:
  web:
    units: [httpd]
    restart: true
    check: [/usr/bin/curl, '-ufoo:s3cret-check', http://localhost]
    alert: leak
    restart_when: {memory_mib: 900}
  vm:
    commands: {start: [/usr/bin/vm, s3cret-start], stop: [/usr/bin/vm], status: [/usr/bin/vm, s3cret-status]}
"""


@pytest.mark.parametrize(
    "secret",
    [
        *(SETUP.code, "03145154", SETUP.payload, SETUP.payload.lower()),
        *(*KEYS.values(), KEYS["private_key"].upper(), PHONE.upper().encode().hex()),
    ],
)
@pytest.mark.parametrize("line", ["{}", "code={},", "'{}'", "_{}_"])
def test_a_secret_that_is_known_is_removed_wherever_it_is(secret: str, line: str) -> None:
    assert secret.lower() not in KNOWN.removed_from(line.format(secret)).lower()
    assert REPLACEMENT in KNOWN.removed_from(line.format(secret))


@pytest.mark.parametrize("secret", [SETUP.code, SETUP.payload, *KEYS.values()])
def test_a_secret_that_is_not_known_is_removed_by_its_form(secret: str) -> None:
    assert BLIND.removed_from(f"code {secret}, and more") == f"code {REPLACEMENT}, and more"


@pytest.mark.parametrize("secrets", [KNOWN, BLIND])
def test_of_a_controllers_id_only_the_beginning_stays(secrets: Secrets) -> None:
    assert secrets.removed_from(f"{PHONE.upper()} by {PHONE}") == "8DE3A2C0... by 8de3a2c0..."


@pytest.mark.parametrize("secrets", [KNOWN, BLIND])
@pytest.mark.parametrize(
    "text",
    [
        "AA:BB:CC:DD:EE:FF",
        "192.168.1.10, fd00::1",
        "2026-11-22T13:24:10+0000",
        "port 51826, 12345678 bytes",
        "555-0123-4567",
        "1555-45-1547",
        "d34db33f",
    ],
)
def test_what_is_no_secret_stays(secrets: Secrets, text: str) -> None:
    assert secrets.removed_from(text) == text


def test_a_configuration_is_shown_without_arguments_and_comments() -> None:
    lines = list(diagnostics.config_lines(parse(CONFIG.encode(), "config.yaml")))
    assert lines == [
        "bridge Homelab: eth0, port 51827",
        "alert_command: /usr/bin/curl ...",
        "group web (Web): switch, restart/start/stop, with a restart switch, with a leak sensor",
        "  restart_when: memory_mib 900, for_seconds 180, at_most_per_hour 3",
        "  units: httpd.service",
        "  check: /usr/bin/curl ...",
        "  every 30 s, timeout 10 s",
        "group vm (Vm): switch, start/stop",
        "  start: /usr/bin/vm ...",
        "  stop: /usr/bin/vm",
        "  status: /usr/bin/vm ...",
        "  every 5 s, timeout 10 s",
    ]


def test_of_mistakes_only_the_places_are_shown() -> None:
    with pytest.raises(ConfigError) as raised:
        parse(b"groups: {web: {check: ['s3cret']}}", "config.yaml")
    assert "s3cret" in str(raised.value)
    lines = list(diagnostics.config_lines(raised.value))
    assert lines
    assert "s3cret" not in "".join(lines)
    assert all(line.startswith("error at line 1, column ") for line in lines)


def test_a_unit_is_shown_without_values_of_variables_and_credentials() -> None:
    cat = (
        "# /etc/systemd/system/hkswitch.service.d/x.conf\n[Service]\nEnvironment=A=s3cret \\\n  B=s3cret\n"
        " SetCredential = a:s3cret\nEnvironmentFile=/etc/x\nProtectClock=yes\n"
    )
    assert diagnostics.unit_lines(cat) == [
        "# /etc/systemd/system/hkswitch.service.d/x.conf",
        "[Service]",
        f"Environment={REPLACEMENT}",
        f" SetCredential ={REPLACEMENT}",
        "EnvironmentFile=/etc/x",
        "ProtectClock=yes",
    ]


@pytest.mark.parametrize("mistake", ["", "oops: true\n"], ids=["valid", "with a mistake"])
def test_without_an_installation_it_says_what_it_can(tmp_path: Path, mistake: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG + mistake)
    nowhere = {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"}
    code, output, errors = run(
        "diagnostics", "--config", file, "--state-dir", tmp_path, LC_ALL="C", **nowhere
    )
    assert (code, errors) == (0, "")
    assert "s3cret" not in output
    sections = [line.strip("= ") for line in output.splitlines() if line.startswith("== ")]
    assert sections == [
        "versions",
        "doctor",
        "configuration",
        "status",
        "unit",
        "network",
        "journal",
        "debug log",
    ]
    assert " configuration   " in output
    assert "HAP-python 5" in output


def test_what_a_report_quotes_from_a_configuration_with_mistakes_is_left_out() -> None:
    bridge = BridgeReport("hkswitch", "1", 0, (), 51826, (), config="config.yaml:1:1: 'hunter2' is no unit")
    group = GroupReport("web", "Web", None, 0, {}, why=bridge.config)
    assert "hunter2" not in status.report_as_json(diagnostics.without_config_text(Report(bridge, (group,))))
    sound = Report(bridge._replace(config=""), (group._replace(why="the helper is not running"),))
    assert diagnostics.without_config_text(sound) == sound
