"""Whatever is in Homebridge's folder, it is taken over whole or refused with one sentence."""

import random
from pathlib import Path
from typing import Final

from hkswitch.cli.take_over import stored_of
from hkswitch.hap.keys import is_key_pair
from hkswitch.hap.state_format import encode, parse
from hkswitch.homebridge.damage import Damaged
from hkswitch.homebridge.take_over import TakeOver, take_over
from hkswitch.model.errors import Failure
from hkswitch.model.printable import is_printable
from tests.fuzz.changes import NUMBERS, change_bytes, change_json, words_of
from tests.homebridge.test_take_over import CACHED, CFG, IDENTITY, IDS, ORIGINS, Files, files, taken

INPUTS, MANY_INPUTS = 400, 100_000

WHOLE: Final = files()
CHANGED: Final = (IDENTITY, IDS, CACHED, CFG)
WORDS: Final = words_of(WHOLE.values())
STATE: Final = Path("bridge.json")


def outcome(of: Files) -> TakeOver | Failure:
    try:
        return take_over(of["config.json"], "config.json", ORIGINS, of.get)
    except Failure as failure:
        return failure


def check(of: Files) -> bool:
    """Check the outcome, and return whether the bridge was taken over."""
    found = outcome(of)
    if isinstance(found, Failure):
        assert "\n" not in str(found)
        assert is_printable(str(found))
        return False
    stored = stored_of(found)
    again = parse(STATE, encode(stored))
    assert (again.iids, again.taken_over, again.accessory) == (
        stored.iids,
        stored.taken_over,
        stored.accessory,
    )
    assert again.paired
    assert all(len(set(iids.values())) == len(iids) for iids in found.iids.values())
    assert {each.aid for each in found.switches} <= found.iids.keys()
    assert max(found.iids) < found.first_free_aid
    return True


def test_whatever_is_in_a_file_it_is_taken_over_whole_or_refused(long: bool) -> None:
    chance = random.Random(0)
    successes = 0
    for _ in range(MANY_INPUTS if long else INPUTS):
        file = chance.choice(CHANGED)
        change = chance.choice([change_json, change_json, change_bytes])
        numbers = chance.randbytes(chance.choice([5, 5, 10, NUMBERS]))
        successes += check(WHOLE | {file: change(WHOLE[file], numbers, WORDS)})
    assert successes > 0


def test_a_file_that_was_cut_off_anywhere_is_refused(long: bool) -> None:
    step = 1 if long else 97
    for file in (IDENTITY, IDS):
        for end in range(0, len(WHOLE[file]) - 1, step):
            assert isinstance(outcome(WHOLE | {file: WHOLE[file][:end]}), Damaged)


def test_a_key_with_another_digit_is_noticed() -> None:
    identity = taken(WHOLE).identity
    private = identity.private_key
    other = f"{(int(private[0], 16) + 1) % 16:x}{private[1:]}"
    assert is_key_pair(private, identity.public_key)
    assert not is_key_pair(other, identity.public_key)
    assert not is_key_pair(private[2:], identity.public_key)
