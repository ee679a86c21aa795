"""The names of HAP-python, zeroconf and h11 that hkswitch uses, and their definitions there.

Both are read from source code, so that no use can be forgotten. A name is used if

* a class of ours that derives from one of theirs defines, reads, or sets it;
* it is imported, or is an attribute of what is imported;
* it is an attribute of something else, in a module of ours that imports one of them, and classes that such a
  module meets have one of this name: there the types are not known, so all of these count.
"""

import ast
import hashlib
import importlib
import inspect
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
OURS: Final = ROOT / "hkswitch"
LIBRARIES: Final = ("h11", "pyhap", "zeroconf")
TABLE: Final = Path(__file__).with_name("foreign.txt")

RELIED_ON: Final = (
    "pyhap.accessory.Accessory.publish",
    "pyhap.accessory_driver.AccessoryDriver.finish_pair",
    "pyhap.hap_handler.HAPServerHandler._pairing_five",
    "pyhap.hap_handler.HAPServerHandler._pairing_four",
    "pyhap.hap_handler.HAPServerHandler._pairing_one",
    "pyhap.hap_handler.HAPServerHandler._pairing_three",
    "pyhap.hap_handler.HAPServerHandler._pairing_two",
    "pyhap.hap_handler.HAPServerHandler.handle_pair_verify",
    "pyhap.hap_protocol.HAPServerProtocol._handle_response_ready",
    "pyhap.hap_protocol.HAPServerProtocol._send_events",
    "pyhap.iid_manager.IIDManager.assign",
    "pyhap.state.State.add_paired_client",
)
"""Uses without a name: their code calls ours there, or ours replaces it."""

Definitions = dict[str, dict[str, list[ast.stmt]]]
"""Of each class and module, by its dotted name: its own names, and the statements that define each."""


class Use(NamedTuple):
    """A name of theirs, like `pyhap.hap_crypto.HAPCrypto.MIN_BLOCK_LENGTH`."""

    owner: str
    name: str

    def __str__(self) -> str:
        return f"{self.owner}.{self.name}"


# Theirs


@cache
def _trees() -> dict[str, tuple[ast.Module, bool]]:
    """Return every module, and whether it is a package; compiled modules have their source beside them."""
    found = {}
    for library in LIBRARIES:
        spec = find_spec(library)
        assert spec is not None and spec.submodule_search_locations  # noqa: PT018 -- for mypy
        folder = Path(spec.submodule_search_locations[0])
        for file in sorted(folder.rglob("*.py")):
            dotted = ".".join(file.relative_to(folder.parent).with_suffix("").parts)
            name = dotted.removesuffix(".__init__")
            found[name] = parsed(file.read_text()), name != dotted
    return found


def parsed(text: str) -> ast.Module:
    """The tree of a text. Each statement has its own text: what it unparses to is up to the Python."""
    tree, lines = ast.parse(text), text.splitlines(keepends=True)
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
            last = node.body[0].lineno - 1 if isinstance(node, ast.ClassDef) else node.end_lineno
            node.text = "".join(lines[first - 1 : max(first, last or first)])  # type: ignore[attr-defined] # ours
    return tree


@cache
def definitions() -> Definitions:
    """Return all names that the libraries define."""
    found: Definitions = {}
    for module, (tree, _) in _trees().items():
        found[module] = _own_names(tree.body)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                own = _own_names(node.body), _of_instances(node)
                names = dict.fromkeys(name for each in own for name in each)
                found[f"{module}.{node.name}"] = {
                    name: [statement for each in own for statement in each.get(name, [])] for name in names
                }
    return found


def _own_names(body: Iterable[ast.stmt]) -> dict[str, list[ast.stmt]]:
    """Return the names that the statements of a class or a module define."""
    found: dict[str, list[ast.stmt]] = defaultdict(list)
    for statement in body:
        match statement:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found[name].append(statement)
            case ast.Assign() | ast.AnnAssign():
                for target in _targets(statement):
                    if isinstance(target, ast.Name):
                        found[target.id].append(statement)
            case ast.If() | ast.Try():
                for name, statements in _own_names(_inside(statement)).items():
                    found[name] += statements
    return dict(found)


def _inside(statement: ast.If | ast.Try) -> list[ast.stmt]:
    return [node for node in ast.walk(statement) if isinstance(node, ast.stmt) and node is not statement]


def _of_instances(owner: ast.ClassDef) -> dict[str, list[ast.stmt]]:
    """Return the attributes that a class sets on its instances."""
    found: dict[str, list[ast.stmt]] = defaultdict(list)
    for node in ast.walk(owner):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            for target in _targets(node):
                if _is_of_self(target):
                    found[target.attr].append(node)  # type: ignore[attr-defined] # it is an attribute
    return dict(found)


