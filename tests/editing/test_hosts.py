"""A host is added, changed or removed, and every other byte of the config stays; or it is refused."""

from typing import Final

import pytest

from hkswitch.editing.hosts import destinations_in, with_host, without_host
from hkswitch.editing.splice import CannotSplice
from hkswitch.model.config import parse
from hkswitch.model.errors import ConfigError, Failure

FILE: Final = "config.yaml"
GROUPS: Final = "groups:\n  web: {units: [nginx]}  # a comment\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (GROUPS, f"{GROUPS}\nhosts:\n  nas:\n    ssh: nas.lan\n"),
        (GROUPS.rstrip("\n"), f"{GROUPS}\nhosts:\n  nas:\n    ssh: nas.lan"),
        (f"hosts:\n{GROUPS}", f"hosts:\n  nas:\n    ssh: nas.lan\n{GROUPS}"),
        (f"hosts: {{}}  # none\n{GROUPS}", f"hosts:  # none\n  nas:\n    ssh: nas.lan\n{GROUPS}"),
        (
            f"hosts:\n    pi:\n        ssh: pi.lan  # upstairs\n\n{GROUPS}",
            f"hosts:\n    pi:\n        ssh: pi.lan  # upstairs\n    nas:\n        ssh: nas.lan\n\n{GROUPS}",
        ),
        (
            f"hosts: {{pi: {{ssh: pi.lan}}}}\n{GROUPS}",
            f"hosts: {{pi: {{ssh: pi.lan}}, nas: {{ssh: nas.lan}}}}\n{GROUPS}",
        ),
        (
            f"{GROUPS}hosts:\n  pi: {{ssh: pi}}\n".replace("\n", "\r\n"),
            f"{GROUPS}hosts:\n  pi: {{ssh: pi}}\n  nas:\n    ssh: nas.lan\n".replace("\n", "\r\n"),
        ),
    ],
)
def test_a_host_is_added_and_removed_where_one_looks_for_it(before: str, after: str) -> None:
    added = with_host(before.encode(), FILE, "nas", "nas.lan")
    assert added.decode() == after
    removed = without_host(added, FILE, "nas")
    assert destinations_in(added, FILE) == destinations_in(removed, FILE) | {"nas": "nas.lan"}
    assert parse(removed, FILE).groups == parse(added, FILE).groups
    assert "a comment" in removed.decode()
    assert with_host(added, FILE, "nas", "nas.lan") == added


@pytest.mark.parametrize("written", ["nas.lan", '"nas.lan"', "'nas.lan'"])
def test_another_destination_replaces_the_old_one_in_place(written: str) -> None:
    text = f"# top\nhosts:\n  nas: {{ssh: {written}}}  # mine\n  pi: {{ssh: nas.lan}}\n{GROUPS}"
    changed = with_host(text.encode(), FILE, "nas", "ssh://10.0.0.2:2222").decode()
    assert changed == text.replace(f"nas: {{ssh: {written}", 'nas: {ssh: "ssh://10.0.0.2:2222"')


def test_the_last_host_goes_with_its_section() -> None:
    text = f"# mine\n{GROUPS}\n# the cellar\nhosts:\n  # big\n  nas: {{ssh: nas}}\n\nhelper: sudo\n"
    assert without_host(text.encode(), FILE, "nas").decode() == f"# mine\n{GROUPS}\nhelper: sudo\n"
    flow = "{hosts: {nas: {ssh: nas}}, groups: {web: {units: [nginx]}}}"
    assert without_host(flow.encode(), FILE, "nas").decode() == "{groups: {web: {units: [nginx]}}}"


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("groups: {}\n", ConfigError),
        (f"{GROUPS}bogus: 1\n", ConfigError),
        (f"{GROUPS}hosts: [nas]\n", ConfigError),
        (f"{GROUPS}hosts: {{nas: {{}}}}\n", ConfigError),
        ("{groups: {web: {units: [nginx]}}}\n", CannotSplice),
        ("", ConfigError),
    ],
)
def test_a_config_that_cannot_have_a_host_is_refused(text: str, failure: type[Failure]) -> None:
    with pytest.raises(failure):
        with_host(text.encode(), FILE, "nas", "nas.lan")


def test_a_host_that_a_group_needs_stays() -> None:
    text = "hosts: {nas: {ssh: nas}}\ngroups: {a: {host: nas}}\n"
    with pytest.raises(ConfigError, match="hkswitch host add"):
        without_host(text.encode(), FILE, "nas")
