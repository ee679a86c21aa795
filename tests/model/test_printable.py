"""Foreign text on a terminal, in a log and in a file."""

import pytest

from hkswitch.model.printable import escaped, is_printable, one_line, printable, printable_lines


@pytest.mark.parametrize(
    ("text", "shown", "seen"),
    [
        ("", "", ""),
        ("Web é 家 'x' \\", "Web é 家 'x' \\", "Web é 家 'x' \\"),
        ("\x1b[2J", "?[2J", r"\x1b[2J"),
        ("\x9b2J", "?2J", r"\x9b2J"),
        ("a\nb\rc\td", "a?b?c?d", r"a\nb\rc\td"),
        ("a\0b\x7f", "a?b?", r"a\x00b\x7f"),
        ("a\u202eb\u2066c\u200bd", "a?b?c?d", r"a\u202eb\u2066c\u200bd"),
        ("م\u200cم ශ්\u200dරී 👩\u200d🚀", "م\u200cم ශ්\u200dරී 👩\u200d🚀", "م\u200cم ශ්\u200dරී 👩\u200d🚀"),
        ("a\u200d\u200eb", "a\u200d?b", "a\u200d\\u200eb"),
        ("\ud800", "?", r"\ud800"),
        ("\u2028\x85", "??", r"\u2028\x85"),
        ("\U000e0001", "?", r"\U000e0001"),
    ],
)
def test_what_a_terminal_obeys_is_not_there_or_an_escape(text: str, shown: str, seen: str) -> None:
    assert printable(text) == shown
    assert escaped(text) == seen
    assert is_printable(printable(text) + escaped(text))
    assert is_printable(text) == (printable(text) == text)
    (printable(text) + escaped(text)).encode()


@pytest.mark.parametrize(
    ("text", "shown", "seen"),
    [("a" * 10, "a" * 10, "a" * 10), ("a" * 11, "a" * 10, "aaaaaaa..."), ("\n" * 6, "?" * 6, r"\n\n\n\...")],
)
def test_text_has_an_end(text: str, shown: str, seen: str) -> None:
    assert printable(text, 10) == shown
    assert escaped(text, 10) == seen


def test_of_several_lines_each_is_printable() -> None:
    assert printable_lines("a\x1b\nb\r\n" + "c" * 3000) == "a?\nb?\n" + "c" * 2000


def test_several_lines_become_one() -> None:
    assert one_line("a\nb\r\nc") == "a; b; c"
