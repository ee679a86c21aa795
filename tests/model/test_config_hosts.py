"""Other hosts in the config, and the groups that they run."""

import pytest

from hkswitch.model.config import parse
from hkswitch.model.elsewhere import Elsewhere, RemoteHost
from hkswitch.model.errors import ConfigError
from hkswitch.model.group import AlertSensor, Group, RestartWhen
from hkswitch.model.unit_state import Action

NAS = RemoteHost("nas", "nas.lan")
HOSTS = "hosts: {nas: {ssh: nas.lan}}\n"
SSH_RULE = "write [USER@]HOST or ssh://[USER@]HOST:PORT; /etc/hkswitch/ssh_config has the rest"


def groups(text: str) -> tuple[Group, ...]:
    return parse(f"{HOSTS}groups:\n  {text}".encode(), "c.yaml").groups


def problem(text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        parse(text.encode(), "c.yaml")
    return str(refused.value)


def test_a_group_of_another_host_has_its_place_and_what_this_config_decides() -> None:
    rest = "type: outlet, restart: true, alert: leak, restart_when: {cpu_percent: 60}"
    [group] = groups(f"nas-media: {{host: nas, group: media, name: NAS Media, {rest}}}")
    assert group.elsewhere == Elsewhere(NAS, "media")
    assert (group.name, group.type.value, group.restart) == ("NAS Media", "outlet", True)
    assert (group.alert, group.restart_when) == (AlertSensor.LEAK, RestartWhen(cpu_percent=60))
    assert group.members == ()


def test_a_group_has_the_same_id_there_unless_the_config_names_another() -> None:
    [group] = groups("media: {host: nas}")
    assert group.elsewhere == Elsewhere(NAS, "media")
    assert group.name == "Media"
    assert group.actions == {Action.START, Action.STOP}


def test_the_accessory_depends_on_this_configs_id_alone() -> None:
    [there] = groups("media: {host: nas, group: movies}")
    [here] = groups("media: {units: [jellyfin]}")
    assert there.aids == here.aids
    assert there.token != here.token


def test_hosts_without_groups_are_allowed_and_local_groups_are_told_apart() -> None:
    hosts = "hosts: {nas: {ssh: nas.lan}, pi: {ssh: 'ssh://me@pi:2222'}}"
    config = parse(f"{hosts}\ngroups: {{a: {{host: nas}}, b: {{units: [b]}}}}".encode(), "c.yaml")
    assert config.hosts == (NAS, RemoteHost("pi", "ssh://me@pi:2222"))
    assert [group.id for group in config.local_groups] == ["b"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "a: {host: nas, units: [web]}",
            "3:13: groups.a.host: cannot be combined with 'units'; keep one of the two",
        ),
        (
            "a: {host: nas, containers: [web]}",
            "3:13: groups.a.host: cannot be combined with 'containers'; keep one of the two",
        ),
        (
            "a: {host: nas, commands: {start: [/bin/a]}}",
            "3:28: groups.a.commands: cannot be combined with 'host'; the config of 'nas' has that",
        ),
        (
            "a: {host: nas, actions: [start]}",
            "3:27: groups.a.actions: cannot be combined with 'host'; the config of 'nas' has that",
        ),
        (
            "a: {host: nas, check: [/bin/a]}",
            (
                "3:25: groups.a.check: applies only with 'units' or 'containers' or 'compose'; "
                "a group of commands has 'status' for that"
            ),
        ),
        (
            "a: {host: nas, timeout_seconds: 5}",
            (
                "3:35: groups.a.timeout_seconds: applies only with 'check' or 'commands'; "
                "add that or remove this key"
            ),
        ),
        (
            "a: {host: pi}",
            "3:13: groups.a.host: 'pi' is none of the 'hosts'; add it with `hkswitch host add`",
        ),
        (
            "a: {group: b, units: [c]}",
            "3:14: groups.a.group: applies only with 'host'; add that or remove this key",
        ),
        (
            "a: {host: nas, group: A}",
            (
                "3:25: groups.a.group: 'A' is not a group id; "
                "use at most 64 of a-z, 0-9 and '-', without '-' at the start"
            ),
        ),
        (
            "{a: {host: nas}, b: {host: nas, group: a}}",
            "3:20: groups.b: 'b' is group 'a' of the host nas, as is 'a'; remove one of the two",
        ),
    ],
)
def test_a_mistake_in_a_group_of_another_host_is_refused(text: str, expected: str) -> None:
    assert problem(f"{HOSTS}groups:\n  {text}") == f"c.yaml:{expected}"


@pytest.mark.parametrize(
    "ssh",
    [
        *("nas", "nas.lan", "192.168.1.4", "fe80::1%eth0", "::1", "me@nas.lan"),
        *("ssh://nas", "ssh://nas:2222", "ssh://me@nas:22", "ssh://[::1]:22", "ssh://me@[fe80::1%eth0]"),
    ],
)
def test_a_destination_is_one_as_ssh_takes_it(ssh: str) -> None:
    text = f"hosts: {{nas: {{ssh: '{ssh}'}}}}\ngroups: {{a: {{host: nas}}}}"
    assert parse(text.encode(), "c.yaml").hosts == (RemoteHost("nas", ssh),)


@pytest.mark.parametrize(
    "ssh",
    [
        *(
            "-oProxyCommand=reboot",
            "-v",
            "--",
            "nas -v",
            "nas;reboot",
            "$(reboot)",
            "`reboot`",
            "nas\\nb",
            "nas|b",
        ),
        *(
            "nas:22",
            "[::1]",
            "a@b@c",
            "ssh://nas:0",
            "ssh://nas:123456",
            "ssh://-v",
            "me@-v",
            "-me@nas",
            "ssh://",
        ),
        *(
            "ssh://nas/x",
            "ssh://::1",
            "h" * 254,
            "u" * 34 + "@nas",
            "nas%h",
            "nässe",
            "https://nas",
            " nas",
            "",
        ),
    ],
)
def test_what_ssh_could_take_for_anything_else_is_no_destination(ssh: str) -> None:
    text = f'hosts: {{nas: {{ssh: "{ssh}"}}}}\ngroups: {{a: {{host: nas}}}}'
    assert SSH_RULE in problem(text)


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ("{}", "hosts: must have at least one host, indented below it"),
        ("[nas]", "hosts: must be a mapping, lines like 'key: value', with the space"),
        ("{nas: {}}", "hosts.nas: the key 'ssh' is missing; it is required"),
        ("{nas: {ssh: nas, key: x}}", "hosts.nas.key: unknown key 'key'; allowed keys: ssh"),
        ("{nas: {ssh: [nas]}}", "hosts.nas.ssh: must be a single value, not a list or a mapping"),
        ("{Nas: {ssh: nas}}", "'Nas' is not the name of a host; use at most 32 of a-z, 0-9 and '-'"),
        ("{../nas: {ssh: nas}}", "'../nas' is not the name of a host"),
        (f"{{{'n' * 33}: {{ssh: nas}}}}", "is not the name of a host"),
    ],
)
def test_a_mistake_in_the_hosts_is_refused(hosts: str, expected: str) -> None:
    assert expected in problem(f"hosts: {hosts}\ngroups: {{a: {{units: [b]}}}}")
