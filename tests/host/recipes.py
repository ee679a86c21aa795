"""Parses docs/recipes.md: the files that a reader of each recipe writes, with their contents."""

import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import yaml

from tests.host.machine import Host
from tests.host.rootfs import CHECKOUT

CONFIG: Final = "/etc/hkswitch/config.yaml"

_PAGE: Final = CHECKOUT / "docs" / "recipes.md"
_RECIPE: Final = re.compile(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK: Final = re.compile(r"^```(?!console)\w+$", re.MULTILINE)
_COMMAND: Final = re.compile(r"^\$ (?:sudo )?(.+)$", re.MULTILINE)
_INLINE: Final = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_FILE: Final = re.compile(r"^`(/[^`\n]+)`:\n\n```(?!console)\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe: its title, its text, and the files in its code blocks by path, with the configuration."""

    title: str
    files: Mapping[str, str]
    body: str

    @property
    def group(self) -> str:
        """The id of its group."""
        [group_id] = yaml.safe_load(self.files[CONFIG])["groups"]
        return str(group_id)

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command in its console blocks, without sudo."""
        return [shlex.split(command) for command in _COMMAND.findall(self.body)]

    def quoted(self, start: str) -> str:
        """Return the only code in its sentences that starts like this."""
        [code] = {code for code in _INLINE.findall(self.body) if code.startswith(start)}
        return str(code)

    def replacing(self, text: str, other: str) -> "Recipe":
        """Return a copy with every occurrence of `text` replaced."""
        changed = {path: written.replace(text, other) for path, written in self.files.items()}
        assert changed != self.files, f"{self.title} does not have {text}"
        return replace(self, files=changed)


def recipes() -> dict[str, Recipe]:
    """Return all recipes of the page, by title."""
    found = _RECIPE.findall(_PAGE.read_text())
    return {title: Recipe(title, _files(body), body) for title, body in found}


def _files(body: str) -> dict[str, str]:
    files = dict(_FILE.findall(body))
    assert len(_BLOCK.findall(body)) == len(files), f"one file a block, and its path before it:\n{body}"
    return files


def write(recipe: Recipe, host: Host) -> None:
    """Write a recipe's files, like a reader who follows it."""
    for path, text in recipe.files.items():
        host.write(path, text, 0o755 if text.startswith("#!") else 0o644)
    host.run("systemctl", "daemon-reload")


@contextmanager
def applied(recipe: Recipe, host: Host) -> Iterator[None]:
    """Write a recipe's files; remove them in the end, and restore the configuration."""
    before = host.read(CONFIG)
    try:
        write(recipe, host)
        yield
    finally:
        host.run("rm", *recipe.files)
        host.write(CONFIG, before)
        host.run("systemctl", "daemon-reload")
