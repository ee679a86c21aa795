"""Mutations of valid input that keep enough for a parser to read on.

A change is three numbers, wherever they come from: how, where, and to what.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from struct import iter_unpack
from typing import Any

CHANGES = 3
"""Mutations of one input."""

NUMBERS = CHANGES * 5
"""Bytes that a mutation inserts."""

ODD_JSON = (
    *("null", "true", "false", "0", "-0", "1", "-1", "1.0", "1.5", "1e400", "-1e400", "1E2", "01", "0x1"),
    *("9007199254740992", "9007199254740993", "9" * 400, "9" * 5000, "NaN", "Infinity", "-Infinity", '""'),
    *(r'"\ud800"', r'"\udfff\ud800"', '"\x00"', r'"\u0000"', r'"\n"', '"\x1b[2J"', r'"\u001b[2J"'),
    *('"\N{BOM}"', '"é\N{PILE OF POO}"', '"__class__"', '"%s"', '"a', '"a\\"', f'"{"a" * 256}"'),
    *(f'"{"a" * 501}"', "{}", "[]", "[{}]", '{"":""}', "[" * 9 + "]" * 9, "[" * 3000),
    *("[" * 3000 + "]" * 3000, '{"a":' * 3000 + "1" + "}" * 3000, "", " ", ",", "\n", "//", "\N{BOM}", "nul"),
    *("undefined",),
)
ODD_YAML = (
    *("", "~", "null", "yes", "Off", "TRUE", "true", "0", "0777", "0x1F", "1_0", "1e999", ".nan", "-.inf"),
    *("1:30", "9" * 400, "9" * 5000, "2026-01-01", "2026-01-01 00:00:00", "=", "<<", "<<: *a", "*a", "&a"),
    *("&a b", "!!str", "!!python/object/apply:os.system [x]", "!", "! x", "!<x> y", "!!binary x", "!e!x"),
    *("%YAML 1.3", "%TAG ! x:", r'"\x1b[2J"', r'"\0"', r'"\n"', r'"\ud800"', r'"\UFFFFFFFF"', r'"\x"'),
    *(r'"\N"', r'"\L"', '"', "'", "''", '""', "\t", "\0", "\x1b", "\x85", "\xa0", "\N{LINE SEPARATOR}"),
    *("\N{BOM}", "\ufffe", "\N{PILE OF POO}", "é", "\r", "|", "|2", "|+", "|0", ">-", ">99", "[", "]", "{"),
    *("}", "[]", "{}", "?", "? ", "-", "- ", "- - -", ":", ": ", ",", "#", "@", "`", "%", "---", "..."),
    *("---\n", "\n", "\n\n", "\n  ", "[" * 9, "[" * 1100, "{a: " * 9, "- " * 9, "a" * 257, "a" * 1200),
    *("Z" * 60, f"[{', '.join(f'a{number}' for number in range(130))}]", "\n---\n", "'a\n\n b'", "a\n  b"),
    *("/etc/passwd", "../x", "/bin/true", "//x", "/a/../b", "/bin/a b", "a@", "@a", "a@b@c", "x@.service"),
    *("x.device", ".service", "-.mount", r"a\x2d.mount", "a.b", "fe80::1%eth0", "fe80::1", "::", "::1%"),
    *("1.2.3.4%a", "127.0.0.1", "224.0.0.1", "::ffff:1.2.3.4", "51826", "1023", "-a", "a'"),
)

Words = tuple[str, ...]
Change = Callable[[bytes, bytes, Words], bytes]
"""Valid input, the numbers that choose a mutation, and the words to insert."""


def words_of(texts: Iterable[bytes]) -> Words:
    """Every word in what is right, without numbers and escapes."""
    found = re.findall(rb"(?<![\\\w])[a-z][a-z_-]+(?!\w)", b"\n".join(texts))
    return tuple(sorted({word.decode() for word in found}))


def change_json(line: bytes, numbers: bytes, words: Words) -> bytes:
    """A line of JSON with changed keys and values; other bytes if it is none."""
    try:
        tree = json.loads(line, object_pairs_hook=_Pairs, **_AS_WRITTEN)
        for how, where, what in iter_unpack("<BHH", numbers):
            tree = _change_tree(tree, how, where, what, words)
        return _written(tree).encode(errors="surrogatepass") + b"\n"
    except (ValueError, RecursionError):
        return change_bytes(line, numbers, words)


def change_yaml(text: bytes, numbers: bytes, words: Words) -> bytes:
    """A text in YAML with changed lines and words."""
    for how, where, what in iter_unpack("<BHH", numbers):
        text = _change_text(text, how, where, what, words)
    return text


def change_bytes(data: bytes, numbers: bytes, words: Words) -> bytes:
    """Bytes with others in their place, more of them, or fewer."""
    for how, where, what in iter_unpack("<BHH", numbers):
        data = _change_bytes(data, how, where, what)
    return data


class _Pairs(list[Any]):
    """Keys and values of an object, as many as there are of each."""


@dataclass(frozen=True)
class _Written:
    """A value as it is written."""

    json: str


_AS_WRITTEN: Any = dict.fromkeys(("parse_int", "parse_float", "parse_constant"), _Written)


def _change_tree(tree: object, how: int, where: int, what: int, words: Words) -> object:
    root = [tree]
    places = list(_places(root))
    parent, index = places[where % len(places)]
    odd = _Written(ODD_JSON[what % len(ODD_JSON)])
    word = words[what % len(words)] if words else ""
    pair = isinstance(parent, _Pairs)
    value = parent[index][1] if pair else parent[index]
    match how % 24:
        case 0 | 1 | 2:
            _put(parent, index, odd)
        case 3:
            _put(parent, index, word)
        case 4:
            _put(parent, index, [value])
        case 5:
            _put(parent, index, _Pairs([(word, value)]))
        case 6:
            other, at = places[what % len(places)]
            _put(parent, index, _Written(_written(other[at][1] if isinstance(other, _Pairs) else other[at])))
        case 7 if parent is not root:
            del parent[index]
        case 8 if parent is not root:
            parent.append(parent[index])
        case 9 if pair:
            parent[index] = (word, value)
        case 10 if pair:
            parent.append((word, odd))
    return root[0]


def _put(parent: list[Any], index: int, value: object) -> None:
    parent[index] = (parent[index][0], value) if isinstance(parent, _Pairs) else value


def _places(parent: list[Any]) -> Iterator[tuple[list[Any], int]]:
    for index, item in enumerate(parent):
        yield parent, index
        value = item[1] if isinstance(parent, _Pairs) else item
        if isinstance(value, list):
            yield from _places(value)


def _written(tree: object) -> str:
    match tree:
        case _Written(text):
            return text
        case _Pairs() as pairs:
            return "{" + ",".join(f"{json.dumps(key)}:{_written(value)}" for key, value in pairs) + "}"
        case list() as items:
            return "[" + ",".join(map(_written, items)) + "]"
    return json.dumps(tree)


def _change_text(text: bytes, how: int, where: int, what: int, words: Words) -> bytes:
    lines = text.splitlines(keepends=True) or [b""]
    at, other = where % len(lines), what % len(lines)
    odd = ODD_YAML[what % len(ODD_YAML)].encode(errors="surrogatepass")
    match how % 24:
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[other])
        case 2:
            lines[at], lines[other] = lines[other], lines[at]
        case 3:
            lines[at] = b" " * (what % 5) + lines[at].lstrip(b" ")
        case 4 | 5 | 6:
            return _replace(rb"[^\s,:\[\]{}#]+", text, where, odd)
        case 7 | 8 if words:
            return _replace(rb"[^\s,:\[\]{}#]+", text, where, words[what % len(words)].encode())
        case 9:
            return _replace(rb"\b", text, where, odd)
        case 10:
            return _change_bytes(text, what >> 8, where, what)
    return b"".join(lines)


def _replace(pattern: bytes, text: bytes, where: int, by: bytes) -> bytes:
    found = [match.span() for match in re.finditer(pattern, text)]
    if not found:
        return text + by
    start, end = found[where % len(found)]
    return text[:start] + by + text[end:]


def _change_bytes(data: bytes, how: int, where: int, what: int) -> bytes:
    at, byte = where % (len(data) + 1), bytes([what % 256])
    match how % 8:
        case 0:
            return data[:at] + byte + data[at + 1 :]
        case 1:
            return data[:at] + byte + data[at:]
        case 2:
            return data[:at] + data[at + 1 + what % 4 :]
        case 3:
            return data[:at] + data[max(0, at - what % 256) :]
        case 4:
            return data[:at]
    return data
