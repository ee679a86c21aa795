"""The config file of a world, and the reasons why root does not trust it."""

from dataclasses import dataclass
from functools import lru_cache

from hkswitch.model.config import Config, parse
from hkswitch.model.errors import Failure
from hkswitch.serviceswitch.trusted_files import Untrusted

PATH = "/etc/hkswitch/config.yaml"


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Config:
    return parse(text.encode(), PATH)


def parsed_by_root(contents: bytes, path: str) -> Config:
    """As root parses it: the same text makes the same config, and need not be parsed again and again."""
    assert path == PATH
    return _parsed(contents.decode())


@dataclass
class ConfigFile:
    """What is on the disk."""

    text: str
    edits: int = 0
    """How often it was written."""
    repairs: int = 0
    """How often what was wrong with it was put right."""
    is_untrusted: bool = False
    is_unreadable: bool = False
    """Whether the disk returns errors to every reader."""

    def read_by_root(self, path: str) -> bytes:
        """As root reads it; raises `Untrusted`."""
        if self.is_untrusted:
            raise Untrusted(path, "others can write it")
        if self.is_unreadable:
            raise Untrusted(path, "Input/output error")
        return self.text.encode()

    def read_by_daemon(self) -> Config:
        """As the daemon reads it; raises `Failure`."""
        if self.is_unreadable:
            raise Failure(f"{PATH}: Input/output error")
        return self.parsed

    @property
    def parsed(self) -> Config:
        """What it says; raises `ConfigError`."""
        return _parsed(self.text)

    @property
    def is_good(self) -> bool:
        """Whether daemon and root both take it."""
        try:
            self.read_by_root(PATH)
            self.read_by_daemon()
        except Failure:
            return False
        return True
