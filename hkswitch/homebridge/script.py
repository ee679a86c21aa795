"""The syntax tree of a shell script. Only values: `bash.py` builds them. Pure: no I/O."""

from dataclasses import dataclass

from hkswitch.homebridge.tokens import ShellWord


@dataclass(frozen=True, slots=True)
class Assignment:
    """`name=value`."""

    name: str
    value: ShellWord


@dataclass(frozen=True, slots=True)
class Redirection:
    """A redirection of input or output: an operator like `2>`, and its target."""

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
    """An unsupported construct. `what` names it in a few words."""

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
    """Conditions and their blocks, of which the first whose condition holds runs; an `else` has None."""

    branches: tuple[tuple[Block | None, Block], ...]


@dataclass(frozen=True, slots=True)
class Case:
    """Patterns and their blocks, of which the first with a pattern that matches the subject runs."""

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
