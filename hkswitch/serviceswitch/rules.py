"""The config as root reads it, and the programs in it: trusted anew for every request. Runs as root."""

from collections.abc import Callable

from hkswitch.model.config import Config, parse
from hkswitch.serviceswitch import trusted_files


class Rules:
    """What root allows right now: a change of the file counts from the next request on."""

    def __init__(
        self, file: str, read: Callable[[str], bytes], examine: Callable[[str], None] = trusted_files.program
    ) -> None:
        """`read` returns the contents of `file` or refuses to, `examine` refuses programs."""
        self._file = file
        self.examine = examine
        self._read = read
        self._contents: bytes | None = None
        self._config: Config | None = None

    def now(self) -> Config:
        """The config as it is now; raises `Untrusted`, `NotThere` or `ConfigError`."""
        contents = self._read(self._file)
        if self._config is None or contents != self._contents:
            self._config, self._contents = parse(contents, self._file), contents
        return self._config