def _targets(node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> Iterator[ast.expr]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    for target in targets:
        yield from target.elts if isinstance(target, ast.Tuple) else [target]


def _is_of_self(node: ast.AST) -> bool:
    match node:
        case ast.Attribute(value=ast.Name(id="self")):
            return True
        case ast.Attribute(value=ast.Call(func=ast.Name(id="super"))):
            return True
    return False


# Ours


@cache
def modules() -> list[Path]:
    """Return our modules that import one of the libraries."""
    texts = {file: file.read_text() for file in sorted(OURS.rglob("*.py"))}
    named = (file for file, text in texts.items() if any(library in text for library in LIBRARIES))
    return [file for file in named if any(_imported(ast.parse(texts[file])))]


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the names under which a module imports something of theirs, and its dotted name."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if module.split(".")[0] in LIBRARIES:
                yield from ((alias.asname or alias.name, f"{module}.{alias.name}") for alias in names)
            case ast.Import(names=names):
                for alias in names:
                    if alias.name.split(".")[0] in LIBRARIES:
                        yield alias.asname or alias.name, alias.name


def classes(file: Path) -> list[type[Any]]:
    """Return the classes of a module that derive from theirs."""
    module = importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
    found = [each for _, each in inspect.getmembers(module, inspect.isclass)]
    return [each for each in found if each.__module__ == module.__name__ and theirs(each)]


def theirs(ours: type[Any]) -> list[str]:
    """Return their classes that one of ours derives from, nearest first."""
    names = (f"{base.__module__}.{base.__qualname__}" for base in ours.__mro__)
    return [name for name in names if name.split(".")[0] in LIBRARIES]


def uses() -> set[Use]:
    """Return all uses."""
    found = {use for file in modules() for use in _uses_in(file)}
    found |= {Use(*dotted.rsplit(".", 1)) for dotted in RELIED_ON}
    waiting = [*found]
    while waiting:
        new = set(_behind(waiting.pop())) - found
        found |= new
        waiting += new
    return found


def _behind(use: Use) -> Iterator[Use]:
    """Yield the constants that a constant is made of."""
    owner = use.owner
    module = owner if owner in _trees() else owner.rpartition(".")[0]
    for statement in definitions()[owner][use.name]:
        if not isinstance(statement, ast.Assign | ast.AnnAssign):
            continue
        if any(map(_is_of_self, _targets(statement))):
            continue
        for node in ast.walk(statement):
            places: tuple[tuple[str, str], ...] = ()
            match node:
                case ast.Name(id=name):
                    places = ((owner, name), (module, name))
                case ast.Attribute(value=ast.Name(id=holder), attr=name):
                    places = ((f"{module}.{holder}", name),)
            yield from (Use(*each) for each in places if each[1] in definitions().get(each[0], {}))


def _uses_in(file: Path) -> Iterator[Use]:
    tree = ast.parse(file.read_text())
    imported = dict(_imported(tree))
    yield from filter(None, (_resolved(dotted) for dotted in imported.values()))
    nodes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    for ours in classes(file):
        yield from _of_class(nodes[ours.__name__], theirs(ours))
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in imported:
                yield from filter(None, [_resolved(f"{imported[name]}.{attribute}")])
            case ast.Attribute(attr=attribute) if not _is_of_self(node):
                yield from _by_name(attribute)


def _of_class(node: ast.ClassDef, bases: list[str]) -> Iterator[Use]:
    """Yield the names of its bases that a class of ours defines, reads or sets."""
    reads = {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute) and _is_of_self(each)}
    for name in reads | _own_names(node.body).keys() | _of_instances(node).keys():
        yield from (Use(base, name) for base in bases if name in definitions().get(base, {}))


def _resolved(dotted: str) -> Use | None:
    """Return the definition of a dotted name of theirs; it may come through a package or from a base."""
    owner, _, name = dotted.rpartition(".")
    if owner in definitions() and name in definitions()[owner]:
        return Use(owner, name)
    if owner.split(".")[0] not in LIBRARIES:
        return None
    try:
        place, _, attribute = owner.rpartition(".")
        holder = sys.modules.get(owner) or getattr(importlib.import_module(place), attribute)
    except (ImportError, AttributeError, ValueError):
        return None
    if inspect.isclass(holder):
        return next((Use(base, name) for base in theirs(holder) if name in definitions().get(base, {})), None)
    found = getattr(holder, name, None)
    at = getattr(found, "__module__", None)
    return Use(at, name) if at in definitions() and name in definitions()[at] else None


@cache
def _met() -> tuple[str, ...]:
    """Return the classes whose instances our modules may hold: those of all modules that their imports load.

    Not those that the interpreter has loaded: another test may have imported them.
    """
    waiting = [dotted for file in modules() for _, dotted in _imported(ast.parse(file.read_text()))]
    found: set[str] = set()
    while waiting:
        dotted = waiting.pop()
        module = dotted if dotted in _trees() else dotted.rpartition(".")[0]
        if module in _trees() and module not in found:
            found.add(module)
            waiting += _imports_of(module)
    is_class = definitions().keys() - _trees().keys()
    return tuple(sorted(name for name in is_class if name.rpartition(".")[0] in found))


def _imports_of(module: str) -> Iterator[str]:
    """Yield the dotted names that a module of theirs imports from theirs."""
    tree, is_package = _trees()[module]
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=name, names=names, level=level):
                kept = module.split(".")[: len(module.split(".")) - level + is_package] if level else []
                place = ".".join([*kept, *([name] if name else [])])
                yield from (f"{place}.{alias.name}" for alias in names)
            case ast.Import(names=names):
                yield from (alias.name for alias in names)


@cache
def _by_name(attribute: str) -> tuple[Use, ...]:
    return tuple(Use(owner, attribute) for owner in _met() if attribute in definitions()[owner])


# Both


def contract() -> dict[str, str]:
    """Return a digest of the definition of each used name."""
    return {str(use): digest(definitions()[use.owner][use.name]) for use in sorted(uses())}


def digest(statements: Iterable[ast.stmt]) -> str:
    """Return a digest of statements; for a class only its head, since its used members have their own."""
    texts = (each.text.strip() for each in statements)  # type: ignore[attr-defined] # see `parsed`
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


def written() -> dict[str, str]:
    """Return the contract that was last reviewed."""
    return dict(line.split() for line in TABLE.read_text().splitlines())


if __name__ == "__main__":
    TABLE.write_text("".join(f"{name} {value}\n" for name, value in contract().items()))
