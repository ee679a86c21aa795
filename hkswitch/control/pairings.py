"""What can be asked about pairings: of the daemon, or of a state folder that no daemon has."""

from typing import Protocol

from hkswitch.model.errors import Failure
from hkswitch.protocol.control import Answer, Ask, Controllers, Failed, Question, SetupIs, Word
from hkswitch.protocol.report import PairedController


class Pairings(Protocol):
    """The pairings of a bridge: of one that serves, or of one on disk. Every method raises `Failure`."""

    def setup_is(self) -> SetupIs:
        """What is needed to pair."""

    def controllers(self) -> tuple[PairedController, ...]:
        """Who is paired."""

    def unpair(self, controller_id: str | None) -> None:
        """Remove a controller, or all (None)."""

    def reset_attempts(self) -> None:
        """Forget the failed attempts to pair."""


def do(question: Question, pairings: Pairings) -> Answer:
    """Do what is asked about pairings; raises `Failure`."""
    match question.ask:
        case Ask.CONTROLLERS:
            return Controllers(pairings.controllers())
        case Ask.SETUP:
            return pairings.setup_is()
        case Ask.UNPAIR:
            pairings.unpair(question.controller)
        case Ask.RESET_ATTEMPTS:
            pairings.reset_attempts()
        case Ask.STATUS | Ask.WATCH | Ask.ACT | Ask.RELOAD:
            raise AssertionError(question)  # these need a daemon
    return Word.DONE


def answer(question: Question, pairings: Pairings) -> Answer:
    """Do what is asked, and what to say about it."""
    try:
        return do(question, pairings)
    except Failure as failure:
        return Failed(failure.exit_code, str(failure))
