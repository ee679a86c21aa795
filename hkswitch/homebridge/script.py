"""A shell script as a tree of its commands. Values alone: `bash.py` makes them. Pure: no I/O."""

from dataclasses import dataclass

from hkswitch.homebridge.tokens import ShellWord


@dataclass(frozen=True, slots=True)
class Assignment:
    """`name=value`."""

    name: str
    value: ShellWord


@dataclass(frozen=True, slots=True)
class Redirection:
    """Where input or output goes, like `2>` and its target."""

    operator: str
    target: ShellWord


@dataclass(frozen=True, slots=True)
class Simple:
    """A program, a function or a builtin with its arguments, or assignments alone."""

    assignments: tuple[Assignment, ...]
    words: tuple[ShellWord, ...]
    redirections: tuple[Redirection, ...] = ()


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something whose meaning is not known here. Says what, in a few words."""

    what: str


@dataclass(frozen=True, slots=True)
class Not:
    """`! command`."""

    command: "Node"


@dataclass(frozen=True, slots=True)
class AndOrList:
    """Commands with && and || between them."""

    first: "Node"
    others: tuple[tuple[str, "Node"], ...]


@dataclass(frozen=True, slots=True)
class Block:
    """Commands, one after the other."""

    commands: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class If:
    """Conditions and what is done for the first that holds; an `else` has None."""

    branches: tuple[tuple[Block | None, Block], ...]


@dataclass(frozen=True, slots=True)
class Case:
    """Patterns and what is done for the first one that the subject is like."""

    subject: ShellWord
    arms: tuple[tuple[tuple[ShellWord, ...], Block], ...]


@dataclass(frozen=True, slots=True)
class For:
    """A loop over words; over the arguments if there are none."""

    name: str
    words: tuple[ShellWord, ...] | None
    body: Block


@dataclass(frozen=True, slots=True)
class Function:
    """The definition of a function."""

    name: str
    body: "Node"


Node = Simple | Unknown | Not | AndOrList | Block | If | Case | For | Function
