"""Whatever is in a configuration, it is read, or a list of problems comes of it; never two different ones."""

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from hkswitch.model.config import Config, parse
from hkswitch.model.errors import ConfigError

EXAMPLE = (Path(__file__).parents[2] / "config.example.yaml").read_text()
COMMENTED_KEY = re.compile(r"^( {2,4})# (([a-z_]+): \S.*)$", re.MULTILINE)


def mutations(text: bytes, count: int) -> Iterator[bytes]:
    """`text` with one to three things wrong; the same ones every time."""
    chance = random.Random(26)
    pieces = [
        b"&a ",
        b"*a",
        b"!!str ",
        b"? ",
        b"- ",
        b": ",
        b"[",
        b"{",
        b"}",
        b"'",
        b'"',
        b"|\n",
        b"<<",
        b"#",
        b"\n",
    ]
    for _ in range(count):
        data = bytearray(text)
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(data))
            match chance.randrange(4):
                case 0:
                    data[at] ^= 1 << chance.randrange(8)
                case 1:
                    del data[at : at + chance.randint(1, 30)]
                case 2:
                    data[at:at] = chance.choice(pieces)
                case 3:
                    lines = data.splitlines(keepends=True)
                    lines.insert(chance.randrange(len(lines)), chance.choice(lines))
                    data = bytearray(b"".join(lines))
        yield bytes(data)


def outcome(data: bytes) -> Config | ConfigError:
    try:
        return parse(data, "config.yaml")
    except ConfigError as error:
        return error


def test_anything_is_a_config_or_a_list_of_problems() -> None:
    live = COMMENTED_KEY.sub(lambda key: "" if key[3] == "address" else key[1] + key[2], EXAMPLE)
    outcomes = [outcome(data) for data in mutations(live.encode(), 3000)]
    errors = [each for each in outcomes if isinstance(each, ConfigError)]
    assert 1000 < len(errors) < 2000
    for error in errors:
        assert error.problems
        assert list(error.problems) == sorted(error.problems)
        assert all(line.isprintable() for line in str(error).splitlines())


def test_both_parsers_never_read_one_file_as_two_configs(monkeypatch: pytest.MonkeyPatch) -> None:
    files = list(mutations(EXAMPLE.encode(), 200))
    first = [outcome(data) for data in files]
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    for one, data in zip(first, files, strict=True):
        other = outcome(data)
        assert isinstance(one, ConfigError) or isinstance(other, ConfigError) or one == other
