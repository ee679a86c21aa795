"""A group is added or removed, and every other byte of the config stays; or it is refused, with a reason."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from hkswitch.editing.new_group import new_group
from hkswitch.editing.splice import CannotSplice, with_group, without_group
from hkswitch.model.config import parse
from hkswitch.model.errors import ConfigError, Failure
from hkswitch.model.group import AccessoryType, Engine, Group
from hkswitch.model.unit_state import Action

FILE: Final = "config.yaml"
NEWLINE: Final = "\n"
SWITCH: Final = AccessoryType.SWITCH
EXAMPLE: Final = (Path(__file__).parents[2] / "config.example.yaml").read_bytes()
NEW: Final = Group("media", "Media", ("jellyfin.service", "fstrim.timer"))
BLOCK: Final = "  media:\n    name: Media\n    units: [jellyfin, fstrim.timer]\n"
EXAMPLES, LONGER = 40, 100
"""How many configs are drawn for each test, and how many times more there are with --long."""


@pytest.fixture(scope="module", autouse=True)
def hypothesis_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    set_hypothesis_home_dir(tmp_path_factory.mktemp("hypothesis"))


# Any config


COMMENTS: Final = st.sampled_from(
    ["", "", "", "# a comment", "#no: space", "# groups:", "#   - x", "# web: {}"]
)
UNITS: Final = st.lists(
    st.sampled_from(["nginx", "smbd", '"wg-quick@wg0"', "fstrim.timer", "'cups'"]), min_size=1, unique=True
)
CHECKS: Final = st.sampled_from(
    ["[/bin/sh, -c, 'a # b']", '["/bin/true"]', '[/bin/sh, "}", "{", ",", "groups:"]', "[/bin/x, 'it''s']"]
)
BLOCK_CHECKS: Final = (
    ("check:", "  - /bin/sh", "  - -c", "  - |", "    # not a comment", "    exit 1"),
    ("check:", "- /bin/sh", "- -c", "- >-", "    folded", "", "    text"),
    ("check:", "  - /bin/sh", "  - |+", "    kept", "", ""),
    ('check: [/bin/sh, "a', '  }, groups:"]'),
    ("check: [", "  /bin/sh,  # comment }", "  '}',", "]"),
)


@st.composite
def group_lines(draw: st.DrawFn, group_id: str, step: int) -> list[str]:
    """The lines of a group, with its id at the margin."""
    units = draw(UNITS)
    if draw(st.integers(0, 3)) == 0:
        check = f", check: {draw(CHECKS)}" if draw(st.booleans()) else ""
        comment = draw(st.sampled_from(["", "  # in braces"]))
        return [f"{group_id}: {{units: [{', '.join(units)}]{check}}}{comment}"]
    block = (
        [f"units: [{', '.join(units)}]"]
        if draw(st.booleans())
        else ["units:", *(f"- {unit}" for unit in units)]
    )
    keys = [block]
    if draw(st.booleans()):
        keys.append([f"type: {draw(st.sampled_from(['fan', 'light']))}  # a type"])
    if draw(st.booleans()):
        keys.append(list(draw(st.sampled_from(BLOCK_CHECKS))))
    lines = [line for key in draw(st.permutations(keys)) for line in (draw(COMMENTS), *key)]
    inner = (line for line in lines if line or draw(st.booleans()))
    return [
        f"{group_id}:{draw(st.sampled_from(['', ' # ' + group_id]))}",
        *(" " * step + line for line in inner),
    ]


@st.composite
def configs(draw: st.DrawFn) -> bytes:
    """A valid config in any layout that people write."""
    margin, step = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    ids = draw(st.lists(st.sampled_from(["web", "a", "b2", "'files'", '"vpn"']), min_size=1, unique=True))
    groups: list[str] = []
    for group_id in ids:
        groups += ["" for _ in range(draw(st.integers(0, 2)))]
        groups += [
            f"{' ' * draw(st.sampled_from([margin, margin, 0]))}{each}" for each in [draw(COMMENTS)] if each
        ]
        groups += [" " * margin + line for line in draw(group_lines(group_id, step))]
    sections = [["groups:" + draw(st.sampled_from(["", "  # mine"])), *groups]]
    if draw(st.booleans()):
        sections.append(draw(st.sampled_from([["bridge:", "  name: Home"], ["bridge: {name: Home}"]])))
    if draw(st.booleans()):
        sections.append(["helper: sudo"])
    if draw(st.booleans()):
        sections.append(draw(st.sampled_from([["alert_command: [/bin/a]"], ["alert_command:", "- /bin/a"]])))
    lines = [draw(COMMENTS), *(["---"] if draw(st.booleans()) else [])]
    for section in draw(st.permutations(sections)):
        lines += [draw(COMMENTS), *section]
    lines += [
        draw(COMMENTS),
        *([""] * draw(st.integers(0, 2))),
        *(["..."] if draw(st.integers(0, 9)) == 0 else []),
    ]
    newline = draw(st.sampled_from(["\n", "\n", "\r\n"]))
    return (newline.join(lines) + draw(st.sampled_from([newline, ""]))).encode()


NEW_GROUPS: Final = st.builds(
    lambda name, units, kind, restart: Group(
        "media",
        name,
        tuple(units),
        kind,
        frozenset({Action.START, Action.STOP, *([Action.RESTART] if restart else [])}),
        restart,
    ),
    st.sampled_from(["Media", "Joe's TV", "Медиа", "Yes", "7", "On 2"]),
    st.lists(
        st.sampled_from(
            ["jellyfin.service", "x.socket.service", "a:b@c.service", r"d\x2de.mount", "1.service"]
        ),
        min_size=1,
        unique=True,
    ),
    st.sampled_from(AccessoryType),
    st.booleans(),
)


def cut_out(longer: bytes, shorter: bytes) -> bytes:
    """The one piece that `longer` has and `shorter` lacks; fails if there is more than one."""
    at = next((n for n, (a, b) in enumerate(zip(longer, shorter, strict=False)) if a != b), len(shorter))
    for start in range(at, -1, -1):
        end = start + len(longer) - len(shorter)
        if longer[:start] + longer[end:] == shorter:
            return longer[start:end]
    raise AssertionError((longer, shorter))


def written(data: bytes) -> list[bytes]:
    """The lines that are not empty."""
    return [line.rstrip() for line in data.split(b"\n") if line.strip()]


def any_config(long: bool) -> settings:
    return settings(
        max_examples=EXAMPLES * (LONGER if long else 1),
        derandomize=not long,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def test_a_new_group_is_the_only_difference_and_its_removal_restores_the_file(long: bool) -> None:
    @any_config(long)
    @given(configs(), NEW_GROUPS)
    def try_one(data: bytes, group: Group) -> None:
        old = parse(data, FILE)
        new = with_group(data, FILE, group)
        assert parse(new, FILE) == replace(old, groups=(*old.groups, group))
        added = cut_out(new, data)
        assert added.count(b"\r\n") == (added.count(b"\n") if b"\r\n" in data else 0)
        back = without_group(new, FILE, "media")
        assert written(back) == written(data)
        keeps_empty_lines = b"|+" in data
        assert keeps_empty_lines or back == data or (not data.endswith(b"\n") and cut_out(back, data))

    try_one()


def test_a_removed_group_takes_its_own_lines_along_and_no_others(long: bool) -> None:
    @any_config(long)
    @given(configs(), st.data())
    def try_one(data: bytes, drawn: st.DataObject) -> None:
        old = parse(data, FILE)
        group = drawn.draw(st.sampled_from(old.groups))
        if len(old.groups) == 1:
            with pytest.raises(Failure, match="the last one"):
                without_group(data, FILE, group.id)
            return
        new = without_group(data, FILE, group.id)
        left = tuple(each for each in old.groups if each is not group)
        assert parse(new, FILE) == replace(old, groups=left)
        removed = cut_out(data, new).decode()
        assert group.id in removed
        assert not any(each.id in removed for each in left if each.id in {"files", "vpn"})

    try_one()


# Files of every kind


ADDED: Final = [
    ("", f"groups:\n{BLOCK}"),
    ("# mine\n", f"# mine\n\ngroups:\n{BLOCK}"),
    ("---\n", f"---\n\ngroups:\n{BLOCK}"),
    ("bridge:\n  name: Home", f"bridge:\n  name: Home\n\ngroups:\n{BLOCK[:-1]}"),
    ("bridge: {name: Home}\n...\n", f"bridge: {{name: Home}}\n\ngroups:\n{BLOCK}...\n"),
    ("groups:\n", f"groups:\n{BLOCK}"),
    ("groups:", f"groups:\n{BLOCK[:-1]}"),
    ("groups:\nhelper: sudo\n", f"groups:\n{BLOCK}helper: sudo\n"),
    ("groups:\n  # web: {units: [x]}\n", f"groups:\n  # web: {{units: [x]}}\n\n{BLOCK}"),
    ("groups: {}\n", f"groups:\n{BLOCK}"),
    ("groups: { }  # none\n", f"groups:  # none\n{BLOCK}"),
    ("groups: {}\r\n", f"groups:\n{BLOCK}".replace("\n", "\r\n")),
    ("{groups: {}}", "{groups: {media: {name: Media, units: [jellyfin, fstrim.timer]}}}"),
    (
        "groups: {web: {units: [a]}}\n",
        "groups: {web: {units: [a]}, media: {name: Media, units: [jellyfin, fstrim.timer]}}\n",
    ),
    (
        "{groups: {web: {units: [a],},},}\n",
        "{groups: {web: {units: [a],}, media: {name: Media, units: [jellyfin, fstrim.timer]}},}\n",
    ),
    (
        "bridge:\n    name: x\ngroups:\nhelper: sudo\n",
        f"bridge:\n    name: x\ngroups:\n{BLOCK.replace('  ', '    ')}helper: sudo\n",
    ),
    (
        "groups:\n  web: {units: [a]}\n# the end\n",
        f"groups:\n  web: {{units: [a]}}\n{BLOCK}# the end\n",
    ),
    (
        "groups:\n  a: {units: [a]}\n\n  b: {units: [b]}\n\nhelper: sudo\n",
        f"groups:\n  a: {{units: [a]}}\n\n  b: {{units: [b]}}\n\n{BLOCK}\nhelper: sudo\n",
    ),
]


@pytest.mark.parametrize(("before", "after"), ADDED)
def test_a_group_is_added_where_a_person_would_add_it(before: str, after: str) -> None:
    assert with_group(before.encode(), FILE, NEW).decode().split("\n") == after.split("\n")


def test_the_groups_of_the_example_can_be_replaced_and_everything_else_stays() -> None:
    ids = ("vm-guests", "fileserver", "web")
    group = Group("fileserver", "File Server", ("smbd.service", "nmbd.service"))
    lines = EXAMPLE.decode().splitlines()
    gone = (lines.index("groups:") + 1, lines.index("    units: [httpd]") + 2)
    new = with_group(EXAMPLE, FILE, group, ids).decode().splitlines()
    assert new == [
        *lines[: gone[0]],
        *lines[gone[1] :],
        *("", "  fileserver:", "    name: File Server", "    units: [smbd, nmbd]"),
    ]
    assert parse(with_group(EXAMPLE, FILE, NEW), FILE).groups[-1] == NEW


CONTAINERS: Final = [
    ({"containers": ("immich-server", "5ghz")}, 'containers: [immich-server, "5ghz"]'),
    ({"containers": ("wiki",), "engine": Engine.PODMAN}, "containers: [wiki]\nengine: podman"),
    ({"compose": "immich", "engine": Engine.PODMAN}, "compose: immich\nengine: podman"),
    ({"units": ("a.service",), "containers": ("b",), "compose": "1"}, None),
]


@pytest.mark.parametrize(("members", "keys"), CONTAINERS)
def test_containers_are_added_like_units(members: dict[str, Any], keys: str | None) -> None:
    if keys is None:
        with pytest.raises(Failure, match="'b' is too short"):
            with_group(b"", FILE, made(members))
        return
    block = with_group(b"", FILE, made(members)).decode()
    assert block == "\n    ".join(["groups:\n  media:\n    name: Media", *keys.split("\n")]) + "\n"
    in_braces = with_group(b"groups: {web: {units: [a]}}\n", FILE, made(members)).decode()
    assert in_braces.endswith(f", media: {{name: Media, {keys.replace(NEWLINE, ', ')}}}}}\n")


def made(members: dict[str, Any], name: str | None = "Media") -> Group:
    return new_group(**{"units": (), **members}, name=name, group_id=None, kind=SWITCH, restart=False)


@pytest.mark.parametrize(
    ("members", "group_id"),
    [
        ({"containers": ["immich_server"]}, "immich-server"),
        ({"compose": "immich"}, "immich"),
        ({"containers": ["a b"]}, "'a b' is not a container's name"),
        ({"compose": "Immich"}, "'Immich' is not a compose project's name"),
        ({"containers": ["web", "db"]}, 'several members; use `--name "A Name"`'),
        ({"units": ["a.service"], "compose": "b"}, 'several members; use `--name "A Name"`'),
    ],
)
def test_a_group_of_a_container_is_named_after_it(members: dict[str, Any], group_id: str) -> None:
    if " " in group_id:
        with pytest.raises(Failure, match=re.escape(group_id)):
            made(members, name=None)
    else:
        assert made(members, name=None).id == group_id


WEB: Final = b"groups:\n  web: {units: [nginx], name: Web}\n"


@pytest.mark.parametrize(
    ("before", "group", "reason"),
    [
        (
            WEB,
            Group("web", "Other", ("a.service",)),
            "there is one with this id; change it with `sudo hkswitch edit`, or choose another with `--id`",
        ),
        (WEB, Group("other", "web", ("a.service",)), "'web' is taken by the group on line 2"),
        (WEB, Group("w", "Restart Web", ("a.service",)), None),
        (
            b"groups: {web: {units: [a], restart: true}}",
            Group("w", "Restart Web", ("a.service",)),
            "is taken by",
        ),
        (b"\tgroups:\n", NEW, "a tab is not allowed"),
        (b"groups: [web]\n", NEW, "must be a mapping"),
        (b"groups: null\n", NEW, "must be a mapping"),
        (b"groups:\n  web: {unit: [a]}\n", NEW, "did you mean 'units'"),
        (b"grups:\n  web: {units: [a]}\n", NEW, "unknown key 'grups'"),
        (b"groups: {web: {units: [a]}}\n---\nx\n", NEW, "document"),
        (b"{}\n", NEW, "add these lines below `groups:`\n  media:\n    name: Media"),
        (b"{bridge: {name: x}}\n", NEW, "add these lines below `groups:`"),
        (b"groups: {\n}\n", NEW, "add these lines below `groups:`"),
        (b"groups:\n  ? web\n  : units: [a]\n", NEW, "add these lines below `groups:`"),
        (b"groups: !!map {}\n", NEW, "is not allowed"),
        (b"\xff", NEW, "not UTF-8"),
        (b"x", NEW, "must be a mapping"),
    ],
)
def test_what_the_config_refuses_is_not_added(before: bytes, group: Group, reason: str | None) -> None:
    if reason is None:
        assert parse(with_group(before, FILE, group), FILE).groups[-1] == group
        return
    with pytest.raises(Failure) as caught:
        with_group(before, FILE, group)
    assert reason in str(caught.value)


def test_a_config_is_full_at_the_limit_of_homekit() -> None:
    full = "groups:\n" + "".join(f"  g{n}: {{units: [u{n}]}}\n" for n in range(149))
    with pytest.raises(Failure, match="HomeKit allows at most 149") as caught:
        with_group(full.encode(), FILE, NEW)
    assert not isinstance(caught.value, CannotSplice | ConfigError)


TWO: Final = (
    "groups:\n  # of a\n  a: {units: [a]}\n\n  # of b\n  b:\n    units: [b]\n    # in b\n\n  # others\n"
)


@pytest.mark.parametrize(
    ("before", "group_id", "after"),
    [
        (TWO, "a", "groups:\n  # of b\n  b:\n    units: [b]\n    # in b\n\n  # others\n"),
        (TWO, "b", "groups:\n  # of a\n  a: {units: [a]}\n\n  # others\n"),
        ("groups: {a: {units: [a]}, b: {units: [b]}}\n", "a", "groups: {b: {units: [b]}}\n"),
        ("groups: {a: {units: [a]}, b: {units: [b]}}\n", "b", "groups: {a: {units: [a]}}\n"),
        ("groups: {\n  a: {units: [a]},\n  b: {units: [b]},\n}\n", "b", "groups: {\n  a: {units: [a]}}\n"),
        (
            "groups:\n  a: {units: [a]}\n  b: {units: [b]}\n\nhelper: sudo\n",
            "b",
            "groups:\n  a: {units: [a]}\n\nhelper: sudo\n",
        ),
        ("groups:\n  a: {units: [a]}\n", "a", None),
        ("groups: {a: {units: [a]}}\n", "a", None),
        ("groups:\n  a: {unit: [a]}\n  b: {units: [b]}\n", "b", None),
        (
            "groups:\n  ? a\n  : {units: [a]}\n  ? b\n  : {units: [b]}\n",
            "a",
            "groups:\n  ? b\n  : {units: [b]}\n",
        ),
        ("groups: {a: {units: [a]}, ? b : {units: [b]}}\n", "b", "groups: {a: {units: [a]}}\n"),
        ("groups: [a]\n", "a", None),
    ],
)
def test_a_group_is_removed_with_its_own_comments_or_not_at_all(
    before: str, group_id: str, after: str | None
) -> None:
    if after is None:
        with pytest.raises(Failure):
            without_group(before.encode(), FILE, group_id)
    else:
        assert without_group(before.encode(), FILE, group_id).decode().split("\n") == after.split("\n")
