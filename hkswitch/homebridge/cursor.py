"""A position in the tokens of a script. Pure: no I/O."""

from collections.abc import Sequence

from hkswitch.homebridge.tokens import Literal, Operator, ShellWord, Token, Unreadable


class Cursor:
    """A reader of tokens, from the first to the last."""

    def __init__(self, found: Sequence[Token]) -> None:
        self._tokens = found
        self._at = 0

    def next(self) -> Token | None:
        """Return the next token; None at the end."""
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def at(self, *operators: str) -> bool:
        """Whether one of these operators is next."""
        token = self.next()
        return isinstance(token, Operator) and token.text in operators

    def word_ahead(self) -> str:
        """Return the next word, if it could be a keyword."""
        token = self.next()
        return token.plain if isinstance(token, ShellWord) else ""

    def pass_over(self) -> None:
        """Advance by one token."""
        self._at += 1

    def skip(self, *operators: str) -> bool:
        """Pass over all of these operators; returns whether any token follows."""
        while self.at(*operators):
            self.pass_over()
        return self.next() is not None

    def keyword(self, word: str) -> bool:
        """Pass over this keyword if it is next; returns whether it was."""
        found = self.word_ahead() == word
        self._at += found
        return found

    def expect(self, word: str) -> None:
        """Pass over this keyword, which must be next."""
        if not self.keyword(word):
            raise Unreadable(f"{self.quoted()} where '{word}' was expected")

    def word(self) -> ShellWord:
        """Pass over a word, which must be next."""
        token = self.next()
        if not isinstance(token, ShellWord):
            raise Unreadable(f"{self.quoted()} where a word was expected")
        self.pass_over()
        return token

    def operator(self) -> str:
        """Pass over the next token; returns its text if it is an operator."""
        token = self.next()
        self.pass_over()
        return token.text if isinstance(token, Operator) else ""

    def quoted(self) -> str:
        """Return the next token, quoted for a message."""
        match self.next():
            case None:
                return "the end"
            case Operator(text):
                return repr(text)
            case ShellWord(parts=parts):
                return repr("".join(part.text for part in parts if isinstance(part, Literal)))
