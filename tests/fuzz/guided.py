"""Coverage-guided fuzzing: atheris keeps input that reaches new code in a parser, and mutates it further.

`python -m tests.fuzz.guided RULE [OPTION OF LIBFUZZER]... FOLDER` begins with what is in FOLDER, adds to it,
and ends where the rule is broken, with what broke it in a file.
"""

import random
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["hkswitch.model", "hkswitch.protocol"]):
    from tests.fuzz.changes import NUMBERS, change_bytes, change_json, change_yaml, words_of
    from tests.fuzz.rules import CONFIGS, LINES, RULES


def broken(data: bytes) -> bool:
    """Breaks all rules, for one in four thousand million inputs."""
    for index, byte in enumerate(b"FUZZ"):
        if data[index : index + 1] != bytes([byte]):
            return False
    raise KeyError(data)


def main(rule: str, options: list[str]) -> None:
    """Fuzz until libFuzzer's options say that it is enough."""
    words = words_of(path.read_bytes() for path in Path(options[-1]).iterdir())
    change = change_json if rule in LINES else change_yaml if rule in CONFIGS else change_bytes

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if chance.randrange(4):
            return change(data, chance.randbytes(NUMBERS), words)[:most]
        return bytes(atheris.Mutate(data, most))

    rules = {**RULES, "broken": atheris.instrument_func(broken)}
    atheris.Setup([sys.argv[0], *options], rules[rule], custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
